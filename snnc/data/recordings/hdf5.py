"""HDF5: events as datasets that are found by their names; DSEC and what was made of GEN1, 1 Mpx or DVS-Gesture.

A group that holds x, y, p and t, whatever they are called there, is a recording, and so is a dataset of records with
such fields; ``t_offset`` beside or above it is added to its times. Several are several recordings. What lies in other
files is passed by, also where links within the file lead there.
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
# Kinds of numbers, as NumPy calls them.
_NUMBERS = "iufb"
_ELSEWHERE = object()
# What damaged files fail with, and those that hold something else: a filter that is not installed, a damaged chunk.
_FAULTS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)


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
            passed = _visit(file, "", found, set())
            size = _size(file, found[0][0]) if found else None
        except _FAULTS as error:
            raise damaged(path, error) from None
        if not found:
            hint = "known: a group of x, y, p and t, as in DSEC, or records with such fields"
            more = f": {passed:,} link{'s' if passed > 1 else ''} to other files not followed" if passed else ""
            raise DataError(f"no events in this file{more}", place=str(path), hint=hint)
        names = tuple(place or "/" for place, _ in found) if len(found) > 1 else ()
        return cls(path, size, names, file=file, columns=tuple(found))

    def events(self, index: int) -> Iterator[Events]:
        place, names = self.columns[index]
        try:
            held = self.file[place or "/"]
            offset = _offset(self.file, place)
            table = held.fields(list(names.values())) if hasattr(held, "dtype") else None
            timed = held[names["t"]] if table is None else held
            count = len(timed)
            if count * timed.dtype.itemsize > _DENSEST * timed.id.get_storage_size():
                raise ValueError(f"it holds {timed.id.get_storage_size():,} bytes of {count:,} events")
            for at in range(0, count, CHUNK):
                part = None if table is None else table[at : at + CHUNK]
                x, y, p, t = (
                    part[name] if part is not None else held[name][at : at + CHUNK] for name in names.values()
                )
                yield Events(x, y, (p > 0).astype(np.uint8), t.astype(np.int64) + offset)
        except _FAULTS as error:
            raise damaged(self.path, error) from None


def _visit(group: Any, place: str, found: list[tuple[str, Mapping[str, str]]], seen: set[Any]) -> int:
    """Add the recordings in a group, by their places, with what x, y, p and t are called there.

    Returns how many links to other files were passed by. Groups that were ``seen`` add nothing: links may lead back.
    Raises ValueError where groups are nested too deeply.
    """
    if group in seen:
        return 0
    seen.add(group)
    if place.count("/") > _DEEPEST:
        raise ValueError(f"groups are nested more than {_DEEPEST} deep")
    inside = {name: _held(group, name) for name in group}
    passed = sum(held is _ELSEWHERE for held in inside.values())
    rows = {name: held for name, held in inside.items() if getattr(held, "ndim", 0) == 1}
    names = _named([name for name, held in rows.items() if held.dtype.kind in _NUMBERS])
    if names and len({inside[name].shape for name in names.values()}) == 1:
        found.append((place, names))
        return passed
    for name, held in inside.items():
        if hasattr(held, "keys"):
            passed += _visit(held, f"{place}/{name}", found, seen)
        elif name in rows:
            kind = held.dtype
            if fields := _named([field for field in kind.names or () if kind[field].kind in _NUMBERS]):
                found.append((f"{place}/{name}", fields))
    return passed


def _held(group: Any, name: str) -> Any:
    """Return what a group holds under a name; None of what lies nowhere, ``_ELSEWHERE`` of what is in another file."""
    if hasattr(group.get(name, getlink=True), "filename"):
        return _ELSEWHERE
    held = group.get(name)
    # Links within the file may lead to a link out of it; the data of a dataset may lie in other files.
    out = held is not None and held.file.filename != group.file.filename
    return _ELSEWHERE if out or getattr(held, "is_virtual", False) or getattr(held, "external", None) else held


def _named(names: Sequence[str]) -> Mapping[str, str]:
    """Return what x, y, p and t are called among some names; empty where one of them is missing."""
    lowered = {name.lower(): name for name in names}
    found = {what: next((lowered[name] for name in known if name in lowered), "") for what, known in _NAMES.items()}
    return found if all(found.values()) else {}


def _beside(file: Any, place: str, name: str) -> Any:
    """Return a number that a recording, or a group around it, holds; None where there is none.

    Raises ValueError where it is something else.
    """
    for around in (place, *(place.rsplit("/", count)[0] for count in range(1, place.count("/") + 1))):
        held = file[around or "/"]
        if name in held.attrs:
            return np.asarray(held.attrs[name]).item()
        value: Any = _held(held, name) if hasattr(held, "keys") else None
        if hasattr(value, "dtype"):
            # Not read before it is known to be one: a dataset may say that it holds more than memory does.
            if getattr(value, "size", None) != 1 or value.dtype.kind not in _NUMBERS:
                raise ValueError(f"{name} is no number")
            return value[()].item()
    return None


def _offset(file: Any, place: str) -> int:
    offset = int(_beside(file, place, "t_offset") or 0)
    if abs(offset) > LATEST:
        raise ValueError(f"times are {offset} microseconds later than they say")
    return offset


def _size(file: Any, place: str) -> tuple[int, int] | None:
    height, width = (_beside(file, place, name) for name in ("height", "width"))
    return None if height is None or width is None else (int(height), int(width))
