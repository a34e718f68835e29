"""Bring every activation into the form that thresholds are worked out on."""

from dataclasses import dataclass
from typing import Literal, final

import torch

from snnc.calibration import Calibration
from snnc.ir import Graph
from snnc.ops import ClippedRelu, LeakyRelu, QuantizedRelu, Relu
from snnc.passes.base import Pass, passes


@final
@passes.register("normalize-activations")
@dataclass(frozen=True)
class NormalizeActivations(Pass):
    """ReLU -> clipped ReLU without a ceiling; LeakyReLU and PReLU likewise, with their slope.

    A ReLU that only feeds already quantized activations is absorbed by them. Any other ReLU of a network that
    brings quantized activations of its own carries values that its author left at full precision; ``beside-quantized``
    keeps those exact (analog, reported) or makes them spike as well. ReLU6 has a range of its own and always spikes.
    """

    beside_quantized: Literal["keep", "spike"] = "keep"

    @property
    def exact(self) -> bool:
        return True

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        # They take nothing below 0.
        absorbing = {name for name, op in graph.ops(QuantizedRelu).items() if op.slope is None}
        for name in graph.ops(Relu):
            readers = graph.consumers[name]
            if readers and absorbing.issuperset(readers) and name not in graph.outputs:
                graph = graph.without(name)
        if self.beside_quantized == "keep" and graph.ops(QuantizedRelu):
            return graph
        plain = {name: ClippedRelu(torch.tensor(torch.inf)) for name in graph.ops(Relu)}
        sloped = {name: ClippedRelu(torch.tensor(torch.inf), op.slope) for name, op in graph.ops(LeakyRelu).items()}
        return graph.with_ops(plain | sloped)
