"""Balance the thresholds layer by layer: clipped ReLU -> quantized ReLU, whatever the number of time steps.

    θ_c ← θ_c + 2η · mean[(x − θ_c) · 1(x > θ_c)]

batch after batch, with activations clipped at the thresholds so far flowing on to the next layers. The mean is over
all values x of channel c in the batch. Local threshold balancing (Bu et al., CVPR 2025): gradient descent, with
learning rate η, on the clipping error of each layer, E[(max(x, 0) − clip(x, 0, θ))²].

A threshold only ever rises, the slower the fewer values are left above it, at last to the largest of all: how long it
is balanced says how rare the values are that it clips. With η = 1 and from θ = 0, as published, that takes thousands
of batches. Hence, as defined here, it starts at the mean of the positive values of the first batch, η is larger, and
no step is longer than mean[x − θ_c | x > θ_c]. That one goes to the mean of the values above the threshold, which is
right if those stay the only ones; a longer one could go beyond the largest, and no step leads back.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self, final

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_rows, per_channel
from snnc.calibration import Calibration
from snnc.data.samples import MemorySamples, Samples
from snnc.feeds import Feeds, rechunk
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.ops import Clipped
from snnc.passes.base import Pass, check_stage, passes
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.thresholds import quantized_activation, releveled
from snnc.run import Program
from snnc.schedule import Schedule

Thresholds = Mapping[str, Tensor]


@final
@passes.register("balance-thresholds")
@dataclass(frozen=True)
class BalanceThresholds(Pass):
    """Give every clipped ReLU as many levels as its neurons will have and a threshold that clips few of its inputs.

    ``rounds`` over the images (at most ``images``, spread evenly over all) in batches of ``batch_size``; ``rate`` is η.
    ``per``: one threshold per channel or per layer. Without images or what stands in for them, thresholds come
    from what batch normalization states, as calibrate-thresholds has them.
    """

    per: Literal["channel", "layer"] = "channel"
    rounds: int = 4
    batch_size: int = 16
    rate: float = 4.0
    images: int = 2048

    def __post_init__(self) -> None:
        if min(self.rounds, self.batch_size, self.images) < 1:
            raise ValueError("rounds, batch size and images start at 1")
        if not 0 < self.rate < math.inf:
            raise ValueError("the rate must be positive and finite")

    def runs(self, samples: int, schedule: Schedule) -> int:
        return self.rounds * min(samples, self.images)

    def requires(self, graph: Graph) -> None:
        check_stage(graph, (), Neuron)

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        samples = calibration.shown
        if samples is None:
            return CalibrateThresholds(per=self.per)(graph, calibration)
        graph = releveled(graph, calibration.levels)
        layers = {name: _Layer(graph, name, self.per) for name in graph.ops(Clipped)}
        if not layers:
            return graph
        program = Program(graph)
        fast, size = program.graph, program.chunk
        samples = samples.thinned(self.images)
        done, total = 0, self.rounds * len(samples)
        thresholds: Thresholds = {}
        for _ in range(self.rounds):
            for batch in rechunk(samples.batches(), self.batch_size):
                look = partial(_observed, fast, layers, MemorySamples(batch), size)
                if not thresholds:
                    thresholds = {name: values.mean for name, values in look({}).items()}
                seen = look(thresholds)
                thresholds = {name: self._raised(old, seen[name]) for name, old in thresholds.items()}
                done += batch.samples
                calibration.progress(done, total)
        return graph.with_ops(
            {n: quantized_activation(graph, n, threshold, calibration.levels[n]) for n, threshold in thresholds.items()}
        )

    def outlined(self, graph: Graph, calibration: Calibration) -> Graph:
        return CalibrateThresholds().outlined(graph, calibration)

    def _raised(self, threshold: Tensor, seen: "_Seen") -> Tensor:
        return threshold + torch.minimum(2 * self.rate * seen.total / seen.count, seen.mean)


@dataclass
class _Seen:
    """What the values of a layer above its thresholds add up to: one number per threshold."""

    total: Tensor
    above: Tensor
    count: int

    @classmethod
    def of(cls, values: Tensor, threshold: Tensor | None) -> Self:
        """Return what values ``[groups, ...]`` add up to; without thresholds, what is above 0."""
        excess = (values.double() - (0 if threshold is None else threshold.unsqueeze(1))).clamp_(min=0)
        return cls(excess.sum(1), excess.count_nonzero(1).double(), excess.shape[1])

    def __iadd__(self, other: Self) -> Self:
        self.total += other.total
        self.above += other.above
        self.count += other.count
        return self

    @property
    def mean(self) -> Tensor:
        """The mean of what is above; 0 where nothing is."""
        return self.total / self.above.clamp(min=1)


class _Layer:
    """A clipped ReLU, and how its values are grouped: one group for every threshold."""

    def __init__(self, graph: Graph, name: str, per: Literal["channel", "layer"]) -> None:
        op = graph.ops(Clipped)[name]
        (self.before,) = graph.nodes[name].inputs
        self._op = op
        self._shape = graph.shapes[name]
        axis = channel_axis(graph, name)
        self._axis = axis if per == "channel" else None

    def grouped(self, values: Tensor) -> Tensor:
        """Return what of values ``[N, ...]`` the activation lets through, by threshold: with a slope, magnitudes."""
        if self._op.slope is not None:
            values = values.abs()
        values = torch.minimum(values, self._op.ceiling)
        return channel_rows(values, self._axis)

    def clipped(self, threshold: Tensor | None) -> Clipped:
        """Return the activation clipped at thresholds, never above the ceiling that it has."""
        if threshold is None:
            return self._op
        shaped = per_channel(threshold, self._shape, self._axis) if self._axis else threshold
        return replace(self._op, ceiling=torch.minimum(self._op.ceiling, shaped.to(self._op.ceiling)))


def _observed(
    graph: Graph, layers: Mapping[str, _Layer], batch: Samples, size: int, thresholds: Thresholds
) -> dict[str, _Seen]:
    """Return what lies above the thresholds, of a batch on its way through activations clipped at them."""
    clipped = graph.with_ops({name: layer.clipped(thresholds.get(name)) for name, layer in layers.items()})
    program = Program(clipped, want=[layer.before for layer in layers.values()])

    def seen(feeds: Feeds, first: int) -> dict[str, _Seen]:
        values = program(feeds)
        return {n: _Seen.of(layer.grouped(values[layer.before][0]), thresholds.get(n)) for n, layer in layers.items()}

    return batch.added(size, seen)
