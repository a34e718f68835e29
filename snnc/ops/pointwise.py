"""Functions of every number by itself, or of the numbers at the same place of several inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.ir import operation
from snnc.ops.nonlinear import Nonlinear


@dataclass(frozen=True, eq=False)
class Pointwise(Nonlinear):
    """A function of the numbers at one place of its inputs, which broadcast against one another."""


@final
@operation
@dataclass(frozen=True, eq=False)
class Sigmoid(Pointwise):
    """``1 / (1 + exp(−x))``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].sigmoid()


@final
@operation
@dataclass(frozen=True, eq=False)
class Tanh(Pointwise):
    """``tanh(x)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].tanh()


@final
@operation
@dataclass(frozen=True, eq=False)
class Product(Pointwise):
    """The product of two inputs."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return x * y
