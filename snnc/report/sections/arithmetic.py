"""What multiplies, and why no spikes drive it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Block, Cell, Column, Table, Text
from snnc.figure import AnalogOperation, Arithmetic, Delivery
from snnc.report.data import Report
from snnc.report.sections import Section, sections
from snnc.text import fixed, number, percent

# So many names are told; the machine form has all of them.
_NAMED = 2

_WHY = {
    "image": "the image alone makes what it takes in",
    "unplaced": "no neurons stand before it",
    "function": "no neurons stand for it",
}


@sections.register("arithmetic")
@dataclass(frozen=True)
class ArithmeticSection(Section):
    """What drives the multiply-accumulates of the trained network, and how often the analog ones are evaluated."""

    title: ClassVar[str] = "Work"
    order: ClassVar[int] = 65

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the shares, the operations that spikes do not drive, and what is delivered to several places."""
        found = report.summary.arithmetic
        if found is None or found.driven_by_spikes is None or found.driven_by_image is None:
            return
        yield Text(_shares(found.driven_by_spikes, found.driven_by_image))
        if any(operation.why != "image" for operation in found.analog):
            yield _table(found)
        if found.delivered:
            yield Text(_deliveries(found.delivered, report.summary.synaptic_operations))


def _shares(by_spikes: float, by_image: float) -> str:
    others = 100 - by_spikes - by_image
    rest = f", {fixed(others)} % are analog behind it" if fixed(others).strip("0.") else ""
    return (
        f"{fixed(by_spikes)} % of the multiply-accumulates are driven by spikes, "
        f"{fixed(by_image)} % are the image's own layer{rest}."
    )


def _table(found: Arithmetic) -> Table:
    groups: dict[tuple[str, str, int], list[AnalogOperation]] = {}
    for operation in found.analog:
        groups.setdefault((operation.kind, operation.why, operation.evaluations), []).append(operation)
    return Table.of(
        "Operations that spikes do not drive",
        [
            (Column("operation", "words"), lambda group: group[0].kind),
            (Column("where", "code"), lambda group: _named([operation.source for operation in group], 1)),
            (Column("MACs %", about="of the trained network's, once"), lambda group: _share(group, found.macs)),
            (Column("evaluations", about="in one inference"), lambda group: number(group[0].evaluations)),
            (Column("why", "words"), lambda group: _WHY[group[0].why]),
        ],
        list(groups.values()),
    )


def _share(group: Sequence[AnalogOperation], macs: int) -> Cell | None:
    share = sum(operation.macs for operation in group) / macs
    return Cell(fixed(100 * share, 2)) if share else None


def _deliveries(delivered: Sequence[Delivery], additions: float | None) -> str:
    most = max(delivery.populations for delivery in delivered)
    where = _named([delivery.source for delivery in delivered])
    copies = [delivery.additions for delivery in delivered if delivery.additions is not None]
    share = f": {percent(sum(copies) / additions)} of all additions" if copies and additions else ""
    relayed = number(sum(delivery.relayed for delivery in delivered))
    return (
        f"Along trunks of additions, spikes into {where} are delivered to up to {most} populations of neurons each, "
        f"and counted as often{share}. Accumulators that hand their sums on would move {relayed} numbers instead."
    )


def _named(names: Sequence[str], most: int = _NAMED) -> str:
    beyond = len(names) - most
    return ", ".join(names[:most]) + (f" and {beyond} more" if beyond > 0 else "")
