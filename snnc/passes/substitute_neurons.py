"""Put spiking neurons in the place of quantized activations."""

from dataclasses import dataclass
from typing import final

from snnc.calibration import Calibration
from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.neurons import Neuron, neurons
from snnc.ops import ClippedRelu, QuantizedRelu
from snnc.passes.base import Pass, passes


@final
@passes.register("substitute-neurons")
@dataclass(frozen=True)
class SubstituteNeurons(Pass):
    """Quantized ReLU -> ``neuron``, threshold and slope taken over.

    A rectifier with a slope needs negative spikes: where ``neuron`` has none, ``signed-neuron`` stands in.
    """

    neuron: str = "two-phase"
    signed_neuron: str = "dual-threshold"

    def __post_init__(self) -> None:
        for name in (self.neuron, self.signed_neuron):
            if name not in neurons:
                raise ValueError(f"unknown neuron {name!r}; known: {', '.join(neurons)}")

    def requires(self, graph: Graph) -> None:
        for name in graph.ops(ClippedRelu):
            raise PreconditionError(
                "an activation has no threshold yet",
                place=graph.nodes[name].source or name,
                hint="put calibrate-thresholds before substitute-neurons in the recipe",
            )

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        return graph.with_ops({name: self._neuron(op) for name, op in graph.ops(QuantizedRelu).items()})

    def _neuron(self, op: QuantizedRelu) -> Neuron:
        kind = neurons[self.neuron]
        if op.slope is not None and not kind.signed:
            kind = neurons[self.signed_neuron]
        return kind(op.ceiling, op.slope)
