"""A network without what it has learned."""

from dataclasses import replace

import torch
from torch import Generator

from snnc.ir import Graph, Op
from snnc.ops import BatchNorm, Weighted


def drawn(graph: Graph, seed: int) -> Graph:
    """Return a network with weights drawn anew: normal, of variance 2 / fan-in (He et al., ICCV 2015), biases of zero.

    Batch normalization begins as the identity. A tensor that several layers share is drawn once.
    """
    generator = Generator().manual_seed(seed)
    ops: dict[str, Op] = {
        name: replace(
            norm,
            mean=torch.zeros_like(norm.mean),
            variance=torch.ones_like(norm.variance),
            scale=torch.ones_like(norm.scale),
            shift=torch.zeros_like(norm.shift),
        )
        for name, norm in graph.ops(BatchNorm).items()
    }
    weights: dict[int, torch.Tensor] = {}
    for name, layer in graph.ops(Weighted).items():
        weight = layer.weight
        if id(weight) not in weights:
            kernel = layer.kernel()
            values = torch.randn(kernel.shape, generator=generator) * (2 / kernel[0, 0].numel()) ** 0.5
            weights[id(weight)] = layer.with_kernel(values, None).weight
        bias = None if layer.bias is None else torch.zeros_like(layer.bias)
        ops[name] = replace(layer, weight=weights[id(weight)], bias=bias, unit=None)
    return graph.with_ops(ops)
