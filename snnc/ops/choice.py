"""What is chosen by comparing all along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.ir import operation
from snnc.ops.nonlinear import Nonlinear
from snnc.ops.reduction import Reduction


@final
@operation
@dataclass(frozen=True, eq=False)
class Ranked(Nonlinear):
    """The ``count`` largest numbers along one axis (the batch is axis 0), the largest first."""

    axis: int
    count: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].topk(self.count, self.axis).values


@final
@operation
@dataclass(frozen=True, eq=False)
class ArgMax(Reduction):
    """The place of the largest number along one axis, the first of those that are equal."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,), (axis,) = inputs, self.axes
        return x.argmax(axis, self.keep).to(x.dtype)
