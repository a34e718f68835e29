"""A network without what it has learned."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor

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

    What is passed on is the middle of the window, as large as weights that are drawn (Zagoruyko & Komodakis, 2017;
    Jordan, 2024). Weights that layers share, and those of several groups, stay as they are.
    """
    layers = {name: layer for name, layer in graph.ops(Conv).items() if layer.groups == 1}
    ops: dict[str, Op] = {}
    for name, layer in _apart(graph, layers).items():
        kernel = layer.kernel().clone()
        (outputs, inputs), window = kernel.shape[1:3], kernel.shape[3:]
        middle = torch.zeros(window)
        middle[tuple(slice((size - 1) // 2, size // 2 + 1) for size in window)] = 1
        count = min(outputs, inputs)
        kernel[0, :count] = 0
        kernel[0, range(count), range(count)] = middle * math.sqrt(2 / float(middle.sum()))
        ops[name] = layer.with_kernel(kernel, layer.bias)
    return graph.with_ops(ops)


def whitened(graph: Graph, samples: Iterable[Feeds]) -> Mapping[str, Conv]:
    """Return the first convolutions by name, their kernels the principal directions of what they see of samples.

    Each direction, the strongest first, as far as channels suffice, with both signs, so that a ReLU loses nothing; what
    comes out is of the same variance for all (Jordan, 2024). Further channels stay as they are. Left out are
    convolutions of several groups and those whose weights others share.
    """
    weighted = graph.ops(Weighted)
    first = {
        name: layer
        for name, layer in graph.ops(Conv).items()
        if layer.groups == 1 and not weighted.keys() & graph.ancestors(graph.nodes[name].inputs)
    }
    layers = _apart(graph, first)
    seen = {name: graph.nodes[name].inputs[0] for name in layers}
    moments = {name: torch.zeros(2 * [layer.kernel()[0, 0].numel()]).double() for name, layer in layers.items()}
    counts = dict.fromkeys(layers, 0)
    program = Program(graph, want=[*seen.values(), *layers])
    for feeds in samples:
        values = program(feeds)
        for name, layer in layers.items():
            answer = values[name][0]
            places = answer.numel() // answer.shape[1]
            rows = torch.linspace(0, places - 1, min(places, _POSITIONS * len(answer))).long()
            found = patches(layer, values[seen[name]][0], rows)[0].double()
            moments[name] += found.T @ found
            counts[name] += len(found)
    return {
        name: layer.with_kernel(_whitening(layer.kernel(), moments[name] / counts[name]), None)
        for name, layer in layers.items()
    }


def _whitening(kernel: Tensor, moments: Tensor) -> Tensor:
    variances, directions = torch.linalg.eigh(moments)
    scaled = directions / (variances + _LEAST * variances.mean()).sqrt()
    signed = torch.stack([scaled.T, -scaled.T], 1).flatten(0, 1).flip(0)[: kernel.shape[1]]
    made = kernel.clone()
    made[0, : len(signed)] = signed.view(-1, *kernel.shape[2:])
    return made


def _apart(graph: Graph, layers: Mapping[str, Conv]) -> dict[str, Conv]:
    """Return the layers that share their weights with no other."""
    count: dict[int, int] = {}
    for layer in graph.ops(Weighted).values():
        count[id(layer.weight)] = count.get(id(layer.weight), 0) + 1
    return {name: layer for name, layer in layers.items() if count[id(layer.weight)] == 1}
