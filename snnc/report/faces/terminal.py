"""Blocks, for people at a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
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

# Wider than any table.
_WIDEST = 10_000
# So many places, or findings, of one kind are enough where there is little room.
_ALIKE = 3

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
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    kept = [index for index, column in enumerate(block.columns) if column.short is not None]
    for index in kept:
        column = block.columns[index]
        justify = "right" if column.kind == "number" else "left"
        grid.add_column(column.short or column.title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    # Names are those of a file, which may hold what a terminal, or a CI system, would obey.
    rows = [[printable(_cell(block.columns[index], row[index])) for index in kept] for row in block.rows]
    for row_ in rows:
        grid.add_row(*row_)
    yield _Folding(grid, [block.columns[index].short or block.columns[index].title for index in kept], rows)
    abouts = dict.fromkeys(column.about for column in block.columns if column.short is not None and column.about)
    legend = [f"{', '.join(_name(c) for c in block.columns if c.about == about)}: {about}" for about in abouts]
    legend += ["brackets: 95 % interval"] if _brackets(block) else []
    if legend:
        yield "; ".join(legend)


@final
@dataclass(frozen=True)
class _Folding:
    """A table, or, where the terminal is too narrow for it, its rows one after the other, each cell with its title."""

    grid: Grid
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        if Measurement.get(console, options.update(max_width=_WIDEST), self.grid).maximum <= width:
            yield self.grid
            return
        for row in self.rows:
            lines = [""]
            for title, cell in zip(self.titles, row, strict=True):
                part = f"{title} {cell}".strip()
                if cell == UNKNOWN:
                    continue
                if lines[-1] and len(lines[-1]) + 2 + len(part) > width:
                    lines.append("   ")
                lines[-1] += f"  {part}" if lines[-1].strip() else part
            yield "\n".join(lines)


def _cell(column: Column, cell: Cell) -> str:
    detail = f" ({cell.detail})" if cell.detail else ""
    brackets = f" [{', '.join(cell.interval)}]" if cell.interval is not None and column.bracketed else ""
    return f"{cell.text}{brackets}{detail}"


def _name(column: Column) -> str:
    return (column.short or column.title).removesuffix(" %")


def _brackets(block: Table) -> bool:
    return any(
        cell.interval is not None and column.bracketed
        for row in block.rows
        for column, cell in zip(block.columns, row, strict=True)
    )


@show.register(Checks)
def _checks(block: Checks) -> Iterator[RenderableType]:
    for check in block.checks:
        yield printable(f"{block.kind} {check.verdict}: {check.words}")


@show.register(Remarks)
def _remarks(block: Remarks) -> Iterator[RenderableType]:
    """Show one line for each finding, of the form that errors have, with the first places; few of one kind."""
    for remark in block.remarks[:_ALIKE]:
        beyond = len(remark.nodes) - _ALIKE
        more = f" and {beyond} more" if beyond > 0 else ""
        place = f" @ {', '.join(remark.nodes[:_ALIKE])}{more}" if remark.nodes else ""
        said = printable(f"{block.severity}: {remark.message}{place}")
        yield f"{said}      hint: {printable(remark.hint)}"
    left = len(block.remarks) - _ALIKE
    if left > 0:
        said = f"{block.severity}: {left} more of this kind are in the report"
        yield f"{said}      hint: snnc explain {block.code} says what they mean"
