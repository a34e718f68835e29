"""Say what a spiking network holds, and what of it a chip cannot."""

from dataclasses import asdict, dataclass
from typing import Any, final

from snnc.actions.opened import Spiking, conversion_of
from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.errors import GateError
from snnc.formats.c import CFormat
from snnc.hardware import MICROCONTROLLER, Fit, Misfit, Room, Target, fit, fit_room, load_target
from snnc.measure.layers import Layer, describe
from snnc.report.sections.resources import ResourcesSection

# What a layer is without having been measured.
_UNMEASURED = ("name", "source", "neuron", "neurons", "threshold_minimum", "threshold_maximum", "levels")


@final
@dataclass(frozen=True, eq=False, repr=False)
class Inspected:
    """A spiking network and what it holds; ``fit`` holds it against a chip.

    ``parameters`` counts weights, biases and thresholds, ``total_steps`` is from image to answer.
    """

    conversion: Conversion
    layers: tuple[Layer, ...]
    total_steps: int
    parameters: int

    def __repr__(self) -> str:
        return f"<{self.total_steps} steps from image to answer, {self.parameters:,} parameters: {self.conversion!r}>"

    def fit(self, target: Target | str) -> "Fitted":
        """Say what of it a chip, by its name for instance, cannot hold; raises UsageError where there is none such."""
        return hold_against(self.conversion, load_target(target) if isinstance(target, str) else target)

    def fit_room(self, *, flash: int | None = None, ram: int | None = None, macs: float | None = None) -> "Fitted":
        """Say whether its file in C fits so many bytes of flash and RAM, and how long a sample takes.

        ``macs`` are multiply-accumulates a second. Raises ModelError for what nobody has written in C.
        """
        return hold_on_microcontroller(self.conversion, Room(flash, ram, macs))

    def plain(self) -> dict[str, Any]:
        """Return what it holds, as plain data."""
        conversion, schedule = self.conversion, self.conversion.schedule
        return {
            "parameters": self.parameters,
            "timesteps": schedule.timesteps,
            "sleep": schedule.sleep,
            "rehearsal": schedule.rehearsal,
            "total_steps": self.total_steps,
            "coding": schedule.coding,
            "calibrated": conversion.calibrated,
            "reference": conversion.reference is not None,
            "layers": [{key: getattr(layer, key) for key in _UNMEASURED} for layer in self.layers],
            "passes": [{"name": a.name, "options": dict(a.options), "changed": a.changed} for a in conversion.applied],
            "findings": [asdict(finding) for finding in conversion.findings],
            "preprocessing": conversion.preprocessing.plain(),
            "provenance": conversion.provenance.plain(),
        }


@final
@dataclass(frozen=True)
class Fitted:
    """A spiking network held against a chip: what of it the chip cannot hold, and how full it makes it.

    ``seconds`` is how long a sample takes, where that is known.
    """

    target: Target
    fit: Fit
    seconds: float | None = None

    @property
    def misfits(self) -> tuple[Misfit, ...]:
        """What does not fit."""
        return self.fit.misfits

    @property
    def section(self) -> ResourcesSection:
        """The part of a report that tells it."""
        target, fit = self.target, self.fit
        unknown = target.limits.unknown if target is not MICROCONTROLLER else ()
        return ResourcesSection(
            target.name, target.title, fit.misfits, fit.uses, fit.cores, unknown, target.event_energy, self.seconds
        )

    def plain(self) -> dict[str, Any]:
        """Return what does not fit, as plain data."""
        return {
            "target": self.target.name,
            "title": self.target.title,
            "fits": not self.misfits,
            **asdict(self.section),
            "misfits": [{**asdict(misfit), "excess": misfit.excess} for misfit in self.misfits],
        }

    def check(self, place: str) -> None:
        """Raise GateError where something does not fit."""
        if self.misfits:
            limits = len({misfit.limit for misfit in self.misfits})
            message = f"does not fit {self.target.title}: {limits} limit{'s are' if limits > 1 else ' is'} not kept"
            raise GateError(message, place=place, hint=self.misfits[0].edit)


def inspect(network: Spiking) -> Inspected:
    """Say what a spiking network, a conversion or its file, holds, measuring nothing."""
    conversion = conversion_of(network)
    snn, schedule = conversion.snn, conversion.schedule
    parameters = sum(tensor.numel() for node in snn.nodes.values() for tensor in node.op.tensors().values())
    return Inspected(conversion, describe(snn, schedule), latency(snn, schedule), parameters)


def hold_against(conversion: Conversion, target: Target) -> Fitted:
    """Say what of a spiking network a chip cannot hold, and how full it makes the chip."""
    return Fitted(target, fit(conversion.snn, conversion.schedule, target))


def hold_on_microcontroller(conversion: Conversion, room: Room) -> Fitted:
    """Say whether the file in C of a spiking network fits a microcontroller, and how long a sample takes there.

    Raises ModelError for what nobody has written in C.
    """
    form = CFormat()
    form.check(conversion)
    file = form.write(conversion).file
    flash = {**{name: part.constants for name, part in file.memory.items()}, "functions": file.code}
    ram = {name: part.state for name, part in file.memory.items()}
    found = fit_room(room, flash, {**ram, "values of a step": file.scratch})
    return Fitted(MICROCONTROLLER, found, room.seconds(file.macs, file.numbers))
