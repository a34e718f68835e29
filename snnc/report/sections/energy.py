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
                f"The {_narrow(energy)} is the trained one with activations of as many bits as T steps can tell apart.",
                soft=True,
                only=("page",),
            )
        constants = ", ".join(
            f"{name.replace('_', ' ')} {value:g} pJ" for name, value in sorted(report.energy_model.picojoules.items())
        )
        model = report.energy_model
        told = f"Constants: {constants} ({model.source}). Memory: {model.memory}."
        yield Text(told, soft=True, only=("page",) if energy is None else ())


def _break_even(energy: Energy) -> str:
    """Return the firing rates below which spikes are worth it, in words."""
    rate = f"The neurons fire {number(energy.firing_rate)} spikes per neuron and step."
    others = {"the trained network": energy.break_even, f"the {_narrow(energy)}": energy.quantized_break_even}
    return " ".join([rate, *(_compared(name, limit, energy.firing_rate) for name, limit in others.items())])


def _compared(name: str, limit: float | None, rate: float) -> str:
    if limit is None:
        return f"At no rate does it need less energy than {name}, memory traffic included."
    here = "does" if rate < limit else "does not"
    return f"Below {number(limit)} it needs less energy than {name}, memory traffic included; here it {here}."


def _table(energy: Energy, timesteps: int) -> Table:
    whole, quantized = energy.reference + energy.reference_memory, energy.quantized + energy.quantized_memory
    by_events, reference = energy.total - energy.neuron_memory, energy.reference
    totals = energy.total, whole, quantized
    arithmetic = energy.arithmetic, reference, energy.quantized
    weighed = number(energy.event_multiplications)
    by_payload = [("multiplications by what events carry", weighed, UNKNOWN, UNKNOWN)]
    rows = (
        ("arithmetic and memory traffic", *map(number, totals)),
        ("the same, the trained network's being 1", *(_ratio(value, whole) for value in totals)),
        ("driven by events, without a clock", *map(number, (by_events, whole, quantized))),
        ("the same, the trained network's being 1", *(_ratio(value, whole) for value in (by_events, whole, quantized))),
        ("arithmetic alone", *map(number, arithmetic)),
        ("the same, the trained network's being 1", *(_ratio(value, reference) for value in arithmetic)),
        ("additions caused by spikes", number(energy.accumulations - energy.event_multiplications), UNKNOWN, UNKNOWN),
        *(by_payload if energy.event_multiplications else ()),
        ("multiplications of analog values", *map(number, (energy.multiplications, reference, energy.quantized))),
        ("memory traffic", *map(number, (energy.memory, energy.reference_memory, energy.quantized_memory))),
        ("of it potentials at every step", number(energy.neuron_memory), UNKNOWN, UNKNOWN),
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
    whole = "; ".join(f"{name} {number(sum(parts))} µJ" for name, parts in networks.items())
    yield Plot(
        "Arithmetic and memory traffic",
        Bars(
            tuple(Bar(name, (added + multiplied, moved)) for name, (added, multiplied, moved) in networks.items()),
            ("spiking", "trained"),
            "µJ per image",
        ),
        f"Energy of arithmetic and memory traffic: {whole}",
        (Key("spiking", "arithmetic"), Key("trained", "weights, values and potentials moved")),
    )
    arithmetic = "; ".join(
        f"{name} {number(added + multiplied)} µJ, of this {number(added)} µJ caused by spikes"
        for name, (added, multiplied, _) in networks.items()
    )
    yield Plot(
        "Arithmetic alone",
        Bars(
            tuple(Bar(name, (added, multiplied)) for name, (added, multiplied, _) in networks.items()),
            ("spiking", "trained"),
            "µJ per image",
        ),
        f"Energy of arithmetic: {arithmetic}",
        (Key("spiking", "additions caused by spikes"), Key("trained", "multiplications")),
    )


def _narrow(energy: Energy) -> str:
    return f"{energy.bits}-bit network"


def _ratio(value: float, reference: float) -> str:
    return number(value / reference) if reference else UNKNOWN
