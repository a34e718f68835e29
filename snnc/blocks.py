"""What is told, as plain data: a face knows how to show every block, and nothing of what it is about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from snnc.intervals import Interval
from snnc.text import written

Entry = TypeVar("Entry")

# How much room a face has: some lines that go by, a card that is read to the end, or a page that is searched.
# Test cases, which only machines read, are a room of their own.
Room = Literal["lines", "card", "page", "cases"]

# What a color stands for in every plot.
Color = Literal["spiking", "trained", "limit"]

# What is said of something that was to be kept.
Verdict = Literal["passed", "failed", "not proven", "noted"]

UNKNOWN = "-"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Something to show. ``only`` are the rooms that it is for; () is for all of them."""

    only: tuple[Room, ...] = ()


@dataclass(frozen=True)
class Text(Block):
    """A paragraph; ``soft`` is one that only explains."""

    words: str
    soft: bool = False


@dataclass(frozen=True)
class Listing(Block):
    """Lines of a file, as they are."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Missing(Block):
    """What was not measured, and the command that measures it."""

    what: str
    command: str


@dataclass(frozen=True)
class Fact:
    """One figure with what it is called and what else there is to say of it; ``known`` is False of none."""

    name: str
    value: str
    detail: str = ""
    known: bool = True


@dataclass(frozen=True)
class Facts(Block):
    """Names and values: the ``key`` ones that decide, others, or some whose values come from ``outside``."""

    facts: tuple[Fact, ...]
    kind: Literal["key", "plain", "outside"] = "plain"


@dataclass(frozen=True)
class Column:
    """A column of a table. ``kind`` says what its cells are; those of ``layer`` and ``code`` come from outside.

    ``short`` is the title where there is little room ("" for the same, None to leave the column out), ``about`` what
    the title does not say, and ``bracketed`` says that intervals are worth their room there.
    """

    title: str
    kind: Literal["number", "words", "verdict", "layer", "code", "bar"] = "number"
    short: str | None = ""
    about: str = ""
    bracketed: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table, with the ends of its 95 % interval, and what else there is to say of it."""

    text: str
    detail: str = ""
    interval: tuple[str, str] | None = None

    @classmethod
    def of(
        cls, value: float | None, interval: Interval | None = None, unit: str = "", detail: str = ""
    ) -> "Cell | None":
        """Write a figure with its interval; None where it is not known."""
        if value is None:
            return None
        ends = None if interval is None else (written(interval[0], unit), written(interval[1], unit))
        return cls(written(value, unit), detail, ends)


@dataclass(frozen=True)
class Table(Block):
    """A table: ``rows`` has one cell for each of the columns; one that ``sorts`` can be read in the order of any."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sorts: bool = False

    @classmethod
    def of(
        cls,
        caption: str,
        columns: Sequence[tuple[Column, Callable[[Entry], Cell | str | None]]],
        entries: Sequence[Entry],
        *,
        only: tuple[Room, ...] = (),
        sorts: bool = False,
    ) -> "Table":
        """Build a table with a row for each entry; columns that say nothing of any entry are left out."""
        cells = [[said(entry) for entry in entries] for _, said in columns]
        kept = [index for index, column in enumerate(cells) if any(cell is not None for cell in column)]
        rows = zip(*(cells[index] for index in kept), strict=True)
        shown = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell or UNKNOWN) for cell in row) for row in rows)
        return cls(caption, tuple(columns[index][0] for index in kept), shown, sorts, only=only)


@dataclass(frozen=True)
class Drawing:
    """What a plot draws."""


@dataclass(frozen=True)
class Curve:
    """Values at each place, None where there is none, with their intervals."""

    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...] = ()
    color: Color = "spiking"


@dataclass(frozen=True)
class Curves(Drawing):
    """Values over steps or layers, and the levels that they are compared with.

    Places that double are as far apart where they are ``doubling``.
    """

    places: tuple[int, ...]
    curves: tuple[Curve, ...]
    levels: tuple[tuple[float, Color], ...]
    axis: str
    from_zero: bool = False
    doubling: bool = False


@dataclass(frozen=True)
class Bins:
    """How many values fell into each of equal bins from ``low`` to ``high``."""

    low: float
    high: float
    counts: tuple[int, ...]
    color: Color = "spiking"


@dataclass(frozen=True)
class Shares(Drawing):
    """How values are distributed, and a value to ``mark``."""

    bins: tuple[Bins, ...]
    axis: str
    mark: float | None = None


@dataclass(frozen=True)
class Bar:
    """A bar with a name: its parts one behind the other, or one with an interval."""

    name: str
    parts: tuple[float, ...]
    interval: Interval | None = None


@dataclass(frozen=True)
class Bars(Drawing):
    """Bars below one another; every part has one of the colors."""

    bars: tuple[Bar, ...]
    colors: tuple[Color, ...]
    axis: str


@dataclass(frozen=True)
class Scatter(Drawing):
    """Pairs of numbers, and the line on which both are the same."""

    pairs: tuple[tuple[float, float], ...]
    axis: str


@dataclass(frozen=True)
class Line:
    """Points of one kind, joined, with how far each varies to either side; ``hue`` counts from 0."""

    name: str
    points: tuple[tuple[float, float], ...]
    spreads: tuple[float | None, ...]
    hue: int
    dashed: bool = False


@dataclass(frozen=True)
class Lines(Drawing):
    """Many lines in one plot, each with its name; places that double are as far apart where they are ``doubling``."""

    lines: tuple[Line, ...]
    axis: str
    doubling: bool = False


@dataclass(frozen=True)
class Raster(Drawing):
    """Who fires when: a row for each neuron, the signed numbers of spikes at every step; ``names`` of the rows."""

    rows: tuple[tuple[int, ...], ...]
    names: tuple[int, ...]
    axis: str


@dataclass(frozen=True)
class Flow:
    """What goes from one stop to another: the ``share`` of the largest such amount, None where it is not known."""

    source: str
    target: str
    words: str
    share: float | None


@dataclass(frozen=True)
class Flows(Drawing):
    """Stops, each behind those that it follows, and what goes from one to the next."""

    stops: tuple[str, ...]
    flows: tuple[Flow, ...]


@dataclass(frozen=True)
class Key:
    """What a color means."""

    color: Color
    meaning: str


@dataclass(frozen=True)
class Plot(Block):
    """A drawing with its title, the same in words, the key to its colors, and what else there is to know."""

    title: str
    drawing: Drawing
    words: str
    keys: tuple[Key, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """A picture with boxes on it, in shares of its width and height, and what is in them."""

    caption: str
    boxes: tuple[tuple[float, float, float, float, str], ...]


@dataclass(frozen=True)
class Pictures(Block):
    """One picture several times side by side, each with its boxes: ``jpeg`` in base64, ``size`` is width and height.

    ``anchor`` is a name that no other has.
    """

    title: str
    anchor: str
    jpeg: str
    size: tuple[int, int]
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture (``jpeg`` in base64), what it is of, and what is said of it, line by line."""

    name: str
    words: tuple[str, ...]
    jpeg: str


@dataclass(frozen=True)
class Gallery(Block):
    """Small pictures below a title."""

    title: str
    pictures: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class SideBySide(Block):
    """Blocks that stand side by side where there is room."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Fold(Block):
    """Blocks that few look at, under a title, with a ``note`` beside it; ``anchor`` is where a map leads to."""

    title: str
    blocks: tuple[Block, ...]
    note: str = ""
    anchor: str = ""
    opened: bool = False


@dataclass(frozen=True)
class Tile:
    """A place in a map, which leads to the fold at ``anchor``; ``shade`` counts from 0, None of what is unknown."""

    name: str
    words: str
    anchor: str
    shade: int | None


@dataclass(frozen=True)
class Map(Block):
    """The layers, one tile each, shaded by something that ``scale`` explains shade by shade, or not at all."""

    tiles: tuple[Tile, ...]
    scale: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """Something that was to be kept: what of it was and was not, in words; ``about`` tells what it is."""

    name: str
    verdict: Verdict
    words: str = ""
    about: str = ""


@dataclass(frozen=True)
class Checks(Block):
    """Checks of one kind."""

    kind: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Remark:
    """What was found alike at several nodes, or, without nodes, in the whole network."""

    message: str
    hint: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remarks(Block):
    """All findings of one kind, and what they mean: ``terms``."""

    code: str
    severity: Literal["info", "warning"]
    remarks: tuple[Remark, ...]
    terms: tuple[Fact, ...]
