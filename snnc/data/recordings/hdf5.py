"""HDF5: events as datasets that are found by their names; DSEC and what was made of GEN1, 1 Mpx or DVS-Gesture.

A group that holds x, y, p and t, whatever they are called there, is a recording, and so is a dataset of records with
such fields; ``t_offset`` beside or above it is added to its times. Several are several recordings. What lies in other
files is passed by.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np

from snnc.data.recordings.extra import package
from snnc.data.recordings.recording import CHUNK, LATEST, Events, Recording, damaged, recordings
from snnc.errors import DataError

# What x, y, p and t are called.
_NAMES: Mapping[str, Sequence[str]] = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
}
# Groups within groups, and how many times as much as it takes a column of times may hold.
_DEEPEST, _DENSEST = 64, 4096


@final
@recordings.register("hdf5")
@dataclass(frozen=True, eq=False)
class Hdf5(Recording):
    """An HDF5 file; ``columns`` is what x, y, p and t of a recording are called, ``file`` is kept open."""

    about: ClassVar[str] = "HDF5 (.h5, .hdf5)"
    suffixes: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")

    file: Any = None
    columns: tuple[tuple[str, Mapping[str, str]], ...] = ()

    @classmethod
    def open(cls, path: Path) -> Self:
        h5py = package("h5py", path)
        try:
            file = h5py.File(path, "r")
            found: list[tuple[str, Mapping[str, str]]] = []
            _visit(file, "", found, set())
            size = _size(file, found[0][0]) if found else None
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise damaged(path, error) from None
        if not found:
            hint = "known: a group of x, y, p and t, as in DSEC, or records with such fields"
            raise DataError("no events in this file", place=str(path), hint=hint)
        names = tuple(place or "/" for place, _ in found) if len(found) > 1 else ()
        return cls(path, size, names, file=file, columns=tuple(found))

    def events(self, index: int) -> Iterator[Events]:
        place, names = self.columns[index]
        held = self.file[place or "/"]
        try:
            offset = _offset(self.file, place)
            timed = held if hasattr(held, "dtype") else held[names["t"]]
            count = len(timed)
            if count * timed.dtype.itemsize > _DENSEST * timed.id.get_storage_size():
                raise ValueError(f"it holds {timed.id.get_storage_size():,} bytes of {count:,} events")
            for at in range(0, count, CHUNK):
                part = held[at : at + CHUNK] if hasattr(held, "dtype") else None
                x, y, p, t = (
                    part[name] if part is not None else held[name][at : at + CHUNK] for name in names.values()
                )
                yield Events(x, y, (p > 0).astype(np.uint8), t.astype(np.int64) + offset)
        except (OSError, ValueError, TypeError, OverflowError, RuntimeError) as error:
            # A filter that is not installed, or a damaged chunk.
            raise damaged(self.path, error) from None


def _visit(group: Any, place: str, found: list[tuple[str, Mapping[str, str]]], seen: set[Any]) -> None:
    """Add the recordings in a group, by their places, with what x, y, p and t are called there.

    Groups that were ``seen`` add nothing: links may lead back. Raises ValueError where groups are nested too deeply.
    """
    if group in seen:
        return
    seen.add(group)
    if place.count("/") > _DEEPEST:
        raise ValueError(f"groups are nested more than {_DEEPEST} deep")
    inside = {name: held for name in group if (held := _held(group, name)) is not None}
    names = _named([name for name, held in inside.items() if _is_column(held)])
    if names and len({inside[name].shape for name in names.values()}) == 1:
        found.append((place, names))
        return
    for name, held in inside.items():
        if not hasattr(held, "dtype"):
            _visit(held, f"{place}/{name}", found, seen)
        elif _is_column(held) and (fields := _named(held.dtype.names or ())):
            found.append((f"{place}/{name}", fields))


def _held(group: Any, name: str) -> Any:
    """Return what a group holds under a name; None of what lies in another file, or nowhere."""
    link = group.get(name, getlink=True)
    held: Any = None if hasattr(link, "filename") else group.get(name)
    return None if hasattr(held, "dtype") and (held.is_virtual or held.external) else held


def _is_column(held: Any) -> bool:
    """Return whether something is a row of plain numbers, or of records of such."""
    kind = getattr(held, "dtype", None)
    if kind is None or held.shape is None or held.ndim != 1:
        return False
    return all(part.kind in "iufb" for part in ([kind[name] for name in kind.names] if kind.names else [kind]))


def _named(names: Sequence[str]) -> Mapping[str, str]:
    """Return what x, y, p and t are called among some names; empty where one of them is missing."""
    lowered = {name.lower(): name for name in names}
    found = {what: next((lowered[name] for name in known if name in lowered), "") for what, known in _NAMES.items()}
    return found if all(found.values()) else {}


def _beside(file: Any, place: str, name: str) -> Any:
    """Return a number that a recording, or a group around it, holds; None where there is none."""
    for around in (place, *(place.rsplit("/", count)[0] for count in range(1, place.count("/") + 1))):
        held = file[around or "/"]
        if name in held.attrs:
            return held.attrs[name]
        if not hasattr(held, "dtype") and name in held:
            return held[name][()]
    return None


def _offset(file: Any, place: str) -> int:
    offset = int(_beside(file, place, "t_offset") or 0)
    if abs(offset) > LATEST:
        raise ValueError(f"times are {offset} microseconds later than they say")
    return offset


def _size(file: Any, place: str) -> tuple[int, int] | None:
    height, width = (_beside(file, place, name) for name in ("height", "width"))
    return None if height is None or width is None else (int(height), int(width))
