"""Where the windows of convolutions and pools lie."""

from collections.abc import Sequence

import numpy as np

from snnc.frontend.expression import Array, Call, UnsupportedError


def automatic_padding(
    call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Return the padding that ``pads`` or ``auto_pad`` means: all the beginnings, then all the ends.

    Raises UnsupportedError where it is negative.
    """
    axes = len(kernel)
    mode = call.text("auto_pad", "NOTSET")
    if mode in ("SAME_LOWER", "SAME_UPPER"):
        spatial = zip(call.shape()[2:], kernel, stride, dilation, strict=True)
        totals = [(-(-n // s) - 1) * s + (k - 1) * d + 1 - n for n, k, s, d in spatial]
        # onnxruntime rounds halves toward zero.
        begins = [int((total + (mode == "SAME_LOWER")) / 2) for total in totals]
        # What strides leave unread at an end is no matter.
        padding = (*begins, *(max(total - begin, 0) for total, begin in zip(totals, begins, strict=True)))
    else:
        padding = call.integers("pads", (0,) * 2 * axes) if mode == "NOTSET" else (0,) * 2 * axes
    if min(padding, default=0) < 0:
        raise UnsupportedError(f"its padding is negative ({min(padding)})", "cut off what it leaves out with a Slice")
    return padding


def overhang(
    call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: Sequence[int]
) -> tuple[int, ...]:
    """Return how far, per axis, the last window reaches over the padded input, as it may where lengths round up."""
    axes = len(kernel)
    spatial = zip(call.shape()[2:], call.output[2:], kernel, stride, dilation, strict=True)
    ends = [(out - 1) * s + (k - 1) * d + 1 - n for n, out, k, s, d in spatial]
    return tuple(max(end - padding[axis] - padding[axes + axis], 0) for axis, end in enumerate(ends))


def seen_places(
    space: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    begin: Sequence[int],
    sides: Sequence[int],
) -> Array:
    """Return where windows lie, ``[window, positions]``, counted through a map; -1 beside it."""
    places, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for n, k, s, d, before, count in zip(space, window, stride, dilation, begin, sides, strict=True):
        line = np.arange(k)[:, None] * d + np.arange(count) * s - before
        shape = (len(places) * k, places.shape[1] * count)
        places = (places[:, None, :, None] * n + line[None, :, None, :]).reshape(shape)
        within = (line >= 0) & (line < n)
        inside = (inside[:, None, :, None] & within[None, :, None, :]).reshape(shape)
    return np.where(inside, places, -1)
