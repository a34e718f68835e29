"""The CI example, run as a runner would."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Threads that wait for one another cost more than they bring on a network this small.
    own = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    own.pop("GITHUB_STEP_SUMMARY", None)
    own |= environment
    command = ["sh", str(EXAMPLES / "ci" / "convert.sh"), *arguments]
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("snnc", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("snnc is not installed beside this Python")
    folder = tmp_path_factory.mktemp("ci") / "digits"
    shutil.copytree(EXAMPLES / "digits", folder)
    settings = folder / "snnc.yaml"
    # Nothing is trained: the example is about what comes around.
    settings.write_text(settings.read_text() + "recipe: quick\ntimesteps: 4\n")
    return folder


def test_the_script_converts_gates_and_publishes(project: Path, tmp_path: Path):
    summary = tmp_path / "summary.md"
    done = run(project, "out", "--max-drop", "5%", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    output = project / "out"
    names = {path.name for path in output.iterdir()}
    assert names == {"model.snn", "model.report.json", "report.html", "report.md", "gates.xml", "findings.sarif"}
    assert summary.read_text() == (output / "report.md").read_text()
    suites = {suite.get("name"): suite for suite in ElementTree.parse(output / "gates.xml").getroot()}
    assert [case.get("name") for case in suites["gates"]] == ["max-drop at T=4"]
    assert len(suites["layers"]) == len(json.loads((output / "model.report.json").read_text())["layers"])
    found = json.loads((output / "findings.sarif").read_text())
    assert found["version"] == "2.1.0"
    (scan,) = found["runs"]
    rules = [rule["id"] for rule in scan["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in scan["results"])
    # The same again, beside what was accepted.
    (output / "accepted.report.json").write_text((output / "model.report.json").read_text())
    again = run(project, "out", "--max-drop", "5%")
    assert again.returncode == 0, again.stderr
    assert (output / "diff.md").exists()


def test_a_failed_gate_fails_the_script_and_publishes_all_the_same(project: Path):
    done = run(project, "failed", "--max-spikes", "1")
    assert done.returncode == 4
    assert done.stderr.startswith("error: gate failed: max-spikes at T=4: measured ")
    assert {"report.html", "gates.xml"} <= {path.name for path in (project / "failed").iterdir()}
    assert run(project).returncode == 2


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
