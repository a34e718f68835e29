"""Sums, and products with constants."""

import numpy as np
from onnx import TensorProto

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, UnsupportedError, chain, tensor
from snnc.frontend.measuring import INTEGERS
from snnc.frontend.operators import operators
from snnc.frontend.operators.decision import HIDDEN, differing, visible

_LOWEST = -1e30
# The attributes of a Scaler, and what they are where they are left out.
_SCALED = (("offset", 0.0), ("scale", 1.0))


@operators.register("Add")
def add(call: Call) -> Expression:
    """Read a sum of activations, of an activation and a constant, or of both kinds."""
    return _sum(call)


@operators.register("Sum")
def total(call: Call) -> Expression:
    """Read a sum of any number of inputs."""
    return _sum(call)


@operators.register("Mean")
def average(call: Call) -> Expression:
    """Read the element-wise mean of any number of inputs."""
    return chain(_sum(call), ops.Affine(tensor(1 / len(call.shapes)), None))


@operators.register("Sub")
def subtract(call: Call) -> Expression:
    """Read a difference."""
    if call.constants[1] is not None:
        return _affine(call, 0, None, -call.constants[1])
    if call.constants[0] is not None:
        return _affine(call, 1, np.float32(-1), call.constants[0])
    negative = chain(call.broadcast(1), ops.Affine(tensor(-1.0), None))
    return Apply(ops.Add(), (call.broadcast(0), negative))


@operators.register("Neg")
def negate(call: Call) -> Expression:
    """Read a change of sign."""
    return _affine(call, 0, np.float32(-1), None)


@operators.register("Mul")
def multiply(call: Call) -> Expression:
    """Read a product with a constant, or of two activations."""
    computed = call.computed()
    if len(computed) != 1:
        return Apply(ops.Product(), (call.broadcast(0), call.broadcast(1)))
    factor = call.constant(1 - computed[0])
    # The lowest number times what a mask has not is added to scores to hide them.
    return _affine(call, computed[0], np.where(factor <= _LOWEST, HIDDEN, factor), None)


@operators.register("Div")
def divide(call: Call) -> Expression:
    """Read a quotient: by a constant, of a constant, or of two activations; of integers, what is before the point."""
    quotient = _quotient(call)
    return chain(quotient, ops.Truncate()) if call.whole and all(call.whole) else quotient


def _quotient(call: Call) -> Expression:
    if call.constants[0] is not None:
        inverse = chain(call.broadcast(1), ops.Power(tensor(-1.0)))
        return chain(inverse, ops.Affine(call.broadcast_constant(call.constants[0]), None))
    if call.constants[1] is None:
        return Apply(ops.Quotient(), (call.broadcast(0), call.broadcast(1)))
    if not np.all(call.constants[1]):
        raise UnsupportedError("it divides by zero", "check the file")
    return _affine(call, 0, 1 / call.constants[1].astype(np.float64), None)


@operators.register("ai.onnx.ml.Scaler")
def scaler(call: Call) -> Expression:
    """Read a preparation of tables: what is subtracted, then multiplied by, of every column its own."""
    offset, scale = (np.asarray(call.attributes.get(name, [rest]), np.float32) for name, rest in _SCALED)
    return _affine(call, 0, scale, -offset * scale)


@operators.register("ImageScaler")
def image_scaler(call: Call) -> Expression:
    """Read a preparation of images: what is multiplied by, then added to every channel, its own."""
    bias = np.asarray(call.attributes.get("bias", [0.0]), np.float32)
    return _affine(call, 0, np.float32(call.number("scale", 1.0)), bias.reshape(-1, *(1 for _ in call.shape()[2:])))


@operators.register("Affine")
def affine(call: Call) -> Expression:
    """Read a product with a number, to which another is added."""
    return _affine(call, 0, np.float32(call.number("alpha", 1.0)), np.float32(call.number("beta", 0.0)))


@operators.register("Identity")
def identity(call: Call) -> Expression:
    """Read nothing at all."""
    return call.framed(())[0]


@operators.register("Dropout")
def dropout(call: Call) -> Expression:
    """Read dropout, which does nothing once training is over."""
    # Whether it is over has to be told by a constant.
    call.given(2)
    return call.framed(())[0]


@operators.register("Cast")
def cast(call: Call) -> Expression:
    """Read a conversion: to floats there is nothing to do, to integers what is behind the point goes."""
    value, _ = call.framed(())
    kind = call.integer("to", TensorProto.FLOAT)
    if kind == TensorProto.FLOAT:
        return value
    if kind == TensorProto.BOOL:
        return differing(value, chain(value, ops.Affine(tensor(0.0), None)))
    if kind not in INTEGERS:
        name = TensorProto.DataType.Name(kind).lower()
        what = f"it rounds to {name}" if "FLOAT" in name.upper() else f"it makes {name} of numbers"
        raise UnsupportedError(what, "export the network without this conversion")
    return value if call.whole[0] else chain(value, ops.Truncate())


def _sum(call: Call) -> Expression:
    computed = call.computed()
    constants = [array for array in call.constants if array is not None]
    value: Expression = call.broadcast(computed[0])
    if len(computed) > 1:
        value = Apply(ops.Add(), tuple(call.broadcast(index) for index in computed))
    for array in constants:
        value = chain(value, ops.Affine(None, call.broadcast_constant(visible(array))))
    return value


def _affine(call: Call, index: int, scale: Array | np.float32 | None, shift: Array | np.float32 | None) -> Expression:
    factor = None if scale is None else call.broadcast_constant(np.asarray(scale))
    offset = None if shift is None else call.broadcast_constant(np.asarray(shift))
    return chain(call.broadcast(index), ops.Affine(factor, offset))
