"""Whether a file in C fits a microcontroller, and how long it takes there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from snnc.hardware.fit import Fit, Misfit, Use
from snnc.hardware.target import Capacities, Target

MICROCONTROLLER = Target("generic-mcu", "Microcontroller, by a file in C", {}, Capacities())

# How many multiply-accumulates it takes to fetch a number, do something to it and put it back.
_MACS_OF_A_NUMBER = 4


@final
@dataclass(frozen=True)
class Room:
    """What a microcontroller has: bytes of flash and of RAM, and multiply-accumulates a second; None of no matter."""

    flash: int | None = None
    ram: int | None = None
    macs: float | None = None

    def __post_init__(self) -> None:
        if min(self.flash or 0, self.ram or 0) < 0:
            raise ValueError("flash and RAM are numbers of bytes")
        if self.macs is not None and not self.macs > 0:
            raise ValueError("multiply-accumulates a second are more than 0")

    def seconds(self, macs: int, numbers: int) -> float | None:
        """Return how long a sample takes of so many multiply-accumulates, and so many other numbers."""
        return None if self.macs is None else (macs + _MACS_OF_A_NUMBER * numbers) / self.macs


def fit_room(room: Room, flash: Mapping[str, int], ram: Mapping[str, int]) -> Fit:
    """Hold a file against what there is, by the bytes that layers take."""
    found = [*_held("flash", flash, room.flash), *_held("RAM", ram, room.ram)]
    misfits = (part for part in found if isinstance(part, Misfit))
    return Fit(tuple(misfits), tuple(part for part in found if isinstance(part, Use)))


def _held(limit: str, taken: Mapping[str, int], most: int | None) -> Iterator[Misfit | Use]:
    total = sum(taken.values())
    yield Use("", limit, total, most, "bytes")
    yield from (Use(layer, limit, size, most, "bytes") for layer, size in taken.items() if size)
    if most is not None and total > most:
        largest = max(taken, key=taken.__getitem__)
        edit = f"convert a smaller network: {largest} takes most, {taken[largest]:,} bytes"
        yield Misfit("", limit, total, most, "bytes", (), edit)
