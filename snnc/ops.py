"""The stateless operations of trained networks. The first axis of every tensor is the batch.

Shapes in fields are those of one sample. Spatial tuples run from the first spatial axis to the last; paddings are
all the beginnings, then all the ends, as ONNX has them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.ir import Input, Op, operation

__all__ = [
    "Activation",
    "Add",
    "Affine",
    "AveragePool",
    "BatchNorm",
    "ClippedRelu",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Input",
    "LeakyRelu",
    "Linear",
    "MaxPool",
    "Mean",
    "Pad",
    "Pool",
    "QuantizedRelu",
    "Relu",
    "Reshape",
    "Routing",
    "Slice",
    "Take",
    "Transpose",
    "Weighted",
    "level_count",
]


# The share of its threshold that a neuron starts with, so that it rounds to the nearest level.
HALF = torch.tensor(0.5)


@dataclass(frozen=True, eq=False)
class Weighted(Op):
    """An operation with weights and, or None, one bias per output channel ``[C]``: where synapses are."""

    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def kernel(self) -> Tensor:
        """Return the weights as ``[groups, out, in, *window]``, channels counted within their group."""

    @abstractmethod
    def with_kernel(self, kernel: Tensor, bias: Tensor | None) -> Self:
        """Return this operation with other weights, as ``kernel`` gives them, and another bias ``[C]``.

        Both are rounded to the precision of the weights that were there.
        """

    def _with(self, weight: Tensor, bias: Tensor | None) -> Self:
        kind = self.weight.dtype
        return replace(self, weight=weight.to(kind), bias=None if bias is None else bias.to(kind))


@final
@operation
@dataclass(frozen=True, eq=False)
class Conv(Weighted):
    """Convolution over 1 or 2 spatial axes; weight ``[C_out, C_in / groups, *kernel]``."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        axes = self.weight.ndim - 2
        begin, end = self.padding[:axes], self.padding[axes:]
        if begin != end:
            x, begin = _pad(x, self.padding, 0.0), (0,) * axes
        convolve = F.conv1d if axes == 1 else F.conv2d
        return convolve(x, self.weight, self.bias, self.stride, begin, self.dilation, self.groups)

    def kernel(self) -> Tensor:
        return self.weight.view(self.groups, -1, *self.weight.shape[1:])

    def with_kernel(self, kernel: Tensor, bias: Tensor | None) -> Self:
        return self._with(kernel.flatten(0, 1), bias)


@final
@operation
@dataclass(frozen=True, eq=False)
class ConvTranspose(Weighted):
    """Transposed convolution over 1 or 2 spatial axes; weight ``[C_in, C_out / groups, *kernel]``.

    ``padding`` is cut off the full output, ``output_padding`` added at its ends.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        axes = self.weight.ndim - 2
        convolve = F.conv_transpose1d if axes == 1 else F.conv_transpose2d
        y = convolve(x, self.weight, self.bias, self.stride, 0, self.output_padding, self.groups, self.dilation)
        for axis in range(axes):
            length = y.shape[2 + axis] - self.padding[axis] - self.padding[axes + axis]
            y = y.narrow(2 + axis, self.padding[axis], length)
        return y

    def kernel(self) -> Tensor:
        return self.weight.view(self.groups, -1, *self.weight.shape[1:]).transpose(1, 2)

    def with_kernel(self, kernel: Tensor, bias: Tensor | None) -> Self:
        return self._with(kernel.transpose(1, 2).flatten(0, 1), bias)


@final
@operation
@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """Matrix product with the last axis; weight ``[out, in]``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight, self.bias)

    def kernel(self) -> Tensor:
        return self.weight.unsqueeze(0)

    def with_kernel(self, kernel: Tensor, bias: Tensor | None) -> Self:
        return self._with(kernel.squeeze(0), bias)


@final
@operation
@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """Batch normalization with stored statistics, all ``[C]``, over axis 1."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return F.batch_norm(x, self.mean, self.variance, self.scale, self.shift, False, 0.0, self.epsilon)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return what the normalization multiplies by and then adds, each ``[C]``."""
        factor = self.scale.double() / (self.variance.double() + self.epsilon).sqrt()
        offset = self.shift.double() - self.mean.double() * factor
        return factor.to(self.scale.dtype), offset.to(self.scale.dtype)


@final
@operation
@dataclass(frozen=True, eq=False)
class Affine(Op):
    """Multiplication by, then addition of constants that broadcast against one sample (None: leave out)."""

    scale: Tensor | None
    shift: Tensor | None

    def __call__(self, *inputs: Tensor) -> Tensor:
        (y,) = inputs
        if self.scale is not None:
            y = y * self.scale
        return y if self.shift is None else y + self.shift


@final
@operation
@dataclass(frozen=True, eq=False)
class Add(Op):
    """Sum of two or more inputs."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


@dataclass(frozen=True, eq=False)
class Routing(Op):
    """An operation that moves values and computes none: each is one of an input's, or a constant border's."""


@final
@operation
@dataclass(frozen=True, eq=False)
class Concat(Routing):
    """Concatenation along one axis (the batch is axis 0)."""

    axis: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)


@final
@operation
@dataclass(frozen=True, eq=False)
class Slice(Routing):
    """``start:stop:step`` of one axis, with ``0 <= start < stop`` and ``step > 0``."""

    axis: int
    start: int
    stop: int
    step: int = 1

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x[(slice(None),) * self.axis + (slice(self.start, self.stop, self.step),)]


@final
@operation
@dataclass(frozen=True, eq=False)
class Take(Routing):
    """The entries of one axis at ``indices``, repeats allowed: gathers, flips, nearest resizing, mirrored pads."""

    axis: int
    indices: tuple[int, ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.index_select(self.axis, torch.tensor(self.indices, device=x.device))


@final
@operation
@dataclass(frozen=True, eq=False)
class Pad(Routing):
    """A constant border around the sample's axes: all the beginnings, then all the ends."""

    padding: tuple[int, ...]
    value: float = 0.0

    def __call__(self, *inputs: Tensor) -> Tensor:
        return _pad(inputs[0], self.padding, self.value)


@final
@operation
@dataclass(frozen=True, eq=False)
class Reshape(Routing):
    """Another shape of one sample: flatten, squeeze, unsqueeze and view."""

    shape: tuple[int, ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(-1, *self.shape)


@final
@operation
@dataclass(frozen=True, eq=False)
class Transpose(Routing):
    """Another order of the axes; ``order[0]`` is 0, the batch."""

    order: tuple[int, ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].permute(self.order)


@final
@operation
@dataclass(frozen=True, eq=False)
class Mean(Op):
    """Mean over some axes (the batch is axis 0); global average pooling keeps them with length 1."""

    axes: tuple[int, ...]
    keep: bool = True

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].mean(self.axes, keepdim=self.keep)


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """One value for every window over 1 or 2 spatial axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]


@final
@operation
@dataclass(frozen=True, eq=False)
class AveragePool(Pool):
    """Average pooling over 1 or 2 spatial axes.

    ``padding`` counts as zeros in the average; ``excess``, around it, does not count at all.
    """

    excess: tuple[int, ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        pool = F.avg_pool1d if len(self.kernel) == 1 else F.avg_pool2d
        padded = _pad(x, self.padding, 0.0)
        y = pool(_pad(padded, self.excess, 0.0), self.kernel, self.stride)
        if any(self.excess):
            counted = _pad(torch.ones_like(padded[:1, :1]), self.excess, 0.0)
            y = y / pool(counted, self.kernel, self.stride)
        return y


@final
@operation
@dataclass(frozen=True, eq=False)
class MaxPool(Pool):
    """Max-pooling over 1 or 2 spatial axes."""

    linear: ClassVar[bool] = False

    dilation: tuple[int, ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        x = _pad(inputs[0], self.padding, float("-inf"))
        pool = F.max_pool1d if len(self.kernel) == 1 else F.max_pool2d
        return pool(x, self.kernel, self.stride, 0, self.dilation)


@dataclass(frozen=True, eq=False)
class Activation(Op):
    """A rectifier, the place where a spiking neuron will stand."""

    linear: ClassVar[bool] = False


@final
@operation
@dataclass(frozen=True, eq=False)
class Relu(Activation):
    """``max(z, 0)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].relu()


@final
@operation
@dataclass(frozen=True, eq=False)
class LeakyRelu(Activation):
    """``z`` where positive, ``slope · z`` elsewhere; ``slope`` broadcasts against one sample (also PReLU)."""

    slope: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return torch.where(z > 0, z, z * self.slope)


@final
@operation
@dataclass(frozen=True, eq=False)
class ClippedRelu(Activation):
    """``clip(z, 0, ceiling)``, or ``clip(z, -ceiling, ceiling)`` with negative values times ``slope``.

    Both tensors broadcast against one sample; a ceiling may be infinite.
    """

    ceiling: Tensor
    slope: Tensor | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        if self.slope is None:
            return torch.minimum(z.relu(), self.ceiling)
        z = torch.maximum(torch.minimum(z, self.ceiling), -self.ceiling)
        return torch.where(z > 0, z, z * self.slope)


@final
@operation
@dataclass(frozen=True, eq=False)
class QuantizedRelu(Activation):
    """A clipped ReLU on L ``levels``: ``ceiling / L · clip(floor(L · z / ceiling + potential), 0, L)``.

    The closed form of a spiking layer with threshold ``ceiling`` over ``levels`` time steps (Bu et al., ICLR 2022)
    whose neurons start at ``potential`` times their threshold: at 1/2 it rounds to the nearest level. With a
    ``slope``, counts go down to ``-levels`` and negative ones weigh ``slope``.
    """

    ceiling: Tensor
    levels: int
    slope: Tensor | None = None
    potential: Tensor = HALF

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError("a quantized activation has at least one level")
        if not bool(((self.ceiling > 0) & self.ceiling.isfinite()).all()):
            raise ValueError("the ceiling of a quantized activation must be positive and finite")
        if not bool(self.potential.isfinite().all()):
            raise ValueError("the potential of a quantized activation must be finite")

    def __call__(self, *inputs: Tensor) -> Tensor:
        signed = self.slope is not None
        count = level_count(inputs[0], self.ceiling, self.levels, self.potential, signed=signed)
        if self.slope is not None:
            count = torch.where(count > 0, count, count * self.slope)
        return count.mul_(self.ceiling / self.levels)


def level_count(z: Tensor, ceiling: Tensor, levels: int, potential: Tensor, *, signed: bool) -> Tensor:
    """Return the level of ``z`` on ``levels`` steps up to ``ceiling``: how many spikes stand for it.

    One formula for the quantized ReLU and for the neurons that realize it, so that both round alike.
    """
    return torch.mul(z, levels / ceiling).add_(potential).floor_().clamp_(-levels if signed else 0, levels)


def _pad(x: Tensor, padding: tuple[int, ...], value: float) -> Tensor:
    """Pad the last axes of ``x`` by ``padding``, given as all the beginnings, then all the ends."""
    if not any(padding):
        return x
    axes = len(padding) // 2
    pairs = [(padding[axis], padding[axes + axis]) for axis in reversed(range(axes))]
    return F.pad(x, [side for pair in pairs for side in pair], value=value)
