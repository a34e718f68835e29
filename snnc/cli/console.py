"""How commands print: results to stdout, progress and logs to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnc.text import in_one_line, typable

if TYPE_CHECKING:
    from snnc.blocks import Block
    from snnc.data.samples import Progress


@dataclass(frozen=True)
class Terminal:
    """What a command prints, as its flags say."""

    as_json: Annotated[bool, typer.Option("--json", help="Print the machine form of the result, and only it.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and --json).")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log timings; show where internal errors are.")] = (
        False
    )

    def show(self, plain: dict[str, Any], human: Callable[[], Iterable[Block]]) -> None:
        """Print a result in its machine form or, not quiet, in its human one."""
        if self.as_json:
            sys.stdout.write(inert(json.dumps(plain, sort_keys=True, indent=1, allow_nan=False)) + "\n")
        elif not self.quiet:
            # rich takes a while to import, and neither --help nor --json needs it.
            from rich.console import Console

            from snnc.report.faces.terminal import rendered

            # Nobody looks at a file or a pipe through 80 columns.
            width = None if sys.stdout.isatty() else 10_000
            console = Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
            with console.capture() as captured:
                console.print(rendered(human()), crop=False)
            sys.stdout.write("".join(f"{line.rstrip()}\n" for line in typable(captured.get()).splitlines()))
        # An error that follows on the other stream comes after it.
        sys.stdout.flush()

    def read(self, plain: dict[str, Any], markdown: str) -> None:
        """Print a text in its machine form or, not quiet, for people: laid out in a terminal, else as it is written."""
        if self.as_json or self.quiet or not sys.stdout.isatty():
            self.show(plain, lambda: _as_written(markdown))
            return
        from rich.console import Console

        from snnc.report.faces.prose import Prose

        Console(file=sys.stdout, emoji=False).print(Prose(markdown), crop=False)

    def log(self, line: str) -> None:
        """Tell what only the curious want to know."""
        if self.verbose:
            print(in_one_line(typable(line)), file=sys.stderr)

    @contextmanager
    def working(self, *, choosing: bool = True) -> Iterator[Progress]:
        """Give a function that draws progress as bars, or, where nobody sees them, tells it line by line.

        What is done meanwhile has as many threads as pay here, where somebody is ``choosing``.
        """
        if choosing:
            from snnc.threads import choose_threads

            choose_threads()
        if self.quiet or not sys.stderr.isatty():
            from snnc.data.samples import silent
            from snnc.progress import Lines

            yield silent if self.quiet else Lines()
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        console = Console(stderr=True, markup=False, emoji=False)
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Bars(*columns, console=console, transient=True) as p:
            # One bar, of what is going on now: a pass hands over to the reading it asks for.
            task = p.add_task("")

            told = (0, 0)

            def tell(label: str, done: int, total: int) -> None:
                nonlocal told
                if total != told[1] or done < told[0]:
                    # Something else, which takes a time of its own.
                    p.reset(task)
                told = done, total
                p.update(task, description=label, completed=done, total=total)

            yield tell


def _as_written(markdown: str) -> Iterator[Block]:
    from snnc.blocks import Listing

    yield Listing(tuple(markdown.splitlines()))


def print_error(kind: str, message: str, hint: str, details: Sequence[str] = ()) -> None:
    """Print a line that names the problem and its place, the details, indented, and a line with what to do about it."""
    colored = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    named = f"\x1b[1;31m{kind}:\x1b[0m" if colored else f"{kind}:"
    print(f"{named} {in_one_line(typable(message))}", file=sys.stderr)
    for line in details:
        print(f"    {in_one_line(typable(line))}", file=sys.stderr)
    print(f"hint:  {in_one_line(typable(hint))}", file=sys.stderr)


def inert(text: str) -> str:
    """Return JSON that says the same, and in which a continuous integration finds no command."""
    return text.replace("##[", "#\\u0023[")
