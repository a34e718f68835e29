"""Where constants are added to what an activation takes in: to the bias of the layer before it, or in a new node."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from snnc.ir import Graph, Node, Op, rewired
from snnc.ops import Add, MaxPool, Weighted


def biased(graph: Graph, value: str) -> str | None:
    """Return the layer whose bias shifts ``value`` and nothing else, None where there is no such."""
    if len(graph.consumers[value]) != 1 or value in graph.outputs:
        return None
    node = graph.nodes[value]
    if isinstance(node.op, Weighted):
        return value
    if isinstance(node.op, MaxPool):
        # The maximum of shifted values is the shifted maximum.
        return biased(graph, node.inputs[0])
    layers = [
        other
        for other in node.inputs
        if isinstance(graph.op(other), Weighted)
        and len(graph.consumers[other]) == node.inputs.count(other) == 1
        and other not in graph.outputs
        and graph.shapes[other] == graph.shapes[value]
    ]
    return layers[-1] if isinstance(node.op, Add) and layers else None


def shifted(layer: Weighted, shift: Tensor) -> Weighted:
    """Return the layer with ``shift`` ``[C]`` added to its bias."""
    bias = shift if layer.bias is None else layer.bias.double() + shift
    return replace(layer, bias=bias.to(layer.weight.dtype))


def inserted(graph: Graph, ops: Mapping[str, Op], suffix: str) -> Graph:
    """Return the graph with an operation put before each of the one-input nodes named in ``ops``."""
    nodes: list[Node] = []
    for node in graph.nodes.values():
        if node.name in ops:
            name = f"{node.name}_{suffix}"
            while name in graph.nodes:
                name += "_"
            nodes += [Node(name, ops[node.name], node.inputs, node.source), rewired(node, {node.inputs[0]: name})]
        else:
            nodes.append(node)
    return Graph.of(nodes, graph.outputs)
