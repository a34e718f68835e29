"""Values of all samples, or all that goes into a network: on disk where they are many, so that memory does not grow."""

import mmap
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Self, final
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnc.feeds import Feeds
from snnc.process import memory

# The share of the memory that the values of all stores together may take which are on no disk.
_SHARE = 32


@final
class Store:
    """Float32 values or integers ``[samples, ...]``, in memory or in a file that goes with the store.

    They are read in any order. What is handed out is a copy, laid out in memory as its axes stand, or, with
    ``channels_last``, images with their channels innermost: sums are rounded in the order in which numbers lie.
    """

    def __init__(self, path: Path, chunks: Iterable[Tensor], *, channels_last: bool = False) -> None:
        """Keep the chunks ``[N, ...]``, which are handed over; raises OSError when the disk is full."""
        self._innermost = False
        self._values = self._kept(path, self._laid_out(chunks, channels_last))
        if not isinstance(self._values, np.memmap):
            with _LOOKING:
                _IN_MEMORY.add(self)

    def _laid_out(self, chunks: Iterable[Tensor], channels_last: bool) -> Iterator[NDArray[Any]]:
        for chunk in chunks:
            self._innermost = channels_last and chunk.ndim == 4
            values = chunk.permute(0, 2, 3, 1) if self._innermost else chunk
            yield _plain(values).contiguous().numpy()

    @staticmethod
    def _kept(path: Path, chunks: Iterator[NDArray[Any]]) -> NDArray[Any]:
        few, room = list[NDArray[Any]](), _room()
        for rows in chunks:
            few.append(rows)
            # As they are joined, they are there twice.
            room -= 2 * rows.nbytes
            if room < 0:
                break
        else:
            return np.concatenate(few)
        with path.open("wb") as file:
            # Written through the file, not by numpy: that does not notice when the disk fills up.
            for rows in few:
                file.write(rows.data)
            count = sum(map(len, few))
            few.clear()
            for rows in chunks:
                file.write(rows.data)
                count += len(rows)
        values = np.memmap(path, rows.dtype, "r", shape=(count, *rows.shape[1:]))
        # What is mapped stays until nobody maps it; the name is no longer needed.
        path.unlink()
        return values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return the values of some samples, in the order asked for."""
        return self._handed_out(self._values[indices.numpy()])

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Yield all values in order, ``size`` samples at once."""
        for start in range(0, len(self), size):
            yield self._handed_out(np.array(self._values[start : start + size]))

    def _handed_out(self, copied: NDArray[Any]) -> Tensor:
        values = torch.from_numpy(copied)
        if isinstance(self._values.base, mmap.mmap):
            # What was copied counts as memory in use no more, though it stays in that of the disk.
            self._values.base.madvise(mmap.MADV_DONTNEED)
        return values.permute(0, 3, 1, 2) if self._innermost else values


# The stores whose values are in memory, through which one thread looks at a time.
_IN_MEMORY, _LOOKING = WeakSet[Store](), Lock()


def _room() -> int:
    """Return how many more bytes may be kept in memory."""
    with _LOOKING:
        return memory() // _SHARE - sum(store._values.nbytes for store in _IN_MEMORY)


@final
class FeedsStore:
    """Samples by the names of the inputs that take them, kept and read as the values of a store are.

    Real numbers are kept in single precision, integers as they are.
    """

    def __init__(self, path: Path, batches: Iterable[Feeds]) -> None:
        """Keep the batches; raises OSError when the disk is full."""
        self._over_time, self._apart = frozenset[str](), False
        # By input what a row of the file holds of it.
        self._parts: dict[str, tuple[torch.Size, torch.dtype]] = {}
        self._rows = Store(path, map(self._packed, batches))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: Tensor) -> Feeds:
        """Return some samples, in the order asked for."""
        sizes = [shape.numel() * kind.itemsize for shape, kind in self._parts.values()]
        parts = torch.split(self._rows[indices], sizes, 1)
        found: dict[str, Tensor] = {}
        for (name, (shape, kind)), part in zip(self._parts.items(), parts, strict=True):
            # A part of a row starts where memory is not aligned.
            rows = part.clone(memory_format=torch.contiguous_format) if len(sizes) > 1 else part
            values = rows.view(kind).view(-1, *shape)
            found[name] = values.movedim(1, 0) if name in self._over_time else values
        return Feeds(found, self._over_time, apart=self._apart)

    def chunks(self, size: int) -> Iterator[Feeds]:
        """Yield all samples in order, ``size`` at once."""
        for start in range(0, len(self), size):
            yield self[torch.arange(start, min(start + size, len(self)))]

    def _packed(self, feeds: Feeds) -> Tensor:
        """Return the bytes of every sample ``[N, bytes]``."""
        self._over_time, self._apart = feeds.over_time, feeds.apart
        rows: list[Tensor] = []
        for name, tensor in feeds.items():
            values = _plain(tensor.movedim(0, 1) if name in feeds.over_time else tensor)
            self._parts[name] = values.shape[1:], values.dtype
            rows.append(values.reshape(len(values), -1).contiguous().view(torch.uint8))
        return torch.cat(rows, 1)


@final
class Pieces:
    """Float32 values by name that come piece by piece, ``[N, ...]`` each, in one file: open until the context ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        path.unlink()
        self._places: dict[str, list[tuple[int, torch.Size]]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def append(self, name: str, values: Tensor) -> None:
        """Write one more piece behind the others; raises OSError when the disk is full."""
        # Rows that are sampled may leave a piece without any, which no memory view can cast.
        rest = values.float().flatten().numpy().view(np.uint8).data
        self._places[name].append((self._file.seek(0, os.SEEK_END), values.shape))
        while rest:
            rest = rest[self._file.write(rest) :]

    def read(self, name: str) -> Iterator[Tensor]:
        """Yield the pieces of a name in the order in which they came."""
        for place, shape in self._places[name]:
            values = np.empty(shape, np.float32)
            self._file.seek(place)
            self._file.readinto(values.data)
            yield torch.from_numpy(values)


def _plain(values: Tensor) -> Tensor:
    return values.float() if values.is_floating_point() else values
