"""The figures that NeuroBench has for every network, beside those of snnc."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from snnc.blocks import UNKNOWN, Block, Cell, Column, Table, Text
from snnc.measure.neurobench import NeuroBench
from snnc.report.data import Report
from snnc.report.sections import Known, Section, sections
from snnc.text import counted, number, percent


@sections.register("neurobench")
@dataclass(frozen=True)
class NeuroBenchSection(NeuroBench, Section):
    """What was counted last, when the network was converted on images or evaluated."""

    title: ClassVar[str] = "NeuroBench"
    order: ClassVar[int] = 75

    @classmethod
    def of(cls, known: Known) -> Self | None:
        """Take the figures of what was just measured."""
        evaluation = known.report.evaluation
        found = known.neurobench if evaluation is None else evaluation.neurobench
        return None if found is None else cls(**{f.name: getattr(found, f.name) for f in dataclasses.fields(found)})

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the table, and what the figures are of."""
        told = f"of {counted(self.samples, 'sample')}, per inference at T={self.timesteps}"
        yield Text(f"As the package neurobench 2.3 measures them, {told}.")
        yield _table(self)
        yield Text(
            "NeuroBench watches the network one step at a time, with the input shown at every step, and takes a spike "
            "for 1. What is no 0, 1 or −1 counts as multiplied there, even where it is made of spikes alone.",
            soft=True,
            only=("page",),
        )


def _table(found: NeuroBench) -> Table:
    ours, operations = found.ours, found.synaptic_operations
    rows = (
        ("footprint, bytes", number(found.footprint), UNKNOWN, "weights, biases, thresholds and starts, each once"),
        (
            "connection sparsity",
            _share(found.connection_sparsity),
            UNKNOWN,
            "zeros among the weights of linear layers and convolutions",
        ),
        (
            "activation sparsity",
            _share(found.activation_sparsity),
            _share(ours.activation_sparsity),
            "ours is 1 less the firing rate: several spikes of a neuron in one step count as so many, and analog "
            "activations do not count",
        ),
        (
            "effective MACs",
            number(operations.effective_macs),
            number(ours.analog_macs),
            "ours are those of analog values, as often as they have to be evaluated: what the image alone makes once, "
            "not at every step; averages and sums of spikes, and those below zero that weigh otherwise, are additions; "
            "nothing is left out for being zero",
        ),
        (
            "effective ACs",
            number(operations.effective_acs),
            number(ours.synaptic_operations),
            "ours are one for every spike and target, through averages and sums too; weights that are zero count",
        ),
        (
            "dense operations",
            number(operations.dense),
            number(ours.reference_macs),
            "ours are of one pass of the trained network, all that it multiplies, and zeros at borders too; "
            "NeuroBench's are of linear layers and convolutions, at every step",
        ),
        (
            "membrane updates",
            number(found.membrane_updates),
            number(ours.membrane_updates),
            "ours are all neurons at every step; NeuroBench's are those whose potential changes: of neurons that "
            "gather first, with what comes in and again with every spike",
        ),
    )
    columns = (
        Column("NeuroBench's figure", "words", short="NeuroBench"),
        Column("NeuroBench", short="theirs"),
        Column("snnc", short="ours"),
        Column("what differs", "words", short=None),
    )
    return Table("NeuroBench's figures, and ours", columns, tuple(tuple(map(Cell, row)) for row in rows))


def _share(share: float | None) -> str:
    return UNKNOWN if share is None else percent(share)
