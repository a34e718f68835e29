"""Transformers as torch exports them, by either exporter: read, and alike to what onnxruntime computes."""

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc import ops
from snnc.frontend import read_model
from snnc.ir import Graph
from snnc.run import ONCE
from snnc.schedule import Schedule
from tests.support import run

WIDTH, HEADS, LENGTH, WORDS = 16, 4, 9, 30


class Block(nn.Module):
    """One layer of an encoder, of a decoder (causal), or of one with rotations, gates and shared keys (modern)."""

    def __init__(self, *, causal: bool = False, modern: bool = False) -> None:
        super().__init__()
        self.causal, self.modern = causal, modern
        self.keys = HEADS // 2 if modern else HEADS
        inner = self.keys * WIDTH // HEADS
        self.first, self.second = (nn.RMSNorm(WIDTH, eps=1e-6) if modern else nn.LayerNorm(WIDTH) for _ in range(2))
        self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, inner), nn.Linear(WIDTH, inner)
        self.o, self.gate = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(3 * WIDTH, WIDTH)

    def heads(self, x: Tensor, count: int) -> Tensor:
        return x.view(len(x), LENGTH, count, WIDTH // HEADS).transpose(1, 2)

    def rotated(self, x: Tensor) -> Tensor:
        half = WIDTH // HEADS // 2
        angles = torch.arange(LENGTH)[:, None] / 100 ** (torch.arange(half) / half)
        cosine, sine = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
        return x * cosine + torch.cat([-x[..., half:], x[..., :half]], -1) * sine

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.first(x)
        q, k, v = self.heads(self.q(y), HEADS), self.heads(self.k(y), self.keys), self.heads(self.v(y), self.keys)
        if self.modern:
            q, k = self.rotated(q), self.rotated(k)
            k, v = (part.repeat_interleave(HEADS // self.keys, 1) for part in (k, v))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        x = x + self.o(found.transpose(1, 2).reshape(len(x), LENGTH, WIDTH))
        y = self.second(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y) if self.modern else F.gelu(self.up(y)))


class Sentence(nn.Module):
    """Embeddings of tokens, places and kinds, a mask of what is padding, and the mean of what is not, of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.norm, self.block = nn.LayerNorm(WIDTH, eps=1e-12), Block()

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        x = self.norm(self.words(ids) + self.places(torch.arange(LENGTH)))
        mask = (1 - attention[:, None, None, :].float()) * torch.finfo(torch.float32).min
        y, seen = self.block(x, mask), attention[..., None].float()
        return F.normalize((y * seen).sum(1) / seen.sum(1).clamp(min=1e-9), dim=-1) * 2


class Language(nn.Module):
    """A language model: the scores of the next token, at every place."""

    def __init__(self, *, modern: bool) -> None:
        super().__init__()
        self.words, self.block = nn.Embedding(WORDS, WIDTH), Block(causal=True, modern=modern)
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.norm(self.block(self.words(ids))))


class Picture(nn.Module):
    """A vision transformer of 2 x 4 patches and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, WIDTH, 4, 4), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.places, self.block = nn.Parameter(torch.randn(1, LENGTH, WIDTH)), Block()
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.out(self.norm(self.block(x))[:, 0])


IDS = torch.arange(3, 3 + LENGTH)[None]
SEEN = torch.ones_like(IDS).masked_fill(IDS > 9, 0)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "sentence": (Sentence, (IDS, SEEN)),
    "language": (lambda: Language(modern=False), (IDS,)),
    "modern language": (lambda: Language(modern=True), (IDS,)),
    "picture": (Picture, (torch.randn(1, 3, 8, 16, generator=torch.Generator().manual_seed(0)),)),
}
EXPORTERS = {"traced 14": (False, 14), "traced 17": (False, 17), "captured 18": (True, 18), "captured 23": (True, 23)}
# Each takes seconds; between them they have every spelling.
EXPORTED = [
    ("sentence", "traced 17"),
    ("sentence", "captured 18"),
    ("language", "traced 14"),
    ("modern language", "captured 23"),
    ("picture", "traced 17"),
]


def exported(name: str, exporter: str, path: Path) -> Graph:
    build, example = NETWORKS[name]
    captured, opset = EXPORTERS[exporter]
    torch.manual_seed(0)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        names = [f"in{index}" for index in range(len(example))]
        torch.onnx.export(build().eval(), example, path, input_names=names, dynamo=captured, opset_version=opset)
    # Reading compares with onnxruntime.
    return read_model(path).graph


@pytest.mark.parametrize(("name", "exporter"), EXPORTED)
def test_a_transformer_is_read(name: str, exporter: str, tmp_path: Path) -> None:
    graph = exported(name, exporter, tmp_path / "m.onnx")
    counts = {kind: len(graph.ops(kind)) for kind in (ops.MatMul, ops.Softmax, ops.RootMeanSquareNorm, ops.Sqrt)}
    norms = 2 + (name in ("language", "modern language", "picture")) + 2 * (name == "sentence")
    assert counts == {ops.MatMul: 2, ops.Softmax: 1, ops.RootMeanSquareNorm: norms, ops.Sqrt: 0}
    assert bool(graph.ops(ops.Gelu)) == (name != "modern language")
    torch.manual_seed(0)
    build, example = NETWORKS[name]
    with torch.no_grad():
        wanted = build().eval()(*example)
    given = {value: part.float().unsqueeze(0) for value, part in zip(graph.inputs, example, strict=True)}
    (found,) = run(graph, given, graph.outputs, ONCE).values()
    torch.testing.assert_close(found[0], wanted, rtol=1e-4, atol=1e-4)
    # Lifted to trains, what is constant stays what it is, asleep too.
    (train,) = run(graph, given, graph.outputs, Schedule(3, sleep=2)).values()
    torch.testing.assert_close(train[:3].mean(0), wanted, rtol=1e-3, atol=1e-3)
    assert train.isfinite().all()
