"""Rectifiers with a ceiling that take several nodes of the file: limits on either side, then perhaps a slope.

``min(max(z, 0), c)`` is ``ClippedRelu(c)``, and ``leaky(min(max(z, −c), c))`` is ``ClippedRelu(c, slope)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np

from snnc import ops
from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.expression import Array, Call, Expression, chain
from snnc.frontend.steps import START, Step, data_input, steps


@dataclass(frozen=True, eq=False)
class Rectifier:
    """Nodes that compute ``ClippedRelu(ceiling, slope)`` of their input."""

    members: tuple[OnnxNode, ...]
    input: str
    ceiling: Array
    slope: Array | None

    def express(self, call: Call) -> Expression:
        """Return the clipped rectifier."""
        slope = None if self.slope is None else call.broadcast_constant(self.slope)
        return chain(call.broadcast(0), ops.ClippedRelu(call.broadcast_constant(self.ceiling), slope))


def rectifiers(graph: OnnxGraph, taken: Set[int]) -> Iterator[Rectifier]:
    """Find clipped rectifiers of several nodes, none of which is in ``taken`` or in two of them."""
    used = set(taken)
    for node in graph.nodes:
        found = _recognize(graph, node, used)
        if found is not None:
            used.update(id(member) for member in found.members)
            yield found


def _recognize(graph: OnnxGraph, first: OnnxNode, used: Set[int]) -> Rectifier | None:
    """Return the shortest clipped rectifier of several nodes that begins with a node."""
    value = data_input(graph, first)
    members: list[OnnxNode] = []
    limits = START
    for node, step in _row(graph, first, used):
        members.append(node)
        limits = limits.clip(step.low, step.high)
        lowest = np.asarray(0.0) if step.slope is None else -limits.high
        if value and len(members) > 1 and np.all(limits.low == lowest) and np.isfinite(limits.high).any():
            return Rectifier(tuple(members), value, limits.high, step.slope)
    return None


def _row(graph: OnnxGraph, first: OnnxNode, used: Set[int]) -> Iterator[tuple[OnnxNode, Step]]:
    """Yield a node and those behind it as long as all they do is to clip, up to one with a slope."""
    node: OnnxNode | None = first
    while node is not None and id(node) not in used:
        found = steps(graph, node) or []
        if len(found) != 1 or not (found[0].only_clips or found[0].slope is not None):
            return
        (step,) = found
        yield node, step
        node = graph.only_consumer(node.outputs[0]) if step.slope is None else None
