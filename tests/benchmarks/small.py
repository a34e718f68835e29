"""Small networks that are trained here, in a minute or two, on digits that ship with scikit-learn or by a formula."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = tuple[NDArray[np.float32], NDArray[np.generic]]

# Scenes are so wide, with so many digits, each twice as large as scikit-learn has them.
_SIDE, _DIGITS, _LARGE = 32, 3, 16


def digits(package: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the 1,797 digits of scikit-learn ``[N, 8, 8]``, from 0 to 1, and what they show; no use of its code."""
    table = np.loadtxt(package / "sklearn/datasets/data/digits.csv.gz", delimiter=",", dtype=np.float32)
    return table[:, :-1].reshape(-1, 8, 8) / 16, table[:, -1].astype(np.int64)


def scenes(images: NDArray[np.float32], shown: NDArray[np.int64], count: int, seed: int) -> Arrays:
    """Return scenes ``[N, 1, 32, 32]`` of digits that may cover one another, in noise, and the class of every pixel.

    0 is the ground, a digit is one more than what it shows; pixels at its faint edge count as no class (255).
    """
    generator = np.random.default_rng(seed)
    x = np.zeros((count, 1, _SIDE, _SIDE), np.float32)
    masks = np.zeros((count, _SIDE, _SIDE), np.int64)
    for scene, mask in zip(x[:, 0], masks, strict=True):
        for chosen in generator.integers(0, len(images), _DIGITS):
            top, left = generator.integers(0, _SIDE - _LARGE + 1, 2)
            digit = images[chosen].repeat(2, 0).repeat(2, 1)
            part, marked = (slice(top, top + _LARGE), slice(left, left + _LARGE)), digit > 0.5
            scene[part] = np.maximum(np.where(marked, 0, scene[part]), digit)
            mask[part] = np.where(
                marked, shown[chosen] + 1, np.where((digit > 0.2) & (mask[part] == 0), 255, mask[part])
            )
    return x + generator.normal(0, 0.1, x.shape).astype(np.float32), masks


class Segmenter(nn.Module):
    """A small U-Net: twice to half the size and back, by nearest upsampling and concatenation."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
                nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            )  # fmt: skip

        self.whole, self.halved = block(1, width), block(width, 2 * width, 2)
        self.quartered, self.up = block(2 * width, 4 * width, 2), block(6 * width, 2 * width)
        self.last, self.head = block(3 * width, width), nn.Conv2d(width, 11, 1)

    def forward(self, x: Tensor) -> Tensor:
        full = self.whole(x)
        half = self.halved(full)
        up = self.up(torch.cat([functional.interpolate(self.quartered(half), scale_factor=2.0), half], 1))
        scores: Tensor = self.head(self.last(torch.cat([functional.interpolate(up, scale_factor=2.0), full], 1)))
        return scores


def friedman(count: int, seed: int) -> Arrays:
    """Return Friedman's first regression problem (1991): ten inputs, five of which matter, and their noisy answer."""
    generator = np.random.default_rng(seed)
    x = generator.random((count, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return (x - 0.5).astype(np.float32), (y + generator.standard_normal(count)).astype(np.float32)


class Regressor(nn.Module):
    """Three rectified layers and a number."""

    def __init__(self, inputs: int = 10, width: int = 96) -> None:
        super().__init__()
        widths = (inputs, width, width, width)
        layers = [part for pair in itertools.pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


def trained(made: Callable[[], nn.Module], x: Tensor, y: Tensor, epochs: int, rate: float) -> nn.Module:
    """Make a network and train it on masks, if ``y`` is whole numbers, or values; the rate falls as a cosine does."""
    torch.manual_seed(0)
    network, batch = made(), 64
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(batch)[: len(x) // batch]:
            found = network(x[chosen])
            if y.dtype == torch.int64:
                loss = functional.cross_entropy(found, y[chosen], ignore_index=255)
            else:
                loss = functional.mse_loss(found[:, 0], y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()
