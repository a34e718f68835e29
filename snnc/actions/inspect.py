"""Say what a spiking network holds, and what of it a chip cannot."""

from dataclasses import asdict, dataclass
from typing import Any, final

from snnc.actions.opened import Spiking, conversion_of
from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.errors import GateError
from snnc.hardware import Misfit, Target, fit, load_target
from snnc.measure.layers import Layer, describe

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


def inspect(network: Spiking) -> Inspected:
    """Say what a spiking network, a conversion or its file, holds, measuring nothing."""
    conversion = conversion_of(network)
    snn, schedule = conversion.snn, conversion.schedule
    parameters = sum(tensor.numel() for node in snn.nodes.values() for tensor in node.op.tensors().values())
    return Inspected(conversion, describe(snn, schedule), latency(snn, schedule), parameters)


def hold_against(conversion: Conversion, target: Target) -> Fitted:
    """Say what of a spiking network a chip cannot hold."""
    return Fitted(target, fit(conversion.snn, conversion.schedule, target))
