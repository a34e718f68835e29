"""What is chosen by comparing all along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.ir import operation
from snnc.ops.fields import check_axes, check_lengths
from snnc.ops.nonlinear import Nonlinear
from snnc.ops.reduction import Reduction


@final
@operation
@dataclass(frozen=True, eq=False)
class Ranked(Nonlinear):
    """The ``count`` largest numbers along one axis (the batch is axis 0), the largest first."""

    axis: int
    count: int

    def __post_init__(self) -> None:
        check_axes(self.axis)
        check_lengths(self.count, least=1)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.topk(self.count, self.axis).values


@final
@operation
@dataclass(frozen=True, eq=False)
class RankedPlaces(Nonlinear):
    """The places of the ``count`` largest numbers along one axis, the first of those that are equal before the others.

    The batch is axis 0.
    """

    axis: int
    count: int

    def __post_init__(self) -> None:
        check_axes(self.axis)
        check_lengths(self.count, least=1)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        order = x.sort(dim=self.axis, descending=True, stable=True).indices
        return order.narrow(self.axis, 0, self.count).to(x.dtype)


@final
@operation
@dataclass(frozen=True, eq=False)
class Gathered(Nonlinear):
    """Entries of the first along one axis, at the whole numbers of the second, from the end where these are below 0.

    Both have as many axes, of which the second may be shorter in all; the batch is axis 0.
    """

    axis: int

    def __post_init__(self) -> None:
        check_axes(self.axis)

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, places = inputs
        return x.gather(self.axis, places.round().long() % x.shape[self.axis])


@final
@operation
@dataclass(frozen=True, eq=False)
class ArgMax(Reduction):
    """The place of the largest number along one axis, the first of those that are equal."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,), (axis,) = inputs, self.axes
        return x.argmax(axis, self.keep).to(x.dtype)
