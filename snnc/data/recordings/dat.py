"""Prophesee DAT: eight bytes an event behind a header of text; GEN1, 1 Mpx and N-CARS are of this kind.

Little-endian: microseconds in 32 bits, then bits 13-0 x, 27-14 y, 31-28 polarity.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np

from snnc.data.recordings.recording import (
    Events,
    Recording,
    cut_short,
    header_lines,
    recordings,
    records,
)
from snnc.errors import DataError

_EVENT = np.dtype([("time", "<u4"), ("data", "<u4")])


@final
@recordings.register("prophesee-dat")
@dataclass(frozen=True, eq=False)
class Dat(Recording):
    """A DAT file; ``start`` is where its events begin."""

    about: ClassVar[str] = "Prophesee DAT (.dat)"
    suffixes: ClassVar[tuple[str, ...]] = (".dat",)
    wraps: ClassVar[int] = 1 << 32

    start: int = 0

    @classmethod
    def opens(cls, path: Path, head: bytes) -> bool:
        return head.startswith(b"% ")

    @classmethod
    def open(cls, path: Path) -> Self:
        lines, start = header_lines(path, b"%", b"% end")
        said = {key.lower(): value for key, _, value in (line.partition(" ") for line in lines)}
        with path.open("rb") as file:
            file.seek(start)
            kind = file.read(2)
        if len(kind) < 2:
            raise cut_short(path)
        if kind[1] != _EVENT.itemsize:
            hint = "events of pixels have 8 bytes; what else there is has to be converted first"
            raise DataError(
                f"an unknown codec: events of kind {kind[0]}, {kind[1]} bytes each", place=str(path), hint=hint
            )
        size = said.get("height", ""), said.get("width", "")
        return cls(path, (int(size[0]), int(size[1])) if all(map(str.isdecimal, size)) else None, start=start + 2)

    def events(self, index: int) -> Iterator[Events]:
        for chunk in records(self.path, _EVENT, self.start):
            word = chunk["data"]
            brighter = (word >> 28 != 0).astype(np.uint8)
            yield Events(word & 0x3FFF, word >> 14 & 0x3FFF, brighter, chunk["time"].astype(np.int64))
