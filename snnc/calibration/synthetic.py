"""Synthetic samples: what a trained network shows of itself where nobody has data.

Images are dead leaves with evidence. Leaves, in pixels: disks of all sizes, one painted over the other, whose edges and
surfaces have the statistics of photographs (Lee, Mumford and Huang, IJCV 2001). Evidence: from there, a few steps

    x ← clip(x − ε · ‖x‖ · g/‖g‖)

along the gradient g of the cross-entropy toward an output drawn for each image. Leaves excite early layers as images
do (white noise has the wrong spectrum), evidence the late ones: no synthetic picture excites by itself what a class
excites. Where outputs are no classes, g is that of minus the size of one output drawn at random. Arrays of other ranks
begin as smoothed noise.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from snnc.analysis.work import macs
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples, Progress, Samples, silent
from snnc.data.transform import Transform
from snnc.feeds import Feeds
from snnc.ir import Graph, Input
from snnc.ops import Quantized
from snnc.run import Program

# So many samples; fewer where the network is so large that they would take longer than minutes.
_SAMPLES = 128
_FEWEST = 4
# In multiply-accumulates of one evaluation, to which a number that is made counts as so many (found by timing).
_WORK, _NUMBER = 1 << 38, 256
# Numbers that are kept for a gradient, of as many samples at once as that makes.
_KEPT = 1 << 26

# Leaves: so many for each patch of this side, the smallest of this radius.
_LEAVES, _PATCH, _RADIUS = 40, 32, 1.5

# Evidence: steps, and the share of a sample's own size that each of them goes.
_STEPS = 8
_SHARE = 0.02

# What has more channels is no picture.
_COLORS = 4

# What pixels are standardized by where nobody says it: about the mean and the deviation of photographs.
_MEAN, _DEVIATION = 0.45, 0.225

_UNBOUNDED = torch.tensor(torch.inf)


@dataclass(frozen=True, eq=False)
class _Start:
    """What the samples of one input begin as, ``[N, ...]``, and between what they move; None where they stay."""

    kind: str
    values: Tensor
    edges: tuple[Tensor, Tensor] | None = None


@final
class SyntheticSamples(Samples):
    """Samples made from a trained network alone, the same for the same ``seed``; ``count`` of them, if given.

    They are made when they are first asked for, and kept. Raises DataError where the preprocessing does not fit.
    """

    def __init__(
        self,
        graph: Graph,
        preprocessing: Preprocessing,
        seed: int = 0,
        count: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self._graph = graph
        self._preprocessing = preprocessing
        self._seed = seed
        self._count = count or max(_FEWEST, min(_SAMPLES, _WORK // _work(graph)))
        self._progress = progress

    def __len__(self) -> int:
        return self._count

    def batches(self) -> Iterator[Feeds]:
        return self._made.batches()

    def chosen(self, numbers: Sequence[int]) -> Samples:
        return self._made.chosen(numbers)

    @property
    def kinds(self) -> Mapping[str, str] | None:
        """Of what kind the samples of each input are; None where nobody has looked at them."""
        made = self.__dict__.get("_begun")
        return None if made is None else {name: start.kind for name, start in made[0].items()}

    @cached_property
    def _made(self) -> MemorySamples:
        starts, goals = self._begun
        # What rounds to levels has no gradient.
        rounded = self._graph.ops(Quantized).items()
        graph = Program(self._graph.with_ops({name: op.clipped() for name, op in rounded})).graph
        size = max(1, min(self._count, _KEPT // _numbers(self._graph)))
        parts: list[dict[str, Tensor]] = []
        for first in range(0, self._count, size):
            self._progress("making synthetic samples", first, self._count)
            chosen = slice(first, first + size)
            parts.append(_ascended(graph, starts, chosen, goals[chosen]))
        self._progress("making synthetic samples", self._count, self._count)
        return MemorySamples(Feeds({name: torch.cat([part[name] for part in parts]) for name in starts}), size)

    @cached_property
    def _begun(self) -> tuple[dict[str, _Start], Tensor]:
        """What samples begin as, and the output that each is to excite."""
        generator = Generator().manual_seed(self._seed)
        starts = {name: self._start(op, generator) for name, op in self._graph.ops(Input).items()}
        outputs = sum(map(math.prod, self._graph.output_shapes))
        return starts, torch.randint(outputs, (self._count,), generator=generator)

    def _start(self, op: Input, generator: Generator) -> _Start:
        if op.numbers == "integer":
            ids = torch.randint(max(1, op.below), (self._count, *op.shape), generator=generator).float()
            return _Start("ids", ids) if op.below else _Start("masks", torch.ones_like(ids))
        how, kind = self._preprocessing, "images"
        if op.numbers == "real" and not how.mean and not how.std and how.scale == Preprocessing.scale:
            how, kind = replace(how, mean=(_MEAN,), std=(_DEVIATION,)), "standardized images"
        transform = Transform(how, op)
        if not transform.is_image or transform.channels > _COLORS:
            return _Start("noise", _noise(self._count, op.shape, generator), (-_UNBOUNDED, _UNBOUNDED))

        def sample(pixels: Tensor) -> Tensor:
            return torch.from_numpy(transform((pixels * (255 * transform.scale)).numpy(), place=""))

        images = leaves(self._count, transform.height, transform.width, transform.channels, generator)
        edges = sample(torch.zeros_like(images[0])), sample(torch.ones_like(images[0]))
        return _Start(kind, torch.stack([*map(sample, images)]), edges)


def leaves(count: int, height: int, width: int, channels: int, generator: Generator) -> Tensor:
    """Draw dead leaves in pixels from 0 to 1, ``[count, height, width, channels]``."""
    number = math.ceil(_LEAVES * height * width / _PATCH**2)
    low, high = _RADIUS**-2, max(_RADIUS, min(height, width) / 2) ** -2
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    drawn = torch.empty(count, height, width, channels)
    for picture in drawn:
        base = torch.rand(channels, generator=generator)
        spread = 0.1 + 0.4 * torch.rand(1, generator=generator)
        # Densities that fall with the cube of the radius, by the inverse of their distribution.
        share = torch.rand(number, generator=generator)
        radii = ((1 - share) * low + share * high).rsqrt().tolist()
        places = (torch.rand(number, 2, generator=generator) * torch.tensor([height, width])).tolist()
        colors = (base + spread * torch.randn(number, channels, generator=generator)).clamp_(0, 1).numpy()
        picture[:] = base
        canvas = picture.numpy()
        for radius, (y, x), color in zip(radii, places, colors, strict=True):
            down, right = (slice(max(0, int(at - radius)), int(at + radius) + 1) for at in (y, x))
            canvas[down, right][(rows[down] - y) ** 2 + (columns[right] - x) ** 2 <= radius**2] = color
    return drawn


def _noise(count: int, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Return standard normal values, each sample smoothed along all axes but the first one, over a width of its own."""
    drawn = torch.randn(count, *shape, generator=generator)
    for sample in drawn:
        share = float(torch.rand(1, generator=generator))
        for axis, size in enumerate(shape[1:], 1):
            # From none to a quarter of the axis; all orders of magnitude are as likely.
            width = round(max(1.0, size / 4) ** share)
            window = torch.cat([sample, sample.narrow(axis, 0, width - 1)], axis).unfold(axis, width, 1)
            sample[:] = window.sum(-1) / math.sqrt(width)
    return drawn


def _ascended(graph: Graph, starts: Mapping[str, _Start], chosen: slice, goals: Tensor) -> dict[str, Tensor]:
    """Return some samples with evidence."""
    x = {name: start.values[chosen] for name, start in starts.items()}
    moving = {name: start.edges for name, start in starts.items() if start.edges is not None}
    for _ in range(_STEPS if moving else 0):
        tried = {name: x[name].requires_grad_() for name in moving}
        loss = _loss(_outputs(graph, x), goals)
        if not loss.requires_grad:
            break
        slopes = torch.autograd.grad(loss, [*tried.values()], materialize_grads=True)
        for (name, edges), slope in zip(moving.items(), slopes, strict=True):
            values = x[name].detach()
            x[name] = torch.clamp(values - _SHARE * _sizes(values) * _directions(slope), *edges)
    return {name: values.detach() for name, values in x.items()}


def _outputs(graph: Graph, inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
    values = dict(inputs)
    for name, node in graph.nodes.items():
        if name not in values:
            values[name] = node.op(*(values[value] for value in node.inputs))
    return [values[name] for name in graph.outputs]


def _loss(outputs: Sequence[Tensor], goals: Tensor) -> Tensor:
    flat = torch.cat([output.flatten(1) for output in outputs], 1)
    classes = len(outputs) == 1 and outputs[0].ndim == 2 and flat.shape[1] > 1
    return F.cross_entropy(flat, goals, reduction="sum") if classes else -flat.gather(1, goals[:, None]).abs().sum()


def _directions(slope: Tensor) -> Tensor:
    finite = slope.nan_to_num(0.0, 0.0, 0.0)
    return finite / _sizes(finite).clamp(min=1e-30)


def _sizes(values: Tensor) -> Tensor:
    """Return the length of every sample, in the shape that broadcasts against them."""
    return values.flatten(1).square().sum(1).sqrt().view(-1, *[1] * (values.ndim - 1))


def _numbers(graph: Graph) -> int:
    """Return how many numbers all values of one sample are."""
    return sum(map(math.prod, graph.shapes.values()))


def _work(graph: Graph) -> int:
    return macs(graph) + _NUMBER * _numbers(graph)
