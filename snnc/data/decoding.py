"""Image files as 8-bit gray or RGB."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from snnc.data.noticed import Noticed
from snnc.data.transform import check_pixels
from snnc.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
# The modes of Pillow: what they say, and whether 8 bits of gray or RGB can be made of them.
_GRAY = {"1", "L", "LA", "La"}
_GRAY_16_BIT = {"I;16", "I;16L", "I;16B"}
_COLOR = {"P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr"}


def decode(file: Path | BytesIO, *, gray: bool, noticed: Noticed | None = None, place: str = "") -> Image.Image:
    """Read one image file as 8-bit gray or RGB; of several frames, the first. ``place`` is the path unless given.

    Palettes, CMYK and opaque alpha are converted, 16-bit gray keeps its high byte, color becomes gray by luma and gray
    color that is the same in all three; EXIF orientation is not applied. What is odd about that is ``noticed``. Raises
    DataError where the file is no image or damaged, or has transparent pixels or pixels of another kind (32-bit, LAB).
    """
    place = place or str(file)
    try:
        with Image.open(file, formats=_FORMATS) as opened:
            check_pixels(opened.height, opened.width, "as its header says", place)
            opened.load()
            image = opened.copy()
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
    return image.convert("L" if gray else "RGB")
