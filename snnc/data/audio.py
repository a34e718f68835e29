"""Audio files, for networks of one axis: windows of them are samples. They are read by the package soundfile."""

import hashlib
import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np

from snnc.data.audio_windows import AudioWindows
from snnc.data.folder import file_digest, found_in, listed
from snnc.data.images import SUFFIXES as IMAGES
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Transform
from snnc.errors import DataError, UsageError

SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"}

# Zero crossings of the sinc on either side, and how much of the band below half the lower rate passes.
_CROSSINGS, _PASSES = 16, 0.95

# How libsndfile tells that a chunk is longer than the file; streams state no length, or the longest.
_CUT = re.compile(r"^\s*(?:data|SSND)\s*:\s*([0-9]+) \(should be ([0-9]+)\)", re.MULTILINE)
_STREAMED = 1 << 31


@dataclass(frozen=True)
class _Sound:
    """A file: how many frames it has, at which rate, and in how many channels."""

    frames: int
    rate: int
    channels: int


@final
@sources.register("audio")
@dataclass(frozen=True, eq=False)
class AudioFiles(Source):
    """Windows of audio files below one folder, as ``listed`` finds these, or of one file.

    ``windows`` are the number of the file and the first sample of every window, at the rate of the network, which is
    ``rate``. ``length`` and ``channels`` are those of the input.
    """

    about: ClassVar[str] = "a folder of audio files, or one of them"

    folder: Path
    names: tuple[str, ...]
    windows: tuple[tuple[int, int], ...]
    input: str
    transform: Transform
    how: AudioWindows
    rate: int
    length: int
    channels: int

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        if path.is_file():
            return path.suffix.lower() in SUFFIXES
        # Of a folder, the first file that is audio or an image says what the others are.
        found = (Path(name).suffix.lower() for name in found_in(path))
        return next((suffix in SUFFIXES for suffix in found if suffix in SUFFIXES | IMAGES), False)

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        name, transform, channels, length = _only_input(inputs, path)
        how = transform.preprocessing.audio or AudioWindows()
        folder = path if path.is_dir() else path.parent
        found, kinds, ignored = (
            listed(path, SUFFIXES, "audio file", transform.preprocessing.class_order)
            if path.is_dir()
            else ([path.name], {}, ())
        )
        names = tuple(found)
        if how.rate is None:
            rate = _sound(folder / names[0]).rate
            hint = f"preprocessing: {{audio: {{rate: {rate}}}}}, if that of this file is right"
            raise DataError("nothing says at which rate the network was trained", place=str(path), hint=hint)
        source = cls({}, ignored, folder, names, (), name, transform, how, how.rate, length, channels)
        windows = tuple((file, start) for file in range(len(names)) for start in source._starts(file))
        labels = {kind: labels.taken([file for file, _ in windows]) for kind, labels in kinds.items()}
        return cls(labels, ignored, folder, names, windows, name, transform, how, how.rate, length, channels)

    def __len__(self) -> int:
        return len(self.windows)

    def name(self, index: int) -> str:
        file, start = self.windows[index]
        return self.names[file] if self.how.windows == "first" else f"{self.names[file]}[{start}]"

    def place(self, index: int) -> str:
        return str(self.folder / self.name(index))

    def read(self, index: int) -> Mapping[str, Array]:
        file, start = self.windows[index]
        path = self.folder / self.names[file]
        sound = self._checked(file)
        values = self._read(path, sound, start)
        if not np.isfinite(values).all():
            first = start + int(np.argwhere(~np.isfinite(values))[0][0])
            hint = "find out where it comes from, and replace it or leave the file out"
            raise DataError(f"a value that is not finite, {first / self.rate:.3f} s in", place=str(path), hint=hint)
        values = values.mean(1, keepdims=True) if self.channels == 1 else values
        inner = self.transform.sample_shape
        return {self.input: (values if len(inner) == 2 and inner[0] == self.length else values.T).reshape(inner)}

    def digest(self, index: int) -> str:
        file, start = self.windows[index]
        path = self.folder / self.names[file]
        if self.how.windows == "first":
            return file_digest(path)
        sound = _sound(path)
        values = _frames(path, start * sound.rate // self.rate, self.length * sound.rate // self.rate, sound)
        return hashlib.sha256(f"{sound.rate} {values.shape} ".encode() + values.tobytes()).hexdigest()

    def _starts(self, file: int) -> range:
        """Return where the windows of a file begin; raises DataError where it has none."""
        if self.how.windows == "first":
            return range(1)
        sound, hop = self._checked(file), self.how.hop or self.length
        rest = self._resampled_length(sound) - self.length
        return range(0, max(1, rest + hop if self.how.pad else rest + 1), hop)

    def _checked(self, file: int) -> _Sound:
        """Return what a file holds; raises DataError where that does not fit."""
        path = self.folder / self.names[file]
        sound = _sound(path)
        if sound.rate != self.rate and not self.how.resample:
            message = f"a rate of {sound.rate} Hz, but the network was trained at {self.rate} Hz"
            hint = "preprocessing: {audio: {resample: true}} brings files to its rate"
            raise DataError(message, place=str(path), hint=hint)
        if sound.channels != self.channels and (self.channels > 1 or not self.how.mix):
            hint = (
                "preprocessing: {audio: {mix: true}} takes their mean" if self.channels == 1 else "leave the file out"
            )
            message = f"{_counted(sound.channels, 'channel')}, but the network takes {self.channels}"
            raise DataError(message, place=str(path), hint=hint)
        length = self._resampled_length(sound)
        if not sound.frames or (length < self.length and not self.how.pad):
            message = f"{_counted(length, 'sample')} at {self.rate} Hz, but the network takes {self.length:,}"
            hint = "preprocessing: {audio: {pad: true}} fills up with zeros" if sound.frames else "leave the file out"
            raise DataError(message, place=str(path), hint=hint)
        return sound

    def _resampled_length(self, sound: _Sound) -> int:
        return math.ceil(sound.frames * self.rate / sound.rate)

    def _read(self, path: Path, sound: _Sound, start: int) -> Array:
        """Return a window ``[length, channels]`` of a file, zeros where it has ended."""
        if sound.rate == self.rate:
            there = _frames(path, start, self.length, sound)
            return np.pad(there, ((0, self.length - len(there)), (0, 0)))
        # Between which samples of the file each one lies, and how far behind the first: of few kinds.
        whole, rest = np.divmod((start + np.arange(self.length)) * sound.rate, self.rate)
        rests, kind = np.unique(rest, return_inverse=True)
        # A sinc as wide as the lower rate asks for, in the window of Hann.
        band = _PASSES * min(1.0, self.rate / sound.rate)
        reach = math.ceil(_CROSSINGS / band)
        apart = (np.arange(-reach, reach + 1) - rests[:, None] / self.rate) * band
        weights = np.sinc(apart) * np.where(abs(apart) < _CROSSINGS, np.cos(apart * np.pi / 2 / _CROSSINGS), 0) ** 2
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        first, last = int(whole[0]) - reach, int(whole[-1]) + reach
        before = max(0, -first)
        around = _frames(path, first + before, last - first - before + 1, sound)
        around = np.pad(around, ((before, last - first + 1 - before - len(around)), (0, 0)))
        near = np.lib.stride_tricks.sliding_window_view(around, 2 * reach + 1, 0)[whole - whole[0]]
        values: Array = np.einsum("lct,lt->lc", near, weights[kind])
        return values


def _only_input(inputs: Mapping[str, Transform], path: Path) -> tuple[str, Transform, int, int]:
    """Return the input that audio goes to, its channels and its length; raises DataError where it takes no audio."""
    if len(inputs) > 1:
        hint = "give a .npz file that holds an array for each, of its name"
        raise DataError(f"audio is one input, but the network takes {', '.join(inputs)}", place=str(path), hint=hint)
    ((name, transform),) = inputs.items()
    shape = transform.sample_shape
    if transform.is_whole or len(shape) not in (1, 2):
        hint = "it fits networks that take [samples], or [channels, samples]; give arrays of what is made of it"
        raise DataError(f"audio does not fit a network that takes {list(shape)}", place=str(path), hint=hint)
    if len(shape) == 1:
        return name, transform, 1, shape[0]
    channels, length = shape if transform.preprocessing.layout == "nchw" else shape[::-1]
    return name, transform, channels, length


def _sound(path: Path) -> _Sound:
    """Return what a file holds by its header; raises DataError where it is none, or cut short."""
    package = _soundfile()
    try:
        found = package.info(str(path), verbose=True)
    except (package.LibsndfileError, OSError) as error:
        raise _broken(path, error) from None
    cut = _CUT.search(found.extra_info)
    if cut is not None and int(cut[2]) < int(cut[1]) < _STREAMED:
        raise DataError(f"cut short: {cut[2]} of {cut[1]} bytes are there", place=str(path), hint="fetch it again")
    return _Sound(found.frames, found.samplerate, found.channels)


def _frames(path: Path, start: int, count: int, sound: _Sound) -> Array:
    """Return frames of a file, ``[count or what is left, channels]``; raises DataError where it breaks off."""
    package = _soundfile()
    there = max(0, min(count, sound.frames - start))
    try:
        with package.SoundFile(str(path)) as file:
            file.seek(min(start, sound.frames))
            values: Array = file.read(there, dtype="float32", always_2d=True)
    except (package.LibsndfileError, OSError) as error:
        raise _broken(path, error) from None
    if len(values) < there:
        message = f"cut short: it breaks off after {start + len(values):,} of {sound.frames:,} samples"
        raise DataError(message, place=str(path), hint="fetch it again")
    return values


def _broken(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, cut short or no audio file"
    return DataError(f"cannot read this audio file: {reason}", place=str(path), hint="replace or remove the file")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _soundfile() -> Any:
    try:
        return importlib.import_module("soundfile")
    # Without its library it raises OSError.
    except (ImportError, OSError):
        raise UsageError("audio files need the package soundfile", hint="pip install 'snnc[audio]'") from None
