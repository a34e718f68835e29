"""Sums of products over axes that have letters, as in Einstein's notation, in terms of our operations."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snnc import ops
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, Shape, chain, stored_shape, tensor


@dataclass(frozen=True, eq=False)
class Term:
    """A value with a letter for every axis of its sample; a constant is an array."""

    value: Expression | Array
    letters: str


@dataclass(frozen=True)
class _Sizes:
    """How long the axes of all letters are."""

    lengths: Mapping[str, int]

    def shape(self, letters: str) -> Shape:
        return tuple(self.lengths[letter] for letter in letters)

    def size(self, letters: str) -> int:
        return math.prod(self.shape(letters))


def contraction(call: Call, letters: Sequence[str], output: str) -> Expression:
    """Return the sum of the products of all inputs over what the first output has not, as the first output is kept.

    Every input has its ``letters``, one for each axis. Axes of length 1 are left out: they broadcast, and the batch,
    which is one of them, stays in front.
    """
    lengths: dict[str, int] = {}
    for index, named in enumerate(letters):
        for letter, length in zip(named, call.shape(index), strict=True):
            lengths[letter] = max(lengths.get(letter, 1), length)
    terms = []
    for index, named in enumerate(letters):
        shape = call.shape(index)
        kept = "".join(letter for letter, length in zip(named, shape, strict=True) if length > 1)
        short = tuple(length for length in shape if length > 1)
        constant = call.constants[index]
        terms.append(Term(Operand(index, short) if constant is None else np.float32(constant).reshape(short), kept))
    wanted = "".join(letter for letter in output if lengths[letter] > 1)
    value = contracted(terms, wanted, lengths)
    shape = stored_shape(call.output)
    return value if tuple(lengths[letter] for letter in wanted) == shape else chain(value, ops.Reshape(shape))


def contracted(terms: Sequence[Term], wanted: str, lengths: Mapping[str, int]) -> Expression:
    """Return the sum of the products of terms, not all of them constants, over all letters that are not wanted."""
    sizes = _Sizes(lengths)
    total, *rest = terms
    while rest:
        following, *rest = rest
        needed = {*wanted, *(letter for term in rest for letter in term.letters)}
        first, second = (
            _summed(term, needed | {*other.letters}, sizes) for term, other in ((total, following), (following, total))
        )
        total = _pair(first, second, needed, sizes)
    value, letters = _parts(_summed(total, {*wanted}, sizes))
    return _ordered(value, letters, wanted)


def _parts(term: Term) -> tuple[Expression, str]:
    assert not isinstance(term.value, np.ndarray)
    return term.value, term.letters


def _summed(term: Term, needed: Collection[str], sizes: _Sizes) -> Term:
    """Return the diagonal where a letter stands twice, summed over what is not needed."""
    if isinstance(term.value, np.ndarray):
        letters = "".join(letter for letter in dict.fromkeys(term.letters) if letter in needed)
        return Term(np.einsum(term.value, [*_places(term.letters)], [*_places(letters, term.letters)]), letters)
    value, letters = term.value, term.letters
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            value, letters = _diagonal(value, letters, letter, sizes)
    axes = tuple(axis for axis, letter in enumerate(letters, 1) if letter not in needed)
    if axes:
        count = sizes.size("".join(letters[axis - 1] for axis in axes))
        value = chain(value, ops.Mean(axes, keep=False), ops.Affine(tensor(float(count)), None))
    return Term(value, "".join(letter for letter in letters if letter in needed))


def _diagonal(value: Expression, letters: str, letter: str, sizes: _Sizes) -> tuple[Expression, str]:
    """Join the first two axes of a letter into one in front, where they have the same index."""
    first = letters.index(letter)
    second = letters.index(letter, first + 1)
    rest = [axis for axis in range(len(letters)) if axis not in (first, second)]
    order = (0, first + 1, second + 1, *(axis + 1 for axis in rest))
    others = "".join(letters[axis] for axis in rest)
    length = sizes.lengths[letter]
    rows = ops.Reshape((length**2, *sizes.shape(others)))
    entries = ops.Take(1, tuple(range(0, length**2, length + 1)))
    return chain(value, ops.Transpose(order), rows, entries), letter + others


def _pair(first: Term, second: Term, needed: Collection[str], sizes: _Sizes) -> Term:
    if isinstance(first.value, np.ndarray):
        if isinstance(second.value, np.ndarray):
            letters = "".join(letter for letter in dict.fromkeys(first.letters + second.letters) if letter in needed)
            every = first.letters + second.letters
            factors = first.value, [*_places(first.letters, every)], second.value, [*_places(second.letters, every)]
            return Term(np.einsum(*factors, [*_places(letters, every)]), letters)
        return _weighted(second, first, needed, sizes)
    if isinstance(second.value, np.ndarray):
        return _weighted(first, second, needed, sizes)
    return _product(first, second, needed, sizes)


def _weighted(term: Term, constant: Term, needed: Collection[str], sizes: _Sizes) -> Term:
    """Return the product with a constant: a layer with weights unless nothing is summed up and nothing added."""
    value, letters = _parts(term)
    weight = constant.value
    assert isinstance(weight, np.ndarray)
    shared = [letter for letter in letters if letter in constant.letters]
    groups = "".join(letter for letter in shared if letter in needed)
    summed = "".join(letter for letter in shared if letter not in needed)
    kept = "".join(letter for letter in letters if letter not in shared)
    added = "".join(letter for letter in constant.letters if letter not in shared)
    matrices = weight.transpose([constant.letters.index(letter) for letter in groups + added + summed])
    if not summed and not added:
        along = [sizes.lengths[letter] if letter in groups else 1 for letter in letters]
        return Term(chain(value, ops.Affine(tensor(matrices.reshape(along)), None)), letters)
    rows, columns = sizes.size(added), sizes.size(summed)
    if not groups:
        order = kept + summed
        value = _shaped(_ordered(value, letters, order), sizes.shape(order), (*sizes.shape(kept), columns))
        value = chain(value, ops.Linear(tensor(matrices.reshape(rows, columns)), None))
        after = kept + added
        return Term(_shaped(value, (*sizes.shape(kept), rows), sizes.shape(after)), after)
    # One matrix for each group: a convolution over what is left, with windows of one.
    order, count, length = groups + summed + kept, sizes.size(groups), sizes.size(kept)
    value = _shaped(_ordered(value, letters, order), sizes.shape(order), (count * columns, length))
    kernel = tensor(matrices.reshape(count * rows, columns, 1))
    value = chain(value, ops.Conv(kernel, None, (1,), (0, 0), (1,), count))
    after = groups + added + kept
    return Term(_shaped(value, (count * rows, length), sizes.shape(after)), after)


def _product(first: Term, second: Term, needed: Collection[str], sizes: _Sizes) -> Term:
    """Return the product of two computed values: a matrix product where something is summed up."""
    (x, left), (y, right) = _parts(first), _parts(second)
    shared = [letter for letter in left if letter in right]
    batch = "".join(letter for letter in shared if letter in needed)
    summed = "".join(letter for letter in shared if letter not in needed)
    rows = "".join(letter for letter in left if letter not in shared)
    columns = "".join(letter for letter in right if letter not in shared)
    before, after = sizes.shape(batch), batch + rows + columns
    x = _ordered(x, left, batch + rows + summed)
    y = _ordered(y, right, batch + summed + columns)
    shapes = sizes.shape(batch + rows + summed), sizes.shape(batch + summed + columns)
    if not summed:
        x = _shaped(x, shapes[0], (*shapes[0], *(1 for _ in columns)))
        y = _shaped(y, shapes[1], (*before, *(1 for _ in rows), *sizes.shape(columns)))
        return Term(Apply(ops.Product(), (x, y)), after)
    x = _shaped(x, shapes[0], (*before, sizes.size(rows), sizes.size(summed)))
    y = _shaped(y, shapes[1], (*before, sizes.size(summed), sizes.size(columns)))
    found = (*before, sizes.size(rows), sizes.size(columns))
    return Term(_shaped(Apply(ops.MatMul(), (x, y)), found, sizes.shape(after)), after)


def _ordered(value: Expression, letters: str, wanted: str) -> Expression:
    if letters == wanted:
        return value
    return chain(value, ops.Transpose((0, *(letters.index(letter) + 1 for letter in wanted))))


def _shaped(value: Expression, before: Shape, after: Shape) -> Expression:
    return value if before == after else chain(value, ops.Reshape(after))


def _places(letters: str, among: str = "") -> list[int]:
    every = among or letters
    return [every.index(letter) for letter in letters]
