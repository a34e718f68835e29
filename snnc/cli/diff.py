"""snnc diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnc.cli.application import Flags, commands
from snnc.cli.console import Terminal
from snnc.cli.options import check_outputs
from snnc.errors import UsageError
from snnc.measure.figures import tolerances
from snnc.measure.gates import Tolerances
from snnc.project import report_beside

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.blocks import Block, Cell
    from snnc.report.comparison import Change, Comparison

# What verdicts say.
_MEANINGS = {
    "allowed": "worse, but within the tolerance, if any",
    "changed": "neither better nor worse",
    "unknown": "in one report only",
    "not proven": "other samples might show it worse than allowed",
    "within chance": "two samples of one network could differ as much",
}


class ToleranceFlags(Flags):
    """How much worse the new one may be: a flag for each tolerance that there is."""

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Return a number for each tolerance."""
        proven = typer.Option("--proven", help="Take what keeps to a tolerance without being proven to for worse.")
        return {"proven": Annotated[bool | None, proven]} | {
            f"max_{name}": Annotated[
                float | None, typer.Option(metavar=known.metavar, help=f"{known.help} Default: {known.default:g}.")
            ]
            for name, known in tolerances().items()
        }

    @property
    def named(self) -> dict[str, float]:
        """The tolerances that were stated, by their names."""
        return {name.removeprefix("max_"): value for name, value in self.given.items() if name != "proven"}

    def resolve(self) -> Tolerances:
        """Return the tolerances stated, and the defaults of the others; raises UsageError where one is none."""
        try:
            return Tolerances(proven=self.given.get("proven", False), **self.named)
        except ValueError as error:
            message, _, hint = str(error).partition(": ")
            raise UsageError(message, place="snnc diff", hint=hint) from None


@commands.register("diff")
def diff(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", show_default=False, help="A .snn file, or a report (.json) alone.")
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", show_default=False, help="What to compare with it.")],
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the outcome as a comment for a pull request.")
    ] = None,
    no_fail: Annotated[bool, typer.Option("--no-fail", help="Report what is worse, but exit with 0.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show figures that are the same, too.")] = False,
    *,
    flags: ToleranceFlags,
    terminal: Terminal,
) -> None:
    """Compare two conversions; exit with 4 where the new one is worse than allowed.

    Nothing is measured anew: of a .snn file the report beside it is read. What is worse as measured is worse; what
    keeps to a tolerance, but might not on other samples, is not proven. What only one of the two has is told, and not
    judged; that neither accuracy nor agreement could be judged is an error.
    """
    allowed = flags.resolve()
    for source in (old, new, report_beside(old), report_beside(new)):
        check_outputs([markdown] if markdown is not None else [], source)

    from snnc.actions.diff import diff as compared
    from snnc.files import write_atomically

    found = compared(old, new, allowed)
    files = []
    if markdown is not None:
        write_atomically(markdown, found.comment.encode(), flag="--markdown")
        files.append(str(markdown))
    plain = {"old": str(old), "new": str(new), **found.comparison.plain(), "files": files}
    terminal.show(plain, lambda: _shown(found.comparison, files, every=every))
    if not no_fail:
        found.check(flags.named)


def _shown(comparison: Comparison, files: list[str], *, every: bool) -> Iterator[Block]:
    """Tell the figures that changed, or ``every`` one of the networks, and what else is different."""
    from snnc.blocks import Column, Table, Text
    from snnc.report.comparison import value_text
    from snnc.text import printable

    listed = [change for change in comparison.changes if (every and not change.layer) or change.verdict != "same"]
    if listed:
        yield Table.of(
            "",
            [
                (Column("where", "words"), lambda change: printable(change.place) or "as converted"),
                (Column("figure", "words"), lambda change: f"{change.name} {change.unit}".rstrip()),
                (Column("before"), lambda change: value_text(change.old, change.unit)),
                (Column("now"), lambda change: value_text(change.new, change.unit)),
                (Column("difference"), lambda change: change.difference_text),
                (Column("verdict", "words"), _judged),
            ],
            listed,
        )
    meant = [f"{word}: {meaning}" for word, meaning in _MEANINGS.items() if any(word in c.words for c in listed)]
    yield Text("; ".join(meant) or ("" if listed else "no figure differs"))
    yield from (Text(f"warning: {warning}") for warning in comparison.warnings)
    yield from map(Text, (*comparison.differences, *comparison.notes))
    if files:
        yield Text(f"written: {', '.join(files)}")
    yield Text(comparison.sentence)


def _judged(change: Change) -> Cell:
    from snnc.blocks import Cell

    worse = change.verdict == "worse" and change.tolerance_text is not None
    return Cell(change.words, f"{change.tolerance_text} allowed" if worse else "")
