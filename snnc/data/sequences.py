"""Sequences of images: folders of numbered frames."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np
from PIL import Image

from snnc.data.decoding import decode
from snnc.data.folder import by_class, entries, file_digest, file_name, leads_back, within
from snnc.data.images import SUFFIXES, only_input
from snnc.data.labels import FILE_NAME, read_labels
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Transform
from snnc.errors import DataError


@final
@sources.register("sequences")
@dataclass(frozen=True, eq=False)
class ImageSequences(Source):
    """Folders of images below one folder, each of them a sample over time; meant where ``folders`` says ``sequences``.

    The last number in the name of an image is that of its frame, from any number on and without a gap. All sequences
    have as many frames, or ``taken`` are taken of each, spread evenly (None: all). With ``labels.csv``, the folders
    listed there are used, in its order; otherwise folders that hold folders are classes, as those of images are.
    Opening raises DataError where a folder holds neither frames nor folders, or both, or another number of frames, and
    where frames have no number or one is missing.
    """

    about: ClassVar[str] = "a folder of sequences of images (--folders sequences)"

    folder: Path
    frames: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...]
    input: str
    gray: bool
    taken: int | None

    @property
    def over_time(self) -> bool:
        return True

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        return path.is_dir() and any(taken.preprocessing.folders == "sequences" for taken in inputs.values())

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        name, transform = only_input(inputs, path)
        # As for images.
        Image.init()
        found = {place: (frames, others) for place, frames, others in _sequences(path)}
        if (path / FILE_NAME).exists():
            names, labels = read_labels(path, lambda sample: sample.relative_to(path).as_posix() in found)
        else:
            names = tuple(found)
            labels = by_class(path, names, "sequence", transform.preprocessing.class_order)
        others = tuple(other for _, others in found.values() for other in others)
        frames = {place: frames for place, (frames, _) in found.items()}
        taken = transform.preprocessing.sequence_frames
        _check_lengths(path, {name: len(frames[name]) for name in names}, taken)
        return cls(labels, others, path, frames, names, name, transform.channels == 1, taken)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def place(self, index: int) -> str:
        return str(self.folder / self.names[index])

    def read(self, index: int) -> Mapping[str, Array]:
        frames: list[Array] = []
        paths = [*self._paths(index)]
        taken = self.taken or len(paths)
        for path in (paths[number * len(paths) // taken] for number in range(taken)):
            pixels = decode(path, gray=self.gray, noticed=self.noticed)
            if frames and pixels.shape != frames[0].shape:
                found, first = (" x ".join(map(str, shape[:2])) for shape in (pixels.shape, frames[0].shape))
                message = f"a frame of {found} in a sequence of {first} (height x width)"
                raise DataError(message, place=str(path), hint="all frames of a sequence have one size")
            frames.append(pixels)
        return {self.input: np.stack(frames)}

    def digest(self, index: int) -> str:
        return hashlib.sha256("".join(map(file_digest, self._paths(index))).encode()).hexdigest()

    def _paths(self, index: int) -> Iterator[Path]:
        name = self.names[index]
        return (self.folder / name / frame for frame in self.frames[name])


def _sequences(
    folder: Path, name: str = "", above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield the relative name of every folder of frames, its frames in order, and the other files in it."""
    found = entries(folder)
    above = within(folder, above)
    inner = [entry.name for entry in found if entry.is_dir() and not leads_back(entry, above)]
    files = [file_name(entry) for entry in found if not entry.is_dir()]
    images = [file for file in files if Path(file).suffix.lower() in SUFFIXES]
    if images and (inner or not name):
        beside = "beside the folders of sequences" if inner else "in no folder of their own"
        hint = "put the frames of each sequence into a folder of its own"
        raise DataError(f"{len(images)} images lie {beside}, the first is {images[0]!r}", place=str(folder), hint=hint)
    if not images and not inner:
        hint = f"put images there ({', '.join(sorted(SUFFIXES))}), or remove it"
        raise DataError("no frame in this folder", place=str(folder), hint=hint)
    if images:
        yield name, _in_order(folder, images), tuple(f"{name}/{file}" for file in files if file not in images)
    for other in inner:
        yield from _sequences(folder / other, f"{name}/{other}" if name else other, above)


def _check_lengths(folder: Path, counts: Mapping[str, int], taken: int | None) -> None:
    """Raise DataError where a sequence is too short or, where all frames are taken, not as long as the first."""
    first = next(iter(counts.values()))
    for name, count in counts.items():
        if taken is None and count != first:
            message = f"{count} frames, where the first sequence has {first}"
            hint = f"preprocessing: {{sequence-frames: {min(counts.values())}}} takes as many of each, spread evenly"
            raise DataError(message, place=str(folder / name), hint=hint)
        if taken is not None and count < taken:
            message = f"{count} frames, where sequence-frames is {taken}"
            raise DataError(message, place=str(folder / name), hint="set a lower number, or leave the folder out")


def _in_order(folder: Path, images: list[str]) -> tuple[str, ...]:
    """Return the frames by their numbers; raises DataError where one has none, and where one is missing or twice."""
    numbered: dict[int, str] = {}
    for image in images:
        digits = re.findall(r"[0-9]+", Path(image).stem)
        if not digits:
            hint = "number the frames: 0001.png, 0002.png, ..."
            raise DataError("a frame without a number", place=str(folder / image), hint=hint)
        number = int(digits[-1])
        if number in numbered:
            message = f"frame {number} is there twice, in {numbered[number]!r} too"
            raise DataError(message, place=str(folder / image), hint="remove one, or number the frames anew")
        numbered[number] = image
    order = sorted(numbered)
    gap = next((at for at in range(len(order) - 1) if order[at + 1] != order[at] + 1), None)
    if gap is not None:
        first, last = order[gap] + 1, order[gap + 1] - 1
        missing = f"frame {first} is missing" if first == last else f"frames {first} to {last} are missing"
        raise DataError(missing, place=str(folder), hint="find them, or number the frames anew")
    return tuple(numbered[number] for number in order)
