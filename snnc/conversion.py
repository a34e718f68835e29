"""What happened in a conversion, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from snnc.errors import UsageError
from snnc.findings import Finding
from snnc.ir import Graph
from snnc.neurons import OrderFreeNeuron

# Counts of spikes are exact in single precision far beyond this, but nobody waits for so many steps.
MAXIMUM_TIMESTEPS = 65536


@dataclass(frozen=True)
class Schedule:
    """How the network runs: ``timesteps`` with the image as a constant current (direct coding)."""

    timesteps: int
    coding: Literal["direct"] = "direct"

    def __post_init__(self) -> None:
        if not 1 <= self.timesteps <= MAXIMUM_TIMESTEPS:
            raise ValueError(f"{self.timesteps} time steps")


def check_timesteps(timesteps: int, place: str) -> None:
    """Raise UsageError where that many time steps cannot be run."""
    if not 1 <= timesteps <= MAXIMUM_TIMESTEPS:
        hint = f"give a whole number from 1 to {MAXIMUM_TIMESTEPS}"
        raise UsageError(f"{timesteps} time steps", place=place, hint=hint)


@dataclass(frozen=True)
class Applied:
    """One pass that was applied: its options, and how long it took (not part of any file)."""

    name: str
    options: Mapping[str, Any]
    changed: int
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, eq=False)
class Conversion:
    """A spiking network beside the trained one it stands for (None once stripped), and how it came about.

    ``imported`` are the findings from reading the file, ``findings`` all of them. ``preprocessing`` and
    ``provenance`` are plain data; ``provenance`` holds what the result depends on.
    """

    reference: Graph | None
    snn: Graph
    schedule: Schedule
    applied: tuple[Applied, ...]
    imported: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    preprocessing: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def calibrated(self) -> bool:
        """Whether images were used."""
        return self.provenance.get("calibration") is not None


def latency(snn: Graph, timesteps: int) -> int:
    """Return the steps from the image to the answer.

    Neurons that gather their whole input first make the next layer wait: (N+1)·T for N of them in a row (and a new
    answer every T steps when pipelined); causal ones do not.
    """
    waits: dict[str, int] = {}
    for name, node in snn.nodes.items():
        before = max((waits[value] for value in node.inputs), default=0)
        waits[name] = before + isinstance(node.op, OrderFreeNeuron)
    return (max(waits[name] for name in snn.outputs) + 1) * timesteps
