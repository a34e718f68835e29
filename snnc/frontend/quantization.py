"""Activations that the file has quantized already, in whatever spelling, recognized by what they compute.

Around every rounding lies a chain of affine steps and clips. Written as one function it is

    y = clip(c · floor(clip(a · z + b, l, h) + r) + d, m, n)

which is a ``QuantizedRelu`` where it counts steps of 1 / a from zero on, each worth c = 1 / a.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto, helper

from snnc import ops
from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.expression import Array, Call, Expression, chain
from snnc.frontend.operators.activation import clip_bounds

# Constants of a file are rounded to float32 and may have been multiplied by one another.
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Staircase:
    """A chain of nodes that computes ``QuantizedRelu(ceiling, levels)`` of its first input plus ``shift``."""

    members: tuple[OnnxNode, ...]
    input: str
    ceiling: Array
    levels: int
    shift: Array

    def express(self, call: Call) -> Expression:
        """Return the quantized rectifier, behind the shift where there is one."""
        value: Expression = call.broadcast(0)
        if self.shift.any():
            value = chain(value, ops.Affine(None, call.broadcast_constant(self.shift)))
        return chain(value, ops.QuantizedRelu(call.broadcast_constant(self.ceiling), self.levels))


@dataclass(frozen=True, eq=False)
class _Clipped:
    """``clip(scale · z + shift, low, high)`` with positive scale."""

    scale: Array
    shift: Array
    low: Array
    high: Array

    def affine(self, scale: Array, shift: Array) -> _Clipped:
        offset, low, high = (value * scale + shift for value in (self.shift, self.low, self.high))
        return _Clipped(self.scale * scale, offset, low, high)

    def clip(self, low: Array, high: Array) -> _Clipped:
        return replace(self, low=np.clip(self.low, low, high), high=np.clip(self.high, low, high))


@dataclass(frozen=True, eq=False)
class _Step:
    """One node of a chain, or a part of one: affine, then clipped, then perhaps rounded down after ``rounding``."""

    scale: Array
    shift: Array
    low: Array
    high: Array
    rounding: float | None = None


_ONE, _ZERO, _INFINITY = np.float64(1.0), np.float64(0.0), np.float64(np.inf)
_START = _Clipped(np.asarray(_ONE), np.asarray(_ZERO), np.asarray(-_INFINITY), np.asarray(_INFINITY))
_ROUNDINGS = {"Round": 0.5, "Floor": 0.0, "QuantizeLinear": 0.5}


def staircases(graph: OnnxGraph) -> list[Staircase]:
    """Find every chain that is a quantized rectifier; no node is in two of them."""
    found: list[Staircase] = []
    taken: set[int] = set()
    for node in graph.nodes:
        staircase = _recognize(graph, node, taken) if node.kind in _ROUNDINGS else None
        if staircase is not None:
            found.append(staircase)
            taken.update(id(member) for member in staircase.members)
    return found


def _recognize(graph: OnnxGraph, center: OnnxNode, taken: Set[int]) -> Staircase | None:
    """Return the longest quantized rectifier around a rounding, one that needs no shift where there is a choice."""
    nodes, middle = _chain(graph, center, taken)
    steps = [_steps(graph, node) for node in nodes]
    beyond = graph.only_consumer(nodes[-1].outputs[0])
    contested = beyond is not None and beyond.kind in _ROUNDINGS
    found = None
    for start, stop in itertools.product(range(middle + 1), range(len(nodes), middle, -1)):
        match = _matched(steps[start:stop])
        if match is None:
            continue
        # A rectifier in front that changes nothing stays a node of its own, and what changes nothing behind is left
        # to the next rounding.
        first, end = start, stop
        while first < middle and nodes[first].kind == "Relu" and _same(match, steps[first + 1 : end]):
            first += 1
        while contested and end > middle + 1 and _same(match, steps[first : end - 1]):
            end -= 1
        ceiling, levels, shift = match
        value = _data_input(graph, nodes[first]) or nodes[first].inputs[0]
        staircase = Staircase(tuple(nodes[first:end]), value, ceiling, levels, shift)
        if not shift.any():
            return staircase
        found = found or staircase
    return found


def _same(match: tuple[Array, int, Array], steps: Sequence[list[_Step] | None]) -> bool:
    other = _matched(steps)
    if other is None:
        return False
    (ceiling, levels, shift), (other_ceiling, other_levels, other_shift) = match, other
    return levels == other_levels and np.allclose(ceiling, other_ceiling) and np.allclose(shift, other_shift)


def _chain(graph: OnnxGraph, center: OnnxNode, taken: Set[int]) -> tuple[list[OnnxNode], int]:
    """Return the nodes around a rounding that are steps and read by nobody else, and the place of the rounding."""
    free = itertools.takewhile(lambda node: id(node) not in taken, _upstream(graph, center))
    before = list(free)[::-1]
    after = list(_downstream(graph, center))
    return [*before, center, *after], len(before)


def _upstream(graph: OnnxGraph, node: OnnxNode) -> Iterator[OnnxNode]:
    while True:
        value = _data_input(graph, node)
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
    return node.kind not in _ROUNDINGS and _steps(graph, node) is not None


def _data_input(graph: OnnxGraph, node: OnnxNode) -> str | None:
    """Return the only input that is computed, None where there are several."""
    computed = [value for value in node.inputs if value and value not in graph.constants]
    return computed[0] if len(computed) == 1 else None


def _steps(graph: OnnxGraph, node: OnnxNode) -> list[_Step] | None:
    """Return what a node does as steps, None where it is no increasing function of one input and constants."""
    if _data_input(graph, node) is None:
        return None
    constants = [graph.constants.get(value) for value in node.inputs]
    operands = [array.astype(np.float64) for array in constants if array is not None]
    kind = node.kind
    if kind == "Relu":
        return [_clipping(_ZERO, _INFINITY)]
    if kind == "Clip":
        low, high = ([*constants, None, None][index] for index in (1, 2))
        bounds = clip_bounds(node.attributes, low, high)
        return [_clipping(np.float64(bounds[0]), np.float64(bounds[1]))]
    if kind in ("Round", "Floor"):
        return [_rounded(_ROUNDINGS[kind])]
    if kind in ("Min", "Max"):
        bound = functools.reduce(np.minimum if kind == "Min" else np.maximum, operands)
        return [_clipping(-_INFINITY, bound) if kind == "Min" else _clipping(bound, _INFINITY)]
    if kind == "Add":
        return [_affine(_ONE, operands[0])]
    if kind == "Sub" and constants[0] is None:
        return [_affine(_ONE, -operands[0])]
    if kind == "Mul" and np.all(operands[0] > 0):
        return [_affine(operands[0], _ZERO)]
    if kind == "Div" and constants[0] is None and np.all(operands[0] > 0):
        return [_affine(1 / operands[0], _ZERO)]
    if kind in ("QuantizeLinear", "DequantizeLinear"):
        return _quantizer_steps(graph, node, constants)
    return None


def _quantizer_steps(graph: OnnxGraph, node: OnnxNode, constants: list[Array | None]) -> list[_Step] | None:
    """Return the steps of a conversion to integers or back."""
    scale = constants[1]
    given = constants[2] if len(constants) > 2 else None
    kind = node.attributes.get("output_dtype", 0) if node.kind == "QuantizeLinear" else 0
    zero = np.zeros((), helper.tensor_dtype_to_np_dtype(kind or TensorProto.UINT8)) if given is None else given
    shape = graph.shapes.get(node.inputs[0])
    if scale is None or shape is None or not np.issubdtype(zero.dtype, np.integer):
        return None
    along = [1] * len(shape)
    if scale.size > 1:
        axis = node.attributes.get("axis", 1)
        if node.attributes.get("block_size", 0) or not -len(shape) <= axis < len(shape):
            return None
        along[axis] = scale.size
    factor = np.float64(scale).reshape(along if scale.size > 1 else ())
    origin = np.float64(zero).reshape(along if zero.size > 1 else ())
    if node.kind == "DequantizeLinear":
        return [_affine(factor, -origin * factor)]
    limits = np.iinfo(zero.dtype)
    lowest, highest = np.float64(limits.min), np.float64(limits.max)
    return [_affine(1 / factor, _ZERO), _rounded(0.5), _affine(_ONE, origin), _clipping(lowest, highest)]


def _affine(scale: Array | np.float64, shift: Array | np.float64) -> _Step:
    return _Step(np.asarray(scale), np.asarray(shift), np.asarray(-_INFINITY), np.asarray(_INFINITY))


def _clipping(low: Array | np.float64, high: Array | np.float64) -> _Step:
    return _Step(np.asarray(_ONE), np.asarray(_ZERO), np.asarray(low), np.asarray(high))


def _rounded(rounding: float) -> _Step:
    return replace(_clipping(-_INFINITY, _INFINITY), rounding=rounding)


def _matched(parts: Sequence[list[_Step] | None]) -> tuple[Array, int, Array] | None:
    """Return ceiling, levels and shift where the steps in a row are a staircase that starts at zero."""
    before, after, rounding = _START, _START, None
    for step in itertools.chain.from_iterable(part or () for part in parts):
        if step.rounding is not None:
            rounding = step.rounding
        elif rounding is None:
            before = before.affine(step.scale, step.shift).clip(step.low, step.high)
        else:
            after = after.affine(step.scale, step.shift).clip(step.low, step.high)
    if rounding is None:
        return None
    with np.errstate(invalid="ignore"):
        lowest = np.maximum(_floor(before.low + rounding), _whole((after.low - after.shift) / after.scale))
        highest = np.minimum(_floor(before.high + rounding), _whole((after.high - after.shift) / after.scale))
        counts = np.unique(np.round(highest - lowest, 6))
    if counts.size != 1 or not np.isfinite(counts[0]) or counts[0] < 1:
        return None
    starts_at_zero = np.all(np.abs(after.scale * lowest + after.shift) <= _TOLERANCE * after.scale)
    if not starts_at_zero or not np.allclose(before.scale * after.scale, 1, rtol=0, atol=_TOLERANCE):
        return None
    levels = int(counts[0])
    excess = before.shift - lowest + rounding - 0.5
    shift = np.where(np.abs(excess) <= _TOLERANCE, 0.0, excess / before.scale)
    return levels * after.scale, levels, shift


def _floor(value: Array) -> Array:
    """Round down, except what misses a whole number by a rounding error."""
    return np.floor(value + _TOLERANCE)


def _whole(value: Array) -> Array:
    """Return values that are whole but for a rounding error as such, NaN for others."""
    nearest = np.round(value)
    whole = np.isinf(value) | (np.abs(np.nan_to_num(value - nearest)) <= _TOLERANCE)
    return np.where(whole, nearest, np.nan)
