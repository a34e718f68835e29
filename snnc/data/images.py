"""Folders of image files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np
from PIL import Image

from snnc.data.boxes import BOXES, annotated
from snnc.data.folder import file_digest, files_in, listed, of_kind
from snnc.data.labels import CLASSES, FILE_NAME, Labels
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Transform
from snnc.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
# The modes of Pillow: what they say, and whether 8 bits of gray or RGB can be made of them.
_GRAY = {"1", "L", "LA", "La"}
_GRAY_16_BIT = {"I;16", "I;16L", "I;16B"}
_GRAY_32_BIT = {"I", "F"}
_COLOR = {"P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr"}


@final
@sources.register("images")
@dataclass(frozen=True, eq=False)
class ImageFiles(Source):
    """Image files below one folder, named by their relative paths with forward slashes.

    They are what one input takes, as gray images or in color.

    Files of boxes are labels (see ``snnc.data.boxes``) where there is no ``labels.csv``; otherwise images are those
    that ``listed`` finds.
    """

    about: ClassVar[str] = "a folder of images"
    general: ClassVar[bool] = True

    folder: Path
    names: tuple[str, ...]
    input: str
    gray: bool

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        return path.is_dir()

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        name, transform = only_input(inputs, path)
        # Pillow loads its decoders at the first need; several threads needing them at once is asking for trouble.
        Image.init()
        names, labels, ignored = _found(path, transform)
        return cls(labels, ignored, path, tuple(names), name, transform.channels == 1)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def place(self, index: int) -> str:
        return str(self.folder / self.names[index])

    def read(self, index: int) -> Mapping[str, Array]:
        pixels = np.asarray(decode(self.folder / self.names[index], gray=self.gray))
        return {self.input: pixels[..., None] if self.gray else pixels}

    def digest(self, index: int) -> str:
        return file_digest(self.folder / self.names[index])


def _found(folder: Path, transform: Transform) -> tuple[Sequence[str], Mapping[str, Labels], int]:
    """Return the images in use, their labels, and how many other files there are."""
    if not (folder / FILE_NAME).exists():
        images = of_kind(files_in(folder), SUFFIXES)
        drawn = annotated(folder, images)
        if drawn is not None:
            return drawn.files, {BOXES: drawn.located(folder, transform)}, len(images) - len(drawn.files)
    names, classes, ignored = listed(folder, SUFFIXES, "image")
    return names, {} if classes is None else {CLASSES: classes}, ignored


def decode(path: Path, *, gray: bool) -> Image.Image:
    """Read one image file as 8-bit gray or RGB; of several frames, the first.

    Palettes, CMYK and opaque alpha are converted, 16-bit gray keeps its high byte, color becomes gray by luma;
    EXIF orientation is not applied. Raises DataError where the file is no image or damaged, has transparent pixels or
    pixels of another kind (32-bit, LAB), or is gray where color is wanted.
    """
    place = str(path)
    try:
        with Image.open(path, formats=_FORMATS) as opened:
            opened.load()
            image = opened.copy()
    except Exception as error:  # decoders raise whatever they like on broken files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, cut short or no image"
        hint = "replace or remove the file"
        raise DataError(f"cannot read this image: {reason}", place=place, hint=hint) from None
    mode = image.mode
    if not gray and mode in _GRAY | _GRAY_16_BIT | _GRAY_32_BIT:
        hint = "convert it to RGB if gray is what it should show, or remove it"
        raise DataError("a gray image, but the network takes color", place=place, hint=hint)
    if mode not in _GRAY | _GRAY_16_BIT | _COLOR:
        hint = "save it as gray or RGB with 8 bits per channel, or its values in a .npy file"
        raise DataError(f"pixels of kind {mode} have no agreed way to 8 bits", place=place, hint=hint)
    if mode in _GRAY_16_BIT:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            hint = "save it without transparency, on the background that the network was trained with"
            raise DataError("the image is partly transparent", place=place, hint=hint)
    return image.convert("L" if gray else "RGB")


def only_input(inputs: Mapping[str, Transform], folder: Path) -> tuple[str, Transform]:
    """Return the input that images go to; raises DataError where there are several, or it takes no images."""
    if len(inputs) > 1:
        hint = "give a .npz file that holds an array for each, of its name"
        raise DataError(
            f"images are one input, but the network takes {', '.join(inputs)}", place=str(folder), hint=hint
        )
    ((name, transform),) = inputs.items()
    if not transform.is_image or transform.channels not in (1, 3):
        shape = list(transform.sample_shape)
        hint = "give a .npy or .npz file, or set layout to the one that the network wants"
        raise DataError(f"images do not fit a network that takes {shape}", place=str(folder), hint=hint)
    return name, transform
