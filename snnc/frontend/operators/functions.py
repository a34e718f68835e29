"""Functions of every number by itself, and of numbers beside one another."""

import math

from snnc import ops
from snnc.frontend.expression import Call, Expression, chain
from snnc.frontend.operators import operators


@operators.register("Sigmoid")
def sigmoid(call: Call) -> Expression:
    """Read a sigmoid."""
    return chain(call.broadcast(0), ops.Sigmoid())


@operators.register("Tanh")
def hyperbolic_tangent(call: Call) -> Expression:
    """Read a hyperbolic tangent."""
    return chain(call.broadcast(0), ops.Tanh())


@operators.register("Softmax")
def softmax(call: Call) -> Expression:
    """Read a softmax: along one axis, or before opset 13 along all from that one on."""
    return _along(call, ops.Softmax)


@operators.register("LogSoftmax")
def log_softmax(call: Call) -> Expression:
    """Read the logarithm of a softmax."""
    return _along(call, ops.LogSoftmax)


def _along(call: Call, kind: type[ops.Softmax] | type[ops.LogSoftmax]) -> Expression:
    if call.opset >= 13:
        axis = call.axis(call.integer("axis", -1))
        operand, offset = call.framed((axis,))
        return call.framed_result(chain(operand, kind(axis + offset)), offset)
    axis = call.axis(call.integer("axis", 1))
    operand, offset = call.framed(range(axis, len(call.shape())))
    before = operand.shape[: axis + offset - 1]
    flat = (*before, math.prod(operand.shape[len(before) :]))
    return call.settled(chain(operand, ops.Reshape(flat), kind(len(flat))))
