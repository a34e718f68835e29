"""Put spiking neurons in the place of quantized activations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from snnc.calibration import Calibration
from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.neurons import Neuron, neurons
from snnc.ops import ClippedRelu, QuantizedRelu
from snnc.passes.base import Pass, check_layers, passes


@final
@passes.register("substitute-neurons")
@dataclass(frozen=True)
class SubstituteNeurons(Pass):
    """Quantized ReLU -> ``neuron``; threshold, slope and initial potential are taken over.

    ``layers`` (layer name: neuron) has another neuron for some of them. A rectifier with a slope needs negative
    spikes: where a neuron has none, ``signed-neuron`` stands in.
    """

    neuron: str = "two-phase"
    signed_neuron: str = "dual-threshold"
    layers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.placed, self.signed_neuron):
            if name not in neurons:
                raise ValueError(f"unknown neuron {name!r}; known: {', '.join(neurons)}")
        if not neurons[self.signed_neuron].signed:
            raise ValueError(f"signed-neuron: {self.signed_neuron!r} has no negative spikes")

    @property
    def placed(self) -> tuple[str, ...]:
        """The neurons that are put in, but for the one that stands in where a slope needs negative spikes."""
        return (self.neuron, *self.layers.values())

    def requires(self, graph: Graph) -> None:
        for name in graph.ops(ClippedRelu):
            raise PreconditionError(
                "an activation has no threshold yet",
                place=graph.nodes[name].source or name,
                hint="put calibrate-thresholds before substitute-neurons in the recipe",
            )
        check_layers("substitute-neurons.layers", self.layers, graph.ops(QuantizedRelu))

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        return graph.with_ops({name: self._neuron(name, op) for name, op in graph.ops(QuantizedRelu).items()})

    def _neuron(self, layer: str, op: QuantizedRelu) -> Neuron:
        kind = neurons[self.layers.get(layer, self.neuron)]
        if op.slope is not None and not kind.signed:
            kind = neurons[self.signed_neuron]
        return kind.standing_for(op)
