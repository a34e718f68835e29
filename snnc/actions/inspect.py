"""Say what a spiking network holds, and what of it a chip cannot."""

from dataclasses import asdict, dataclass
from typing import Any, final

from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.errors import GateError
from snnc.hardware import Misfit, Target, fit
from snnc.measure.layers import Layer, describe

# What a layer is without having been measured.
_UNMEASURED = ("name", "source", "neuron", "neurons", "threshold_minimum", "threshold_maximum", "levels")


@final
@dataclass(frozen=True, eq=False)
class Inspected:
    """A spiking network and what it holds.

    ``parameters`` counts weights, biases and thresholds, ``total_steps`` is from image to answer.
    """

    conversion: Conversion
    layers: tuple[Layer, ...]
    total_steps: int
    parameters: int

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
    """A spiking network held against a chip: what of it the chip cannot hold."""

    target: Target
    misfits: tuple[Misfit, ...]

    def plain(self) -> dict[str, Any]:
        """Return what does not fit, as plain data."""
        return {
            "target": self.target.name,
            "title": self.target.title,
            "fits": not self.misfits,
            "misfits": [{**asdict(misfit), "excess": misfit.excess} for misfit in self.misfits],
            "unknown": list(self.target.limits.unknown),
            "event_energy": None if self.target.event_energy is None else asdict(self.target.event_energy),
        }

    def check(self, place: str) -> None:
        """Raise GateError where something does not fit."""
        if self.misfits:
            limits = len({misfit.limit for misfit in self.misfits})
            message = f"does not fit {self.target.title}: {limits} limit{'s are' if limits > 1 else ' is'} not kept"
            raise GateError(message, place=place, hint=self.misfits[0].edit)


def inspect(conversion: Conversion) -> Inspected:
    """Say what a spiking network holds, measuring nothing."""
    snn, schedule = conversion.snn, conversion.schedule
    parameters = sum(tensor.numel() for node in snn.nodes.values() for tensor in node.op.tensors().values())
    return Inspected(conversion, describe(snn, schedule), latency(snn, schedule), parameters)


def hold_against(conversion: Conversion, target: Target) -> Fitted:
    """Say what of a spiking network a chip cannot hold."""
    return Fitted(target, fit(conversion.snn, conversion.schedule, target))
