"""Pools."""

import math

from snnc import ops
from snnc.frontend.expression import Call, Expression, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.windows import automatic_padding, overhang


@operators.register("AveragePool")
def average_pool(call: Call) -> Expression:
    """Read average pooling; what does not count in the average becomes excess."""
    kernel = call.integers("kernel_shape")
    axes = _spatial_axes(kernel)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    if any(step != 1 for step in dilation):
        raise UnsupportedError("average pooling with dilation", "write it as a depthwise convolution")
    padding = automatic_padding(call, kernel, stride, dilation)
    over = overhang(call, kernel, stride, dilation, padding)
    if call.integer("count_include_pad", 0):
        return chain(call.sample(), ops.AveragePool(kernel, stride, padding, (0,) * axes + over))
    excess = padding[:axes] + tuple(end + more for end, more in zip(padding[axes:], over, strict=True))
    return chain(call.sample(), ops.AveragePool(kernel, stride, (0,) * 2 * axes, excess))


@operators.register("MaxPool")
def max_pool(call: Call) -> Expression:
    """Read max-pooling; indices are no output of ours."""
    if len(call.read) > 1 and call.read[1]:
        raise UnsupportedError("the positions of the maxima are used", "unpool with a transposed convolution instead")
    kernel = call.integers("kernel_shape")
    axes = _spatial_axes(kernel)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    padding = automatic_padding(call, kernel, stride, dilation)
    over = overhang(call, kernel, stride, dilation, padding)
    ends = tuple(end + more for end, more in zip(padding[axes:], over, strict=True))
    return chain(call.sample(), ops.MaxPool(kernel, stride, padding[:axes] + ends, dilation))


@operators.register("GlobalAveragePool")
def global_average_pool(call: Call) -> Expression:
    """Read the mean over all spatial axes."""
    return chain(call.sample(), ops.Mean(tuple(range(2, len(call.shape())))))


@operators.register("GlobalMaxPool")
def global_max_pool(call: Call) -> Expression:
    """Read the maximum over all spatial axes."""
    return chain(call.sample(), _whole_max_pool(call.shape()[2:]))


@operators.register("ReduceMax")
def reduce_max(call: Call) -> Expression:
    """Read the maximum over exactly the spatial axes as a pool."""
    rank = len(call.shape())
    axes = tuple(sorted(call.axis(axis) for axis in call.listed("axes", 1, range(rank))))
    if axes != tuple(range(2, rank)):
        raise UnsupportedError("a maximum over other than all spatial axes", "use max-pooling")
    return call.settled(chain(call.sample(), _whole_max_pool(call.shape()[2:])))


@operators.register("ReduceMean")
def reduce_mean(call: Call) -> Expression:
    """Read the mean over some axes."""
    return _reduced(call)


@operators.register("ReduceSum")
def reduce_sum(call: Call) -> Expression:
    """Read the sum over some axes: the mean times their length."""
    value = _reduced(call)
    count = math.prod(call.shape()) // max(math.prod(call.output), 1)
    return chain(value, ops.Affine(tensor(float(count)), None)) if count != 1 else value


def _reduced(call: Call) -> Expression:
    given = call.listed("axes", 1, ())
    if not given and call.integer("noop_with_empty_axes", 0):
        return call.framed(())[0]
    axes = {call.axis(axis) for axis in given} or set(range(len(call.shape())))
    keep = bool(call.integer("keepdims", 1))
    if 0 in axes and call.shape()[0] == 1:
        value = chain(call.sample(), ops.Mean(tuple(sorted(axes - {0})))) if axes != {0} else call.sample()
        return call.settled(value)
    operand, offset = call.framed(tuple(axes))
    value = chain(operand, ops.Mean(tuple(sorted(axis + offset for axis in axes)), keep))
    return call.framed_result(value, offset)


def _whole_max_pool(kernel: tuple[int, ...]) -> ops.MaxPool:
    axes = _spatial_axes(kernel)
    return ops.MaxPool(kernel, (1,) * axes, (0,) * 2 * axes, (1,) * axes)


def _spatial_axes(kernel: tuple[int, ...]) -> int:
    if len(kernel) not in (1, 2):
        raise UnsupportedError(f"pooling over {len(kernel)} spatial axes", "1 and 2 spatial axes are supported")
    return len(kernel)
