"""Tables in which whole numbers are looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.ir import operation
from snnc.ops.nonlinear import Nonlinear


@final
@operation
@dataclass(frozen=True, eq=False)
class Embedding(Nonlinear):
    """The rows of a table ``[rows, *row]`` at whole numbers ``[...]``: ``[..., *row]``, from the end where below 0."""

    table: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return self.table[x.round().long()]
