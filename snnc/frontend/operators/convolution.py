"""Convolutions."""

from torch import Tensor

from snnc import ops
from snnc.frontend.expression import Call, Expression, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.windows import automatic_padding


@operators.register("Conv")
def convolution(call: Call) -> Expression:
    """Read a convolution over 1 to 3 spatial axes."""
    weight = call.constant(1)
    axes = _spatial_axes(weight.ndim)
    stride = call.integers("strides", (1,) * axes)
    dilation = call.integers("dilations", (1,) * axes)
    padding = automatic_padding(call, weight.shape[2:], stride, dilation)
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
        halves = [total // 2 for total in cut]
        rests = [total - half for total, half in zip(cut, halves, strict=True)]
        padding = tuple(halves + rests) if automatic == "SAME_UPPER" else tuple(rests + halves)
    if min(padding) < 0:
        raise UnsupportedError("its padding is negative", "export it with explicit pads of zero or more")
    op = ops.ConvTranspose(tensor(weight), _bias(call), stride, padding, extra, dilation, call.integer("group", 1))
    return chain(call.framed(())[0], op)


def _spatial_axes(rank: int) -> int:
    if rank not in (3, 4, 5):
        raise UnsupportedError(f"convolution over {rank - 2} spatial axes", "1 to 3 spatial axes are supported")
    return rank - 2


def _bias(call: Call) -> Tensor | None:
    bias = call.given(2)
    return None if bias is None else tensor(bias)
