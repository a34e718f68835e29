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
