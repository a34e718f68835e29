"""Let neurons start at zero: what they started with arrives as a constant current, spread over all steps.

    v(0) ← 0,   b ← b + v(0)/T

For a constant current the count of integrate and fire stays the same, floor((T·x + v(0))/θ); of a train, spikes come
later than before. Formats and chips that know no initial potential need it.
"""

from dataclasses import dataclass, replace
from typing import final

import torch

from snnc.analysis.channels import by_channel
from snnc.calibration import Calibration
from snnc.ir import Graph, Op
from snnc.neurons import CausalNeuron
from snnc.ops import Affine, Clipped, Quantized, Weighted
from snnc.passes.base import Pass, check_stage, passes
from snnc.passes.biases import biased, inserted, shifted


@final
@passes.register("start-at-rest")
@dataclass(frozen=True)
class StartAtRest(Pass):
    """Give every neuron that fires while it gathers the initial potential 0, and its current what it started with."""

    def requires(self, graph: Graph) -> None:
        check_stage(graph, (Clipped, Quantized), ())

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        charged = {name: neuron for name, neuron in graph.ops(CausalNeuron).items() if neuron.potential.any()}
        changed: dict[str, Op] = {}
        currents: dict[str, Op] = {}
        for name, neuron in charged.items():
            changed[name] = replace(neuron, potential=torch.zeros(()).to(neuron.threshold))
            current = neuron.potential.double() * neuron.threshold.double() / calibration.schedule.timesteps
            layer = biased(graph, graph.nodes[name].inputs[0])
            shift = None if layer is None else by_channel(graph, layer, current)
            if layer is not None and shift is not None:
                changed[layer] = shifted(graph.ops(Weighted)[layer], shift)
            else:
                currents[name] = Affine(None, current.to(neuron.threshold))
        return inserted(graph.with_ops(changed), currents, "start")
