"""What every position of a weighted layer's output sees of its input."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from snnc.ops import Conv, ConvTranspose, Linear, Weighted
from snnc.ops.padding import bordered
from snnc.rules import Rules

# rule(op, x): of inputs [N, ...] the [groups, positions, features], in the order of the kernel's [in, *window].
patches = Rules[Weighted, Tensor]("what does an output position see")


def positions(values: Tensor, axis: int) -> Tensor:
    """Return the output of a layer with channels along ``axis`` as ``[positions, C]``, in the order of ``patches``."""
    return values.movedim(axis, -1).flatten(0, -2)


@patches.register(Linear)
def _rows(op: Linear, x: Tensor) -> Tensor:
    return x.flatten(0, -2).unsqueeze(0)


@patches.register(Conv)
def _windows(op: Conv, x: Tensor) -> Tensor:
    columns = _unfolded(bordered(x, op.padding, 0.0), op.weight.shape[2:], op.dilation, op.stride)
    return _grouped(columns, op.groups)


@patches.register(ConvTranspose)
def _spread_windows(op: ConvTranspose, x: Tensor) -> Tensor:
    """A transposed convolution is one with the kernel turned around, over the input with zeros between its values."""
    window = op.weight.shape[2:]
    axes = len(window)
    sparse = x.new_zeros(*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], op.stride, strict=True)))
    steps = [slice(None, None, s) for s in op.stride]
    sparse[(slice(None), slice(None), *steps)] = x
    full = [d * (k - 1) for d, k in zip(op.dilation, window, strict=True)]
    ends = [f + more for f, more in zip(full, op.output_padding, strict=True)]
    # Below 0 where more is cut off than there is.
    border = [f - cut for f, cut in zip([*full, *ends], op.padding, strict=True)]
    columns = _unfolded(bordered(sparse, tuple(border), 0.0), window, op.dilation, (1,) * axes)
    turned = columns.view(len(columns), -1, *window, columns.shape[2]).flip(*range(2, 2 + axes)).flatten(1, 1 + axes)
    return _grouped(turned, op.groups)


def _unfolded(x: Tensor, window: Sequence[int], dilation: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Return the windows of ``x`` as ``[N, in · window, positions]``."""
    if len(window) == 1:
        x, window, dilation, stride = x.unsqueeze(2), (1, *window), (1, *dilation), (1, *stride)
    return F.unfold(x, tuple(window), tuple(dilation), 0, tuple(stride))


def _grouped(columns: Tensor, groups: int) -> Tensor:
    return columns.view(len(columns), groups, -1, columns.shape[2]).permute(1, 0, 3, 2).flatten(1, 2)
