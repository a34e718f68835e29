"""Activations that the file has quantized already, in whatever spelling, recognized by what they compute.

Around every rounding lies a chain of affine steps and clips. Written as one function it is

    y = clip(c · floor(clip(a · z + b, l, h) + r) + d, m, n)

which is a ``QuantizedRelu`` where it counts steps of 1 / a from zero on, each worth c = 1 / a. Where a slope for what
is negative lies behind, it has to count as many steps below zero as above.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from snnc import ops
from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.expression import Array, Call, Expression, chain
from snnc.frontend.steps import ROUNDINGS, START, Step, data_input, steps

# Constants of a file are rounded to float32 and may have been multiplied by one another.
_TOLERANCE = 1e-4
# An offset is a sum of few of them; one that is below zero by more than this is meant.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class _Form:
    """``QuantizedRelu(ceiling, levels, slope, potential)`` of what comes in plus ``shift``."""

    ceiling: Array
    levels: int
    potential: Array
    shift: Array
    slope: Array | None

    @property
    def rounds_to_nearest(self) -> bool:
        """Whether it rounds the input itself to the nearest level."""
        return bool(np.all(self.potential == 0.5)) and not self.shift.any()

    def is_same(self, other: _Form | None) -> bool:
        """Whether another form is the same but for rounding errors."""
        if other is None or self.levels != other.levels or (self.slope is None) != (other.slope is None):
            return False
        pairs = [(self.ceiling, other.ceiling), (self.potential, other.potential), (self.shift, other.shift)]
        return all(np.allclose(ours, theirs) for ours, theirs in pairs)


@dataclass(frozen=True, eq=False)
class Staircase:
    """A chain of nodes that computes a quantized rectifier of its first input."""

    members: tuple[OnnxNode, ...]
    input: str
    form: _Form

    def express(self, call: Call) -> Expression:
        """Return the quantized rectifier, behind the shift where there is one."""
        form = self.form
        value: Expression = call.broadcast(0)
        if form.shift.any():
            value = chain(value, ops.Affine(None, call.broadcast_constant(form.shift)))
        slope = None if form.slope is None else call.broadcast_constant(form.slope)
        ceiling, potential = (call.broadcast_constant(array) for array in (form.ceiling, form.potential))
        return chain(value, ops.QuantizedRelu(ceiling, form.levels, slope, potential))


def staircases(graph: OnnxGraph, taken: Set[int]) -> Iterator[Staircase]:
    """Find every chain that is a quantized rectifier; no node is in ``taken`` or in two of them."""
    used = set(taken)
    for node in graph.nodes:
        staircase = _recognize(graph, node, used) if node.kind in ROUNDINGS and id(node) not in used else None
        if staircase is not None:
            used.update(id(member) for member in staircase.members)
            yield staircase


def _recognize(graph: OnnxGraph, center: OnnxNode, taken: Set[int]) -> Staircase | None:
    """Return the longest quantized rectifier around a rounding, one that rounds to the nearest where there is a choice.

    Else one that does not begin with a bias, which would become a part of its potential; what is added right before the
    rounding is the potential.
    """
    nodes, middle = _chain(graph, center, taken)
    parts = [steps(graph, node) for node in nodes]
    spans = itertools.product(range(middle + 1), range(len(nodes), middle, -1))
    found = [(span, form) for span in spans if (form := _matched(parts[slice(*span)])) is not None]
    if not found:
        return None
    biases = {index for index, node in enumerate(nodes[: max(middle - 1, 0)]) if node.kind in ("Add", "Sub")}
    nearest = [match for match in found if match[1].rounds_to_nearest]
    (start, stop), form = (nearest or [match for match in found if match[0][0] not in biases])[0]
    # A rectifier in front that changes nothing stays a node of its own, and what changes nothing behind is left to the
    # next rounding.
    while start < middle and nodes[start].kind == "Relu" and form.is_same(_matched(parts[start + 1 : stop])):
        start += 1
    beyond = graph.only_consumer(nodes[-1].outputs[0])
    contested = beyond is not None and beyond.kind in ROUNDINGS
    while contested and stop > middle + 1 and form.is_same(_matched(parts[start : stop - 1])):
        stop -= 1
    value = data_input(graph, nodes[start]) or nodes[start].inputs[0]
    return Staircase(tuple(nodes[start:stop]), value, form)


def _chain(graph: OnnxGraph, center: OnnxNode, taken: Set[int]) -> tuple[list[OnnxNode], int]:
    """Return the nodes around a rounding that are steps and read by nobody else, and the place of the rounding."""
    free = itertools.takewhile(lambda node: id(node) not in taken, _upstream(graph, center))
    before = list(free)[::-1]
    after = list(itertools.takewhile(lambda node: id(node) not in taken, _downstream(graph, center)))
    return [*before, center, *after], len(before)


def _upstream(graph: OnnxGraph, node: OnnxNode) -> Iterator[OnnxNode]:
    while True:
        value = data_input(graph, node)
        producer = graph.producers.get(value) if value else None
        if producer is None or graph.only_consumer(value or "") is None or not _is_plain_step(graph, producer):
            return
        yield producer
        node = producer


def _downstream(graph: OnnxGraph, node: OnnxNode) -> Iterator[OnnxNode]:
    while True:
        consumer = graph.only_consumer(node.outputs[0])
        if consumer is None or not _is_plain_step(graph, consumer):
            return
        yield consumer
        node = consumer


def _is_plain_step(graph: OnnxGraph, node: OnnxNode) -> bool:
    return node.kind not in ROUNDINGS and steps(graph, node) is not None


def _matched(parts: Sequence[list[Step] | None]) -> _Form | None:
    """Return what the steps in a row are where they are a staircase from zero."""
    before, after, rounding, slope = START, START, None, None
    for step in itertools.chain.from_iterable(part or () for part in parts):
        if step.rounding is not None:
            rounding = step.rounding
        elif step.slope is not None:
            if rounding is None or slope is not None or after.shift.any():
                return None
            slope = step.slope
        elif rounding is None:
            before = before.affine(step.scale, step.shift).clip(step.low, step.high)
        elif slope is not None and (step.shift.any() or step.clips):
            return None
        else:
            after = after.affine(step.scale, step.shift).clip(step.low, step.high)
    if rounding is None:
        return None
    with np.errstate(invalid="ignore"):
        lowest = np.maximum(_floor(before.low + rounding), _whole((after.low - after.shift) / after.scale))
        highest = np.minimum(_floor(before.high + rounding), _whole((after.high - after.shift) / after.scale))
        if slope is not None:
            lowest = np.where(lowest == -highest, 0.0, np.nan)
        counts = np.unique(np.round(highest - lowest, 6))
    if counts.size != 1 or not np.isfinite(counts[0]) or counts[0] < 1:
        return None
    starts_at_zero = np.all(np.abs(after.scale * lowest + after.shift) <= _TOLERANCE * after.scale)
    if not starts_at_zero or not np.allclose(before.scale * after.scale, 1, rtol=0, atol=_TOLERANCE):
        return None
    levels = int(counts[0])
    potential, shift = _start(before.shift - lowest + rounding, before.scale)
    return _Form(_ceiling(levels, after.scale, before.scale), levels, potential, shift, slope)


def _ceiling(levels: int, worth: Array, factor: Array) -> Array:
    """Return the ceiling whose level is worth so much and whose inputs are multiplied by that factor.

    Rounded as our own operation rounds, so that what is right on a step stays there: of the nearest number and its
    neighbors the one that gives back both constants of the file, if any does.
    """
    nearest = np.asarray(levels * worth, np.float32)
    count = np.float32(levels)
    found = nearest
    for candidate in (np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(np.inf)), nearest):
        # torch divides a number by a tensor so.
        quotient = np.float32(1) / candidate * count
        fits = (quotient == np.float32(factor)) & (candidate / count == np.float32(worth))
        found = np.where(fits, candidate, found)
    return np.asarray(found, np.float64)


def _start(offset: Array, scale: Array) -> tuple[Array, Array]:
    """Return the potential that stands for an offset before rounding down, and what to shift the input by besides.

    A neuron starts somewhere from zero to below its threshold; what is beyond is a bias.
    """
    if np.all(np.abs(offset - 0.5) <= _TOLERANCE):
        return np.asarray(0.5), np.asarray(0.0)
    own = (offset >= -_ROUNDING) & (offset < 1)
    return np.where(own, np.maximum(offset, 0.0), 0.5), np.where(own, 0.0, (offset - 0.5) / scale)


def _floor(value: Array) -> Array:
    """Round down, except what misses a whole number by a rounding error."""
    return np.floor(value + _TOLERANCE)


def _whole(value: Array) -> Array:
    """Return values that are whole but for a rounding error as such, NaN for others."""
    nearest = np.round(value)
    whole = np.isinf(value) | (np.abs(np.nan_to_num(value - nearest)) <= _TOLERANCE)
    return np.where(whole, nearest, np.nan)
