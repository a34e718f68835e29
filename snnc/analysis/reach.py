"""Whom a spike reaches: what drives every operation that multiplies, and how often it is evaluated (METHODS 6, 7).

Weights that spikes drive are added, one for every spike and target. Where several populations of neurons read the sum
that a layer makes, at various places of a trunk of additions, a spike is delivered to each of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnc.analysis.values import Kind, value_kind, value_kinds
from snnc.analysis.work import work_of
from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.neurons.base import asked_in_order
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
from snnc.schedule import Schedule

# An operation with all its weights 1, so that it counts connections.
Count = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Connections:
    """The connections into one operation that multiplies, or computes something else that no spikes pass.

    ``macs`` is the work of one dense pass, ``kind`` the kind of what is taken in, ``images`` the inputs of the network
    that it is computed from. ``reach`` says for each layer of neurons that feeds it, and for each neuron there, how
    many targets one spike reaches, over all ``populations`` that the sum is delivered to, on average ``copies`` of it.
    It is empty where scaled spikes are taken up by the weights behind, and None where analog values are taken in;
    ``in_order`` then says whether they are evaluated at every step, for neurons that fire while they gather.
    """

    macs: int
    kind: Kind
    reach: Mapping[str, Tensor] | None
    images: frozenset[str] = frozenset()
    populations: tuple[str, ...] = ()
    copies: float = 1.0
    in_order: bool = False

    def evaluations(self, schedule: Schedule, over_time: Set[str] = frozenset()) -> int:
        """Return how often it is evaluated in one inference; ``over_time`` are the inputs that change meanwhile.

        What the image alone makes is computed once, and so is what neurons that gather first, or the answer, take the
        mean of. Before neurons that fire while they gather, it goes on as long as the image is on, or spikes come.
        """
        if self.reach is not None:
            return 0
        if not self.in_order or (self.kind is Kind.CONSTANT and self.images.isdisjoint(over_time)):
            return 1
        return schedule.lit if self.kind is Kind.CONSTANT else schedule.total


# rule(op): how it counts the connections of spikes that pass through one by one; None where they do not.
passage = Rules[Op, Count | None]("how does a spike pass")


def connected(graph: Graph) -> dict[str, Connections]:
    """Return the connections into everything in a graph that multiplies, or that no spikes pass."""
    kinds, spikes, layers = value_kinds(graph), arriving(graph), graph.ops(Weighted)
    in_order, reached = asked_in_order([*graph.nodes.values()]), _populations(graph)
    images: dict[str, frozenset[str]] = {name: frozenset([name]) for name in graph.inputs}
    found = {}
    for name, node in graph.nodes.items():
        if name in images:
            continue
        images[name] = frozenset().union(*(images[value] for value in node.inputs))
        macs = work_of(graph, node).macs
        if not macs and (node.op.linear or kinds[name] not in (Kind.CONSTANT, Kind.LIFTED)):
            continue
        reach: Mapping[str, Tensor] | None = None if spikes[name] is None else {}
        populations: tuple[str, ...] = ()
        copies = torch.ones(())
        sources = spikes[node.inputs[0]] if name in layers else None
        if sources is not None:
            populations = reached[name]
            copies = _copies(graph, name, populations) if len(populations) > 1 else copies
            reach = _reach(graph, name, sources, copies)
        kind = max(kinds[value] for value in node.inputs)
        average = float(copies.mean())
        found[name] = Connections(macs, kind, reach, images[name], populations, average, name in in_order)
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


def _populations(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return the layers of neurons that take in the value of every node, through what adds and moves only."""
    neurons = graph.ops(Neuron)
    found: dict[str, dict[str, None]] = {name: {} for name in graph.nodes}
    for name, node in reversed([*graph.nodes.items()]):
        # What is added stays a current; the largest of several currents, which spikes pass as well, is another number.
        stays = value_kind(node.op, [Kind.CURRENT] * len(node.inputs)) is Kind.CURRENT
        if name in neurons or (stays and passage(node.op) is not None):
            for value in node.inputs:
                found[value] |= {name: None} if name in neurons else found[name]
    return {name: tuple(other for other in neurons if other in reached) for name, reached in found.items()}


def _united(sources: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    known = [*sources]
    return None if None in known else frozenset().union(*(names for names in known if names is not None))


@torch.enable_grad()
def _copies(graph: Graph, layer: str, populations: Sequence[str]) -> Tensor:
    """Return to how many populations every sum of a layer is delivered, ``[1, ...]``, at least one."""
    at = torch.ones(1, *graph.shapes[layer], requires_grad=True)
    values = {layer: at}
    taken = {name: graph.nodes[name].inputs[0] for name in populations}
    between = graph.ancestors(taken.values(), stop=[layer, *graph.ops(Neuron)])
    for name, node in graph.nodes.items():
        count = passage(node.op) if name in between and name != layer else None
        if count is not None and not values.keys().isdisjoint(node.inputs):
            blank = (torch.zeros(1, *graph.shapes[value]) for value in node.inputs)
            values[name] = count(*(values.get(value, zero) for value, zero in zip(node.inputs, blank, strict=True)))
    sums = [values[value].sum() for value in taken.values() if value in values]
    read = [torch.autograd.grad(total, at, retain_graph=True)[0] > 0 for total in sums]
    return torch.stack(read).sum(0).clamp(min=1).double() if read else torch.ones(()).double()


@torch.enable_grad()
def _reach(graph: Graph, layer: str, sources: frozenset[str], copies: Tensor) -> dict[str, Tensor]:
    """Count targets as the gradient of a network in which every connection weighs 1, and is there so many times."""
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
    summed = (dense(values[graph.nodes[layer].inputs[0]]) * copies.float()).sum()
    gradients = torch.autograd.grad(summed, list(leaves.values()))
    return {name: gradient[0].double() for name, gradient in zip(leaves, gradients, strict=True)}
