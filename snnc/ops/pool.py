"""Operations that make one value of every window."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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

    def parts(self, shape: tuple[int, ...]) -> tuple[int, Tensor]:
        """Return into how many equal parts means are divided, and how many of them a value is in each window.

        For samples of a shape, as ``[*space]``: fewer values count at the border where there is an excess.
        """
        axes = len(self.kernel)
        ones = bordered(torch.ones(1, 1, *shape[-axes:], dtype=torch.float64), self.padding, 1.0)
        windows = replace(self, padding=(0,) * 2 * axes, excess=(0,) * 2 * axes)
        counted = windows(bordered(ones, self.excess, 0.0))[0, 0].mul(math.prod(self.kernel)).round()
        together = math.lcm(*{int(count) for count in counted.flatten().tolist()})
        return together, together / counted

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
        (x,) = inputs
        x = bordered(x, self.padding, float("-inf"))
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(self.kernel) - 1]
        windows = self.kernel, self.stride, 0, self.dilation
        return batched(lambda x: pool(x, *windows), x, x.ndim - len(self.kernel) - 2)
