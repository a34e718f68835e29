"""Matrix products."""

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators


@operators.register("Gemm")
def gemm(call: Call) -> Expression:
    """Read alpha times input times weight plus beta times bias."""
    if call.constants[0] is not None:
        raise UnsupportedError("a constant is multiplied by an activation from the right", "swap the factors")
    if call.integer("transA", 0):
        raise UnsupportedError("its input is transposed, which mixes the samples of a batch", "transpose the weight")
    weight = call.constant(1) * np.float32(call.number("alpha", 1.0))
    weight = weight if call.integer("transB", 0) else weight.T
    bias = call.given(2)
    if bias is not None:
        bias = bias * np.float32(call.number("beta", 1.0))
    return _linear(call, weight, bias)


@operators.register("MatMul")
def matrix_product(call: Call) -> Expression:
    """Read the product with one constant matrix, from the right or from the left, or of two activations."""
    if len(call.computed()) == 2:
        return _activations(call)
    if call.constants[1] is not None:
        return matrix_product_with_bias(call, None)
    matrix = _matrix(call.constant(0))
    rank = len(call.shape(1))
    if rank < 2 or len(call.output) != rank:
        raise UnsupportedError("a constant matrix is multiplied by a vector", "multiply the vector by its transpose")
    operand, offset = call.framed((rank - 2, rank - 1), 1)
    swap = (*range(rank + offset - 2), rank + offset - 1, rank + offset - 2)
    value = chain(operand, ops.Transpose(swap), ops.Linear(tensor(matrix), None), ops.Transpose(swap))
    return call.framed_result(value, offset)


def matrix_product_with_bias(call: Call, bias: Array | None) -> Expression:
    """Read the product with a constant matrix from the right and the addition of a bias to its last axis."""
    return _linear(call, _matrix(call.constant(1)).T, bias)


def _activations(call: Call) -> Expression:
    """Build the product of two activations; a vector is a matrix with one row, or with one column behind."""
    first, second = call.shape(0), call.shape(1)
    rows = (1, *first) if len(first) == 1 else first
    columns = (*second, 1) if len(second) == 1 else second
    rank = max(len(rows), len(columns))
    rows, columns = ((1,) * (rank - len(shape)) + shape for shape in (rows, columns))
    # The batch is an axis that both share, or else both values are samples whole.
    cut = 1 if rank > 2 and rows[0] == columns[0] == 1 else 0
    value = Apply(ops.MatMul(), (Operand(0, rows[cut:]), Operand(1, columns[cut:])))
    return call.settled(value)


def _linear(call: Call, weight: Array, bias: Array | None) -> Expression:
    """Build ``weight [out, in]`` and a bias that broadcasts to ``[out]``, or is added behind where it does not."""
    rank = len(call.shape())
    operand, offset = call.framed((rank - 1,))
    outputs = weight.shape[0]
    simple = bias is not None and bias.size in (1, outputs) and bias.shape[-1:] in ((), (1,), (outputs,))
    vector = tensor(np.broadcast_to(bias.reshape(-1), (outputs,))) if bias is not None and simple else None
    value = chain(operand, ops.Linear(tensor(weight), vector))
    if bias is not None and not simple:
        value = chain(value, ops.Affine(None, tensor(bias)))
    if len(call.output) != rank:
        return call.settled(value)
    return call.framed_result(value, offset)


def _matrix(array: Array) -> Array:
    if array.ndim == 1:
        return array[:, None]
    if array.ndim > 2 and array.size != array.shape[-1] * array.shape[-2]:
        raise UnsupportedError("a different constant matrix for every slice", "one matrix per layer is supported")
    return array.reshape(array.shape[-2:])
