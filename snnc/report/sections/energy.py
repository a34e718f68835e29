"""What one inference costs, beside the trained network and one with narrow activations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import UNKNOWN, Bar, Bars, Block, Cell, Column, Key, Missing, Plot, SideBySide, Table, Text
from snnc.figure import Energy
from snnc.report.data import Report
from snnc.report.sections import EVALUATE, Section, sections
from snnc.text import number


@sections.register("energy")
@dataclass(frozen=True)
class EnergySection(Section):
    """The energy of arithmetic and of memory, and the firing rates below which spikes are worth it."""

    title: ClassVar[str] = "Energy"
    order: ClassVar[int] = 70

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the plots and the table, and what they rest on."""
        energy = report.energy
        if energy is None:
            yield Missing("Spikes were not counted on images.", EVALUATE)
        else:
            yield Text(_break_even(energy))
            yield SideBySide(tuple(_plots(energy)), only=("page",))
            yield _table(energy, (report.headline or report.summary).timesteps)
            yield Text(
                f"The {_narrow(energy)} is the trained one with activations of as many bits as T steps can tell apart. "
                "Memory traffic is apart, since it depends on what the hardware reuses.",
                soft=True,
                only=("page",),
            )
        constants = ", ".join(
            f"{name.replace('_', ' ')} {value:g} pJ" for name, value in sorted(report.energy_model.picojoules.items())
        )
        told = f"Constants: {constants} ({report.energy_model.source})."
        yield Text(told, soft=True, only=("page",) if energy is None else ())


def _break_even(energy: Energy) -> str:
    """Return the firing rates below which spikes are worth it, in words."""
    rate = f"The neurons fire {number(energy.firing_rate)} spikes per neuron and step."
    others = {"the trained network": energy.break_even, f"the {_narrow(energy)}": energy.quantized_break_even}
    return " ".join([rate, *(_compared(name, limit, energy.firing_rate) for name, limit in others.items())])


def _compared(name: str, limit: float | None, rate: float) -> str:
    if limit is None:
        return f"At no rate does the arithmetic cost less than that of {name}."
    here = "does" if rate < limit else "does not"
    return f"Below {number(limit)} the arithmetic costs less than that of {name}; here it {here}."


def _table(energy: Energy, timesteps: int) -> Table:
    reference = energy.reference
    arithmetic = energy.microjoules, reference, energy.quantized
    rows = (
        ("additions caused by spikes", number(energy.accumulations), UNKNOWN, UNKNOWN),
        ("multiplications of analog values", *map(number, (energy.multiplications, reference, energy.quantized))),
        ("all arithmetic", *map(number, arithmetic)),
        ("the same, the trained network's being 1", *(_ratio(value, reference) for value in arithmetic)),
        ("memory traffic", *map(number, (energy.memory, energy.reference_memory, energy.quantized_memory))),
    )
    columns = (
        Column("µJ per image, estimated", "words", short="energy, µJ"),
        Column("spiking network", short=f"spiking, T={timesteps}"),
        Column("trained network"),
        Column(_narrow(energy)),
    )
    return Table("Energy of one image", columns, tuple(tuple(map(Cell, row)) for row in rows))


def _plots(energy: Energy) -> Iterator[Plot]:
    networks = {
        "spiking": (energy.accumulations, energy.multiplications, energy.memory),
        "trained": (0.0, energy.reference, energy.reference_memory),
        f"{energy.bits}-bit": (0.0, energy.quantized, energy.quantized_memory),
    }
    arithmetic = "; ".join(
        f"{name} {number(added + multiplied)} µJ, of this {number(added)} µJ caused by spikes"
        for name, (added, multiplied, _) in networks.items()
    )
    both = tuple(Bar(name, (added, multiplied)) for name, (added, multiplied, _) in networks.items())
    yield Plot(
        "Arithmetic",
        Bars(both, ("spiking", "trained"), "µJ per image"),
        f"Energy of arithmetic: {arithmetic}",
        (Key("spiking", "additions caused by spikes"), Key("trained", "multiplications")),
    )
    memory = "; ".join(f"{name} {number(moved)} µJ" for name, (_, _, moved) in networks.items())
    traffic = tuple(Bar(name, (moved,)) for name, (_, _, moved) in networks.items())
    yield Plot(
        "Memory traffic",
        Bars(traffic, ("trained",), "µJ per image"),
        f"Energy of memory traffic: {memory}",
        (Key("trained", "weights, values and potentials moved"),),
    )


def _narrow(energy: Energy) -> str:
    return f"{energy.bits}-bit network"


def _ratio(value: float, reference: float) -> str:
    return number(value / reference) if reference else UNKNOWN
