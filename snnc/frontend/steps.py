"""Nodes that do the same to every number: an increasing step (affine, clipped, rounded), or a slope below zero."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto, helper

from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.expression import Array
from snnc.frontend.operators.activation import clip_bounds


@dataclass(frozen=True, eq=False)
class Clipped:
    """``clip(scale · z + shift, low, high)`` with positive scale."""

    scale: Array
    shift: Array
    low: Array
    high: Array

    def affine(self, scale: Array, shift: Array) -> Clipped:
        """Return this, then multiplied and added to."""
        offset, low, high = (value * scale + shift for value in (self.shift, self.low, self.high))
        return Clipped(self.scale * scale, offset, low, high)

    def clip(self, low: Array, high: Array) -> Clipped:
        """Return this, then clipped again."""
        return replace(self, low=np.clip(self.low, low, high), high=np.clip(self.high, low, high))


@dataclass(frozen=True, eq=False)
class Step:
    """One node, or a part of one: affine, then clipped, then perhaps rounded down after ``rounding`` is added.

    One with a ``slope`` does nothing but multiply negative values by it.
    """

    scale: Array
    shift: Array
    low: Array
    high: Array
    rounding: float | None = None
    slope: Array | None = None

    @property
    def clips(self) -> bool:
        """Whether it may change the values beyond some bounds."""
        return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())

    @property
    def only_clips(self) -> bool:
        """Whether it leaves the values between its bounds as they are."""
        return self.rounding is None and self.slope is None and bool(np.all(self.scale == 1) and not self.shift.any())


_ONE, _ZERO, _INFINITY = np.float64(1.0), np.float64(0.0), np.float64(np.inf)
START = Clipped(np.asarray(_ONE), np.asarray(_ZERO), np.asarray(-_INFINITY), np.asarray(_INFINITY))
ROUNDINGS = {"Round": 0.5, "Floor": 0.0, "QuantizeLinear": 0.5}
# What may be a step; the constants of others, which may be large, are not looked at.
_KINDS = {
    *ROUNDINGS,
    "DequantizeLinear",
    "Relu",
    "Clip",
    "Min",
    "Max",
    "LeakyRelu",
    "PRelu",
    "Add",
    "Sub",
    "Mul",
    "Div",
}

# What numpy and ml_dtypes call integers.
_INTEGERS = re.compile(r"(?P<unsigned>u?)int(?P<bits>\d+)")


def data_input(graph: OnnxGraph, node: OnnxNode) -> str | None:
    """Return the only input that is computed, None where there are several."""
    computed = [value for value in node.inputs if value and value not in graph.constants]
    return computed[0] if len(computed) == 1 else None


def steps(graph: OnnxGraph, node: OnnxNode) -> list[Step] | None:
    """Return what a node does as steps, None where it does anything else, or depends on more than one input."""
    if node.kind not in _KINDS or data_input(graph, node) is None:
        return None
    try:
        return _steps(graph, node)
    except (IndexError, TypeError, ValueError):
        # Parameters that make no sense are told of where the node is read alone.
        return None


def _steps(graph: OnnxGraph, node: OnnxNode) -> list[Step] | None:
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
        return [_rounded(ROUNDINGS[kind])]
    if kind in ("Min", "Max") and operands:
        bound = functools.reduce(np.minimum if kind == "Min" else np.maximum, operands)
        return [_clipping(-_INFINITY, bound) if kind == "Min" else _clipping(bound, _INFINITY)]
    if kind == "LeakyRelu":
        return [_bent(np.asarray(node.attributes.get("alpha", 0.01)))]
    if kind == "PRelu" and constants[0] is None:
        return [_bent(operands[0])]
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


def _quantizer_steps(graph: OnnxGraph, node: OnnxNode, constants: Sequence[Array | None]) -> list[Step] | None:
    """Return the steps of a conversion to integers or back."""
    scale = constants[1]
    given = constants[2] if len(constants) > 2 else None
    kind = node.attributes.get("output_dtype", 0) if node.kind == "QuantizeLinear" else 0
    zero = np.zeros((), helper.tensor_dtype_to_np_dtype(kind or TensorProto.UINT8)) if given is None else given
    shape = graph.shapes.get(node.inputs[0])
    limits = _limits(zero)
    if scale is None or shape is None or limits is None:
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
    return [_affine(1 / factor, _ZERO), _rounded(0.5), _affine(_ONE, origin), _clipping(*limits)]


def _limits(integers: Array) -> tuple[np.float64, np.float64] | None:
    """Return the least and the largest integer of a kind, also of those of which several share a byte."""
    kind = _INTEGERS.fullmatch(integers.dtype.name)
    if kind is None:
        return None
    largest = np.float64(2) ** (int(kind["bits"]) - (not kind["unsigned"]))
    return np.float64(0 if kind["unsigned"] else -largest), largest - 1


def _affine(scale: Array | np.float64, shift: Array | np.float64) -> Step:
    return Step(np.asarray(scale), np.asarray(shift), np.asarray(-_INFINITY), np.asarray(_INFINITY))


def _clipping(low: Array | np.float64, high: Array | np.float64) -> Step:
    return Step(np.asarray(_ONE), np.asarray(_ZERO), np.asarray(low), np.asarray(high))


def _rounded(rounding: float) -> Step:
    return replace(_clipping(-_INFINITY, _INFINITY), rounding=rounding)


def _bent(slope: Array) -> Step:
    return replace(_clipping(-_INFINITY, _INFINITY), slope=slope)
