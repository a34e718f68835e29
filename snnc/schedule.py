"""How long a spiking network runs for one image, and what is on when."""

from dataclasses import dataclass
from typing import Literal, final, get_args

from snnc.errors import UsageError

# What more steps than there are frames show: all of them again, each for as long as the others, the last to the end.
Frames = Literal["repeat", "spread", "hold"]

# Counts of spikes are exact in single precision far beyond this, but nobody waits for so many steps.
MAXIMUM_TIMESTEPS = 65536


@final
@dataclass(frozen=True)
class Schedule:
    """``rehearsal`` steps, ``timesteps`` awake, ``sleep`` steps.

    The image is a constant current (direct coding); it and the biases are on while the network rehearses and is
    awake, off while it sleeps. After the rehearsal every neuron starts again, with what it has learned; only what
    arrives from then on counts. A mean over time is a sum divided by ``timesteps``. An input that is frames shows one
    at every step; where there are fewer frames than steps, they are repeated, spread evenly, or the last is held.
    """

    timesteps: int
    sleep: int = 0
    rehearsal: int = 0
    coding: Literal["direct"] = "direct"
    frames: Frames = "repeat"

    def __post_init__(self) -> None:
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


def check_frames(frames: object, *, prefix: str = "") -> None:
    """Raise UsageError where that is nothing that can be done with frames; the place is ``prefix`` and ``frames``."""
    if frames not in get_args(Frames):
        known = ", ".join(get_args(Frames))
        raise UsageError(f"invalid value {frames!r}", place=f"{prefix}frames", hint=f"known: {known}")


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
