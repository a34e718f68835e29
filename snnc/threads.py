"""Work that is divided among threads so that its result does not depend on how many there are.

Torch divides the sums of large products and of gradients by the number of threads, and each division rounds otherwise.
Here the work is divided the same way whatever the machine, and one thread does each part.
"""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Self, TypeVar, final

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")

# Into how many parts a product is divided at most.
_PARTS = 8
# How many threads torch had outside of all that is done side by side; 0 where nothing is.
_OUTSIDE = ContextVar("threads", default=0)
# What is timed to choose: layers of a small network, a few milliseconds each time, so often or for so many seconds.
_CHANNELS, _LAYERS = 64, 6
_ROUNDS, _SECONDS = 7, 0.2
# More threads pay where they take less than this share of the time.
_PAYS = 0.9


def choose_threads(timed: Callable[[int], float] | None = None) -> int:
    """Let torch compute in one thread where more do not pay, as where others use the cores; return how many there are.

    What OMP_NUM_THREADS says stays. ``timed`` returns the seconds that some work takes with so many threads. Not for
    work whose gradients torch sums up by threads: it would depend on what else the machine does.
    """
    count = torch.get_num_threads()
    if count == 1 or os.environ.get("OMP_NUM_THREADS"):
        return count
    timed = timed or _timed
    # The first time threads are started.
    timed(count)
    rounds: list[tuple[float, float]] = []
    while len(rounds) < _ROUNDS and sum(map(sum, rounds)) < _SECONDS:
        rounds.append((timed(count), timed(1)))
    many, one = (statistics.median(taken) for taken in zip(*rounds, strict=True))
    torch.set_num_threads(count if many < _PAYS * one else 1)
    return torch.get_num_threads()


def _timed(threads: int) -> float:
    torch.set_num_threads(threads)
    x, weight = torch.ones(4, _CHANNELS, 16, 16), torch.ones(_CHANNELS, _CHANNELS, 3, 3)
    started = time.perf_counter()
    for _ in range(_LAYERS):
        x = torch.conv2d(x, weight, padding=1).clamp_(0, 1)
    return time.perf_counter() - started


@final
class Threads:
    """As many threads as torch had outside, for the parts of some work; within the context, torch itself has one."""

    def __enter__(self) -> Self:
        self._before = torch.get_num_threads()
        threads = _OUTSIDE.get() or self._before
        self._outside = _OUTSIDE.set(threads)
        torch.set_num_threads(1)
        # Every thread has a number of its own: what is set in this one does not hold in others.
        self._pool = ThreadPoolExecutor(threads, "", torch.set_num_threads, (1,)) if threads > 1 else None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        _OUTSIDE.reset(self._outside)
        torch.set_num_threads(self._before)

    def map(self, function: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
        """Return what a function gives for each part, in order, with what is set in the context, such as a device."""
        if self._pool is None:
            return map(function, parts)
        context = copy_context()
        # Who does a part does it alone.
        context.run(_OUTSIDE.set, 1)
        return self._pool.map(lambda part: context.copy().run(function, part), parts)

    def gram(self, inputs: Tensor) -> Tensor:
        """Return the products ``[B, N, N]`` of matrices ``[B, N, K]`` with their transposes, half of it mirrored."""
        rows = torch.chunk(inputs, _PARTS, 1)
        made = inputs.new_empty(len(inputs), inputs.shape[1], inputs.shape[1])

        def fill(part: tuple[Tensor, int]) -> None:
            row, end = part
            begin = end - row.shape[1]
            found = row @ inputs[:, :end].mT
            made[:, begin:end, :end] = found
            made[:, :begin, begin:end] = found[:, :, :begin].mT

        ends = itertools.accumulate(row.shape[1] for row in rows)
        # The last are the most work. All of it is done before it is returned.
        list(self.map(fill, reversed([*zip(rows, ends, strict=True)])))
        return made

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the products of matrices ``[B, N, K]`` and ``[B, K, M]``, part by part of the larger side."""
        # Few columns at a time take many times as long as all of them.
        if left.shape[1] < right.shape[2]:
            return self.product(right.mT, left.mT).mT
        rows = torch.chunk(left, _PARTS, 1)
        return torch.cat(list(self.map(lambda part: part @ right, rows)), 1)
