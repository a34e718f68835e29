"""snnc guide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snnc.blocks import Block


@commands.register("guide")
def guide(
    name: Annotated[
        str | None, typer.Argument(metavar="TOPIC", show_default=False, help="What to read. Default: what there is.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FOLDER", help="Write all of it as pages with a search.")
    ] = None,
    *,
    terminal: Terminal,
) -> None:
    """Read the guide: how to start, how to choose, what every figure means, how to add to snnc."""
    from snnc.guide import TOPICS, topic

    if html is not None:
        if name is not None:
            hint = f"leave out {name} or --html"
            raise UsageError("--html writes all topics", place="snnc guide", hint=hint)
        written = _write(html)
        terminal.show({"files": written}, lambda: _told(f"written: {html / 'index.html'}"))
    elif name is None:
        found = {one: topic(one) for one in TOPICS}
        plain = {"topics": {one: {"title": each.title, "about": each.about} for one, each in found.items()}}
        terminal.show(plain, lambda: _listed({one: each.about for one, each in found.items()}))
    else:
        read = topic(name)
        terminal.read({"topic": name, "title": read.title, "markdown": read.markdown}, read.markdown)


def _write(folder: Path) -> list[str]:
    """Write the pages into a folder, which is made where it is not there; returns their names."""
    from snnc.files import make_folder, write_atomically
    from snnc.guide.site import site

    pages = site()
    make_folder(folder, flag="--html")
    for page, content in pages.items():
        write_atomically(folder / page, content, flag="--html")
    return [str(folder / page) for page in pages]


def _listed(topics: dict[str, str]) -> Iterator[Block]:
    from snnc.blocks import Fact, Facts, Listing

    yield Facts(tuple(Fact(name, about) for name, about in topics.items()))
    yield Listing(("", "read one: snnc guide TOPIC; all of it in a browser: snnc guide --html FOLDER"))


def _told(line: str) -> Iterator[Block]:
    from snnc.blocks import Text

    yield Text(line)
