"""Scales, shifts and sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch.nn.functional as F
from torch import Tensor

from snnc.ir import Op, broadcast, operation
from snnc.ops.batching import batched
from snnc.ops.fields import check_axes


@final
@operation
@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """Batch normalization with stored statistics, all ``[C]``, of the channels along an axis (the batch is 0)."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float
    axis: int = 1

    def __post_init__(self) -> None:
        check_axes(self.axis)
        known = {(*part.shape,) for part in (self.scale, self.shift, self.mean, self.variance)}
        if len(known) > 1 or self.scale.ndim != 1:
            raise ValueError(f"statistics of shapes {sorted(known)}, not of one for each channel")

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        known = self.mean, self.variance, self.scale, self.shift, False, 0.0, self.epsilon
        return batched(lambda x: F.batch_norm(x, *known), x, self.axis - 1)

    def shaped(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if x.shape[self.axis] != len(self.scale):
            raise ValueError(f"statistics of {len(self.scale)} channels for {x.shape[self.axis]}")
        return x.new_empty(x.shape)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return what the normalization multiplies by and then adds, each ``[C]``."""
        factor = self.scale.double() / (self.variance.double() + self.epsilon).sqrt()
        offset = self.shift.double() - self.mean.double() * factor
        return factor.to(self.scale.dtype), offset.to(self.scale.dtype)


@final
@operation
@dataclass(frozen=True, eq=False)
class Affine(Op):
    """Multiplication by, then addition of constants that broadcast against one sample (None: leave out)."""

    scale: Tensor | None
    shift: Tensor | None

    def __call__(self, *inputs: Tensor) -> Tensor:
        (y,) = inputs
        if self.scale is not None:
            y = y * self.scale
        return y if self.shift is None else y + self.shift

    def shaped(self, *inputs: Tensor) -> Tensor:
        return broadcast(*inputs, *self.tensors().values())


@final
@operation
@dataclass(frozen=True, eq=False)
class Add(Op):
    """Sum of two or more inputs."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total

    def shaped(self, *inputs: Tensor) -> Tensor:
        return broadcast(*inputs)
