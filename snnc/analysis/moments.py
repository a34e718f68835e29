"""Data-free moments: what batch normalization says about the values behind it.

Channel c of a batch-normalized value is taken as N(β_c, γ_c²); at an addition means and variances add, a rectifier
passes on the moments of a rectified Gaussian, and between two normalizations weights carry the moments on as if their
inputs were independent. That goes wrong by a factor that grows with depth, so where nothing is stated (an exporter has
folded all of it) nothing is known. The network's input is taken as standardized.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_count, channel_rows, per_channel
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    ClippedCoding,
    Coding,
    Concat,
    ConvTranspose,
    Mean,
    Nonlinear,
    Pad,
    Pool,
    Resample,
    Reshape,
    Slice,
    Take,
    Transpose,
    Weighted,
)
from snnc.rules import Rules, UnansweredError


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of a value per channel, both ``[C]``, float64."""

    mean: Tensor
    variance: Tensor


# rule(op, inputs, graph, node): the moments behind an operation from those before it.
moments = Rules[Op, Moments]("which moments do channels have")


def stated_moments(graph: Graph) -> dict[str, Moments]:
    """Return what the batch normalizations of a graph state about their own outputs."""
    return {name: _stated(op) for name, op in graph.ops(BatchNorm).items()}


def moments_known(graph: Graph) -> bool:
    """Return whether batch normalization states something of a graph, and what else has to be known follows from it."""
    stated = stated_moments(graph)
    try:
        return bool(stated) and bool(propagate(graph, stated))
    except UnansweredError:
        return False


def propagate(graph: Graph, stated: Mapping[str, Moments]) -> dict[str, Moments]:
    """Return the moments of every node, taking those in ``stated`` as they are."""
    found: dict[str, Moments] = {}
    for name, node in graph.nodes.items():
        known = stated.get(name) or moments(node.op, [found[value] for value in node.inputs], graph, node)
        found[name] = spread_over(known, channel_count(graph, name))
    return found


moments.refuse(
    Nonlinear,
    why="what comes out of it does not follow from means and variances",
    hint="calibrate with samples",
)


@moments.register(Input)
def _standardized(op: Input, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    zeros = torch.zeros(channel_count(graph, node.name), dtype=torch.float64)
    return Moments(zeros, torch.ones_like(zeros))


@moments.register(BatchNorm)
def _stated(op: BatchNorm, *_: object) -> Moments:
    return Moments(op.shift.double(), op.scale.double().square())


@moments.register(Weighted)
def _weighted(op: Weighted, inputs: Sequence[Moments], *_: object) -> Moments:
    return _summed(op.kernel().double(), op.bias, inputs[0])


@moments.register(ConvTranspose)
def _transposed_convolution(op: ConvTranspose, inputs: Sequence[Moments], *_: object) -> Moments:
    # Every output position is reached by one in ``stride`` kernel positions.
    return _summed(op.kernel().double() / math.prod(op.stride), op.bias, inputs[0])


@moments.register(Neuron)
def _fired(op: Neuron, inputs: Sequence[Moments], *_: object) -> Moments:
    return inputs[0] if op.coding else _rectified(op, inputs)


@moments.register(Activation)
def _rectified(op: Op, inputs: Sequence[Moments], *_: object) -> Moments:
    """Return the moments of max(z, 0) for normal z."""
    (z,) = inputs
    deviation = z.variance.clamp(min=1e-24).sqrt()
    ratio = z.mean / deviation
    above = torch.special.ndtr(ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    mean = z.mean * above + deviation * density
    second = (z.mean.square() + z.variance) * above + z.mean * deviation * density
    return Moments(mean, (second - mean.square()).clamp(min=0))


@moments.register(Affine)
def _affine(op: Affine, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    scale, shift = _channel_means(op.scale, 1.0, graph, node), _channel_means(op.shift, 0.0, graph, node)
    return Moments(inputs[0].mean * scale + shift, inputs[0].variance * scale.square())


@moments.register(TemporalBias)
def _temporally_biased(op: TemporalBias, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    shift = _channel_means(op.shift.double().mean(0), 0.0, graph, node)
    return Moments(inputs[0].mean + shift, inputs[0].variance)


@moments.register(Add)
def _added(op: Add, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    (first, *others) = _alike(inputs, graph, node)
    return Moments(sum((o.mean for o in others), first.mean), sum((o.variance for o in others), first.variance))


@moments.register(Concat)
def _concatenated(op: Concat, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    """Beside each other along the channels; along another axis, each input with its share in every channel."""
    if op.axis == channel_axis(graph, node.name):
        return Moments(torch.cat([m.mean for m in inputs]), torch.cat([m.variance for m in inputs]))
    alike = _alike(inputs, graph, node)
    sizes = torch.tensor([graph.shapes[value][op.axis - 1] for value in node.inputs], dtype=torch.float64)
    shares = (sizes / sizes.sum()).unsqueeze(1)
    means, variances = torch.stack([m.mean for m in alike]), torch.stack([m.variance for m in alike])
    mean = (shares * means).sum(0)
    return Moments(mean, (shares * (variances + (means - mean).square())).sum(0))


@moments.register(Slice, Take)
def _chosen(op: Slice | Take, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    (x,) = inputs
    if op.axis != channel_axis(graph, node.name):
        return x
    # The operation itself, on a batch of moments that have nothing but channels.
    along = (1,) * op.axis
    return Moments(*(op(part.view(*along, -1)).flatten() for part in (x.mean, x.variance)))


@moments.register(Pad)
def _padded(op: Pad, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    """Channels that are put in hold a constant; what borders do to the channels that were there is not counted."""
    (x,), axis = inputs, channel_axis(graph, node.name)
    if axis is None:
        return x
    sides = op.padding[axis - 1], op.padding[len(op.padding) // 2 + axis - 1]
    return Moments(F.pad(x.mean, sides, value=op.value), F.pad(x.variance, sides))


@moments.register(Reshape)
def _reshaped(op: Reshape, inputs: Sequence[Moments], graph: Graph, node: Node) -> Moments:
    """Every feature of a flattened value has the moments of the channel that it comes from."""
    (x,), (before,) = inputs, node.inputs
    axis, shape = channel_axis(graph, before), graph.shapes[before]
    if axis is None or len(op.shape) != 1:
        return x
    return Moments(*(per_channel(part, shape, axis).expand(shape).flatten() for part in (x.mean, x.variance)))


@moments.register(ClippedCoding, Coding, Pool, Mean, Resample, Transpose)
def _same(op: Op, inputs: Sequence[Moments], *_: object) -> Moments:
    """What is averaged, or is the largest, is taken as one of the values."""
    return inputs[0]


def _summed(kernel: Tensor, bias: Tensor | None, x: Moments) -> Moments:
    """Return the moments of weighted sums of independent values, from ``[groups, out, in, *window]``."""
    kernel = kernel.reshape(*kernel.shape[:3], -1).contiguous()
    groups, _, each, _ = kernel.shape
    spread = spread_over(x, groups * each)
    mean = torch.einsum("goik,gi->go", kernel, spread.mean.view(groups, -1)).flatten()
    variance = torch.einsum("goik,gi->go", kernel.square(), spread.variance.view(groups, -1)).flatten()
    return Moments(mean if bias is None else mean + bias.double(), variance)


def _channel_means(constant: Tensor | None, neutral: float, graph: Graph, node: Node) -> Tensor:
    """Return a constant that broadcasts against one sample as its mean in every channel."""
    axis = channel_axis(graph, node.name)
    if constant is None or axis is None:
        return torch.full((channel_count(graph, node.name),), neutral, dtype=torch.float64)
    return channel_rows(constant.double().expand(graph.shapes[node.name]).unsqueeze(0), axis).mean(1)


def _alike(inputs: Sequence[Moments], graph: Graph, node: Node) -> list[Moments]:
    """Return moments of equally many channels: what has others is spread to those of the node."""
    if len({len(m.mean) for m in inputs}) == 1:
        return list(inputs)
    return [spread_over(m, channel_count(graph, node.name)) for m in inputs]


def spread_over(known: Moments, channels: int) -> Moments:
    """Return moments for another number of channels: repeated where a flattening multiplied them, else pooled."""
    held = len(known.mean)
    if held == channels:
        return known
    if channels % held == 0:
        repeats = channels // held
        return Moments(known.mean.repeat_interleave(repeats), known.variance.repeat_interleave(repeats))
    mean = known.mean.mean()
    variance = known.variance.mean() + known.mean.var(correction=0)
    return Moments(mean.expand(channels), variance.expand(channels))
