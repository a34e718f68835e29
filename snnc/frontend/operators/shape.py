"""Operations that only move values: reshapes, slices, gathers and pads."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Call, Expression, Operand, UnsupportedError, chain, stored_shape, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.embedding import looked_up
from snnc.frontend.sampling import moved


@operators.register("Reshape")
def reshape(call: Call) -> Expression:
    """Read another shape; shapes are static, so the output's says it all."""
    return _reshaped(call)


@operators.register("Flatten")
def flatten(call: Call) -> Expression:
    """Read the merging of axes."""
    return _reshaped(call)


@operators.register("Squeeze")
def squeeze(call: Call) -> Expression:
    """Read the removal of axes of length 1."""
    return _reshaped(call)


@operators.register("Unsqueeze")
def unsqueeze(call: Call) -> Expression:
    """Read the insertion of axes of length 1."""
    return _reshaped(call)


@operators.register("Transpose")
def transpose(call: Call) -> Expression:
    """Read another order of the axes."""
    rank = len(call.shape())
    order = call.integers("perm", tuple(reversed(range(rank))))
    operand, offset = call.framed(() if order[:1] == (0,) else (0,))
    ours = tuple(range(offset)) + tuple(axis + offset for axis in order)
    return call.framed_result(chain(operand, ops.Transpose(ours)), offset)


@operators.register("Concat")
def concatenate(call: Call) -> Expression:
    """Read a concatenation; where a constant lies, the activation beside it is padded, and the constant added."""
    computed = call.computed()
    axis = call.axis(call.integer("axis", 1), computed[0])
    frames = {index: call.framed((axis,), index) for index in computed}
    offset = frames[computed[0]][1]
    lengths = [call.shape(index)[axis] for index in range(len(call.shapes))]
    parts: list[Expression] = []
    for index, following in zip(computed, [*computed[1:], len(lengths)], strict=True):
        operand = frames[index][0]
        border = [0] * 2 * len(operand.shape)
        border[axis + offset - 1] = 0 if parts else sum(lengths[:index])
        border[len(operand.shape) + axis + offset - 1] = sum(lengths[index + 1 : following])
        parts.append(chain(operand, ops.Pad(tuple(border))) if any(border) else operand)
    value = parts[0] if len(parts) == 1 else Apply(ops.Concat(axis + offset), tuple(parts))
    if len(computed) < len(lengths):
        arrays = [np.zeros(call.shape(index)) if a is None else a for index, a in enumerate(call.constants)]
        shift = np.concatenate(arrays, axis)
        value = chain(value, ops.Affine(None, tensor(shift.reshape(call.output[1 - offset :]))))
    return call.framed_result(value, offset)


@operators.register("Slice")
def cut(call: Call) -> Expression:
    """Read slices along some axes."""
    shape = call.shape()
    starts, stops = call.listed("starts", 1), call.listed("ends", 2)
    axes = tuple(call.axis(axis) for axis in call.listed("axes", 3, range(len(starts))))
    steps = call.listed("steps", 4, (1,) * len(starts))
    operand, offset = call.framed(axes)
    value: Expression = operand
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        # Bounds clamp as Python's do, but "before the first" is written with any very negative number.
        indices = range(shape[axis])[slice(start, None if step < 0 and stop < -shape[axis] else stop, step)]
        value = chain(value, *moved(axis + offset, indices, shape[axis]))
    return call.framed_result(value, offset)


@operators.register("Split")
def split(call: Call) -> tuple[Expression, ...]:
    """Read several slices of one axis."""
    axis = call.axis(call.integer("axis", 0))
    operand, offset = call.framed((axis,))
    stops = list(itertools.accumulate(shape[axis] for shape in call.outputs))
    bounds = zip([0, *stops], stops, strict=False)
    parts = [Apply(ops.Slice(axis + offset, start, stop), (operand,)) for start, stop in bounds]
    return tuple(call.framed_result(part, offset, output) for output, part in enumerate(parts))


@operators.register("Gather")
def gather(call: Call) -> Expression:
    """Read the entries of one axis at constant indices or computed ones."""
    if call.constants[0] is not None:
        return looked_up(call)
    axis = call.axis(call.integer("axis", 0))
    length = call.shape()[axis]
    wanted = call.constants[1]
    if wanted is None:
        return _found(call, axis)
    indices = tuple(int(index) % length for index in wanted.reshape(-1))
    operand, offset = call.framed((axis,))
    value = chain(operand, *moved(axis + offset, indices, length))
    return call.framed_result(value, offset) if wanted.ndim == 1 else call.settled(value)


def _found(call: Call, axis: int) -> Expression:
    """Build the entries of one axis at places that the network computes: the same for all that lies beside them."""
    operand, offset = call.framed((axis,))
    at, shape = axis + offset, [*operand.shape]
    shape[at - 1] = math.prod(call.shape(1))
    places: Expression = chain(
        Operand(1, call.shape(1)), ops.Reshape(tuple(n if i == at - 1 else 1 for i, n in enumerate(shape)))
    )
    for other, length in enumerate(shape, start=1):
        if other != at and length != 1:
            places = chain(places, ops.Take(other, (0,) * length))
    return call.settled(Apply(ops.Gathered(at), (operand, places)))


@operators.register("Expand")
def expand(call: Call) -> Expression:
    """Read the repetition of axes of length 1."""
    operand, shape = call.broadcast(0), call.shape()
    target = stored_shape(call.output)
    value: Expression = operand
    for axis, (old, new) in enumerate(zip(operand.shape, target, strict=True), start=1):
        if old != new:
            value = chain(value, ops.Take(axis, (0,) * new))
    return value if shape else call.settled(value)


@operators.register("Tile")
def tile(call: Call) -> Expression:
    """Read the repetition of whole axes."""
    repeats = call.listed("repeats", 1)
    touched = tuple(axis for axis, count in enumerate(repeats) if count != 1)
    operand, offset = call.framed(touched)
    value: Expression = operand
    for axis in touched:
        indices = tuple(range(call.shape()[axis])) * repeats[axis]
        value = chain(value, ops.Take(axis + offset, indices))
    return call.framed_result(value, offset)


@operators.register("DepthToSpace")
def depth_to_space(call: Call) -> Expression:
    """Read the spreading of channels over blocks of pixels, also known as pixel shuffle."""
    size = call.integer("blocksize", 1)
    operand = call.framed(())[0]
    *before, channels, height, width = operand.shape
    rest = channels // size**2
    if call.text("mode", "DCR") == "CRD":
        blocks, order = (rest, size, size, height, width), (0, 3, 1, 4, 2)
    else:
        blocks, order = (size, size, rest, height, width), (2, 3, 0, 4, 1)
    return call.settled(chain(operand, ops.Reshape((*before, *blocks)), _last_transposed(before, order)))


@operators.register("SpaceToDepth")
def space_to_depth(call: Call) -> Expression:
    """Read the gathering of blocks of pixels into channels."""
    size = call.integer("blocksize", 1)
    operand = call.framed(())[0]
    *before, channels, height, width = operand.shape
    blocks = ops.Reshape((*before, channels, height // size, size, width // size, size))
    return call.settled(chain(operand, blocks, _last_transposed(before, (2, 4, 0, 1, 3))))


@operators.register("Pad")
def pad(call: Call) -> Expression:
    """Read padding with a constant, a mirror image, the edge or a wrapped copy; negative padding crops."""
    shape = call.shape()
    name = "paddings" if "paddings" in call.attributes else "pads"
    amounts = call.listed(name, 1)
    axes = tuple(call.axis(axis) for axis in call.listed("axes", 3, range(len(shape))))
    value_given = call.given(2)
    fill = call.number("value", 0.0) if value_given is None else float(value_given.reshape(-1)[0])
    borders = {axis: (amounts[i], amounts[len(axes) + i]) for i, axis in enumerate(axes)}
    borders = {axis: border for axis, border in borders.items() if any(border)}
    operand, offset = call.framed(tuple(borders))
    mode = call.text("mode", "constant")
    value: Expression = operand
    for axis, (begin, end) in borders.items():
        kept = (max(-begin, 0), shape[axis] - max(-end, 0))
        value = chain(value, *moved(axis + offset, range(*kept), shape[axis]))
        if mode != "constant":
            indices = _mirrored(kept[1] - kept[0], max(begin, 0), max(end, 0), mode)
            value = chain(value, *moved(axis + offset, indices, kept[1] - kept[0]))
    positive = {axis + offset - 1: (max(begin, 0), max(end, 0)) for axis, (begin, end) in borders.items()}
    if mode == "constant" and any(any(border) for border in positive.values()):
        pairs = [positive.get(axis, (0, 0)) for axis in range(len(operand.shape))]
        value = chain(value, ops.Pad(tuple(b for b, _ in pairs) + tuple(e for _, e in pairs), fill))
    return call.framed_result(value, offset)


def _last_transposed(before: Sequence[int], order: Sequence[int]) -> ops.Transpose:
    """Return what gives the last axes another order, behind the batch and ``before``."""
    first = 1 + len(before)
    return ops.Transpose((*range(first), *(first + axis for axis in order)))


def _reshaped(call: Call) -> Expression:
    return call.settled(call.framed(())[0])


def _mirrored(length: int, begin: int, end: int, mode: str) -> tuple[int, ...]:
    """Return the indices that pad an axis in one of ONNX's modes."""
    positions = range(-begin, length + end)
    if mode == "edge":
        return tuple(min(max(position, 0), length - 1) for position in positions)
    if mode == "wrap":
        return tuple(position % length for position in positions)
    if mode == "reflect":
        period = max(2 * (length - 1), 1)
        return tuple(min(position % period, period - position % period) for position in positions)
    raise UnsupportedError(f"padding mode {mode!r}", "pad with a constant, 'reflect', 'edge' or 'wrap'")
