"""Convolutions."""

import math

from torch import Tensor

from snnc import ops
from snnc.frontend.expression import Apply, Call, Expression, Operand, Shape, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.windows import automatic_padding, seen_places


@operators.register("Conv")
def convolution(call: Call) -> Expression:
    """Read a convolution over 1 to 3 spatial axes."""
    window = call.shape(1)[2:]
    axes = _spatial_axes(len(window) + 2)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    padding = automatic_padding(call, window, stride, dilation)
    if call.constants[1] is None:
        return _by_activations(call, stride, dilation, padding)
    weight = call.constant(1)
    op = ops.Conv(tensor(weight), _bias(call), stride, padding, dilation, call.integer("group", 1))
    return chain(call.framed(())[0], op)


@operators.register("ConvTranspose")
def transposed_convolution(call: Call) -> Expression:
    """Read a transposed convolution; its padding follows from the output shape where that is given."""
    weight = call.constant(1)
    axes = _spatial_axes(weight.ndim)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    extra = call.integers("output_padding", (0,) * axes)
    automatic = call.text("auto_pad", "NOTSET")
    padding = call.integers("pads", (0,) * 2 * axes)
    if automatic != "NOTSET" or "output_shape" in call.attributes:
        spatial = zip(call.shape()[2:], weight.shape[2:], stride, dilation, extra, call.output[2:], strict=True)
        cut = [(n - 1) * s + (k - 1) * d + 1 + e - out for n, k, s, d, e, out in spatial]
        # Where windows do not reach the end of a stride, the output may be longer than they are.
        extra = tuple(e - min(total, 0) for e, total in zip(extra, cut, strict=True))
        cut = [max(total, 0) for total in cut]
        halves = [total // 2 for total in cut]
        rests = [total - half for total, half in zip(cut, halves, strict=True)]
        padding = tuple(halves + rests) if automatic == "SAME_UPPER" else tuple(rests + halves)
    if min(padding) < 0:
        raise UnsupportedError("its padding is negative", "export it with explicit pads of zero or more")
    if any(more >= max(s, d) for more, s, d in zip(extra, stride, dilation, strict=True)):
        raise UnsupportedError("its output is longer than strides reach", "pad behind it with zeros")
    op = ops.ConvTranspose(tensor(weight), _bias(call), stride, padding, extra, dilation, call.integer("group", 1))
    return chain(call.framed(())[0], op)


def _by_activations(call: Call, stride: Shape, dilation: Shape, padding: Shape) -> Expression:
    """Build a convolution whose weights the network computes: the product of two activations, group by group."""
    if call.constants[0] is not None or call.shape()[0] != 1:
        raise UnsupportedError("its weights are computed for what is no image of its own", "convolve activations")
    (channels, *space), (wide, *sides) = call.shape()[1:], call.output[1:]
    window, groups = call.shape(1)[2:], call.integer("group", 1)
    axes = len(space)
    border = (0, *padding[:axes], 0, *padding[axes:])
    lengths = [n + before + after for n, before, after in zip(space, padding[:axes], padding[axes:], strict=True)]
    seen = seen_places(lengths, window, stride, dilation, (0,) * axes, sides)
    taken = chain(call.framed(())[0], *([ops.Pad(border)] if any(padding) else []))
    flat = chain(taken, ops.Reshape((channels, math.prod(lengths))), ops.Take(2, tuple(seen.reshape(-1).tolist())))
    features = channels // groups * math.prod(window)
    columns = chain(flat, ops.Reshape((groups, features, math.prod(sides))))
    rows = Operand(1, (groups, wide // groups, features))
    value = chain(Apply(ops.MatMul(), (rows, columns)), ops.Reshape((wide, *sides)))
    if len(call.shapes) < 3 or call.shapes[2] is None:
        return value
    if call.constants[2] is None:
        return Apply(ops.Add(), (value, Operand(2, (wide, *(1 for _ in sides)))))
    return chain(value, ops.Affine(None, tensor(call.constant(2).reshape(-1, *(1 for _ in sides)))))


def _spatial_axes(rank: int) -> int:
    if rank not in (3, 4, 5):
        raise UnsupportedError(f"convolution over {rank - 2} spatial axes", "1 to 3 spatial axes are supported")
    return rank - 2


def _bias(call: Call) -> Tensor | None:
    bias = call.given(2)
    return None if bias is None else tensor(bias)
