"""Put spiking neurons in the place of quantized activations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

from snnc.calibration import Calibration
from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.neurons.choice import Choice, chosen
from snnc.ops import Clipped, Quantized
from snnc.passes.base import Pass, check_layers, passes
from snnc.schedule import Schedule


@final
@passes.register("substitute-neurons")
@dataclass(frozen=True)
class SubstituteNeurons(Pass):
    """Quantized ReLU -> ``neuron``; ceiling, slope and initial potential are taken over.

    ``layers`` (layer name: neuron) has another neuron for some of them. A rectifier with a slope needs negative
    spikes: where a neuron has none, ``signed-neuron`` stands in. Options of a neuron follow its name in brackets:
    ``burst(max-event=3)``.
    """

    neuron: str = "two-phase"
    signed_neuron: str = "dual-threshold"
    layers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen(self.neuron, place="neuron")
        for layer, neuron in self.layers.items():
            chosen(neuron, place=f"layers.{layer}")
        if not chosen(self.signed_neuron, place="signed-neuron").signed:
            raise ValueError(f"signed-neuron: {self.signed_neuron!r} has no negative spikes")

    @property
    def placed(self) -> tuple[type[Neuron], ...]:
        """The neurons that are put in, but for the one that stands in where a slope needs negative spikes."""
        return tuple(chosen(neuron).kind for neuron in (self.neuron, *self.layers.values()))

    def requires(self, graph: Graph) -> None:
        for name in graph.ops(Clipped):
            raise PreconditionError(
                "an activation has no threshold yet",
                place=graph.nodes[name].place,
                hint="put calibrate-thresholds before substitute-neurons in the recipe",
            )
        check_layers("substitute-neurons.layers", self.layers, graph.ops(Quantized))

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        return graph.with_ops(
            {
                name: self._choice(name, op).standing_for(op, calibration.schedule)
                for name, op in graph.ops(Quantized).items()
            }
        )

    def levels(self, graph: Graph, schedule: Schedule) -> Mapping[str, int]:
        rectifiers: Mapping[str, Clipped | Quantized]
        rectifiers = {**graph.ops(Clipped), **graph.ops(Quantized)}
        return {name: self._choice(name, op).levels(schedule.timesteps) for name, op in rectifiers.items()}

    def _choice(self, layer: str, op: Clipped | Quantized) -> Choice:
        choice = self._choices[self.layers.get(layer, self.neuron)]
        return self._choices[self.signed_neuron] if op.slope is not None and not choice.signed else choice

    @cached_property
    def _choices(self) -> Mapping[str, Choice]:
        return {text: chosen(text) for text in (self.neuron, self.signed_neuron, *self.layers.values())}
