"""How frames are made of the events of a recording, as users write it down under ``preprocessing: events``."""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

# Microseconds, or events, of a recording and of all its frames: doubles and numbers of 64 bits hold twice as many.
LONGEST = 1 << 52
# Frames and pixels: products of two of them are numbers of 64 bits.
_LARGEST = 1_000_000_000


@dataclass(frozen=True)
class EventFrames:
    """Frames of counts, one for each of equal stretches of time or of events.

    The order is fixed: what is left out (``first``, ``denoise``), transpose, crop, downsample, frames, clip, scale,
    square, resize; then mean and std, as of any values.
    """

    frames: int = 8
    """How many."""

    bins: Literal["time", "count"] = "time"
    """What is the same for all frames: how long they take, or how many events they hold."""

    every: int | None = None
    """The microseconds, or events, of a frame; what comes after the last frame is left out. None: all there is."""

    first: int | None = None
    """Only the events of so many microseconds, which frames then divide however long a recording is. None: all."""

    start: Literal["event", "zero"] = "event"
    """When the first frame begins: at the first event, or at time 0 of the camera."""

    voxel: bool = False
    """An event counts for the two frames around it, by how near it is (bilinear in time). The first and the last frame
    then stand for the first and the last moment."""

    polarity: Literal["channels", "sum", "difference"] = "channels"
    """Darker and brighter in a channel each, added up, or brighter less darker."""

    stacked: bool = False
    """The frames are the channels of one picture, darker ones first, that stays on: nothing over time."""

    sensor: tuple[int, int] | None = None
    """(height, width) of the camera, where recordings do not say it. None: as they say, else as the network takes."""

    transpose: bool = False
    """Rows become columns."""

    crop: tuple[int, int] | int | None = None
    """(height, width), or the side of a square, cut from the center."""

    downsample: int = 1
    """The side of the square of pixels whose counts are added up to one."""

    denoise: int = 0
    """Leave out events without another within so many microseconds before, in the eight pixels around. 0: none."""

    clip: float | None = None
    """No count is larger, nor, with a sign, smaller than minus that."""

    scale: float = 1.0
    """What counts are multiplied by."""

    square: bool = False
    """Add empty pixels on both sides, until frames are as wide as high."""

    resize: tuple[int, int] | int | None = None
    """(height, width), or the side of a square: the nearest pixel is taken."""

    order: Literal["refuse", "accept"] = "refuse"
    """What to do with recordings whose events are out of order."""

    def __post_init__(self) -> None:
        for name in ("bins", "start", "polarity", "order"):
            known = get_args(get_type_hints(EventFrames)[name])
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}")
        for name in ("frames", "every", "first", "downsample", "sensor", "crop", "resize"):
            value = getattr(self, name)
            if value is not None and min(value if isinstance(value, tuple) else (value,)) < 1:
                raise ValueError(f"{name} must be at least 1")
            most = LONGEST if name in ("every", "first") else _LARGEST
            if value is not None and max(value if isinstance(value, tuple) else (value,)) > most:
                raise ValueError(f"{name} must be at most {most:,}")
        if (self.every or 0) * self.frames > LONGEST:
            raise ValueError(f"every times frames must be at most {LONGEST:,}")
        if not 0 <= self.denoise <= LONGEST:
            raise ValueError(f"denoise must be from 0 to {LONGEST:,}")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError("clip must be positive and finite")
        if not math.isfinite(self.scale) or not self.scale:
            raise ValueError("scale must be finite, and not 0")
        if self.voxel and (self.bins == "count" or self.frames < 2):
            raise ValueError("voxel needs two frames or more, and bins by time")
