"""The examples are small, and do what their READMEs say."""

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import EXAMPLES, READMES, blocks, forgotten, run

FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())

pytestmark = pytest.mark.usefixtures("trained_shortly")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_an_example_is_small(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_an_example_does_what_it_says(readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = readme.parent.name
    if name == "detector" and importlib.util.find_spec("pycocotools") is None:
        pytest.skip("the extra snnc[detection] is not installed")
    if name == "device" and shutil.which("cc") is None:
        pytest.skip("there is no compiler")
    shutil.copytree(EXAMPLES / "digits", tmp_path / "digits")
    if name != "digits":
        shutil.copytree(readme.parent, tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    names: dict[str, Any] = {"__name__": "__main__"}
    with forgotten():
        for block in blocks(readme):
            run(block, names)


def test_the_jobs_of_ci_run_the_script_and_keep_what_it_writes() -> None:
    """What GitLab is told is what GitHub is told, whose workflow is run in test_example_ci."""
    job = yaml.safe_load((EXAMPLES / "ci" / "gitlab-ci.yml").read_text(encoding="utf-8"))["convert"]
    workflow = (EXAMPLES / "ci" / "snnc.yml").read_text(encoding="utf-8")
    (line,) = (line for line in job["script"] if "convert.sh" in line)
    assert line in workflow and all(one in workflow for one in job["script"] if one.startswith("pip"))
    assert job["artifacts"]["when"] == "always"
    output = line.split()[2]
    kept = [*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()]
    assert all(re.match(rf"\$PROJECT/{output}(/|$)", path) for path in kept)
