"""Which nodes of the file are still there behind the canonical form, and which do the part of the others."""

from collections.abc import Sequence
from dataclasses import replace

from onnx import GraphProto

from snnc.frontend.canonical import OnnxGraph
from snnc.frontend.labels import labels, read_values
from snnc.frontend.walk import FOLDED, LEFT_OUT, Verdict

_CONSTANT = "Constant"


def in_file_order(
    given: GraphProto, pinned: GraphProto, canonical: OnnxGraph, walked: Sequence[Verdict]
) -> tuple[Verdict, ...]:
    """Return a verdict on every node of the ``given`` graph but its constants, in their order.

    ``walked`` are the verdicts on the nodes of the canonical form, whose names are those of the file where a node is
    its. What onnxruntime made stands behind the node before it; what is in the file but not in ``pinned`` was left out.
    """
    names = labels(given)
    position = {name: index for index, name in enumerate(names)}
    kept = {node.name for node in pinned.node}
    search = _Search(pinned, canonical, walked)
    placed: list[tuple[int, int, Verdict]] = []
    index = 0
    for order, (node, verdict) in enumerate(zip(canonical.nodes, walked, strict=True)):
        own = position.get(node.name)
        index = index if own is None else own
        kind = verdict.operation if own is None else given.node[own].op_type
        into = search.carriers(node.name) if verdict.becomes == FOLDED else verdict.into
        placed.append((index, order, replace(verdict, operation=kind, into=into, position=own)))
    present = {node.name for node in canonical.nodes}
    for index, (name, node) in enumerate(zip(names, given.node, strict=True)):
        if name in present or node.op_type == _CONSTANT:
            continue
        verdict = Verdict(name, node.op_type, LEFT_OUT, 0, 0.0, position=index)
        if name in kept:
            verdict = replace(verdict, becomes=FOLDED, into=search.carriers(name))
        placed.append((index, -1, verdict))
    return tuple(verdict for _, _, verdict in sorted(placed, key=lambda entry: entry[:2]))


class _Search:
    """Finds what carries on the part of a node that is folded away."""

    def __init__(self, pinned: GraphProto, canonical: OnnxGraph, walked: Sequence[Verdict]) -> None:
        self._nodes = {node.name: node for node in pinned.node}
        self._readers: dict[str, list[str]] = {}
        for node in pinned.node:
            for value in dict.fromkeys(read_values(node)):
                self._readers.setdefault(value, []).append(node.name)
        pairs = list(zip(canonical.nodes, walked, strict=True))
        self._staying = {node.name: verdict.name for node, verdict in pairs if verdict.becomes != FOLDED}
        self._producers = {value: node.name for node, _ in pairs for value in node.outputs if value}
        self._order = {verdict.name: order for order, (_, verdict) in enumerate(pairs)}

    def carriers(self, name: str) -> tuple[str, ...]:
        """Return the operation that computes the node's value, or those that read it, be it by way of folded ones."""
        found: set[str] = set()
        seen = {name}
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in self._staying:
                found.add(self._staying[name])
                continue
            outputs = self._nodes[name].output if name in self._nodes else ()
            computing = {self._producers.get(value, "") for value in outputs} & self._staying.keys()
            following = computing or {reader for value in outputs for reader in self._readers.get(value, ())}
            waiting += following - seen
            seen |= following
        return tuple(sorted(found, key=self._order.__getitem__))
