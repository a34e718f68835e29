"""N-MNIST and N-Caltech101: five bytes an event, without a header.

x, y, then a bit of polarity and 23 bits of microseconds, the highest first (Orchard et al., Frontiers 2015). An event
at y = 240 is none: it adds 2^13 microseconds to the time of all that follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np

from snnc.data.recordings.recording import Events, Recording, recordings, records

_EVENT = np.dtype([("x", "u1"), ("y", "u1"), ("time", "u1", 3)])
_OVERFLOW, _ADDED = 240, 1 << 13


@final
@recordings.register("n-mnist")
@dataclass(frozen=True, eq=False)
class NMnist(Recording):
    """A file of N-MNIST or N-Caltech101."""

    about: ClassVar[str] = "N-MNIST or N-Caltech101 (.bin)"
    suffixes: ClassVar[tuple[str, ...]] = (".bin",)
    wraps: ClassVar[int] = 1 << 23

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls(path)

    def events(self, index: int) -> Iterator[Events]:
        added = 0
        for chunk in records(self.path, _EVENT):
            high, middle, low = chunk["time"].astype(np.int64).T
            overflow = chunk["y"] == _OVERFLOW
            later = added + _ADDED * overflow.cumsum()
            added = int(later[-1])
            found = Events(chunk["x"], chunk["y"], high >> 7, ((high & 0x7F) << 16 | middle << 8 | low) + later)
            yield found.taken(~overflow) if overflow.any() else found
