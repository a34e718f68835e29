"""Architectures that users have, with random weights, each exported by torch: run by zoo.py, in its own environment.

    python tests/benchmarks/architectures.py            prints the families and the names in them
    python tests/benchmarks/architectures.py NAME FILE  writes FILE.onnx, and FILE.npz with inputs by their names

Statistics of batch normalization are those of noise, so that activations keep their size; what is constant in a new
network (scales of 1, biases of 0, scales of layers near 0) is drawn, so that nothing is left out unseen.
"""

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

Made = tuple[nn.Module, tuple[Tensor, ...]]
Maker = Callable[[], Made]


def image(size: int, channels: int = 3) -> Tensor:
    return torch.randn(1, channels, size, size)


def ids(length: int, below: int = 200) -> Tensor:
    return torch.randint(1, below, (1, length))


# --- packages -------------------------------------------------------------------------------------------------------


def _torchvision(name: str, size: int, module: str = "models", **options: Any) -> Maker:
    def make() -> Made:
        # The wheel of the registry is made for another build of torch, and then brings no operations of its own.
        if not hasattr(torch.ops.torchvision, "nms"):
            for operation in ("nms", "qnms"):
                torch.library.define(
                    f"torchvision::{operation}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
        package = importlib.import_module(f"torchvision.{module}")
        return getattr(package, name)(weights=None, **options), (image(size),)

    return make


def _segmentation(name: str, **options: Any) -> Maker:
    def make() -> Made:
        network, inputs = _torchvision(name, 96, "models.segmentation", weights_backbone=None, **options)()
        return _First(network, "out"), inputs

    return make


def _video(name: str, frames: int, size: int) -> Maker:
    def make() -> Made:
        network, _ = _torchvision(name, size, "models.video")()
        return network, (torch.randn(1, 3, frames, size, size),)

    return make


def _timm(name: str, size: int = 96, **options: Any) -> Maker:
    def make() -> Made:
        _torchvision("alexnet", 64)()
        return importlib.import_module("timm").create_model(name, pretrained=False, **options), (image(size),)

    return make


def _ultralytics(name: str, size: int = 96) -> Maker:
    def make() -> Made:
        _torchvision("alexnet", 64)()
        tasks = importlib.import_module("ultralytics.nn.tasks")
        kinds = {"seg": "Segmentation", "pose": "Pose", "cls": "Classification", "obb": "OBB"}
        kind = kinds.get(name.partition("-")[2], "Detection")
        network = getattr(tasks, f"{kind}Model")(f"{name}.yaml", verbose=False)
        for module in network.modules():
            # What ultralytics sets where it exports.
            if hasattr(module, "export"):
                module.export, module.format = True, "onnx"
        return network, (image(size),)

    return make


def _smp(name: str, encoder: str = "resnet18", size: int = 96, **options: Any) -> Maker:
    def make() -> Made:
        _torchvision("alexnet", 64)()
        package = importlib.import_module("segmentation_models_pytorch")
        return getattr(package, name)(encoder, encoder_weights=None, **options), (image(size),)

    return make


_SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 200,
    "max_position_embeddings": 64,
}


def _transformers(name: str, inputs: dict[str, Callable[[], Tensor]] | None = None, **options: Any) -> Maker:
    """Make the network of a class of transformers with a small configuration; its first output is kept."""

    def make() -> Made:
        # timm, of which some are made, loads torchvision.
        _torchvision("alexnet", 64)()
        package = importlib.import_module("transformers")
        kind = getattr(package, name)
        settings = kind.config_class(**options)
        settings._attn_implementation = "sdpa" if getattr(kind, "_supports_sdpa", True) else "eager"
        given = inputs or {"input_ids": lambda: ids(16), "attention_mask": lambda: torch.ones(1, 16, dtype=torch.int64)}
        return _Keywords(kind(settings), tuple(given)), tuple(draw() for draw in given.values())

    return make


def _tokens() -> dict[str, Callable[[], Tensor]]:
    return {"input_ids": lambda: ids(16)}


def _pixels(size: int = 64) -> dict[str, Callable[[], Tensor]]:
    return {"pixel_values": lambda: image(size)}


class _First(nn.Module):
    """One of the outputs of a network that returns several by name."""

    def __init__(self, network: nn.Module, key: str) -> None:
        super().__init__()
        self.network, self.key = network, key

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.network(*inputs)[self.key]
        assert isinstance(found, Tensor)
        return found


class _Keywords(nn.Module):
    """A network that is called by the names of its inputs, and its first output that is a tensor."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.network(**dict(zip(self.names, inputs, strict=True)), return_dict=False)
        while not isinstance(found, Tensor):
            found = found[0]
        return found


# --- written out: what people write themselves ----------------------------------------------------------------------


class _Recurrent(nn.Module):
    """A recurrent classifier of sequences."""

    def __init__(self, cell: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.cell = cell(8, 16, batch_first=True, **options)
        self.head = nn.Linear(16 * (2 if options.get("bidirectional") else 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.cell(x)[0][:, -1])
        return scores


class _Stateful(nn.Module):
    """One step of a recurrent network, whose state comes in and goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.cell, self.head = nn.Linear(12, 16), nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, (hidden, cell) = self.cell(functional.relu(self.encode(x)), (hidden, cell))
        return self.head(values[:, -1]), hidden, cell


class _ReadText(nn.Module):
    """A recognizer of lines of text: convolutions, then both directions of an LSTM (CRNN)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((4, 2))),
        )
        self.cell, self.head = nn.LSTM(64, 24, bidirectional=True), nn.Linear(48, 30)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)
        columns = maps.flatten(1, 2).permute(2, 0, 1)
        return functional.log_softmax(self.head(self.cell(columns)[0]), 2)


class _Recommender(nn.Module):
    """Ids of several lists and numbers; products of all pairs (DLRM)."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = nn.ModuleList(nn.Embedding(size, 8) for size in (50, 30, 20))
        self.numbers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 6, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        dense = self.numbers(numbers)
        rows = torch.stack([dense, *(table(places[:, i]) for i, table in enumerate(self.lists))], 1)
        products = torch.bmm(rows, rows.transpose(1, 2))
        above = torch.tensor([(i, j) for i in range(4) for j in range(i)]).T
        score: Tensor = self.top(torch.cat([dense, products[:, above[0], above[1]]], 1))
        return score


class _Factors(nn.Module):
    """A product of two embeddings beside a perceptron of both (neural collaborative filtering)."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(40, 12), nn.Embedding(60, 12)
        self.deep, self.head = nn.Sequential(nn.Linear(24, 16), nn.ReLU()), nn.Linear(28, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        u, i = self.users(user), self.items(item)
        return torch.sigmoid(self.head(torch.cat([u * i, self.deep(torch.cat([u, i], 1))], 1))).squeeze(1)


class _Points(nn.Module):
    """A classifier of clouds of points that turns them first (PointNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(*self._layers(3, 32), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 9))
        self.features = nn.Sequential(*self._layers(3, 64), *self._layers(64, 128))
        self.head = nn.Linear(128, 10)

    @staticmethod
    def _layers(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv1d(before, after, 1), nn.BatchNorm1d(after), nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.bmm(x.transpose(1, 2), self.turn(x).view(-1, 3, 3) + torch.eye(3)).transpose(1, 2)
        scores: Tensor = self.head(self.features(turned).amax(2))
        return scores


class _Gated(nn.Module):
    """Dilated convolutions with gates, residual and skipped (WaveNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(1, 16, 1), nn.Conv1d(16, 8, 1)
        self.inner = nn.ModuleList(nn.Conv1d(16, 32, 2, dilation=2**i) for i in range(4))
        self.outer = nn.ModuleList(nn.Conv1d(16, 16, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x, skipped = self.first(x), 0.0
        for index, (inner, outer) in enumerate(zip(self.inner, self.outer, strict=True)):
            value, gate = inner(functional.pad(x, (2**index, 0))).chunk(2, 1)
            moved = outer(torch.tanh(value) * torch.sigmoid(gate))
            x, skipped = x + moved, skipped + moved
        maps: Tensor = self.last(functional.relu(skipped))
        return maps


class _Separate(nn.Module):
    """Masks over an encoding of sound (Conv-TasNet): PReLU and norms over all of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, 32, 16, 8, bias=False), nn.ConvTranspose1d(32, 1, 16, 8, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv1d(32, 48, 1), nn.PReLU(), nn.GroupNorm(1, 48)),
                *(nn.Conv1d(48, 48, 3, padding=2**i, dilation=2**i, groups=48), nn.PReLU(), nn.GroupNorm(1, 48)),
                nn.Conv1d(48, 32, 1),
            )
            for i in range(3)
        )
        self.norm, self.mask = nn.GroupNorm(1, 32), nn.Sequential(nn.PReLU(), nn.Conv1d(32, 64, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        encoded = self.encode(x)
        values = self.norm(encoded)
        for block in self.blocks:
            values = values + block(values)
        masks = self.mask(values).view(-1, 2, 32, encoded.shape[-1])
        return torch.cat([self.decode(encoded * masks[:, i]) for i in range(2)], 1)


class _Turned(nn.Module):
    """A classifier that moves its picture first, by what it predicts (spatial transformer)."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Sequential(nn.Conv2d(1, 8, 7, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 11 * 11, 6))
        self.head = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(288, 10))

    def forward(self, x: Tensor) -> Tensor:
        grid = functional.affine_grid(self.where(x).view(-1, 2, 3), x.shape, align_corners=False)
        scores: Tensor = self.head(functional.grid_sample(x, grid, align_corners=False))
        return scores


class _Sines(nn.Module):
    """Layers of sines (SIREN), behind frequencies of positions (NeRF)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(12, 32), nn.Linear(32, 32)])
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([wave(x * 2.0**power) for power in range(2) for wave in (torch.sin, torch.cos)], 1)
        for layer in self.layers:
            x = torch.sin(3 * layer(x))
        return torch.cat([torch.sigmoid(self.head(x)[:, :3]), functional.relu(self.head(x)[:, 3:])], 1)


class _Unet3d(nn.Module):
    """A small 3-D U-net."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._block(1, 8), self._block(8, 16)])
        self.below, self.up = self._block(16, 32), nn.ConvTranspose3d(32, 16, 2, 2)
        self.right, self.head = self._block(32, 16), nn.Conv3d(24, 3, 1)

    @staticmethod
    def _block(before: int, after: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(before, after, 3, padding=1), nn.InstanceNorm3d(after, affine=True), nn.LeakyReLU(0.01)
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.down[0](x)
        second = self.down[1](functional.max_pool3d(first, 2))
        x = self.up(self.below(functional.max_pool3d(second, 2)))
        x = self.right(torch.cat([x, second], 1))
        x = functional.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
        maps: Tensor = self.head(torch.cat([x, first], 1))
        return maps


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        moved: Tensor = self.layers(x)
        return x + moved


def _style() -> nn.Module:
    """A network that paints pictures in a style: instance norms, reflections, nearest upsampling."""

    def layer(before: int, after: int, size: int, stride: int = 1) -> list[nn.Module]:
        return [
            nn.ReflectionPad2d(size // 2),
            nn.Conv2d(before, after, size, stride),
            nn.InstanceNorm2d(after, affine=True),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *layer(3, 16, 9),
        *layer(16, 32, 3, 2),
        *(_Residual(*layer(32, 32, 3), *layer(32, 32, 3)[:-1]) for _ in range(2)),
        nn.Upsample(scale_factor=2),
        *layer(32, 16, 3),
        nn.Conv2d(16, 3, 9, padding=4),
        nn.Tanh(),
    )


def _generator() -> nn.Module:
    """A generator of pictures from noise (DCGAN)."""
    return nn.Sequential(
        nn.Unflatten(1, (32, 1, 1)),
        *(nn.ConvTranspose2d(32, 32, 4, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh()),
    )


def _upscaler() -> nn.Module:
    """Super-resolution: PReLU, residuals, pixels shuffled (SRResNet)."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 9, padding=4), nn.PReLU()),
        *(
            _Residual(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(), nn.Conv2d(16, 16, 3, padding=1))
            for _ in range(3)
        ),
        *(nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(), nn.Conv2d(16, 3, 9, padding=4)),
    )


def _brain() -> nn.Module:
    """A classifier of EEG: depthwise, ELU, mean pools (EEGNet)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, (1, 32), padding=(0, 16), bias=False), nn.BatchNorm2d(8)),
        *(nn.Conv2d(8, 16, (16, 1), groups=8, bias=False), nn.BatchNorm2d(16), nn.ELU(), nn.AvgPool2d((1, 4))),
        *(nn.Conv2d(16, 16, (1, 16), padding=(0, 8), groups=16, bias=False), nn.Conv2d(16, 16, 1, bias=False)),
        *(nn.BatchNorm2d(16), nn.ELU(), nn.AvgPool2d((1, 8)), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 4)),
    )


class _Compare(nn.Module):
    """How alike two pictures are: one encoder twice, norms and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.SiLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 16)),
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = (functional.normalize(self.encode(x)) for x in (left, right))
        return (a * b).sum(1, keepdim=True) * 10


class _Classifier(nn.Module):
    """A classifier of texts by torch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(200, 32), nn.Parameter(torch.randn(1, 16, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encode(self.table(x) + self.places).mean(1))
        return scores


class _Spectrum(nn.Module):
    """Words in sound: a spectrogram by convolution, its logarithm, 1-D convolutions."""

    def __init__(self) -> None:
        super().__init__()
        time, frequency = torch.arange(128.0), torch.arange(33.0)[:, None]
        turns = 2 * torch.pi * time * frequency / 128
        window = torch.hann_window(128)
        self.register_buffer("waves", torch.cat([turns.cos(), turns.sin()])[:, None] * window)
        self.body = nn.Sequential(
            *(nn.Conv1d(33, 24, 3, padding=1), nn.BatchNorm1d(24), nn.Hardswish()),
            *(nn.Conv1d(24, 24, 3, padding=1), nn.BatchNorm1d(24), nn.Mish(), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
            nn.Linear(24, 12),
        )

    def forward(self, x: Tensor) -> Tensor:
        real, imaginary = functional.conv1d(x, self.waves, stride=64).chunk(2, 1)
        scores: Tensor = self.body(torch.log((real.square() + imaginary.square()).sqrt() + 1e-3))
        return scores


class _Kolmogorov(nn.Module):
    """Splines in place of weights (KAN, with radial basis functions)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, 8))
        self.layers = nn.ModuleList([nn.Linear(10 * 8, 12), nn.Linear(12 * 8, 4)])
        self.norms = nn.ModuleList([nn.LayerNorm(10), nn.LayerNorm(12)])

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = layer(torch.exp(-(((norm(x)[..., None] - self.grid) / 0.57) ** 2)).flatten(1))
        return x


def own(make: Callable[[], nn.Module], *inputs: Callable[[], Tensor]) -> Maker:
    return lambda: (make(), tuple(draw() for draw in inputs))


def noise(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(1, *shape)


_VISION = {
    **_SMALL,
    "image_size": 64,
    "patch_size": 16,
}

FAMILIES: dict[str, dict[str, Maker]] = {
    "rectifiers": {
        "resnet18": _torchvision("resnet18", 64),
        "resnext50": _torchvision("resnext50_32x4d", 64),
        "vgg11": _torchvision("vgg11_bn", 224),
        "alexnet": _torchvision("alexnet", 224),
        "squeezenet1_1": _torchvision("squeezenet1_1", 64),
        "densenet121": _torchvision("densenet121", 64),
        "googlenet": _torchvision("googlenet", 96, aux_logits=False, init_weights=False),
        "inception_v3": _torchvision("inception_v3", 96, aux_logits=False, init_weights=False),
        "shufflenet_v2_x0_5": _torchvision("shufflenet_v2_x0_5", 96),
        "mobilenet_v2": _torchvision("mobilenet_v2", 96),
        "mnasnet0_5": _torchvision("mnasnet0_5", 96),
        "regnet_x_400mf": _torchvision("regnet_x_400mf", 96),
        "repvgg_a0": _timm("repvgg_a0"),
        "hrnet_w18_small": _timm("hrnet_w18_small"),
        "dla34": _timm("dla34", 64),
        "efficientnet_lite0": _timm("efficientnet_lite0"),
        "cspresnet50": _timm("cspresnet50", 64),
        "vovnet19": _timm("ese_vovnet19b_dw", 96),
        "xception41": _timm("xception41", 96),
        "autoencoder": own(
            lambda: nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 64), nn.Sigmoid()), noise(64)
        ),
        "upscaler": own(_upscaler, lambda: image(24)),
        "pointnet": own(_Points, noise(3, 64)),
    },
    "gates": {
        "mobilenet_v3_small": _torchvision("mobilenet_v3_small", 96),
        "mobilenet_v3_large": _torchvision("mobilenet_v3_large", 96),
        "efficientnet_b0": _torchvision("efficientnet_b0", 96),
        "regnet_y_400mf": _torchvision("regnet_y_400mf", 96),
        "ghostnet_100": _timm("ghostnet_100"),
        "lcnet_050": _timm("lcnet_050"),
        "mixnet_s": _timm("mixnet_s"),
        "mobilenetv4_small": _timm("mobilenetv4_conv_small"),
        "rexnet_100": _timm("rexnet_100"),
        "resnest14d": _timm("resnest14d", 64),
        "skresnet18": _timm("skresnet18", 64),
        "seresnet18": _timm("legacy_seresnet18", 64),
        "ecaresnet26t": _timm("ecaresnet26t", 64),
        "gcresnet26": _timm("gcresnext26ts", 64),
        "hardcorenas_a": _timm("hardcorenas_a"),
        "cspdarknet53": _timm("cspdarknet53", 64),
        "starnet_s1": _timm("starnet_s1", 96),
        "repghostnet_050": _timm("repghostnet_050", 96),
        "fastvit_t8": _timm("fastvit_t8", 96),
        "mobileone_s0": _timm("mobileone_s0", 64),
        "wavenet": own(_Gated, noise(1, 64)),
        "siamese": own(_Compare, lambda: image(32), lambda: image(32)),
        "spectrum": own(_Spectrum, noise(1, 1024)),
    },
    "gelu": {
        "convmixer": _timm("convmixer_768_32", 56),
        "convnext_atto": _timm("convnext_atto", 64),
        "convnextv2_atto": _timm("convnextv2_atto", 64),
        "mixer_s32": _timm("mixer_s32_224", 96, img_size=96),
        "resmlp_12": _timm("resmlp_12_224", 96, img_size=96),
        "gmlp_ti16": _timm("gmlp_ti16_224", 96, img_size=96),
        "poolformer_s12": _timm("poolformer_s12", 64),
        "inception_next": _timm("inception_next_atto", 64),
        "focalnet": _timm("focalnet_tiny_srf", 64),
        "edgenext": _timm("edgenext_xx_small", 96),
        "mambaout": _timm("mambaout_femto", 64),
        "eegnet": own(_brain, noise(1, 16, 128)),
        "dcgan": own(_generator, noise(32)),
        "sines": own(_Sines, noise(3)),
    },
    "resize": {
        "unet": _smp("Unet"),
        "unetplusplus": _smp("UnetPlusPlus"),
        "fpn": _smp("FPN"),
        "linknet": _smp("Linknet"),
        "pspnet": _smp("PSPNet"),
        "pan": _smp("PAN", size=128),
        "manet": _smp("MAnet"),
        "deeplabv3plus": _smp("DeepLabV3Plus"),
        "segformer": _smp("Segformer"),
        "upernet": _smp("UPerNet"),
        "lraspp_mobilenet": _segmentation("lraspp_mobilenet_v3_large"),
        "deeplabv3_mobilenet": _segmentation("deeplabv3_mobilenet_v3_large"),
        "yolov5nu": _ultralytics("yolov5n"),
        "yolov8n": _ultralytics("yolov8n"),
        "yolov8n_seg": _ultralytics("yolov8n-seg"),
        "yolov8n_pose": _ultralytics("yolov8n-pose"),
        "yolov8n_cls": _ultralytics("yolov8n-cls"),
        "yolov10n": _ultralytics("yolov10n"),
        "yolo11n": _ultralytics("yolo11n"),
        "yolo12n": _ultralytics("yolo12n"),
        "rtdetr": _ultralytics("rtdetr-resnet50", 64),
    },
    "attention": {
        "vit_tiny": _timm("vit_tiny_patch16_224", 96, img_size=96, depth=3),
        "deit_tiny": _timm("deit_tiny_distilled_patch16_224", 96, img_size=96, depth=3),
        "cait_xxs24": _timm("cait_xxs24_224", 96, img_size=96, depth=3),
        "xcit_nano": _timm("xcit_nano_12_p16_224", 96, img_size=96, depth=3),
        "beit_tiny": _timm("beit_base_patch16_224", 96, img_size=96, depth=2, embed_dim=96, num_heads=4),
        "eva02_tiny": _timm("eva02_tiny_patch14_224", 56, img_size=56, depth=2),
        "swin_tiny": _timm("swin_tiny_patch4_window7_224", 56, img_size=56, depths=(2, 2, 2, 1)),
        "swinv2_tiny": _timm("swinv2_tiny_window8_256", 64, img_size=64, depths=(2, 2, 2, 1)),
        "levit_128s": _timm("levit_128s", 224),
        "efficientformer_l1": _timm("efficientformer_l1", 224),
        "efficientvit_b0": _timm("efficientvit_b0", 64),
        "efficientvit_m0": _timm("efficientvit_m0", 224),
        "mobilevit_xxs": _timm("mobilevit_xxs", 64),
        "mobilevitv2_050": _timm("mobilevitv2_050", 64),
        "pvt_v2_b0": _timm("pvt_v2_b0", 64),
        "coat_lite_tiny": _timm("coat_lite_tiny", 64, img_size=64),
        "crossvit_tiny": _timm("crossvit_tiny_240", 240),
        "twins": _timm("twins_svt_small", 64, img_size=64, depths=(1, 1, 2, 1)),
        "tnt": _timm("tnt_s_legacy_patch16_224", 96, img_size=96, depth=2),
        "volo": _timm("volo_d1_224", 64, img_size=64),
        "visformer_tiny": _timm("visformer_tiny", 64, img_size=64),
        "convit_tiny": _timm("convit_tiny", 96, img_size=96, depth=3),
        "davit_tiny": _timm("davit_tiny", 64, depths=(1, 1, 1, 1)),
        "nest_tiny": _timm("nest_tiny", 64, img_size=64),
        "hiera_tiny": _timm("hiera_tiny_224", 96, img_size=96, stages=(1, 1, 2, 1)),
        "tiny_vit_5m": _timm("tiny_vit_5m_224", 224),
        "maxvit_pico": _timm("maxvit_rmlp_pico_rw_256", 64, img_size=64),
        "coatnet_pico": _timm("coatnet_nano_rw_224", 64, img_size=64),
        "botnet26t": _timm("botnet26t_256", 64, img_size=64),
        "halonet26t": _timm("halonet26t", 256),
        "lambda_resnet26t": _timm("lambda_resnet26t", 64),
        "bat_resnext26ts": _timm("bat_resnext26ts", 256),
        "swiftformer_xs": _timm("swiftformer_xs", 64),
        "mobilenetv4_hybrid": _timm("mobilenetv4_hybrid_medium", 64),
        "repvit_m1": _timm("repvit_m1", 64),
        "naflexvit": _timm("vit_base_patch16_siglip_gap_224", 96, img_size=96, depth=2, embed_dim=96, num_heads=4),
        "vit_torchvision": lambda: _vit(),
        "bert": _transformers("BertModel", **_SMALL),
        "bert_classifier": _transformers("BertForSequenceClassification", **_SMALL),
        "distilbert": _transformers("DistilBertModel", dim=48, n_layers=2, n_heads=4, hidden_dim=96, vocab_size=200),
        "roberta": _transformers("RobertaModel", **_SMALL),
        "albert": _transformers("AlbertModel", embedding_size=24, **_SMALL),
        "electra": _transformers("ElectraModel", embedding_size=24, **_SMALL),
        "mobilebert": _transformers(
            "MobileBertModel", embedding_size=24, intra_bottleneck_size=24, true_hidden_size=24, **_SMALL
        ),
        "deberta_v2": _transformers(
            "DebertaV2Model", relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], **_SMALL
        ),
        "mpnet": _transformers("MPNetModel", **_SMALL),
        "modernbert": _transformers("ModernBertModel", pad_token_id=0, bos_token_id=1, eos_token_id=2, **_SMALL),
        "gpt2": _transformers("GPT2LMHeadModel", _tokens(), n_embd=48, n_layer=2, n_head=4, vocab_size=200),
        "gpt_neox": _transformers("GPTNeoXForCausalLM", _tokens(), use_cache=False, **_SMALL),
        "llama": _transformers("LlamaForCausalLM", _tokens(), num_key_value_heads=2, use_cache=False, **_SMALL),
        "qwen3": _transformers(
            "Qwen3ForCausalLM", _tokens(), num_key_value_heads=2, head_dim=12, use_cache=False, **_SMALL
        ),
        "gemma2": _transformers(
            "Gemma2ForCausalLM", _tokens(), num_key_value_heads=2, head_dim=12, use_cache=False, **_SMALL
        ),
        "phi": _transformers("PhiForCausalLM", _tokens(), use_cache=False, **_SMALL),
        "opt": _transformers(
            *("OPTForCausalLM", _tokens()),
            hidden_size=48,
            ffn_dim=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            vocab_size=200,
            word_embed_proj_dim=48,
            use_cache=False,
        ),
        "bloom": _transformers(
            "BloomForCausalLM", _tokens(), hidden_size=48, n_layer=2, n_head=4, vocab_size=200, use_cache=False
        ),
        "t5_encoder": _transformers(
            "T5EncoderModel", d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4, vocab_size=200
        ),
        "whisper_encoder": lambda: _whisper(),
        "clip_text": _transformers("CLIPTextModel", _tokens(), **_SMALL, eos_token_id=2),
        "clip_vision": _transformers("CLIPVisionModel", _pixels(), **_VISION),
        "siglip_vision": _transformers("SiglipVisionModel", _pixels(), **_VISION),
        "dinov2": _transformers("Dinov2Model", _pixels(), **_VISION),
        "vit_transformers": _transformers("ViTForImageClassification", _pixels(), **_VISION),
        "yolos": _transformers(
            "YolosForObjectDetection", _pixels(), **{**_VISION, "image_size": [64, 64]}, num_detection_tokens=8
        ),
        "segformer_transformers": _transformers(
            *("SegformerForSemanticSegmentation", _pixels()),
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 1, 1],
            decoder_hidden_size=32,
        ),
        "depth_anything": lambda: _depth(),
        "ast": _transformers(
            *("ASTModel", {"input_values": lambda: torch.randn(1, 64, 32)}),
            **_SMALL,
            max_length=64,
            num_mel_bins=32,
        ),
        "wav2vec2": _transformers(
            *("Wav2Vec2ForCTC", {"input_values": lambda: torch.randn(1, 3200)}),
            **_SMALL,
            conv_dim=(32, 32, 32, 32, 32, 32, 32),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        ),
        "patchtst": _transformers(
            *("PatchTSTForPrediction", {"past_values": lambda: torch.randn(1, 64, 3)}),
            num_input_channels=3,
            context_length=64,
            patch_length=8,
            patch_stride=8,
            d_model=24,
            num_attention_heads=4,
            num_hidden_layers=2,
            ffn_dim=48,
            prediction_length=8,
            scaling=None,
        ),
        "mamba": _transformers(
            *("MambaForCausalLM", _tokens()),
            hidden_size=24,
            num_hidden_layers=2,
            vocab_size=200,
            state_size=4,
            time_step_rank=4,
            use_cache=False,
        ),
    },
    "norms": {
        "style": own(_style, lambda: image(32)),
        "convtasnet": own(_Separate, noise(1, 512)),
        "resnetv2_bit": _timm("resnetv2_50x1_bit", 64),
        "resnet50_gn": _timm("resnet50_gn", 64),
        "nfnet": _timm("nf_resnet26", 64),
        "nf_regnet_b0": _timm("nf_regnet_b0", 64),
        "dm_nfnet": _timm("dm_nfnet_f0", 64),
        "evonet": _timm("resnetv2_50d_evos", 64, layers=(1, 1, 1, 1)),
        "kolmogorov": own(_Kolmogorov, noise(10)),
    },
    "volumes": {
        "r3d_18": _video("r3d_18", 4, 32),
        "mc3_18": _video("mc3_18", 4, 32),
        "r2plus1d_18": _video("r2plus1d_18", 4, 32),
        "swin3d_t": _video("swin3d_t", 4, 32),
        "unet3d": own(_Unet3d, noise(1, 8, 16, 16)),
    },
    "recurrent": {
        "lstm": own(lambda: _Recurrent(nn.LSTM), noise(10, 8)),
        "lstm_two_layers": own(lambda: _Recurrent(nn.LSTM, num_layers=2), noise(10, 8)),
        "lstm_bidirectional": own(lambda: _Recurrent(nn.LSTM, bidirectional=True), noise(10, 8)),
        "gru": own(lambda: _Recurrent(nn.GRU), noise(10, 8)),
        "gru_bidirectional": own(lambda: _Recurrent(nn.GRU, bidirectional=True, num_layers=2), noise(10, 8)),
        "rnn": own(lambda: _Recurrent(nn.RNN), noise(10, 8)),
        "rnn_relu": own(lambda: _Recurrent(nn.RNN, nonlinearity="relu"), noise(10, 8)),
        "lstm_states": own(_Stateful, noise(1, 12), lambda: torch.randn(1, 1, 16), lambda: torch.randn(1, 1, 16)),
        "crnn": own(_ReadText, lambda: torch.randn(1, 1, 16, 48)),
        "sequencer": _timm("sequencer2d_s", 64, img_size=64, layers=(1, 1, 1, 1)),
    },
    "integers": {
        "recommender": own(_Recommender, noise(6), lambda: torch.randint(0, 20, (1, 3))),
        "factors": own(_Factors, lambda: torch.randint(0, 40, (1,)), lambda: torch.randint(0, 60, (1,))),
        "text": own(_Classifier, lambda: ids(16)),
        "text_convolutions": own(lambda: _text_convolutions(), lambda: ids(24)),
        "stn": own(_Turned, lambda: image(28, 1)),
    },
    # As they are used: what takes time and memory.
    "large": {
        "vgg16": _torchvision("vgg16", 224),
        "resnet50": _torchvision("resnet50", 224),
        "efficientnet_b0_224": _torchvision("efficientnet_b0", 224),
        "vit_b_16": _torchvision("vit_b_16", 224),
        "yolov8n_640": _ultralytics("yolov8n", 640),
        "s3d": _video("s3d", 16, 224),
        "mvit_v1": _video("mvit_v1_b", 16, 224),
    },
}

ARCHITECTURES: dict[str, Maker] = {name: make for members in FAMILIES.values() for name, make in members.items()}


def _vit() -> Made:
    _torchvision("alexnet", 64)()
    package = importlib.import_module("torchvision.models.vision_transformer")
    return package.VisionTransformer(64, 16, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128), (image(64),)


def _whisper() -> Made:
    """The encoder alone: the decoder writes word by word."""
    package = importlib.import_module("transformers")
    settings = package.WhisperConfig(
        d_model=48, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=96, num_mel_bins=20, vocab_size=200,
        decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=96, max_source_positions=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    network = package.WhisperModel(settings).encoder
    return _Keywords(network, ("input_features",)), (torch.randn(1, 20, 64),)


def _depth() -> Made:
    package = importlib.import_module("transformers")
    backbone = package.Dinov2Config(
        **_VISION, out_features=["stage1", "stage2"], reshape_hidden_states=False, apply_layernorm=True
    )
    settings = package.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=48, patch_size=16, neck_hidden_sizes=[24, 48],
        reassemble_factors=[2, 1], fusion_hidden_size=24, head_hidden_size=16,
    )  # fmt: skip
    return _Keywords(package.DepthAnythingForDepthEstimation(settings), ("pixel_values",)), (image(64),)


def _text_convolutions() -> nn.Module:
    """Convolutions over embeddings of words."""

    class _Transposed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.transpose(1, 2)

    return nn.Sequential(
        *(nn.Embedding(200, 16), _Transposed(), nn.Conv1d(16, 32, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1)),
        *(nn.Flatten(), nn.Linear(32, 4)),
    )


# --- sane values, and the file --------------------------------------------------------------------------------------


def settle(network: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Draw what is constant, and let batch normalization take its statistics from noise."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.numel() < 2 or bool((parameter != parameter.flatten()[0]).any()):
                continue
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(0, 0.02)
            elif name.endswith("bias") or not parameter.any():
                parameter.normal_(0, 0.1)
            else:
                parameter.uniform_(0.5, 1.5)
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            network.eval()
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()
                    module.momentum = 1.0
            network(
                *(torch.randn(4, *x.shape[1:]) if x.is_floating_point() else x.expand(4, *x.shape[1:]) for x in inputs)
            )
    network.eval()


def export(network: nn.Module, inputs: Sequence[Tensor], path: Path) -> str:
    """Write the network as torch does at opset 17, or as its default exporter does where that fails; return which.

    Raises what onnxruntime raises where it cannot run that either.
    """
    names = names_of(inputs)
    try:
        torch.onnx.export(network, tuple(inputs), str(path), dynamo=False, opset_version=17, input_names=names)
        _run(path, inputs)
        return "opset 17"
    except Exception as failure:
        print(f"opset 17: {str(failure).splitlines()[0]}", file=sys.stderr)
    torch.onnx.export(network, tuple(inputs), str(path), dynamo=True, external_data=False, input_names=names)
    _run(path, inputs)
    return "default exporter"


def _run(path: Path, inputs: Sequence[Tensor]) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, {name: x.numpy() for name, x in zip(names_of(inputs), inputs, strict=True)})


def names_of(inputs: Sequence[Tensor]) -> list[str]:
    """Return what the inputs of a file are called."""
    return [f"input{index}" if index else "input" for index in range(len(inputs))]


def main() -> None:
    warnings.simplefilter("ignore")
    if len(sys.argv) == 1:
        print(json.dumps({family: list(members) for family, members in FAMILIES.items()}))
        return
    name, file = sys.argv[1:]
    torch.manual_seed(0)
    network, inputs = ARCHITECTURES[name]()
    settle(network, inputs)
    path = Path(f"{file}.onnx")
    print(export(network, inputs, path))
    np.savez(f"{file}.npz", **{key: x.numpy() for key, x in zip(names_of(inputs), inputs, strict=True)})


if __name__ == "__main__":
    main()
