"""Pools."""

import math
from collections.abc import Iterator

import numpy as np

from snnc import ops
from snnc.frontend.expression import Call, Expression, Shape, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.reduction import absolute, maximum, total
from snnc.frontend.sampling import resampled
from snnc.frontend.windows import automatic_padding, overhang


@operators.register("AveragePool")
def average_pool(call: Call) -> Expression:
    """Read average pooling; what does not count in the average becomes excess."""
    kernel = call.integers("kernel_shape")
    axes = _spatial_axes(kernel)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    padding = automatic_padding(call, kernel, stride, dilation)
    excess = (0,) * axes + overhang(call, kernel, stride, dilation, padding)
    if not call.integer("count_include_pad", 0):
        excess = tuple(map(sum, zip(padding, excess, strict=True)))
        padding = (0,) * 2 * axes
    operand = call.framed(())[0]
    if all(step == 1 for step in dilation):
        return chain(operand, ops.AveragePool(kernel, stride, padding, excess))
    return chain(operand, *_averages(call, kernel, stride, dilation, padding, excess))


@operators.register("MaxPool")
def max_pool(call: Call) -> Expression:
    """Read max-pooling; indices are no output of ours."""
    if len(call.read) > 1 and call.read[1]:
        raise UnsupportedError("the positions of the maxima are used", "unpool with a transposed convolution instead")
    if 0 in call.output:
        raise UnsupportedError("its output is empty", "check the file")
    kernel = call.integers("kernel_shape")
    axes = _spatial_axes(kernel)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    padding = automatic_padding(call, kernel, stride, dilation)
    over = overhang(call, kernel, stride, dilation, padding)
    ends = tuple(end + more for end, more in zip(padding[axes:], over, strict=True))
    return chain(call.framed(())[0], ops.MaxPool(kernel, stride, padding[:axes] + ends, dilation))


@operators.register("GlobalAveragePool")
def global_average_pool(call: Call) -> Expression:
    """Read the mean over all spatial axes."""
    operand = call.framed(())[0]
    rank = len(operand.shape) + 1
    return chain(operand, ops.Mean(tuple(range(rank - len(call.shape()) + 2, rank))))


@operators.register("GlobalMaxPool")
def global_max_pool(call: Call) -> Expression:
    """Read the maximum over all spatial axes."""
    return maximum(call, range(2, len(call.shape())), keep=True)


@operators.register("LpPool")
def norm_pool(call: Call) -> Expression:
    """Read the norm of every window: the root of the sum of powers of absolute values."""
    kernel = call.integers("kernel_shape")
    axes = _spatial_axes(kernel)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    padding = automatic_padding(call, kernel, stride, dilation)
    over = overhang(call, kernel, stride, dilation, padding)
    padding = padding[:axes] + tuple(end + more for end, more in zip(padding[axes:], over, strict=True))
    power, none = call.number("p", 2), (0,) * 2 * axes
    powers = chain(absolute(call.framed(())[0]), ops.Power(tensor(power)))
    if all(step == 1 for step in dilation):
        pooled = chain(powers, ops.AveragePool(kernel, stride, padding, none))
    else:
        pooled = chain(powers, *_averages(call, kernel, stride, dilation, padding, none))
    return chain(pooled, ops.Affine(tensor(float(math.prod(kernel))), None), ops.Power(tensor(1 / power)))


@operators.register("GlobalLpPool")
def global_norm_pool(call: Call) -> Expression:
    """Read the norm over all spatial axes."""
    operand = call.framed(())[0]
    rank, power = len(operand.shape) + 1, call.number("p", 2)
    axes = tuple(range(rank - len(call.shape()) + 2, rank))
    powers = chain(absolute(operand), ops.Power(tensor(power)))
    return chain(total(powers, operand.shape, axes, True), ops.Power(tensor(1 / power)))


def _averages(
    call: Call, kernel: Shape, stride: Shape, dilation: Shape, padding: Shape, excess: Shape
) -> Iterator[ops.Op]:
    """Yield the averages along one axis after another: how many count in a window is the product of how many in each.

    ``padding`` counts as zeros, ``excess`` around it does not count.
    """
    axes = len(kernel)
    rank = len(call.framed(())[0].shape) + 1
    for axis, (size, every, step) in enumerate(zip(kernel, stride, dilation, strict=True)):
        length, count = call.shape()[axis - axes], call.output[axis - axes]
        start = np.arange(count)[:, None] * every - padding[axis] - excess[axis]
        places = start + np.arange(size) * step
        counted = (places >= -padding[axis]) & (places < length + padding[axes + axis])
        weights = ((places >= 0) & (places < length)) / counted.sum(1, keepdims=True)
        yield from resampled(rank - axes + axis, places, weights, length)


def _spatial_axes(kernel: tuple[int, ...]) -> int:
    if len(kernel) not in (1, 2, 3):
        raise UnsupportedError(f"pooling over {len(kernel)} spatial axes", "1 to 3 spatial axes are supported")
    return len(kernel)
