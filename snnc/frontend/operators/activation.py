"""Rectifiers."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from snnc import ops
from snnc.frontend.expression import Array, Call, Expression, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.ir import Op


@operators.register("Relu")
def relu(call: Call) -> Expression:
    """Read a rectifier."""
    return chain(call.broadcast(0), ops.Relu())


@operators.register("Clip")
def clip(call: Call) -> Expression:
    """Read a limit on both sides, on one, or on none."""
    low, high = clip_bounds(call.attributes, call.given(1), call.given(2))
    return _clipped(call, 0, np.float32(low), np.float32(high))


@operators.register("Min")
def minimum(call: Call) -> Expression:
    """Read the minimum of an activation and constants."""
    return _extremum(call, "minimum")


@operators.register("Max")
def maximum(call: Call) -> Expression:
    """Read the maximum of an activation and constants."""
    return _extremum(call, "maximum")


@operators.register("HardSigmoid")
def hard_sigmoid(call: Call) -> Expression:
    """Read an affine function clipped to the unit interval."""
    return chain(call.broadcast(0), *unit_clipped(call.number("alpha", 0.2), call.number("beta", 0.5)))


@operators.register("LeakyRelu")
def leaky_relu(call: Call) -> Expression:
    """Read a rectifier with a slope for negative values."""
    return chain(call.broadcast(0), ops.LeakyRelu(tensor(call.number("alpha", 0.01))))


@operators.register("PRelu")
def parametric_relu(call: Call) -> Expression:
    """Read a rectifier with learnt slopes for negative values."""
    return chain(call.broadcast(0), ops.LeakyRelu(call.broadcast_constant(call.constant(1, "its slope"))))


def unit_clipped(scale: float, shift: float) -> tuple[Op, ...]:
    """Return the operations that compute ``clip(scale · x + shift, 0, 1)``."""
    return ops.Affine(tensor(scale), tensor(shift)), ops.ClippedRelu(tensor(1.0))


def clip_bounds(attributes: Mapping[str, Any], low: Array | None, high: Array | None) -> tuple[float, float]:
    """Return the bounds of a Clip, which opsets below 11 keep in attributes; infinite where left out."""
    lowest = attributes.get("min", -np.inf) if low is None else low.reshape(-1)[0]
    highest = attributes.get("max", np.inf) if high is None else high.reshape(-1)[0]
    largest = np.finfo(np.float32).max
    return (-np.inf if lowest <= -largest else float(lowest)), (np.inf if highest >= largest else float(highest))


def _extremum(call: Call, which: str) -> Expression:
    computed = call.computed()
    if len(computed) != 1:
        reason = f"it takes the {which} of two activations"
        raise UnsupportedError(reason, "pool with MaxPool, or add the branches")
    bounds = [array for array in call.constants if array is not None]
    if which == "minimum":
        return _clipped(call, computed[0], np.float32(-np.inf), functools.reduce(np.minimum, bounds))
    return _clipped(call, computed[0], functools.reduce(np.maximum, bounds), np.float32(np.inf))


def _clipped(call: Call, index: int, low: Array | np.float32, high: Array | np.float32) -> Expression:
    """Build ``min(max(x, low), high)`` from rectifiers around which the values are shifted to zero."""
    value: Expression = call.broadcast(index)
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    if not np.all(low <= high):
        raise UnsupportedError("its lower bound is above its upper bound", "check the file")
    bottom, top = np.isfinite(low).all(), np.isfinite(high).all()
    if not bottom and not top:
        return value
    if not bottom:
        # min(x, c) = c - max(c - x, 0)
        ceiling = call.broadcast_constant(high)
        mirror = ops.Affine(tensor(-1.0), ceiling)
        return chain(value, mirror, ops.Relu(), mirror)
    rectifier = ops.ClippedRelu(call.broadcast_constant(high - low)) if top else ops.Relu()
    if not low.any():
        return chain(value, rectifier)
    floor = call.broadcast_constant(low)
    return chain(value, ops.Affine(None, -floor), rectifier, ops.Affine(None, floor))
