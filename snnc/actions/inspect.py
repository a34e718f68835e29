"""Say what a spiking network holds, and what of it a chip cannot."""

from dataclasses import asdict, dataclass
from typing import Any, final

from snnc.actions.opened import Spiking, conversion_of
from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.formats.c import CFormat
from snnc.hardware import MICROCONTROLLER, Fitted, Room, Target, fit, fit_room, load_target
from snnc.measure.layers import Layer, describe
from snnc.validation import parse

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

    def fit(self, target: Target | str) -> Fitted:
        """Say what of it a chip, by its name for instance, cannot hold; raises UsageError where there is none such."""
        return hold_against(self.conversion, load_target(target) if isinstance(target, str) else target)

    def fit_room(self, *, flash: int | None = None, ram: int | None = None, macs: float | None = None) -> Fitted:
        """Say whether its file in C fits so many bytes of flash and RAM, and how long a sample takes.

        ``macs`` are multiply-accumulates a second. Raises UsageError where one of these makes no sense, ModelError for
        what nobody has written in C.
        """
        given = {"flash": flash, "ram": ram, "macs": macs}
        room = parse(Room, {name: value for name, value in given.items() if value is not None}, place="fit_room")
        return hold_on_microcontroller(self.conversion, room)

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
