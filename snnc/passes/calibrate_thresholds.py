"""Choose the thresholds: clipped ReLU -> quantized ReLU, the closed form of the spiking layer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from snnc.calibration import Calibration, Histogram, channel_axis, per_channel
from snnc.ir import Graph
from snnc.ops import ClippedRelu, QuantizedRelu
from snnc.passes.base import Pass, passes


@final
@passes.register("calibrate-thresholds")
@dataclass(frozen=True)
class CalibrateThresholds(Pass):
    """Give every clipped ReLU as many levels as there are time steps and the threshold that suits its input.

    ``kind``: the largest value (max), a percentile over all samples (Rueckauer et al., 2017), or the least mean
    squared error on this number of steps (mmse). ``source``: counted on images, or worked out without any from what
    batch normalization states (gaussian; also taken where no images were given). ``per``: one threshold per channel
    or per layer.
    """

    kind: Literal["mmse", "percentile", "max"] = "mmse"
    per: Literal["channel", "layer"] = "channel"
    source: Literal["images", "gaussian"] = "images"
    percentile: float = 99.9

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ValueError("percentile must be above 0 and at most 100")

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        # Activations quantized in the file keep their ceiling, but the neurons will have this number of steps.
        kept = graph.ops(QuantizedRelu).items()
        graph = graph.with_ops(
            {n: replace(op, levels=calibration.timesteps) for n, op in kept if op.levels != calibration.timesteps}
        )
        activations = graph.ops(ClippedRelu)
        if not activations:
            return graph
        before = {name: graph.nodes[name].inputs[0] for name in activations}
        look = calibration if self.source == "images" else calibration.without_samples()
        counted: Mapping[str, Histogram] = look.histograms(graph, before.values())
        return graph.with_ops(
            {
                name: self._quantized(graph, name, op, counted[before[name]], look.timesteps)
                for name, op in activations.items()
            }
        )

    def _quantized(self, graph: Graph, name: str, op: ClippedRelu, counts: Histogram, timesteps: int) -> QuantizedRelu:
        shape = graph.shapes[name]
        axis = channel_axis(graph, graph.nodes[name].inputs[0])
        channels = len(counts.total)
        ceiling = _by_channel(op.ceiling, shape, axis, channels)
        slope = None if op.slope is None else _by_channel(op.slope, shape, axis, channels)
        if self.per == "layer":
            counts, ceiling = counts.pooled(), ceiling.max().unsqueeze(0)
            slope = None if slope is None else slope.abs().mean().unsqueeze(0)
        threshold = revived(torch.minimum(self._thresholds(counts, timesteps, ceiling, slope), ceiling))
        shaped = per_channel(threshold, shape, axis) if axis and len(threshold) > 1 else threshold
        return QuantizedRelu(shaped.float(), timesteps, op.slope)

    def _thresholds(self, counts: Histogram, timesteps: int, ceiling: Tensor, slope: Tensor | None) -> Tensor:
        if self.kind == "mmse":
            return counts.mmse(timesteps, ceiling, slope)
        signed = slope is not None
        if self.kind == "max":
            return counts.maximum(signed=signed)
        return counts.percentile(self.percentile, signed=signed)


def revived(thresholds: Tensor) -> Tensor:
    """Give channels that never fire, whose threshold came out as 0, the layer's median: any finite value does."""
    live = thresholds[thresholds > 0]
    return torch.where(thresholds > 0, thresholds, live.median() if len(live) else torch.ones_like(thresholds))


def _by_channel(constant: Tensor, shape: tuple[int, ...], axis: int | None, channels: int) -> Tensor:
    """Return a constant of a layer as one number per channel, float64."""
    if constant.numel() == 1 or axis is None:
        return constant.double().max().expand(channels)
    return constant.double().expand(shape).movedim(axis - 1, 0).flatten(1).amax(1)
