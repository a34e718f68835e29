"""Trained networks whose weights ship in Python packages, rebuilt in plain torch, and what they take; for modern.py."""

import itertools
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# --- a sentence encoder: all-MiniLM-L6-v2 ---------------------------------------------------------------------------

_KINDS = {"F32": np.float32, "I64": np.int64}
_SPLIT = re.compile(r"\w+|[^\w\s]")


def safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of named tensors: the length of a header, the header, and bytes."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[first:last], _KINDS[entry["dtype"]]).reshape(entry["shape"])
            found[name] = torch.from_numpy(array.copy())
    return found


class _Layer(nn.Module):
    """Attention, then two linear layers, each added to what it read and normalized."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.first, self.second = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (one(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (self.query, self.key, self.value))
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norms[0](x + self.mix(read.transpose(1, 2).flatten(2)))
        normal: Tensor = self.norms[1](x + self.second(functional.gelu(self.first(x))))
        return normal


class SentenceEncoder(nn.Module):
    """all-MiniLM-L6-v2: a BERT of six layers, the mean over tokens, and unit length."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        how = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        width = how["hidden_size"]
        self.words = nn.Embedding(how["vocab_size"], width)
        self.places = nn.Embedding(how["max_position_embeddings"], width)
        self.kinds = nn.Embedding(how["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            _Layer(width, how["num_attention_heads"], how["intermediate_size"]) for _ in range(how["num_hidden_layers"])
        )
        weights = safetensors(folder / "model.safetensors")
        self.load_state_dict(
            {_own_name(name): tensor for name, tensor in weights.items() if not name.startswith("pooler")}, strict=False
        )
        self.eval()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        weights = mask.unsqueeze(-1).to(torch.float32)
        # onnxruntime wants a row for every token.
        alone = weights.transpose(1, 2).unsqueeze(1).expand(-1, -1, ids.shape[1], -1)
        added = (1 - alone) * torch.finfo(torch.float32).min
        x = self.words(ids) + self.places.weight[: ids.shape[1]] + self.kinds.weight[0]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, added)
        return functional.normalize((x * weights).sum(1) / weights.sum(1))


_NAMES = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "kinds",
    "embeddings.LayerNorm": "norm",
    "encoder.layer": "layers",
    "attention.self.": "",
    "attention.output.dense": "mix",
    "attention.output.LayerNorm": "norms.0",
    "intermediate.dense": "first",
    "output.dense": "second",
    "output.LayerNorm": "norms.1",
}


def _own_name(name: str) -> str:
    for theirs, ours in _NAMES.items():
        name = name.replace(theirs, ours)
    return name


def tokens(texts: Sequence[str], vocabulary: Path, length: int) -> dict[str, NDArray[np.int64]]:
    """Cut texts into word pieces (lower case, the longest piece first) and pad them to one length."""
    known = {piece: number for number, piece in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}
    ids = np.zeros((len(texts), length), np.int64)
    for row, text in zip(ids, texts, strict=True):
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        found = [piece for word in _SPLIT.findall(plain.replace("_", " _ ")) for piece in _pieces(word, known)]
        found = ["[CLS]", *found[: length - 2], "[SEP]"]
        row[: len(found)] = [known[piece] for piece in found]
    return {"ids": ids, "mask": (ids != known["[PAD]"]).astype(np.int64)}


def _pieces(word: str, known: dict[str, int]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        front = "##" if start else ""
        stop = next((end for end in range(len(word), start, -1) if front + word[start:end] in known), 0)
        if not stop:
            return ["[UNK]"]
        pieces.append(front + word[start:stop])
        start = stop
    return pieces


def sentences(texts: Sequence[str]) -> list[str]:
    """Return what in texts is a sentence, each once."""
    parts = (part for text in texts for part in re.split(r"(?<=[.!?])\s+|\n\s*\n|\n\s*[-*#|] ?", text))
    plain = (re.sub(r"\s+", " ", part.replace("`", "")).strip() for part in parts)
    return [*dict.fromkeys(part for part in plain if 30 <= len(part) <= 240 and part[0].isalpha() and " " in part)]


# --- a pitch tracker: CREPE -----------------------------------------------------------------------------------------


class Pitch(nn.Module):
    """CREPE in its tiny form: six convolutions over 1,024 samples of sound, each rectified, normalized and pooled."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        widths = [1, 128, 16, 16, 16, 32, 64]
        for index, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            size, stride = ((512, 1), (4, 1)) if index == 1 else ((64, 1), (1, 1))
            setattr(self, f"conv{index}", nn.Conv2d(before, after, size, stride))
            setattr(self, f"conv{index}_BN", nn.BatchNorm2d(after, eps=0.0010000000474974513))
        self.classifier = nn.Linear(256, 360)
        self.load_state_dict(weights)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, :, None]
        for index in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if index == 1 else (0, 0, 31, 32))
            x = getattr(self, f"conv{index}_BN")(functional.relu(getattr(self, f"conv{index}")(x)))
            x = functional.max_pool2d(x, (2, 1))
        scores: Tensor = self.classifier(x.permute(0, 2, 1, 3).reshape(-1, 256))
        return torch.sigmoid(scores)


class PitchInSemitones(nn.Module):
    """CREPE and what turns its 360 likelihoods into a pitch: their mean, weighted by the fourth power.

    In semitones above 10 Hz: bins are a fifth of one apart. What CREPE does in its stead, the mean of the bins around
    the largest, is no network's.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.bins = Pitch(weights)
        self.register_buffer("semitones", 19.973794 + torch.arange(360) / 5)

    def forward(self, x: Tensor) -> Tensor:
        likely = self.bins(x) ** 4
        found: Tensor = (likely * self.semitones).sum(1, keepdim=True) / likely.sum(1, keepdim=True)
        return found


def tones(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return frames of 1,024 samples at 16 kHz of tones with overtones and noise, as CREPE takes them.

    And their pitch in the middle of the frame, in semitones above 10 Hz.
    """
    generator = np.random.default_rng(seed)
    time = np.arange(1024) / 16000
    frames = np.zeros((count, 1024))
    pitches = []
    for frame in frames:
        pitch, fade = 2 ** generator.uniform(np.log2(60), np.log2(1500)), generator.uniform(0.3, 2)
        bend = generator.uniform(-0.02, 0.02)
        pitches.append(12 * np.log2(pitch * (1 + bend * 1024 / 16000) / 10))
        for overtone in range(1, 12):
            turns = overtone * pitch * (time + bend * time**2)
            frame += np.sin(2 * np.pi * (turns + generator.random())) / overtone**fade * (overtone * pitch < 7600)
        frame += generator.uniform(0.01, 0.3) * generator.standard_normal(1024)
    frames -= frames.mean(1, keepdims=True)
    return (frames / frames.std(1, keepdims=True)).astype(np.float32), np.array(pitches, np.float32)


# --- a classifier of images: EfficientNet-Lite0 ---------------------------------------------------------------------


def efficientnet_lite0(code: Path, weights: Path) -> nn.Module:
    """Return the network as the package that goes with the weights defines it."""
    sys.path.insert(0, str(code))
    import efficientnet_lite_pytorch

    network = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(next(weights.rglob("*.pth")), weights_only=True))
    made: nn.Module = network.eval()
    return made


# --- a vision transformer -------------------------------------------------------------------------------------------


class _Attention(nn.Module):
    """torch's own attention, from matrices that are kept apart; what it reads is scaled and shifted first."""

    def __init__(self, weights: dict[str, Tensor], heads: int) -> None:
        super().__init__()
        width = weights["out.weight"].shape[0]
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        with torch.no_grad():
            for kind in ("weight", "bias"):
                both = torch.cat([weights[f"{part}.{kind}"] for part in ("query", "key", "value")])
                getattr(self.attend, f"in_proj_{kind}").copy_(both)
                getattr(self.attend.out_proj, kind).copy_(weights[f"out.{kind}"])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.attend(x, x, x, need_weights=False)[0]
        return found


class VisionTransformer(nn.Module):
    """A vision transformer whose norms are those of batches, which fold into the linear layers behind them.

    Made from the constants of its ONNX file, by their names; ``products`` are its matrices in their order there.
    """

    def __init__(self, constants: dict[str, Tensor], products: Sequence[Tensor], heads: int) -> None:
        super().__init__()
        kernel = constants["0.projection.weight"]
        self.patches = nn.Conv2d(*kernel.shape[1::-1], kernel.shape[-1], kernel.shape[-1])
        self.patches.load_state_dict({"weight": kernel, "bias": constants["0.projection.bias"]})
        self.token = nn.Parameter(constants["0.cls_token"].view(1, 1, -1))
        self.places = nn.Parameter(constants["0.positions"])
        matrices: Iterator[Tensor] = iter(products)
        self.attentions, self.perceptrons = nn.ModuleList(), nn.ModuleList()
        for index in range(sum(name.endswith("fn.1.out.bias") for name in constants)):
            front = f"1.{index}.0.fn"
            folded = _folded(constants, f"{front}.0.norm")
            parts: dict[str, Tensor] = {}
            for part in ("query", "key", "value"):
                weight, bias = next(matrices), constants[f"{front}.1.{part}.bias"]
                parts |= dict(zip((f"{part}.weight", f"{part}.bias"), folded(weight.T, bias), strict=True))
            parts |= {"out.weight": next(matrices).T, "out.bias": constants[f"{front}.1.out.bias"]}
            self.attentions.append(_Attention(parts, heads))
            front = f"1.{index}.1.fn"
            first = _linear(*_folded(constants, f"{front}.0.norm")(next(matrices).T, constants[f"{front}.1.0.bias"]))
            second = _linear(next(matrices).T, constants[f"{front}.1.3.bias"])
            self.perceptrons.append(nn.Sequential(first, nn.ReLU(), second))
        self.head = _linear(*_folded(constants, "2.1")(constants["2.2.weight"], constants["2.2.bias"]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        for attention, perceptron in zip(self.attentions, self.perceptrons, strict=True):
            x = x + attention(x)
            x = x + perceptron(x)
        scores: Tensor = self.head(x.mean(1))
        return scores


def _folded(constants: dict[str, Tensor], norm: str) -> Any:
    """Return what takes a linear layer to the same with a batch norm in front of it."""
    mean, variance = constants[f"{norm}.running_mean"], constants[f"{norm}.running_var"]
    scale = constants[f"{norm}.weight"] / (variance + 1e-5).sqrt()
    shift = constants[f"{norm}.bias"] - mean * scale
    return lambda weight, bias: (weight * scale, bias + weight @ shift)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(*weight.shape[::-1])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
