"""How full a network makes a chip, and what of it does not fit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Block, Cell, Check, Checks, Column, Table, Text
from snnc.figure import Energy
from snnc.hardware import CoreUse, Fitted, Misfit, Use
from snnc.hardware.target import Spent
from snnc.report.data import Report
from snnc.report.sections import Known, Section, sections
from snnc.text import fixed, number

# Picojoules in a microjoule.
_PICOJOULES = 1e6


@sections.register("resources")
@dataclass(frozen=True)
class ResourcesSection(Section):
    """The limits of the chip that the network was held against last, and how much of each is taken.

    ``seconds`` is how long a sample takes, None where that is not known.
    """

    title: ClassVar[str] = "On the chip"
    order: ClassVar[int] = 85

    target: str
    name: str
    misfits: tuple[Misfit, ...]
    uses: tuple[Use, ...]
    cores: tuple[CoreUse, ...]
    unknown: tuple[str, ...]
    event_energy: Spent | None
    seconds: float | None

    @classmethod
    def of(cls, known: Known) -> "ResourcesSection | None":
        """Build it from what the network was held against."""
        return None if known.fitted is None else cls.on(known.fitted)

    @classmethod
    def on(cls, fitted: Fitted) -> "ResourcesSection":
        """Build it from what a network was held against."""
        target, fit = fitted.target, fitted.fit
        named = target.name, target.title, fit.misfits, fit.uses, fit.cores
        return cls(*named, target.unknown, target.event_energy, fitted.seconds)

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield what does not fit, what is taken, and what a spike costs."""
        yield from self.taken(report.energy, report.summary.synaptic_operations)

    def verdicts(self, report: Report) -> Iterator[Check]:
        """Yield whether it fits."""
        yield self._check()

    def _check(self) -> Check:
        if not self.misfits:
            return Check(self.target, "passed", f"fits, as far as is known: {self.name}")
        limits = ", ".join(dict.fromkeys(misfit.limit for misfit in self.misfits))
        return Check(self.target, "failed", f"does not fit {self.name}: {limits}")

    def taken(self, energy: Energy | None, operations: float | None) -> Iterator[Block]:
        """Yield the same for what was measured of spikes, if anything was."""
        yield Checks("chip", (self._check(),), only=("page", "card", "cases"))
        if self.misfits:
            yield _misfit_table(self.misfits)
        if self.cores:
            yield _core_table(self.cores)
        if self.uses:
            yield _use_table(self.uses)
        for source in dict.fromkeys(source for misfit in self.misfits for source in misfit.sources):
            yield Text(f"{source.text}: {source.url}", soft=True)
        # Of lines the last are seen first.
        yield Checks("chip", (self._check(),), only=("lines",))
        if self.seconds is not None:
            yield Text(f"about {number(self.seconds)} s for a sample, every input being computed at every step")
        yield from self._energy(energy, operations)
        if self.unknown:
            yield Text(f"not checked, because no source states it: {', '.join(self.unknown)}", soft=True)

    def _energy(self, energy: Energy | None, operations: float | None) -> Iterator[Text]:
        """Yield what a sample costs, in events where a source says what one costs, and with and without a clock."""
        spent = self.event_energy
        if spent is None and self.unknown:
            yield Text("energy of a synaptic operation: no source states it")
        elif spent is not None:
            cited = f"{spent.picojoules:g} pJ, of {spent.of} ({spent.sources[0].text})"
            yield Text(f"energy of a synaptic operation: {cited}")
            if operations is not None:
                whole = number(operations * spent.picojoules / _PICOJOULES)
                yield Text(f"{number(operations)} of them a sample: {whole} µJ, without neurons, routing and idling")
        if energy is not None:
            events, clocked = (number(value) for value in (energy.total - energy.neuron_memory, energy.total))
            told = f"{events} µJ a sample driven by events, {clocked} µJ with a clock, which moves every potential"
            yield Text(f"by the general model of the report, not of this chip: {told} at every step", soft=True)


def _misfit_table(misfits: tuple[Misfit, ...]) -> Table:
    return Table.of(
        "What does not fit",
        [
            (Column("layer", "layer"), lambda misfit: misfit.layer or "network"),
            (Column("limit", "words"), lambda misfit: misfit.limit),
            (Column("needed"), lambda misfit: _counted(misfit.needed)),
            (Column("allowed"), lambda misfit: _counted(misfit.allowed)),
            (Column("too many"), lambda misfit: None if misfit.excess is None else f"{misfit.excess:,}"),
            (Column("of", "words"), lambda misfit: misfit.unit),
            (Column("nearest change", "words"), lambda misfit: misfit.edit),
        ],
        misfits,
    )


def _core_table(cores: tuple[CoreUse, ...]) -> Table:
    return Table.of(
        "How full each core is, where most layers have one",
        [
            (Column("core"), lambda core: str(core.core) if core.core else "none"),
            (Column("layer", "layer"), lambda core: core.layer or None),
            (Column("words of weights", short="weights"), lambda core: f"{core.weights:,}"),
            (Column("of", short="of"), lambda core: f"{core.most_weights:,}"),
            (Column("full, %", short="full %"), lambda core: _share(core.weights / core.most_weights)),
            (Column("neurons"), lambda core: f"{core.neurons:,}"),
            (Column("of", short="of"), lambda core: f"{core.most_neurons:,}"),
            (Column("full, %", short="full %"), lambda core: _share(core.neurons / core.most_neurons)),
        ],
        cores,
    )


def _use_table(uses: tuple[Use, ...]) -> Table:
    return Table.of(
        "What is taken of each limit, by the network or the layer that takes most",
        [
            (Column("limit", "words"), lambda use: use.limit),
            (Column("layer", "layer"), lambda use: use.layer or "network"),
            (Column("taken"), lambda use: f"{use.taken:,}"),
            (Column("of", "number"), lambda use: None if use.most is None else f"{use.most:,}"),
            (Column("full, %", short="full %"), lambda use: None if use.share is None else _share(use.share)),
            (Column("unit", "words"), lambda use: use.unit),
        ],
        uses,
    )


def _share(share: float) -> Cell:
    return Cell(fixed(100 * share))


def _counted(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
