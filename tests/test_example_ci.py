"""The CI example, run as a runner would."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from snnc import cli

EXAMPLES = Path(__file__).parent.parent / "examples"


# In the place of snnc: it writes down what it was asked for, and the files, and judges as it was told to.
PRETENDED = """#!/bin/sh
echo "$@" >> asked
for word in "$@"; do
    case "$word" in *.html | *.md | *.xml) touch "$word" ;; esac
done
[ "$1" != "$FAILING" ] || exit 4
"""


def run(folder: Path, snnc: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Threads that wait for one another cost more than they bring on a network this small.
    own = {**os.environ, "PATH": f"{snnc.parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    own.pop("GITHUB_STEP_SUMMARY", None)
    own |= environment
    command = ["sh", str(EXAMPLES / "ci" / "convert.sh"), *arguments]
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=300, check=False)


def pretended(folder: Path) -> Path:
    program = folder / "bin" / "snnc"
    program.parent.mkdir()
    program.write_text(PRETENDED)
    program.chmod(0o755)
    return program


def test_the_script_converts_gates_compares_and_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    project, summary = tmp_path / "digits", tmp_path / "summary.md"
    shutil.copytree(EXAMPLES / "digits", project)
    # It is about what comes around, not about how good a network becomes: some images of each digit are enough.
    for images in (project / "calibration", *(project / "test").iterdir()):
        for image in sorted(images.iterdir())[16 if images.name == "calibration" else 4 :]:
            image.unlink()
    settings = project / "snnc.yaml"
    settings.write_text(settings.read_text() + "recipe: quick\ntimesteps: 4\n")
    # What was accepted last time.
    monkeypatch.chdir(project)
    output = project / "out"
    output.mkdir()
    for command in (["convert", "-o", "before.snn"], ["calibrate", "before.snn"], ["evaluate", "before.snn"]):
        assert cli.main([*command, "-q"]) == 0
    Path("before.report.json").rename(output / "accepted.report.json")
    # What the script asks for is asked in this process: in the script, each command would read torch again.
    done = run(project, pretended(tmp_path), "out", "--max-drop", "5%", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stderr
    for path in {*output.iterdir()} - {output / "accepted.report.json"}:
        path.unlink()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    capsys.readouterr()
    for line in (project / "asked").read_text().splitlines():
        assert cli.main(line.split()) == 0
    assert "error: " not in capsys.readouterr().err
    written = {"model.snn", "model.report.json", "report.html", "report.md", "gates.xml", "findings.sarif", "diff.md"}
    assert {path.name for path in output.iterdir()} == {*written, "accepted.report.json"}
    assert summary.read_text() == (output / "report.md").read_text()
    suites = {suite.get("name"): suite for suite in ElementTree.parse(output / "gates.xml").getroot()}
    assert [case.get("name") for case in suites["gates"]] == ["max-drop at T=4"]
    assert len(suites["layers"]) == len(json.loads((output / "model.report.json").read_text())["layers"])
    found = json.loads((output / "findings.sarif").read_text())
    assert found["version"] == "2.1.0"
    (scan,) = found["runs"]
    rules = [rule["id"] for rule in scan["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in scan["results"])


def test_the_script_fails_as_its_commands_do_and_publishes_all_the_same(tmp_path: Path):
    program = pretended(tmp_path)

    def asked(output: str, failing: str = "none") -> tuple[int, list[str]]:
        told = tmp_path / "asked"
        told.unlink(missing_ok=True)
        done = run(tmp_path, program, output, "--max-spikes", "1", FAILING=failing)
        return done.returncode, [line.split()[0] for line in told.read_text().splitlines()]

    # With nothing to compare with, nothing is compared.
    assert asked("first") == (0, ["convert", "calibrate", "evaluate"])
    assert "evaluate first/model.snn --blame --max-spikes 1 --html" in (tmp_path / "asked").read_text()
    assert asked("failed", "evaluate") == (4, ["convert", "calibrate", "evaluate"])
    assert {"report.html", "gates.xml"} <= {path.name for path in (tmp_path / "failed").iterdir()}
    (tmp_path / "first" / "accepted.report.json").touch()
    assert asked("first") == (0, ["convert", "calibrate", "evaluate", "diff"])
    assert asked("first", "evaluate") == (4, ["convert", "calibrate", "evaluate"])
    assert asked("first", "diff") == (4, ["convert", "calibrate", "evaluate", "diff"])
    assert asked("first", "calibrate") == (4, ["convert", "calibrate"])
    assert run(tmp_path, program).returncode == 2


def test_the_workflow_runs_the_script_and_publishes_what_it_writes():
    workflow = yaml.safe_load((EXAMPLES / "ci" / "snnc.yml").read_text())
    steps = workflow["jobs"]["convert"]["steps"]
    (script,) = (step["run"] for step in steps if "convert.sh" in step.get("run", ""))
    command = script.split()
    assert command[:2] == ["sh", "convert.sh"]
    published = [str(step["with"]) for step in steps if step.get("if", "").startswith("always()")]
    assert all(f"/{command[2]}" in what for what in published) and len(published) == 2
    flags = re.findall(r"--[\w-]+", script + (EXAMPLES / "ci" / "convert.sh").read_text())
    assert {"--max-drop", "--junit", "--sarif", "--github-summary"} <= set(flags)
