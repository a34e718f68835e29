"""Image files as 8-bit gray or RGB."""

from pathlib import Path

import numpy as np
from PIL import Image

from snnc.data.transform import check_pixels
from snnc.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
# The modes of Pillow: what they say, and whether 8 bits of gray or RGB can be made of them.
_GRAY = {"1", "L", "LA", "La"}
_GRAY_16_BIT = {"I;16", "I;16L", "I;16B"}
_GRAY_32_BIT = {"I", "F"}
_COLOR = {"P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr"}


def decode(path: Path, *, gray: bool) -> Image.Image:
    """Read one image file as 8-bit gray or RGB; of several frames, the first.

    Palettes, CMYK and opaque alpha are converted, 16-bit gray keeps its high byte, color becomes gray by luma;
    EXIF orientation is not applied. Raises DataError where the file is no image or damaged, has transparent pixels or
    pixels of another kind (32-bit, LAB), or is gray where color is wanted.
    """
    place = str(path)
    try:
        with Image.open(path, formats=_FORMATS) as opened:
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
