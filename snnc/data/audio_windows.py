"""How samples are made of audio files, as users write it down under ``preprocessing: audio``."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AudioWindows:
    """Windows as long as the network's input.

    The order is fixed: mix, resample, windows; then mean and std, as of any values. Values are from -1 to 1.
    """

    rate: int | None = None
    """The samples a second that the network was trained at; nothing else says it."""

    resample: bool = False
    """Bring files of other rates to that one, by sinc interpolation; else they are refused."""

    mix: bool = False
    """Take the mean of several channels for a network that takes one; else such files are refused."""

    windows: Literal["all", "first"] = "all"
    """What samples are made of a file longer than the input: one of every window, or one of the first."""

    hop: int | None = None
    """From the start of a window to that of the next, in samples. None: as long as the input, so that none overlap."""

    pad: bool = False
    """Fill up files that are too short, and last windows, with zeros; else short files are refused, and a rest of a
    file is left out."""

    def __post_init__(self) -> None:
        if self.windows not in ("all", "first"):
            raise ValueError("windows must be one of all, first")
        for name, value in (("rate", self.rate), ("hop", self.hop)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1")
