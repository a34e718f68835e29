"""Where values lie in the memory that they share: none on top of another that is still asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Line:
    """Statements that read values and write one; ``{name}`` stands for where a value lies.

    What they write takes ``size`` numbers of the memory that is shared, none where it lies elsewhere. Where they work
    ``in_place`` it may lie where the first value that they read lay. ``owner`` is the node that they compute.
    """

    owner: str
    statements: tuple[str, ...]
    reads: tuple[str, ...]
    writes: str = ""
    size: int = 0
    in_place: bool = False


@final
@dataclass(frozen=True)
class Layout:
    """Where every value starts, in numbers from the start of the memory, and how many numbers that holds."""

    starts: Mapping[str, int]
    size: int


def laid_out(lines: Sequence[Line]) -> Layout:
    """Find places for what is written: the lowest that is free, or that of what is read for the last time there."""
    last = {name: index for index, line in enumerate(lines) for name in (line.writes, *line.reads)}
    sizes = {line.writes: line.size for line in lines}
    starts: dict[str, int] = {}
    live: dict[str, int] = {}
    most = 0
    for index, line in enumerate(lines):
        if line.size:
            first = line.reads[0] if line.reads else ""
            over = line.in_place and first in live and last[first] == index and line.reads.count(first) == 1
            kept = over and sizes[first] == line.size
            starts[line.writes] = live[line.writes] = live[first] if kept else _lowest(live, sizes, line.size)
            most = max(most, starts[line.writes] + line.size)
        live = {name: place for name, place in live.items() if last[name] > index}
    return Layout(starts, most)


def _lowest(live: Mapping[str, int], sizes: Mapping[str, int], size: int) -> int:
    """Return the lowest place where so many numbers fit beside those that are there."""
    place = 0
    for start, end in sorted((start, start + sizes[name]) for name, start in live.items()):
        if place + size <= start:
            break
        place = max(place, end)
    return place
