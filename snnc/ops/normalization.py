"""Functions that divide every number by what they find among those beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.ir import operation
from snnc.ops.fields import check_axes, check_lengths
from snnc.ops.nonlinear import Nonlinear

# The smallest number that a root is taken of where it divides: with it 0 / 0 is 0.
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, eq=False)
class Normalization(Nonlinear):
    """A function of one input, shaped like it, of statistics of the sample at hand."""


@final
@operation
@dataclass(frozen=True, eq=False)
class Softmax(Normalization):
    """``exp(x) / Σ exp(x)``, summed along one axis (the batch is axis 0)."""

    axis: int

    def __post_init__(self) -> None:
        check_axes(self.axis)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.softmax(self.axis)


@final
@operation
@dataclass(frozen=True, eq=False)
class LogSoftmax(Normalization):
    """``x − log Σ exp(x)``, summed along one axis (the batch is axis 0)."""

    axis: int

    def __post_init__(self) -> None:
        check_axes(self.axis)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.log_softmax(self.axis)


@final
@operation
@dataclass(frozen=True, eq=False)
class RootMeanSquareNorm(Normalization):
    """``x / √max(mean(x²) + epsilon, floor)``, the mean over some axes (the batch is axis 0); 0 where it is 0 / 0."""

    axes: tuple[int, ...]
    epsilon: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_axes(*self.axes)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        square = x.square().mean(self.axes, keepdim=True) + self.epsilon
        # The limit is within the root, whose slope at 0 is infinite.
        return x / square.clamp_min(max(self.floor, TINY)).sqrt()


@final
@operation
@dataclass(frozen=True, eq=False)
class LocalResponseNorm(Normalization):
    """``x / (bias + alpha · mean(x²))^beta``, the mean over ``size`` channels around each; those beyond count as 0.

    0 where it is 0 / 0.
    """

    size: int
    alpha: float
    beta: float
    bias: float

    def __post_init__(self) -> None:
        check_lengths(self.size, least=1)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        behind = self.size // 2
        square = F.pad(x.square().transpose(1, -1), (self.size - 1 - behind, behind))
        mean = square.unfold(-1, self.size, 1).mean(-1).transpose(1, -1)
        return x / (self.bias + self.alpha * mean).clamp_min(TINY) ** self.beta
