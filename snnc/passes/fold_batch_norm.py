"""Fold batch normalization, and any other per-channel affine map, into the weights before it."""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from snnc.calibration import Calibration, channel_axis, per_channel
from snnc.ir import Graph, Node
from snnc.ops import Affine, BatchNorm, Conv, ConvTranspose, Linear, Weighted
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
        maps = {name: _affine(op, graph.shapes[name]) for name, op in graph.ops(BatchNorm).items()}
        graph = graph.with_ops(maps)
        for name, affine in graph.ops(Affine).items():
            (before,) = graph.nodes[name].inputs
            layer = graph.op(before)
            alone = graph.consumers[before] == (name,) and before not in graph.outputs
            # A map may widen what it is applied to by broadcasting.
            alike = graph.shapes[before] == graph.shapes[name]
            if isinstance(layer, Weighted) and alone and alike:
                axis = channel_axis(graph, before)
                factors = _factors(affine, graph.shapes[before], axis)
                if factors is not None:
                    graph = _merge(graph, before, name, _fold(layer, *factors))
        return graph


def _affine(norm: BatchNorm, shape: tuple[int, ...]) -> Affine:
    scale, shift = norm.factors()
    return Affine(per_channel(scale, shape, 1), per_channel(shift, shape, 1))


def _factors(affine: Affine, shape: tuple[int, ...], axis: int | None) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift per channel, float64, or None where they differ within a channel."""
    if axis is None:
        return None
    channels = shape[axis - 1]
    found = []
    for constant, neutral in ((affine.scale, 1.0), (affine.shift, 0.0)):
        if constant is None:
            found.append(torch.full((channels,), neutral, dtype=torch.float64))
            continue
        aligned = constant.reshape((1,) * (len(shape) - constant.ndim) + tuple(constant.shape))
        if aligned.numel() != aligned.shape[axis - 1]:
            return None
        found.append(aligned.double().flatten().expand(channels))
    scale, shift = found
    return scale, shift


def _fold(layer: Weighted, scale: Tensor, shift: Tensor) -> Weighted:
    # In double precision, rounded once: folding then costs no more than the rounding of the weights themselves.
    weight = layer.weight.double()
    if isinstance(layer, ConvTranspose):
        groups = layer.groups
        grouped = weight.view(groups, weight.shape[0] // groups, *weight.shape[1:])
        weight = (grouped * scale.view(groups, 1, -1, *(1 for _ in weight.shape[2:]))).view(weight.shape)
    elif isinstance(layer, Conv | Linear):
        weight = weight * scale.view(-1, *(1 for _ in weight.shape[1:]))
    bias = shift if layer.bias is None else layer.bias.double() * scale + shift
    return replace(layer, weight=weight.to(layer.weight.dtype), bias=bias.to(layer.weight.dtype))


def _merge(graph: Graph, layer: str, affine: str, folded: Weighted) -> Graph:
    """Put the folded layer in the place of the affine map, under its name."""
    old = graph.nodes[layer]
    source = f"{old.source} + {graph.nodes[affine].source}"
    nodes = [
        Node(affine, folded, old.inputs, source) if name == affine else node
        for name, node in graph.nodes.items()
        if name != layer
    ]
    return Graph.of(nodes, graph.outputs)
