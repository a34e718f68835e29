"""Operations that move values and compute none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.ir import Op, operation
from snnc.ops.fields import check_axes, check_lengths
from snnc.ops.padding import bordered


@dataclass(frozen=True, eq=False)
class Routing(Op):
    """An operation that moves values and computes none: each is one of an input's, or a constant border's."""


@final
@operation
@dataclass(frozen=True, eq=False)
class Concat(Routing):
    """Concatenation along one axis (the batch is axis 0)."""

    axis: int

    def __post_init__(self) -> None:
        check_axes(self.axis)

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)


@final
@operation
@dataclass(frozen=True, eq=False)
class Slice(Routing):
    """``start:stop:step`` of one axis, with ``0 <= start < stop`` and ``step > 0``."""

    axis: int
    start: int
    stop: int
    step: int = 1

    def __post_init__(self) -> None:
        check_axes(self.axis)
        check_lengths(self.start, self.stop)
        check_lengths(self.step, self.stop - self.start, least=1)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x[(slice(None),) * self.axis + (slice(self.start, self.stop, self.step),)]


@final
@operation
@dataclass(frozen=True, eq=False)
class Take(Routing):
    """The entries of one axis at ``indices``, repeats allowed: gathers, flips, nearest resizing, mirrored pads."""

    axis: int
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        check_axes(self.axis)
        check_lengths(*self.indices)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.index_select(self.axis, torch.tensor(self.indices, device=x.device))


@final
@operation
@dataclass(frozen=True, eq=False)
class Pad(Routing):
    """A constant border around the sample's axes: all the beginnings, then all the ends."""

    padding: tuple[int, ...]
    value: float = 0.0

    def __post_init__(self) -> None:
        check_lengths(*map(abs, self.padding))
        if len(self.padding) % 2:
            raise ValueError(f"{list(self.padding)} is no padding before and behind each axis")

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return bordered(x, self.padding, self.value)


@final
@operation
@dataclass(frozen=True, eq=False)
class Reshape(Routing):
    """Another shape of one sample: flatten, squeeze, unsqueeze and view."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_lengths(*self.shape)

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.reshape(-1, *self.shape)


@final
@operation
@dataclass(frozen=True, eq=False)
class Transpose(Routing):
    """Another order of the axes; ``order[0]`` is 0, the batch."""

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if [*self.order[:1]] != [0] or sorted(self.order) != [*range(len(self.order))]:
            raise ValueError(f"{list(self.order)} is no order of axes, the batch in front")

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.permute(self.order)
