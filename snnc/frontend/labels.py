"""What the nodes of a file are called: names may be missing there, or be those of several nodes."""

from collections import Counter
from collections.abc import Iterator

from onnx import GraphProto, NodeProto


def labels(graph: GraphProto) -> tuple[str, ...]:
    """Return a name for every node of a graph, in order, that no other node has.

    It is the node's own name, or that of the first value it computes where its name is empty, is that of another node
    too (in a branch or loop inside, for instance), or is that of a value that another node computes.
    """
    computed = [next(filter(None, node.output), "") for node in graph.node]
    names = Counter(_names(graph))
    owner = {value: index for index, node in enumerate(graph.node) for value in node.output}
    return tuple(
        node.name if names[node.name] == 1 and owner.get(node.name, index) == index else computed[index]
        for index, node in enumerate(graph.node)
    )


def read_values(node: NodeProto) -> Iterator[str]:
    """Yield the values that a node reads, those that the graphs inside it take from outside included."""
    yield from filter(None, node.input)
    for inside in subgraphs(node):
        own = {value for part in inside.node for value in part.output} | {value.name for value in inside.input}
        for part in inside.node:
            yield from (value for value in read_values(part) if value not in own)
        yield from (value.name for value in inside.output if value.name not in own)


def _names(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.name:
            yield node.name
        for inside in subgraphs(node):
            yield from _names(inside)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs inside a node: branches, and bodies of loops."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g
