"""snnc list."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from snnc.cli.application import commands
from snnc.cli.console import Terminal

if TYPE_CHECKING:
    from snnc.actions.members import Member
    from snnc.blocks import Block


@commands.register("list")
def listing(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            show_default=False,
            help="recipes, neurons, passes, tasks, sources, formats, targets or operations. Default: what there is.",
        ),
    ] = None,
    *,
    terminal: Terminal,
) -> None:
    """List what there is to choose from, with options and papers."""
    from snnc.actions.members import kinds, members

    if kind is None:
        names = {one: [member.name for member in members(one)] for one in kinds()}
        terminal.show(names, lambda: _overview(names))
    else:
        found = members(kind)
        terminal.show({kind: [dataclasses.asdict(member) for member in found]}, lambda: _blocks(found))


def _overview(names: dict[str, list[str]]) -> Iterator[Block]:
    from snnc.blocks import Fact, Facts

    yield Facts(tuple(Fact(kind, ", ".join(found)) for kind, found in names.items()))


def _blocks(found: tuple[Member, ...]) -> Iterator[Block]:
    from snnc.blocks import Listing

    for index, member in enumerate(found):
        papers = (f"  papers  {'; '.join(member.papers)}",) if member.papers else ()
        lines = (member.call, f"  what    {member.about}", *papers)
        yield Listing(("", *lines) if index else lines)
