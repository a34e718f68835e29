"""How exported files compare, run by other programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Block, Cell, Check, Checks, Column, Missing, Table, Text
from snnc.formats.match import Match
from snnc.report.data import Report
from snnc.report.sections import Section, sections
from snnc.text import fixed, number


@sections.register("exports")
@dataclass(frozen=True)
class ExportsSection(Section):
    """The files that were exported last, spike for spike."""

    title: ClassVar[str] = "Exports"
    order: ClassVar[int] = 80

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the table, and every file as a test case."""
        found = report.verifications
        yield Checks("exports", tuple(map(_case, found)), only=("cases",))
        if not found:
            what = "No exported file was run by another program and compared."
            yield Missing(what, "snnc export -o FILE.onnx --verify")
            return
        told = "Files written for other programs, run there and compared with the spiking network spike for spike."
        yield Text(told, only=("page",))
        yield compared(found)


def compared(found: Sequence[Match]) -> Table:
    """Return a table of how exported files compare."""
    return Table.of(
        "Exported files, run by other programs",
        [
            (Column("verdict", "verdict"), lambda one: one.verdict),
            (Column("format", "words", short="export"), lambda one: Cell(one.format, one.variant)),
            (Column("run by", "words"), lambda one: one.engine),
            (Column("T"), lambda one: str(one.timesteps)),
            (Column("images"), lambda one: Cell(f"{one.images:,}", "noise" if one.noise else "")),
            (Column("equal spikes, %", short="equal spikes %"), lambda one: _equal(one.equal)),
            (
                Column("in the worst layer, %", short="worst layer"),
                lambda one: _equal(one.worst_equal, one.worst_layer),
            ),
            (
                Column("output error"),
                lambda one: None if one.output_error is None else number(one.output_error),
            ),
            (
                Column("same answers, %", short="same answer %"),
                lambda one: Cell.of(one.agreement, unit="%"),
            ),
            (
                Column("accuracy there, %", short="accuracy there %"),
                lambda one: Cell.of(one.accuracy_there, unit="%"),
            ),
            (
                Column(
                    "lost, points", short="lost", about="points of accuracy that this network has more", bracketed=True
                ),
                lambda one: Cell.of(one.lost, one.lost_interval, "points"),
            ),
            (Column("after a spike", "words"), lambda one: one.manner.reset or None),
            (Column("remark", "words"), lambda one: one.remark or None),
        ],
        found,
    )


def _case(found: Match) -> Check:
    name = f"{found.format}, {found.variant}, run by {found.engine} at T={found.timesteps}"
    return Check(name, found.verdict, found.remark)


def _equal(value: float | None, layer: str = "") -> Cell | None:
    return None if value is None else Cell(fixed(value, 4), layer)
