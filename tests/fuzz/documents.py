"""Recipes, project files and reports: good ones with other values, and texts that only look like them."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from snnc import project, recipe
from snnc.actions.evaluate import evaluate
from snnc.report import completed, to_json
from snnc.report.comparison import Tolerances, compare
from snnc.report.data import read
from snnc.report.faces import faces
from snnc.validation import keys
from tests.fuzz.artifacts import conversion
from tests.fuzz.numbers import damaged, names, places, plain, replaced, scalars
from tests.fuzz.oracle import Files, Kind

_TEXTS = st.one_of(
    st.text("{}[]:-&*!|>'\"#%@,? \nab1_.0x~", max_size=60),
    st.sampled_from(
        ["!!int x", "&a [*a]", "[" * 70, "a: &a [*a]", "1_0", "2001-12-14", "!!python/name:os.system", "x: " * 60]
    ),
)


@st.composite
def _yaml(draw: st.DrawFn, data: Any) -> bytes:
    for _ in range(draw(st.integers(0, 2))):
        data = replaced(data, draw(st.sampled_from(places(data))), draw(plain))
    text = yaml.safe_dump(data, sort_keys=False)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_TEXTS) + text[at:]
    return draw(damaged(text.encode(errors="replace"), 1))


@st.composite
def recipes(draw: st.DrawFn) -> Files:
    name = draw(st.sampled_from(recipe.shipped()))
    return {"r.yaml": draw(_yaml(recipe.load(name).plain()))}


@st.composite
def projects(draw: st.DrawFn) -> Files:
    known = keys(project.Project)
    data = {
        draw(st.sampled_from(known)): draw(st.one_of(scalars, plain, st.dictionaries(names, scalars, max_size=3)))
        for _ in range(draw(st.integers(0, 4)))
    }
    return {project.FILE: draw(_yaml(data))}


def examine_recipe(folder: Path) -> None:
    """Read it, as a file and on top of another."""
    recipe.load(str(folder / "r.yaml"))


def examine_project(folder: Path) -> None:
    """Read it."""
    project.named_plugins(folder)
    project.read(folder)


@cache
def _report() -> str:
    made = conversion()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.npz")
        random = np.random.default_rng(0)
        np.savez(path, x=random.normal(size=(12, 3, 6, 6)).astype(np.float32), y=random.integers(0, 3, 12))
        return to_json(completed(made, Path(folder, "none"), evaluation=evaluate(made, data=path, timesteps=[2, 3])))


@st.composite
def reports(draw: st.DrawFn) -> Files:
    data = json.loads(_report())
    for _ in range(draw(st.integers(0, 3))):
        data = replaced(data, draw(st.sampled_from(places(data))), draw(plain))
    text = json.dumps(data).encode()
    return {"r.json": draw(damaged(text)) if draw(st.integers(0, 9)) == 0 else text, "base.json": _report().encode()}


def examine_report(folder: Path) -> None:
    """Read it, tell it in every face but those that take long, and compare it with a good one."""
    report = read(folder / "r.json")
    for name in ("markdown", "junit", "sarif"):
        faces[name](report)
    compare(read(folder / "base.json"), report, Tolerances())
    compare(report, read(folder / "base.json"), Tolerances())


KINDS = [
    Kind("recipe", recipes(), examine_recipe),
    Kind("project", projects(), examine_project),
    Kind("report", reports(), examine_report),
]
