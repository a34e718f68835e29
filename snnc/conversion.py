"""What happened in a conversion, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnc.findings import Finding
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, OrderFreeNeuron
from snnc.schedule import Schedule


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


def latency(snn: Graph, schedule: Schedule) -> int:
    """Return the steps from the image to the answer.

    Neurons that gather their whole input first make the next layer wait: (N+1)·T for N of them in a row (and a new
    answer every T steps when pipelined); causal ones do not. Only causal ones rehearse and sleep.
    """
    waits: dict[str, int] = {}
    for name, node in snn.nodes.items():
        before = max((waits[value] for value in node.inputs), default=0)
        waits[name] = before + isinstance(node.op, OrderFreeNeuron)
    around = schedule.rehearsal + schedule.sleep if snn.ops(CausalNeuron) else 0
    return (max(waits[name] for name in snn.outputs) + 1) * schedule.timesteps + around
