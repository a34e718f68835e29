"""Pools."""

from snnc import ops
from snnc.frontend.expression import Call, Expression, UnsupportedError, chain
from snnc.frontend.operators import operators
from snnc.frontend.operators.reduction import maximum
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
    return maximum(call, range(2, len(call.shape())), keep=True)


def _spatial_axes(kernel: tuple[int, ...]) -> int:
    if len(kernel) not in (1, 2):
        raise UnsupportedError(f"pooling over {len(kernel)} spatial axes", "1 and 2 spatial axes are supported")
    return len(kernel)
