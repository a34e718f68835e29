"""Values read between places: at constant ones by weighted sums along an axis, at others by interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch.nn.functional as F
from torch import Tensor

from snnc.ir import Op, operation
from snnc.ops.fields import check_axes
from snnc.ops.nonlinear import Nonlinear

# Sums of more entries than these are computed as a product with a matrix: one of 16 is cubic resizing of a map.
_FEW = 16
_MODES, _BEYOND = ("nearest", "linear", "cubic"), ("zeros", "border", "reflection")


@final
@operation
@dataclass(frozen=True, eq=False)
class Resample(Op):
    """Entries of one axis (the batch is axis 0) as sums of K old ones: ``y[i] = Σ_k weights[i, k] · x[places[i, k]]``.

    ``places`` and ``weights`` are ``[out, K]``; places are whole numbers in single precision, hence below 2^24.
    """

    axis: int
    places: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        check_axes(self.axis)
        if self.places.ndim != 2 or self.places.shape != self.weights.shape:
            raise ValueError(f"places {[*self.places.shape]} and weights {[*self.weights.shape]} are no sums")

    def __call__(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if self.dense:
            return (x.movedim(self.axis, -1) @ self.matrix(x.shape[self.axis]).T.to(x)).movedim(-1, self.axis)
        along = (-1, *(1 for _ in range(x.ndim - self.axis - 1)))
        total = x.new_zeros(())
        for places, weights in zip(self.places.T, self.weights.T, strict=True):
            total = total + x.index_select(self.axis, places.to(x.device).long()) * weights.view(along)
        return total

    @property
    def dense(self) -> bool:
        """Whether a product with a matrix is less work than gathering so many entries one by one."""
        return self.places.shape[1] > _FEW

    def matrix(self, length: int) -> Tensor:
        """Return the weights as a matrix ``[out, in]`` of an axis of that length."""
        matrix = self.weights.new_zeros(len(self.places), length)
        return matrix.scatter_add(1, self.places.long(), self.weights)


@final
@operation
@dataclass(frozen=True, eq=False)
class GridSample(Nonlinear):
    """Maps ``[..., C, *space]`` read at the places of a grid ``[..., *out, axes]``, from -1 to 1, the last axis first.

    ``mode`` is ``nearest``, ``linear`` or ``cubic``; outside a map are ``zeros``, its ``border`` or its ``reflection``.
    At -1 and 1 are the middles of the outermost pixels, their ``corners``, or else their outer edges.
    """

    mode: str
    padding: str
    corners: bool

    def __post_init__(self) -> None:
        if self.mode not in _MODES or self.padding not in _BEYOND:
            raise ValueError(f"mode {self.mode!r} and padding {self.padding!r}")

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, grid = inputs
        axes = grid.shape[-1]
        further = x.shape[1 : x.ndim - axes - 1]
        if further:
            x, grid = x.flatten(0, len(further)), grid.flatten(0, len(further))
        mode = {"linear": "bilinear", "cubic": "bicubic"}.get(self.mode, self.mode)
        y = F.grid_sample(x, grid, mode, self.padding, self.corners)
        return y.reshape(-1, *further, *y.shape[1:]) if further else y
