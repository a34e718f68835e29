"""What stands between neurons in NIR: convolutions, matrices, sums of windows, and flattening."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import final

import torch
from torch import Tensor

from snnc.errors import ModelError


@final
@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution without groups or dilation. A routing one was made here: with a kernel of 1, it only moves values.

    ``begin`` and ``end`` are zeros around the input.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    routing: bool = False

    @property
    def pointwise(self) -> bool:
        """Whether it has a kernel and a stride of 1 and no padding."""
        sizes = (*self.weight.shape[2:], *self.stride)
        return all(size == 1 for size in sizes) and not any((*self.begin, *self.end))


@final
@dataclass(frozen=True, eq=False)
class Matrix:
    """A product with a matrix ``[out, in]``, and a bias."""

    weight: Tensor
    bias: Tensor


@final
@dataclass(frozen=True)
class SumPool:
    """The sum of windows over two spatial axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]


@final
@dataclass(frozen=True)
class Flattening:
    """All axes into one; ``shape`` is that of the input."""

    shape: tuple[int, ...]


Link = Kernel | Matrix | SumPool | Flattening


def sums_windows(link: Link) -> bool:
    """Return whether a link adds up values of windows, of every channel by itself, and does nothing else."""
    if not isinstance(link, Kernel):
        return isinstance(link, SumPool)
    channels, before, *window = link.weight.shape
    across = 1 - torch.eye(channels, before).to(link.weight).reshape(channels, before, *(1 for _ in window))
    ones = ((link.weight == 0) | (link.weight == 1)).all() and not (link.weight * across).any()
    return link.routing and channels == before and not link.bias.any() and bool(ones)


def composed(first: Kernel, second: Kernel) -> Kernel | None:
    """Return one convolution for two, of which one only moves values; None where neither does."""
    ones = all(size == 1 for size in (*first.weight.shape[2:], *first.stride))
    padded = any((*second.begin, *second.end))
    if first.routing and ones and not (padded and first.bias.any()):
        moved = first.weight.flatten(1)
        weight = torch.einsum("om...,mi->oi...", second.weight, moved)
        bias = second.bias + second.weight.flatten(2).sum(2) @ first.bias
        begin, end = (tuple(map(sum, zip(*pair, strict=True))) for pair in _paddings(first, second))
        return Kernel(weight, bias, second.stride, begin, end, first.routing and second.routing)
    if second.routing and second.pointwise:
        moved = second.weight.flatten(1)
        weight = torch.einsum("om,mi...->oi...", moved, first.weight)
        return replace(first, weight=weight, bias=moved @ first.bias + second.bias)
    return None


def _paddings(first: Kernel, second: Kernel) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    return (first.begin, second.begin), (first.end, second.end)


def shape_behind(shape: Sequence[int], step: Link) -> tuple[int, ...]:
    """Return the shape of a sample behind a step."""
    if isinstance(step, Flattening):
        return (math.prod(shape),)
    if isinstance(step, Matrix):
        return (len(step.weight),)
    if isinstance(step, SumPool):
        pooled = zip(shape[1:], step.kernel, step.stride, strict=True)
        return (shape[0], *((n - k) // s + 1 for n, k, s in pooled))
    windows = zip(shape[1:], step.weight.shape[2:], step.stride, step.begin, step.end, strict=True)
    return (len(step.weight), *((n + b + e - k) // s + 1 for n, k, s, b, e in windows))


def ungrouped(kernel: Tensor) -> Tensor:
    """Return kernels ``[groups, out, in, *window]`` as ``[groups · out, groups · in, *window]``, with zeros between."""
    groups, outputs, inputs, *window = kernel.shape
    whole = kernel.new_zeros(groups, outputs, groups, inputs, *window)
    each = torch.arange(groups)
    whole[each, :, each] = kernel
    return whole.flatten(2, 3).flatten(0, 1)


def undilated(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """Return the kernels of a convolution without dilation, with zeros between their weights."""
    if all(step == 1 for step in dilation):
        return weight
    sizes = [1 + (size - 1) * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
    spread = weight.new_zeros(*weight.shape[:2], *sizes)
    spread[_at(*(slice(None, None, step) for step in dilation))] = weight
    return spread


def squared(kernel: Kernel, shape: Sequence[int], place: str) -> tuple[Tensor, tuple[int, ...]]:
    """Return a kernel with the same size along every axis, and a padding that is the same at both ends.

    Zeros around the weights make up for the padding; ``shape`` is that of a sample before it. Raises ModelError where
    there is no such: with a stride of 1, a kernel odd along one axis and even along the other, paddings counted.
    """
    sizes = kernel.weight.shape[2:]
    axes = list(zip(shape[1:], sizes, kernel.stride, kernel.begin, kernel.end, strict=True))
    largest = max(k + 2 * max(b, e) - b - e for _, k, _, b, e in axes)
    for size in range(largest, largest + max(kernel.stride) + 1):
        padding = [_padding(size, *axis) for axis in axes]
        if None not in padding:
            break
    else:
        hint = "use kernels that are odd, or even, along both axes"
        message = f"importers of NIR take square kernels, and {tuple(sizes)} does not fit one"
        raise ModelError(message, place=place, hint=hint)
    both = tuple(own for own in padding if own is not None)
    weight = kernel.weight.new_zeros(*kernel.weight.shape[:2], *(size for _ in sizes))
    places = (slice(own - b, own - b + k) for own, (_, k, _, b, _) in zip(both, axes, strict=True))
    weight[_at(*places)] = kernel.weight
    return weight, both


def _padding(size: int, length: int, kernel: int, stride: int, begin: int, end: int) -> int | None:
    """Return the padding at both ends with which a larger kernel has as many windows, at the same places."""
    windows = (length + begin + end - kernel) // stride
    for padding in range(begin, begin + size - kernel + 1):
        if (length + 2 * padding - size) // stride == windows:
            return padding
    return None


def _at(*places: int | slice) -> tuple[EllipsisType | int | slice, ...]:
    """Return the index of places in the last axes."""
    return (..., *places)
