"""Whom a spike reaches: the connections into every weighted layer."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnc.analysis.values import Kind, value_kinds
from snnc.analysis.work import work
from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Conv,
    MaxPool,
    Mean,
    Nonlinear,
    Resample,
    Routing,
    Weighted,
)
from snnc.rules import Rules

# An operation with all its weights 1, so that it counts connections.
Count = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Connections:
    """The connections into one weighted layer.

    ``macs`` is the work of one dense pass, ``kind`` the kind of the value that is taken in. ``reach`` says for each
    layer of neurons that feeds it, and for each neuron there, how many targets one spike reaches; None where the layer
    is fed by analog values.
    """

    macs: int
    kind: Kind
    reach: Mapping[str, Tensor] | None


# rule(op): how it counts the connections of spikes that pass through one by one; None where they do not.
passage = Rules[Op, Count | None]("how does a spike pass")


def connected(graph: Graph) -> dict[str, Connections]:
    """Return the connections into every weighted layer of a graph."""
    kinds, spikes = value_kinds(graph), arriving(graph)
    found = {}
    for name, op in graph.ops(Weighted).items():
        (before,) = graph.nodes[name].inputs
        sources = spikes[before]
        reach = None if sources is None else _reach(graph, name, sources)
        found[name] = Connections(work(op, [graph.shapes[before]], graph.shapes[name]).macs, kinds[before], reach)
    return found


def targets(connections: Mapping[str, Connections], name: str) -> Tensor | None:
    """Return how many accumulations one spike of each neuron causes, None where no layer is driven by spikes here."""
    reached = [layer.reach[name] for layer in connections.values() if layer.reach and name in layer.reach]
    return torch.stack(reached).sum(0) if reached else None


def driven_by(connections: Mapping[str, Connections], name: str, spikes: Tensor) -> float:
    """Return the accumulations that the spikes of one layer of neurons cause."""
    reach = targets(connections, name)
    return 0.0 if reach is None else float((reach * spikes).sum())


def fed_by_image(graph: Graph, layer: str) -> bool:
    """Return whether a layer takes the network's input, with nothing between but what spikes would pass."""
    waiting = list(graph.nodes[layer].inputs)
    while waiting:
        node = graph.nodes[waiting.pop()]
        if node.name in graph.inputs:
            return True
        if passage(node.op) is not None:
            waiting.extend(node.inputs)
    return False


@passage.register(Add, Routing)
def _as_it_is(op: Op) -> Count:
    return op


@passage.register(Affine)
def _taken_up(op: Affine) -> Count:
    """What scales is taken up by the weights behind, what shifts by their biases; only broadcasting is left."""
    return op.map_tensors(torch.ones_like)


@passage.register(BatchNorm, TemporalBias)
def _taken_up_in_place(op: BatchNorm | TemporalBias) -> Count:
    return lambda x: x


@passage.register(Resample)
def _weighted_sum(op: Resample) -> Count:
    """A spike that counts with a weight is taken in with it; one that counts with 0 is not."""
    return replace(op, weights=(op.weights != 0).to(op.weights))


@passage.register(AveragePool)
def _average(op: AveragePool) -> Count:
    padding = tuple(map(sum, zip(op.padding, op.excess, strict=True)))
    pool = AveragePool(op.kernel, op.stride, padding, (0,) * len(padding))
    return lambda x: pool(x) * math.prod(op.kernel)


@passage.register(Mean)
def _mean(op: Mean) -> Count:
    return lambda x: op(x) * math.prod(x.shape[axis] for axis in op.axes)


@passage.register(MaxPool)
def _one_of_a_window(op: MaxPool) -> Count:
    """One spike of a window passes: each of its inputs counts for its share."""

    def count(x: Tensor) -> Tensor:
        channels = x.shape[-len(op.kernel) - 1]
        share = torch.full((channels, 1, *op.kernel), 1 / math.prod(op.kernel))
        return Conv(share, None, op.stride, op.padding, op.dilation, channels)(x)

    return count


@passage.register(Activation, Input, Neuron, Nonlinear, Weighted)
def _nothing(op: Op) -> None:
    """What comes out are no spikes of the neurons before."""


def arriving(graph: Graph) -> dict[str, frozenset[str] | None]:
    """Return the neurons whose spikes arrive at every node, None where anything else arrives there too."""
    found: dict[str, frozenset[str] | None] = {name: frozenset([name]) for name in graph.ops(Neuron)}
    for name, node in graph.nodes.items():
        if name not in found:
            found[name] = None if passage(node.op) is None else _united(found[value] for value in node.inputs)
    return found


def _united(sources: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    known = [*sources]
    return None if None in known else frozenset().union(*(names for names in known if names is not None))


@torch.enable_grad()
def _reach(graph: Graph, layer: str, sources: frozenset[str]) -> dict[str, Tensor]:
    """Count targets as the gradient of a network in which every connection weighs 1."""
    # In the order of the graph, not of the set, so that sums come out the same every time.
    ordered = [name for name in graph.nodes if name in sources]
    values = {name: torch.zeros(1, *graph.shapes[name], requires_grad=True) for name in ordered}
    leaves = dict(values)
    op = graph.ops(Weighted)[layer]
    dense = op.with_kernel(torch.ones_like(op.kernel()), None)
    between = graph.ancestors(graph.nodes[layer].inputs, stop=sources) - sources
    for name, node in graph.nodes.items():
        if name in between:
            count = passage(node.op)
            assert count is not None
            values[name] = count(*(values[value] for value in node.inputs))
    summed = dense(values[graph.nodes[layer].inputs[0]]).sum()
    gradients = torch.autograd.grad(summed, list(leaves.values()))
    return {name: gradient[0].double() for name, gradient in zip(leaves, gradients, strict=True)}
