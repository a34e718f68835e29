"""Maps read at places between their pixels: grids, regions, deformed windows; and windows that are added up."""

import math
from collections.abc import Sequence

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.sampling import LINEAR, added, cubic, resampled
from snnc.frontend.windows import seen_places

# What versions of ONNX call the ways to interpolate.
_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@operators.register("GridSample")
def grid_sample(call: Call) -> Expression:
    """Read a map at the places of a grid, which the file has or the network computes."""
    mode = call.text("mode", "linear")
    mode, padding = _MODES.get(mode, mode), call.text("padding_mode", "zeros")
    corners = bool(call.integer("align_corners", 0))
    grid = call.constants[1]
    if grid is None:
        sample = ops.GridSample(mode, padding, corners)
        return Apply(sample, (call.framed(())[0], call.framed((), 1)[0]))
    if call.constants[0] is not None:
        raise UnsupportedError("it reads a constant at places that the network computes", "read activations")
    space = call.shape()[2:]
    taps = [
        _along(coordinates, length, mode, padding, corners)
        for coordinates, length in zip(np.moveaxis(grid[..., ::-1], -1, 0), space, strict=True)
    ]
    places, weights = _crossed(taps, space)
    if call.shape()[0] > 1:
        each = len(places) // len(grid)
        places = places + np.repeat(np.arange(len(grid)), each)[:, None] * math.prod(space)
    return _read_at(call, places, weights, grid.shape[:-1])


@operators.register("AffineGrid")
def affine_grid(call: Call) -> Expression:
    """Read the grid that a matrix which the network computes makes of the places of a map: affine in the matrix."""
    size = [int(length) for length in call.constant(1, "the size of the grid")]
    space, corners = size[2:], bool(call.integer("align_corners", 0))
    lines = [
        np.linspace(-1, 1, length) if corners and length > 1 else (2 * np.arange(length) + 1) / length - 1
        for length in space
    ]
    # The last axis of a map comes first in a place of a grid.
    meshed = np.meshgrid(*lines, indexing="ij")[::-1]
    base = np.stack([*meshed, np.ones(space)], -1).reshape(-1, len(space) + 1)
    operand, offset = call.framed((1, 2))
    swap = ops.Transpose((*range(offset + 1), offset + 2, offset + 1))
    width = base.shape[1]
    return call.settled(chain(operand, *resampled(offset + 2, np.arange(width)[None], base, width), swap))


@operators.register("RoiAlign")
def region_align(call: Call) -> Expression:
    """Read constant regions of a map, cut into equally many windows, as the mean of samples in each."""
    if call.text("mode", "avg") != "avg":
        raise UnsupportedError("it takes the largest of regions", "take their mean: mode='avg'")
    regions = call.constant(1, "where its regions lie").astype(np.float64)
    images = call.constant(2, "whose regions they are").reshape(-1)
    if call.shape()[0] == 1 and images.any():
        raise UnsupportedError("its regions are of several images of a batch", "read regions of one image")
    height, width = call.integer("output_height", 1), call.integer("output_width", 1)
    half = call.opset >= 16 and call.text("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    regions = regions * call.number("spatial_scale", 1.0) - (0.5 if half else 0.0)
    rows, columns = call.shape()[2:]
    found = []
    for image, (left, top, right, bottom) in zip(images, regions, strict=True):
        down = _within(call, top, bottom, height, rows, grows=not half)
        across = _within(call, left, right, width, columns, grows=not half)
        taps = [np.repeat(part, width, 0) for part in down], [np.tile(part, (height, 1)) for part in across]
        places, weights = _crossed([taps[0], taps[1]], (rows, columns))
        found.append((places + int(image) * rows * columns, weights))
    # Regions of other sizes may have more samples.
    most = max(places.shape[1] for places, _ in found)
    places, weights = (
        np.concatenate([np.pad(taps[part], ((0, 0), (0, most - taps[part].shape[1]))) for taps in found])
        for part in (0, 1)
    )
    return _read_at(call, places, weights, (len(regions), height, width))


@operators.register("DeformConv")
def deformed_convolution(call: Call) -> Expression:
    """Read a convolution whose windows are read at places that the network computes, each perhaps weighed.

    Only the reading is no convolution: what it reads, window by window, goes through weights as ever.
    """
    weight = call.constant(1)
    if call.constants[2] is not None:
        raise UnsupportedError("its windows are deformed by constants", "write it as a convolution")
    (channels, *space), (wide, *sides) = call.shape()[1:], call.output[1:]
    window, groups, parts = weight.shape[2:], call.integer("group", 1), call.integer("offset_group", 1)
    if len(window) != 2 or call.shape()[0] != 1:
        raise UnsupportedError("it is deformed over other than two axes", "deform images [C, H, W]")
    stride, dilation = call.integers("strides", (1, 1)), call.integers("dilations", (1, 1))
    padding, taps = call.integers("pads", (0,) * 4), math.prod(window)
    # Where the windows would lie, and how the places of a grid count: from -1 to 1, the last axis first.
    lines = [
        np.arange(k)[:, None] * d + np.arange(n) * s - before
        for k, d, n, s, before in zip(window, dilation, sides, stride, padding, strict=False)
    ]
    down = np.broadcast_to(lines[0][:, None, :, None], (*window, *sides))
    across = np.broadcast_to(lines[1][None, :, None, :], (*window, *sides))
    lengths = np.array(space[::-1])
    base = (2 * np.stack([across, down], -1).reshape(taps, *sides, 2) + 1) / lengths - 1
    offsets = Operand(2, (parts, taps, 2, *sides))
    grid = chain(
        offsets,
        ops.Transpose((0, 1, 2, 4, 5, 3)),
        ops.Take(5, (1, 0)),
        ops.Affine(tensor(2 / lengths), tensor(base)),
        ops.Reshape((parts, taps * sides[0], sides[1], 2)),
    )
    maps = Operand(0, (parts, channels // parts, *space))
    value: Expression = Apply(ops.GridSample("linear", "zeros", corners=False), (maps, grid))
    if len(call.shapes) > 4 and call.shapes[4] is not None:
        rows = chain(value, ops.Reshape((parts, channels // parts, taps, *sides)))
        value = Apply(ops.Product(), (rows, Operand(4, (parts, 1, taps, *sides))))
    bias = call.given(3)
    kernel = tensor(weight.reshape(wide, -1, 1, 1))
    conv = ops.Conv(kernel, None if bias is None else tensor(bias), (1, 1), (0,) * 4, (1, 1), groups)
    return chain(value, ops.Reshape((channels * taps, *sides)), conv)


@operators.register("Col2Im")
def add_windows(call: Call) -> Expression:
    """Read windows that are laid over one another and added up."""
    space, window = (
        tuple(int(length) for length in call.constant(index, what))
        for index, what in ((1, "the size of its output"), (2, "the size of its windows"))
    )
    axes = len(space)
    steps, stride = call.integers("dilations", (1,) * axes), call.integers("strides", (1,) * axes)
    padding = call.integers("pads", (0,) * 2 * axes)
    ends = zip(space, window, stride, steps, padding[:axes], padding[axes:], strict=True)
    sides = [(n + before + after - d * (k - 1) - 1) // s + 1 for n, k, s, d, before, after in ends]
    targets = seen_places(space, window, stride, steps, padding[:axes], sides)
    operand = call.framed(())[0]
    *before, wide, _ = operand.shape
    flat = Operand(0, (*before, wide // math.prod(window), targets.size))
    size = math.prod(space)
    summed = added(2 + len(before), targets.reshape(-1), size)
    return call.settled(chain(flat, *summed))


def _along(coordinates: Array, length: int, mode: str, padding: str, corners: bool) -> tuple[Array, Array]:
    """Return which entries of an axis are read at coordinates from -1 to 1, and what they weigh: ``[places, K]``."""
    x = coordinates.reshape(-1).astype(np.float64)
    x = (x + 1) / 2 * (length - 1) if corners else ((x + 1) * length - 1) / 2
    if mode == "cubic":
        places, weights = cubic(-0.75).around(x)
        places = _put_back(places, length, padding, corners)
    elif mode in ("linear", "nearest"):
        x = _put_back(x, length, padding, corners)
        places, weights = LINEAR.around(x) if mode == "linear" else (np.rint(x)[:, None], np.ones((len(x), 1)))
    else:
        raise UnsupportedError(f"sampling with mode {mode!r}", "sample with mode 'nearest', 'linear' or 'cubic'")
    return places, np.where((places < 0) | (places > length - 1), 0, weights)


def _put_back(x: Array, length: int, padding: str, corners: bool) -> Array:
    """Return places of an axis with those outside put back as the padding says; as they are where that is zeros."""
    if padding == "reflection":
        low, span = (0.0, length - 1) if corners else (-0.5, length)
        turn = np.mod(np.abs(x - low), 2 * span) if span else x * 0
        x = np.where(turn > span, 2 * span - turn, turn) + low
    return x if padding == "zeros" else np.clip(x, 0, length - 1)


def _within(call: Call, start: float, end: float, count: int, length: int, *, grows: bool) -> tuple[Array, Array]:
    """Return the entries of an axis that each of ``count`` parts of a region averages."""
    extent = max(end - start, 1.0) if grows else end - start
    samples = call.integer("sampling_ratio", 0) or max(math.ceil(extent / count), 1)
    x = start + (np.arange(count * samples) + 0.5) * extent / (count * samples)
    places, weights = LINEAR.around(np.clip(x, 0, length - 1))
    weights = np.where(((x < -1) | (x > length))[:, None], 0, weights / samples)
    return places.reshape(count, -1), weights.reshape(count, -1)


def _crossed(taps: Sequence[Sequence[Array]], space: Sequence[int]) -> tuple[Array, Array]:
    """Return places counted through all axes, and their weights, from those along each of them."""
    count = len(taps[0][0])
    places, weights = np.zeros((count, 1)), np.ones((count, 1))
    for (along, parts), length in zip(taps, space, strict=True):
        places = (places[:, :, None] * length + along[:, None, :]).reshape(count, -1)
        weights = (weights[:, :, None] * parts[:, None, :]).reshape(count, -1)
    return places, weights


def _read_at(call: Call, places: Array, weights: Array, shape: Sequence[int]) -> Expression:
    """Return the first input, a number of maps, read at places counted through all of them, for each channel.

    What is read is of a ``shape`` that begins with how many maps come out.
    """
    (maps, channels, *space), (count, *out) = call.shape(), shape
    size, positions = math.prod(space), math.prod(out)
    value: Expression = Operand(0, (channels, size))
    if maps > 1:
        swap = ops.Transpose((0, 2, 1, 3))
        value = chain(Operand(0, (maps, channels, size)), swap, ops.Reshape((channels, maps * size)))
    value = chain(value, *resampled(2, places, weights, maps * size))
    if count > 1:
        value = chain(value, ops.Reshape((channels, count, positions)), ops.Transpose((0, 2, 1, 3)))
    return call.settled(value)
