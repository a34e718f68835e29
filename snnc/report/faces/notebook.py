"""A fragment of a page, as a notebook shows it below a cell: markup that needs no style of its own."""

import hashlib
from collections.abc import Iterable, Iterator

from markupsafe import escape

from snnc.blocks import (
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
from snnc.report.faces.plots import svg
from snnc.rules import Rules
from snnc.text import printable

# Colors that can be told apart on white and on black.
_COLORS = (
    "--plot-ink:currentColor;--plot-grid:rgba(128,128,128,.3);--plot-trained:#8a8f96;--plot-spiking:#0a8f91;"
    "--plot-limit:#d0603a"
)
_MARKS = {"passed": "✓", "failed": "✗", "not proven": "?", "noted": "·"}

show = Rules[Block, Iterator[str]]("what is there of it in a notebook")


def fragment(blocks: Iterable[Block]) -> str:
    """Return the blocks as HTML."""
    return f'<div style="{_COLORS}">{"".join(part for block in blocks for part in show(block))}</div>'


@show.register(Text)
def _text(block: Text) -> Iterator[str]:
    yield f"<p{_soft(block.soft)}>{_said(block.words)}</p>"


@show.register(Table)
def _table(block: Table) -> Iterator[str]:
    kept = [index for index, column in enumerate(block.columns) if column.short is not None]
    heads = "".join(
        f'<th title="{_said(block.columns[index].about)}">{_said(block.columns[index].title)}</th>' for index in kept
    )
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    for row in block.rows:
        yield f"<tr>{''.join(_cell(block.columns[index], row[index]) for index in kept)}</tr>"
    yield "</tbody></table>"


@show.register(SideBySide)
def _beside(block: SideBySide) -> Iterator[str]:
    yield '<div style="display:flex;flex-wrap:wrap;gap:1.5em">'
    yield from (part for one in block.blocks for part in show(one))
    yield "</div>"


@show.register(Plot)
def _plot(block: Plot) -> Iterator[str]:
    # Other cells have plots, too.
    name = f"snnc-{hashlib.sha256(block.words.encode()).hexdigest()[:12]}"
    keys = "".join(
        f'<span style="color:var(--plot-{key.color});margin-right:1em">● {_said(key.meaning)}</span>'
        for key in block.keys
    )
    yield f'<div style="width:26em;max-width:100%"><b>{_said(block.title)}</b><br>{keys}{svg(block, name)}</div>'


@show.register(Map, Pictures, Gallery)
def _nothing(block: Block) -> Iterator[str]:
    """Leave out what leads about a page, and what is large."""
    yield from ()


@show.register(Fold)
def _fold(block: Fold) -> Iterator[str]:
    yield f"<details><summary>{_said(block.title)} <small>{_said(block.note)}</small></summary>"
    yield from (part for one in block.blocks for part in show(one))
    yield "</details>"


@show.register(Listing)
def _listing(block: Listing) -> Iterator[str]:
    yield f"<pre>{chr(10).join(map(_said, block.lines))}</pre>"


@show.register(Missing)
def _missing(block: Missing) -> Iterator[str]:
    yield f"<p{_soft(True)}>{_said(block.what)} <code>{_said(block.command)}</code></p>"


@show.register(Facts)
def _facts(block: Facts) -> Iterator[str]:
    for fact in block.facts:
        yield f"<p>{_said(fact.name)}: {_said(fact.value)} <small{_soft(True)}>{_said(fact.detail)}</small></p>"


@show.register(Remarks)
def _remarks(block: Remarks) -> Iterator[str]:
    for remark in block.remarks:
        where = f" @ {', '.join(remark.nodes)}" if remark.nodes else ""
        yield f"<p>{block.severity} {_said(block.code)}: {_said(remark.message + where)}"
        yield f" <small{_soft(True)}>{_said(remark.hint)}</small></p>"


@show.register(Checks)
def _checks(block: Checks) -> Iterator[str]:
    for check in block.checks:
        yield f"<p>{_MARKS[check.verdict]} {_said(block.kind)} {check.verdict}: {_said(check.words)}</p>"


def _cell(column: Column, cell: Cell) -> str:
    aside = [
        *([" to ".join(cell.interval)] if cell.interval is not None else []),
        *([cell.detail] if cell.detail else []),
    ]
    small = "".join(f"<br><small{_soft(True)}>{_said(part)}</small>" for part in aside)
    align = "right" if column.kind == "number" else "left"
    return f'<td style="text-align:{align};vertical-align:top;padding:.2em .6em">{_said(cell.text)}{small}</td>'


def _soft(soft: bool) -> str:
    return ' style="opacity:.7"' if soft else ""


def _said(text: str) -> str:
    return str(escape(printable(text)))
