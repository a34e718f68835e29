"""Products of two activations that are summed over an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.ir import operation
from snnc.ops.nonlinear import Nonlinear


@final
@operation
@dataclass(frozen=True, eq=False)
class MatMul(Nonlinear):
    """The matrix product of the last two axes of two inputs, whose other axes broadcast; both have the batch."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return x @ y
