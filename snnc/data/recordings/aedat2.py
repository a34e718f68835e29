"""AEDAT 2: pairs of an address and a time, as jAER writes them; CIFAR10-DVS and MNIST-DVS are of this kind.

All integers are big-endian, time is in microseconds. What an address means depends on the chip, which the header names;
where it names none, it is a DVS128. Addresses count x from the right and y from the bottom; here both are turned
around, so that a picture stands as jAER shows it.

    DVS128   bit 15 no pixel, 14-8 y, 7-1 x, 0 polarity (0 is brighter)
    DAVIS    bit 31 no event, 30-22 y, 21-12 x, 11 polarity (1 is brighter), 10 no pixel
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np

from snnc.data.recordings.recording import Events, Recording, chip_size, header_lines, recordings, records
from snnc.errors import DataError

_EVENT = np.dtype([("address", ">u4"), ("time", ">u4")])


@final
@recordings.register("aedat-2")
@dataclass(frozen=True, eq=False)
class Aedat2(Recording):
    """A file of AEDAT 2; ``start`` is where its header ends."""

    about: ClassVar[str] = "AEDAT 2 (.aedat)"
    suffixes: ClassVar[tuple[str, ...]] = (".aedat", ".dat")
    wraps: ClassVar[int] = 1 << 32

    sensor: tuple[int, int] = (128, 128)
    start: int = 0
    davis: bool = False

    @classmethod
    def opens(cls, path: Path, head: bytes) -> bool:
        return head.startswith(b"#!AER-DAT2")

    @classmethod
    def open(cls, path: Path) -> Self:
        lines, start = header_lines(path, b"#", b"#End Of ASCII Header")
        chip, sensor = chip_size(tuple(line.lstrip() for line in lines), path) or ("dvs128", (128, 128))
        return cls(path, sensor, start=start, davis=chip != "dvs128")

    def events(self, index: int) -> Iterator[Events]:
        height, width = self.sensor
        for chunk in records(self.path, _EVENT, self.start):
            address, time = chunk["address"].astype(np.int64), chunk["time"].astype(np.int64)
            if self.davis:
                pixel = address & (1 << 31 | 1 << 10) == 0
                x, y, p = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
            else:
                if (address >> 16).any():
                    hint = "its header has to name it: # AEChip: ...Davis240C"
                    raise DataError(
                        "no addresses of a DVS128, but no other chip is named", place=str(self.path), hint=hint
                    )
                pixel = address & 1 << 15 == 0
                x, y, p = address >> 1 & 0x7F, address >> 8 & 0x7F, 1 - (address & 1)
            yield Events(width - 1 - x, height - 1 - y, p, time).taken(pixel)
