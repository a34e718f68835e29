"""Sections and blocks: one file adds a section to every form of a report, and every face shows every block."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Self
from xml.etree import ElementTree

import jsonschema
import pytest
from rich.console import Console

import snnc
from snnc import pipeline, recipe
from snnc.blocks import (
    Bar,
    Bars,
    Bins,
    Block,
    Cell,
    Check,
    Checks,
    Column,
    Curve,
    Curves,
    Drawing,
    Fact,
    Facts,
    Flow,
    Flows,
    Fold,
    Gallery,
    Key,
    Line,
    Lines,
    Listing,
    Map,
    Missing,
    Panel,
    Pictures,
    Plot,
    Raster,
    Remark,
    Remarks,
    Scatter,
    Shares,
    SideBySide,
    Table,
    Text,
    Thumbnail,
    Tile,
)
from snnc.conversion import Conversion
from snnc.errors import DataError
from snnc.report import Report, completed
from snnc.report.data import parsed, plain, read, schema, write
from snnc.report.faces import faces, markdown, notebook, plots, terminal
from snnc.report.sections import Known, Section, sections, told
from tests.test_report import DIGITS, PREPROCESSING

DRAWINGS: tuple[Drawing, ...] = (
    Curves((1, 2), (Curve((0.5, None), ((0.1, 0.9), None)),), ((0.7, "limit"),), "T"),
    Shares((Bins(0.0, 1.0, (1, 0, 3)),), "thresholds", mark=1.0),
    Bars((Bar("bar", (1.0,), (0.5, 1.5)),), ("spiking",), "µJ"),
    Scatter(((0.0, 0.1), (1.0, 0.9)), "trained network"),
    Lines((Line("one", ((1.0, 0.5), (2.0, 0.7)), (None, 0.1), 0),), "steps", doubling=True),
    Raster(((0, 1, -1), (1, 0, 0)), (3, 5), "step"),
    Flows(("image", "Relu", "out"), (Flow("image", "Relu", "", None), Flow("Relu", "out", "1,234", 1.0))),
)
BLOCKS: tuple[Block, ...] = (
    Text("paragraph"),
    Listing(("  one: line", "two: lines")),
    Missing("nothing was weighed", "snnc weigh"),
    Facts((Fact("weight", "3 kg", "about"),)),
    Table(
        "caption",
        (
            Column("name", "layer"),
            Column("size", short="s", about="in cm", bracketed=True),
            Column("left out", short=None),
        ),
        ((Cell("Relu"), Cell("1.5", interval=("1.0", "2.0")), Cell("wide")),),
    ),
    *(Plot(f"plot {index}", drawing, "in words", (Key("spiking", "ours"),)) for index, drawing in enumerate(DRAWINGS)),
    Pictures("a picture", "picture-1", "AAAA", (4, 2), (Panel("seen", ((0.0, 0.5, 1.0, 1.0, "cat"),)),)),
    Gallery("some", (Thumbnail("a.png", ("cat → dog", "label cat, lost"), "AAAA"),)),
    SideBySide((Text("on the left"), Text("on the right"))),
    Fold("folded", (Text("inside"),), "note", "place"),
    Map((Tile("Relu", "5 %", "place", 1),), ("below", "above")),
    Checks("scale", (Check("weighs little", "failed", "weighs much", "3 kg"),)),
    Remarks("uncalibrated", "warning", (Remark("too heavy", "eat less", ("Relu",)),), (Fact("Cause", "cake"),)),
)


def kinds(root: type) -> set[type]:
    return {kind for direct in root.__subclasses__() for kind in (direct, *kinds(direct))}


@pytest.fixture(scope="module")
def made() -> tuple[Conversion, Report]:
    return snnc.convert(
        DIGITS / "model.onnx",
        recipe.load("quick", timesteps=2),
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
        reading=pipeline.Reading(limit=24),
    )


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> type[Section]:
    """A section as a plug-in would bring it, with data of its own and a block of every kind."""

    @dataclass(frozen=True)
    class Silence(Section):
        """How many neurons fired for none of the images."""

        title: ClassVar[str] = "Silence in the network"
        label: ClassVar[str] = "Silence"
        order: ClassVar[int] = 45
        evaluated: ClassVar[bool] = True

        neurons: int
        layers: tuple[str, ...] = ()

        @classmethod
        def of(cls, known: Known) -> Self | None:
            if known.measured is None:
                return None
            silent = {name: int((spikes == 0).sum()) for name, spikes in known.measured.spikes.items()}
            return cls(sum(silent.values()), tuple(name for name, count in silent.items() if count))

        def blocks(self, report: Report) -> Iterator[Block]:
            yield Text(f"{self.neurons} neurons of {report.summary.neurons} are silent")
            yield from BLOCKS

    assert len(sections) > 5
    monkeypatch.setitem(sections._members, "silence", Silence)
    return Silence


def lines(report: Report, *, evaluated: bool = False) -> str:
    console = Console(width=200, file=StringIO())
    with console.capture() as captured:
        console.print(terminal.rendered(terminal.lines(report, evaluated=evaluated)))
    return captured.get()


def test_every_kind_of_block_is_tried_here() -> None:
    assert {type(block) for block in BLOCKS} == kinds(Block)
    assert {type(drawing) for drawing in DRAWINGS} == kinds(Drawing)


def test_every_face_has_a_rule_for_every_block() -> None:
    assert not terminal.show.missing(kinds(Block))
    assert not markdown.show.missing(kinds(Block))
    assert not plots.draw.missing(kinds(Drawing))
    assert all(isinstance(part, str) for block in BLOCKS for part in notebook.show(block))


def test_one_class_adds_a_section_to_every_form_of_a_report(
    silence: type[Section], made: tuple[Conversion, Report], tmp_path: Path
) -> None:
    conversion, _ = made
    _, report = snnc.convert(
        DIGITS / "model.onnx",
        recipe.load("quick", timesteps=2),
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
        reading=pipeline.Reading(limit=24),
    )
    # Drawing takes the time: one layer shows what four do.
    summary = dataclasses.replace(report.summary, layers=1)
    report = dataclasses.replace(report, layers=report.layers[:1], summary=summary)
    data = plain(report)
    assert set(data["silence"]) == {"neurons", "layers"} and data["silence"]["neurons"] > 0
    assert schema()["properties"]["silence"]["properties"]["neurons"]["type"] == "integer"
    jsonschema.validate(data, schema())
    path = tmp_path / "model.report.json"
    write(report, path)
    assert read(path).sections["silence"] == report.sections["silence"]
    # What was measured stays when nothing new is.
    assert completed(conversion, path).sections["silence"] == report.sections["silence"]
    said = f"{data['silence']['neurons']} neurons of 2112 are silent"
    page, card, text = faces["html"](report), faces["markdown"](report), lines(report)
    assert '<a href="#silence">Silence</a>' in page and '<section id="silence">' in page
    for shown in (page, card, text, lines(report, evaluated=True)):
        assert said in shown
        for word in ("paragraph", "  one: line", "3 kg", "1.5", "inside", "on the right", "weighs much", "too heavy"):
            assert word in shown, word
    assert "in cm" in text and "wide" not in text and "s = in cm; brackets = 95 % interval" in text
    assert "wide" in page and "wide" in card
    assert page.count("<svg") - faces["html"](dataclasses.replace(report, sections={})).count("<svg") >= len(DRAWINGS)
    assert "## Silence in the network" in card
    suite = next(suite for suite in ElementTree.fromstring(faces["junit"](report)) if suite.get("name") == "scale")
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    # In its order, behind the network and right before the blame.
    names = [*told(report)]
    assert names.index("network") < names.index("silence") == names.index("blame") - 1


def test_a_section_that_is_not_known_or_was_not_measured_is_left_out(
    made: tuple[Conversion, Report], silence: type[Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, report = made
    # Made before the section was there: it has no data, and its fields no defaults.
    assert "silence" not in told(report)
    assert "Silence" not in faces["html"](report)
    data = {**plain(report), "silence": {"neurons": 3, "layers": []}}
    assert parsed(data, "r.json").sections["silence"] == silence(3)  # type: ignore[call-arg]
    with pytest.raises(DataError, match=r"damaged report: silence\.neurons: .* @ r\.json"):
        parsed({**data, "silence": {"neurons": "3"}}, "r.json")
    monkeypatch.delitem(sections._members, "silence")
    other = parsed(data, "r.json")
    assert "silence" not in other.sections
    # Whoever measures something else later does not lose it.
    assert plain(dataclasses.replace(other, evaluation=None)) == data


def test_outputs_are_the_section_of_their_own_data(made: tuple[Conversion, Report]) -> None:
    _, report = made
    assert len(plain(report)["outputs"]["pairs"]) == 240
    assert json.loads(json.dumps(plain(report)))["summary"].keys().isdisjoint({"outputs", "pairs"})


@pytest.mark.parametrize("name", sections)
def test_every_section_keeps_to_what_reports_ask_of_it(name: str) -> None:
    kind = sections[name]
    assert kind.title and isinstance(kind.order, int)
    assert name.isidentifier() and not kind.__abstractmethods__
    if dataclasses.fields(kind):
        # Nobody would ever make it, or its data would take the place of what reports have already.
        assert kind.of.__func__ is not Section.of.__func__  # type: ignore[attr-defined]
        assert name not in {field.name for field in dataclasses.fields(Report)}


def test_sections_have_an_order() -> None:
    orders = [kind.order for kind in sections.values()]
    assert len(orders) > 5 and len(set(orders)) == len(orders)


def test_blocks_are_known_without_torch_and_without_a_terminal() -> None:
    program = "import sys, snnc.blocks; assert not {'torch', 'rich', 'matplotlib'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program], check=True)


def at(width: int, block: Block, **how: Any) -> str:
    console = Console(width=width, file=StringIO(), **how)
    with console.capture() as captured:
        console.print(terminal.rendered([block]))
    return captured.get()


def test_a_table_that_is_too_wide_is_told_in_parts() -> None:
    titles = ("T", "accuracy", "agreement", "energy", "spikes", "operations")
    rows = tuple((Cell(str(row)), *(Cell(f"{row}{column}.5") for column in range(5))) for row in (1, 2))
    table = Table("", tuple(map(Column, titles)), rows)
    assert len(at(60, table).splitlines()) == 3
    lines = at(30, table).splitlines()
    assert max(map(len, lines)) <= 30 and [line.split() for line in lines if line.strip()] == [
        ["T", "accuracy", "agreement", "energy"],
        ["1", "10.5", "11.5", "12.5"],
        ["2", "20.5", "21.5", "22.5"],
        ["T", "spikes", "operations"],
        ["1", "13.5", "14.5"],
        ["2", "23.5", "24.5"],
    ]
    # Where two columns have no room, each cell has its title.
    named = Table("", (Column("name", "layer"), Column("accuracy")), ((Cell("x" * 20), Cell("10.5")),))
    assert [line.strip() for line in at(25, named).splitlines()] == [f"name {'x' * 20}", "accuracy 10.5"]


def test_words_of_a_table_go_on_in_the_next_line() -> None:
    words = "thresholds of these layers are those of the channels before"
    table = Table("", (Column("why", "words"), Column("size")), ((Cell(words), Cell("12,345")),))
    lines = at(50, table).splitlines()
    assert len(lines) == 3 and lines[0].split() == ["why", "size"]
    assert (
        lines[1].rstrip().endswith("12,345") and f"{lines[1].rsplit('12,345')[0].strip()} {lines[2].strip()}" == words
    )


def test_verdicts_have_colors_where_there_are_any() -> None:
    checks = Checks(
        "gate", (Check("", "failed", "1 of 2"), Check("", "not proven", "2 of 3"), Check("", "passed", "3"))
    )
    table = Table("", (Column("verdict", "verdict"),), ((Cell("failed"),), (Cell("passed"),)))
    for block, colors in ((checks, 3), (table, 2)):
        colored = at(80, block, force_terminal=True, color_system="standard")
        assert colored.count("\x1b[1;31mfailed") == 1 and colored.count("\x1b[32mpassed") == 1
        assert len(re.findall(r"\x1b\[(?:1;)?3\dm", colored)) == colors
        for plainly in ({"force_terminal": True, "color_system": "standard", "no_color": True}, {}):
            assert not re.search(r"\x1b\[(?:1;)?3\dm", at(80, block, **plainly))
