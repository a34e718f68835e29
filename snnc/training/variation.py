"""Images varied as image classifiers are usually trained: by kornia, on pixels before they are normalized."""

import kornia.augmentation as kornia
import torch
from kornia.augmentation.auto import AutoAugment
from torch import Tensor, nn

from snnc.data.dataset import Shapes
from snnc.data.preprocessing import Preprocessing
from snnc.errors import UsageError
from snnc.feeds import Feeds
from snnc.training.settings import Augmentation

# The padding of a random crop, as a share of the side: 4 pixels of 32 are usual for CIFAR.
_PADDING = 1 / 8
# How far at most an image is moved, as a share of the side: few epochs want 2 pixels of 32.
_MOVED = 1 / 16
# Images that AutoAugment treats alike: it draws one policy for all that it is given.
_ALIKE = 8


class Variation:
    """Random changes to preprocessed images ``[N, *shape]`` of one input, the same for the same seed.

    ``shapes`` are those of samples, by input. ``preprocessing`` says how they came from pixels, to which changes are
    made: what a crop adds is black. Raises UsageError where samples cannot be varied like that.
    """

    def __init__(self, kinds: tuple[Augmentation, ...], shapes: Shapes, preprocessing: Preprocessing) -> None:
        place = "training.augment"
        self._channels_last = preprocessing.layout == "nhwc"
        self._reversed = preprocessing.channels == "bgr"
        self._steps: list[nn.Module] = []
        if kinds:
            hint = "leave it out: --set training.augment=[]"
            if len(shapes) > 1:
                # What of the others would have to move along, nobody says.
                raise UsageError(f"samples are of several inputs: {', '.join(shapes)}", place=place, hint=hint)
            (shape,) = shapes.values()
            if len(shape) != 3:
                raise UsageError(f"samples of shape {list(shape)} are no images", place=place, hint=hint)
            channels, height, width = (shape[2], *shape[:2]) if self._channels_last else shape
            if "autoaugment" in kinds and channels != 3:
                hint = "take others: --set training.augment=[crop, flip, cutout]"
                raise UsageError(f"autoaugment needs colors, the channels here are {channels}", place=place, hint=hint)
            self._steps = [_step(kind, height, width) for kind in kinds]
        # A pixel of 1 is what 255 becomes.
        self._white = 255 * preprocessing.scale
        self._mean = torch.tensor(preprocessing.mean or (0.0,)).view(-1, 1, 1)
        self._std = torch.tensor(preprocessing.std or (1.0,)).view(-1, 1, 1)

    def __call__(self, feeds: Feeds, seed: int) -> Feeds:
        """Return the images, each changed on its own."""
        if not self._steps:
            return feeds
        return Feeds({name: self._varied(images, seed) for name, images in feeds.items()})

    def _varied(self, images: Tensor, seed: int) -> Tensor:
        mean, std = self._mean.to(images), self._std.to(images)
        pixels = ((images.movedim(-1, 1) if self._channels_last else images) * std + mean) / self._white
        pixels = pixels.flip(1) if self._reversed else pixels
        # kornia draws from torch's own generators.
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            for step in self._steps:
                pixels = step(pixels)
        pixels = pixels.flip(1) if self._reversed else pixels
        varied = (pixels * self._white - mean) / std
        return varied.movedim(1, -1) if self._channels_last else varied


class _InGroups(nn.Module):
    """AutoAugment, a few images at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._policy = AutoAugment("cifar10")

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self._policy(group) for group in torch.split(images.clamp(0, 1), _ALIKE)])


def _step(kind: Augmentation, height: int, width: int) -> nn.Module:
    step: nn.Module
    if kind == "crop":
        step = kornia.RandomCrop((height, width), padding=(int(width * _PADDING), int(height * _PADDING)), p=1.0)
    elif kind == "translate":
        # What is mirrored is less than the side.
        moved = tuple(min(max(1, round(side * _MOVED)), side - 1) for side in (width, height))
        step = kornia.RandomCrop((height, width), padding=moved, padding_mode="reflect", p=1.0)
    elif kind == "flip":
        step = kornia.RandomHorizontalFlip()
    elif kind == "cutout":
        step = kornia.RandomErasing(scale=(0.25, 0.25), ratio=(1.0, 1.0), p=1.0)
    else:
        step = _InGroups()
    return step
