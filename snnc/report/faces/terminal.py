"""Blocks, for people at a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text as Line

from snnc.blocks import (
    UNKNOWN,
    Block,
    Cell,
    Checks,
    Column,
    Facts,
    Fold,
    Gallery,
    Listing,
    Map,
    Missing,
    Pictures,
    Plot,
    Remarks,
    SideBySide,
    Table,
    Text,
)
from snnc.report.data import Report
from snnc.report.faces import in_room, seen
from snnc.report.sentence import sentence
from snnc.rules import Rules
from snnc.text import as_it_is, printable

# Between columns, and what words of a table get at least before they go on in the next line.
_GAP, _LEAST = 2, 16
# So many places, or findings, of one kind are enough where there is little room.
_ALIKE = 3

# What rich makes of them where there are colors, and nobody has set NO_COLOR.
_STYLES = {
    **dict.fromkeys(("passed", "better"), "green"),
    **dict.fromkeys(("failed", "worse"), "bold red"),
    **dict.fromkeys(("not proven", "noted", "warning"), "yellow"),
}

show = Rules[Block, Iterator[RenderableType]]("what is there of it in a terminal")


def rendered(blocks: Iterable[Block]) -> RenderableType:
    """Return what there is of blocks where there is little room."""
    return Group(*_parts(blocks))


def lines(report: Report, *, evaluated: bool = False) -> Iterator[Block]:
    """Yield the blocks of a report, of all of it or only of what was ``evaluated``, then its sentence."""
    for _, section, blocks in seen(report, "lines"):
        if (section.evaluated or not evaluated) and [*_parts(blocks)]:
            yield from blocks
            yield Text("")
    yield Text(sentence(report))


def _parts(blocks: Iterable[Block]) -> Iterator[RenderableType]:
    for block in in_room(blocks, "lines"):
        yield from show(block)


@show.register(Text)
def _text(block: Text) -> Iterator[RenderableType]:
    yield printable(block.words)


@show.register(Listing)
def _listing(block: Listing) -> Iterator[RenderableType]:
    # What is copied stands on one line, however narrow the terminal is.
    yield from (Line(as_it_is(line), no_wrap=True, overflow="ignore") for line in block.lines)


@show.register(Missing, Plot, Map, Pictures, Gallery)
def _nothing(block: Block) -> Iterator[RenderableType]:
    """Leave out what has no room; of what is missing, the sentence tells how to begin."""
    yield from ()


@show.register(SideBySide, Fold)
def _inner(block: SideBySide | Fold) -> Iterator[RenderableType]:
    yield from _parts(block.blocks)


@show.register(Facts)
def _facts(block: Facts) -> Iterator[RenderableType]:
    facts = [fact for fact in block.facts if fact.known]
    width = max((len(fact.name) for fact in facts), default=0)
    for fact in facts:
        detail = f" ({fact.detail})" if fact.detail else ""
        # Indents are part of a name.
        yield f"{fact.name:<{width}}  {printable(fact.value + detail)}".rstrip()


@show.register(Table)
def _table(block: Table) -> Iterator[RenderableType]:
    kept = [index for index, column in enumerate(block.columns) if column.short is not None]
    # Names are those of a file, which may hold what a terminal, or a CI system, would obey.
    rows = [[printable(_cell(block.columns[index], row[index])) for index in kept] for row in block.rows]
    yield _Folding([block.columns[index] for index in kept], rows)
    abouts = dict.fromkeys(column.about for column in block.columns if column.short is not None and column.about)
    # Not with a colon: a line that begins with "error:" is one, to people and to programs that read logs.
    legend = [f"{', '.join(_name(c) for c in block.columns if c.about == about)} = {about}" for about in abouts]
    legend += ["brackets = 95 % interval"] if _brackets(block) else []
    if legend:
        yield "; ".join(legend)


@final
@dataclass(frozen=True)
class _Folding:
    """A table, or, where the terminal is too narrow for it, parts of it below one another, each with the first column.

    Where not even one more column has room, rows stand one after the other, each cell with its title.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        parts = self._parts(options.max_width)
        if parts is None:
            yield from self._one_by_one(options.max_width)
            return
        for place, part in enumerate(parts):
            yield from [""] if place else []
            yield self._grid(part)

    def _parts(self, width: int) -> list[list[int]] | None:
        """Return the columns of each part; None where two are too wide."""
        every = range(len(self.columns))
        widths = [self._least(index) for index in every]
        if sum(widths) + _GAP * (len(widths) - 1) <= width:
            return [[*every]]
        first, parts, left = widths[0], [[0]], width - widths[0]
        for index, least in enumerate(widths[1:], 1):
            if all(row[index] == UNKNOWN for row in self.rows):
                continue
            if first + _GAP + least > width:
                return None
            if _GAP + least > left:
                parts.append([0])
                left = width - first
            parts[-1].append(index)
            left -= _GAP + least
        return parts

    def _least(self, index: int) -> int:
        """Return how wide a column is, at least: words can go on in the next line."""
        column = self.columns[index]
        texts = [_title(column), *(row[index] for row in self.rows)]
        natural = max(map(cell_len, texts))
        if column.kind != "words":
            return natural
        return min(natural, max(_LEAST, *(cell_len(word) for text in texts for word in text.split() or [""])))

    def _grid(self, part: Sequence[int]) -> Grid:
        grid = Grid(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for index in part:
            column = self.columns[index]
            number = column.kind == "number"
            least = self._least(index)
            grid.add_column(_title(column), justify="right" if number else "left", overflow="fold", min_width=least)
        for row in self.rows:
            grid.add_row(*(self._styled(index, row[index]) for index in part))
        return grid

    def _styled(self, index: int, cell: str) -> Line:
        # What else is said of a verdict stands behind it.
        verdict = cell.partition(",")[0].partition(" (")[0]
        return Line(cell, _STYLES.get(verdict, "") if self.columns[index].kind in ("verdict", "words") else "")

    def _one_by_one(self, width: int) -> Iterator[str]:
        for row in self.rows:
            lines = [""]
            for column, cell in zip(self.columns, row, strict=True):
                part = f"{_title(column)} {cell}".strip()
                if cell == UNKNOWN:
                    continue
                if lines[-1] and len(lines[-1]) + 2 + len(part) > width:
                    lines.append("   ")
                lines[-1] += f"  {part}" if lines[-1].strip() else part
            yield "\n".join(lines)


def _title(column: Column) -> str:
    return column.short or column.title


def _cell(column: Column, cell: Cell) -> str:
    detail = f" ({cell.detail})" if cell.detail else ""
    brackets = f" [{', '.join(cell.interval)}]" if cell.interval is not None and column.bracketed else ""
    return f"{cell.text}{brackets}{detail}"


def _name(column: Column) -> str:
    return _title(column).removesuffix(" %")


def _brackets(block: Table) -> bool:
    return any(
        cell.interval is not None and column.bracketed
        for row in block.rows
        for column, cell in zip(block.columns, row, strict=True)
    )


@show.register(Checks)
def _checks(block: Checks) -> Iterator[RenderableType]:
    for check in block.checks:
        verdict = Line(check.verdict, _STYLES[check.verdict])
        yield Line.assemble(f"{block.kind} ", verdict, ": ", printable(check.words))


@show.register(Remarks)
def _remarks(block: Remarks) -> Iterator[RenderableType]:
    """Show each finding in the form that errors have, with the first places; few of one kind."""
    for remark in block.remarks[:_ALIKE]:
        beyond = len(remark.nodes) - _ALIKE
        more = f" and {beyond} more" if beyond > 0 else ""
        place = f" @ {', '.join(remark.nodes[:_ALIKE])}{more}" if remark.nodes else ""
        yield _said(block.severity, printable(f"{remark.message}{place}"))
        yield _said("hint", printable(remark.hint), block.severity)
    left = len(block.remarks) - _ALIKE
    if left > 0:
        yield _said(block.severity, f"{left} more of this kind are in the report")
        yield _said("hint", f"snnc explain {block.code} says what they mean", block.severity)


def _said(kind: str, words: str, above: str = "") -> Line:
    """Return a line of a kind; the words of those below each other begin below each other."""
    name = Line(f"{kind}:", _STYLES.get(kind, ""))
    return Line.assemble(name, " " * (1 + max(0, len(above) - len(kind))), words)
