"""Markdown as GitHub shows it: a model card for a repository, a comment on a change, the summary of a CI step."""

import re
from collections.abc import Iterable, Iterator, Sequence

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
from snnc.report.escaping import escaped
from snnc.report.faces import faces, in_room, seen
from snnc.report.sentence import sentence
from snnc.rules import Rules
from snnc.text import as_it_is, printable

_MARKS = {"passed": "✅", "failed": "❌", "not proven": "❔", "noted": "💬"}

show = Rules[Block, Iterator[str]]("what is there of it on a card")


@faces.register("markdown")
def markdown(report: Report) -> str:
    """Return the sentence first, then what it rests on, and where the rest can be had."""
    return _text_of(_lines(report))


def card(blocks: Iterable[Block]) -> str:
    """Return blocks as Markdown."""
    return _text_of(_parts(blocks))


def _text_of(lines: Iterable[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield from (f"# {_code(report.model_file)} as a spiking network", "", f"**{escaped(sentence(report))}**", "")
    for _, section, blocks in seen(report, "card"):
        yield from ("", f"## {escaped(section.title)}", "")
        yield from _parts(blocks)


def _parts(blocks: Iterable[Block]) -> Iterator[str]:
    for block in in_room(blocks, "card"):
        yield from show(block)


@show.register(Text)
def _text(block: Text) -> Iterator[str]:
    yield from (escaped(block.words), "")


@show.register(Missing)
def _missing(block: Missing) -> Iterator[str]:
    yield from (f"> {escaped(block.what)} {_code(block.command)}", "")


@show.register(Listing)
def _listing(block: Listing) -> Iterator[str]:
    yield from (*(f"    {as_it_is(line)}" for line in block.lines), "")


@show.register(Plot, Map, Pictures, Gallery)
def _nothing(block: Block) -> Iterator[str]:
    """Leave out what cannot be drawn."""
    yield from ()


@show.register(SideBySide, Fold)
def _inner(block: SideBySide | Fold) -> Iterator[str]:
    yield from _parts(block.blocks)


@show.register(Facts)
def _facts(block: Facts) -> Iterator[str]:
    outside = block.kind == "outside"
    columns = Column("what" if outside else "figure", "words"), Column("value", "code" if outside else "words")
    details = (Column("", "words"),) if any(fact.detail for fact in block.facts) else ()
    rows = tuple((Cell(fact.name), Cell(fact.value), Cell(fact.detail))[: 2 + len(details)] for fact in block.facts)
    yield from show(Table("", (*columns, *details), rows))


@show.register(Table)
def _table(block: Table) -> Iterator[str]:
    kept = [index for index, column in enumerate(block.columns) if column.kind != "bar"]
    columns = [block.columns[index] for index in kept]
    if block.caption:
        yield from (f"{escaped(block.caption)}:", "")
    yield _row([escaped(column.title) for column in columns])
    yield _row(["---:" if column.kind == "number" else ":---" for column in columns])
    for row in block.rows:
        yield _row([_cell(block.columns[index], row[index]) for index in kept])
    yield ""


@show.register(Checks)
def _checks(block: Checks) -> Iterator[str]:
    for check in block.checks:
        yield f"- {_MARKS[check.verdict]} {check.verdict}: {escaped(check.words)}"
    yield ""


@show.register(Remarks)
def _remarks(block: Remarks) -> Iterator[str]:
    for remark in block.remarks:
        where = f" At {', '.join(map(_code, remark.nodes))}." if remark.nodes else ""
        said = f"{escaped(remark.message)}.{where} Hint: {escaped(remark.hint)}."
        yield f"- **{block.severity}** {_code(block.code)}: {said}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: Column, cell: Cell) -> str:
    details = [*([" to ".join(cell.interval)] if cell.interval is not None else []), cell.detail]
    detail = "".join(f" ({escaped(said)})" for said in details if said)
    if column.kind == "verdict":
        return f"{_MARKS[cell.text]} {cell.text}{detail}"
    outside = column.kind in ("layer", "code") and cell.text != UNKNOWN
    return (_code(cell.text, in_table=True) if outside else escaped(cell.text)) + detail


def _code(text: str, *, in_table: bool = False) -> str:
    """Show text as it is: in code nothing is a link, a mention or a tag."""
    text = printable(text)
    if in_table:
        # A table is cut at bars before code is looked for; a backslash before one is dropped, and so are pairs of them.
        text = re.sub(r"(\\*)\|", r"\1\1\\|", text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text or not text.strip() else ""
    return f"{fence}{space}{text or ' '}{space}{fence}"
