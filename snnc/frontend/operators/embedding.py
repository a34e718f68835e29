"""Tables in which whole numbers are looked up."""

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Call, Expression, Operand, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.normalization import normalized, scaled


def looked_up(call: Call) -> Expression:
    """Return the entries of a constant table, the first input, at places along one axis that the network computes."""
    table = call.constant(0, "its table")
    axis = call.axis(call.integer("axis", 0))
    shape = call.shape(1)
    rows = ops.Embedding(tensor(np.moveaxis(table, axis, 0)))
    if axis == 0 and shape[:1] == (1,):
        return chain(Operand(1, shape[1:]), rows)
    ranks = len(shape), table.ndim - 1
    places, rest = range(1, ranks[0] + 1), range(ranks[0] + 1, sum(ranks) + 1)
    order = ops.Transpose((0, *rest[:axis], *places, *rest[axis:]))
    return call.settled(chain(Operand(1, shape), rows, order))


@operators.register("EmbedLayerNormalization")
def embedded_tokens(call: Call) -> tuple[Expression, ...]:
    """Read onnxruntime's sum of what stands for tokens, for their places and for their kinds, normalized."""
    if any(call.read[1:2]):
        raise UnsupportedError("how many tokens count is one of its outputs", "mask the keys instead")
    shape = call.framed(())[0].shape
    constant = np.zeros((), np.float32)
    parts: list[Expression] = []
    for index, table in ((0, 2), (8, 3), (1, 4)):
        places = call.constants[index] if call.has(index) else None
        if call.has(index) and places is None:
            parts.append(chain(Operand(index, shape), ops.Embedding(tensor(call.constant(table, "its table")))))
        elif call.has(table):
            rows = call.constant(table, "its table")
            constant = constant + rows[np.arange(shape[-1]) if places is None else places.astype(int).reshape(shape)]
    value = parts[0] if len(parts) == 1 else Apply(ops.Add(), tuple(parts))
    value = chain(value, ops.Affine(None, tensor(constant))) if constant.any() else value
    normal = normalized(value, (len(shape) + 1,), call.number("epsilon", 1e-12))
    return scaled(normal, call.constant(5), call.constant(6)), value, value


@operators.register("OneHot")
def one_hot(call: Call) -> Expression:
    """Read a row of a table in which nothing but one entry is on."""
    depth = int(call.constant(1, "how many there are").reshape(-1)[0])
    off, on = (float(number) for number in call.constant(2, "what it makes of them").reshape(-1))
    shape = call.shape()
    if not call.whole[0]:
        raise UnsupportedError("it marks places that are no whole numbers", "export the network with integers there")
    axis = call.integer("axis", -1) % (len(shape) + 1)
    table = np.full((depth, depth), off) + np.eye(depth) * (on - off)
    order = [*range(1, len(shape) + 1)]
    order.insert(axis, len(shape) + 1)
    value = chain(Operand(0, shape), ops.Embedding(tensor(table)), ops.Transpose((0, *order)))
    return call.settled(value)
