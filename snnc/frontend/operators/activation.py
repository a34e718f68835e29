"""Rectifiers."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, chain, tensor
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
    return _clipped(call, call.broadcast(0), np.float32(low), np.float32(high))


@operators.register("Min")
def minimum(call: Call) -> Expression:
    """Read the minimum of activations and constants."""
    return _extremum(call, -1.0)


@operators.register("Max")
def maximum(call: Call) -> Expression:
    """Read the maximum of activations and constants."""
    return _extremum(call, 1.0)


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
    """Read a rectifier with learned slopes for negative values."""
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


def _extremum(call: Call, sign: float) -> Expression:
    """Read the largest, or with a ``sign`` of −1 the smallest, of activations and constants."""
    first, *others = (call.broadcast(index) for index in call.computed())
    value: Expression = first
    for other in others:
        value = _extreme(value, other, sign)
    bounds = [np.asarray(array, np.float32) for array in call.constants if array is not None]
    if not bounds:
        return value
    if sign < 0:
        return _clipped(call, value, np.float32(-np.inf), functools.reduce(np.minimum, bounds))
    return _clipped(call, value, functools.reduce(np.maximum, bounds), np.float32(np.inf))


def _extreme(first: Expression, second: Expression, sign: float) -> Expression:
    """Return ``first ± max(±(second − first), 0)``."""
    opposite, turn = ops.Affine(tensor(-1.0), None), ops.Affine(tensor(sign), None)
    excess = chain(Apply(ops.Add(), (second, chain(first, opposite))), turn, ops.Relu(), turn)
    return Apply(ops.Add(), (first, excess))


def _clipped(call: Call, value: Expression, low: Array | np.float32, high: Array | np.float32) -> Expression:
    """Build ``min(max(x, low), high)`` from rectifiers around which the values are shifted to zero."""
    high = np.asarray(high, np.float32)
    low = np.minimum(np.asarray(low, np.float32), high)
    if np.isfinite(high).all() and np.all(low == high):
        return chain(value, ops.Affine(tensor(0.0), call.broadcast_constant(high)))
    if not np.isfinite(low).all() or not np.isfinite(high).any():
        return _limited(call, _limited(call, value, low, 1.0), high, -1.0)
    return _rectified(call, value, low, ops.ClippedRelu(call.broadcast_constant(high - low)))


def _limited(call: Call, value: Expression, bound: Array, sign: float) -> Expression:
    """Build the maximum of a value and bounds, or with a ``sign`` of −1 the minimum, where they are finite."""
    finite = np.isfinite(bound)
    if not finite.any():
        return value
    free = call.broadcast_constant(~finite)
    rectifier = ops.Relu() if finite.all() else ops.LeakyRelu(free)
    origin = np.where(finite, bound, np.float32(0))
    if sign > 0:
        return _rectified(call, value, origin, rectifier)
    # min(x, c) = c - max(c - x, 0)
    mirror = ops.Affine(tensor(-1.0), call.broadcast_constant(origin))
    return chain(value, mirror, rectifier, mirror)


def _rectified(call: Call, value: Expression, origin: Array, rectifier: ops.Activation) -> Expression:
    """Return what a rectifier makes of a value if the origin is taken for its zero."""
    if not origin.any():
        return chain(value, rectifier)
    floor = call.broadcast_constant(origin)
    return chain(value, ops.Affine(None, -floor), rectifier, ops.Affine(None, floor))
