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
    """Some layers, added to what they see, rectified where ``last`` is a rectifier."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.last = branch, shortcut, last

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        total: Tensor = self.last(self.branch(x) + self.shortcut(x))
        return total


def normalized(channels: int, made: int, window: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution and its batch normalization."""
    convolution = nn.Conv2d(channels, made, window, stride, window // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(made)]


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


def resnet(counts: tuple[int, ...], *, bottleneck: bool) -> nn.Sequential:
    """Return a network of He et al. (CVPR 2016), strides in the middle of its bottlenecks."""
    parts: list[nn.Module] = [*normalized(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(counts):
        width = 64 << stage
        made = 4 * width if bottleneck else width
        for block in range(count):
            stride = 2 if stage and not block else 1
            if bottleneck:
                layers = [*normalized(channels, width, 1), nn.ReLU(), *normalized(width, width, 3, stride)]
                layers += [nn.ReLU(), *normalized(width, made, 1)]
            else:
                layers = [*normalized(channels, width, 3, stride), nn.ReLU(), *normalized(width, made, 3)]
            alike = stride == 1 and channels == made
            shortcut = nn.Identity() if alike else nn.Sequential(*normalized(channels, made, 1, stride))
            parts.append(Residual(nn.Sequential(*layers), shortcut, nn.ReLU()))
            channels = made
    return nn.Sequential(*parts, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(channels, 1000))


def mobilenet_v2() -> nn.Sequential:
    """Return the network of Sandler et al. (CVPR 2018)."""
    parts: list[nn.Module] = [*normalized(3, 32, 3, 2), nn.ReLU6()]
    channels = 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, made, count, first in stages:
        for block in range(count):
            wide, stride = factor * channels, 1 if block else first
            layers: list[nn.Module] = [*normalized(channels, wide, 1), nn.ReLU6()] if factor > 1 else []
            layers += [*normalized(wide, wide, 3, stride, wide), nn.ReLU6(), *normalized(wide, made, 1)]
            branch = nn.Sequential(*layers)
            alike = stride == 1 and channels == made
            parts.append(Residual(branch, nn.Identity(), nn.Identity()) if alike else branch)
            channels = made
    return nn.Sequential(
        *parts, *normalized(channels, 1280, 1), nn.ReLU6(), nn.AvgPool2d(7), nn.Flatten(), nn.Linear(1280, 1000)
    )


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (alexnet, 224),
    "densenet-bc-100": (lambda: densenet(12, (16, 16, 16), classes=10, images=32), 32),
    "densenet121": (lambda: densenet(32, (6, 12, 24, 16), classes=1000, images=224), 224),
    "mobilenet_v2": (mobilenet_v2, 224),
    "resnet18": (lambda: resnet((2, 2, 2, 2), bottleneck=False), 224),
    "resnet50": (lambda: resnet((3, 4, 6, 3), bottleneck=True), 224),
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
