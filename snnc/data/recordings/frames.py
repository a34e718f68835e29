"""The frames of a recording, its events read chunk by chunk: never a recording as a whole."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from snnc.data.event_frames import LONGEST, EventFrames
from snnc.data.recordings.recording import LATEST, Events, Recording
from snnc.errors import DataError
from snnc.process import memory

Frames = NDArray[np.float32]

_LONG_AGO = -LATEST
# The share of the memory that the counts of one recording may take: frames are copies of them.
_SHARE = 2


def frames_of(recording: Recording, index: int, how: EventFrames, sensor: tuple[int, int], place: str) -> Frames:
    """Return the frames ``[S, height, width, channels]`` of one recording, or one picture where they are stacked.

    ``sensor`` is (height, width). Raises DataError where there are no events, where they are out of order or beyond
    the sensor, and where the file is damaged.
    """
    grid = _Grid(how, sensor)
    for events, start, span, number in _measured(recording, index, how, sensor, place):
        grid.add(events, start, span, number)
    return grid.frames()


def windows_of(
    recording: Recording, index: int, how: EventFrames, sensor: tuple[int, int], place: str, span: int
) -> Iterator[tuple[int, Frames]]:
    """Yield the frames of every ``span`` microseconds as they are over, and when that is, from the start on.

    What ``how`` says of how long a recording or a frame takes is not heard: the frames divide the window, by time.
    Raises DataError as ``frames_of``, and where frames hold equal numbers of events.
    """
    if how.bins == "count":
        hint = "preprocessing: {events: {bins: time}}"
        raise DataError("frames of equal numbers of events have no time that divides them", place=place, hint=hint)
    how = replace(how, every=None, first=None)
    begun: int | None = None
    grid, over, number = _Grid(how, sensor), 0, 0
    for chunk in ordered(recording.events(index), recording.wraps, how, sensor, place):
        if begun is None:
            begun = 0 if how.start == "zero" else int(chunk.t[0])
            over = begun + span
        events = chunk
        while len(events.t):
            within = events.t < over
            grid.add(events.taken(within), over - span, span, number)
            number += int(within.sum())
            events = events.taken(~within)
            if len(events.t):
                yield over - begun, grid.frames()
                grid, over, number = _Grid(how, sensor), over + span, 0
    if begun is None:
        raise DataError("no events in this recording", place=place, hint="remove the file, or record it again")
    yield over - begun, grid.frames()


def frame_shape(how: EventFrames, sensor: tuple[int, int]) -> tuple[int, int, int]:
    """Return height, width and channels of the frames of a sensor; raises DataError where the crop is larger."""
    return _Grid(how, sensor).frame_shape


def ordered(
    chunks: Iterable[Events], wraps: int, how: EventFrames, sensor: tuple[int, int], place: str
) -> Iterator[Events]:
    """Yield events in coordinates that can be counted with, their time going on where it begins again.

    Raises DataError where they go back in time, lie too far from when frames begin, or beyond the sensor.
    """
    seen, last, turned = 0, _LONG_AGO, 0
    begun: int | None = 0 if how.start == "zero" else None
    for chunk in chunks:
        if not len(chunk.t):
            continue
        x, y, t = chunk.x.astype(np.int64), chunk.y.astype(np.int64), chunk.t + turned
        if begun is None:
            begun = min(max(int(t[0]), 2 * LONGEST - LATEST), LATEST - 2 * LONGEST)
        beyond = (t < begun - LONGEST) | (t > begun + LONGEST)
        if beyond.any():
            at = int(beyond.argmax())
            message = f"event {seen + at} is at {t[at]} microseconds, which no clock counts to from {begun}"
            hint = "find out where it comes from; where times are in nanoseconds, divide them by 1,000"
            raise DataError(message, place=place, hint=hint)
        back = _before(t, last) - t
        if wraps and back.max() > wraps // 2:
            turns = np.cumsum(back > wraps // 2) * wraps
            t, turned = t + turns, turned + int(turns[-1])
            back = _before(t, last) - t
        if how.order == "refuse" and back.max() > 0:
            at = int(back.argmax())
            message = f"events out of order: event {seen + at} is {back[at]} microseconds before the one in front of it"
            hint = "sort them by time, or take them with preprocessing: {events: {order: accept}}"
            raise DataError(message, place=place, hint=hint)
        beyond = (x < 0) | (x >= sensor[1]) | (y < 0) | (y >= sensor[0])
        if beyond.any():
            at = int(beyond.argmax())
            where = f"x = {x[at]}, y = {y[at]}"
            message = f"event {seen + at} is at {where}, beyond the sensor of {sensor[0]} rows of {sensor[1]}"
            hint = "say the height and width of the camera: preprocessing: {events: {sensor: [H, W]}}"
            raise DataError(message, place=place, hint=hint)
        seen, last = seen + len(t), int(t[-1])
        yield Events(x, y, chunk.p, t)


def _before(t: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """Return for every event the time of the one before."""
    return np.concatenate([[t[0] if last == _LONG_AGO else last], t[:-1]])


def _measured(
    recording: Recording, index: int, how: EventFrames, sensor: tuple[int, int], place: str
) -> Iterator[tuple[Events, int, int, int]]:
    """Yield the events that frames are made of, with when the first begins, what all divide, and how many came before.

    What they divide is a time or a number of events; it is found out by reading all events once before, where nobody
    says it.
    """

    def read() -> Iterator[Events]:
        return ordered(recording.events(index), recording.wraps, how, sensor, place)

    chunks = read()
    # A recording that fits into a chunk is read once.
    begun = list(islice(chunks, 2))
    if not begun:
        raise DataError("no events in this recording", place=place, hint="remove the file, or record it again")
    start = 0 if how.start == "zero" else int(begun[0].t[0])
    span = how.every * how.frames if how.every else (how.first or 0) if how.bins == "time" else 0
    chunks = chain(begun, chunks)
    if not span:
        number, end = 0, start
        for chunk in begun if len(begun) == 1 else chunks:
            if how.order == "accept" and how.start == "event":
                start = min(start, int(chunk.t.min()))
            inside = chunk.t - start < how.first if how.first else slice(None)
            number, end = number + len(chunk.t[inside]), max(end, int(chunk.t.max()))
        span = max(1, end - start if how.bins == "time" else number)
        chunks = iter(begun) if len(begun) == 1 else read()
    number = 0
    for chunk in chunks:
        part = chunk.taken(chunk.t - start < how.first) if how.first else chunk
        yield part, start, span, number
        number += len(part.t)


class _Grid:
    """The counts ``[S, planes, height, width]`` that events add up to."""

    def __init__(self, how: EventFrames, sensor: tuple[int, int]) -> None:
        self._how = how
        height, width = sensor[::-1] if how.transpose else sensor
        cut = how.crop if isinstance(how.crop, tuple) else (how.crop, how.crop) if how.crop else (height, width)
        if cut[0] > height or cut[1] > width:
            message = f"the sensor is {height} x {width}, smaller than the crop of {cut[0]} x {cut[1]}"
            raise DataError(message, place="preprocessing.events.crop", hint="cut less, or nothing")
        self._top, self._left = (height - cut[0]) // 2, (width - cut[1]) // 2
        self._cut = cut
        self._height, self._width = (-(-side // how.downsample) for side in cut)
        self._planes = 2 if how.polarity == "channels" else 1
        self._counts: Frames | None = None
        needed = 4 * how.frames * self._planes * self._height * self._width
        needed += 8 * height * width if how.denoise else 0
        if needed > memory() // _SHARE:
            message = f"{needed / (1 << 30):,.2f} GiB of memory would be needed for the frames of a recording"
            hint = "make fewer, crop or downsample, or give more with --memory"
            raise DataError(message, place="preprocessing.events", hint=hint)
        self._noise = _Noise(height, width, how.denoise) if how.denoise else None

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width = self._height, self._width
        if self._how.square:
            height = width = max(height, width)
        size = self._how.resize
        height, width = (height, width) if size is None else size if isinstance(size, tuple) else (size, size)
        return height, width, self._planes * (self._how.frames if self._how.stacked else 1)

    def add(self, events: Events, start: int, span: int, number: int) -> None:
        """Count events; ``number`` is how many came before, ``span`` what all frames divide from ``start`` on."""
        how = self._how
        if self._counts is None:
            self._counts = np.zeros((how.frames, self._planes, self._height, self._width), np.float32)
        x, y, p, t = (events.y, events.x, *events[2:]) if how.transpose else events
        since = t - start if how.bins == "time" else np.arange(number, number + len(t))
        kept = since < how.every * how.frames if how.every else np.ones(len(t), np.bool_)
        if self._noise is not None:
            kept &= self._noise.supported(x, y, t)
        y, x = y - self._top, x - self._left
        kept &= (y >= 0) & (y < self._cut[0]) & (x >= 0) & (x < self._cut[1])
        y, x, p, since = (values[kept] for values in (y, x, p, since))
        place = (y // how.downsample) * self._width + x // how.downsample
        if how.polarity == "channels":
            place += p.astype(np.int64) * self._height * self._width
        value = np.where(p > 0, 1, -1) if how.polarity == "difference" else np.ones(len(p))
        size = self._planes * self._height * self._width
        flat = self._counts.reshape(-1)
        if not how.voxel:
            since = since.clip(0, span - 1)
            # since * frames // span: both products may leave 64 bits, but not their difference.
            near = (since * (how.frames / span)).astype(np.int64)
            frame = near + (since * how.frames - near * span) // span
            np.add.at(flat, frame * size + place, value.astype(np.float32))
            return
        at = np.clip(since * ((how.frames - 1) / span), 0, how.frames - 1)
        lower = np.minimum(at.astype(np.int64), how.frames - 2)
        for frame, weight in ((lower, 1 - (at - lower)), (lower + 1, at - lower)):
            np.add.at(flat, frame * size + place, (value * weight).astype(np.float32))

    def frames(self) -> Frames:
        """Return what was counted, ``[S, height, width, channels]``, or ``[height, width, channels]`` where stacked."""
        how, counts = self._how, self._counts
        assert counts is not None
        if how.clip is not None:
            counts = counts.clip(-how.clip, how.clip)
        counts = counts * np.float32(how.scale)
        height, width, _ = self.frame_shape
        if how.square:
            missing = [max(counts.shape[2:]) - side for side in counts.shape[2:]]
            counts = np.pad(counts, [(0, 0), (0, 0), *((empty // 2, empty - empty // 2) for empty in missing)])
        if counts.shape[2:] != (height, width):
            old = counts.shape[2:]
            counts = counts[:, :, np.arange(height) * old[0] // height][..., np.arange(width) * old[1] // width]
        if how.stacked:
            return counts.swapaxes(0, 1).reshape(-1, height, width).transpose(1, 2, 0)
        return counts.transpose(0, 2, 3, 1)


class _Noise:
    """Events that nothing around has foretold: a filter of background activity (Delbruck, 2008)."""

    def __init__(self, height: int, width: int, window: int) -> None:
        self._window = window
        # A border, so that every pixel has eight around it.
        self._width = width + 2
        self._last = np.full((height + 2) * self._width, _LONG_AGO)

    def supported(self, x: NDArray[np.int64], y: NDArray[np.int64], t: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which events have another in the pixels around, at most a window before."""
        count = len(t)
        pixel = (y + 1) * self._width + x + 1
        order = pixel.argsort(kind="stable")
        # Sorted by pixel, then by when they came.
        keys = pixel[order] * count + order
        found = np.zeros(count, np.bool_)
        for step in (-self._width, 0, self._width):
            for aside in (-1, 0, 1):
                if step or aside:
                    around = pixel + step + aside
                    at = np.searchsorted(keys, around * count + np.arange(count)) - 1
                    here = (at >= 0) & (keys[at] // count == around)
                    found |= t - np.where(here, t[order[at]], self._last[around]) <= self._window
        self._last[pixel] = t
        return found
