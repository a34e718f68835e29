"""Preprocessing fitted to one network: pixels and values -> samples."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError
from snnc.ir import Input
from snnc.process import memory
from snnc.text import counted

Sample = NDArray[np.float32]

# Squares of larger values, of which statistics are made, are infinite in single precision.
_LARGEST = 1e18
# One image, of bytes, may take this share of the memory: several are read at once.
_SHARE = 16


@final
class Transform:
    """Preprocessing for samples that one input takes.

    A sample of three axes is an image of ``channels`` x ``height`` x ``width``, whichever way its layout has them; any
    other shape can only come from arrays, and has height and width 0. Integers are taken as they are, and pixels, for
    networks that scale them themselves, are not scaled unless the preprocessing says by what. Raises DataError where
    the preprocessing does not fit the shape. ``scale`` is what pixels are multiplied by.
    """

    def __init__(self, preprocessing: Preprocessing, taken: Input) -> None:
        sample_shape = taken.shape
        self.preprocessing = preprocessing
        self.sample_shape = sample_shape
        self.is_whole = taken.numbers == "integer"
        self.is_image = len(sample_shape) == 3 and not self.is_whole
        self._below = taken.below
        unscaled = taken.numbers == "pixel" and preprocessing.scale == Preprocessing.scale
        self.scale = 1.0 if unscaled else preprocessing.scale
        self._channels_first = preprocessing.layout == "nchw"
        self.height = self.width = 0
        if self.is_image:
            first, second, third = sample_shape
            order = (first, second, third) if self._channels_first else (third, first, second)
            self.channels, self.height, self.width = order
        else:
            self.channels = sample_shape[0 if self._channels_first else -1] if sample_shape else 1
        self._mean = self._std = None
        if self.is_whole:
            return
        if preprocessing.channels == "gray" and self.is_image and self.channels != 1:
            raise DataError(
                f"channels is gray, but the network takes {self.channels} channels",
                place="preprocessing.channels",
                hint="leave it at rgb, or set bgr",
            )
        self._mean = self._per_channel("mean", preprocessing.mean)
        self._std = self._per_channel("std", preprocessing.std)

    @property
    def resizes(self) -> bool:
        """Whether pixels may come in other sizes than the network's."""
        return self.preprocessing.resize is not None or self.preprocessing.crop is not None

    def placed(self, boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
        """Return where boxes lie in the sample, in its pixels, cut at its edges.

        ``boxes`` ``[n, 4]`` are left, top, right and bottom in shares of an image of ``size`` (height, width).
        """
        height, width = size
        (inner_height, inner_width), (left, top) = self._fitted(height, width)
        found = boxes * np.array([inner_width, inner_height] * 2) + np.array([left, top] * 2)
        if self.preprocessing.crop is not None:
            across, down = self.width, self.height
            whole = self._resized_size(height, width)
            found -= np.array([round((whole[1] - across) / 2), round((whole[0] - down) / 2)] * 2)
        inside: NDArray[np.float64] = found.clip(0, np.array([self.width, self.height] * 2))
        return inside

    def pictured(self, pixels: NDArray[np.uint8], *, place: str) -> Image.Image:
        """Return pixels ``[height, width, channels]`` resized and cropped, gray or in the order red, green, blue."""
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if self.channels == 1 else pixels))
        resampling = Image.Resampling[self.preprocessing.interpolation.upper()]
        return self._cropped(self._resized(image, resampling, self.preprocessing.bars, place), place)

    def __call__(self, values: NDArray[Any], *, place: str) -> Sample:
        """Turn what was read into a sample; raises DataError where it cannot be brought into shape.

        uint8 are pixels, float32 values. Both are ``[height, width, channels]`` where the sample is an image, and
        otherwise in its shape.
        """
        if self.is_whole:
            return self._whole(values, place)
        # What is too large is told, with its place.
        with np.errstate(all="ignore"):
            if values.dtype == np.uint8 and self.is_image:
                return self._checked(self._pixels(values, place), place)
            values = self._times_scale(values) if values.dtype == np.uint8 else values
            return self._checked(self._normalized(self._in_layout(values)), place)

    def masked(self, mask: Image.Image, bars: int, *, place: str) -> Image.Image:
        """Return whole numbers resized and cropped as their image is: each pixel takes the nearest, or that of bars."""
        return self._cropped(self._resized(mask, Image.Resampling.NEAREST, bars, place), place)

    def scaled(self, pixels: NDArray[np.uint8]) -> Sample:
        """Return pixels ``[height, width, channels]`` scaled, with channels where, and as, the network wants them."""
        ordered = pixels[..., ::-1] if self.preprocessing.channels == "bgr" and self.channels == 3 else pixels
        return np.ascontiguousarray(self._in_layout(self._times_scale(ordered)))

    def _whole(self, values: NDArray[Any], place: str) -> Sample:
        wrong = values[values != np.floor(values)]
        if not wrong.size and self._below:
            wrong = values[(values < 0) | (values >= self._below)]
        if wrong.size:
            what = f"no whole number from 0 to {self._below - 1}" if self._below else "no whole number"
            hint = "give what the network was trained on, such as the numbers of its own tokens"
            raise DataError(f"{wrong.reshape(-1)[0]} is {what}", place=place, hint=hint)
        return values.astype(np.float32).reshape(self.sample_shape)

    def _pixels(self, pixels: NDArray[np.uint8], place: str) -> Sample:
        if self.resizes:
            if self.channels not in (1, 3):
                raise DataError(
                    f"cannot resize pixels of {self.channels} channels",
                    place=place,
                    hint="leave out resize and crop, and save arrays of the size that the network takes",
                )
            pixels = np.asarray(self.pictured(pixels, place=place))
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        height, width = pixels.shape[:2]
        if (height, width) != (self.height, self.width):
            raise DataError(
                f"the image is {_shown(height, width)}{' after resize and crop' if self.resizes else ''}, "
                f"but the network takes {_shown(self.height, self.width)}",
                place=place,
                hint=f"use --resize {self.height},{self.width}, or resize and crop as the network was trained",
            )
        return self._normalized(self.scaled(pixels))

    def _times_scale(self, values: NDArray[np.uint8]) -> Sample:
        return values.astype(np.float32) * np.float32(self.scale)

    def _in_layout(self, values: Sample) -> Sample:
        """Bring ``[height, width, channels]`` into the layout of the network."""
        return values.transpose(2, 0, 1) if self.is_image and self._channels_first else values

    def _normalized(self, values: Sample) -> Sample:
        """Subtract mean and divide by std, in the shape of the sample."""
        if self._mean is not None:
            values = values - self._mean
        if self._std is not None:
            values = values / self._std
        return np.ascontiguousarray(values).reshape(self.sample_shape)

    def _checked(self, values: Sample, place: str) -> Sample:
        """Return a sample; raises DataError where one of its values is too large to be calculated with."""
        wrong = values[~(np.abs(values) <= _LARGEST)]
        if wrong.size:
            hint = "check the data, and the mean, std and scale of the preprocessing"
            raise DataError(f"the preprocessed value {wrong[0]} is too large", place=place, hint=hint)
        return values

    def _per_channel(self, name: str, values: tuple[float, ...]) -> Sample | None:
        if not values:
            return None
        if len(values) not in (1, self.channels):
            raise DataError(
                f"{name} has {len(values)} values, but the network takes {counted(self.channels, 'channel')}",
                place=f"preprocessing.{name}",
                hint="give one value" + (f", or {self.channels}" if self.channels > 1 else ""),
            )
        axes = (1,) * (len(self.sample_shape) - 1)
        return np.asarray(values, dtype=np.float32).reshape((-1, *axes) if self._channels_first else (-1,))

    def _resized(self, image: Image.Image, resampling: Image.Resampling, bars: int, place: str) -> Image.Image:
        if self.preprocessing.resize is None:
            return image
        height, width = self._resized_size(image.height, image.width)
        check_pixels(height, width, f"resized from {_shown(image.height, image.width)}", place)
        (inner_height, inner_width), corner = self._fitted(image.height, image.width)
        inner = image.resize((inner_width, inner_height), resampling)
        if self.preprocessing.fit == "stretch":
            return inner
        whole = Image.new(image.mode, (width, height), (bars,) * 3 if image.mode == "RGB" else bars)
        whole.paste(inner, corner)
        return whole

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of what an image of a size is resized to."""
        size = self.preprocessing.resize
        if size is None:
            return height, width
        if isinstance(size, tuple):
            return size
        shorter = min(height, width)
        return size * height // shorter, size * width // shorter

    def _fitted(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return how high and wide the image itself becomes in what it is resized to, and where: left and top."""
        high, wide = self._resized_size(height, width)
        if self.preprocessing.fit == "stretch":
            return (high, wide), (0, 0)
        ratio = min(high / height, wide / width)
        inner_height, inner_width = max(1, round(height * ratio)), max(1, round(width * ratio))
        return (inner_height, inner_width), ((wide - inner_width) // 2, (high - inner_height) // 2)

    def _cropped(self, image: Image.Image, place: str) -> Image.Image:
        size = self.preprocessing.crop
        if size is None:
            return image
        height, width = size if isinstance(size, tuple) else (size, size)
        if height > image.height or width > image.width:
            raise DataError(
                f"the image is {_shown(image.height, image.width)}, smaller than the crop of {_shown(height, width)}",
                place=place,
                hint="resize to at least the size of the crop",
            )
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


def check_pixels(height: int, width: int, what: str, place: str) -> None:
    """Raise DataError where an image of a size would take too much memory."""
    needed = 4 * height * width
    if needed > memory() // _SHARE:
        hint = "resize less, leave the image out, or give more with --memory"
        raise DataError(f"an image of {_shown(height, width)}, {what}, is too large", place=place, hint=hint)


def _shown(height: int, width: int) -> str:
    return f"{height} x {width} (height x width)"
