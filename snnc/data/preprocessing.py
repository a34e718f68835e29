"""What is done to an image or an array before a network sees it, as users write it down."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from snnc.data.audio_windows import AudioWindows
from snnc.data.event_frames import EventFrames
from snnc.data.published import translated
from snnc.documents import read_yaml
from snnc.errors import UsageError
from snnc.registry import suggest
from snnc.validation import parse, with_values

# What is beyond these is no preprocessing of a network: in single precision, values would be 0 or infinite.
_LARGEST, _LONGEST, MOST_CLASSES = 1e15, 1_000_000, 1_000_000_000


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that the network was trained with.

    The order is fixed: decode, channels, resize, crop, scale, mean and std, layout.

    Image files and uint8 arrays are pixels and go through all of it. Float arrays are taken as values that somebody
    has already resized, ordered and scaled: only mean, std and layout are applied to them.
    """

    mean: tuple[float, ...] = ()
    """Subtracted after scaling, in the channel order of the network. Empty: 0. One value stands for all channels."""

    std: tuple[float, ...] = ()
    """Divided by after the mean is subtracted. Empty: 1. One value stands for all channels."""

    scale: float = 1 / 255
    """What pixels are multiplied by."""

    resize: tuple[int, int] | int | None = None
    """(height, width), or the length of the shorter side; antialiased, as Pillow and torchvision do it."""

    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bilinear"
    """What is between pixels where images are resized."""

    fit: Literal["stretch", "letterbox"] = "stretch"
    """How an image of another shape fits into (height, width): stretched, or as a whole amid bars of gray."""

    bars: int = 114
    """The gray of the bars, from 0 to 255."""

    crop: tuple[int, int] | int | None = None
    """(height, width), or the side of a square, cut from the center."""

    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    """The order that the network wants. A network with one channel always gets gray."""

    layout: Literal["nchw", "nhwc"] = "nchw"
    """The layout that the network wants."""

    array_layout: Literal["auto", "nchw", "nhwc"] = "auto"
    """The layout of array files. "auto" compares with what the network wants. Arrays of pixels are RGB."""

    audio: AudioWindows | None = None
    """How samples are made of audio files, and at which rate the network was trained."""

    folders: Literal["classes", "sequences"] = "classes"
    """What folders of images are: their class, or frames over time, a sample each, in folders by class or in none."""

    class_order: Literal["auto", "name", "natural"] = "auto"
    """How folders are numbered that are classes: by the characters of their names, as torchvision and Keras do it, or
    with the numbers in them as numbers. "auto": by name, and told where that makes a difference."""

    sequence_frames: int | None = None
    """Of every sequence of images so many frames, spread evenly. None: all of them, as many in each."""

    events: EventFrames | None = None
    """How frames are made of events; None: as its defaults say."""

    reference: Literal["frames", "sum"] = "frames"
    """What the trained network sees of frames over time: each of them, its outputs averaged, or their sum (as a mean:
    each step of the spiking network shows its share). Thresholds are worked out on the same."""

    label_offset: int = 0
    """Added to every label: 1 for a network whose output 0 is a background class."""

    @property
    def told(self) -> str:
        """What is done to an image, in one line."""
        whole = round(1 / self.scale) if self.scale else 0
        scaled = f"divided by {whole}" if whole > 1 and math.isclose(self.scale * whole, 1) else f"times {self.scale:g}"
        parts: list[str] = [self.channels]
        if self.resize is not None:
            fitted = f", {self.fit}" if self.fit == "letterbox" else ""
            parts.append(f"resized to {_side(self.resize)}{fitted}")
        if self.crop is not None:
            parts.append(f"cropped to {_side(self.crop)}")
        parts.append("pixels as they are" if self.scale == 1 else f"pixels {scaled}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            parts.append(f"{name} {', '.join(f'{value:g}' for value in values)}" if values else f"no {name}")
        parts += [self.layout] if self.layout != "nchw" else []
        parts += [f"labels {self.label_offset:+d}"] if self.label_offset else []
        return ", ".join(parts)

    def plain(self) -> dict[str, Any]:
        """Return the preprocessing as plain data, as JSON has it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def __post_init__(self) -> None:
        kinds = get_type_hints(Preprocessing)
        for name in (name for name, kind in kinds.items() if get_origin(kind) is Literal):
            known = get_args(kinds[name])
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not isinstance(values, tuple):
                raise ValueError(f"{name} must be a tuple, such as (0.5,): one value, or one per channel")
        for name, values in (("mean", self.mean), ("std", self.std), ("scale", (self.scale,))):
            if not all(math.isfinite(value) and abs(value) <= _LARGEST for value in values):
                raise ValueError(f"{name} must be finite, and at most {_LARGEST:g}")
        if not all(value > 0 for value in self.std):
            raise ValueError("std must be positive")
        if self.scale == 0:
            raise ValueError("scale must not be 0")
        if not all(abs(value) >= 1 / _LARGEST for value in (self.scale, *self.std)):
            raise ValueError(f"scale and std must be at least {1 / _LARGEST:g}")
        if abs(self.label_offset) > MOST_CLASSES:
            raise ValueError(f"label_offset must be from {-MOST_CLASSES} to {MOST_CLASSES}")
        if len(self.mean) > 1 and len(self.std) > 1 and len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values, std has {len(self.std)}")
        if self.fit == "letterbox" and not isinstance(self.resize, tuple):
            raise ValueError("fit: letterbox needs resize: [height, width]")
        if not 0 <= self.bars <= 255:
            raise ValueError("bars must be a gray from 0 to 255")
        for name, size in (("resize", self.resize), ("crop", self.crop), ("sequence_frames", self.sequence_frames)):
            sides = size if isinstance(size, tuple) else (1 if size is None else size,)
            if min(sides) < 1:
                raise ValueError(f"{name} must be at least 1")
            if max(sides) > _LONGEST:
                raise ValueError(f"{name} must be at most {_LONGEST}")


# What networks of published conversions were trained with, by the names of their data.
PROTOCOLS: Mapping[str, Preprocessing] = {
    # As AdaFire (AAAI 2025) publishes it in code: counts in nine bins of time, which begins at 0, and in a channel for
    # each bin and polarity; one picture, that stays on. Rows are columns there, as SpikingJelly reads the recordings.
    "cifar10-dvs": Preprocessing(
        events=EventFrames(
            frames=9, start="zero", stacked=True, sensor=(128, 128), transpose=True, square=True, resize=(224, 224)
        )
    ),
}


def _side(size: tuple[int, int] | int) -> str:
    return f"{size[0]}x{size[1]}" if isinstance(size, tuple) else f"{size}"


def written(data: object, *, place: str) -> Preprocessing:
    """Build preprocessing from plain data, or from the protocol of that name with the rest of it on top.

    Data as timm and Hugging Face publish it beside their networks is taken, too.

    Raises UsageError where it is wrong.
    """
    if not isinstance(data, Mapping) or "protocol" not in data:
        data = _listed(translated(data, place=place)) if isinstance(data, Mapping) else data
        return parse(Preprocessing, data, place=place)
    name, rest = data["protocol"], {key: value for key, value in data.items() if key != "protocol"}
    if name not in PROTOCOLS:
        hint = suggest(str(name), list(PROTOCOLS))
        raise UsageError(f"unknown protocol {name!r}", place=f"{place}.protocol", hint=hint)
    base = PROTOCOLS[name].plain()
    events = rest.pop("events", None) or {}
    if isinstance(events, Mapping):
        events = with_values(base["events"], events)
    return parse(Preprocessing, with_values(base, {**rest, "events": events}), place=place)


def _listed(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return preprocessing in which one number for all channels, written alone, is a list of one."""
    alone = {key: data[key] for key in ("mean", "std") if isinstance(data.get(key), int | float)}
    return {**data, **{key: [number] for key, number in alone.items()}}


def from_file(path: Path) -> Preprocessing:
    """Read preprocessing from YAML or JSON; raises DataError where it is missing and UsageError where it is wrong."""
    return written(read_yaml(path), place=str(path))
