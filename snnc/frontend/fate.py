"""Which nodes of the file are still there behind the canonical form, and which do the part of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx import GraphProto

from snnc.frontend.canonical import OnnxGraph
from snnc.frontend.labels import labels, read_values
from snnc.frontend.reasons import reason
from snnc.frontend.walk import FOLDED, LEFT_OUT, UNROLLED, Verdict

_CONSTANT = "Constant"
# What is written out round by round, and what is written as one of its branches.
_LOOPS = {"Loop", "Scan", "SequenceMap"}
_WRITTEN_OUT = {*_LOOPS, "If"}


def in_file_order(
    given: GraphProto, pinned: GraphProto, canonical: OnnxGraph, walked: Sequence[Verdict]
) -> tuple[Verdict, ...]:
    """Return a verdict on every node of the ``given`` graph but its constants, in their order.

    ``walked`` are the verdicts on the nodes of the canonical form, whose names are those of the file where a node is
    its. What onnxruntime made stands behind the node before it, unless it is part of a node of the file that cannot
    become spiking: then there is one verdict on that node. What is in the file but not in ``pinned`` was left out.
    """
    names = labels(given)
    position = {name: index for index, name in enumerate(names)}
    kept = {node.name for node in pinned.node}
    search = _Search(pinned, canonical, walked)
    kinds = dict(zip(names, (node.op_type for node in given.node), strict=True))
    homes = _homes(canonical, kinds)
    refused = _refused(canonical, walked, homes, kinds)
    placed: list[tuple[int, int, Verdict]] = []
    told: set[str] = set()
    index = 0
    for order, (node, verdict) in enumerate(zip(canonical.nodes, walked, strict=True)):
        own = position.get(node.label)
        index = index if own is None else own
        home = homes.get(node.label, "")
        if home in refused and (node.label != home or home in told):
            continue
        told.add(home)
        verdict = refused.get(home, verdict)
        kind = kinds.get(node.label, verdict.operation)
        into = search.carriers(node.label) if verdict.becomes == FOLDED else verdict.into
        placed.append((index, order, replace(verdict, operation=kind, into=into, position=own)))
    present = {node.label for node in canonical.nodes}
    for index, (name, node) in enumerate(zip(names, given.node, strict=True)):
        if name in present or node.op_type == _CONSTANT:
            continue
        verdict = Verdict(name, node.op_type, LEFT_OUT, 0, 0.0, position=index)
        if name in kept and node.op_type in _LOOPS:
            verdict = replace(verdict, becomes=UNROLLED)
        elif name in kept:
            verdict = replace(verdict, becomes=FOLDED, into=search.carriers(name))
        placed.append((index, -1, verdict))
    return tuple(verdict for _, _, verdict in sorted(placed, key=lambda entry: entry[:2]))


def _homes(canonical: OnnxGraph, kinds: Mapping[str, str]) -> dict[str, str]:
    """Return the nodes that onnxruntime writes a node of the file as, itself included, each with that node's name.

    A node of its making is part of the one that alone it is made for.
    """
    homes: dict[str, str] = {}
    for node in reversed(canonical.nodes):
        if node.label in kinds:
            if node.kind != kinds[node.label]:
                homes[node.label] = node.label
            continue
        readers = (reader for value in node.outputs if value for reader in canonical.consumers.get(value, ()))
        found = {homes.get(reader.label, "") for reader in readers}
        if len(found) == 1 and not found & {""} and not {*node.outputs} & {*canonical.outputs}:
            homes[node.label] = found.pop()
    return homes


def _refused(
    canonical: OnnxGraph, walked: Sequence[Verdict], homes: Mapping[str, str], kinds: Mapping[str, str]
) -> dict[str, Verdict]:
    """Return one verdict on every node of the file that is written as several of which one cannot become spiking."""
    parts: dict[str, list[Verdict]] = {}
    for node, verdict in zip(canonical.nodes, walked, strict=True):
        if node.label in homes:
            parts.setdefault(homes[node.label], []).append(verdict)
    refused = {}
    for home, verdicts in parts.items():
        first = next((verdict for verdict in verdicts if verdict.problem), None)
        if first is not None:
            # What no longer is a loop or a branch is refused for what is inside.
            own, inside = kinds[home], (first.problem, first.hint)
            problem, hint = inside if own in _WRITTEN_OUT else reason(own, inside)
            costs = sum(verdict.macs for verdict in verdicts), sum(verdict.share for verdict in verdicts)
            refused[home] = Verdict(home, kinds[home], "", *costs, problem, hint)
    return refused


class _Search:
    """Finds what carries on the part of a node that is folded away."""

    def __init__(self, pinned: GraphProto, canonical: OnnxGraph, walked: Sequence[Verdict]) -> None:
        self._nodes = {node.name: node for node in pinned.node}
        self._readers: dict[str, list[str]] = {}
        for node in pinned.node:
            for value in dict.fromkeys(read_values(node)):
                self._readers.setdefault(value, []).append(node.name)
        pairs = list(zip(canonical.nodes, walked, strict=True))
        self._staying = {verdict.name for verdict in walked if verdict.becomes != FOLDED}
        self._producers = {value: node.label for node, _ in pairs for value in node.outputs if value}
        self._order = {verdict.name: order for order, (_, verdict) in enumerate(pairs)}

    def carriers(self, name: str) -> tuple[str, ...]:
        """Return the operation that computes the node's value, or those that read it, be it by way of folded ones."""
        found: set[str] = set()
        seen = {name}
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in self._staying:
                found.add(name)
                continue
            outputs = self._nodes[name].output if name in self._nodes else ()
            computing = {self._producers.get(value, "") for value in outputs} & self._staying
            following = computing or {reader for value in outputs for reader in self._readers.get(value, ())}
            waiting += following - seen
            seen |= following
        return tuple(sorted(found, key=self._order.__getitem__))
