"""Rectifiers: the places where spiking neurons will stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from snnc.ir import Op, operation

# The share of its threshold that a neuron starts with, so that it rounds to the nearest level.
HALF = torch.tensor(0.5)


@dataclass(frozen=True, eq=False)
class Activation(Op):
    """A rectifier, the place where a spiking neuron will stand."""

    linear: ClassVar[bool] = False


@final
@operation
@dataclass(frozen=True, eq=False)
class Relu(Activation):
    """``max(z, 0)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].relu()


@final
@operation
@dataclass(frozen=True, eq=False)
class LeakyRelu(Activation):
    """``z`` where positive, ``slope · z`` elsewhere; ``slope`` broadcasts against one sample (also PReLU)."""

    slope: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return torch.where(z > 0, z, z * self.slope)


@final
@operation
@dataclass(frozen=True, eq=False)
class ClippedRelu(Activation):
    """``clip(z, 0, ceiling)``, or ``clip(z, -ceiling, ceiling)`` with negative values times ``slope``.

    Both tensors broadcast against one sample; a ceiling may be infinite.
    """

    ceiling: Tensor
    slope: Tensor | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        if self.slope is None:
            return torch.minimum(z.relu(), self.ceiling)
        z = torch.maximum(torch.minimum(z, self.ceiling), -self.ceiling)
        return torch.where(z > 0, z, z * self.slope)


@final
@operation
@dataclass(frozen=True, eq=False)
class QuantizedRelu(Activation):
    """A clipped ReLU on L ``levels``: ``ceiling / L · clip(floor(L · z / ceiling + potential), 0, L)``.

    The closed form of a spiking layer with threshold ``ceiling`` over ``levels`` time steps (Bu et al., ICLR 2022)
    whose neurons start at ``potential`` times their threshold: at 1/2 it rounds to the nearest level. With a
    ``slope``, counts go down to ``-levels`` and negative ones weigh ``slope``.
    """

    ceiling: Tensor
    levels: int
    slope: Tensor | None = None
    potential: Tensor = HALF

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError("a quantized activation has at least one level")
        if not bool(((self.ceiling > 0) & self.ceiling.isfinite()).all()):
            raise ValueError("the ceiling of a quantized activation must be positive and finite")
        if not bool(self.potential.isfinite().all()):
            raise ValueError("the potential of a quantized activation must be finite")

    def __call__(self, *inputs: Tensor) -> Tensor:
        signed = self.slope is not None
        count = level_count(inputs[0], self.ceiling, self.levels, self.potential, signed=signed)
        if self.slope is not None:
            count = torch.where(count > 0, count, count * self.slope)
        return count.mul_(self.ceiling / self.levels)


def level_count(z: Tensor, ceiling: Tensor, levels: int, potential: Tensor, *, signed: bool) -> Tensor:
    """Return the level of ``z`` on ``levels`` steps up to ``ceiling``: how many spikes stand for it.

    One formula for the quantized ReLU and for the neurons that realize it, so that both round alike.
    """
    return torch.mul(z, levels / ceiling).add_(potential).floor_().clamp_(-levels if signed else 0, levels)
