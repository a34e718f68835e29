"""What a spiking network costs: synaptic operations and energy.

A layer fed by spikes adds a weight for every spike and target: Σ spikes · fan-out accumulations. A layer fed by analog
values (the image, or what no neuron has made into spikes) multiplies at every step. Energy is counted at 4.6 pJ per
multiply-accumulate and 0.9 pJ per accumulation (45 nm, 32-bit float; Horowitz, ISSCC 2014), memory left out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.ops import (
    Add,
    Affine,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    MaxPool,
    Mean,
    Pad,
    Reshape,
    Slice,
    Take,
    Transpose,
    Weighted,
)
from snnc.schedule import Schedule

PICOJOULES_PER_MAC = 4.6
PICOJOULES_PER_ACCUMULATION = 0.9

# Spikes pass through these one by one; what they scale by is taken up by the weights behind.
_ROUTING = Add | Affine | AveragePool | Concat | MaxPool | Mean | Pad | Reshape | Slice | Take | Transpose


@dataclass(frozen=True, eq=False)
class Synapses:
    """The connections into one weighted layer.

    ``macs`` is the work of one dense pass. ``fan_out`` says for each layer of neurons that feeds it, and for each
    neuron there, how many targets one spike reaches; None where the layer is fed by analog values, which ``constant``
    says to be those of the image alone: then there is nothing to do in sleep.
    """

    macs: int
    fan_out: Mapping[str, Tensor] | None
    constant: bool = False


@dataclass(frozen=True)
class Cost:
    """The work of one inference: accumulations caused by spikes, multiplications of analog values, energy in µJ."""

    synaptic_operations: float
    analog_macs: float

    @property
    def microjoules(self) -> float:
        """Return the energy of this work."""
        accumulations = self.synaptic_operations * PICOJOULES_PER_ACCUMULATION
        return (accumulations + self.analog_macs * PICOJOULES_PER_MAC) * 1e-6


def synapses(graph: Graph) -> dict[str, Synapses]:
    """Return the connections into every weighted layer of a graph."""
    found = {}
    for name, op in graph.ops(Weighted).items():
        sources = _sources(graph, graph.nodes[name].inputs[0])
        fan_out = None if sources is None else _fan_out(graph, name, sources)
        work = macs(op, graph.shapes[graph.nodes[name].inputs[0]], graph.shapes[name])
        constant = not any(isinstance(graph.op(other), Neuron) for other in graph.ancestors([name]))
        found[name] = Synapses(work, fan_out, constant)
    return found


def macs(op: Weighted, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of one layer for one sample, by its input's and output's shape."""
    counted = before if isinstance(op, ConvTranspose) else after
    return math.prod(counted) * math.prod(op.weight.shape[1:])


def cost(connections: Mapping[str, Synapses], spikes: Mapping[str, Tensor], schedule: Schedule) -> Cost:
    """Return the cost of one inference from each neuron's mean number of spikes, by layer and shaped like it."""
    operations = analog = 0.0
    for layer in connections.values():
        if layer.fan_out is None:
            analog += layer.macs * (schedule.lit if layer.constant else schedule.total)
        else:
            operations += sum(float((reach * spikes[name]).sum()) for name, reach in layer.fan_out.items())
    return Cost(operations, analog)


def driven_by(connections: Mapping[str, Synapses], name: str, spikes: Tensor) -> float:
    """Return the accumulations that the spikes of one layer of neurons cause."""
    reached = (layer.fan_out[name] for layer in connections.values() if layer.fan_out and name in layer.fan_out)
    return sum(float((reach * spikes).sum()) for reach in reached)


def fed_by_image(graph: Graph, layer: str) -> bool:
    """Return whether a layer takes the network's input, with nothing but routing between."""
    waiting = list(graph.nodes[layer].inputs)
    while waiting:
        node = graph.nodes[waiting.pop()]
        if isinstance(node.op, Input):
            return True
        if isinstance(node.op, _ROUTING):
            waiting.extend(node.inputs)
    return False


def _sources(graph: Graph, name: str) -> set[str] | None:
    """Return the neurons whose spikes arrive at ``name``, None if anything else arrives there too."""
    op = graph.op(name)
    if isinstance(op, Neuron):
        return {name}
    if not isinstance(op, _ROUTING):
        return None
    found: set[str] = set()
    for value in graph.nodes[name].inputs:
        sources = _sources(graph, value)
        if sources is None:
            return None
        found |= sources
    return found


@torch.enable_grad()
def _fan_out(graph: Graph, layer: str, sources: set[str]) -> dict[str, Tensor]:
    """Count targets as the gradient of a network in which every connection weighs 1."""
    # In the order of the graph, not of the set, so that sums come out the same every time.
    ordered = [name for name in graph.nodes if name in sources]
    values = {name: torch.zeros(1, *graph.shapes[name], requires_grad=True) for name in ordered}
    leaves = dict(values)
    between = graph.ancestors([layer], stop=sources) - sources
    for name, node in graph.nodes.items():
        if name in between:
            values[name] = _connect(node.op, [values[value] for value in node.inputs])
    gradients = torch.autograd.grad(values[layer].sum(), list(leaves.values()))
    return {name: gradient[0].double() for name, gradient in zip(leaves, gradients, strict=True)}


def _connect(op: Op, inputs: list[Tensor]) -> Tensor:
    """Apply an operation with all its weights 1, so that it counts connections."""
    if isinstance(op, Weighted):
        return replace(op, weight=torch.ones_like(op.weight), bias=None)(*inputs)
    if isinstance(op, Affine):
        return inputs[0]
    if isinstance(op, AveragePool):
        padding = tuple(map(sum, zip(op.padding, op.excess, strict=True)))
        return AveragePool(op.kernel, op.stride, padding, (0,) * len(padding))(*inputs) * math.prod(op.kernel)
    if isinstance(op, Mean):
        return op(*inputs) * math.prod(inputs[0].shape[axis] for axis in op.axes)
    if isinstance(op, MaxPool):
        # One spike of a window passes: each of its inputs counts for its share.
        channels = inputs[0].shape[1]
        share = torch.full((channels, 1, *op.kernel), 1 / math.prod(op.kernel))
        return Conv(share, None, op.stride, op.padding, op.dilation, channels)(*inputs)
    return op(*inputs)
