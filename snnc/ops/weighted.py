"""Operations with weights: where synapses are."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Self, final

import torch.nn.functional as F
from torch import Tensor

from snnc.ir import Op, operation
from snnc.ops.batching import batched
from snnc.ops.fields import check_windows
from snnc.ops.padding import bordered


@dataclass(frozen=True, eq=False)
class Weighted(Op):
    """An operation with weights and, or None, one bias per output channel ``[C]``: where synapses are.

    Where a ``unit`` is given, one per output channel ``[C]``, what a spike through a synapse adds is a whole number of
    it, and so is a bias (``snnc.analysis.integers``).
    """

    weight: Tensor
    bias: Tensor | None
    unit: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.weight.ndim < 2 or not self.weight.numel():
            raise ValueError(f"weights of shape {[*self.weight.shape]}")
        channels = math.prod(self.kernel().shape[:2])
        if self.bias is not None and self.bias.shape != (channels,):
            raise ValueError(f"a bias of shape {[*self.bias.shape]} for {channels} channels")
        if self.unit is not None and self.unit.shape != (channels,):
            raise ValueError(f"units of shape {[*self.unit.shape]} for {channels} channels")

    @abstractmethod
    def kernel(self) -> Tensor:
        """Return the weights as ``[groups, out, in, *window]``, channels counted within their group."""

    @abstractmethod
    def with_kernel(self, kernel: Tensor, bias: Tensor | None) -> Self:
        """Return this operation with other weights, as ``kernel`` gives them, and another bias ``[C]``.

        Both are rounded to the precision of the weights that were there, and real numbers.
        """

    def _with(self, weight: Tensor, bias: Tensor | None) -> Self:
        kind = self.weight.dtype
        return replace(self, weight=weight.to(kind), bias=None if bias is None else bias.to(kind), unit=None)


@final
@operation
@dataclass(frozen=True, eq=False)
class Conv(Weighted):
    """Convolution over 1 to 3 spatial axes; weight ``[C_out, C_in / groups, *kernel]``.

    Axes between the batch and the channels are further samples of the same convolution.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __post_init__(self) -> None:
        check_windows(self.weight.ndim - 2, (self.stride, self.dilation), (self.padding,))
        check_groups(self.weight, self.groups)
        Weighted.__post_init__(self)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        axes = self.weight.ndim - 2
        begin, end = self.padding[:axes], self.padding[axes:]
        if begin != end:
            x, begin = bordered(x, self.padding, 0.0), (0,) * axes
        convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]

        def apply(x: Tensor) -> Tensor:
            if axes == 2 and self.groups == 1 and {*self.weight.shape[2:], *self.stride} == {1} and not any(begin):
                # Channels are innermost, and so this is a product as it is: torch unfolds few samples before it.
                return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
            return convolve(x, self.weight, self.bias, self.stride, begin, self.dilation, self.groups)

        return batched(apply, x, x.ndim - axes - 2)

    def kernel(self) -> Tensor:
        return self.weight.view(self.groups, -1, *self.weight.shape[1:])

    def with_kernel(self, kernel: Tensor, bias: Tensor | None) -> Self:
        return self._with(kernel.flatten(0, 1), bias)


@final
@operation
@dataclass(frozen=True, eq=False)
class ConvTranspose(Weighted):
    """Transposed convolution over 1 to 3 spatial axes; weight ``[C_in, C_out / groups, *kernel]``.

    ``padding`` is cut off the full output, ``output_padding`` added at its ends. Axes between the batch and the
    channels are further samples.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __post_init__(self) -> None:
        check_windows(self.weight.ndim - 2, (self.stride, self.dilation), (self.padding,))
        check_windows(self.weight.ndim - 2, (), (self.output_padding * 2,))
        check_groups(self.weight, self.groups)
        Weighted.__post_init__(self)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        axes = self.weight.ndim - 2
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        weights, extra = (self.weight, self.bias), self.output_padding
        y = batched(
            lambda x: convolve(x, *weights, self.stride, 0, extra, self.groups, self.dilation), x, x.ndim - axes - 2
        )
        for axis in range(axes):
            length = y.shape[axis - axes] - self.padding[axis] - self.padding[axes + axis]
            y = y.narrow(axis - axes, self.padding[axis], length)
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

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        if self.weight.ndim != 2:
            raise ValueError(f"weights of shape {[*self.weight.shape]}")

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return F.linear(x, self.weight, self.bias)

    def shaped(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        # To add a bias, torch would load its compiler, as snnc.ir.broadcast says.
        return F.linear(x, self.weight)

    def kernel(self) -> Tensor:
        return self.weight.unsqueeze(0)

    def with_kernel(self, kernel: Tensor, bias: Tensor | None) -> Self:
        return self._with(kernel.squeeze(0), bias)


def check_groups(weight: Tensor, groups: int) -> None:
    """Raise ValueError where the first axis of a weight does not fall into so many groups."""
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"{weight.shape[0]} channels do not fall into {groups} groups")
