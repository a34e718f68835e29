"""Image files as 8-bit gray or RGB."""

import functools
import importlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snnc.data.noticed import Noticed
from snnc.data.transform import check_pixels
from snnc.errors import DataError
from snnc.process import memory

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
# The modes of Pillow: what they say, and whether 8 bits of gray or RGB can be made of them.
_GRAY = {"1", "L", "LA", "La"}
_GRAY_16_BIT = {"I;16", "I;16L", "I;16B"}
_COLOR = {"P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr"}
# What files of JPEG begin with, and the share of the memory that the bytes of one may take.
_JPEG = b"\xff\xd8\xff"
_SHARE = 64


def decode(file: Path | BytesIO, *, gray: bool, noticed: Noticed | None = None, place: str = "") -> NDArray[np.uint8]:
    """Read one image file as pixels ``[height, width, channels]``, gray or RGB; of several frames, the first.

    Palettes, CMYK and opaque alpha are converted, 16-bit gray keeps its high byte, color becomes gray by luma and gray
    color that is the same in all three; EXIF orientation is not applied. JPEG is decoded by simplejpeg where that is
    installed, to the same pixels. What is odd is ``noticed``; ``place`` is the path unless given. Raises DataError
    where the file is no image or damaged, or has transparent pixels or pixels of another kind (32-bit, LAB).
    """
    place = place or str(file)
    found = None if gray else _color_jpeg(file, place)
    if found is None:
        image = _decoded(file, gray, noticed, place)
        pixels = np.asarray(image)
        return pixels[..., None] if gray else pixels
    if noticed is not None:
        noticed.colored(place)
    return found


def _color_jpeg(file: Path | BytesIO, place: str) -> NDArray[np.uint8] | None:
    """Return the pixels of a JPEG in color; None of all that simplejpeg does not read without a warning."""
    package = _simplejpeg()
    if package is None:
        return None
    try:
        content = file.getvalue() if isinstance(file, BytesIO) else _jpeg(file)
        if not content.startswith(_JPEG):
            return None
        height, width, colors, _ = package.decode_jpeg_header(content, strict=True)
        if colors != "YCbCr":
            return None
        check_pixels(height, width, "as its header says", place)
        pixels: NDArray[np.uint8] = package.decode_jpeg(content, "RGB", strict=True)
        return pixels
    # Pillow may read it in spite of that, or says what is wrong.
    except (OSError, ValueError):
        return None


def _jpeg(path: Path) -> bytes:
    """Return the bytes of a file that begins as JPEG does and is not too long; of others none."""
    with path.open("rb") as stream:
        begin = stream.read(len(_JPEG))
        return begin + stream.read() if begin == _JPEG and path.stat().st_size <= memory() // _SHARE else b""


@functools.cache
def _simplejpeg() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _decoded(file: Path | BytesIO, gray: bool, noticed: Noticed | None, place: str) -> Image.Image:
    try:
        with Image.open(file, formats=_FORMATS) as opened:
            check_pixels(opened.height, opened.width, "as its header says", place)
            opened.load()
            image = opened.copy() if opened.mode != "RGB" or opened.has_transparency_data else opened
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, cut short or no image"
        hint = "replace or remove the file"
        raise DataError(f"cannot read this image: {reason}", place=place, hint=hint) from None
    mode = image.mode
    # Pillow reads 16 bits of a portable graymap as more.
    if mode == "I" and opened.format == "PPM":
        image, mode = image.convert("I;16"), "I;16"
    if mode not in _GRAY | _GRAY_16_BIT | _COLOR:
        hint = "save it as gray or RGB with 8 bits per channel, or its values in a .npy file"
        raise DataError(f"pixels of kind {mode} have no agreed way to 8 bits", place=place, hint=hint)
    if mode in _GRAY_16_BIT:
        values = np.asarray(image)
        if noticed is not None:
            noticed.deep(place, int(values.max()))
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            hint = "save it without transparency, on the background that the network was trained with"
            raise DataError("the image is partly transparent", place=place, hint=hint)
    if noticed is not None and not gray:
        (noticed.colored if mode in _COLOR else noticed.gray)(place)
    wanted = "L" if gray else "RGB"
    return image if image.mode == wanted else image.convert(wanted)
