"""Figures: each is described once, and whatever is made of it follows."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from snnc import cli, project
from snnc.blocks import Curves, Plot, SideBySide, Table
from snnc.errors import DataError
from snnc.figure import Figure, Limit, Tolerance, Trend
from snnc.measure import figures, gates
from snnc.measure.gates import Limits, Tolerances
from snnc.report.comparison import compare
from snnc.report.data import Report
from snnc.report.faces import faces, seen
from snnc.report.faces.terminal import lines
from tests.support import row as blank
from tests.test_diff import report, row

ADDITIONS = Figure(
    name="additions made",
    of=frozenset({"row"}),
    value=lambda subject: subject.synaptic_operations,
    better=-1,
    limit=Limit("max-additions", "Most additions per image.", "N", "1000", "nothing was run"),
    tolerance=Tolerance("more_additions", "Most additional additions.", "PERCENT", 25.0, relative=True),
    short="made",
    trend=Trend("Additions made per image"),
)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Figure:
    monkeypatch.setattr(figures, "_figures", dict(figures._figures))
    return figures.register(ADDITIONS)


def test_there_are_figures_of_every_subject() -> None:
    for subject in ("network", "row", "layer"):
        assert len(figures.figures(subject)) > 3
    answers = {"max-drop", "min-agreement", "max-relative-error", "min-cosine", "min-psnr"}
    assert {
        *answers,
        "max-energy-ratio",
        "max-arithmetic-ratio",
        "max-spikes",
        "max-layer-error",
        "max-mean-steps",
        "min-spike-driven",
    } == set(figures.limits())


@pytest.mark.parametrize("figure", figures.figures(), ids=lambda figure: figure.name)
def test_a_figure_that_nobody_measured_is_not_there(figure: Figure) -> None:
    class Unmeasured:
        energy = None

    assert figure.value(Unmeasured()) is figure.interval(Unmeasured()) is None


@pytest.mark.parametrize("name", figures.limits())
def test_the_example_of_a_limit_is_one_and_nonsense_is_none(name: str) -> None:
    key = name.replace("-", "_")
    for limit in figures.limits()[name]:
        assert limit.help.endswith(".")
        assert Limits(**{key: float(limit.example)})[name] == float(limit.example)
    for nonsense in (math.nan, math.inf, "x", "", "%"):
        with pytest.raises(ValueError, match=f"is no limit for {name}: give "):
            Limits(**{key: nonsense})


def test_a_percent_sign_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(ValueError, match="no limit for max-spikes: give a number from 0"):
        Limits(max_spikes="2%")
    with pytest.raises(TypeError, match="no limit is called 'max-spike'"):
        Limits(max_spike=2)
    with pytest.raises(TypeError, match="no tolerance is called 'spikes'"):
        Tolerances(spikes=2)


def test_names_are_taken_once_and_say_which_way_they_limit(registered: Figure) -> None:
    with pytest.raises(ValueError, match="two figures are called 'additions made'"):
        figures.register(registered)
    with pytest.raises(ValueError, match="neither min- nor max-"):
        Limit("additions", "", "N", "1", "")
    with pytest.raises(ValueError, match="limits what is good"):
        dataclasses.replace(registered, better=1)


def test_a_figure_brings_its_flags(registered: Figure, capsys: pytest.CaptureFixture[str]) -> None:
    for command, flag, words in (
        ("evaluate", "--max-additions N", "Most additions per image."),
        ("diff", "--max-more-additions PERCENT", "Most additional additions. Default: 25."),
    ):
        assert cli.main([command, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"{flag} {words}" in said


def test_a_figure_brings_its_key_in_the_project_file(registered: Figure, tmp_path: Path) -> None:
    assert "#   max-additions: 1000  # most additions per image\n" in project.template()
    (tmp_path / "snnc.yaml").write_text("gates: {max-additions: 5}")
    read = project.read(tmp_path)
    assert read.gates == Limits(max_additions=5.0)
    assert read.gates.on(registered) == 5.0


def test_a_figure_brings_its_gate(registered: Figure) -> None:
    rows = [row(2, synaptic_operations=90.0), row(4, synaptic_operations=110.0)]
    found = gates.judged(rows, 400, Limits(max_additions=100))
    assert [(gate.name, gate.timesteps, gate.measured, gate.limit) for gate in found] == [
        ("max-additions", 2, 90.0, 100.0),
        ("max-additions", 4, 110.0, 100.0),
    ]
    with pytest.raises(DataError, match="--max-additions cannot be judged: nothing was run"):
        gates.judged([blank()], 400, Limits(max_additions=100))


def evaluated(registered: Figure) -> Report:
    interval = dataclasses.replace(registered, interval=lambda subject: (subject.synaptic_operations,) * 2)
    figures._figures[registered.name] = interval
    rows = (row(4, synaptic_operations=110.0), row(8, synaptic_operations=220.0))
    whole = report(*rows, layers=())
    assert whole.evaluation is not None
    judged = gates.judged(rows[:1], 400, Limits(max_additions=100))
    return dataclasses.replace(whole, evaluation=dataclasses.replace(whole.evaluation, gates=judged))


def test_a_figure_brings_its_test_case_and_its_line_its_column_and_its_plot_on_every_face(registered: Figure) -> None:
    found = evaluated(registered)
    cases = ElementTree.fromstring(faces["junit"](found)).iter("testcase")
    (case,) = [case for case in cases if case.get("name") == "max-additions at T=4"]
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "max-additions at T=4: measured 110.0 [110.0, 110.0], allowed 100"
    page, card = (faces[face](found) for face in ("html", "markdown"))
    assert "max-additions" in page and "max-additions" in card
    assert "| additions made |" in card
    assert '<th scope="col" class="number">additions made</th>' in page
    assert "Additions made per image, against all steps from image to answer. T=4, 20 steps: 110.0 (110.0 to" in page


def test_a_figure_brings_its_column_at_the_terminal(registered: Figure) -> None:
    blocks = lines(evaluated(registered), evaluated=True)
    (table,) = [block for block in blocks if isinstance(block, Table) and block.columns[0].title == "T"]
    (column,) = [column for column in table.columns if column.title == "additions made"]
    assert column.short == "made"


def test_a_limit_on_the_drop_is_drawn_below_the_accuracy_of_the_trained_network() -> None:
    relative = {"relative_drop": 3.0, "relative_drop_interval": (2.0, 4.0)}
    rows = (row(4, **relative), row(8, hits=390, **relative))
    for limit, height in (("2%", 98 * 0.98), (1.5, 96.5)):
        judged = gates.judged([*rows], 400, Limits(max_drop=limit, min_agreement=90))
        whole = report(*rows, layers=())
        assert whole.evaluation is not None
        found = dataclasses.replace(whole, evaluation=dataclasses.replace(whole.evaluation, gates=judged))
        plots = [block for _, _, blocks in seen(found, "page") for block in blocks if isinstance(block, SideBySide)]
        drawn = {plot.title: plot.drawing for plot in plots[0].blocks if isinstance(plot, Plot)}
        levels = {title: drawing.levels for title, drawing in drawn.items() if isinstance(drawing, Curves)}
        assert levels["Accuracy, %"] == ((98.0, "trained"), (pytest.approx(height), "limit"))
        assert levels["Agreement with the trained network, %"] == ((90.0, "limit"),)
        assert levels["Energy of arithmetic, trained network = 1"] == ((1.0, "trained"),)


def test_a_figure_brings_its_tolerance(registered: Figure) -> None:
    old, new = (report(row(synaptic_operations=operations)) for operations in (100.0, 120.0))
    for tolerances, worse in ((Tolerances(), []), (Tolerances(more_additions=10), ["additions made"])):
        compared = compare(old, new, tolerances)
        assert [change.name for change in compared.worse] == worse
        assert json.loads(json.dumps(compared.plain()))["tolerances"]["more_additions"] == tolerances["more_additions"]
    assert Tolerances()["more_additions"] == 25.0


@pytest.mark.parametrize("made", [lambda: Limits(max_drop="1%"), lambda: Tolerances(more_spikes=3)])
def test_what_was_stated_is_equal_to_itself_and_can_be_shown(made: Callable[[], object]) -> None:
    assert made() == made()
    assert "1%" in repr(made()) or "3" in repr(made())
