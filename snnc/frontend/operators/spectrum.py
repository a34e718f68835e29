"""Fourier transforms of constant lengths: products with constant matrices."""

from collections.abc import Iterator

import numpy as np

from snnc import ops
from snnc.frontend.expression import Array, Call, Expression, UnsupportedError, chain
from snnc.frontend.operators import operators
from snnc.frontend.sampling import resampled


@operators.register("DFT")
def fourier_transform(call: Call) -> Expression:
    """Read a Fourier transform along an axis, of real or complex numbers, whose parts are the last axis."""
    shape = call.shape()
    place = call.given(2)
    axis = call.axis(call.integer("axis", 1) if call.opset < 20 else -2 if place is None else int(place.reshape(-1)[0]))
    length = call.given(1)
    count = shape[axis] if length is None else int(length.reshape(-1)[0])
    inverse, half = bool(call.integer("inverse", 0)), bool(call.integer("onesided", 0))
    if inverse and half:
        raise UnsupportedError("half a spectrum is transformed back", "export the transform of whole spectra")
    operand, offset = call.framed((axis,))
    rank = len(operand.shape) + 1
    moved = [*(other for other in range(rank - 1) if other != axis + offset), axis + offset, rank - 1]
    back = [moved.index(other) for other in range(rank)]
    value: Expression = operand if moved == [*range(rank)] else chain(operand, ops.Transpose(tuple(moved)))
    kept = [([0, *operand.shape])[other] for other in moved[1:-2]]
    # Beyond the length there is nothing to transform; up to it there may be zeros.
    window = np.pad(np.ones(min(shape[axis], count)), (0, max(shape[axis] - count, 0)))
    bins = count // 2 + 1 if half else count
    steps = _transforms(rank - 2, _matrix(window, count, bins, shape[-1], inverse=inverse))
    value = chain(value, ops.Reshape((*kept, shape[axis] * shape[-1])), *steps, ops.Reshape((*kept, bins, 2)))
    if moved != [*range(rank)]:
        value = chain(value, ops.Transpose(tuple(back)))
    return call.framed_result(value, offset)


@operators.register("STFT")
def windowed_fourier_transform(call: Call) -> Expression:
    """Read the Fourier transforms of windows that lie one behind another."""
    signal = call.shape()
    step = int(call.constant(1, "the distance of its windows").reshape(-1)[0])
    given, length = call.given(2), call.given(3)
    if given is None and length is None:
        raise UnsupportedError("the length of its windows is missing", "check the file with onnx.checker")
    size = len(given) if given is not None else int(length.reshape(-1)[0]) if length is not None else 0
    window = np.ones(size) if given is None else given.astype(np.float64)
    parts = signal[2] if len(signal) > 2 else 1
    frames, bins = call.output[1], call.output[2]
    operand = call.framed(())[0]
    before = operand.shape[: len(operand.shape) - len(signal) + 1]
    places = (np.arange(frames)[:, None] * step + np.arange(size)).reshape(-1)
    rank = len(before) + 1
    value = chain(
        operand,
        ops.Reshape((*before, signal[1], parts)),
        ops.Take(rank, tuple(places.tolist())),
        ops.Reshape((*before, frames, size * parts)),
        *_transforms(rank + 1, _matrix(window, size, bins, parts, inverse=False)),
    )
    return call.settled(value)


def _transforms(axis: int, matrix: Array) -> Iterator[ops.Op]:
    return resampled(axis, np.arange(matrix.shape[1])[None], matrix, matrix.shape[1])


def _matrix(window: Array, count: int, bins: int, parts: int, *, inverse: bool) -> Array:
    """Return the transform of ``count`` numbers as a matrix ``[bins · 2, len(window) · parts]`` of their parts."""
    turns = np.exp((2j if inverse else -2j) * np.pi * np.outer(np.arange(bins), np.arange(len(window))) / count)
    turns = turns * window / (count if inverse else 1)
    real = np.stack([turns.real, turns.imag], 1)
    imaginary = np.stack([-turns.imag, turns.real], 1)
    matrix: Array = np.stack([real, imaginary], -1)[..., :parts].reshape(2 * bins, -1)
    return matrix
