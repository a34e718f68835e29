"""What is chosen by comparing all along one axis, inside a network; at its end it is left out."""

import numpy as np

from snnc import ops
from snnc.frontend.expression import Call, Expression, Shape, chain, tensor
from snnc.frontend.operators import operators

_NEGATIVE = ops.Affine(tensor(-1.0), None)


@operators.register("TopK")
def ranked(call: Call) -> tuple[Expression, ...]:
    """Read the largest values, or the smallest, in their order, and their places."""
    axis = call.axis(call.integer("axis", -1))
    operand, offset = call.framed((axis,))
    count = int(call.constant(1, "how many it chooses").reshape(-1)[0])
    sign = () if call.integer("largest", 1) else (_NEGATIVE,)
    values = chain(operand, *sign, ops.Ranked(axis + offset, count), *sign)
    places = chain(operand, *sign, ops.RankedPlaces(axis + offset, count))
    return call.framed_result(values, offset, 0), call.framed_result(places, offset, 1)


@operators.register("ArgMax")
def largest_place(call: Call) -> Expression:
    """Read the place of the largest value."""
    return _place(call)


@operators.register("ArgMin")
def smallest_place(call: Call) -> Expression:
    """Read the place of the smallest value."""
    return _place(call, _NEGATIVE)


@operators.register("Hardmax")
def hardmax(call: Call) -> Expression:
    """Read a row in which nothing but the largest value is on: one axis, or before opset 13 all from that one on."""
    shape = call.shape()
    axis = call.axis(call.integer("axis", -1 if call.opset >= 13 else 1))
    operand, offset = call.framed(range(axis, len(shape)) if call.opset < 13 else (axis,))
    at = axis + offset
    rows: Shape = operand.shape
    value: Expression = operand
    if call.opset < 13:
        rows = (*rows[: at - 1], int(np.prod(rows[at - 1 :])))
        value = chain(value, ops.Reshape(rows))
    place = chain(value, ops.ArgMax((at,), keep=False), ops.Embedding(tensor(np.eye(rows[at - 1]))))
    before, last = range(1, at), len(rows)
    moved = chain(place, ops.Transpose((0, *before, last, *range(at, last)))) if at != last else place
    return call.settled(moved)


def _place(call: Call, *before: ops.Op) -> Expression:
    """Build the place of the largest value; of several that are equal the last, where that is asked for."""
    axis = call.axis(call.integer("axis", 0))
    operand, offset = call.framed((axis,))
    length, keep = call.shape()[axis], bool(call.integer("keepdims", 1))
    found = ops.ArgMax((axis + offset,), keep)
    if not call.integer("select_last_index", 0):
        return call.framed_result(chain(operand, *before, found), offset)
    turned = ops.Take(axis + offset, tuple(reversed(range(length))))
    from_the_end = ops.Affine(tensor(-1.0), tensor(length - 1.0))
    return call.framed_result(chain(operand, *before, turned, found, from_the_end), offset)
