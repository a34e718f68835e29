"""Where values lie in the memory that they share: none on top of another that is still asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Line:
    """Statements that read values and write one; ``{name}`` stands for where a value lies.

    What they write takes ``size`` numbers of a ``kind`` of the memory that is shared, none where it lies elsewhere.
    Where they work ``in_place`` it may lie where the first value that they read lay. ``owner`` is the node that they
    compute.
    """

    owner: str
    statements: tuple[str, ...]
    reads: tuple[str, ...]
    writes: str = ""
    size: int = 0
    in_place: bool = False
    kind: str = "float"


@final
@dataclass(frozen=True)
class Layout:
    """Where every value starts, in numbers from the start of the memory of its kind, and how many numbers each holds.

    Of every kind there is a memory of its own: what is written as one type is not to be read as another.
    """

    starts: Mapping[str, int]
    kinds: Mapping[str, str]
    sizes: Mapping[str, int]


def laid_out(lines: Sequence[Line]) -> Layout:
    """Find places for what is written: the lowest that is free, or that of what is read for the last time there."""
    last = {name: index for index, line in enumerate(lines) for name in (line.writes, *line.reads)}
    sizes = {line.writes: line.size for line in lines}
    kinds = {line.writes: line.kind for line in lines if line.size}
    starts: dict[str, int] = {}
    live: dict[str, int] = {}
    most: dict[str, int] = {}
    for index, line in enumerate(lines):
        if line.size:
            first = line.reads[0] if line.reads else ""
            over = line.in_place and first in live and last[first] == index and line.reads.count(first) == 1
            kept = over and sizes[first] == line.size and kinds[first] == line.kind
            beside = {name: place for name, place in live.items() if kinds[name] == line.kind}
            starts[line.writes] = live[line.writes] = live[first] if kept else _lowest(beside, sizes, line.size)
            most[line.kind] = max(most.get(line.kind, 0), starts[line.writes] + line.size)
        live = {name: place for name, place in live.items() if last[name] > index}
    return Layout(starts, kinds, most)


def _lowest(live: Mapping[str, int], sizes: Mapping[str, int], size: int) -> int:
    """Return the lowest place where so many numbers fit beside those that are there."""
    place = 0
    for start, end in sorted((start, start + sizes[name]) for name, start in live.items()):
        if place + size <= start:
            break
        place = max(place, end)
    return place
