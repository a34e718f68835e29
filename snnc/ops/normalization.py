"""Functions that divide every number by what they find among those beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.ir import operation
from snnc.ops.nonlinear import Nonlinear


@dataclass(frozen=True, eq=False)
class Normalization(Nonlinear):
    """A function of one input, shaped like it, of statistics of the sample at hand."""


@final
@operation
@dataclass(frozen=True, eq=False)
class Softmax(Normalization):
    """``exp(x) / Σ exp(x)``, summed along one axis (the batch is axis 0)."""

    axis: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].softmax(self.axis)


@final
@operation
@dataclass(frozen=True, eq=False)
class RootMeanSquareNorm(Normalization):
    """``x / sqrt(mean(x²) + ε)``, the mean over some axes (the batch is axis 0); ε = 0 gives 0 for 0 / 0.

    Behind a centering, which is affine, it is layer, group or instance normalization.
    """

    axes: tuple[int, ...]
    epsilon: float

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        y = x * (x.square().mean(self.axes, keepdim=True) + self.epsilon).rsqrt()
        return y if self.epsilon else y.nan_to_num(nan=0.0)
