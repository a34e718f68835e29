"""Where a network can be cut: the regions between two points where a single value crosses."""

from dataclasses import dataclass

from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.ops import Activation, Weighted


@dataclass(frozen=True)
class Unit:
    """A region of a graph that takes one value, ``entry``, and hands on one, ``exit``: a residual block, or one layer.

    ``nodes`` are the names inside, the exit among them. ``activation`` is the exit where that is an activation or a
    layer of neurons, None at the end of the network.
    """

    entry: str
    exit: str
    nodes: tuple[str, ...]
    activation: str | None


def units(graph: Graph) -> tuple[Unit, ...]:
    """Return the smallest units that hold weights and end with an activation, or with the network, in order.

    What follows the last of them without weights is in none. A network with several inputs or outputs has no point that
    a single value crosses before or behind them.
    """
    found: list[Unit] = []
    entry, inside = "", list[str]()
    for segment in _cut_into_segments(graph):
        inside += segment
        name = segment[-1]
        if not entry:
            entry, inside = name, []
            continue
        spikes = isinstance(graph.op(name), Activation | Neuron)
        weighted = any(isinstance(graph.op(value), Weighted) for value in inside)
        if weighted and (spikes or name in graph.outputs):
            found.append(Unit(entry, name, tuple(inside), name if spikes else None))
            entry, inside = name, []
    return tuple(found)


def _cut_into_segments(graph: Graph) -> list[list[str]]:
    """Return the nodes in order, cut wherever the last one's value is all that is needed further on."""
    last_use = {name: index for index, node in enumerate(graph.nodes.values()) for name in node.inputs}
    segments: list[list[str]] = []
    inside: list[str] = []
    # Inputs are there from the start, wherever they stand.
    live = {name for name in graph.inputs if name in last_use}
    for index, node in enumerate(graph.nodes.values()):
        inside.append(node.name)
        live = {name for name in live if last_use[name] > index or name in graph.outputs}
        if node.name in last_use or node.name in graph.outputs:
            live.add(node.name)
            last_use.setdefault(node.name, index)
        if live == {node.name}:
            segments.append(inside)
            inside = []
    return segments
