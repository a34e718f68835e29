"""One page that needs nothing else: no font, no network; pictures are in it, and so is what sorts its tables.

That is the only script that a browser runs: the page states its digest, and no other is allowed.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import escape

from snnc.blocks import Block, Check, Checks, Fold, Map, Missing, SideBySide, Table
from snnc.report.data import Report
from snnc.report.faces import faces, seen
from snnc.report.faces.plots import svg
from snnc.report.sections import told
from snnc.report.sections.gates import VERDICTS, tally, worst
from snnc.report.sentence import sentence
from snnc.text import as_it_is, printable

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A part of a page: its name in links, what leads to it, what stands above it, and its blocks."""

    name: str
    label: str
    title: str
    blocks: tuple[Block, ...]


@faces.register("html")
def page(report: Report) -> str:
    """Return the page: what was found first, then what it rests on, and what was not measured."""
    shown = seen(report, "page")
    parts = [Part(name, section.label or section.title, section.title, blocks) for name, section, blocks in shown]
    verdicts = [check for section in told(report).values() for check in section.verdicts(report)]
    return document("report", report.model_file, sentence(report), parts, verdicts)


def document(kind: str, title: str, lead: str, parts: Sequence[Part], verdicts: Sequence[Check] = ()) -> str:
    """Return a page of its parts: what ``kind`` of page it is, and on what, the sentence that leads, and verdicts."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    blocks = [block for part in parts for block in _inside(part.blocks)]
    maps = [block for block in blocks if isinstance(block, Map)]
    sorts = any(isinstance(block, Table) and _sorts(block) for block in blocks)
    script = (_HERE / "page.js").read_text("utf-8") if sorts else ""
    numbers = count(1)
    return environment.get_template("page.html.jinja").render(
        kind=kind,
        title=title,
        lead=lead,
        verdicts=Checks("", tuple(sorted(verdicts, key=lambda check: VERDICTS.index(check.verdict)))),
        worst=worst(verdicts) if verdicts else None,
        tally=tally(verdicts),
        parts=parts,
        is_bare=lambda part: all(isinstance(block, Missing) for block in part.blocks),
        script=script,
        allowed=f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" if script else "'none'",
        sorts=_sorts,
        # Of several layers with one name the first is meant.
        anchors={tile.name: tile.anchor for found in reversed(maps) for tile in reversed(found.tiles)},
        draw=lambda plot: svg(plot, f"plot-{next(numbers)}"),
        kind_of=lambda block: type(block).__name__,
        listed=lambda block: escape("\n".join(map(as_it_is, block.lines))),
        pairs=zip,
    )


def _sorts(table: Table) -> bool:
    return table.sorts and len(table.rows) > 1


def _inside(blocks: tuple[Block, ...]) -> Iterator[Block]:
    """Yield blocks, and those in them."""
    for block in blocks:
        yield block
        if isinstance(block, SideBySide | Fold):
            yield from _inside(block.blocks)


def _shown(value: object) -> object:
    """Keep control characters out of the page; what is markup already, a kind of str of its own, was made here."""
    return printable(value) if type(value) is str else value
