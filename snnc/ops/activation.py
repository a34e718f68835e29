"""Rectifiers, and values that are to be coded: the places where spiking neurons will stand."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from snnc.ir import Op, broadcast, operation

# The share of its threshold that a neuron starts with, so that it rounds to the nearest level.
HALF = torch.tensor(0.5)
ONE = torch.tensor(1.0)
# Whole numbers are exact in single precision up to this.
_MOST_LEVELS = 1 << 24


@dataclass(frozen=True, eq=False)
class Activation(Op):
    """A rectifier or a value to be coded, the place where a spiking neuron will stand; its tensors broadcast."""

    linear: ClassVar[bool] = False

    def shaped(self, *inputs: Tensor) -> Tensor:
        return broadcast(*inputs, *self.tensors().values())


@final
@operation
@dataclass(frozen=True, eq=False)
class Relu(Activation):
    """``max(z, 0)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.relu()


@final
@operation
@dataclass(frozen=True, eq=False)
class LeakyRelu(Activation):
    """``z`` where positive, ``slope · z`` elsewhere; ``slope`` broadcasts against one sample (also PReLU)."""

    slope: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return lessened(z, self.slope)


@dataclass(frozen=True, eq=False)
class Clipped(Activation):
    """An activation with a ``ceiling``, which broadcasts against one sample and may be infinite.

    ``slope`` is None where nothing goes below zero.
    """

    unbounded: ClassVar[frozenset[str]] = frozenset({"ceiling"})

    ceiling: Tensor
    slope: Tensor | None

    def gathered(self, z: Tensor) -> Tensor:
        """Return the input in units in which the ceiling is as far below zero as above."""
        return z

    @abstractmethod
    def quantized(self, ceiling: Tensor, levels: int, slope: Tensor | None) -> Quantized:
        """Return this activation on ``levels`` steps up to ``ceiling``, and with another slope."""


@dataclass(frozen=True, eq=False)
class Quantized(Activation):
    """The closed form of a spiking layer with threshold ``ceiling`` over ``levels`` time steps.

    Its neurons start at ``potential`` times their threshold: at 1/2 they round to the nearest level. With a ``slope``,
    counts go down to ``-levels`` and negative ones weigh ``slope``. Tensors broadcast against one sample. Raises
    ValueError where a field is out of range.
    """

    ceiling: Tensor
    levels: int
    slope: Tensor | None
    potential: Tensor

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= _MOST_LEVELS:
            raise ValueError(f"a quantized activation has 1 to {_MOST_LEVELS:,} levels, not {self.levels}")
        if not bool(((self.ceiling > 0) & self.ceiling.isfinite()).all()):
            raise ValueError("the ceiling of a quantized activation must be positive and finite")
        if not bool(self.potential.isfinite().all()):
            raise ValueError("the potential of a quantized activation must be finite")

    @final
    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        signed = self.slope is not None
        count = level_count(self.gathered(x), self.ceiling, self.levels, self.potential, signed=signed)
        if self.slope is not None:
            count = lessened(count, self.slope)
        return count.mul_(self.ceiling / self.levels)

    def gathered(self, z: Tensor) -> Tensor:
        """Return the input in units in which a level is as wide below zero as above."""
        return z

    @abstractmethod
    def clipped(self) -> Clipped:
        """Return what it is without levels."""


@final
@operation
@dataclass(frozen=True, eq=False)
class ClippedRelu(Clipped):
    """``clip(z, 0, ceiling)``, or ``clip(z, -ceiling, ceiling)`` with negative values times ``slope``."""

    slope: Tensor | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        if self.slope is None:
            return torch.minimum(z.relu(), self.ceiling)
        z = torch.maximum(torch.minimum(z, self.ceiling), -self.ceiling)
        return lessened(z, self.slope)

    def quantized(self, ceiling: Tensor, levels: int, slope: Tensor | None) -> QuantizedRelu:
        return QuantizedRelu(ceiling, levels, slope)


@final
@operation
@dataclass(frozen=True, eq=False)
class QuantizedRelu(Quantized):
    """A clipped ReLU on L levels: ``ceiling / L · clip(floor(L · z / ceiling + potential), 0, L)``.

    (Bu et al., ICLR 2022.)
    """

    slope: Tensor | None = None
    potential: Tensor = HALF

    def clipped(self) -> ClippedRelu:
        return ClippedRelu(self.ceiling, self.slope)


@final
@operation
@dataclass(frozen=True, eq=False)
class ClippedCoding(Clipped):
    """``clip(z, -slope · ceiling, ceiling)``: a value that neurons are to stand for as it is."""

    slope: Tensor = ONE

    def __call__(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return torch.maximum(torch.minimum(z, self.ceiling), -self.slope * self.ceiling)

    def gathered(self, z: Tensor) -> Tensor:
        return as_above(z, self.slope)

    def quantized(self, ceiling: Tensor, levels: int, slope: Tensor | None) -> Coding:
        return Coding(ceiling, levels, self.slope if slope is None else slope)


@final
@operation
@dataclass(frozen=True, eq=False)
class Coding(Quantized):
    """A value on ``2 · levels + 1`` levels, the code of it that neurons of both signs send.

    ``S(k) / L`` with ``k = clip(floor(L · z / θ + potential), −L, L)``, where ``S(k) = θ · k`` and θ is ``ceiling``
    above zero, ``slope · ceiling`` below.
    """

    slope: Tensor = ONE
    potential: Tensor = HALF

    def __post_init__(self) -> None:
        check_coding(self.slope)
        Quantized.__post_init__(self)

    def gathered(self, z: Tensor) -> Tensor:
        return as_above(z, self.slope)

    def clipped(self) -> ClippedCoding:
        return ClippedCoding(self.ceiling, self.slope)


def check_coding(slope: Tensor) -> None:
    """Raise ValueError where levels below zero are not on the other side of zero."""
    if not bool(((slope > 0) & slope.isfinite()).all()):
        raise ValueError("the levels of a code must be positive and finite on both sides")


def as_above(z: Tensor, slope: Tensor) -> Tensor:
    """Return values to be coded in units in which a level is as wide below zero as above."""
    return (z.clamp_max(0) / slope).add_(z.relu())


def lessened(z: Tensor, slope: Tensor) -> Tensor:
    """Return values of which those below zero are times a slope."""
    # The sum of both sides, of which one is zero: to choose between them takes seven times as long.
    return (z.clamp_max(0) * slope).add_(z.relu())


def level_count(z: Tensor, ceiling: Tensor, levels: int, potential: Tensor, *, signed: bool) -> Tensor:
    """Return the level of ``z`` on ``levels`` steps up to ``ceiling``: how many spikes stand for it.

    One formula for the quantized ReLU and for the neurons that realize it, so that both round alike.
    """
    return torch.mul(z, levels / ceiling).add_(potential).floor_().clamp_(-levels if signed else 0, levels)
