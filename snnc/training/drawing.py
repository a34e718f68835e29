"""A network without what it has learned."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor

from snnc.analysis.channels import channel_count
from snnc.analysis.patches import patches
from snnc.feeds import Feeds
from snnc.ir import Graph, Op
from snnc.ops import BatchNorm, Conv, Weighted
from snnc.run import Program

# What is added to the variance of every direction, as a share of their mean: the smallest ones are noise.
_LEAST = 5e-4
# Positions that a layer sees of each sample, at most.
_POSITIONS = 256


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


def passing_on(graph: Graph) -> Graph:
    """Return a network whose convolutions pass on what comes in, channel by channel, as far as they have channels.

    What is passed on is the middle of the window (Zagoruyko and Komodakis, 2017; Jordan, 2024): as large as weights
    that are drawn where batch normalization follows, else as it is. Weights that layers share, those of several groups
    and of the last layers stay as they are.
    """
    last = graph.ops(Weighted).keys() - graph.ancestors(x for n in graph.ops(Weighted) for x in graph.nodes[n].inputs)
    ops: dict[str, Op] = {}
    for name, layer in _apart(graph).items():
        if name in last:
            continue
        kernel = layer.kernel().clone()
        (outputs, inputs), window = kernel.shape[1:3], kernel.shape[3:]
        middle = torch.zeros(window)
        middle[tuple(slice((size - 1) // 2, size // 2 + 1) for size in window)] = 1
        scaled = all(isinstance(graph.op(reader), BatchNorm) for reader in graph.consumers[name])
        count = min(outputs, inputs)
        kernel[0, :count] = 0
        kernel[0, range(count), range(count)] = middle * (math.sqrt(2 / middle.sum()) if scaled else 1 / middle.sum())
        ops[name] = layer.with_kernel(kernel, layer.bias)
    return graph.with_ops(ops)


def whitened(graph: Graph, samples: Iterable[Feeds]) -> Mapping[str, Conv]:
    """Return the first convolutions by name, their kernels the principal directions of what they see of samples.

    Each direction, the strongest first, as far as channels suffice, with both signs, so that a ReLU loses nothing; what
    comes out is of the same variance for all (Jordan, 2024). Further channels stay as they are, biases are zero. Left
    out are convolutions of several groups, those whose weights others share or that see normalized batches, and those
    that see nothing but zeros.
    """
    behind = graph.ops((Weighted, BatchNorm)).keys()
    layers = {n: each for n, each in _apart(graph).items() if not behind & graph.ancestors(graph.nodes[n].inputs)}
    if not layers:
        return {}
    seen = {name: graph.nodes[name].inputs[0] for name in layers}
    places = {name: math.prod(graph.shapes[name]) // channel_count(graph, name) for name in layers}
    moments = {name: torch.zeros(2 * [layer.kernel()[0, 0].numel()]).double() for name, layer in layers.items()}
    looked = {name: min(number, _POSITIONS) for name, number in places.items()}
    total = 0
    for values in Program(graph, want=seen.values()).stream(samples):
        for name, layer in layers.items():
            (x,) = values[seen[name]]
            rows = torch.arange(looked[name] * len(x)) * places[name] // looked[name]
            found = patches(layer, x, rows)[0].double()
            moments[name] += found.T @ found / looked[name]
        total += len(x)
    return {n: _whitening(layer, moments[n] / total) for n, layer in layers.items() if float(moments[n].trace()) > 0}


def complete(layer: Conv) -> bool:
    """Return whether a whitened layer has every direction with both signs, and nothing else."""
    _, outputs, *features = layer.kernel().shape
    return outputs == 2 * math.prod(features)


def _whitening(layer: Conv, moments: Tensor) -> Conv:
    kernel = layer.kernel().clone()
    variances, directions = torch.linalg.eigh(moments)
    # Of either sign of a direction, that is the first which does not depend on how it was found.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    scaled = directions * largest.sign() / (variances + _LEAST * variances.mean()).sqrt()
    signed = torch.stack([scaled, -scaled], 2).flip(1).flatten(1).T[: kernel.shape[1]]
    kernel[0, : len(signed)] = signed.view(-1, *kernel.shape[2:])
    return layer.with_kernel(kernel, None)


def _apart(graph: Graph) -> dict[str, Conv]:
    """Return the convolutions of one group that share their weights with no other layer."""
    count = Counter(id(layer.weight) for layer in graph.ops(Weighted).values())
    convolutions = graph.ops(Conv).items()
    return {name: layer for name, layer in convolutions if layer.groups == 1 and count[id(layer.weight)] == 1}
