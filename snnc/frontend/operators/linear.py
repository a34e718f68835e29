"""Matrix products."""

import string

import numpy as np

from snnc import ops
from snnc.frontend.contraction import contraction
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators


@operators.register("Gemm")
def gemm(call: Call) -> Expression:
    """Read alpha times the product of two matrices plus beta times a bias."""
    swapped = [call.integer(name, 0) for name in ("transA", "transB")]
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    bias = call.constants[2] if len(call.constants) > 2 else None
    computed = 2 in call.computed()
    if call.constants[0] is None and not swapped[0] and call.constants[1] is not None and not computed:
        weight = call.constants[1] * np.float32(alpha)
        return _linear(call, weight if swapped[1] else weight.T, None if bias is None else bias * np.float32(beta))
    letters = ["ki" if swapped[0] else "ik", "jk" if swapped[1] else "kj"]
    value = contraction(call, letters, "ij")
    if alpha != 1:
        value = chain(value, ops.Affine(tensor(alpha), None))
    if computed:
        return Apply(ops.Add(), (value, chain(call.broadcast(2), ops.Affine(tensor(beta), None))))
    return value if bias is None else chain(value, ops.Affine(None, call.broadcast_constant(bias * np.float32(beta))))


@operators.register("MatMul")
def matrix_product(call: Call) -> Expression:
    """Read the product with one constant matrix, or one for every slice, from either side, or of two activations."""
    if len(call.computed()) == 2:
        return _activations(call)
    matrix = call.constants[1]
    if matrix is not None and matrix.size == np.prod(matrix.shape[-2:]):
        return matrix_product_with_bias(call, None)
    return contraction(call, *_letters(len(call.shape(0)), len(call.shape(1))))


@operators.register("FusedMatMul")
def scaled_matrix_product(call: Call) -> Expression:
    """Read onnxruntime's product of matrices that it transposes and scales."""
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        raise UnsupportedError("it moves the first axis of a factor to the last but one", "transpose the factor before")
    (first, second), output = _letters(len(call.shape(0)), len(call.shape(1)))
    if call.integer("transA", 0) and len(first) > 1:
        first = first[:-2] + first[:-3:-1]
    if call.integer("transB", 0) and len(second) > 1:
        second = second[:-2] + second[:-3:-1]
    value = contraction(call, [first, second], output)
    alpha = call.number("alpha", 1.0)
    return value if alpha == 1 else chain(value, ops.Affine(tensor(alpha), None))


@operators.register("MatMulNBits")
def matrix_product_of_few_bits(call: Call) -> Expression:
    """Read onnxruntime's product with a matrix of which every block has a scale, its numbers packed into bytes."""
    bits, block = call.integer("bits", 4), call.integer("block_size", 32)
    rows, columns = call.integer("N", 0), call.integer("K", 0)
    if call.given(4) is not None:
        raise UnsupportedError("its columns are in another order (g_idx)", "quantize the weights without reordering")
    numbers = _unpacked(call.constant(1).reshape(rows, -1), bits)
    blocks = numbers.shape[1] // block
    zero = call.given(3)
    if zero is None:
        zeros: Array = np.full((rows, blocks), 1 << (bits - 1), np.float32)
    elif zero.dtype == np.uint8:
        zeros = _unpacked(zero.reshape(rows, -1), bits)[:, :blocks]
    else:
        zeros = zero.reshape(rows, blocks)
    scales = call.constant(2, "its scales").reshape(rows, blocks, 1).astype(np.float32)
    weight = (numbers.reshape(rows, blocks, block) - zeros.astype(np.float32)[..., None]) * scales
    return _linear(call, weight.reshape(rows, -1)[:, :columns], call.given(5))


def _unpacked(packed: Array, bits: int) -> Array:
    """Return the numbers that lie in bytes, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed.astype(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return numbers.reshape(len(packed), -1).astype(np.float32)


def _letters(left: int, right: int) -> tuple[list[str], str]:
    """Return the letters of the axes of both factors and of their product; a vector has but the axis that is summed."""
    names = string.ascii_lowercase[: max(left, right) - 2] if max(left, right) > 2 else ""
    first = "K" if left == 1 else names[len(names) - (left - 2) :] + "MK"
    second = "K" if right == 1 else names[len(names) - (right - 2) :] + "KN"
    return [first, second], names + ("M" if left > 1 else "") + ("N" if right > 1 else "")


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
    simple = bias is not None and (bias.size == 1 or (bias.size == outputs and bias.shape[-1:] == (outputs,)))
    vector = tensor(np.broadcast_to(bias.reshape(-1), (outputs,))) if bias is not None and simple else None
    value = chain(operand, ops.Linear(tensor(weight), vector))
    if bias is not None and not simple:
        value = chain(value, ops.Affine(None, tensor(bias)))
    if len(call.output) != rank:
        return call.settled(value)
    return call.framed_result(value, offset)


def _matrix(array: Array) -> Array:
    return array[:, None] if array.ndim == 1 else array.reshape(array.shape[-2:])
