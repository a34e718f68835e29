"""Which layers of neurons, inputs and outputs follow each other, and what stands between."""

from snnc.figure import Wire
from snnc.ir import Graph, Input
from snnc.neurons import Neuron
from snnc.ops import Weighted


def wiring(graph: Graph) -> tuple[Wire, ...]:
    """Return the ways through a network from one input or layer of neurons to the next, or to an output, in order."""
    stops = {**graph.ops(Input), **graph.ops(Neuron)}
    # What each value comes from, and through which weighted layers.
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    wires = []
    for name, node in graph.nodes.items():
        sources: dict[str, tuple[str, ...]] = {}
        for value in node.inputs:
            for source, through in found[value].items():
                sources[source] = tuple(dict.fromkeys([*sources.get(source, ()), *through]))
        if name in stops:
            wires += [Wire(source, name, through) for source, through in sources.items()]
            sources = {name: ()}
        elif isinstance(node.op, Weighted):
            sources = {source: (*through, name) for source, through in sources.items()}
        found[name] = sources
    for name in graph.outputs:
        # An output that is a layer of neurons is followed by nothing.
        between = {source: through for source, through in found[name].items() if source != name}
        wires += [
            Wire(source, f"output {graph.nodes[name].output or name}", through) for source, through in between.items()
        ]
    return tuple(wires)
