"""Operations that make one value of all along some axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.ir import Op, operation
from snnc.ops.fields import check_axes
from snnc.ops.nonlinear import Nonlinear


@final
@operation
@dataclass(frozen=True, eq=False)
class Mean(Op):
    """Mean over some axes (the batch is axis 0); global average pooling keeps them with length 1."""

    axes: tuple[int, ...]
    keep: bool = True

    def __post_init__(self) -> None:
        check_axes(*self.axes)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.mean(self.axes, keepdim=self.keep)


@dataclass(frozen=True, eq=False)
class Reduction(Nonlinear):
    """One value of all along some axes (the batch is axis 0), which stay with length 1 where they are kept."""

    axes: tuple[int, ...]
    keep: bool = True

    def __post_init__(self) -> None:
        check_axes(*self.axes)


@final
@operation
@dataclass(frozen=True, eq=False)
class EuclideanNorm(Reduction):
    """``√Σ x²``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        norm: Tensor = torch.linalg.vector_norm(x, 2, self.axes, self.keep)
        return norm


@final
@operation
@dataclass(frozen=True, eq=False)
class LogSumExp(Reduction):
    """``log Σ exp(x)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.logsumexp(self.axes, self.keep)


@final
@operation
@dataclass(frozen=True, eq=False)
class TotalProduct(Reduction):
    """``Π x``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        for axis in sorted(self.axes, reverse=True):
            x = x.prod(axis, keepdim=self.keep)
        return x
