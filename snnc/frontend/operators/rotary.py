"""The rotation of pairs of features by the angle of a position."""

import math
from dataclasses import dataclass

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, Shape, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators


@dataclass(frozen=True, eq=False)
class _Rotation:
    """Which angle every feature takes, its partner, and the sign that it has there: 0 where it does not rotate."""

    angles: Array
    partners: Array
    signs: Array


@operators.register("RotaryEmbedding")
def rotary_embedding(call: Call) -> Expression:
    """Read the rotation of pairs of features by the angles of their positions, linear where these are constants."""
    # onnxruntime has the places of the positions in front of the tables of angles.
    (cosine, sine), places = ((2, 3), 1) if call.domain else ((1, 2), 3)
    shape, operand = call.shape(), call.framed(())[0]
    pairs = call.shape(cosine)[-1]
    value: Expression = operand
    if len(shape) == 4:
        split = operand.shape
        along = (*operand.shape[:-3], 1, *shape[2:])
    else:
        count = call.integer("num_heads", 0) or shape[2] // (2 * pairs)
        split = (*operand.shape[:-1], count, shape[2] // count)
        value = chain(operand, ops.Reshape(split))
        along = (*operand.shape[:-1], 1, split[-1])
    turn = _rotation(split[-1], pairs, bool(call.integer("interleaved", 0)))
    turned = chain(value, ops.Take(len(split), tuple(int(partner) for partner in turn.partners)))
    # What does not rotate stays as it is.
    still = (turn.signs == 0).astype(np.float64)
    kept = _factor(call, cosine, places, turn.angles, (1 - still, still), along)
    mixed = _factor(call, sine, places, turn.angles, (turn.signs, 0 * still), along)
    rotated = Apply(ops.Add(), (_multiplied(value, kept), _multiplied(turned, mixed)))
    return rotated if split == operand.shape else chain(rotated, ops.Reshape(operand.shape))


def _rotation(features: int, pairs: int, interleaved: bool) -> _Rotation:
    order = np.arange(pairs)
    first, second = (2 * order, 2 * order + 1) if interleaved else (order, order + pairs)
    angles, partners, signs = np.zeros(features, int), np.arange(features), np.zeros(features)
    angles[first] = angles[second] = order
    partners[first], partners[second] = second, first
    signs[first], signs[second] = -1, 1
    return _Rotation(angles, partners, signs)


def _multiplied(value: Expression, factor: Expression | Array) -> Expression:
    if isinstance(factor, np.ndarray):
        return chain(value, ops.Affine(tensor(factor), None))
    return Apply(ops.Product(), (value, factor))


def _factor(
    call: Call, table: int, places: int, angles: Array, affine: tuple[Array, Array], along: Shape
) -> Expression | Array:
    """Return an affine function of what a table has for every position and feature, shaped to broadcast."""
    scale, shift = affine
    count = math.prod(along[:-1])
    array = call.constants[table]
    if array is None:
        if call.has(places):
            raise UnsupportedError("it looks up angles that the network computes", "compute them for every position")
        taken = ops.Take(2, tuple(int(angle) for angle in angles))
        given = Operand(table, call.shape(table)[-2:])
        return chain(given, taken, ops.Affine(tensor(scale), tensor(shift)), ops.Reshape(along))
    rows: Array = array.reshape(-1, array.shape[-1])[:, angles] * scale + shift
    if call.has(places):
        positions = call.constants[places]
        if positions is None:
            return chain(Operand(places, (count,)), ops.Embedding(tensor(rows)), ops.Reshape(along))
        flat = positions.reshape(-1).astype(int)
        # A single number is the place of the first.
        rows = rows[flat + np.arange(count) if flat.size == 1 else flat]
    return rows.reshape(along)
