"""More images out of few: flips and shifts."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

# The furthest shift, as a share of the side: 4 pixels of 32 are usual for CIFAR.
_SHIFT = 1 / 8


def flipped_and_shifted(images: Tensor, generator: Generator) -> Tensor:
    """Return images ``[N, C, H, W]`` each moved at random, borders mirrored, and half of them flipped left to right.

    Samples of any other rank are returned as they are.
    """
    if images.ndim != 4:
        return images
    count, _, height, width = images.shape
    flips = torch.rand(count, generator=generator) < 0.5
    images = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
    furthest = [int(side * _SHIFT) for side in (height, width)]
    padded = F.pad(images, (furthest[1], furthest[1], furthest[0], furthest[0]), mode="reflect")
    tops, lefts = (torch.randint(0, 2 * most + 1, (count,), generator=generator).tolist() for most in furthest)
    moved = torch.empty_like(images)
    for index, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        moved[index] = padded[index, :, top : top + height, left : left + width]
    return moved
