"""Functions of every number by itself that have no parameters.

All are total: what is beyond the domain of a function is taken for the end of it. A train of spikes may lead anywhere
on its way to a value, and what is not finite once stays in all sums that follow.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.ir import operation
from snnc.ops.pointwise import Pointwise, rounding_of

# The smallest normal number of single precision, and what is next to one.
_TINY = torch.finfo(torch.float32).tiny
_BELOW_ONE = 1 - torch.finfo(torch.float32).eps
# e to it, summed over thousands of time steps, is finite in single precision.
_STEEP = 80.0


@dataclass(frozen=True, eq=False)
class Function(Pointwise):
    """A function of one number: ``function`` of what is closest in its ``domain``."""

    domain: ClassVar[tuple[float, float]] = (-torch.inf, torch.inf)

    @staticmethod
    @abstractmethod
    def function(x: Tensor, /) -> Tensor:
        """Compute the function within its domain."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        low, high = self.domain
        return self.function(x if low == -high == -torch.inf else x.clamp(low, high))


@final
@operation
@dataclass(frozen=True, eq=False)
class Sigmoid(Function):
    """``1 / (1 + exp(−x))``."""

    function = staticmethod(torch.sigmoid)


@final
@operation
@dataclass(frozen=True, eq=False)
class Tanh(Function):
    """``tanh(x)``."""

    function = staticmethod(torch.tanh)


@final
@operation
@dataclass(frozen=True, eq=False)
class Softplus(Function):
    """``log(1 + exp(x))``."""

    function = staticmethod(F.softplus)


@final
@operation
@dataclass(frozen=True, eq=False)
class Softsign(Function):
    """``x / (1 + |x|)``."""

    function = staticmethod(F.softsign)


@final
@operation
@dataclass(frozen=True, eq=False)
class Mish(Function):
    """``x · tanh(log(1 + exp(x)))``."""

    function = staticmethod(F.mish)


@final
@operation
@dataclass(frozen=True, eq=False)
class Erf(Function):
    """The error function."""

    function = staticmethod(torch.erf)


@final
@operation
@dataclass(frozen=True, eq=False)
class Exp(Function):
    """``exp(x)``."""

    function = staticmethod(torch.exp)
    domain = (-torch.inf, _STEEP)


@final
@operation
@dataclass(frozen=True, eq=False)
class Log(Function):
    """``log(x)``."""

    function = staticmethod(torch.log)
    domain = (_TINY, torch.inf)


@final
@operation
@dataclass(frozen=True, eq=False)
class Sqrt(Function):
    """``√x``."""

    function = staticmethod(torch.sqrt)
    domain = (0.0, torch.inf)


@final
@operation
@dataclass(frozen=True, eq=False)
class Sin(Function):
    """``sin(x)``."""

    function = staticmethod(torch.sin)


@final
@operation
@dataclass(frozen=True, eq=False)
class Cos(Function):
    """``cos(x)``."""

    function = staticmethod(torch.cos)


@final
@operation
@dataclass(frozen=True, eq=False)
class Tan(Function):
    """``tan(x)``."""

    function = staticmethod(torch.tan)


@final
@operation
@dataclass(frozen=True, eq=False)
class Asin(Function):
    """``arcsin(x)``."""

    function = staticmethod(torch.asin)
    domain = (-1.0, 1.0)


@final
@operation
@dataclass(frozen=True, eq=False)
class Acos(Function):
    """``arccos(x)``."""

    function = staticmethod(torch.acos)
    domain = (-1.0, 1.0)


@final
@operation
@dataclass(frozen=True, eq=False)
class Atan(Function):
    """``arctan(x)``."""

    function = staticmethod(torch.atan)


@final
@operation
@dataclass(frozen=True, eq=False)
class Sinh(Function):
    """``sinh(x)``."""

    function = staticmethod(torch.sinh)
    domain = (-_STEEP, _STEEP)


@final
@operation
@dataclass(frozen=True, eq=False)
class Cosh(Function):
    """``cosh(x)``."""

    function = staticmethod(torch.cosh)
    domain = (-_STEEP, _STEEP)


@final
@operation
@dataclass(frozen=True, eq=False)
class Asinh(Function):
    """``arsinh(x)``."""

    function = staticmethod(torch.asinh)


@final
@operation
@dataclass(frozen=True, eq=False)
class Acosh(Function):
    """``arcosh(x)``."""

    function = staticmethod(torch.acosh)
    domain = (1.0, torch.inf)


@final
@operation
@dataclass(frozen=True, eq=False)
class Atanh(Function):
    """``artanh(x)``."""

    function = staticmethod(torch.atanh)
    domain = (-_BELOW_ONE, _BELOW_ONE)


@final
@operation
@dataclass(frozen=True, eq=False)
class Sign(Function):
    """1 above zero, −1 below it, 0 on it."""

    function = staticmethod(torch.sign)


@final
@operation
@dataclass(frozen=True, eq=False)
class Floor(Function):
    """The next whole number below; what misses one by a rounding error is that one."""

    @staticmethod
    def function(x: Tensor, /) -> Tensor:
        return torch.floor(x + rounding_of(x))


@final
@operation
@dataclass(frozen=True, eq=False)
class Ceil(Function):
    """The next whole number above; what misses one by a rounding error is that one."""

    @staticmethod
    def function(x: Tensor, /) -> Tensor:
        return torch.ceil(x - rounding_of(x))


@final
@operation
@dataclass(frozen=True, eq=False)
class Round(Function):
    """The nearest whole number, halves to the even one."""

    function = staticmethod(torch.round)
