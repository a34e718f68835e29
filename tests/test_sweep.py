"""Sweeps: what is made and measured, kept line by line, gone on with, and told in tables and on a page."""

import csv
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnc
from snnc import cli
from snnc.actions.members import members
from snnc.actions.sweep import _Lines as Lines
from snnc.actions.sweep import combinations
from snnc.errors import DataError, StoppedError, UsageError
from snnc.report.sweep import Result, Sweep, entries

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, values: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(values)))


def samples(count: int = 45) -> tuple[Tensor, Tensor]:
    values = torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return values, Network()(values).argmax(1)


def swept(folder: Path, **asked: Any) -> Sweep:
    return snnc.sweep(Network(), data=samples(), folder=folder, **{"recipes": ["quick"], "timesteps": [2, 4]} | asked)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep") / "out"
    return swept(folder, recipes=["quick", "qcfs"], neurons=["if", "graded"], levels=[1, 3], seeds=[0, 1])


def test_every_combination_is_made_once() -> None:
    made = combinations(["quick", "qcfs"], ["if", "graded"], [1, 3], [2, 4], [0, 1])
    assert len(made) == 2 * 3 * 2 * 2 and [setting.seed for setting in made] == [0] * 12 + [1] * 12
    # Recipes that come to the same are made once, whatever they are called.
    assert len(combinations(["quick"], ["two-phase", ""], [], [2], [0])) == 1
    assert {setting.levels for setting in made if setting.neuron == "if"} == {None}


def test_all_that_is_asked_for_is_measured(found: Sweep) -> None:
    assert len(found.results) == 24 and len(found.groups) == 12
    assert found.measures == "accuracy" and found.trained == 100
    for group in found.groups:
        assert [result.seed for result in group.results] == [0, 1]
        assert all(result.samples == 15 for result in group.results)
        assert group.mean("score") is not None and group.deviation("score") is not None
    graded = [group for group in found.groups if group.title == "quick, graded, L=3"]
    assert [group.mean("levels") for group in graded] == [3, 3]
    # A single spiking layer, fed with constant currents, counts exactly what the quantized one computes.
    assert all(result.score == result.quantized for result in found.results if result.neuron == "if")


def test_everything_is_written(found: Sweep) -> None:
    files = {path.suffix: path for path in found.save()}
    with files[".csv"].open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24 and {row["recipe"] for row in rows} == {"quick", "qcfs"}
    plain = json.loads(files[".json"].read_text())
    assert len(plain["groups"]) == 12 and plain["groups"][0]["score_deviation"] is not None
    page = files[".html"].read_text()
    assert page.count("<svg") == 2 and "<script" not in page and "snnc sweep" in page
    for title in {group.title for group in found.groups}:
        assert page.count(f">{title}<") >= 2 and f"{title}: quantized" in page
    table = files[".tex"].read_text()
    assert table.count("\\\\\n") == 13 and table.count(" & ") == 13 * table.splitlines()[3].count(" & ")
    assert "\\pm" in table and not re.search(r"(?<!\\)%", table.partition("\n")[2])
    assert files[".md"].read_text().count("\n| ") == 14
    assert "@inproceedings{bu2022optimal" in files[".bib"].read_text()
    assert len(found._repr_html_()) > 1_000 and len(repr(found)) < 200
    assert [axes.get_xlabel()[:5] for axes in found.plot().axes] == ["steps", "energ"]


def test_all_papers_that_members_cite_have_an_entry() -> None:
    cited = {paper for kind in ("recipes", "neurons", "passes") for each in members(kind) for paper in each.papers}
    for paper, entry in zip(sorted(cited), entries(sorted(cited)), strict=True):
        assert f"  cited = {{{paper}}},\n" in entry and f"  year = {{{paper[-4:]}}},\n" in entry
    assert len(cited) > 15
    assert entries(["Somebody, 1999"]) == [
        "@misc{somebody1999,\n  author = {Somebody, 1999},\n  title = {Somebody, 1999},\n  year = {1999},\n}\n"
    ]


def test_what_is_done_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = swept(tmp_path)
    (lines,) = tmp_path.glob("*.jsonl")
    before = lines.read_bytes()
    # A line that was cut short, as by a power failure.
    lines.write_bytes(before + b'{"key": "cut')
    made: list[str] = []
    monkeypatch.setattr("snnc.actions.sweep._measured", lambda bench, setting, progress: measured(made, setting))
    again = swept(tmp_path, timesteps=[2, 4, 8])
    assert len(made) == 1 and again.results[:2] == first.results
    assert lines.read_bytes().startswith(before) and lines.read_bytes().count(b"\n") == before.count(b"\n") + 1


def measured(made: list[str], setting: Any) -> Result:
    made.append(setting.key)
    return Result(setting.key, setting.title, setting.recipe, setting.neuron, setting.seed, 8)


def test_what_is_done_stays_where_somebody_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def stopped(bench: Any, setting: Any, progress: Any) -> Result:
        if made:
            raise KeyboardInterrupt
        return measured(made, setting)

    monkeypatch.setattr("snnc.actions.sweep._measured", stopped)
    with pytest.raises(StoppedError, match=r"stopped: 1 of 2 are done, and kept @ .*\nhint: run it again to go on"):
        swept(tmp_path)
    monkeypatch.undo()
    assert swept(tmp_path).results[0].energy is None


def test_what_is_done_stays_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.fsync
    calls: list[int] = []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(number)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"No space left on device @ .*\.jsonl\nhint: free some .*: 1 that are done"):
        swept(tmp_path)
    monkeypatch.undo()
    (lines,) = tmp_path.glob("*.jsonl")
    assert lines.read_bytes().count(b"\n") == 2 and lines.read_bytes().endswith(b"\n")
    assert len(swept(tmp_path).results) == 2


def test_what_cannot_be_made_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    recipe = tmp_path / "bare.yaml"
    recipe.write_text("name: bare\npasses: [normalize-activations, substitute-neurons]\n")
    found = swept(tmp_path / "out", recipes=[str(recipe), "quick"], timesteps=[2])
    (failed,) = found.failed
    assert "an activation has no threshold yet" in failed.failed and len(found.groups) == 1
    assert "Not made" in found.page()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"recipes": []}, "nothing to sweep: no recipe @ --recipes"),
        ({"seeds": []}, "nothing to sweep: no seed @ --seeds"),
        ({"recipes": ["quik"]}, "unknown recipe 'quik'"),
        ({"neurons": ["iff"]}, "unknown neuron 'iff'"),
        ({"neurons": ["if"], "levels": [3]}, "no neuron here is made with levels @ --levels"),
        ({"timesteps": [0]}, "timesteps"),
    ],
)
def test_what_cannot_be_swept_is_one_line(asked: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        swept(tmp_path / "out", **asked)
    assert "\n" not in caught.value.line and not (tmp_path / "out").exists()


def test_another_sweep_is_not_mixed_in(tmp_path: Path) -> None:
    swept(tmp_path, timesteps=[2])
    with pytest.raises(UsageError, match="another sweep") as caught:
        snnc.sweep(Network(), data=samples(60), timesteps=[2], folder=tmp_path)
    assert caught.value.place.endswith("trials.jsonl")


def test_lines_that_are_no_results_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnc.actions.sweep._measured", lambda bench, setting, progress: measured([], setting))
    path = swept(tmp_path, timesteps=[2]).folder / "trials.jsonl"
    good = path.read_text()
    for line in ("no JSON", "[" * 100_000, "7", '{"key": 1e999}', '{"no": 1}'):
        path.write_text(f"{good}{line}\n")
        with pytest.raises(DataError, match="no result of a sweep") as caught:
            Lines(tmp_path, json.loads(good.partition("\n")[0]))
        assert caught.value.place.startswith(f"{path}:3") and caught.value.hint, line
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a file but a pipe"):
        Lines(tmp_path, {})


def test_one_command_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model, data = str(DIGITS / "model.onnx"), str(DIGITS / "calibration")
    flags = ["--data", data, "--neurons", "if, graded(levels=3, max-event=2)", "--timesteps", "2", "--limit", "30"]
    how = ["--mean", "0.31", "--std", "0.38", "--channels", "gray"]
    assert cli.main(["sweep", model, *flags, *how]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("2 spiking networks of 1 seed") and told[-1].startswith("written: model.sweep/sweep.csv")
    assert cli.main(["sweep", model, *flags, *how, "--recipes", " "]) == 2
    assert capsys.readouterr().err.startswith("error: nothing to sweep: no recipe @ --recipes")
