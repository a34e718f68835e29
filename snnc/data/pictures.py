"""Labels that are pictures: masks of classes, and images that a network should give, in a folder beside the images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from snnc.data.decoding import decode
from snnc.data.labels import MASKS, VALUES, Labels, Masks, OnDisk, Values
from snnc.data.transform import Transform
from snnc.errors import DataError

# The folder of the images that such labels belong to.
IMAGES = "images"

# Modes of Pillow whose numbers are classes; of a palette, its places.
_NUMBERED = {"1", "L", "P", "I", "I;16", "I;16L", "I;16B"}
_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jpg", ".jpeg")
_LOSSLESS = _SUFFIXES[:5]
# What stands in masks, by custom, where there is no class.
_NO_CLASS = 255

Reader: TypeAlias = Callable[[Path, Sequence[str], Transform], Mapping[str, Labels]]


def _masks(folder: Path, images: Sequence[str], transform: Transform) -> Mapping[str, Labels]:
    """Return the classes of pixels: each image has a mask of its name, a picture of class numbers without loss."""
    paths = _partners(folder, images, "masks", _LOSSLESS)

    def read(number: int) -> Tensor:
        classes = _numbers(paths[number])
        _require_size(classes.shape, folder / images[number], paths[number])
        return placed(classes, transform, str(paths[number]))

    return {MASKS: Masks(OnDisk(read, range(len(images))))}


def _targets(folder: Path, images: Sequence[str], transform: Transform) -> Mapping[str, Labels]:
    """Return the images that the network should give, in its layout, pixels scaled as those that it takes.

    They may be larger than the images, unless these are resized.
    """
    paths = _partners(folder, images, "targets", _SUFFIXES)

    def read(number: int) -> Tensor:
        path = paths[number]
        pixels = decode(path, gray=transform.channels == 1)
        if transform.resizes:
            _require_size(pixels.shape[:2], folder / images[number], path)
            pixels = np.asarray(transform.pictured(pixels, place=str(path)))
        return torch.from_numpy(transform.scaled(pixels[..., None] if pixels.ndim == 2 else pixels))

    return {VALUES: Values(OnDisk(read, range(len(images))))}


# What a folder beside the images holds, by its name.
pictures: Mapping[str, Reader] = {"masks": _masks, "targets": _targets}


def placed(classes: np.ndarray[tuple[int, ...], np.dtype[np.int32]], transform: Transform, place: str) -> Tensor:
    """Return the classes of an image's pixels resized and cropped with it."""
    image = transform.masked(Image.fromarray(classes), _NO_CLASS, place=place)
    return torch.from_numpy(np.asarray(image).astype(np.int64))


def _partners(folder: Path, images: Sequence[str], beside: str, suffixes: Sequence[str]) -> list[Path]:
    """Return the files that belong to images; raises DataError where one has none."""
    found = []
    for name in images:
        stem = folder / beside / Path(name).relative_to(IMAGES)
        path = next((path for suffix in suffixes if (path := stem.with_suffix(suffix)).is_file()), None)
        if path is None:
            hint = f"put it there, in one of {', '.join(suffixes)}, or take the image away"
            raise DataError(f"nothing in {beside} for this image", place=str(folder / name), hint=hint)
        found.append(path)
    return found


def _numbers(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    try:
        with Image.open(path) as opened:
            opened.load()
            mode, numbers = opened.mode, np.asarray(opened)
    except Exception:  # decoders raise whatever they like on broken files
        hint = "replace it, or take it and its image away"
        raise DataError("damaged, cut short or no image", place=str(path), hint=hint) from None
    if mode not in _NUMBERED:
        hint = "save masks as gray or palette images whose pixels are numbers of classes"
        raise DataError(f"pixels of kind {mode} are no class numbers", place=str(path), hint=hint)
    return numbers.astype(np.int32)


def _require_size(size: tuple[int, ...], image: Path, path: Path) -> None:
    """Raise DataError where a picture has another size than the image that it belongs to."""
    try:
        with Image.open(image) as opened:
            own = opened.height, opened.width
    except Exception:  # as above; the image itself is read, and complained of, elsewhere
        return
    if own != size:
        shown = " x ".join(map(str, size))
        message = f"{shown} (height x width), but its image is {own[0]} x {own[1]}"
        raise DataError(message, place=str(path), hint="save it in the size of the image")
