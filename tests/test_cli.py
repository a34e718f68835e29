"""The contract of the command line: what goes to which stream, how errors read, and how it exits."""

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from onnx import TensorProto, helper, load, numpy_helper, save

import snnc
from snnc import cli, recipe
from snnc.artifact import load_conversion
from snnc.cli.options import check_outputs
from snnc.data.event_frames import EventFrames
from snnc.errors import UsageError
from snnc.files import temporary_folder
from snnc.findings import EXPLANATIONS
from snnc.neurons import neurons
from snnc.ops import QuantizedRelu
from snnc.passes import passes
from snnc.project import read as read_project
from snnc.schedule import Schedule
from snnc.tasks import tasks
from snnc.training.trainer import Trainer
from tests import recording_files

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "digits"
PREPROCESSING = ("--mean", "0.31", "--std", "0.38", "--channels", "gray")


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def data(self) -> Any:
        assert self.code in (0, 4)
        return json.loads(self.out)


Run = Callable[..., Result]


pytestmark = pytest.mark.usefixtures("trained_shortly")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine, several spend longer on waiting for each other than on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the working folder."""

    def call(*arguments: str | Path) -> Result:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, calibrated on some of its images for 4 time steps."""
    path = tmp_path_factory.mktemp("converted") / "model.snn"
    data = ["--data", str(DIGITS / "calibration"), "--limit", "64", "--timesteps", "4"]
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "-q", "-o", str(path), *data, *PREPROCESSING]) == 0
    return path


@pytest.fixture
def artifact(folder: Path, converted: Path) -> Path:
    """That file in the working folder."""
    return Path(shutil.copy(converted, folder / "model.snn"))


def project(folder: Path, **changes: Any) -> None:
    """Write the example's project file, changed, for a folder elsewhere."""
    settings = yaml.safe_load((DIGITS / "snnc.yaml").read_text())
    settings["model"] = str(DIGITS / settings["model"])
    for section in ("calibration", "evaluation"):
        settings[section]["data"] = str(DIGITS / settings[section]["data"])
    settings.update(changes)
    (folder / "snnc.yaml").write_text(yaml.safe_dump({k: v for k, v in settings.items() if v is not None}))


def assert_error(result: Result, code: int, *parts: str) -> None:
    """A line and one with a hint on stderr, nothing on stdout."""
    assert result.code == code, result
    assert result.out == ""
    assert result.err.count("\n") == 2, result.err
    assert result.err.startswith("error: ")
    assert result.err.splitlines()[1].removeprefix("hint:  ").strip()
    assert result.err.splitlines()[1].startswith("hint:  ")
    for part in parts:
        assert part in result.err


def unsupported_model(path: Path) -> Path:
    """A model with two operations that cannot become spiking."""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["a"], name="draw[bold]"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="product"),
        helper.make_node("RandomUniformLike", ["b"], ["y"], name="last"),
    ]
    value = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in "xy"}
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    graph = helper.make_graph(nodes, "g", [value["x"]], [value["y"]], [weight])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


# The three commands.


def test_three_commands_in_an_empty_folder(run: Run, folder: Path):
    first = run("convert", DIGITS / "model.onnx", *PREPROCESSING)
    assert first.code == 0, first.err
    assert first.err == ""
    assert "4 spiking layers, 2,112 neurons, T=8, 40 steps from image to answer, uncalibrated" in first.out
    assert "snnc calibrate --data FOLDER" in first.out
    assert "written: model.snn, model.report.json" in first.out
    second = run("calibrate", "--data", DIGITS / "calibration", "--limit", "40")
    assert second.code == 0, second.err
    assert "calibrated on 40 images" in second.out
    assert load_conversion(folder / "model.snn").calibrated
    third = run("evaluate", "--data", DIGITS / "test", "--limit", "80", "--timesteps", "4")
    assert third.code == 0, third.err
    assert third.err == ""
    assert "80 samples; the trained network has 97.50 % accuracy" in third.out


def test_the_example_works_without_any_flag(run: Run, folder: Path):
    project(folder)
    assert run("convert", "-q") == (0, "", "")
    # The preprocessing of the project file is in the artifact.
    assert load_conversion(folder / "model.snn").preprocessing.mean == (0.31,)
    assert run("calibrate", "-q", "--limit", "32") == (0, "", "")
    evaluated = run("evaluate", "--json").data()
    assert evaluated["reference"]["accuracy"] == 98.75
    assert evaluated["rows"][0]["accuracy"] > 95


@pytest.mark.usefixtures("torchscript_here")
def test_torchscript_becomes_the_same_network(run: Run, folder: Path):
    result = run("convert", DIGITS / "model.pt", "--input-shape", "1,8,8", "--json").data()
    assert result["report"]["summary"]["neurons"] == 2112
    assert_error(run("convert", DIGITS / "model.pt"), 3, "stores no input shape", "--input-shape")
    project(folder, model=str(DIGITS / "model.pt"), **{"input-shape": [1, 8, 8]})
    assert run("convert", "-q").code == 0


def test_converting_with_data_is_calibrating_too(converted: Path):
    conversion = load_conversion(converted)
    assert conversion.calibrated
    assert conversion.provenance.calibration.images == 64


def test_calibrating_takes_recipe_and_preprocessing_from_the_file(run: Run, artifact: Path, folder: Path):
    result = run("calibrate", "--data", DIGITS / "calibration", "--limit", "64", "--json", "-o", "b.snn").data()
    assert result["report"]["summary"]["timesteps"] == 4
    # Equal settings, equal bytes.
    assert (folder / "b.snn").read_bytes() == artifact.read_bytes()
    assert_error(
        run("calibrate", artifact, "--data", DIGITS / "calibration", "-o", "c.snn", "--report", "model.snn"),
        2,
        "overwrite",
    )
    assert result["files"] == ["b.snn", "b.report.json"]
    assert json.loads((folder / "b.report.json").read_text()) == result["report"]


def test_flags_win_over_the_project_file_and_it_over_the_artifact(run: Run, artifact: Path, folder: Path):
    data = ("--limit", "8", "-q", "--set", "passes.distill.steps=1")
    project(folder, model=None, timesteps=2, neuron="if", set={"passes.calibrate-thresholds.kind": "max"})

    def made_with() -> tuple[Any, ...]:
        conversion = load_conversion(artifact)
        options = {applied.name: applied.options for applied in conversion.applied}
        kind, neuron = options["calibrate-thresholds"]["kind"], options["substitute-neurons"]["neuron"]
        return conversion.schedule.timesteps, kind, neuron, conversion.preprocessing.std

    assert run("calibrate", *data).code == 0
    assert made_with() == (2, "max", "if", (0.38,))
    flags = ("--timesteps", "3", "--neuron", "two-phase", "--set", "passes.calibrate-thresholds.kind=percentile")
    assert run("calibrate", *data, *flags, "--std", "0.5").code == 0
    assert made_with() == (3, "percentile", "two-phase", (0.5,))
    # What changes a recipe means nothing for another one.
    assert run("calibrate", *data, "--recipe", "default").code == 0
    assert made_with() == (2, "mmse", "two-phase", (0.38,))
    (folder / "pre.yaml").write_text("std: [0.7]\nchannels: gray\n")
    assert run("calibrate", *data, "--preprocessing", "pre.yaml").code == 0
    assert made_with()[3] == (0.7,)
    assert run("calibrate", *data, "--preprocessing", "pre.yaml", "--std", "0.8").code == 0
    assert made_with()[3] == (0.8,)
    # A single flag changes one thing of what the artifact says.
    (folder / "snnc.yaml").unlink()
    assert run("calibrate", *data, "--data", DIGITS / "calibration", "--mean", "0.2").code == 0
    assert load_conversion(artifact).preprocessing.mean == (0.2,)
    assert made_with()[3] == (0.8,)


def test_a_saved_recipe_makes_the_same_file_again(run: Run, folder: Path):
    model = DIGITS / "model.onnx"
    flags = ("--timesteps", "5", "--neuron", "if", "--save-recipe", "mine.yaml")
    assert run("convert", model, "-q", "-o", "a.snn", *flags).code == 0
    assert yaml.safe_load((folder / "mine.yaml").read_text())["timesteps"] == 5
    assert run("convert", model, "-q", "-o", "b.snn", "--recipe", "mine.yaml").code == 0
    assert (folder / "a.snn").read_bytes() == (folder / "b.snn").read_bytes()


def test_a_stripped_file_is_smaller_and_says_what_it_cannot(run: Run, folder: Path, artifact: Path):
    flags = ("-q", "-o", "small.snn", "--strip", "--report", "r.json", *PREPROCESSING)
    assert run("convert", DIGITS / "model.onnx", *flags).code == 0
    assert (folder / "r.json").exists()
    assert not (folder / "small.report.json").exists()
    assert (folder / "small.snn").stat().st_size < artifact.stat().st_size
    assert_error(run("calibrate", "small.snn", "--data", DIGITS / "calibration"), 3, "reference", "--strip")
    result = run("evaluate", "small.snn", "--data", DIGITS / "test", "--limit", "20")
    assert result.code == 0
    assert "stripped of the trained network" in result.out
    assert "agree %" not in result.out


# Streams.


def test_json_is_all_there_is_on_stdout(run: Run, artifact: Path):
    data = ("--data", DIGITS / "test", "--limit", "20")
    for command in (
        ("evaluate", "--timesteps", "1,2", *data),
        ("inspect",),
        ("inspect", DIGITS / "model.onnx"),
        ("env",),
        ("calibrate", *data, "--set", "passes.distill.steps=1"),
    ):
        for quiet in ((), ("-q",)):
            result = run(*command, "--json", *quiet)
            assert result.err == ""
            assert json.dumps(json.loads(result.out), sort_keys=True, indent=1) + "\n" == result.out


def test_quiet_is_quiet(run: Run, artifact: Path):
    data = ("--data", DIGITS / "test", "--limit", "20")
    for command in (("evaluate", *data), ("inspect",), ("inspect", DIGITS / "model.onnx"), ("env",)):
        assert run(*command, "-q") == (0, "", "")


def test_verbose_times_the_passes_on_stderr(run: Run, folder: Path):
    result = run("convert", DIGITS / "model.onnx", "-v", "--json")
    assert json.loads(result.out)
    assert "fold-batch-norm" in result.err
    assert "error" not in result.err


def test_lines_are_neither_wrapped_nor_cut_nor_padded_in_a_pipe(run: Run, artifact: Path):
    lines = run("inspect").out.splitlines()
    assert any(len(line) > 100 for line in lines)
    assert all(line == line.rstrip() for line in lines)


# Evaluation and gates.


def test_evaluation_at_several_timesteps(run: Run, artifact: Path):
    rows = run("evaluate", "--data", DIGITS / "test", "--timesteps", "1,4", "--json").data()["rows"]
    assert [row["timesteps"] for row in rows] == [1, 4]
    assert rows[0]["accuracy"] < rows[1]["accuracy"]
    shown = run("evaluate", "--data", DIGITS / "test", "--limit", "20", "--timesteps", "1,4").out
    assert "worked out for T=4, evaluated at T=1" in shown


def test_gates(run: Run, artifact: Path, folder: Path):
    data = ("evaluate", "--data", DIGITS / "test", "--limit", "20", "--timesteps", "1,4")
    passed = run(*data, "--max-drop", "50%", "--min-agreement", "10", "--max-energy-ratio", "50", "--json")
    assert passed.code == 0
    assert [gate["verdict"] for gate in passed.data()["gates"]] == ["passed"] * 3
    # Of a sweep, only the steps that the network was made for are judged, or those that gates name.
    assert {gate["timesteps"] for gate in passed.data()["gates"]} == {4}
    assert [row["timesteps"] for row in passed.data()["rows"]] == [1, 4]
    failed = run(*data, "--max-spikes", "1", "--min-spike-driven", "99.9", "--max-drop", "50", "--gate-timesteps", "1")
    assert failed.code == 4
    assert "gate failed: max-spikes at T=1" in failed.out
    assert (
        "min-spike-driven at T=1: measured " in failed.err and "allowed 99.9 % (and 1 more) @ model.snn" in failed.err
    )
    # The others are below the error line.
    assert "    max-spikes at T=1: measured " in failed.err
    assert "max-drop" not in failed.err and "T=4" not in failed.err
    other = run(*data, "--max-spikes", "1", "--gate-timesteps", "8")
    assert_error(other, 2, "limits are for T=8, evaluated at T=1, T=4 @ gates", "add 8 to --timesteps, or")
    assert run(*data, "--gate-timesteps", "8", "-q").code == 0
    # Where neither is evaluated, it is the first.
    first = run("evaluate", "--data", DIGITS / "test", "--limit", "20", "--timesteps", "2,1", "--max-spikes", "1e9")
    assert first.code == 0 and "gate passed: max-spikes at T=2" in first.out
    assert run(*data, "--max-spikes", "1", "--no-fail").code == 0
    # From the project file, which a flag wins over.
    project(folder, model="model.onnx", gates={"max-spikes": 1, "max-drop": None})
    assert run(*data, "--json").code == 4
    assert run(*data, "--max-spikes", "1e9").code == 0
    project(folder, model="model.onnx", gates={"max-spikes": 1, "timesteps": 1, "proven": True})
    (gate,) = run(*data, "--json").data()["gates"]
    assert (gate["timesteps"], gate["verdict"]) == (1, "failed")
    project(folder, model="model.onnx", gates={"max-spikes": 1, "timesteps": 0})
    assert_error(run(*data), 2, "0 time steps to be judged at: give a whole number from 1 @ snnc.yaml: gates")
    project(folder, model="model.onnx")
    for flag, value in (
        ("--max-drop", "x"),
        ("--max-drop", "nan"),
        ("--max-spikes", "inf"),
        ("--max-spikes", "-1"),
        ("--min-agreement", "0.95"),
        ("--min-agreement", "101"),
    ):
        assert_error(run(*data, flag, value), 2, f"is no limit for {flag.removeprefix('--')} @ gates")


def test_what_is_kept_by_too_few_samples_is_not_proven_in_every_face(run: Run, artifact: Path, folder: Path):
    data = ("evaluate", "--data", DIGITS / "test", "--limit", "20", "--max-drop", "3")
    lenient = run(*data, "--json")
    assert lenient.code == 0
    (gate,) = lenient.data()["gates"]
    assert gate["verdict"] == "not proven" and gate["samples_needed"] > 20
    told = f"not proven, {gate['samples_needed']:,} samples would (20 measured)"
    faces = {"--html": "r.html", "--markdown": "r.md", "--junit": "r.xml", "--sarif": "r.json"}
    shown = run(*data, *(part for pair in faces.items() for part in pair))
    assert shown.code == 0 and "warning: max-drop at T=4: measured " in shown.out and told in shown.out
    assert "20 samples are too few to tell how many points of accuracy are lost" in shown.out
    for text in [shown.out, *(Path(name).read_text() for name in faces.values())]:
        assert "not proven" in text and "undecided" not in text and "no loss of" not in text.lower()
    assert_error(run(*data, "--strict", "-q"), 4, "--strict: warnings (not-proven")
    assert run(*data, "--strict", "--no-fail", "-q").code == 0
    # Where proof is asked for, the same is a failure.
    proven = run(*data, "--proven", "-q", "--junit", "r.xml", "--sarif", "r.json")
    assert_error(proven, 4, "gate failed: max-drop at T=4", told)
    assert "<failure" in Path("r.xml").read_text()
    (scan,) = json.loads(Path("r.json").read_text())["runs"]
    assert [result["level"] for result in scan["results"] if result["ruleId"] == "failed-gate"] == ["error"]


def test_what_is_measured_beyond_a_limit_fails_however_few_samples_there_are(run: Run, artifact: Path, folder: Path):
    for count in ("1", "30"):
        data = ("evaluate", "--data", DIGITS / "test", "--limit", count, "--timesteps", "1", "--gate-timesteps", "1")
        lost = run(*data, "--max-drop=-101", "--sarif", "s.json", "-q")
        assert_error(lost, 4, "gate failed: max-drop at T=1: measured ")
        (scan,) = json.loads(Path("s.json").read_text())["runs"]
        (found,) = (result for result in scan["results"] if result["ruleId"] == "failed-gate")
        assert found["level"] == "error" and "allowed -101 points" in found["message"]["text"]
        assert scan["tool"]["driver"]["rules"][found["ruleIndex"]]["id"] == "failed-gate"


def test_strict_conversion_fails_after_writing_everything(run: Run, folder: Path):
    result = run("convert", DIGITS / "model.onnx", "--strict", "-q", "--sarif", "s.json", "--junit", "j.xml")
    assert_error(result, 4, "--strict: warnings (uncalibrated) @ model.snn", "snnc explain uncalibrated")
    assert {"model.snn", "model.report.json", "s.json", "j.xml"} <= {path.name for path in folder.iterdir()}


def test_the_report_gathers_what_was_measured(run: Run, artifact: Path, folder: Path):
    assert "Nothing was measured yet" in run("report").out or "accuracy was not measured" in run("report").out
    few = ("--data", DIGITS / "test", "--limit", "30")
    run("evaluate", *few, "--timesteps", "1,4", "--blame", "--max-layer-error", "0.5", "--no-fail", "-q")
    kept = json.loads((folder / "model.report.json").read_text())
    assert [row["timesteps"] for row in kept["evaluation"]["rows"]] == [1, 4]
    shown = run("report", "--json", "-").data()
    assert shown == kept
    assert run("report", "--json", "copy.json", "-q") == (0, "", "")
    assert (folder / "copy.json").read_text() == (folder / "model.report.json").read_text()
    assert json.loads(run("report", "copy.json", "--json", "-").out) == kept
    # What was measured before stays when something else is measured.
    layers = kept["layers"]
    run("evaluate", "--data", DIGITS / "test", "--limit", "20", "-q")
    again = json.loads((folder / "model.report.json").read_text())
    assert again["layers"] == layers and again["evaluation"]["samples"] == 20
    # So do figures on other samples, and rows at other steps; who wants neither says so.
    (before,) = again["earlier"]
    assert before == {**kept["evaluation"], "pictures": [], "by_class": None}
    shown = run("evaluate", *few, "--timesteps", "2", "--markdown", "r.md")
    assert "Measured before in another setting, and still in the report: T=4 on 20 samples." in shown.out
    assert "Measured before in another setting" in Path("r.md").read_text()
    joined = json.loads((folder / "model.report.json").read_text())
    rows = joined["evaluation"]["rows"]
    assert [row["timesteps"] for row in rows] == [1, 2, 4]
    assert [rows[0], rows[2]] == kept["evaluation"]["rows"] and rows[2]["blame"] and rows[1]["blame"] is None
    assert [found["samples"] for found in joined["earlier"]] == [20]
    # Measured again, a row takes the place of the old one, and what only that one was asked for stays.
    run("evaluate", *few, "-q")
    again = json.loads((folder / "model.report.json").read_text())["evaluation"]["rows"]
    assert [row["timesteps"] for row in again] == [1, 2, 4] and again[2] == rows[2]
    run("evaluate", *few, "--timesteps", "2", "--fresh", "-q")
    anew = json.loads((folder / "model.report.json").read_text())
    assert [row["timesteps"] for row in anew["evaluation"]["rows"]] == [2] and anew["earlier"] == []


def test_the_page_is_opened_where_it_was_written(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert run("convert", DIGITS / "model.onnx", "-q").code == 0
    assert run("report", "--open", "-q") == (0, "", "")
    assert run("report", "model.report.json", "--open", "--html", "page.html", "-q") == (0, "", "")
    pages = [folder / "model.report.html", folder / "page.html"]
    assert opened == [page.resolve().as_uri() for page in pages]
    assert pages[0].read_text() == pages[1].read_text()
    # What was read is not overwritten, and the hint names flags that there are.
    assert_error(run("report", "model.snn", "--html", "model.snn"), 2, "choose another place with the flag")


def test_a_report_that_does_not_belong_is_refused(run: Run, artifact: Path, folder: Path):
    run("convert", DIGITS / "model.onnx", "-o", "other.snn", "--timesteps", "2", "-q")
    result = run("report", "model.snn", "--report", "other.report.json")
    assert_error(result, 5, "a report on another network @ other.report.json", "calibrate or evaluate again")
    report = folder / "model.report.json"
    data = json.loads((folder / "other.report.json").read_text())
    for change, message in (
        ({"schema_version": 99}, "schema version 99, this snnc reads version"),
        ({"schema_version": None}, "not a report"),
        ({"layers": 3}, "damaged report: layers"),
    ):
        report.write_text(json.dumps({**data, **change}))
        assert_error(run("report", "model.snn"), 5, message)
    report.write_text("{")
    assert_error(run("report", "model.snn"), 5, "no valid JSON @ model.report.json")
    # A measurement replaces what cannot be read.
    assert run("evaluate", "model.snn", "--data", DIGITS / "test", "--limit", "20", "-q").code == 0
    assert run("report", "model.snn", "-q").code == 0


def test_the_summary_of_a_github_step(run: Run, artifact: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert_error(run("report", "--github-summary"), 2, "GITHUB_STEP_SUMMARY is not set", "--markdown FILE")
    summary = folder / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert run("report", "--github-summary", "--markdown", "r.md", "-q").code == 0
    assert summary.read_text() == "before\n" + (folder / "r.md").read_text()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder))
    assert_error(run("report", "--github-summary", "-q"), 5, "cannot write")


def test_code_scanning_finds_the_model_by_its_path_in_the_repository(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def place() -> str:
        assert run("report", converted, "--sarif", "findings.sarif", "-q").code == 0
        (scan,) = json.loads(Path("findings.sarif").read_text())["runs"]
        (found,) = {json.dumps(result["locations"][0]["physicalLocation"]) for result in scan["results"]}
        return str(json.loads(found)["artifactLocation"]["uri"])

    (folder / "net" / "my models").mkdir(parents=True)
    shutil.copy(DIGITS / "model.onnx", folder / "net" / "my models")
    monkeypatch.chdir(folder / "net")
    converted = folder / "net" / "model.snn"
    assert run("convert", "my models/model.onnx", "-q").code == 0
    # In no repository it is found from the working folder, else in the repository, by snnc.yaml or without.
    assert place() == "my%20models/model.onnx"
    (folder / ".git").mkdir()
    assert place() == "net/my%20models/model.onnx"
    Path("snnc.yaml").write_text("model: my models/model.onnx\n")
    assert place() == "net/my%20models/model.onnx"
    monkeypatch.chdir(folder / "net" / "my models")
    assert place() == "net/my%20models/model.onnx"
    # Another one of that name is not meant, nor what a link leads to.
    Path("model.onnx").rename(folder / "cached")
    Path("model.onnx").symlink_to(folder / "cached")
    assert place() == "net/my%20models/model.onnx"
    Path("model.onnx").unlink()
    Path("model.onnx").write_bytes(b"other")
    assert place() == "model.onnx"


def test_everything_that_can_be_chosen_is_listed(run: Run):
    names = run("list", "--json").data()
    found = {kind: run("list", kind, "--json").data()[kind] for kind in names}
    for kind, members in (("neurons", neurons), ("passes", passes), ("tasks", tasks), ("recipes", recipe.shipped())):
        assert names[kind] == [member["name"] for member in found[kind]] == list(members)
    assert all(member["about"] for members in found.values() for member in members)
    told = run("list", "neurons").out
    assert "burst(max-event=2)" in told and "papers  Li and Zeng, IJCAI 2022" in told
    assert {"Conv", "Attention", "LSTM"} <= set(names["operations"]) and "loihi2" in run("list").out
    assert_error(run("list", "neuron"), 2, "nothing to list is called 'neuron'", "did you mean 'neurons'?")


def test_help_and_version_have_short_flags(run: Run):
    assert run("-h").out == run("--help").out and run("list", "-h").out == run("list", "--help").out
    assert run("-V").out == run("--version").out


def test_every_finding_is_explained(run: Run):
    everything = run("explain", "--json").data()
    assert set(everything) == set(EXPLANATIONS)
    assert all(text.endswith(".") for parts in everything.values() for text in parts.values())
    assert "calibrate" in run("explain", "uncalibrated").out
    assert_error(run("explain", "uncalibratd"), 2, "no finding is called 'uncalibratd'", "did you mean 'uncalibrated'?")


def test_without_labels_there_is_agreement(run: Run, artifact: Path):
    data = ("evaluate", "--data", DIGITS / "calibration", "--limit", "20")
    result = run(*data, "--min-agreement", "50")
    assert result.code == 0
    assert "no labels" in result.out
    assert "agree %" in result.out
    assert "accuracy %" not in result.out
    assert_error(run(*data, "--max-drop", "1"), 5, "--max-drop needs labels")


def test_missing_data_names_both_ways(run: Run, artifact: Path):
    for command, section in (("evaluate", "evaluation"), ("calibrate", "calibration")):
        assert_error(run(command), 2, f"no data for the {section}", "--data", f"'{section}: {{data: FOLDER}}'")


# The advisor.

# One step leaves few candidates.
QUICKLY = ("--limit", "60", "--max-steps", "1")


def test_tuning_in_a_project_folder(run: Run, folder: Path):
    project(folder, gates={"max-drop": 45.0})
    result = run("tune", *QUICKLY, "--save-recipe", "r.yaml", "--frontier", "f.json")
    assert result.code == 0, result.err
    assert result.err == ""
    lines = result.out.splitlines()
    # The images to calibrate on have no labels.
    assert lines[0] == "2 candidates, calibrated on 40 images and judged on 20 others; no labels"
    assert (
        " ".join(lines[1].split())
        == "rank candidate T latency drop agree % spikes energy arithmetic seconds frontier limits"
    )
    assert lines[2].endswith("*  kept, chosen")
    (chosen,) = (line for line in lines if line.startswith("chosen: "))
    assert (
        "% of the trained network's predictions (a drop of 45 is allowed), answers after 1 step and needs an estimated "
        in chosen
        and "times the trained network's energy (arithmetic alone 0." in chosen
    )
    # What snnc convert warns of, when the chosen one is made again.
    assert [line for line in lines if line.startswith("warning: ")] == ["warning: calibrated on 40 images only"]
    assert "hint:    give 64 or more" in lines
    assert "written: model.snn, model.report.json, f.json, r.yaml" in lines
    (command,) = (line.partition(": ")[2] for line in lines if line.startswith("made again by: "))
    made = (folder / "model.snn").read_bytes(), (folder / "model.report.json").read_bytes()
    program, *arguments = shlex.split(command)
    assert program == "snnc"
    assert run(*arguments, "-q") == (0, "", "")
    assert made == ((folder / "model.snn").read_bytes(), (folder / "model.report.json").read_bytes())
    assert (
        run(
            "convert",
            "--data",
            DIGITS / "calibration",
            "--part",
            "calibration",
            "--limit",
            "60",
            "-q",
            "--recipe",
            "r.yaml",
            "-o",
            "b.snn",
        ).code
        == 0
    )
    assert (folder / "b.snn").read_bytes() == made[0]


def test_the_machine_form_of_tuning(run: Run, folder: Path):
    flags = ("--data", DIGITS / "test", *PREPROCESSING, *QUICKLY, "--max-drop", "60", "--json")
    result = run("tune", DIGITS / "model.onnx", *flags, "--prefer", "steps", "-o", "x y.snn", "--frontier", "f.json")
    assert json.dumps(json.loads(result.out), sort_keys=True, indent=1) + "\n" == result.out
    advice = result.data()
    assert advice["schema_version"] == 1
    free = {"max_energy": None, "minutes": None, "latency": None, "proven": False, "weight_bits": []}
    assert advice["limits"] == {"max_drop": 60.0, "max_steps": 1, **free}
    assert advice["prefer"] == "steps"
    assert advice["drop_measures"] == "accuracy"
    assert advice["chosen"] == 1
    assert [advice["images"][part]["images"] for part in ("calibration", "judging")] == [40, 20]
    assert [candidate["rank"] for candidate in advice["candidates"]] == [1, 2]
    best = advice["candidates"][0]
    assert best["kept"] and best["frontier"] and best["total_steps"] == 1
    assert {"recipe", "changes", "timesteps", "sleep", "drop", "drop_interval", "accuracy", "agreement"} <= set(best)
    assert {"spikes", "energy_microjoules", "energy_ratio", "seconds", "title", "latency"} <= set(best)
    assert advice["files"] == ["x y.snn", "x y.report.json", "f.json"]
    assert advice["report"] == json.loads((folder / "x y.report.json").read_text())
    assert "--output 'x y.snn'" in advice["command"]
    assert "--mean 0.31 --std 0.38 --channels gray --limit 60" in advice["command"]
    written = json.loads((folder / "f.json").read_text())
    assert written == {key: advice[key] for key in written}
    # What judged is what snnc evaluate can read, too.
    judging = ("--data", DIGITS / "test", "--limit", "60", "--part", "judging")
    (row,) = run("evaluate", "x y.snn", *judging, "--json").data()["rows"]
    spent = sum(row["energy"][part] for part in ("accumulations", "multiplications", "memory"))
    assert (row["drop"], spent) == (best["drop"], best["energy_microjoules"])


def test_nothing_within_the_limits(run: Run, folder: Path):
    project(folder)
    limits = (*QUICKLY, "--max-drop", "50", "--max-energy", "0.001", "--frontier", "f.json")
    result = run("tune", *limits)
    assert result.code == 4
    assert "rank  candidate" in result.out
    assert "written: f.json" in result.out
    assert not list(folder.glob("*.snn"))
    assert_error(
        result._replace(out=""), 4, "nothing keeps to the limits; closest is quick, ", "allowed 0.001", "model"
    )
    quiet = run("tune", *limits, "--json", "-q")
    assert (quiet.code, quiet.data()["chosen"], quiet.data()["command"]) == (4, None, None)
    assert json.loads((folder / "f.json").read_text())["candidates"]


# Inspection, environment, project file.


@pytest.mark.usefixtures("torchscript_here")
def test_inspecting_a_model(run: Run):
    result = run("inspect", DIGITS / "model.onnx")
    assert result.code == 0
    assert "218,112" in result.out
    assert "/inner/inner.0/Conv" in result.out
    assert_error(run("inspect", DIGITS / "model.pt"), 3, "--input-shape")
    assert "1x8x8" in run("inspect", DIGITS / "model.pt", "--input-shape", "1,8,8").out


def test_names_in_a_file_do_no_harm_to_a_terminal_or_a_runner(run: Run, folder: Path):
    model = load(DIGITS / "model.onnx")
    hostile = "\n::error::x\x1b[2J\u202e"
    for index, node in enumerate(model.graph.node):
        node.name = f"{index}{hostile}"
    model.producer_name = hostile
    save(model, folder / "model.onnx")
    for arguments in (
        ("inspect", "model.onnx"),
        ("convert", "model.onnx", "--dry-run"),
        ("convert", "model.onnx", *PREPROCESSING),
        ("inspect", "model.snn"),
        # Its own report can be read again.
        ("report", "model.snn"),
        ("evaluate", "model.snn", "--data", DIGITS / "test", "--limit", "10", "--timesteps", "1"),
    ):
        result = run(*arguments)
        assert result.code == 0, result.err
        assert all(character.isprintable() or character == "\n" for character in result.out)
        assert not [line for line in result.out.splitlines() if line.strip().startswith("::")]
    assert "report-replaced" not in (folder / "model.report.json").read_text()


def test_inspecting_a_model_lists_all_that_cannot_spike(run: Run, folder: Path):
    unsupported_model(folder / "odd.onnx")
    result = run("inspect", "odd.onnx")
    assert result.code == 3
    assert "draw[bold]" in result.out
    assert result.out.count("cannot spike: ") == 2
    assert_error(result._replace(out=""), 3, "2 of 3 operations cannot become spiking", "@ odd.onnx")
    assert {"draw[bold]", "last"} == {
        verdict["name"]
        for verdict in json.loads(run("inspect", "odd.onnx", "--json").out)["verdicts"]
        if verdict["problem"]
    }
    # Without the table, the error has them.
    quiet = run("inspect", "odd.onnx", "-q")
    assert quiet.out == ""
    assert [line.split(" ")[4] for line in quiet.err.splitlines()[1:-1]] == ["draw[bold]", "last"]


def test_converting_an_unsupported_model_lists_all_of_it(run: Run, folder: Path):
    result = run("convert", unsupported_model(folder / "odd.onnx"))
    assert result.code == 3
    first, *details, hint = result.err.splitlines()
    told = run("convert", folder / "odd.onnx", "--json")
    assert (told.code, told.err) == (3, result.err)
    assert [refusal["names"] for refusal in json.loads(told.out)["refusals"]] == [["draw[bold]"], ["last"]]
    assert first.startswith("error: 2 of 3 operations cannot become spiking")
    assert [line.startswith("    ") for line in details] == [True, True] and hint.startswith("hint:  ")
    assert "draw[bold]" in details[0]
    assert not list(folder.glob("*.snn"))


def test_inspecting_a_converted_network(run: Run, artifact: Path):
    shown = run("inspect").out
    for part in ("model.onnx", "on 64 images", "4 (20 from image to answer)", "recipe default", "kept", "pool_MaxPool"):
        assert part in shown
    assert "None" not in shown and "True" not in shown
    facts = run("inspect", "model.snn", "--json").data()
    assert facts["timesteps"] == 4
    assert facts["provenance"]["recipe"]["timesteps"] == 4
    assert sum(layer["neurons"] for layer in facts["layers"]) == 2112


def test_the_environment(run: Run):
    facts = run("env", "--json").data()
    assert facts["snnc"] == snnc.__version__
    assert {"python", "torch", "onnx", "onnxruntime", "numpy", "safetensors", "cpus", "threads", "cuda"} <= set(facts)
    assert "safetensors" in run("env").out


def test_init_writes_a_project_file_that_works(run: Run, folder: Path):
    shutil.copy(DIGITS / "model.onnx", folder)
    assert run("init") == (0, "found: model.onnx, the model\nwritten: snnc.yaml\n", "")
    assert "\nmodel: model.onnx\n" in (folder / "snnc.yaml").read_text()
    assert run("convert", "-q").code == 0
    (folder / "snnc.yaml").write_text("mine: 1")
    assert_error(run("init"), 2, "@ snnc.yaml", "--force")
    assert (folder / "snnc.yaml").read_text() == "mine: 1"
    assert run("init", "--force").code == 0


def test_init_finds_the_data_that_lies_beside_the_model(run: Run, folder: Path):
    for name in ("model.onnx", "model.pt"):
        shutil.copy(DIGITS / name, folder)
    for name in ("calibration", "test"):
        shutil.copytree(DIGITS / name, folder / name)
    (folder / "notes").mkdir()
    told = run("init").out.splitlines()
    assert told == [
        "found: several models (model.onnx, model.pt): uncomment the line of the one that is meant",
        "found: calibration, to calibrate on",
        "found: test, to evaluate on, with 10 class folders",
        "written: snnc.yaml",
    ]
    written = (folder / "snnc.yaml").read_text()
    assert "# model: model.onnx\n# model: model.pt\n" in written
    settings = read_project(folder)
    assert (settings.model, settings.calibration.data, settings.evaluation.data) == (
        None,
        folder / "calibration",
        folder / "test",
    )
    # One folder of images of any name, and nothing else: no labels are needed to calibrate.
    (folder / "model.pt").unlink()
    shutil.rmtree(folder / "test")
    (folder / "calibration").rename(folder / "my photos")
    assert run("init", "--force").out.splitlines()[:2] == [
        "found: model.onnx, the model",
        "found: my photos, to calibrate on",
    ]
    assert read_project(folder).calibration.data == folder / "my photos"
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run("init").out.splitlines()[0] == "found no model (.onnx, .pt): name it in the file"


def test_help_and_version(run: Run):
    assert run("--version") == (0, f"snnc {snnc.__version__}\n", "")
    assert run().out == run("--help").out
    for name in ("convert", "calibrate", "evaluate", "inspect", "env", "init", "tune"):
        assert name in run("--help").out
        assert run(name, "--help").code == 0


# Errors.


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["convert"], 2, ["no model to convert", "snnc.yaml"]),
        (["convert", "nope.onnx"], 5, ["no such file @ nope.onnx"]),
        (["convert", "text.onnx"], 3, ["not an ONNX model @ text.onnx"]),
        (["convert", "MODEL", "--recipe", "defalt"], 2, ["unknown recipe 'defalt'", "did you mean 'default'?"]),
        (["convert", "MODEL", "--recipe", "nope.yaml"], 5, ["no such file", "@ nope.yaml"]),
        (["convert", "MODEL", "--set", "x"], 2, ["expected KEY=VALUE", "--set"]),
        (["convert", "MODEL", "--set", "passes.fold.x=1"], 2, ["no pass 'fold'", "@ --set passes.fold.x"]),
        (
            ["convert", "MODEL", "--set", "passes.calibrate-thresholds.kidn=max"],
            2,
            ["unknown option 'kidn' @ passes[4].calibrate-thresholds", "did you mean 'kind'?"],
        ),
        (["convert", "MODEL", "--timesteps", "0"], 2, ["timesteps"]),
        (["convert", "MODEL", "--timesteps", "many"], 2, ["'--timesteps': should be a valid integer @ snnc"]),
        (["convert", "MODEL", "--neuron", "iff"], 2, ["unknown neuron 'iff' @ --neuron"]),
        (["convert", "MODEL", "--input-shape", "3,x"], 2, ["invalid value '3,x' @ --input-shape"]),
        (["convert", "MODEL", "--input-shape", "3,0"], 2, ["invalid value '3,0' @ --input-shape"]),
        (["convert", "MODEL", "--data", "nope"], 5, ["@ nope"]),
        (["convert", "MODEL", "--mean", "x"], 2, ["invalid value 'x' @ --mean"]),
        (["convert", "MODEL", "--std", "0"], 2, ["std must be positive"]),
        (["convert", "MODEL", "--crop", "1,2,3"], 2, ["invalid value '1,2,3' @ --crop"]),
        (["convert", "MODEL", "--channels", "rbg"], 2, ["--channels", "'rgb'"]),
        (["convert", "MODEL", "--preprocessing", "text.onnx"], 2, ["@ text.onnx"]),
        (["convert", "MODEL", "-o", "text.onnx/x.snn"], 5, ["cannot write", "@ text.onnx/x.snn"]),
        (["convert", "MODEL", "-o", "missing/x.snn"], 5, ["cannot write", "@ missing/x.snn"]),
        (["convert", "MODEL", "-o", "MODEL"], 2, ["would overwrite the model"]),
        (["convert", "MODEL", "-o", "d.npz", "--data", "d.npz"], 2, ["would overwrite the data @ d.npz"]),
        (["tune", "MODEL", "-o", "d.npz", "--data", "./d.npz"], 2, ["would overwrite the data @ d.npz"]),
        (["convert", "MODEL", "--recipe", "r.yaml", "--report", "r.yaml"], 2, ["would overwrite the recipe @ r.yaml"]),
        (["convert", "MODEL", "--report", "snnc.yaml"], 2, ["would overwrite the settings of the project"]),
        (["convert", "MODEL", "-o", "x" * 300], 5, ["File name too long @ xxx"]),
        (["inspect", f"{'x' * 300}.onnx"], 5, ["File name too long @ xxx"]),
        (["finetune", "MODEL", "-o", "", "--data", "x"], 5, ["cannot write: it is a folder", "@ ."]),
        (["convert", "MODEL", "--report", "model.snn"], 2, ["two results would go to one file @ model.snn"]),
        (["convert", "--bogus"], 2, ["no such option: --bogus", "@ snnc convert", "see snnc convert --help"]),
        (["convert", "--recipe"], 2, ["'--recipe' requires an argument"]),
        (["bogus"], 2, ["no such command 'bogus' @ snnc", "see snnc --help"]),
        (["calibrate", "--data", "x"], 2, ["no .snn file in this folder", "argument", "snnc.yaml"]),
        (["tune"], 2, ["no model to convert @ snnc tune", "snnc tune model.onnx"]),
        (["tune", "MODEL"], 2, ["no data for the calibration", "--data"]),
        (["tune", "MODEL", "--data", "x", "--max-steps", "0"], 2, ["0 steps @ --max-steps"]),
        (["tune", "MODEL", "--data", "x", "--max-drop", "nan"], 2, ["@ --max-drop"]),
        (["tune", "MODEL", "--data", "x", "--max-drop", "-1"], 2, ["@ --max-drop"]),
        (["tune", "MODEL", "--data", "x", "--minutes", "0"], 2, ["@ --minutes"]),
        (["tune", "MODEL", "--data", "x", "--prefer", "speed"], 2, ["--prefer", "'steps'"]),
        (["tune", "MODEL", "--data", "x"], 5, ["@ x"]),
        (["tune", "MODEL", "--data", "x", "--frontier", "model.snn"], 2, ["two results would go to one file"]),
        (["tune", "MODEL", "--data", "x", "--frontier", "missing/f.json"], 5, ["cannot write", "@ missing/f.json"]),
        (["convert", "MODEL", "--data", "x", "--part", "best"], 2, ["--part", "'judging'"]),
        (["evaluate", "nope.snn", "--data", "x"], 5, ["no such file @ nope.snn", "snnc convert"]),
        (["evaluate", "MODEL", "--data", "x"], 2, ["a trained model", "snnc convert"]),
        (["inspect", "text.snn"], 3, ["@ text.snn"]),
    ],
)
def test_an_error_is_one_line_with_a_hint(run: Run, folder: Path, arguments: list[str], code: int, parts: list[str]):
    (folder / "text.onnx").write_text("a text, no model")
    if "text.snn" in arguments:
        (folder / "text.snn").write_text("a text, no network")
    model = str(DIGITS / "model.onnx")
    assert_error(run(*(model if argument == "MODEL" else argument for argument in arguments)), code, *parts)
    assert not (folder / "model.snn").exists()


def test_a_result_takes_the_place_of_no_sample(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "link.html").symlink_to("images/a.png")
    (tmp_path / "elsewhere").touch()
    (tmp_path / "images" / "c.png").symlink_to("../elsewhere")
    (tmp_path / "images" / "labels.csv").touch()
    (tmp_path / "images" / "annotations").mkdir()
    (tmp_path / "images" / "annotations" / "instances.json").touch()
    labels = ("images/labels.csv", "images/annotations/instances.json")
    for name in ("images/a.png", "link.html", "images/c.png", *labels):
        with pytest.raises(UsageError, match="would overwrite a sample") as caught:
            check_outputs([tmp_path / name], None, data=tmp_path / "images")
        assert caught.value.place == str(tmp_path / name)
    check_outputs([tmp_path / "images" / "b.png", tmp_path / "page.html"], None, data=tmp_path / "images")


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 5, "more memory is needed"),
        (OSError("libtorch_global_deps.so: failed to map segment from shared object"), 5, "more memory is needed"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), 5, "more memory is needed"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "m.snn"), 5, "more open files are needed"),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), 5, "more threads or processes are needed"),
        (RuntimeError("can't start new thread"), 5, "more threads or processes are needed"),
        (ImportError("libgomp.so: cannot allocate memory in static TLS block"), 1, "static TLS block"),
        (ImportError("a.so: failed to map segment from shared object: Operation not permitted"), 1, "not permitted"),
    ],
)
def test_what_the_system_does_not_allow_is_not_an_internal_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, failure: Exception, code: int, said: str
):
    def fail(arguments: list[str]) -> int:
        raise failure

    monkeypatch.setattr("snnc.cli._run", fail)
    result = run("env")
    assert result.code == code and said in result.err and result.err.count("\n") == 2


def test_errors_on_data(run: Run, artifact: Path, folder: Path):
    images = ("--data", DIGITS / "test")
    assert_error(run("evaluate", *images, "--label-offset", "5"), 5, "label", "10 outputs")
    assert_error(run("evaluate", *images, "--timesteps", "0"), 2, "--timesteps")
    assert_error(run("evaluate", *images, "--timesteps", "1,x"), 2, "invalid value '1,x' @ --timesteps")
    assert_error(run("evaluate", *images, "--limit", "0"), 2, "limit")
    assert_error(run("calibrate", *images, "--mean", "0.1,0.2"), 5, "mean")
    before = artifact.read_bytes()
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_bytes(b"no image")
    assert_error(run("calibrate", "--data", "broken"), 5, "broken/a.png")
    assert artifact.read_bytes() == before


def test_a_damaged_artifact_is_refused(run: Run, artifact: Path):
    whole = artifact.read_bytes()
    for size in (0, 5, 500, len(whole) // 2, len(whole) - 1):
        artifact.write_bytes(whole[:size])
        assert_error(run("evaluate", "--data", DIGITS / "test"), 3, "@ model.snn")


def test_several_artifacts_in_a_folder(run: Run, artifact: Path, folder: Path):
    shutil.copy(artifact, folder / "other.snn")
    message = "several .snn files in this folder (model.snn, other.snn)"
    assert_error(run("inspect"), 2, message, "argument", "snnc.yaml")
    assert run("inspect", "other.snn").code == 0
    (folder / "snnc.yaml").write_text("model: other.onnx")
    assert run("inspect").code == 0


def test_a_broken_project_file_is_an_error_of_every_command(run: Run, artifact: Path, folder: Path):
    (folder / "snnc.yaml").write_text("modell: x")
    for command in ("convert", "calibrate", "evaluate", "inspect", "tune"):
        assert_error(run(command), 2, "unknown option 'modell' @ snnc.yaml", "did you mean 'model'?")


def test_an_error_stays_one_line_whatever_is_in_it(run: Run):
    assert_error(run("convert", "a\nb[red]\x1b[1m.onnx"), 5, "a b[red]")


def test_an_internal_error_shows_no_traceback_unless_asked(run: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(path: Path) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("snnc.artifact.load_conversion", fail)
    short = run("inspect")
    assert short.code == 1
    assert short.err.startswith("internal error: ZeroDivisionError: by zero\nhint:  ")
    assert short.err.count("\n") == 2
    assert "-v" in short.err
    long = run("inspect", "-v")
    assert long.code == 1
    assert "Traceback" in long.err


def test_an_interrupt_says_that_nothing_was_written(run: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("snnc.artifact.load_conversion", interrupt)
    assert run("inspect") == (130, "", "stopped: no file was written\n")


def test_an_interrupt_says_what_is_complete(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("snnc.cli.outcome.write_faces", interrupt)
    stopped = run("convert", DIGITS / "model.onnx", "--recipe", "quick", "-o", "m.snn", "--html", "r.html")
    told = "stopped: complete is what was written before: m.snn, m.report.json\n"
    assert (stopped.code, stopped.out, stopped.err.splitlines(keepends=True)[-1]) == (130, "", told)
    assert {path.name for path in folder.iterdir()} == {"m.snn", "m.report.json"}


def test_a_request_to_end_leaves_nothing_behind(run: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Path] = []
    remove = shutil.rmtree

    def removing(path: Path, *rest: object, **others: object) -> None:
        if made and str(path) == str(made[0]):
            # People press Ctrl-C twice, and who started the process asks it as well.
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGINT)
        remove(path, *rest, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "rmtree", removing)

    def work(path: Path) -> None:
        with temporary_folder() as temporary:
            made.append(temporary)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        monkeypatch.setattr("snnc.artifact.load_conversion", work)
        assert run("inspect") == (130, "", "stopped: no file was written\n")
        assert made and not made[0].exists()
        assert not asked
        # Who called the command line is asked again.
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == [signal.SIGTERM]
        # Ignored on purpose, it stays so.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        monkeypatch.setattr("snnc.artifact.load_conversion", lambda path: os.kill(os.getpid(), signal.SIGTERM))
        assert run("inspect").code != 130
    finally:
        signal.signal(signal.SIGTERM, before)


# Fine-tuning.

TRAINED = ("--set", "training.augment=[crop]", "--timesteps", "2")


def test_fine_tuning_writes_a_network_that_converts_exactly(run: Run, folder: Path):
    project(folder)
    data = ("--data", DIGITS / "test", "--limit", "100")
    result = run("finetune", *data, "--epochs", "2", "--convert", "out.snn", "--log", "log.csv", "--json", *TRAINED)
    assert result.code == 0, result.err
    assert sorted(path.name for path in folder.iterdir()) == [
        "log.csv", "model.tuned.onnx", "out.report.json", "out.snn", "snnc.yaml",
    ]  # fmt: skip
    made = load_conversion(Path("out.snn"))
    assert made.reference is not None
    assert {op.levels for op in made.reference.ops(QuantizedRelu).values()} == {2}
    measured = run("evaluate", "out.snn", "--reference", "model.tuned.onnx", "--json").data()
    assert measured["rows"][0]["agreement"] == 100
    lines = (folder / "log.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch,step,learning_rate,loss,held_out_loss,held_out_accuracy")
    shown = run("finetune", *data, "--epochs", "1", "-o", "t.onnx", *TRAINED)
    assert "held out, after 1 epoch on 90 images" in shown.out
    assert "next: snnc convert t.onnx --timesteps 2" in shown.out


def test_errors_of_fine_tuning(run: Run, folder: Path):
    project(folder)
    data = ("--data", DIGITS / "test")
    for arguments, code, parts in (
        (("--data", DIGITS / "calibration"), 5, ("needs labels", "--data")),
        ((*data, "--resume"), 2, ("no checkpoint", "model.tuned.onnx.checkpoint")),
        ((*data, "--recipe", "quick", "--epochs", "3"), 2, ("nothing of training", "--recipe")),
        ((*data, "--report", "r.json"), 2, ("--convert",)),
        ((*data, "--epochs", "0"), 2, ("starts at 1", "training")),
        ((*data, "--set", "training.epoch=2"), 2, ("unknown option", "epochs")),
        ((*data, "--log", "no/log.csv"), 5, ("cannot write", "no/log.csv")),
        ((*data, "--recipe", "qcfs"), 2, ("needs colors", "training.augment")),
    ):
        assert_error(run("finetune", *arguments), code, *parts)
        assert sorted(path.name for path in folder.iterdir()) == ["snnc.yaml"], arguments


def test_a_signal_stops_fine_tuning_with_a_checkpoint_to_go_on_from(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    project(folder)
    few = ("finetune", "--data", DIGITS / "test", "--limit", "60", *TRAINED)
    finish = Trainer._finish

    def stopping(self: Trainer, epoch: int, step: int) -> None:
        finish(self, epoch, step)
        if epoch == 0:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_finish", stopping)
    assert_error(run(*few, "--epochs", "4"), 130, "error: stopped after ", "--resume")
    monkeypatch.setattr(Trainer, "_finish", finish)
    assert sorted(path.name for path in folder.iterdir()) == ["model.tuned.onnx.checkpoint", "snnc.yaml"]
    again = (*few, "--epochs", "3")
    assert_error(run(*again, "--resume"), 2, "another recipe")
    assert_error(run(*again), 2, "checkpoint of an earlier training", "--resume")


# How long it takes to answer.


def test_latency_chooses_between_two_recipes(run: Run, folder: Path):
    convert = ("convert", DIGITS / "model.onnx", *PREPROCESSING, "--json")
    steps = {}
    for latency, name in (("pipelined", "default"), ("synchronous", "synchronous")):
        report = run(*convert, "--latency", latency, "--timesteps", "3").data()["report"]
        assert report["provenance"]["recipe"]["name"] == name
        steps[latency] = report["summary"]["total_steps"]
    # Four layers that wait for one another, against three steps awake and one asleep.
    assert steps == {"pipelined": 15, "synchronous": 4}
    refused = run("convert", DIGITS / "model.onnx", "--recipe", "quick", "--latency", "pipelined")
    assert_error(refused, 2, "@ --latency", "--neuron")


def test_events_of_so_many_bits_answer_in_one_step(run: Run, folder: Path):
    convert = ("convert", DIGITS / "model.onnx", *PREPROCESSING, "--json")
    made = run(*convert, "--latency", "one-step").data()["report"]
    assert made["summary"]["total_steps"] == 1
    assert {layer["levels"] for layer in made["layers"]} == {15}
    for flags, levels in (
        (("--spike-bits", "3"), 7),
        (("--neuron", "graded", "--levels", "7", "--max-event", "7"), 7),
        (("--levels", "6", "--max-event", "3"), 6),
        (("--neuron", "refine", "--levels", "9", "--sleep", "1"), 9),
        (("--levels", "3", "--max-event", "1", "--timesteps", "2", "--shares", "3/4,1/4"), 3),
    ):
        asked = () if "--timesteps" in flags else ("--timesteps", "1")
        made = run(*convert, "--recipe", "quick", *asked, *flags).data()["report"]
        assert {layer["levels"] for layer in made["layers"]} == {levels}
        assert made["summary"]["total_steps"] == (2 if {"--sleep", "--shares"} & {*flags} else 1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--levels", "0"), ("from 1 to 65536 levels @ --neuron", "options: levels")),
        (("--levels", "7", "--max-event", "0"), ("the largest event is from 1 to",)),
        (("--spike-bits", "0"), ("events of 0 bits @ --spike-bits", "from 1 to 16")),
        (("--spike-bits", "4", "--levels", "7"), ("say both @ --spike-bits", "give either")),
        (("--neuron", "if", "--levels", "7"), ("'if' neurons have no options", "write if")),
        (("--neuron", "refine", "--levels", "50"), ("reach 15 of 50 levels",)),
        (("--timesteps", "2", "--shares", "1/2"), ("1 share of the image for 2 time steps @ shares", "give one for")),
        (("--timesteps", "2", "--shares", "0.9,0.2"), ("add up to 1.1, not 1 @ shares", "0.8182, 0.1818")),
        (("--timesteps", "2", "--shares", "half"), ("invalid value 'half' @ --shares", "3/4,1/4")),
        (("--set", "shares=often"), ("invalid value 'often' @ shares", "[0.75, 0.25]")),
        (("--latency", "one-step", "--timesteps", "2"), ("2 steps from image to answer @ --latency", "--timesteps 1")),
        (("--latency", "one-step", "--neuron", "two-phase"), ("make a pipelined network @ --latency",)),
    ],
)
def test_events_that_cannot_be_are_refused(run: Run, folder: Path, flags: tuple[str, ...], words: tuple[str, ...]):
    own = () if "--latency" in flags else ("--recipe", "quick")
    refused = run("convert", DIGITS / "model.onnx", "--output", folder / "m.snn", *own, *flags)
    assert_error(refused, 2, *words)
    assert not (folder / "m.snn").exists()


def test_a_latency_and_a_neuron_that_has_another_are_refused(run: Run, folder: Path):
    convert = ("convert", DIGITS / "model.onnx", *PREPROCESSING)
    for latency, other, neuron in (("pipelined", "synchronous", "if"), ("synchronous", "pipelined", "two-phase")):
        refused = run(*convert, "--latency", latency, "--neuron", neuron)
        assert_error(refused, 2, f"make a {other} network @ --latency", f"give --latency {other}")
        assert not list(folder.iterdir())
        # As the hint says.
        assert run(*convert, "--latency", other, "--neuron", neuron, "--dry-run").code == 0
    mixed = ("--set", "passes.substitute-neurons.layers={Relu_1: two-phase-probabilistic}")
    refused = run(*convert, "--latency", "synchronous", *mixed)
    assert_error(refused, 2, "make a pipelined network @ --latency", "name neurons of one latency")
    assert run(*convert, "--latency", "synchronous", "--neuron", "dual-threshold", "--dry-run").code == 0


def test_sleep_is_set_at_conversion_and_changed_at_evaluation(run: Run, folder: Path):
    data = ("--data", DIGITS / "calibration", "--limit", "64")
    assert run("convert", DIGITS / "model.onnx", *PREPROCESSING, *data, "--recipe", "casc", "--sleep", "4").code == 0
    assert run("inspect", "--json").data()["sleep"] == 4
    evaluate = ("evaluate", "--data", DIGITS / "test", "--limit", "40", "--timesteps", "2")
    (row,) = run(*evaluate, "--json").data()["rows"]
    assert (row["sleep"], row["total_steps"]) == (4, 6)
    assert "of 2" in run(*evaluate, "--sleep", "2").out
    assert_error(run(*evaluate, "--sleep", "-1"), 2, "@ --sleep")


def test_repeats_and_the_probe_are_shown(run: Run, folder: Path):
    data = ("--data", DIGITS / "calibration", "--limit", "64", "-q")
    evaluate = ("--data", DIGITS / "test", "--limit", "20", "--timesteps", "1", "--repeats", "3")
    assert run("convert", DIGITS / "model.onnx", *PREPROCESSING, *data, "--recipe", "tpp", "-o", "tpp.snn").code == 0
    shown = run("evaluate", "tpp.snn", *evaluate).out
    assert "means of 3 draws" in shown
    assert "±" in shown
    flags = ("--recipe", "quick", "--neuron", "if", "-o", "if.snn")
    assert run("convert", DIGITS / "model.onnx", *PREPROCESSING, *data, *flags).code == 0
    assert "misaligned" in run("evaluate", "if.snn", *evaluate, "--probe", "permutation").out
    assert_error(run("evaluate", "tpp.snn", *evaluate, "--probe", "permutation"), 2, "@ --probe", "convert with")
    assert_error(run("evaluate", "tpp.snn", *evaluate, "--repeats", "0"), 2, "@ --repeats")


# As a process.

SNNC = [sys.executable, "-m", "snnc"]


def process(*arguments: str | Path, folder: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"capture_output": True, "text": True, **options}
    return subprocess.run([*SNNC, *map(str, arguments)], cwd=folder, env=environment, check=False, **options)


def test_the_program_that_is_installed_is_the_command_line(folder: Path):
    program = Path(sys.executable).parent / "snnc"
    if not program.exists():
        pytest.skip("snnc is not installed beside this Python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([program, "--version"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"snnc {snnc.__version__}\n"


def test_help_loads_nothing_heavy(folder: Path):
    code = """
import sys
from snnc.cli import main
assert main(["--help"]) == 0
found = [name for name in ("pydantic", "importlib.metadata", "statistics") if name in sys.modules]
assert main(["convert", "--help"]) == 0
heavy = ("torch", "numpy", "onnx", "onnxruntime", "rich.table", "rich.progress")
print(found + [name for name in heavy if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_process_exits_with_the_code_and_prints_to_the_right_stream(folder: Path):
    done = process("explain", "nothing", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no finding is called 'nothing'")
    assert done.stderr.splitlines()[1].startswith("hint:  ")


@pytest.mark.parametrize(
    ("arguments", "code", "streams"),
    [
        (("--help",), 0, ("stdout",)),
        (("explain", "dead-channels", "--json"), 0, ("stdout", "stderr")),
        (("explain", "nothing"), 2, ("stderr",)),
        (("nothing",), 2, ("stdout", "stderr")),
    ],
)
def test_nobody_reading_is_no_error(arguments: tuple[str, ...], code: int, streams: tuple[str, ...], folder: Path):
    reading, writing = os.pipe()
    os.close(reading)
    kept = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) | dict.fromkeys(streams, writing)
    done = process(*arguments, folder=folder, capture_output=False, **kept)
    os.close(writing)
    assert done.returncode == code
    assert "Exception" not in f"{done.stdout}{done.stderr}" and "Broken" not in f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    ("streams", "code"),
    [("> /dev/full", 5), ("2> /dev/full", 0), ("> /dev/full 2>&1", 5), (">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0)],
)
def test_streams_may_be_full_or_closed(streams: str, code: int, folder: Path):
    command = f"{sys.executable} -m snnc explain dead-channels --json {streams}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=False, capture_output=True)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    assert done.stderr.startswith(b"error: cannot write the result") == (streams == "> /dev/full")
    assert not list(folder.iterdir())


def test_a_working_folder_that_is_gone(folder: Path):
    command = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m snnc convert m.onnx -o {folder / 'o.snn'}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=False, capture_output=True)
    assert done.returncode == 5 and done.stderr.startswith(b"error: the working folder is gone @ .")
    assert not list(folder.iterdir())


CONVERT = ("convert", str(DIGITS / "model.onnx"), "--recipe", "quick", "--weight-bits", "6", *PREPROCESSING)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[bytes]"]:
    """A conversion in a poor environment that hashes otherwise than this one: the folder where, and what it said."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
        "TMPDIR": "/nowhere",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [*SNNC, *CONVERT, "--data", str(DIGITS / "test"), "--limit", "16", "-o", "\u00fc.snn"]
    return folder, subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True)


def test_no_home_no_place_for_temporary_files_and_no_locale(
    elsewhere: tuple[Path, "subprocess.CompletedProcess[bytes]"],
):
    folder, done = elsewhere
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"written: ??.snn, ??.report.json\n")
    assert {path.name for path in folder.iterdir()} == {"\u00fc.snn", "\u00fc.report.json"}


def test_names_come_in_an_order_of_their_own(
    run: Run, folder: Path, elsewhere: tuple[Path, "subprocess.CompletedProcess[bytes]"]
):
    assert run(*CONVERT, "--data", DIGITS / "test", "--limit", "16", "-q", "-o", "here.snn").code == 0
    assert (folder / "here.snn").read_bytes() == (elsewhere[0] / "\u00fc.snn").read_bytes()


def test_a_signal_is_130_from_the_first_moment(folder: Path):
    for seconds in (0.05, 0.1, 0.2, 0.4):
        started = subprocess.Popen(
            [*SNNC, "convert", str(DIGITS / "model.onnx"), "-o", "o.snn"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            # What runs in the background may have been told to pass Ctrl-C by.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        time.sleep(seconds)
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=60)
        # Python itself, before any of ours is run, ends by the signal, or names its own files alone.
        by_python = started.returncode == -signal.SIGINT or (said and b"snnc" not in said)
        assert (started.returncode == 130 and said in (b"", b"stopped: no file was written\n")) or by_python, said


def test_a_signal_is_130_where_code_made_of_text_runs(folder: Path):
    stop = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nfor _ in range(1000): pass"
    Path(folder, "stop.py").write_text(f"exec({stop!r})\n")
    done = subprocess.run(
        [*SNNC, "list", "--plugin", "stop.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"stopped: no file was written\n")


def test_no_command_writes_outside_the_places_it_names(folder: Path):
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir(), temporary.mkdir()
    environment = {"HOME": str(home), "TMPDIR": str(temporary), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    environment["OMP_NUM_THREADS"] = "1"
    data = ("--data", str(DIGITS / "test"), "--limit", "40", "-q")
    commands = (
        ("convert", str(DIGITS / "model.onnx"), "-o", "m.snn", "--recipe", "quick", *PREPROCESSING, *data),
        ("evaluate", "m.snn", *data, "--html", "r.html"),
        ("finetune", str(DIGITS / "model.onnx"), "-o", "t.onnx", "--epochs", "1", *PREPROCESSING, *data),
        ("export", "m.snn", "--format", "onnx", "-o", "e.onnx", "--verify", *data),
    )
    # One after another in one process: each of its own would read torch again.
    code = f"from snnc.cli import main\nfor command in {commands!r}: assert main(command) == 0, command"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    made = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert made == ["e.onnx", "home", "m.report.json", "m.snn", "r.html", "t.onnx", "tmp"]


def test_memory_is_a_size_and_a_limit(run: Run, folder: Path):
    assert_error(run("inspect", DIGITS / "model.onnx", "--memory", "lots"), 2, "@ --memory", "8G")
    assert run("inspect", DIGITS / "model.onnx", "--memory", "4G", "-q").code == 0


@pytest.mark.parametrize("flag", ["--batch-size", "--limit", "--workers", "--timesteps", "--seed"])
def test_numbers_out_of_reason_are_told(flag: str, run: Run, folder: Path):
    refused = run("convert", DIGITS / "model.onnx", "--data", DIGITS / "test", flag, str(1 << 70))
    assert_error(refused, 2, f"@ {flag}")


def test_a_network_of_two_inputs_takes_an_array_for_each(run: Run, folder: Path):
    kinds = {"left": (TensorProto.FLOAT, 4), "days": (TensorProto.INT64, 3)}
    inputs = [helper.make_tensor_value_info(name, kind, ["N", size]) for name, (kind, size) in kinds.items()]
    nodes = [
        helper.make_node("Cast", ["days"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["left", "d"], ["c"], axis=1),
        helper.make_node("Gemm", ["c", "w"], ["g"]),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("Gemm", ["r", "v"], ["y"]),
    ]
    draw = np.random.default_rng(0)
    weights = {"w": draw.standard_normal((7, 8)), "v": draw.standard_normal((8, 3))}
    held = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "g", inputs, [output], held)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "two.onnx")
    left, days = draw.standard_normal((64, 4)).astype(np.float32), draw.integers(0, 3, (64, 3))
    np.savez(folder / "both.npz", left=left, days=days, y=draw.integers(0, 3, 64))
    np.savez(folder / "one.npz", left=left)
    for command in (("convert", "two.onnx"), ("calibrate",), ("evaluate", "--timesteps", "4")):
        result = run(*command, "--data", "both.npz")
        assert result.code == 0, result.err
        assert_error(run(*command, "--data", "one.npz"), 5, "no array days, only: left @ one.npz", "days=...")
    assert_error(run("convert", "two.onnx", "--input-shape", "4"), 3, "for 2 inputs", "--input-shape left=4")
    assert_error(run("convert", "two.onnx", "--input-shape", "days=4"), 3, "takes 3, not 4 of its input 'days'")
    assert_error(run("convert", "two.onnx", "--input-shape", "days=3", "--input-shape", "4"), 2, "without its input")
    assert run("inspect", "two.onnx", "--input-shape", "left=4", "--input-shape", "days=3").code == 0


def test_recordings_of_events_from_the_shell(run: Run, folder: Path) -> None:
    """Calibrated and judged on folders of recordings, as snnc.yaml says how; the artifact keeps it."""
    for index in range(40):
        rows = recording_files.events(60, seed=index)
        rows[:, :2] %= 8
        path = folder / f"data/{index % 4}/{index:02}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        recording_files.nmnist(path, rows)
    (folder / "snnc.yaml").write_text(
        "recipe: quick\nneuron: if\ntimesteps: 2\nframes: hold\n"
        "preprocessing: {events: {frames: 3, polarity: sum, sensor: [8, 8]}}\n"
        "calibration: {data: data}\nevaluation: {data: data}\n"
    )
    assert run("convert", DIGITS / "model.onnx", "--data", "data", "--part", "train", "-q").code == 0
    kept = load_conversion(folder / "model.snn")
    assert kept.schedule == Schedule(2, frames="hold")
    assert kept.preprocessing.events == EventFrames(frames=3, polarity="sum", sensor=(8, 8))
    assert "events (frames 3, bins time, start event, voxel false, polarity sum" in run("inspect", "model.snn").out
    assert kept.provenance.calibration is not None and kept.provenance.calibration.images == 36
    result = run("evaluate", "model.snn", "--part", "test")
    assert result.code == 0 and result.out.startswith("4 samples")
    assert "each of 3 frames" in result.out and "events were read from N-MNIST" in result.out
    data = run("evaluate", "model.snn", "--event-frames", "5", "--reference", "sum", "--json").data()
    assert (data["samples"], data["preprocessing"]["reference"]) == (40, "sum")
    assert data["preprocessing"]["events"]["frames"] == 5
    assert any("the sum of 5 frames" in finding["message"] for finding in data["findings"])
    assert_error(run("evaluate", "model.snn", "--blame"), 2, "sees each frame", "--blame", "--reference sum")
    assert run("evaluate", "model.snn", "--blame", "--reference", "sum").code == 0
    for kind in ("onnx", "torch"):
        exported = run(
            "export",
            "model.snn",
            "--format",
            kind,
            "--verify",
            "--data",
            "data",
            "--limit",
            "12",
            "-o",
            f"x.{kind}",
            "--json",
        )
        assert exported.code == 0, exported.err
    (folder / "data/2/02.bin").write_bytes(b"cut short")
    before = (folder / "model.report.json").read_bytes()
    assert_error(run("evaluate", "model.snn"), 5, "ends within an event", "data/2/02.bin", "fetch it again")
    assert (folder / "model.report.json").read_bytes() == before
    assert_error(run("evaluate", "model.snn", "--event-frames", "0"), 2, "frames must be at least 1")
    assert_error(run("evaluate", "model.snn", "--preprocessing", "cifar10-dvs"), 5, "[18, 224, 224]", "but the network")
