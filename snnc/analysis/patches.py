"""What positions of a weighted layer's output see of its input."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from snnc.ops import Conv, ConvTranspose, Linear, Weighted
from snnc.ops.padding import bordered
from snnc.rules import Rules

# rule(op, x, rows): of inputs [N, ...] the [groups, rows, features], in the order of the kernel's [in, *window], for
# the output positions [rows] that are asked for, counted as ``positions`` has them.
patches = Rules[Weighted, Tensor]("what does an output position see")


def positions(values: Tensor, axis: int, rows: Tensor) -> Tensor:
    """Return some positions of the output of a layer with channels along ``axis``, ``[rows, C]``."""
    return _at(values.movedim(axis, -1), values.ndim - 1, rows)


@patches.register(Linear)
def _rows(op: Linear, x: Tensor, rows: Tensor) -> Tensor:
    return _at(x, x.ndim - 1, rows).unsqueeze(0)


@patches.register(Conv)
def _windows(op: Conv, x: Tensor, rows: Tensor) -> Tensor:
    padded = bordered(x, op.padding, 0.0)
    return _seen(_unfolded(padded, op.weight.shape[2:], op.dilation, op.stride), op.groups, rows).flatten(2)


@patches.register(ConvTranspose)
def _spread_windows(op: ConvTranspose, x: Tensor, rows: Tensor) -> Tensor:
    """A transposed convolution is one with the kernel turned around, over the input with zeros between its values."""
    window = op.weight.shape[2:]
    axes = len(window)
    space = ((n - 1) * s + 1 for n, s in zip(x.shape[-axes:], op.stride, strict=True))
    sparse = x.new_zeros(*x.shape[:-axes], *space)
    steps = [slice(None)] * (x.ndim - axes) + [slice(None, None, s) for s in op.stride]
    sparse[tuple(steps)] = x
    full = [d * (k - 1) for d, k in zip(op.dilation, window, strict=True)]
    ends = [f + more for f, more in zip(full, op.output_padding, strict=True)]
    # Below 0 where more is cut off than there is.
    border = [f - cut for f, cut in zip([*full, *ends], op.padding, strict=True)]
    columns = _unfolded(bordered(sparse, tuple(border), 0.0), window, op.dilation, (1,) * axes)
    return _seen(columns, op.groups, rows).flip(*range(-axes, 0)).flatten(2)


def _unfolded(x: Tensor, window: Sequence[int], dilation: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Return the windows of ``x`` as ``[N, in, *positions, *window]``, axes before the channels part of the batch."""
    axes = len(window)
    x = x.flatten(0, -axes - 2)
    for axis, (size, step, every) in enumerate(zip(window, dilation, stride, strict=True), start=2):
        x = x.unfold(axis, (size - 1) * step + 1, every)[..., ::step]
    return x


def _seen(windows: Tensor, groups: int, rows: Tensor) -> Tensor:
    """Return some of the windows ``[N, in, *positions, *window]`` as ``[groups, rows, in, *window]``."""
    axes = windows.ndim // 2 - 1
    split = windows.view(len(windows), groups, -1, *windows.shape[2:]).movedim((1, 2), (1 + axes, 2 + axes))
    return _at(split, 1 + axes, rows).transpose(0, 1)


def _at(values: Tensor, axes: int, rows: Tensor) -> Tensor:
    """Return the entries ``[rows, ...]`` where the first ``axes`` are counted as one."""
    places = np.unravel_index(rows.numpy(), values.shape[:axes])
    return values[tuple(map(torch.from_numpy, places))]
