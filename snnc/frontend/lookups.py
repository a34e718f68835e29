"""Tables that are looked up at numbers rounded to whole ones: what an embedding of ours is written as."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from snnc import ops
from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.expression import Array, Call, Expression, chain, tensor


@dataclass(frozen=True, eq=False)
class Lookup:
    """A rounding, a cast and a look-up one after another."""

    members: tuple[OnnxNode, ...]
    input: str
    table: Array

    def express(self, call: Call) -> Expression:
        """Return the embedding."""
        return chain(call.framed(())[0], ops.Embedding(tensor(self.table)))


def lookups(graph: OnnxGraph, taken: Set[int]) -> Iterator[Lookup]:
    """Find every table looked up at rounded numbers, none of whose nodes is in ``taken``."""
    for node in graph.nodes:
        table = graph.constants.get(node.inputs[0]) if node.kind == "Gather" else None
        if table is None or node.attributes.get("axis", 0):
            continue
        members = [node]
        for kind in ("Cast", "Round"):
            value = members[-1].inputs[-1]
            before = graph.producers.get(value)
            if before is None or before.kind != kind or graph.only_consumer(value) is None:
                break
            members.append(before)
        if len(members) == 3 and not any(id(member) in taken for member in members):
            yield Lookup(tuple(reversed(members)), members[-1].inputs[0], table)
