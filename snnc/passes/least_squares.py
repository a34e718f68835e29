"""Damped least squares, solved where there is less to solve: between features, or between rows.

Of rows ``X`` and what is wanted ``Y``, both less their means, the weights that minimize ‖X·Wᵀ − Y‖² + ‖W·P^½‖² with a
penalty ``P`` on each feature, the constant free, are

    Wᵀ = (Xᵀ·X + P)⁻¹·Xᵀ·Y  =  P⁻¹·Xᵀ·(X·P⁻¹·Xᵀ + 1)⁻¹·Y

(push-through identity). On the left the square of the features is kept whatever the number of rows, on the right the
rows and the square of their number.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.threads import Threads

# Rows of weights that are scaled at once.
_OUTPUTS = 256


class Solution(NamedTuple):
    """Weights ``[groups, outputs, features]``, float32, and a constant ``[groups, outputs]``, float64."""

    weights: Tensor
    constant: Tensor


class LeastSquares(ABC):
    """What is known of inputs ``[groups, rows, features]`` and of what is wanted of them, ``[groups, rows, outputs]``.

    Damping is a share of each feature's own energy; the number of features per row is added to it, so that few rows
    change little.
    """

    @property
    @abstractmethod
    def count(self) -> int:
        """How many rows are known."""

    @classmethod
    @abstractmethod
    def of(cls, inputs: Tensor, wanted: Tensor) -> Self:
        """Return what is known of some rows."""

    @abstractmethod
    def __iadd__(self, other: Self) -> Self: ...

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @abstractmethod
    def constant(self) -> Solution:
        """Return the solution without weights."""

    @abstractmethod
    def solutions(self, dampings: Iterable[float]) -> Iterator[Solution]:
        """Yield the solution for each damping."""

    @abstractmethod
    def error(self, solution: Solution) -> float:
        """Return the squared error of a solution, up to what no solution changes."""

    def _shares(self, dampings: Iterable[float], features: int) -> Iterator[float]:
        return (damping + features / max(self.count, 1) for damping in dampings)


@final
@dataclass
class Moments(LeastSquares):
    """Rows summed up as ``gram``, ``[groups, features + 1, features + 1]``, and ``moment``; the last input is 1."""

    gram: Tensor
    moment: Tensor
    count: int = 0

    @classmethod
    def of(cls, inputs: Tensor, wanted: Tensor) -> Self:
        rows = inputs.shape[1]
        with Threads() as threads:
            gram, moment = threads.gram(inputs.mT), threads.product(inputs.mT, wanted)
            sums, wanted_sums = (values.sum(1, keepdim=True) for values in (inputs, wanted))
        gram = F.pad(gram.double(), (0, 1, 0, 1), value=rows)
        gram[:, -1:, :-1], gram[:, :-1, -1:] = sums, sums.mT
        return cls(gram, torch.cat([moment, wanted_sums], 1).double(), rows)

    def __iadd__(self, other: Self) -> Self:
        self.gram += other.gram
        self.moment += other.moment
        self.count += other.count
        return self

    def __add__(self, other: Self) -> Self:
        return type(self)(self.gram + other.gram, self.moment + other.moment, self.count + other.count)

    def constant(self) -> Solution:
        groups, features, outputs = self.moment.shape
        return Solution(torch.zeros(groups, outputs, features - 1), self.moment[:, -1] / max(self.count, 1))

    def solutions(self, dampings: Iterable[float]) -> Iterator[Solution]:
        rows = max(self.count, 1)
        means = self.gram[:, :-1, -1:] / rows
        gram = self.gram[:, :-1, :-1] - means @ means.mT * rows
        moment = self.moment[:, :-1] - means * self.moment[:, -1:]
        energy = _energy(self.gram.diagonal(dim1=1, dim2=2)[:, :-1])
        for share in self._shares(dampings, energy.shape[1]):
            damped = gram.clone()
            damped.diagonal(dim1=1, dim2=2).add_(energy * share)
            weights = torch.linalg.solve(damped, moment)
            del damped
            constant = (self.moment[:, -1:] / rows - means.mT @ weights).squeeze(1)
            yield Solution(weights.mT.float(), constant)

    def error(self, solution: Solution) -> float:
        joined = torch.cat([solution.weights.mT, solution.constant.unsqueeze(1)], 1)
        return float(((self.gram @ joined - 2 * self.moment) * joined).sum())


@final
class Rows(LeastSquares):
    """Rows as they are."""

    def __init__(self, inputs: Tensor, wanted: Tensor) -> None:
        self._parts = [(inputs, wanted)]

    @classmethod
    def of(cls, inputs: Tensor, wanted: Tensor) -> Self:
        return cls(inputs, wanted)

    @property
    def count(self) -> int:
        return sum(inputs.shape[1] for inputs, _ in self._parts)

    def __iadd__(self, other: Self) -> Self:
        self._parts += other._parts
        return self

    def __add__(self, other: Self) -> Self:
        sums = type(self)(*self._joined())
        sums._parts += other._parts
        return sums

    def constant(self) -> Solution:
        inputs, wanted = self._joined()
        return Solution(inputs.new_zeros(len(inputs), wanted.shape[2], inputs.shape[2]), _mean(wanted).squeeze(1))

    def solutions(self, dampings: Iterable[float]) -> Iterator[Solution]:
        inputs, wanted = self._joined()
        means, middle = _mean(inputs), _mean(wanted)
        energy = _energy(inputs.square().sum(1, dtype=torch.float64)).unsqueeze(1)
        scaled = ((inputs - means) * energy.rsqrt()).float()
        with Threads() as threads:
            gram = threads.gram(scaled).double()
        for share in self._shares(dampings, inputs.shape[2]):
            damped = gram.clone()
            damped.diagonal(dim1=1, dim2=2).add_(share)
            found = torch.linalg.solve(damped, wanted - middle)
            weights = found.mT.float() @ scaled
            for some in weights.split(_OUTPUTS, 1):
                # In double precision, of which there is as much as of these.
                some.mul_(energy.rsqrt())
            yield Solution(weights, (middle - means.float() @ weights.mT).squeeze(1))
            # It is as large as the layer: nobody holds it while the next is worked out.
            del weights

    def error(self, solution: Solution) -> float:
        inputs, wanted = self._joined()
        missing = wanted - inputs @ solution.weights.mT - solution.constant.unsqueeze(1)
        return float(missing.square().sum())

    def _joined(self) -> tuple[Tensor, Tensor]:
        inputs, wanted = zip(*self._parts, strict=True)
        self._parts = [(torch.cat(inputs, 1), torch.cat(wanted, 1))]
        return self._parts[0]


def _mean(values: Tensor) -> Tensor:
    return values.sum(1, keepdim=True, dtype=torch.float64) / max(values.shape[1], 1)


def _energy(squares: Tensor) -> Tensor:
    """Return the energy of each feature ``[groups, features]``: one always zero must not make the system singular."""
    return squares + 1e-6 * squares.mean(1, keepdim=True) + torch.finfo(torch.float32).tiny
