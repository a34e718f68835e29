"""Recordings of event cameras as frames over time."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np
import torch

from snnc.data.event_frames import EventFrames
from snnc.data.folder import file_digest, found_in, listed
from snnc.data.images import SUFFIXES
from snnc.data.labels import CLASSES, Classes
from snnc.data.recordings import Recording, format_of, open_recording, recordings, suffixes
from snnc.data.recordings.frames import Frames, frame_shape, frames_of, windows_of
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Transform
from snnc.errors import DataError

# Pixels that no camera of events has side by side.
_WIDEST = 1 << 16


@final
@sources.register("events")
@dataclass(frozen=True, eq=False)
class EventFiles(Source):
    """Recordings below one folder, in files as ``listed`` finds them, or those of one file that is kept open.

    All are of one format. ``place_of`` is the folder or the file, ``parts`` the file of each, and its number where that
    holds several.
    """

    about: ClassVar[str] = "a folder of event recordings"

    place_of: Path
    parts: tuple[tuple[str, int | None], ...]
    kept: Recording | None
    format: type[Recording]
    input: str
    transform: Transform
    how: EventFrames = field(default_factory=EventFrames)

    @property
    def over_time(self) -> bool:
        return not self.how.stacked

    @property
    def form(self) -> str:
        return self.format.about

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        known = suffixes() | SUFFIXES
        try:
            # Of a folder, the first file that is an image or may be a recording says what the others are.
            found = (path / name for name in found_in(path)) if path.is_dir() else iter([path])
            first = next((file for file in found if file.suffix.lower() in known), path)
            suffix = first.suffix.lower()
            owned = {suffix for kind in recordings.values() if kind.exclusive for suffix in kind.suffixes}
            return first.is_file() and suffix in suffixes() and (suffix in owned or format_of(first) is not None)
        except (OSError, DataError):
            # Whoever opens it says what is wrong.
            return False

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        if len(inputs) > 1:
            message = f"recordings are one input, but the network takes {', '.join(inputs)}"
            raise DataError(message, place=str(path), hint="give a .npz file that holds an array for each, of its name")
        ((name, transform),) = inputs.items()
        how = transform.preprocessing.events or EventFrames()
        if path.is_file():
            kept = open_recording(path)
            own = {} if kept.labels is None else {CLASSES: Classes(torch.from_numpy(kept.labels))}
            several = tuple((one, number) for number, one in enumerate(kept.names))
            return cls(own, (), path, several or ((path.name, None),), kept, type(kept), name, transform, how)
        names, labels, ignored = listed(path, suffixes(), "recording", transform.preprocessing.class_order)
        kinds = {Path(found).suffix.lower() for found in names}
        if len(kinds) > 1:
            hint = "put recordings of each format into a folder of their own"
            raise DataError(f"recordings of several formats: {', '.join(sorted(kinds))}", place=str(path), hint=hint)
        first = type(open_recording(path / names[0]))
        if not any(first.several(path / found) for found in names):
            return cls(
                labels, ignored, path, tuple((found, None) for found in names), None, first, name, transform, how
            )
        parts: list[tuple[str, int | None]] = []
        classes: list[int] = []
        for found in names:
            opened = open_recording(path / found)
            if opened.labels is None:
                hint = "name what it shows as the others do, or remove it"
                raise DataError(
                    "a recording without labels among such as have some", place=str(path / found), hint=hint
                )
            parts += [(found, number) for number in range(len(opened.names))]
            classes += opened.labels.tolist()
        known = {CLASSES: Classes(torch.tensor(classes))}
        # What lies beside such recordings says what they show.
        return cls(known, (), path, tuple(parts), None, first, name, transform, how)

    def __len__(self) -> int:
        return len(self.parts)

    def name(self, index: int) -> str:
        file, number = self.parts[index]
        return file if number is None or self.kept is not None else f"{file}[{number}]"

    def place(self, index: int) -> str:
        if self.kept is None:
            return str(self.place_of / self.name(index))
        return f"{self.place_of}:{self.name(index)}" if self.kept.names else str(self.place_of)

    def read(self, index: int) -> Mapping[str, Array]:
        place = self.place(index)
        try:
            recording, number, sensor = self._checked(index)
            return self._taken(frames_of(recording, number, self.how, sensor, place))
        except OSError as error:
            raise _unread(error, place) from None

    def moments(self, index: int, every: int) -> Iterator[tuple[int, Mapping[str, Array]]]:
        place = self.place(index)
        try:
            recording, number, sensor = self._checked(index)
            for over, frames in windows_of(recording, number, self.how, sensor, place, every):
                yield over, self._taken(frames)
        except OSError as error:
            raise _unread(error, place) from None

    def _checked(self, index: int) -> tuple[Recording, int, tuple[int, int]]:
        """Return the file that a recording is in, its number there, and the sensor that it fits the network with."""
        recording, number = self._opened(index)
        sensor = self._sensor(recording, self.place(index))
        self._check_fits(frame_shape(self.how, sensor), self.place(index))
        return recording, number, sensor

    def _taken(self, frames: Frames) -> Mapping[str, Array]:
        if self.transform.is_image:
            return {self.input: frames}
        return {self.input: np.moveaxis(frames, -1, -3).reshape(*frames.shape[:-3], *self.transform.sample_shape)}

    def digest(self, index: int) -> str:
        file, number = self.parts[index]
        if number is None:
            return file_digest(self.place_of if self.kept is not None else self.place_of / file)
        digest = hashlib.sha256()
        recording, number = self._opened(index)
        for events in recording.events(number):
            digest.update(np.stack([values.astype("<i8") for values in events], 1).data)
        return digest.hexdigest()

    def _opened(self, index: int) -> tuple[Recording, int]:
        """Return the file that a recording is in, and its number there."""
        if self.kept is not None:
            return self.kept, index
        file, number = self.parts[index]
        path = self.place_of / file
        recording = open_recording(path)
        if type(recording) is not self.format:
            message = f"{recording.about}, where the first recording is {self.format.about}"
            hint = "put recordings of each format into a folder of their own"
            raise DataError(message, place=str(path), hint=hint)
        if recording.names and number is None:
            message = f"{len(recording.names)} recordings in one file of a folder"
            raise DataError(message, place=str(path), hint="give such a file alone, in the place of the folder")
        return recording, number or 0

    def _sensor(self, recording: Recording, place: str) -> tuple[int, int]:
        how = self.how
        sensor = how.sensor or recording.sensor
        if sensor is not None:
            if not all(0 < side <= _WIDEST for side in sensor):
                hint = "preprocessing: {events: {sensor: [height, width]}} says what it is"
                raise DataError(f"a sensor of {sensor[0]} rows of {sensor[1]}", place=place, hint=hint)
            return sensor
        size = self.transform.height, self.transform.width
        if not self.transform.is_image or how.crop or how.downsample > 1 or how.resize or how.square:
            hint = "preprocessing: {events: {sensor: [height, width]}}"
            raise DataError("the recording does not say how large the sensor is", place=place, hint=hint)
        return size[::-1] if how.transpose else size

    def _check_fits(self, shape: tuple[int, int, int], place: str) -> None:
        """Raise DataError where frames of a shape are not what the network takes."""
        wanted = self.transform.height, self.transform.width, self.transform.channels
        if not self.transform.is_image:
            # Numbers in no order that is known, but as many of them.
            if np.prod(shape) == np.prod(self.transform.sample_shape):
                return
            taken = list(self.transform.sample_shape)
        elif shape == wanted:
            return
        else:
            taken = [wanted[2], *wanted[:2]]
        message = f"frames are {[shape[2], *shape[:2]]} (channels, height, width), but the network takes {taken}"
        hint = "preprocessing: events has polarity, stacked, crop, downsample, square and resize"
        raise DataError(message, place=place, hint=hint)


def _unread(error: OSError, place: str) -> DataError:
    return DataError(f"cannot read: {error.strerror or error}", place=place, hint="check the file")
