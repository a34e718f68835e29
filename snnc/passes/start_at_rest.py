"""Let neurons start at zero: what they started with arrives as a constant current, spread over all steps.

    v(0) ← 0,   b ← b + v(0)/T

For a constant current the count of integrate and fire stays the same, floor((T·x + v(0))/θ); of a train, spikes come
later than before. Formats and chips that know no initial potential need it.
"""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from snnc.calibration import Calibration, channel_axis
from snnc.ir import Graph, Op
from snnc.neurons import CausalNeuron
from snnc.ops import Affine, ClippedRelu, QuantizedRelu, Weighted
from snnc.passes.base import Pass, check_stage, passes
from snnc.passes.biases import biased, inserted, shifted


@final
@passes.register("start-at-rest")
@dataclass(frozen=True)
class StartAtRest(Pass):
    """Give every neuron that fires while it gathers the initial potential 0, and its current what it started with."""

    def requires(self, graph: Graph) -> None:
        check_stage(graph, (ClippedRelu, QuantizedRelu), ())

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        charged = {name: neuron for name, neuron in graph.ops(CausalNeuron).items() if neuron.potential.any()}
        changed: dict[str, Op] = {}
        currents: dict[str, Op] = {}
        for name, neuron in charged.items():
            changed[name] = replace(neuron, potential=torch.zeros(()).to(neuron.threshold))
            current = neuron.potential.double() * neuron.threshold.double() / calibration.schedule.timesteps
            layer, by_channel = biased(graph, graph.nodes[name].inputs[0]), _by_channel(graph, name, current)
            op = None if layer is None else graph.op(layer)
            if layer is not None and isinstance(op, Weighted) and by_channel is not None:
                changed[layer] = shifted(op, by_channel)
            else:
                currents[name] = Affine(None, current.to(neuron.threshold))
        return inserted(graph.with_ops(changed), currents, "start")


def _by_channel(graph: Graph, name: str, current: Tensor) -> Tensor | None:
    """Return a constant of a layer as ``[C]``, None where it differs within a channel or there are no channels."""
    axis = channel_axis(graph, name)
    if axis is None:
        return None
    shape = graph.shapes[name]
    flat = current.expand(shape).movedim(axis - 1, 0).reshape(shape[axis - 1], -1)
    return flat[:, 0] if bool((flat == flat[:, :1]).all()) else None
