"""Normalizations with stored statistics, and with those of the sample at hand."""

import math
from collections.abc import Sequence

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.reduction import absolute_total


@operators.register("BatchNormalization")
def batch_normalization(call: Call) -> Expression:
    """Read batch normalization over axis 1, or before opset 9 of every place by itself."""
    scale, shift, mean, variance = (call.constant(index, "a statistic") for index in range(1, 5))
    epsilon = call.number("epsilon", 1e-5)
    operand, offset = call.framed((1,))
    if not call.integer("spatial", 1):
        factor = scale / np.sqrt(variance.astype(np.float64) + epsilon)
        return chain(operand, ops.Affine(tensor(factor), tensor(shift - mean * factor)))
    norm = ops.BatchNorm(tensor(scale), tensor(shift), tensor(mean), tensor(variance), epsilon, 1 + offset)
    return chain(operand, norm)


@operators.register("LayerNormalization")
def layer_normalization(call: Call) -> Expression:
    """Read layer normalization over all axes from one on."""
    return _from_axis(call, centers=True)


@operators.register("RMSNormalization")
def root_mean_square_normalization(call: Call) -> Expression:
    """Read the division by the root mean square over all axes from one on."""
    return _from_axis(call, centers=False)


@operators.register("SimplifiedLayerNormalization")
def simplified_layer_normalization(call: Call) -> Expression:
    """Read onnxruntime's name for the division by the root mean square."""
    return _from_axis(call, centers=False)


@operators.register("SkipLayerNormalization")
def skip_layer_normalization(call: Call) -> tuple[Expression, ...]:
    """Read onnxruntime's layer normalization of a sum, which is its fourth output."""
    return _of_sum(call, centers=True)


@operators.register("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(call: Call) -> tuple[Expression, ...]:
    """Read onnxruntime's division of a sum by its root mean square; the sum is its fourth output."""
    return _of_sum(call, centers=False)


@operators.register("InstanceNormalization")
def instance_normalization(call: Call) -> Expression:
    """Read the normalization of every channel by itself."""
    operand = call.framed(())[0]
    axes = tuple(range(len(operand.shape) + 3 - len(call.shape()), len(operand.shape) + 1))
    value = normalized(operand, axes, call.number("epsilon", 1e-5))
    along = (-1, *(1 for _ in axes))
    return scaled(value, call.constant(1).reshape(along), call.constant(2, "its bias").reshape(along))


@operators.register("GroupNormalization")
def group_normalization(call: Call) -> Expression:
    """Read the normalization of groups of channels; before opset 21 scale and bias are those of a group."""
    operand = call.framed(())[0]
    groups, (channels, *space) = call.integer("num_groups", 1), call.shape()[1:]
    before = operand.shape[: -len(call.shape()) + 1]
    rows = chain(operand, ops.Reshape((*before, groups, channels * math.prod(space) // groups)))
    normal = normalized(rows, (len(before) + 2,), call.number("epsilon", 1e-5))
    value = chain(normal, ops.Reshape(operand.shape))
    along = (-1, *(1 for _ in space))
    parameters = [call.constant(1), call.constant(2, "its bias")]
    scale, bias = (np.repeat(array, channels // groups) if array.size < channels else array for array in parameters)
    return scaled(value, scale.reshape(along), bias.reshape(along))


@operators.register("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Expression:
    """Read the normalization over some axes."""
    axes = tuple(call.axis(axis) for axis in call.integers("axes", (0, 2, 3)))
    axes = tuple(axis for axis in axes if call.shape()[axis] != 1) or axes
    operand, offset = call.framed(axes)
    value = normalized(operand, tuple(axis + offset for axis in axes), 0.0)
    return call.framed_result(value, offset)


@operators.register("LpNormalization")
def norm_normalization(call: Call) -> Expression:
    """Read the division along an axis by the Euclidean norm or by the sum of absolute values."""
    axis = call.axis(call.integer("axis", -1))
    operand, offset = call.framed((axis,))
    if call.integer("p", 2) == 1:
        size = absolute_total(operand, operand.shape, (axis + offset,), keep=True)
        return call.framed_result(Apply(ops.Quotient(), (operand, size)), offset)
    norm = ops.RootMeanSquareNorm((axis + offset,), 0.0)
    value = chain(operand, norm, ops.Affine(tensor(call.shape()[axis] ** -0.5), None))
    return call.framed_result(value, offset)


@operators.register("LRN")
def local_response_normalization(call: Call) -> Expression:
    """Read the normalization of every channel by those around it."""
    alpha, beta, bias = call.number("alpha", 1e-4), call.number("beta", 0.75), call.number("bias", 1.0)
    operand, offset = call.framed((1,))
    norm = ops.LocalResponseNorm(call.integer("size", 1), alpha, beta, bias)
    if not offset:
        return chain(operand, norm)
    # The channels first, then what is merged with the batch.
    swap = ops.Transpose((0, 2, 1, *range(3, len(operand.shape) + 1)))
    return chain(operand, swap, norm, swap)


def normalized(
    value: Expression, axes: tuple[int, ...], epsilon: float, *, centers: bool = True, floor: float = 0.0
) -> Expression:
    """Return a value with mean 0 over some axes (the batch is axis 0), where it is centered, and with variance 1."""
    if centers:
        mean = chain(value, ops.Mean(axes), ops.Affine(tensor(-1.0), None))
        value = Apply(ops.Add(), (value, mean))
    return chain(value, ops.RootMeanSquareNorm(axes, epsilon, floor))


def scaled(value: Expression, scale: Array, shift: Array | None) -> Expression:
    """Return a value multiplied by a scale and shifted, by what changes it."""
    factor = tensor(scale) if np.any(scale != 1) else None
    offset = tensor(shift) if shift is not None and shift.any() else None
    return value if factor is None and offset is None else chain(value, ops.Affine(factor, offset))


def _from_axis(call: Call, *, centers: bool) -> Expression:
    _no_statistics(call.read[1:])
    axes = tuple(range(call.axis(call.integer("axis", -1)), len(call.shape())))
    operand, offset = call.framed(axes)
    ours = tuple(axis + offset for axis in axes)
    value = normalized(operand, ours, call.number("epsilon", 1e-5), centers=centers)
    return call.framed_result(scaled(value, call.constant(1), call.given(2)), offset)


def _of_sum(call: Call, *, centers: bool) -> tuple[Expression, ...]:
    _no_statistics(call.read[1:3])
    shift, bias = (call.given(3), call.given(4)) if centers else (None, call.given(3))
    first = call.broadcast(0)
    value: Expression = Apply(ops.Add(), (first, call.broadcast(1)))
    if bias is not None:
        value = chain(value, ops.Affine(None, tensor(bias)))
    normal = normalized(value, (len(first.shape),), call.number("epsilon", 1e-12), centers=centers)
    return scaled(normal, call.constant(2), shift), value, value, value


def _no_statistics(read: Sequence[bool]) -> None:
    if any(read):
        raise UnsupportedError("its mean or its deviation is used", "compute it by operations of its own")


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
