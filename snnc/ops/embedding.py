"""Vectors looked up by whole numbers."""

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
    """The row of ``table`` ``[entries, *rest]`` that every number of the input names, its axes in front of ``rest``.

    Numbers below 0 count from the end. What is between two whole numbers is rounded to one.
    """

    table: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        numbers = inputs[0].round().long() if inputs[0].is_floating_point() else inputs[0].long()
        return self.table[numbers]
