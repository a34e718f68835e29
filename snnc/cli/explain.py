"""snnc explain."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.errors import UsageError
from snnc.findings import EXPLANATIONS
from snnc.registry import suggest

if TYPE_CHECKING:
    from snnc.blocks import Block


@commands.register("explain")
def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", show_default=False, help="The finding. Default: all of them.")
    ] = None,
    *,
    terminal: Terminal,
) -> None:
    """Say what a finding means: its cause, its effect, and what to do about it."""
    if code is not None and code not in EXPLANATIONS:
        raise UsageError(f"no finding is called {code!r}", hint=suggest(code, EXPLANATIONS))
    asked = [code] if code is not None else sorted(EXPLANATIONS)
    plain = {name: dataclasses.asdict(EXPLANATIONS[name]) for name in asked}
    lines = [(name, *(f"  {part:<7} {text}" for part, text in fields.items())) for name, fields in plain.items()]
    terminal.show(plain, lambda: _blocks(lines))


def _blocks(lines: Sequence[tuple[str, ...]]) -> Iterator[Block]:
    from snnc.blocks import Listing

    for index, part in enumerate(lines):
        yield Listing(("", *part) if index else part)
