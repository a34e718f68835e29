"""NumPy archives of events: x, y, p and t, or many recordings in one, as rows of events_xypt from offset to offset.

The rows between offsets[i] and offsets[i + 1] are recording i, and labels[i] is its class. Arrays are never held whole:
one that is compressed is unpacked into a file that goes with the recording.
"""

import math
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from snnc.data.recordings.recording import CHUNK, Events, Recording, recordings
from snnc.errors import DataError

_TOGETHER, _OFFSETS, _LABELS = "events_xypt", "offsets", "labels"
_APART = ("x", "y", "p", "t")
_HINT = "write it with numpy.savez: x, y, p and t, or events_xypt [n, 4], offsets [m + 1] and labels [m]"
# Bytes that are copied at once.
_COPIED = 1 << 20


@final
@recordings.register("npz")
@dataclass(frozen=True, eq=False)
class Npz(Recording):
    """An archive of events; ``rows`` are those of all recordings, which begin and end at ``offsets``."""

    about: ClassVar[str] = "NumPy archives of x, y, p, t or events_xypt (.npz)"
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)
    exclusive: ClassVar[bool] = False

    rows: "tuple[_Rows, ...]" = ()
    offsets: tuple[int, ...] = field(default=(0, 0))

    @classmethod
    def opens(cls, path: Path, head: bytes) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                found = {entry.removesuffix(".npy") for entry in archive.namelist()}
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
            return False
        return _TOGETHER in found or set(_APART) <= found

    @classmethod
    def open(cls, path: Path) -> Self:
        try:
            with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
                together = f"{_TOGETHER}.npy" in archive.namelist()
                rows = tuple(_Rows(path, archive, name) for name in ((_TOGETHER,) if together else _APART))
                known = {name: arrays[name] for name in (_OFFSETS, _LABELS) if name in arrays.files and together}
        except DataError:
            raise
        except Exception as error:  # damaged archives fail in as many ways as there are
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged or cut short"
            raise DataError(f"cannot read: {reason}", place=str(path), hint=_HINT) from None
        lengths = {row.shape[0] for row in rows}
        if len(lengths) > 1 or any(row.shape[1:] != ((4,) if together else ()) for row in rows):
            shapes = ", ".join(f"{row.name} {list(row.shape)}" for row in rows)
            raise DataError(f"events of shape {shapes}", place=str(path), hint=_HINT)
        return cls(path, **_parts(known, lengths.pop(), path), rows=rows)

    def events(self, index: int) -> Iterator[Events]:
        start, stop = self.offsets[index], self.offsets[index + 1]
        for at in range(start, stop, CHUNK):
            read = [row.read(at, min(at + CHUNK, stop)) for row in self.rows]
            x, y, p, t = read[0].T if len(read) == 1 else read
            # Polarities are 0 and 1, or -1 and 1.
            yield Events(x, y, (p > 0).astype(np.uint8), t.astype(np.int64))


def _parts(known: Mapping[str, NDArray[Any]], events: int, path: Path) -> dict[str, Any]:
    """Return where recordings begin and end, what they are called and their labels; raises DataError if they cannot."""
    offsets, labels = known.get(_OFFSETS), known.get(_LABELS)
    edges = (0, events) if offsets is None else tuple(int(edge) for edge in offsets.reshape(-1))
    runs = len(edges) > 1 and edges[0] == 0 and edges[-1] == events
    if offsets is not None and (offsets.dtype.kind not in "iu" or not runs):
        raise DataError("offsets do not run from 0 to the number of events", place=f"{path}:offsets", hint=_HINT)
    if any(start > stop for start, stop in pairwise(edges)):
        raise DataError("offsets that run back", place=f"{path}:offsets", hint=_HINT)
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != (len(edges) - 1,)):
        message = f"labels are {labels.dtype} {list(labels.shape)} for {len(edges) - 1} recordings"
        raise DataError(message, place=f"{path}:labels", hint=_HINT)
    return {
        "offsets": edges,
        "names": () if offsets is None else tuple(f"recording[{index}]" for index in range(len(edges) - 1)),
        "labels": None if labels is None else labels.astype(np.int64),
    }


class _Rows:
    """An array of an archive, read in stretches, from several threads at once."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name
        entry = archive.getinfo(f"{name}.npy")
        with archive.open(entry) as stream:
            old = np.lib.format.read_magic(stream) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            self.shape, columns_first, self._kind = header(stream)
            if self._kind.kind not in "iufb" or (columns_first and len(self.shape) > 1):
                order = ", column by column" if columns_first else ""
                raise DataError(f"{name} is of type {self._kind}{order}", place=f"{path}:{name}", hint=_HINT)
            size = math.prod(self.shape) * self._kind.itemsize
            wrong = DataError(
                f"{name} does not hold as many bytes as its shape says", place=f"{path}:{name}", hint=_HINT
            )
            # Nothing is unpacked that is too large; what the archive states need not be there.
            if entry.file_size - stream.tell() != size:
                raise wrong
            file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed when nobody reads it any more
            while data := stream.read(_COPIED):
                file.write(data)
        file.flush()
        self._file, self._lock = file, threading.Lock()
        weakref.finalize(self, file.close)
        if file.tell() != size:
            raise wrong

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows from ``start`` up to ``stop``."""
        size = math.prod(self.shape[1:]) * self._kind.itemsize
        with self._lock:
            self._file.seek(start * size)
            data = self._file.read((stop - start) * size)
        return np.frombuffer(data, self._kind).reshape(-1, *self.shape[1:])
