"""Clipped ReLU -> quantized ReLU: what all ways to choose a threshold have in common."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_rows, per_channel
from snnc.ir import Graph
from snnc.ops import Clipped, Quantized


def releveled(graph: Graph, levels: Mapping[str, int]) -> Graph:
    """Return the graph with as many levels in its quantized activations as its neurons will have.

    Activations quantized in the file keep their ceiling.
    """
    kept = graph.ops(Quantized).items()
    return graph.with_ops({n: replace(op, levels=levels[n]) for n, op in kept if op.levels != levels[n]})


def quantized_activation(
    graph: Graph, name: str, threshold: Tensor, levels: int, below: Tensor | None = None
) -> Quantized:
    """Return what takes the place of the clipped activation ``name``, with a threshold per channel ``[C]`` or ``[1]``.

    A value to be coded has one ``below`` zero besides; where either is 0, no value lies on that side, and it is as the
    other. No threshold is above the ceiling that was there; one of 0 stands for a channel that never fires.
    """
    op, shape = graph.ops(Clipped)[name], graph.shapes[name]
    axis = channel_axis(graph, name)
    ceiling = largest_by_channel(op.ceiling, shape, axis, len(threshold))
    if len(threshold) == 1:
        ceiling = ceiling.max().unsqueeze(0)
    if below is not None:
        threshold = torch.where(threshold > 0, threshold, below)
    threshold = revived(torch.minimum(threshold, ceiling))
    threshold = torch.where(ceiling > 0, torch.minimum(threshold, ceiling), threshold)
    shaped = per_channel(threshold, shape, axis) if axis and len(threshold) > 1 else threshold
    shaped = shaped.float()
    if below is None:
        return op.quantized(shaped, levels, op.slope)
    lower = revived(torch.where(below > 0, below, threshold))
    lower = per_channel(lower, shape, axis) if axis and len(lower) > 1 else lower
    return op.quantized(shaped, levels, lower.float() / shaped)


def revived(thresholds: Tensor) -> Tensor:
    """Give channels that never fire, whose threshold came out as 0, the layer's median: any finite value does."""
    live = thresholds[thresholds > 0]
    return torch.where(thresholds > 0, thresholds, live.median() if len(live) else torch.ones_like(thresholds))


def largest_by_channel(constant: Tensor, shape: tuple[int, ...], axis: int | None, channels: int) -> Tensor:
    """Return the largest value of a constant of a layer in every channel, float64."""
    if constant.numel() == 1 or axis is None:
        return constant.double().max().expand(channels)
    return channel_rows(constant.double().expand(1, *shape), axis).amax(1)
