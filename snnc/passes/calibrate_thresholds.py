"""Choose the thresholds: clipped activation -> quantized one, the closed form of the spiking layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis
from snnc.calibration import Calibration, Histogram
from snnc.ir import Graph
from snnc.ops import Clipped, ClippedCoding, Quantized
from snnc.passes.base import Pass, check_layers, passes
from snnc.passes.thresholds import largest_by_channel, quantized_activation, releveled
from snnc.schedule import Schedule


@final
@passes.register("calibrate-thresholds")
@dataclass(frozen=True)
class CalibrateThresholds(Pass):
    """Give every clipped ReLU as many levels as its neurons will have and the threshold that suits its input.

    ``kind``: the largest value (max), the ``percentile`` over all samples (Rueckauer et al., 2017), or the least mean
    squared error on this number of levels (mmse). ``source``: counted on images, or worked out without any from what
    batch normalization states (gaussian; also taken where no images were given, if it states anything). ``per``: one
    threshold per channel or per layer; where it is per layer, the layers named in ``channel_wise`` have one per channel
    all the same. ``weigh`` by ``outputs`` counts an error of a value, where the mean squared one is least, as much as
    the network's outputs move with it, and not every value ``alike``.
    """

    kind: Literal["mmse", "percentile", "max"] = "mmse"
    per: Literal["channel", "layer"] = "channel"
    source: Literal["images", "gaussian"] = "images"
    percentile: float = 99.9
    channel_wise: tuple[str, ...] = ()
    weigh: Literal["alike", "outputs"] = "alike"

    def __post_init__(self) -> None:
        if self.weigh == "outputs" and (self.kind != "mmse" or self.source != "images"):
            raise ValueError("weigh: outputs is of kind: mmse and source: images")
        if self.channel_wise and self.per == "channel":
            raise ValueError("channel-wise names exceptions from per: layer")
        if not 0 < self.percentile <= 100:
            raise ValueError("percentile must be above 0 and at most 100")

    def runs(self, samples: int, schedule: Schedule) -> int:
        return 2 * samples

    def requires(self, graph: Graph) -> None:
        check_layers("calibrate-thresholds.channel-wise", self.channel_wise, graph.ops(Clipped))

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        graph = releveled(graph, calibration.levels)
        activations = graph.ops(Clipped)
        if not activations:
            return graph
        look = calibration if self.source == "images" else calibration.without_samples()
        counted: Mapping[str, Histogram] = look.histograms(graph, activations, weighed=self.weigh == "outputs")
        return graph.with_ops(
            {
                name: self._quantized(graph, name, op, counted[name], calibration.levels[name])
                for name, op in activations.items()
            }
        )

    def outlined(self, graph: Graph, calibration: Calibration) -> Graph:
        graph = releveled(graph, calibration.levels)
        one = torch.ones(1, dtype=torch.float64)
        below = {name: one if isinstance(op, ClippedCoding) else None for name, op in graph.ops(Clipped).items()}
        levels = calibration.levels
        return graph.with_ops({n: quantized_activation(graph, n, one, levels[n], below[n]) for n in below})

    def _quantized(self, graph: Graph, name: str, op: Clipped, counts: Histogram, levels: int) -> Quantized:
        shape = graph.shapes[name]
        axis = channel_axis(graph, name)
        channels = len(counts.total)
        ceiling = largest_by_channel(op.ceiling, shape, axis, channels)
        codes = isinstance(op, ClippedCoding)
        slope = None if op.slope is None or codes else largest_by_channel(op.slope, shape, axis, channels)
        if self.per == "layer" and name not in self.channel_wise:
            counts, ceiling = counts.pooled(), ceiling.max().unsqueeze(0)
            slope = None if slope is None else slope.abs().mean().unsqueeze(0)
        above = self._thresholds(counts, levels, ceiling, slope)
        below = self._thresholds(counts.mirrored(), levels, ceiling, None) if codes else None
        return quantized_activation(graph, name, above, levels, below)

    def _thresholds(self, counts: Histogram, levels: int, ceiling: Tensor, slope: Tensor | None) -> Tensor:
        if self.kind == "mmse":
            return counts.mmse(levels, ceiling, slope)
        signed = slope is not None
        if self.kind == "max":
            return counts.maximum(signed=signed)
        return counts.percentile(self.percentile, signed=signed)
