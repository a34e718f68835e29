"""Work that is divided among threads so that its result does not depend on how many there are.

Torch divides the sums of large products and of gradients by the number of threads, and each division rounds otherwise.
Here the work is divided the same way whatever the machine, and one thread does each part.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Self, TypeVar, final

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")

# Into how many parts of columns a product is divided at most.
_PARTS = 8
# How many threads torch had outside of all that is done side by side; 0 where nothing is.
_OUTSIDE = ContextVar("threads", default=0)


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

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the products of matrices ``[B, N, K]`` and ``[B, K, M]``, a part of the columns after the other."""
        columns = torch.chunk(right, _PARTS, 2)
        return torch.cat(list(self.map(lambda part: left @ part, columns)), 2)
