"""A recording of an event camera, read chunk by chunk, whatever its format."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from snnc.errors import DataError
from snnc.registry import Registry

# Events, or records of a file, that are read at once.
CHUNK = 1 << 17

# Of a time before or after 0: differences of times are numbers of 64 bits. Nanoseconds since 1970 are less until 2116.
LATEST = 1 << 62

# What of a file says which format it is.
_HEAD = 4096
# Bytes of text that no recording begins with.
_LONGEST = 1 << 20


class Events(NamedTuple):
    """Some events in the order of their file.

    ``x`` counts pixels from the left, ``y`` from the top; ``p`` is 1 where it became brighter and else 0; ``t`` is in
    microseconds, int64.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[Any]
    t: NDArray[np.int64]

    def taken(self, which: Any) -> "Events":
        """Return some of the events, in their order."""
        return Events(*(values[which] for values in self))


@dataclass(frozen=True, eq=False)
class Recording(ABC):
    """A file of one format that is open: one recording, or ``names`` of several.

    ``about`` says in a help text what it is, ``suffixes`` are those of its files, which nobody else has where it is
    ``exclusive``. Times of ``wraps`` microseconds begin at 0 again, where that is not 0. ``sensor`` is (height, width),
    where the file says it; ``labels`` are the classes of the recordings, if it has them.
    """

    about: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    exclusive: ClassVar[bool] = True
    wraps: ClassVar[int] = 0

    path: Path
    sensor: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    labels: NDArray[np.int64] | None = None

    @classmethod
    def opens(cls, path: Path, head: bytes) -> bool:
        """Return whether a file of one of the suffixes is of this format; ``head`` is what it begins with."""
        return True

    @classmethod
    def several(cls, path: Path) -> bool:
        """Return whether a file in a folder of such holds more than one recording."""
        return False

    @classmethod
    @abstractmethod
    def open(cls, path: Path) -> Self:
        """Open a file; raises DataError where it is damaged, and UsageError where a package is missing."""

    @abstractmethod
    def events(self, index: int) -> Iterator[Events]:
        """Yield the events of one recording in chunks, in their order; raises DataError where the file is damaged."""


recordings: Registry[type[Recording]] = Registry("format of recordings", __name__.rpartition(".")[0], base=Recording)


def suffixes() -> frozenset[str]:
    """Return the suffixes of files that can be recordings."""
    return frozenset(suffix for kind in recordings.values() for suffix in kind.suffixes)


def format_of(path: Path) -> type[Recording] | None:
    """Return the format of a file, None where it is of none; raises OSError where it cannot be read."""
    suffix = path.suffix.lower()
    possible = [kind for kind in recordings.values() if suffix in kind.suffixes]
    if not possible:
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return next((kind for kind in possible if kind.opens(path, head)), None)


def open_recording(path: Path) -> Recording:
    """Open a recording of any format; raises DataError where it is of none, or damaged."""
    kind = format_of(path)
    if kind is None:
        suffix = path.suffix.lower()
        known = ", ".join(kind.about for kind in recordings.values() if suffix in kind.suffixes)
        raise DataError(f"a {suffix} file of no known format", place=str(path), hint=f"known: {known}")
    return kind.open(path)


def header_lines(path: Path, mark: bytes, end: bytes) -> tuple[tuple[str, ...], int]:
    """Return the lines of text that a file begins with, and where they end.

    Each begins with ``mark``, which is left out; ``end`` is what the last one begins with, where there is such a one.
    """
    lines: list[str] = []
    with path.open("rb") as file:
        while True:
            start = file.tell()
            if start > _LONGEST:
                raise damaged(path, f"its header is longer than {_LONGEST:,} bytes")
            line = file.readline(_HEAD)
            if not line.startswith(mark):
                return tuple(lines), start
            lines.append(line[len(mark) :].decode("utf-8", "replace").strip())
            if line.startswith(end):
                return tuple(lines), file.tell()


def records(path: Path, kind: np.dtype[Any], start: int = 0) -> Iterator[NDArray[Any]]:
    """Yield the records that a file consists of from ``start`` on; raises DataError where it ends within one."""
    with path.open("rb") as file:
        file.seek(start)
        while data := file.read(CHUNK * kind.itemsize):
            if len(data) % kind.itemsize:
                raise cut_short(path)
            yield np.frombuffer(data, kind)


def read_exactly(file: BinaryIO, count: int, path: Path) -> bytes:
    """Return so many bytes; raises DataError where the file ends before."""
    # Not asked for before it is known to be there: memory would be taken for all of it.
    if count > os.fstat(file.fileno()).st_size - file.tell():
        raise cut_short(path)
    return file.read(count)


def cut_short(path: Path) -> DataError:
    """Return the error of a file that ends too early."""
    return DataError("the recording ends within an event", place=str(path), hint="it was cut short: fetch it again")


def damaged(path: Path, reason: object) -> DataError:
    """Return the error of a file that a library could not read."""
    text = (str(reason).splitlines() or [type(reason).__name__])[0]
    return DataError(f"cannot read this recording: {text}", place=str(path), hint="it is damaged: fetch it again")


def chip_size(lines: tuple[str, ...], path: Path) -> tuple[str, tuple[int, int]] | None:
    """Return the chip that lines of a header name, and its (height, width); None where they name none.

    Raises DataError where it is an unknown one.
    """
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("AEChip:", "Source "))]
    if not named:
        return None
    for chip, size in _CHIPS.items():
        if chip in named[0].lower():
            return chip, size
    hint = f"known: {', '.join(chip.upper() for chip in _CHIPS)}"
    raise DataError(f"events of an unknown chip: {named[0]}", place=str(path), hint=hint)


_CHIPS: Mapping[str, tuple[int, int]] = {
    "dvs128": (128, 128),
    "davis128": (128, 128),
    "davis208": (192, 208),
    "davis240": (180, 240),
    "sbret10": (180, 240),
    "davis346": (260, 346),
    "davis640": (480, 640),
}
