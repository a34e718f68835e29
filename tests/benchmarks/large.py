"""Large networks of the literature, written out in torch with random weights, so that nothing has to be installed."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


class Dense(nn.Sequential):
    """Two convolutions, and what they see beside what they make."""

    def forward(self, x: Tensor) -> Tensor:
        """Return both, one behind the other."""
        return torch.cat([x, super().forward(x)], 1)


class Residual(nn.Module):
    """A bottleneck of three convolutions, added to what it sees."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *normalized(channels, width, 1), nn.ReLU(), *normalized(width, width, 3, stride), nn.ReLU(),
            *normalized(width, 4 * width, 1),
        )  # fmt: skip
        alike = stride == 1 and channels == 4 * width
        self.shortcut = nn.Identity() if alike else nn.Sequential(*normalized(channels, 4 * width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, rectified."""
        return torch.relu(self.branch(x) + self.shortcut(x))


def normalized(channels: int, made: int, window: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution and its batch normalization."""
    return [nn.Conv2d(channels, made, window, stride, window // 2, bias=False), nn.BatchNorm2d(made)]


def densenet(growth: int, layers: tuple[int, ...], *, classes: int, images: int) -> nn.Sequential:
    """Return a network of dense blocks with bottlenecks, and with transitions that halve (Huang et al., CVPR 2017)."""

    def before(channels: int, made: int, window: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, made, window, padding=window // 2, bias=False)
        return [nn.BatchNorm2d(channels), nn.ReLU(), convolution]

    channels, side = 2 * growth, images
    parts: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    if images > 32:
        parts, side = [*normalized(3, channels, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], images // 4
    for block, count in enumerate(layers):
        for _ in range(count):
            parts.append(Dense(*before(channels, 4 * growth, 1), *before(4 * growth, growth, 3)))
            channels += growth
        if block < len(layers) - 1:
            parts += [*before(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels, side = channels // 2, side // 2
    return nn.Sequential(
        *parts, nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(side), nn.Flatten(), nn.Linear(channels, classes)
    )


def vgg16() -> nn.Sequential:
    """Return the network of Simonyan and Zisserman (ICLR 2015), configuration D."""
    parts: list[nn.Module] = []
    channels = 3
    for made, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            parts += [nn.Conv2d(channels, made, 3, padding=1), nn.ReLU()]
            channels = made
        parts.append(nn.MaxPool2d(2))
    dense = [nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*parts, nn.Flatten(), *dense)


def alexnet() -> nn.Sequential:
    """Return the network of Krizhevsky (One weird trick, 2014)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
    )  # fmt: skip


def resnet50() -> nn.Sequential:
    """Return the network of He et al. (CVPR 2016), strides in the middle of its blocks."""
    parts: list[nn.Module] = [*normalized(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(count):
            parts.append(Residual(channels, width, 2 if width > 64 and not block else 1))
            channels = 4 * width
    return nn.Sequential(*parts, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(channels, 1000))


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (alexnet, 224),
    "densenet-bc-100": (lambda: densenet(12, (16, 16, 16), classes=10, images=32), 32),
    "densenet121": (lambda: densenet(32, (6, 12, 24, 16), classes=1000, images=224), 224),
    "resnet50": (resnet50, 224),
    "vgg16": (vgg16, 224),
}


def file_of(name: str, folder: Path) -> Path:
    """Return the ONNX file of a network, made where it is not there: batch normalization has seen noise."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        made, side = NETWORKS[name]
        torch.manual_seed(0)
        network = made()
        with torch.no_grad():
            network.train()(torch.randn(64 if side == 32 else 2, 3, side, side))
        sample = (torch.zeros(1, 3, side, side),)
        axes = {"x": {0: "N"}}
        # The older exporter prints nothing where the figures go.
        torch.onnx.export(network.eval(), sample, path, input_names=["x"], dynamic_axes=axes, dynamo=False)
    return path
