"""Where constants are added to what an activation takes in: to the bias of the layer before it, or in a new node."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from snnc.analysis.channels import channel_count, from_channels
from snnc.ir import Graph, Input, Node, Op, rewired
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import Timed
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    MaxPool,
    Mean,
    Nonlinear,
    Pool,
    Resample,
    Routing,
    Weighted,
)
from snnc.rules import Rules

# rule(op, graph, node): the layer, or None where only a node of its own can shift a value.
layer_behind = Rules[Op, str | None]("whose bias shifts a value and nothing else")


def biased(graph: Graph, value: str) -> str | None:
    """Return the layer whose bias shifts ``value`` and nothing else, None where there is no such."""
    if not _is_own(graph, value):
        return None
    node = graph.nodes[value]
    return layer_behind(node.op, graph, node)


@layer_behind.register(Weighted)
def _itself(op: Weighted, graph: Graph, node: Node) -> str:
    return node.name


@layer_behind.register(MaxPool)
def _before(op: MaxPool, graph: Graph, node: Node) -> str | None:
    """The maximum of shifted values is the shifted maximum."""
    return biased(graph, node.inputs[0])


@layer_behind.register(Add)
def _last_summand(op: Add, graph: Graph, node: Node) -> str | None:
    weighted = graph.ops(Weighted)
    layers = [
        other
        for other in node.inputs
        if other in weighted
        and _is_own(graph, other)
        and node.inputs.count(other) == 1
        and graph.shapes[other] == graph.shapes[node.name]
    ]
    return layers[-1] if layers else None


@layer_behind.register(Input, Routing, Pool, Mean, Resample, Affine, BatchNorm, Activation, Nonlinear, Timed)
def _nobody(op: Op, graph: Graph, node: Node) -> None:
    """What is moved, scaled or averaged would take another constant before than behind."""


def shifted(layer: Weighted, shift: Tensor) -> Weighted:
    """Return the layer with ``shift`` ``[C]`` added to its bias."""
    bias = shift if layer.bias is None else layer.bias.double() + shift
    return replace(layer, bias=bias.to(layer.weight.dtype))


def inserted(graph: Graph, ops: Mapping[str, Op], suffix: str) -> Graph:
    """Return the graph with an operation put before each of the one-input nodes named in ``ops``."""
    nodes: list[Node] = []
    for node in graph.nodes.values():
        if node.name in ops:
            name = graph.unused(f"{node.name}_{suffix}")
            nodes += [Node(name, ops[node.name], node.inputs, node.source), rewired(node, {node.inputs[0]: name})]
        else:
            nodes.append(node)
    return Graph.of(nodes, graph.outputs)


def temporal_bias(graph: Graph, name: str) -> str | None:
    """Return the temporal bias right before neurons that nothing else reads."""
    (value,) = graph.nodes[name].inputs
    return value if value in graph.ops(TemporalBias) and _is_own(graph, value) else None


def with_temporal_biases(graph: Graph, timesteps: int) -> Graph:
    """Return the graph with a bias for every step awake right before neurons that fire while they gather.

    It is 0 where there was none. One that was made for fewer steps keeps its last bias, as it does when it runs.
    """
    steps = torch.arange(timesteps)
    there = {name: temporal_bias(graph, name) for name in graph.ops(Neuron)}
    shifts = {place: graph.ops(TemporalBias)[place].shift for place in there.values() if place is not None}
    others = {place: shift for place, shift in shifts.items() if len(shift) != timesteps}
    graph = graph.with_ops({n: TemporalBias(shift[steps.clamp(max=len(shift) - 1)]) for n, shift in others.items()})
    added = {}
    for name in graph.ops(CausalNeuron):
        if there[name] is None:
            blank = from_channels(graph, name, torch.zeros(channel_count(graph, name)))
            added[name] = TemporalBias(torch.stack([blank] * timesteps))
    return inserted(graph, added, "temporal_bias") if added else graph


def _is_own(graph: Graph, value: str) -> bool:
    """Return whether a single node reads a value."""
    return len(graph.consumers[value]) == 1 and value not in graph.outputs
