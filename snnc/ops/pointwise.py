"""Functions of every number by itself that have parameters, and of the numbers at one place of several inputs.

What is true is 1, what is not is 0. All are total, as those without parameters are (``snnc.ops.functions``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.ir import broadcast, operation
from snnc.ops.nonlinear import Nonlinear

# Two numbers that differ by a smaller part of the larger one are the same but for rounding: means over time steps of
# what is one value of the trained network differ so.
ROUNDING = 2e-6
# Beyond it a difference counts, however large the numbers are.
LARGEST_ROUNDING = 0.01
# Summed over thousands of time steps it is finite in single precision; what is larger is taken for nothing.
LARGEST = 5e34


@dataclass(frozen=True, eq=False)
class Pointwise(Nonlinear):
    """A function of the numbers at one place of its inputs and tensors, which broadcast against one another."""

    def shaped(self, *inputs: Tensor) -> Tensor:
        return broadcast(*inputs, *self.tensors().values())


@final
@operation
@dataclass(frozen=True, eq=False)
class Silu(Pointwise):
    """``x · sigmoid(steepness · x)``, also called Swish."""

    steepness: float = 1.0

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x * (x * self.steepness).sigmoid()


@final
@operation
@dataclass(frozen=True, eq=False)
class Gelu(Pointwise):
    """``x · Φ(x)``, with Φ the normal distribution or, ``approximate``, what is near it and made of tanh."""

    approximate: bool = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return F.gelu(x, approximate="tanh" if self.approximate else "none")


@final
@operation
@dataclass(frozen=True, eq=False)
class Elu(Pointwise):
    """``x`` above zero, ``scale · (exp(x) − 1)`` below it."""

    scale: float = 1.0

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return F.elu(x, self.scale)


@final
@operation
@dataclass(frozen=True, eq=False)
class Shrink(Pointwise):
    """``x + shift`` below ``−limit``, ``x − shift`` above it, zero between."""

    limit: float
    shift: float

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        zero = torch.zeros_like(x)
        return torch.where(x < -self.limit, x + self.shift, torch.where(x > self.limit, x - self.shift, zero))


@final
@operation
@dataclass(frozen=True, eq=False)
class ThresholdedRelu(Pointwise):
    """``x`` above ``limit``, zero elsewhere."""

    limit: float

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return torch.where(x > self.limit, x, torch.zeros_like(x))


@final
@operation
@dataclass(frozen=True, eq=False)
class Power(Pointwise):
    """``x`` to an ``exponent`` that broadcasts against one sample; zero where that is not finite."""

    exponent: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return _finite(x.pow(self.exponent))


@final
@operation
@dataclass(frozen=True, eq=False)
class Remainder(Pointwise):
    """What dividing by a ``divisor`` leaves: of the sign of the divisor where ``floored``, else of that of ``x``."""

    divisor: Tensor
    floored: bool

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return _finite((torch.remainder if self.floored else torch.fmod)(x, self.divisor))


@final
@operation
@dataclass(frozen=True, eq=False)
class Truncate(Pointwise):
    """The next whole number toward zero; what misses one by a rounding error is that one."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return (x + (x * ROUNDING).clamp(-LARGEST_ROUNDING, LARGEST_ROUNDING)).trunc()


@final
@operation
@dataclass(frozen=True, eq=False)
class Product(Pointwise):
    """The product of two inputs."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return x * y


@final
@operation
@dataclass(frozen=True, eq=False)
class Quotient(Pointwise):
    """The first input divided by the second; zero where that is not finite."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return _finite(x / y)


@final
@operation
@dataclass(frozen=True, eq=False)
class Exponentiation(Pointwise):
    """The first input to the second; zero where that is not finite."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return _finite(x.pow(y))


@final
@operation
@dataclass(frozen=True, eq=False)
class Greater(Pointwise):
    """Whether the first input exceeds the second by more than a rounding error."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return (x - y > rounding_of(torch.maximum(x.abs(), y.abs()))).to(x.dtype)


@final
@operation
@dataclass(frozen=True, eq=False)
class Where(Pointwise):
    """The second input where the first is true, else the third."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        condition, x, y = inputs
        return torch.where(condition > 0.5, x, y)


def rounding_of(x: Tensor) -> Tensor:
    """Return by how much rounding may move what jumps at a value."""
    return (x.abs() * ROUNDING).clamp(max=LARGEST_ROUNDING)


def _finite(y: Tensor) -> Tensor:
    return torch.where(y.abs() <= LARGEST, y, torch.zeros_like(y))
