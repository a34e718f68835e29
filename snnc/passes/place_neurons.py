"""Put neurons where weights would multiply what is no spike."""

from dataclasses import dataclass
from typing import Literal, final

import torch

from snnc.analysis.values import Kind, value_kind
from snnc.calibration import Calibration
from snnc.ir import Graph, Node, rewired
from snnc.ops import Activation, ClippedCoding, Pointwise, Weighted
from snnc.passes.base import Pass, check_layers, passes


@final
@passes.register("place-neurons")
@dataclass(frozen=True)
class PlaceNeurons(Pass):
    """A value of a weighted layer's that no spikes bring -> a code of it: neurons of both signs, as defined here.

    Currents and what is computed from them by functions that no neuron stands for are coded once each, however many
    layers read them; what the image alone makes, what spikes bring and what is only added or goes into other functions
    is left as it is. ``where`` is ``all`` or ``none``, or names the layers whose inputs are coded, then also what the
    image alone makes; ``keep`` names those that go on multiplying. Until thresholds are chosen the network computes the
    same.
    """

    where: Literal["all", "none"] | tuple[str, ...] = "all"
    keep: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        return True

    def requires(self, graph: Graph) -> None:
        if not isinstance(self.where, str):
            check_layers("place-neurons.where", self.where, graph.ops(Weighted))
        check_layers("place-neurons.keep", self.keep, graph.ops(Weighted))

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        readers = self._readers(graph)
        kinds = _kinds(graph)
        read = (value for name in graph.nodes if name in readers for value in graph.nodes[name].inputs)
        analog = {Kind.CURRENT, Kind.LIFTED} | (set() if isinstance(self.where, str) else {Kind.CONSTANT})
        coded = {value for value in read if kinds[value] in analog}
        if not coded:
            return graph
        known = {graph.nodes[name].inputs[0]: name for name in graph.ops(ClippedCoding)}
        names = {value: known.get(value) or graph.unused(f"{value}_code") for value in graph.nodes if value in coded}
        nodes: list[Node] = []
        for node in graph.nodes.values():
            nodes.append(rewired(node, names) if node.name in readers else node)
            if node.name in coded - {*known}:
                op = ClippedCoding(torch.tensor(torch.inf))
                nodes.append(Node(names[node.name], op, (node.name,), node.source))
        return Graph.of(nodes, graph.outputs)

    def _readers(self, graph: Graph) -> set[str]:
        """Return the layers whose inputs are to be spikes."""
        wanted = {"all": {*graph.ops(Weighted)}, "none": set[str]()}
        asked = wanted[self.where] if isinstance(self.where, str) else {*self.where}
        return asked - {*self.keep}


def _kinds(graph: Graph) -> dict[str, Kind]:
    """Return the kinds of values once neurons stand where they will: what they stand for brings spikes.

    A function of every number behind weights ends what the image alone makes, as a rectifier does in other networks:
    else a network without rectifiers would be computed from the image to the answer without a spike.
    """
    # A rectifier that is kept analog beside quantized ones is kept as it is.
    spiking, weighted, functions = {*graph.ops(Activation)}, {*graph.ops(Weighted)}, {*graph.ops(Pointwise)}
    found: dict[str, Kind] = {}
    behind: set[str] = set()
    for name, node in graph.nodes.items():
        if name in weighted or behind.intersection(node.inputs):
            behind.add(name)
        kind = Kind.SPIKES if name in spiking else value_kind(node.op, [found[value] for value in node.inputs])
        found[name] = Kind.LIFTED if name in functions and name in behind else kind
    return found
