"""Operations that make one value of all along some axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.ir import Op, operation


@final
@operation
@dataclass(frozen=True, eq=False)
class Mean(Op):
    """Mean over some axes (the batch is axis 0); global average pooling keeps them with length 1."""

    axes: tuple[int, ...]
    keep: bool = True

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].mean(self.axes, keepdim=self.keep)
