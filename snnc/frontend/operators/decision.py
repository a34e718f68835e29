"""Comparisons, what is concluded from them, and choices by them. What is true is 1, what is not is 0."""

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators

# What stands in an additive mask for minus infinity. Behind a softmax it is zero, and times zero it is a number.
HIDDEN = -1e4

# What hides a value is the lowest number of half precision, or below.
_MASKED = -65504.0


@operators.register("Greater")
def greater(call: Call) -> Expression:
    """Read whether one number exceeds another."""
    return Apply(ops.Greater(), (call.operand(0), call.operand(1)))


@operators.register("Less")
def less(call: Call) -> Expression:
    """Read whether one number is below another."""
    return Apply(ops.Greater(), (call.operand(1), call.operand(0)))


@operators.register("GreaterOrEqual")
def greater_or_equal(call: Call) -> Expression:
    """Read whether one number is not below another."""
    return _negated(less(call))


@operators.register("LessOrEqual")
def less_or_equal(call: Call) -> Expression:
    """Read whether one number does not exceed another."""
    return _negated(greater(call))


@operators.register("Equal")
def equal(call: Call) -> Expression:
    """Read whether two numbers are the same."""
    return _negated(differing(call.operand(0), call.operand(1)))


@operators.register("Not")
def negation(call: Call) -> Expression:
    """Read what is true where something is not."""
    return _negated(call.broadcast(0))


@operators.register("And")
def conjunction(call: Call) -> Expression:
    """Read what is true where both are: their product."""
    return _both(call.operand(0), call.operand(1))


@operators.register("Or")
def disjunction(call: Call) -> Expression:
    """Read what is true where not both are false."""
    return _negated(_both(_negated(call.operand(0)), _negated(call.operand(1))))


@operators.register("Xor")
def exclusion(call: Call) -> Expression:
    """Read what is true where just one is: the square of the difference."""
    difference = Apply(ops.Add(), (call.operand(0), chain(call.operand(1), ops.Affine(tensor(-1.0), None))))
    return _both(difference, difference)


@operators.register("Where")
def where(call: Call) -> Expression:
    """Read a choice: an affine function where a constant chooses, or where it is one between constants."""
    condition, *choices = call.constants
    if condition is not None:
        return _chosen(call, condition)
    x, y = (None if array is None else _seen(array.astype(np.float32)) for array in choices)
    if x is not None and y is not None:
        span, start = call.broadcast_constant(x - y), call.broadcast_constant(y)
        return chain(call.broadcast(0), ops.Affine(span, start))
    return Apply(ops.Where(), (call.broadcast(0), call.operand(1, x), call.operand(2, y)))


def _seen(mask: Array) -> Array:
    seen: Array = np.where(mask <= _MASKED, np.float32(HIDDEN), mask)
    return seen


def visible(mask: Array) -> Array:
    """Return a constant that is added, as it is read: what hides values beside others that it does not is −10,000.

    Raises UnsupportedError where minus infinity hides a whole row.
    """
    mask = mask.astype(np.float32)
    hidden = mask <= _MASKED
    rows = hidden if mask.shape[-1:] not in ((), (1,)) else hidden.reshape(-1)
    whole = rows.all(-1)
    if not whole.any():
        return _seen(mask)
    if (mask < np.finfo(np.float32).min / 2).any():
        reason = "its mask hides every entry of a row, which leaves a softmax without a value"
        raise UnsupportedError(reason, "export the network with a mask that leaves something in each row")
    return mask


def differing(first: Expression, second: Expression) -> Expression:
    """Return whether one of two numbers exceeds the other."""
    exceeding = (Apply(ops.Greater(), pair) for pair in ((first, second), (second, first)))
    return Apply(ops.Add(), tuple(exceeding))


def _chosen(call: Call, condition: Array) -> Expression:
    """Return the sum of what a constant chooses: its zeros take away what it does not."""
    computed: list[Expression] = []
    constant = np.zeros((), np.float32)
    for index, share in ((1, condition), (2, ~condition)):
        array = call.constants[index]
        if array is None:
            taken = ops.Affine(call.broadcast_constant(share.astype(np.float32)), None)
            computed.append(call.broadcast(index) if share.all() else chain(call.broadcast(index), taken))
        else:
            constant = np.where(share, array, constant)
    value = computed[0] if len(computed) == 1 else Apply(ops.Add(), tuple(computed))
    if not constant.any():
        return value
    return chain(value, ops.Affine(None, call.broadcast_constant(visible(constant))))


def _both(first: Expression, second: Expression) -> Expression:
    return Apply(ops.Product(), (first, second))


def _negated(value: Expression) -> Expression:
    return chain(value, ops.Affine(tensor(-1.0), tensor(1.0)))
