"""Operations that make one value of every window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.ir import Op, operation
from snnc.ops.batching import batched
from snnc.ops.fields import check_windows
from snnc.ops.padding import bordered


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """One value for every window over 1 to 3 spatial axes, the last ones; any axes may be before them."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]


@final
@operation
@dataclass(frozen=True, eq=False)
class AveragePool(Pool):
    """Average pooling over 1 to 3 spatial axes.

    ``padding`` counts as zeros in the average; ``excess``, around it, does not count at all.
    """

    excess: tuple[int, ...]

    def __post_init__(self) -> None:
        check_windows(len(self.kernel), (self.kernel, self.stride), (self.padding, self.excess))

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return batched(self._pooled, x, x.ndim - len(self.kernel) - 2)

    def _pooled(self, x: Tensor) -> Tensor:
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(self.kernel) - 1]
        padded = bordered(x, self.padding, 0.0)
        y = pool(bordered(padded, self.excess, 0.0), self.kernel, self.stride)
        if any(self.excess):
            counted = bordered(torch.ones_like(padded[:1, :1]), self.excess, 0.0)
            y = y / pool(counted, self.kernel, self.stride)
        return y


@final
@operation
@dataclass(frozen=True, eq=False)
class MaxPool(Pool):
    """Max-pooling over 1 to 3 spatial axes."""

    linear: ClassVar[bool] = False

    dilation: tuple[int, ...]

    def __post_init__(self) -> None:
        check_windows(len(self.kernel), (self.kernel, self.stride, self.dilation), (self.padding,))

    def __call__(self, *inputs: Tensor) -> Tensor:
        x = bordered(inputs[0], self.padding, float("-inf"))
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(self.kernel) - 1]
        windows = self.kernel, self.stride, 0, self.dilation
        return batched(lambda x: pool(x, *windows), x, x.ndim - len(self.kernel) - 2)
