"""AEDAT 3.1: packets of events of one kind; DVS-Gesture is of this kind.

Little-endian. A packet begins with 28 bytes: kind of events, source, bytes an event, where in an event its time is, how
often time has overflown 31 bits, and how many events there is room for, are there, and are valid. Of kind 1 are those
of pixels: bit 0 valid, 1 polarity, 16-2 y, 31-17 x, from the upper left; then the time in microseconds.

With a file NAME_labels.csv beside NAME.aedat, as DVS-Gesture has it, each of its lines is a recording: a class, and
when that begins and ends.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np

from snnc.data.recordings.recording import (
    Events,
    Recording,
    chip_size,
    cut_short,
    header_lines,
    read_exactly,
    recordings,
)
from snnc.errors import DataError
from snnc.files import check_file

_PACKET = np.dtype(
    [
        ("kind", "<i2"),
        ("source", "<i2"),
        *((name, "<i4") for name in ("size", "at", "overflow", "room", "number", "valid")),
    ]
)
_EVENT = np.dtype([("data", "<u4"), ("time", "<i4")])
_PIXELS = 1
# Of a class, and of microseconds.
_NUMBER = re.compile("[0-9]{1,15}")
_COLUMNS = ("class", "startTime_usec", "endTime_usec")


@final
@recordings.register("aedat-3")
@dataclass(frozen=True, eq=False)
class Aedat3(Recording):
    """A file of AEDAT 3.1; ``start`` is where its header ends, ``spans`` from when to when its recordings last."""

    about: ClassVar[str] = "AEDAT 3.1 (.aedat)"
    suffixes: ClassVar[tuple[str, ...]] = (".aedat",)

    start: int = 0
    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def several(cls, path: Path) -> bool:
        return _labels(path).exists()

    @classmethod
    def opens(cls, path: Path, head: bytes) -> bool:
        return head.startswith(b"#!AER-DAT3.1")

    @classmethod
    def open(cls, path: Path) -> Self:
        lines, start = header_lines(path, b"#", b"#!END-HEADER")
        form = next((line.partition(":")[2].strip() for line in lines if line.startswith("Format:")), "RAW")
        if form != "RAW":
            raise DataError(f"an unknown codec: {form}", place=str(path), hint="record it as RAW")
        chip = chip_size(lines, path)
        size = chip and chip[1]
        if not cls.several(path):
            return cls(path, size, start=start)
        lasting = _lasting(_labels(path))
        names = tuple(f"{path.name}[{number}]" for number in range(len(lasting)))
        labels = np.array([label for label, *_ in lasting], np.int64)
        spans = tuple((begin, end) for _, begin, end in lasting)
        return cls(path, size, names, labels, start=start, spans=spans)

    def events(self, index: int) -> Iterator[Events]:
        for found in self._all():
            if self.spans:
                begin, end = self.spans[index]
                yield found.taken((found.t >= begin) & (found.t < end))
            else:
                yield found

    def _all(self) -> Iterator[Events]:
        with self.path.open("rb") as file:
            file.seek(self.start)
            while head := file.read(_PACKET.itemsize):
                if len(head) < _PACKET.itemsize:
                    raise cut_short(self.path)
                packet = np.frombuffer(head, _PACKET)[0]
                size, number = int(packet["size"]), int(packet["number"])
                if size < 1 or number < 0 or (packet["kind"] == _PIXELS and size != _EVENT.itemsize):
                    raise DataError("no packet of events", place=str(self.path), hint="it is damaged: fetch it again")
                data = read_exactly(file, size * number, self.path)
                if packet["kind"] != _PIXELS:
                    continue
                chunk = np.frombuffer(data, _EVENT)
                word, time = chunk["data"], chunk["time"].astype(np.int64) + (int(packet["overflow"]) << 31)
                yield Events(word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1, time).taken(word & 1 == 1)


def _labels(path: Path) -> Path:
    return path.with_name(f"{path.stem}_labels.csv")


def _lasting(path: Path) -> list[tuple[int, ...]]:
    """Return the lines of a file of labels: class, first and last microsecond; raises DataError where one is none."""
    check_file(path)
    found = []
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = csv.DictReader(file)
        try:
            for row in rows:
                values = [(row.get(name) or "").strip() for name in _COLUMNS]
                if not all(map(_NUMBER.fullmatch, values)) or int(values[1]) >= int(values[2]):
                    hint = f"its columns are {', '.join(_COLUMNS)}, in microseconds"
                    message = f"no class that begins and ends: {','.join(values)}"
                    raise DataError(message, place=f"{path}:{rows.line_num}", hint=hint)
                found.append(tuple(map(int, values)))
        except csv.Error as error:
            raise DataError(f"no table: {error}", place=f"{path}:{rows.line_num}", hint="save it as CSV") from None
    if not found:
        raise DataError("no recording is listed", place=str(path), hint="add lines, or remove the file")
    return found
