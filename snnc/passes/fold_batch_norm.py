"""Fold batch normalization, and any other per-channel affine map, into the weights before it."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.analysis.channels import by_channel, from_channels
from snnc.calibration import Calibration
from snnc.ir import Graph, Node
from snnc.ops import Affine, BatchNorm, Weighted
from snnc.passes.base import Pass, passes


@final
@passes.register("fold-batch-norm")
@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Make every batch normalization a per-channel affine map and fold it where a single weighted layer is before it.

    One that cannot be folded (after an activation, an addition or a concatenation) stays as the affine map. The
    folded layer takes the name of the normalization, whose value it now computes.
    """

    @property
    def exact(self) -> bool:
        return True

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        maps = {name: _affine(graph, name, op) for name, op in graph.ops(BatchNorm).items()}
        graph = graph.with_ops(maps)
        for name, affine in graph.ops(Affine).items():
            (before,) = graph.nodes[name].inputs
            layer = graph.ops(Weighted).get(before)
            alone = graph.consumers[before] == (name,) and before not in graph.outputs
            # A map may widen what it is applied to by broadcasting.
            alike = graph.shapes[before] == graph.shapes[name]
            if layer is not None and alone and alike:
                factors = _factors(graph, before, affine)
                if factors is not None:
                    graph = _merge(graph, before, name, _fold(layer, *factors))
        return graph


def _affine(graph: Graph, name: str, norm: BatchNorm) -> Affine:
    scale, shift = norm.factors()
    return Affine(from_channels(graph, name, scale), from_channels(graph, name, shift))


def _factors(graph: Graph, layer: str, affine: Affine) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift per channel of a layer, float64, or None where they differ within a channel."""
    found = []
    for constant, neutral in ((affine.scale, 1.0), (affine.shift, 0.0)):
        wide = torch.tensor(neutral) if constant is None else constant
        found.append(by_channel(graph, layer, wide.double()))
    scale, shift = found
    return None if scale is None or shift is None else (scale, shift)


def _fold(layer: Weighted, scale: Tensor, shift: Tensor) -> Weighted:
    # In double precision, rounded once: folding then costs no more than the rounding of the weights themselves.
    kernel = layer.kernel().double()
    factors = scale.view(*kernel.shape[:2], *(1 for _ in kernel.shape[2:]))
    bias = shift if layer.bias is None else layer.bias.double() * scale + shift
    return layer.with_kernel(kernel * factors, bias)


def _merge(graph: Graph, layer: str, affine: str, folded: Weighted) -> Graph:
    """Put the folded layer in the place of the affine map, under its name."""
    old = graph.nodes[layer]
    source = old.source + graph.nodes[affine].source
    nodes = [
        Node(affine, folded, old.inputs, source, graph.nodes[affine].output) if name == affine else node
        for name, node in graph.nodes.items()
        if name != layer
    ]
    return Graph.of(nodes, graph.outputs)
