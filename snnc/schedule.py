"""How long a spiking network runs for one image, and what is on when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal, final, get_args

from snnc.errors import UsageError
from snnc.text import counted

# What more steps than there are frames show: all of them again, each for as long as the others, the last to the end.
Frames = Literal["repeat", "spread", "hold"]

# Counts of spikes are exact in single precision far beyond this, but nobody waits for so many steps.
MAXIMUM_TIMESTEPS = 65536

# How far shares may be from adding up to all: what is written with six digits does.
_SHARES_OFF = 1e-5


@final
@dataclass(frozen=True)
class Schedule:
    """``rehearsal`` steps, ``timesteps`` awake, ``sleep`` steps.

    The image is a constant current (direct coding); it and the biases are on while the network rehearses and is
    awake, off while it sleeps. After the rehearsal every neuron starts again, with what it has learned; only what
    arrives from then on counts. A mean over time is a sum divided by ``timesteps``. An input that is frames shows one
    at every step; where there are fewer frames than steps, they are repeated, spread evenly, or the last is held.

    ``shares`` say how much of the image and of the biases each step awake carries, where that is not the same: the
    first carries some, and together they carry all.
    """

    timesteps: int
    sleep: int = 0
    rehearsal: int = 0
    coding: Literal["direct"] = "direct"
    frames: Frames = "repeat"
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.shares and (problem := wrong_shares(self.shares, self.timesteps)):
            raise ValueError(problem[0])
        if self.timesteps < 1 or min(self.sleep, self.rehearsal) < 0 or self.total > MAXIMUM_TIMESTEPS:
            raise ValueError(f"cannot run {self.rehearsal} + {self.timesteps} + {self.sleep} time steps")

    @property
    def lit(self) -> int:
        """Steps with the image on: they come first."""
        return self.rehearsal + self.timesteps

    @property
    def total(self) -> int:
        """All steps."""
        return self.lit + self.sleep

    @property
    def gains(self) -> tuple[float, ...]:
        """By how much image and biases are stronger at each step than in equal steps; 0 asleep."""
        awake = tuple(self.timesteps * share for share in self.shares) or (1.0,) * self.timesteps
        return (1.0,) * self.rehearsal + awake + (0.0,) * self.sleep

    @property
    def elapsed(self) -> tuple[float, ...]:
        """In equal steps, how much of the image has been shown until each step, from the last start on."""
        gains = self.gains
        return (*accumulate(gains[: self.rehearsal]), *accumulate(gains[self.rehearsal :]))

    def over(self, timesteps: int, sleep: int | None = None) -> "Schedule":
        """Return the schedule for another number of steps awake, whose shares are equal, or of others asleep."""
        shares = self.shares if timesteps == self.timesteps else ()
        return replace(self, timesteps=timesteps, sleep=self.sleep if sleep is None else sleep, shares=shares)


def check_frames(frames: object, *, prefix: str = "") -> None:
    """Raise UsageError where that is nothing that can be done with frames; the place is ``prefix`` and ``frames``."""
    if frames not in get_args(Frames):
        known = ", ".join(get_args(Frames))
        raise UsageError(f"invalid value {frames!r}", place=f"{prefix}frames", hint=f"known: {known}")


def wrong_shares(shares: Sequence[float], timesteps: int) -> tuple[str, str] | None:
    """Return what is wrong with the shares of an image, and what would do; None where nothing is."""
    if len(shares) != timesteps:
        count = f"{counted(len(shares), 'share')} of the image for {counted(timesteps, 'time step')}"
        return count, "give one for every time step awake"
    if not all(math.isfinite(share) and share >= 0 for share in shares) or shares[0] == 0:
        return (
            "a share of the image below 0, or a first of 0",
            "give the first step some of it, and no step less than 0",
        )
    whole = math.fsum(shares)
    if abs(whole - 1) > _SHARES_OFF:
        scaled = ", ".join(f"{share / whole:.4g}" for share in shares)
        return f"shares of the image that add up to {whole:.6g}, not 1", f"in these proportions: {scaled}"
    return None


def check_shares(shares: object, timesteps: int, *, prefix: str = "") -> tuple[float, ...]:
    """Return the shares of an image; raises UsageError where they are none, at ``prefix`` and ``shares``."""
    numbers: Sequence[Any] = shares if isinstance(shares, list | tuple) else [shares]
    if not all(isinstance(share, int | float) and not isinstance(share, bool) for share in numbers):
        hint = "give a list of numbers that add up to 1: [0.75, 0.25]"
        raise UsageError(f"invalid value {shares!r}", place=f"{prefix}shares", hint=hint)
    if numbers and (problem := wrong_shares(numbers, timesteps)):
        raise UsageError(problem[0], place=f"{prefix}shares", hint=problem[1])
    return tuple(float(share) for share in numbers)


def check_steps(timesteps: int, sleep: int = 0, rehearsal: int = 0, *, prefix: str = "") -> None:
    """Raise UsageError where that many steps cannot be run; the place is ``prefix`` and the name of the number."""
    for name, steps, least in (("timesteps", timesteps, 1), ("sleep", sleep, 0), ("rehearsal", rehearsal, 0)):
        hint = f"give a whole number from {least} to {MAXIMUM_TIMESTEPS}"
        if not isinstance(steps, int) or isinstance(steps, bool):
            raise UsageError(f"invalid value {steps!r}", place=f"{prefix}{name}", hint=hint)
        if not least <= steps <= MAXIMUM_TIMESTEPS:
            what = "time steps" if name == "timesteps" else f"steps of {name}"
            raise UsageError(f"{steps} {what}", place=f"{prefix}{name}", hint=hint)
    total = timesteps + sleep + rehearsal
    if total > MAXIMUM_TIMESTEPS:
        raise UsageError(f"{total} time steps in all", place=f"{prefix}timesteps", hint=f"at most {MAXIMUM_TIMESTEPS}")
