"""Data-free moments: what batch normalization says about the values behind it.

Channel c of a batch-normalized value is taken as N(β_c, γ_c²); at an addition means and variances add, a rectifier
passes on the moments of a rectified Gaussian, and where no batch normalization is left (an exporter has folded it),
weights carry the moments on as if their inputs were independent. The network's input is taken as standardized.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from snnc.calibration.channels import channel_axis
from snnc.ir import Graph, Node
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    MaxPool,
    Mean,
    Pad,
    Slice,
    Take,
)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of a value per channel, both ``[C]``, float64."""

    mean: Tensor
    variance: Tensor


def stated_moments(graph: Graph) -> dict[str, Moments]:
    """Return what the batch normalizations of a graph state about their own outputs."""
    return {name: Moments(op.shift.double(), op.scale.double().square()) for name, op in graph.ops(BatchNorm).items()}


def propagate(graph: Graph, stated: Mapping[str, Moments]) -> dict[str, Moments]:
    """Return the moments of every node, taking those in ``stated`` as they are."""
    found: dict[str, Moments] = {}
    for name, node in graph.nodes.items():
        axis = channel_axis(graph, name)
        channels = graph.shapes[name][axis - 1] if axis is not None and graph.shapes[name] else 1
        moments = stated.get(name) or _moments(graph, node, [found[value] for value in node.inputs], axis, channels)
        found[name] = moments if len(moments.mean) == channels else _spread(moments, channels)
    return found


def _moments(graph: Graph, node: Node, inputs: list[Moments], axis: int | None, channels: int) -> Moments:
    op = node.op
    if not inputs:
        return Moments(torch.zeros(channels, dtype=torch.float64), torch.ones(channels, dtype=torch.float64))
    (first, *others) = inputs
    if isinstance(op, Conv | Linear | ConvTranspose):
        return _weighted(op, first)
    if isinstance(op, Activation):
        return _rectified(first)
    if isinstance(op, Affine):
        return _affine(op, first, axis, graph.shapes[node.name])
    if isinstance(op, Add) and all(len(other.mean) == len(first.mean) for other in others):
        return Moments(sum((o.mean for o in others), first.mean), sum((o.variance for o in others), first.variance))
    if isinstance(op, Concat) and op.axis == axis:
        return Moments(torch.cat([m.mean for m in inputs]), torch.cat([m.variance for m in inputs]))
    if isinstance(op, Slice | Take) and op.axis == axis:
        index = torch.arange(len(first.mean))
        index = index[op.start : op.stop : op.step] if isinstance(op, Slice) else index[list(op.indices)]
        return Moments(first.mean[index], first.variance[index])
    if isinstance(op, Pad) and axis is not None:
        before, after = op.padding[axis - 1], op.padding[len(op.padding) // 2 + axis - 1]
        return Moments(*(torch.nn.functional.pad(part, (before, after)) for part in (first.mean, first.variance)))
    if isinstance(op, AveragePool | MaxPool | Mean):
        return first
    if len(first.mean) and channels % len(first.mean) == 0:
        repeats = channels // len(first.mean)
        return Moments(first.mean.repeat_interleave(repeats), first.variance.repeat_interleave(repeats))
    return first


def _weighted(op: Conv | Linear | ConvTranspose, x: Moments) -> Moments:
    weight = op.weight.double()
    groups = 1 if isinstance(op, Linear) else op.groups
    if isinstance(op, ConvTranspose):
        # Every output position is reached by one in ``stride`` kernel positions.
        weight = weight.view(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1) / math.prod(op.stride)
    kernel = weight.reshape(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
    inputs = _spread(x, groups * weight.shape[1])
    mean = torch.einsum("goik,gi->go", kernel, inputs.mean.view(groups, -1)).flatten()
    variance = torch.einsum("goik,gi->go", kernel.square(), inputs.variance.view(groups, -1)).flatten()
    return Moments(mean if op.bias is None else mean + op.bias.double(), variance)


def _rectified(z: Moments) -> Moments:
    """Return the moments of max(z, 0) for normal z."""
    deviation = z.variance.clamp(min=1e-24).sqrt()
    ratio = z.mean / deviation
    above = torch.special.ndtr(ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    mean = z.mean * above + deviation * density
    second = (z.mean.square() + z.variance) * above + z.mean * deviation * density
    return Moments(mean, (second - mean.square()).clamp(min=0))


def _affine(op: Affine, x: Moments, axis: int | None, shape: tuple[int, ...]) -> Moments:
    def channelwise(constant: Tensor | None, neutral: float) -> Tensor:
        if constant is None or axis is None:
            return torch.full_like(x.mean, neutral)
        full = constant.double().expand(shape)
        return full.movedim(axis - 1, 0).flatten(1).mean(1) if len(shape) > 1 else full

    scale = channelwise(op.scale, 1.0)
    return Moments(x.mean * scale + channelwise(op.shift, 0.0), x.variance * scale.square())


def _spread(moments: Moments, channels: int) -> Moments:
    """Return moments for another number of channels: repeated where a flattening multiplied them, else pooled."""
    held = len(moments.mean)
    if held == channels:
        return moments
    if channels % held == 0:
        repeats = channels // held
        return Moments(moments.mean.repeat_interleave(repeats), moments.variance.repeat_interleave(repeats))
    mean = moments.mean.mean()
    variance = moments.variance.mean() + moments.mean.var(correction=0)
    return Moments(mean.expand(channels), variance.expand(channels))
