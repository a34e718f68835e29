"""Values read at constant places between those that there are: resizing, grids, regions and windows that are added up.

Of every entry that is made of an axis there are the places that it reads and what each of them weighs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from snnc import ops
from snnc.frontend.expression import Array, UnsupportedError, tensor


def resampled(axis: int, places: Array, weights: Array, length: int) -> Iterator[ops.Op]:
    """Yield what makes of an axis of that length the sums of entries at ``places [out, K]``, times their ``weights``.

    Where every entry is one of the old ones, they are but moved. What weighs nothing may be anywhere.
    """
    places, weights = np.broadcast_arrays(places, weights)
    if not places.size:
        raise UnsupportedError("its output is empty", "check the file")
    places, weights = _merged(np.where(weights == 0, 0, places).astype(np.int64), weights)
    # Those that weigh anything first, so that no more are read than one entry needs.
    first = np.argsort(weights == 0, axis=1, kind="stable")
    most = max(int((weights != 0).sum(1).max()), 1)
    places, weights = (np.take_along_axis(part, first, 1)[:, :most] for part in (places, weights))
    if most > 1 or not np.all(weights == 1):
        yield ops.Resample(axis, tensor(places), tensor(weights))
        return
    yield from moved(axis, places[:, 0].tolist(), length)


def _merged(places: Array, weights: Array) -> tuple[Array, Array]:
    """Return places and weights of which no entry reads one place twice."""
    order = np.argsort(places, axis=1, kind="stable")
    places, weights = (np.take_along_axis(part, order, 1) for part in (places, weights))
    at = np.cumsum(np.diff(places, axis=1, prepend=places[:, :1]) != 0, axis=1)
    rows = np.arange(len(places))[:, None]
    sums, found = np.zeros(places.shape), np.zeros_like(places)
    np.add.at(sums, (rows, at), weights)
    found[rows, at] = places
    return np.where(sums == 0, 0, found), sums


def added(axis: int, targets: Array, size: int) -> Iterator[ops.Op]:
    """Yield what adds every entry of an axis to one of ``size`` new ones: those at ``targets``, none where below 0."""
    order = np.argsort(targets, kind="stable")
    order = order[targets[order] >= 0]
    counts = np.bincount(targets[order], minlength=size)
    nth = np.arange(len(order)) - (np.cumsum(counts) - counts)[targets[order]]
    places, weights = np.zeros((2, size, max(int(counts.max()), 1)))
    places[targets[order], nth], weights[targets[order], nth] = order, 1
    yield from resampled(axis, places, weights, len(targets))


def moved(axis: int, indices: Sequence[int], length: int) -> Iterator[ops.Op]:
    """Yield what takes the entries of an axis at ``indices``: nothing for all of it, a slice of what lies in a row."""
    if not len(indices):
        raise UnsupportedError("its output is empty", "check the file")
    if [*indices] == [*range(length)]:
        return
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    row = [*range(indices[0], indices[-1] + 1, step)] if step > 0 else []
    if [*indices] == row and len(indices) > 1:
        yield ops.Slice(axis, indices[0], indices[-1] + 1, step)
    else:
        yield ops.Take(axis, tuple(indices))


@dataclass(frozen=True)
class Kernel:
    """What entries at a distance weigh, and up to which distance they do."""

    weight: Callable[[Array], Array]
    reach: int

    def around(self, x: Array, share: float = 1.0) -> tuple[Array, Array]:
        """Return the places around every ``x [out]`` and their weights ``[out, K]``, which sum to 1.

        A ``share`` below 1 widens the kernel: what is made smaller by it is averaged, not skipped.
        """
        far = math.ceil(self.reach / share)
        places = np.floor(x)[:, None] + np.arange(1 - far, far + 1)
        weights = self.weight((places - x[:, None]) * share)
        return places, weights / weights.sum(1, keepdims=True)


LINEAR = Kernel(lambda distance: np.maximum(1 - np.abs(distance), 0), 1)


def cubic(sharpness: float) -> Kernel:
    """Return cubic interpolation, of which ``sharpness`` says how far its weights go below 0."""

    def weight(distance: Array) -> Array:
        x, a = np.abs(distance), sharpness
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        weights: Array = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
        return weights

    return Kernel(weight, 2)
