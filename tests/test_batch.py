"""Many models at once: what is done, what is kept, what fails alone, and what is told of it."""

import contextlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from snnc.actions import batch
from snnc.actions.batch import Outcome, do, severity
from snnc.actions.jobs import Command, Job, each, read_jobs
from snnc.cli import main
from snnc.errors import DataError, SnncError, UsageError
from snnc.project import read
from tests.frontend_files import array, one, save

# Each command that was run, and in which folder.
Calls = list[tuple[str, str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Run commands in this process, one after the other, and say which."""
    called: Calls = []

    def run(worker: object, command: Command, job: Job) -> tuple[int, str]:
        called.append((job.name, command.name))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(job.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([command.name, *command.arguments])
        job.log.write_text(job.log.read_text() + out.getvalue() + err.getvalue())
        return code, err.getvalue().removeprefix("error: ").strip()

    monkeypatch.setattr("snnc.actions.batch._Worker._run", run)
    monkeypatch.setattr("snnc.actions.batch.processes", lambda jobs: 1)
    return called


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, another file and 60 samples."""
    monkeypatch.chdir(tmp_path)
    nodes = [one("MatMul", ["x", "w"], ["m"]), one("Relu", ["m"], ["r"]), one("MatMul", ["r", "v"])]
    save(tmp_path / "good.onnx", nodes, (6,), {"w": array(6, 8), "v": array(8, 3)})
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    x = array(60, 6)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 3)
    return tmp_path


def written(folder: Path, *jobs: dict[str, Any], **defaults: Any) -> Path:
    path = folder / "jobs.yaml"
    base = {"recipe": "quick", "timesteps": 4, "data": "data.npz"}
    path.write_text(yaml.safe_dump({"defaults": {**base, **defaults}, "jobs": [*jobs]}))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_what_fails_stops_no_other_and_is_told(folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    never = {"min-agreement": 100, "max-spikes": 0.001}
    path = written(
        folder, {"model": "bad.onnx"}, {"model": "good.onnx"}, {"model": "good.onnx", "name": "g", "gates": never}
    )
    code, told, err = run(capsys, "batch", str(path), "--junit", "jobs.xml")
    assert code == 3
    whole = [(name, command) for name in ("good", "g") for command in ("convert", "evaluate")]
    assert calls == [("bad", "convert"), *whole]
    assert [(job["name"], job["code"], job["verdict"], job["kept"]) for job in told["jobs"]] == [
        ("bad", 3, "error 3", False),
        ("good", 0, "ok", False),
        ("g", 4, "gate failed", False),
    ]
    assert told["jobs"][1]["figures"]["accuracy"] >= 0 and told["jobs"][1]["timesteps"] == 4
    # Where jobs take long, their progress stands above.
    first, *lines, hint = err[err.index("error: ") :].splitlines()
    assert first == "error: 2 of 3 jobs failed" and hint == "hint:  all that it printed is in out/bad/log.txt"
    assert lines[0].startswith("    bad: ") and lines[1].startswith("    g: gate failed: ")
    cases = ElementTree.parse("jobs.xml").getroot()
    suites = {suite.get("name"): suite for suite in cases}
    assert [case.find("failure") is not None for case in suites["jobs"]] == [True, False, True]
    assert {suites["g gates"].get("failures"), suites["jobs"].get("failures")} >= {"2"}
    # Each folder is that of a project of its own.
    settings = read(folder / "out/good")
    assert settings.model == folder / "good.onnx" and settings.calibration.data == folder / "data.npz"
    assert "written: good.snn, good.report.json" in (folder / "out/good/log.txt").read_text()
    # Two thirds calibrate, one third judges.
    report = json.loads((folder / "out/good/good.report.json").read_text())
    assert (report["provenance"]["calibration"]["images"], report["evaluation"]["samples"]) == (40, 20)


def test_what_is_complete_and_unchanged_is_kept(
    folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*flags: str, **changes: Any) -> tuple[list[str], list[bool]]:
        calls.clear()
        code, told, _ = run(capsys, "batch", str(written(folder, {"model": "good.onnx"}, **changes)), *flags)
        assert code == (4 if "gates" in changes else 0)
        return [command for _, command in calls], [job["kept"] for job in told["jobs"]]

    everything, nothing = (["convert", "evaluate"], [False]), ([], [True])
    assert again() == everything
    made = folder / "out/good/good.snn"
    contents = {path: path.read_bytes() for path in (made, made.with_suffix(".report.json"))}

    def write(worker: object, command: Command, job: Job) -> tuple[int, str]:
        calls.append((job.name, command.name))
        for path, content in contents.items():
            path.write_bytes(content)
        return (4 if command.name == "evaluate" and "gates" in (job.settings or {}) else 0), ""

    monkeypatch.setattr("snnc.actions.batch._Worker._run", write)
    assert again() == nothing
    assert again("--fresh") == everything
    # Gates matter to the evaluation alone; what failed is complete, too.
    assert again(gates={"max-spikes": 0.001}) == (["evaluate"], [False])
    assert again(gates={"max-spikes": 0.001}) == nothing
    assert again(timesteps=2) == everything
    assert again() == everything
    made.unlink()
    assert again() == everything
    made.with_suffix(".report.json").unlink()
    assert again() == (["evaluate"], [False])
    (folder / "out/good/batch.json").write_text("[")
    assert again() == everything
    for other in ("good.onnx", "good.onnx.data", "data.npz"):
        with (folder / other).open("ab") as file:
            file.write(b"more")
        assert again() == everything, other
    assert again() == nothing


def test_several_models_are_converted_into_a_folder(
    folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (
        "--recipe",
        "quick",
        "--timesteps",
        "3",
        "--set",
        "passes.calibrate-thresholds.kind=max",
        "--data",
        "data.npz",
    )
    code, told, _ = run(capsys, "convert", "bad.onnx", "good.onnx", "-o", "made", *flags, "--junit", "all.xml")
    assert code == 3
    assert [(job["name"], job["code"], job["timesteps"]) for job in told["jobs"]] == [("bad", 3, None), ("good", 0, 3)]
    assert {path.name for path in (folder / "made").iterdir()} >= {"good.snn", "good.report.json", "good.log"}
    recipe = json.loads((folder / "made/good.report.json").read_text())["provenance"]["recipe"]
    assert "'kind': 'max'" in str(recipe["passes"])
    # One of them, as a wildcard of the shell may give it, goes where the others would.
    assert run(capsys, "convert", "good.onnx", "-o", "made")[0] == 0
    for arguments, message in (
        (("good.onnx", "bad.onnx", "--html", "a.html"), "--html is of one model, not of 2 @ snnc convert"),
        (("good.onnx", "bad.onnx", "--dry-run"), "--dry-run is of one model, not of 2 @ snnc convert"),
        (("good.onnx", "bad.onnx", "-o", "a.snn"), "one file for 2 models @ a.snn"),
        (("good.onnx", "good.onnx"), "two jobs are called 'good' @ snnc convert"),
        (("good.onnx", "made/good.snn"), "already a spiking network @ made/good.snn"),
        (("good.onnx", "bad.onnx", "--jobs", "0"), "invalid value 0 @ --jobs"),
    ):
        code, told, err = run(capsys, "convert", *arguments)
        assert (code, told) == (2, None) and err.startswith(f"error: {message}\nhint:  "), err


def test_a_job_is_a_process_of_its_own(folder: Path) -> None:
    # What is refused before anything is read, and torch with it.
    (job,) = each([folder / "good.onnx"], folder / "made", ["--timesteps", "many"])
    (outcome,) = do([job], 1).outcomes
    assert (outcome.code, outcome.verdict) == (2, "error 2")
    assert outcome.error.startswith("invalid value for '--timesteps': should be a valid integer @")
    assert job.log.read_text().startswith(f"error: {outcome.error.split(' hint: ')[0]}")


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Job]]:
    """Jobs of which one fails at once, and the others take minutes."""
    program = "import sys, time; time.sleep(120 if 'slow' in sys.argv[1] else 0); print('error: x', file=sys.stderr); "
    monkeypatch.setattr(batch, "_PROCESS", program + "sys.exit(5)")
    yield [
        Job(name, Path("a.onnx"), tmp_path, (Command(name, ()),), tmp_path / "no", tmp_path / f"{name}.log")
        for name in ("quick", "slow", "slower", "slowest")
    ]


def test_a_request_to_end_ends_all_and_says_what_is_complete(
    sleepers: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(outcome: Outcome) -> None:
        assert (outcome.job.name, outcome.code, outcome.error) == ("quick", 5, "x")
        raise KeyboardInterrupt

    started = time.monotonic()
    done = do(sleepers, 3, told=stop)
    assert time.monotonic() - started < 60
    assert done.stopped
    assert done.outcomes[0].job.name == "quick"
    assert not any(outcome.complete for outcome in done.outcomes)


def test_a_log_that_cannot_be_written_is_not_pointed_at(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, err = run(capsys, "batch", str(written(folder, {"model": "good.onnx"})), "-o", "data.npz")
    assert (code, told["jobs"][0]["code"]) == (5, 5)
    assert err.endswith("hint:  choose another folder with --output\n")


def test_a_process_that_is_killed_is_told(sleepers: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_PROCESS", "import os; os.kill(os.getpid(), 9)")
    (outcome,) = do(sleepers[:1], 1).outcomes
    assert (outcome.code, outcome.error) == (1, "it ended by signal 9: too little memory, perhaps")


def test_the_worst_exit_code_is_that_of_all() -> None:
    assert sorted((1, 3, 0, 4, 2, 6, 5), key=severity) == [0, 4, 6, 5, 3, 2, 1]
    codes = {kind.exit_code for kind in [SnncError, *SnncError.__subclasses__()]}
    assert all(severity(code) > severity(0) for code in codes)


def test_the_machine_says_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_cores", lambda: 8)
    for memory, jobs, expected in ((64 << 30, 100, 8), (64 << 30, 3, 3), (5 << 30, 100, 2), (1 << 30, 100, 1)):
        monkeypatch.setattr(batch, "memory", lambda memory=memory: memory)
        assert batch.processes(jobs) == expected
    assert batch._Worker(4, False)._environment.keys() >= {"OMP_NUM_THREADS"}
    assert batch._Worker(4, False)._memory == "256M"


# The file of jobs.


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[]", "", "no jobs"),
        ("jobs: []", "", "no jobs"),
        ("jobs: {model: a.onnx}", "", "no jobs"),
        ("{jobs: [{model: a.onnx}], default: {}}", "", "unknown option 'default'"),
        ("jobs: [a.onnx]", ": jobs[0]", "expected a mapping"),
        ("{jobs: [{model: a.onnx}], defaults: []}", ": defaults", "expected a mapping"),
        ("jobs: [{name: a}]", ": jobs[0]", "a job without a model"),
        ("jobs: [{model: a.onnx, recipee: quick}]", ": jobs[0]", "unknown option 'recipee'"),
        ("jobs: [{model: a.onnx}, {model: b.onnx, timesteps: x}]", ": jobs[1].timesteps", "invalid value 'x'"),
        ("{data: x, jobs: [{model: a.onnx}]}", "", "unknown option 'data'"),
        ("jobs: [{model: a.onnx, data: x, gates: {max-dropp: 1}}]", ": jobs[0].gates", "unknown option 'max-dropp'"),
        ("jobs: [{model: a.onnx, gates: {max-drop: 1}}]", ": jobs[0].gates", "gates without data to judge by"),
        ("jobs: [{model: a.onnx}, {model: b/a.onnx}]", "", "two jobs are called 'a'"),
        ("jobs: [{model: a.onnx, name: ../x}]", ": jobs[0].name", "no name of a folder: '../x'"),
        ("jobs: [{model: a.onnx, name: 3}]", ": jobs[0].name", "no name of a folder: 3"),
        ("jobs: [{model: a.onnx, options: {tune: {}}}]", ": jobs[0].options", "no command of a job: 'tune'"),
        (
            "jobs: [{model: a.onnx, options: {convert: {output: x}}}]",
            ": jobs[0].options.convert",
            "a job has no --output",
        ),
        ("jobs: [{model: a.onnx, calibration: 3, data: x}]", ": jobs[0].calibration", "expected a mapping"),
        ("jobs: [{model: a.onnx, options: {convert: {config: x}}}]", ": jobs[0].options.convert", "a job has no --con"),
        ("jobs: [{model: a.onnx, options: {convert: {'': x}}}]", ": jobs[0].options.convert", "no flag: ''"),
        ("jobs: [{model: a.onnx, options: {convert: {a=b: 1}}}]", ": jobs[0].options.convert", "no flag: 'a=b'"),
        ("jobs: [{model: a.onnx, options: {convert: {limit: {}}}}]", ": jobs[0].options.convert.limit", "no value"),
        ("jobs: [{model: a.onnx, options: {convert: {limit: [~]}}}]", ": jobs[0].options.convert.limit", "no value"),
        ("jobs: [{model: a.onnx, options: {convert: {html: true}}}]", ": jobs[0].options.convert.html", "no value"),
        (
            "jobs: [{model: a.onnx, options: {convert: {html: ../b/p}}}]",
            ": jobs[0].options.convert.html",
            "not the name",
        ),
        (
            "jobs: [{model: a.onnx, options: {convert: {html: log.txt}}}]",
            ": jobs[0].options.convert.html",
            "not the na",
        ),
        (
            "{jobs: [{model: a.onnx, input_shape: [1], input-shape: [2]}]}",
            ": jobs[0]",
            "the option 'input-shape' twice",
        ),
        ("{jobs: [{model: a.onnx, timesteps: true}]}", ": jobs[0].timesteps", "invalid value True"),
        ("{jobs: [{model: a.onnx, input-shape: {x: [true]}}]}", ": jobs[0].input-shape", "invalid value"),
    ],
)
def test_wrong_files_of_jobs_are_told_before_anything_is_done(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_jobs(path, tmp_path / "out")
    assert message in caught.value.message and caught.value.hint
    assert caught.value.place.startswith(f"{path}{place}")
    assert not (tmp_path / "out").exists()


def test_a_job_takes_no_folder_that_is_the_users(
    folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine").mkdir()
    (folder / "mine/snnc.yaml").write_text("model: ../good.onnx")
    path = str(written(folder, {"model": "good.onnx", "name": "mine"}))
    code, _, err = run(capsys, "batch", path, "-o", ".")
    assert code == 2 and err.startswith(f"error: mine has files that are no job's @ {path}: jobs[0].name\nhint:  ")
    assert [entry.name for entry in (folder / "mine").iterdir()] == ["snnc.yaml"] and not calls


@pytest.mark.parametrize("name", ["good.onnx", "jobs.yaml", "out/good/snnc.yaml", "out/good/good.report.json"])
def test_no_other_result_takes_the_place_of_a_file_of_a_job(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "out/good").mkdir(parents=True)
    path = written(folder, {"model": "good.onnx"})
    code, _, err = run(capsys, "batch", str(path), "--junit", name)
    assert code == 2 and err.startswith("error: would overwrite ") and f" @ {name}\nhint:  " in err


def test_a_report_that_is_gone_is_made_again(folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "jobs.yaml"
    path.write_text("jobs: [{model: good.onnx, recipe: quick, timesteps: 2}]")
    report = folder / "out/good/good.report.json"
    for spoil in (report.unlink, lambda: report.write_text("{}"), lambda: None):
        assert run(capsys, "batch", str(path))[0] == 0
        spoil()
    assert calls == [("good", "convert")] * 3
    record = folder / "out/good/batch.json"
    record.write_text(json.dumps({"convert": [*json.loads(record.read_text())["convert"][:2], 4.0, {}]}))
    assert run(capsys, "batch", str(path))[0] == 0
    assert calls == [("good", "convert")] * 4


def test_keys_of_several_kinds_are_told_by_the_command(
    folder: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "jobs.yaml").write_text("jobs: [{model: good.onnx, task: {classification: {1: 2, b: 3}}}]")
    code, told, _ = run(capsys, "batch", "jobs.yaml")
    assert code == 2 and told["jobs"][0]["error"].startswith("unknown option '1' @ snnc.yaml: task.classification")


def test_a_missing_file_of_jobs_or_pattern_of_models_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_jobs(tmp_path / "jobs.yaml", tmp_path)
    (tmp_path / "jobs.yaml").write_text("jobs: [{model: '*.onnx'}]")
    with pytest.raises(DataError, match="no file of this name"):
        read_jobs(tmp_path / "jobs.yaml", tmp_path)
    (tmp_path / "jobs.yaml").write_text("jobs: [{model: '***.onnx'}]")
    with pytest.raises(DataError, match="no pattern of files"):
        read_jobs(tmp_path / "jobs.yaml", tmp_path)


def test_what_begins_at_home_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.yaml").touch()
    monkeypatch.setenv("HOME", str(home))
    named = "options: {convert: {preprocessing: ~/mine.yaml}}"
    (tmp_path / "jobs.yaml").write_text(f"jobs: [{{model: ~/a.onnx, recipe: ~/mine.yaml, data: ~/d.npz, {named}}}]")
    (job,) = read_jobs(tmp_path / "jobs.yaml", tmp_path / "out")
    assert (job.model, *job.commands[0].data) == (home / "a.onnx", home / "d.npz")
    assert job.settings is not None and job.settings["recipe"] == str(home / "mine.yaml")
    assert f"--preprocessing={home / 'mine.yaml'}" in job.commands[0].arguments


def test_defaults_hold_for_all_and_options_are_flags(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.onnx").touch()
    for name in ("steps.csv", "decode.onnx", "mine.yaml"):
        (tmp_path / name).touch()
    document = {
        "defaults": {
            "timesteps": 4,
            "gates": {"max-drop": 1},
            "evaluation": {"data": "test"},
            "options": {"convert": {"limit": 9}},
        },
        "jobs": [
            {"model": "[ab].onnx"},
            {
                "model": "c.onnx",
                "gates": {"min-agreement": 90},
                "recipe": "mine.yaml",
                "task": {"detection": {"decoder": "decode.onnx", "layout": "decoded"}},
                "options": {
                    "convert": {"seed": 3, "strict": True, "strip": False, "part": None},
                    "evaluate": {"exit_data": "steps.csv", "timesteps": [1, 2]},
                },
            },
        ],
    }
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump(document))
    a, b, c = read_jobs(tmp_path / "jobs.yaml", tmp_path / "out", ["--plugin", "p.py"])
    assert [job.name for job in (a, b, c)] == ["a", "b", "c"]
    assert a.commands[0].arguments == ("--plugin", "p.py", "--limit=9")
    assert c.commands[0].arguments == ("--plugin", "p.py", "--limit=9", "--seed=3", "--strict")
    assert c.commands[1].arguments == (
        "--plugin",
        "p.py",
        f"--exit-data={tmp_path / 'steps.csv'}",
        "--timesteps=1,2",
    )
    assert c.settings is not None and c.settings["gates"] == {"max-drop": 1, "min-agreement": 90}
    # Paths lead there from the folder of the job, too, and what they lead to matters.
    assert c.settings["task"]["detection"] == {"decoder": str(tmp_path / "decode.onnx"), "layout": "decoded"}
    files = [tmp_path / name for name in ("c.onnx", "mine.yaml", "decode.onnx")]
    assert [*c.commands[0].files] == files and c.settings["recipe"] == str(files[1])
    assert c.settings["evaluation"] == {"data": str(tmp_path / "test")} and c.settings["timesteps"] == 4
