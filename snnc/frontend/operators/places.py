"""Values taken from, or put to, places that constants of the file choose."""

import math
from collections.abc import Sequence

import numpy as np

from snnc import ops
from snnc.frontend.expression import (
    Apply,
    Array,
    Call,
    Expression,
    Operand,
    UnsupportedError,
    chain,
    stored_shape,
    tensor,
)
from snnc.frontend.operators import operators
from snnc.frontend.sampling import added, moved, resampled


@operators.register("GatherElements")
def gather_elements(call: Call) -> Expression:
    """Read the choice of one value for every entry, along an axis."""
    axis = call.axis(call.integer("axis", 0))
    if call.constants[1] is None:
        return _found(call, axis)
    indices = _positive(call.constant(1, "the list of indices"), call.shape()[axis])
    within = tuple(slice(None if at == axis else length) for at, length in enumerate(indices.shape))
    return _chosen(call, np.take_along_axis(_numbered(call.shape())[within], indices, axis))


def _found(call: Call, axis: int) -> Expression:
    """Build the choice of values at places that the network computes."""
    table, shape = call.constants[0], call.shape(1)
    alone = axis != 0 and call.shape()[:1] == shape[:1] == (1,)
    places = Operand(1, shape[1:] if alone else shape)
    if table is None:
        values = Operand(0, call.shape()[1:] if alone else call.shape())
        return call.settled(Apply(ops.Gathered(axis + (not alone)), (values, places)))
    if table.size != table.shape[axis]:
        call.constant(1, "the list of indices of more than one column")
    return call.settled(chain(places, ops.Embedding(tensor(table.reshape(-1)))))


@operators.register("GatherND")
def gather_slices(call: Call) -> Expression:
    """Read the choice of values, or of whole slices."""
    numbers, indices = _numbered(call.shape()), call.constant(1, "the list of indices")
    alike = call.integer("batch_dims", 0)
    rows = math.prod(call.shape()[:alike])
    numbers, flat = numbers.reshape(rows, *numbers.shape[alike:]), indices.reshape(rows, -1, indices.shape[-1])
    found = [part[tuple(place.T)] for part, place in zip(numbers, flat, strict=True)]
    return _chosen(call, np.stack(found).reshape(call.output))


@operators.register("Compress")
def compress(call: Call) -> Expression:
    """Read the entries for which a constant says yes."""
    kept = np.flatnonzero(call.constant(1, "which entries it keeps"))
    if "axis" not in call.attributes:
        return _chosen(call, _numbered(call.shape()).reshape(-1)[kept])
    return _chosen(call, _numbered(call.shape()).take(kept, call.axis(call.integer("axis", 0))))


@operators.register("ReverseSequence")
def reverse_sequence(call: Call) -> Expression:
    """Read the reversal of the beginnings of rows."""
    time, batch = call.integer("time_axis", 0), call.integer("batch_axis", 1)
    rows = np.moveaxis(_numbered(call.shape()), (batch, time), (0, 1)).copy()
    for row, length in zip(rows, call.constant(1, "how much it reverses"), strict=True):
        row[:length] = row[:length][::-1].copy()
    return _chosen(call, np.moveaxis(rows, (0, 1), (batch, time)))


@operators.register("Trilu")
def triangle(call: Call) -> Expression:
    """Read a triangle of a matrix: the product with ones and zeros."""
    diagonal = call.given(1)
    first = 0 if diagonal is None else int(diagonal.reshape(-1)[0])
    ones = np.ones(call.shape()[-2:])
    kept = np.triu(ones, first) if call.integer("upper", 1) else np.tril(ones, first)
    return chain(call.framed(())[0], ops.Affine(call.broadcast_constant(kept), None))


@operators.register("CumSum")
def running_sum(call: Call) -> Expression:
    """Read the sum of all entries up to each, or from each on."""
    axis = call.axis(int(call.constant(1, "its axis").reshape(-1)[0]))
    operand, offset = call.framed((axis,))
    length = call.shape()[axis]
    counted = np.tril(np.ones((length, length)), -1 if call.integer("exclusive", 0) else 0)
    weights = counted.T if call.integer("reverse", 0) else counted
    value = chain(operand, *resampled(axis + offset, np.arange(length)[None], weights, length))
    return call.framed_result(value, offset)


@operators.register("ScatterND")
def scatter_slices(call: Call) -> Expression:
    """Read values, or whole slices, that are put to places of others."""
    shape, indices = call.shape(), call.constant(1, "the list of indices")
    depth = indices.shape[-1]
    rows = _numbered(shape).reshape(*shape[:depth], -1)
    return _scattered(call, rows[tuple(np.moveaxis(indices, -1, 0))])


@operators.register("Scatter")
@operators.register("ScatterElements")
def scatter_elements(call: Call) -> Expression:
    """Read values that are put to places of others, along an axis."""
    axis = call.axis(call.integer("axis", 0))
    indices = _positive(call.constant(1, "the list of indices"), call.shape()[axis])
    # The other indices are those of the update itself.
    part = _numbered(call.shape())[
        tuple(slice(None) if other == axis else slice(n) for other, n in enumerate(indices.shape))
    ]
    return _scattered(call, np.take_along_axis(part, indices, axis))


def _numbered(shape: Sequence[int]) -> Array:
    return np.arange(math.prod(shape)).reshape(shape)


def _positive(indices: Array, length: int) -> Array:
    return np.where(indices < 0, indices + length, indices)


def _chosen(call: Call, numbers: Array) -> Expression:
    """Return the values of the first input that are numbered so, counted from its first to its last."""
    if not numbers.size:
        raise UnsupportedError("its output is empty", "export the network without it")
    shape = stored_shape(call.shape())
    return _picked((Operand(0, shape),), numbers.reshape(stored_shape(call.output)))


def _picked(operands: Sequence[Operand], numbers: Array) -> Expression:
    """Return values in the shape of their ``numbers``, counted through all operands one after another.

    Where whole entries of an axis are taken, they stay together; else each value is moved by itself.
    """
    ends = np.cumsum([math.prod(operand.shape) for operand in operands])
    starts = [0, *(int(end) for end in ends)]
    counted = [start + _numbered(operand.shape) for start, operand in zip(starts, operands, strict=False)]
    for axis in range(numbers.ndim):
        others = {(array.ndim, array.shape[:axis], array.shape[axis + 1 :]) for array in (*counted, numbers)}
        if len(others) > 1:
            continue
        source = np.concatenate(counted, axis)
        line, wanted = (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)[:, 0] for array in (source, numbers))
        entries = {int(number): index for index, number in enumerate(line)}
        places = [entries.get(int(number), 0) for number in wanted]
        if np.array_equal(source.take(places, axis), numbers):
            return chain(_beside(operands, axis + 1), *moved(axis + 1, places, source.shape[axis]))
    flat = _beside([Operand(operand.index, (math.prod(operand.shape),)) for operand in operands], 1)
    return chain(flat, *moved(1, numbers.reshape(-1).tolist(), starts[-1]), ops.Reshape(numbers.shape))


def _beside(operands: Sequence[Operand], axis: int) -> Expression:
    return operands[0] if len(operands) == 1 else Apply(ops.Concat(axis), tuple(operands))


def _scattered(call: Call, places: Array) -> Expression:
    """Return the first input with the last one's values put to ``places``, counted through it."""
    reduction = call.text("reduction", "none")
    data, updates = call.constants[0], call.constants[2]
    shape, size = stored_shape(call.shape()), math.prod(call.shape())
    flat = places.reshape(-1)
    if reduction == "none":
        # Of what is put to the same place, the last stays.
        source = np.arange(size)
        source[flat] = size + np.arange(flat.size)
        if data is None and updates is None:
            operands = (Operand(0, shape), _like(shape, Operand(2, call.shape(2))))
            return _picked(operands, source.reshape(shape))
        untouched = (source < size).reshape(shape)
        if data is None and updates is not None:
            put = np.zeros(size)
            put[flat] = updates.reshape(-1)
            return chain(Operand(0, shape), ops.Affine(tensor(untouched), tensor(put.reshape(shape))))
        assert data is not None
        last = source - size
        moves = resampled(1, np.maximum(last, 0)[:, None], (last >= 0)[:, None], flat.size)
        kept = tensor(np.where(untouched, data.reshape(shape), 0))
        return chain(Operand(2, (flat.size,)), *moves, ops.Reshape(shape), ops.Affine(None, kept))
    if reduction == "add":
        if updates is not None:
            sums = np.bincount(flat, updates.reshape(-1), size)
            return chain(Operand(0, shape), ops.Affine(None, tensor(sums.reshape(shape))))
        sums_of = chain(Operand(2, (flat.size,)), *added(1, flat, size), ops.Reshape(shape))
        if data is not None:
            return chain(sums_of, ops.Affine(None, tensor(data.reshape(shape))))
        return Apply(ops.Add(), (Operand(0, shape), sums_of))
    if reduction == "mul" and updates is not None:
        factors = np.ones(size)
        np.multiply.at(factors, flat, updates.reshape(-1))
        return chain(Operand(0, shape), ops.Affine(tensor(factors.reshape(shape)), None))
    raise UnsupportedError(f"scattering by {reduction!r}", "put values to their places, or add them up")


def _like(shape: Sequence[int], updates: Operand) -> Operand:
    """Return updates with the axes of what they are put into, where they are whole entries of one of its axes."""
    count = math.prod(updates.shape)
    for axis, length in enumerate(shape):
        each = math.prod(shape) // length
        if each and count % each == 0:
            alike = Operand(updates.index, (*shape[:axis], count // each, *shape[axis + 1 :]))
            if tuple(n for n in alike.shape if n != 1) == tuple(n for n in updates.shape if n != 1):
                return alike
    return Operand(updates.index, (count,))
