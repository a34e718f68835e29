"""What stands in for activations while a network is trained: clipped or quantized, with straight-through gradients."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnc.ops import ClippedRelu, QuantizedRelu


def quantized(
    z: Tensor, ceiling: Tensor, levels: int, potential: Tensor, slope: Tensor | None = None, value: Tensor | None = None
) -> Tensor:
    """Return the quantized ReLU of ``z``, with the gradients of QCFS (Bu et al., ICLR 2022).

    With a the output, ∂a/∂z is 1 on (0, ceiling), else 0; ∂a/∂ceiling is (a − z)/ceiling there, 1 above and 0 below.
    With a ``slope`` the same holds below zero, times the slope. ``value`` is what a layer of neurons really answered to
    currents with mean ``z``: it takes the place of a, in the gradients too.
    """
    if value is None:
        value = QuantizedRelu(ceiling.detach(), levels, slope, potential)(z.detach())
    result: Tensor = _StraightThrough.apply(z, ceiling, value, slope)  # type: ignore[no-untyped-call]
    return result


def clipped(z: Tensor, ceiling: Tensor, slope: Tensor | None = None) -> Tensor:
    """Return the clipped ReLU of ``z`` with a ceiling that learns (Ho and Chang, ISCA 2021).

    ∂a/∂z is 1 on (0, ceiling), else 0; ∂a/∂ceiling is 1 at and above the ceiling, else 0: QCFS with infinitely many
    levels. With a ``slope`` the same holds below zero, times the slope.
    """
    value = ClippedRelu(ceiling.detach(), slope)(z.detach())
    result: Tensor = _StraightThrough.apply(z, ceiling, value, slope)  # type: ignore[no-untyped-call]
    return result


def consistent(
    z: Tensor, ceiling: Tensor, levels: int, potential: Tensor, slope: Tensor | None = None, value: Tensor | None = None
) -> Tensor:
    """Return the quantized ReLU of ``z``, with the gradients of CQReLU (CASC, Li et al., 2024).

    In units of the ceiling, which does not learn: ∂a/∂z is 1 on [0, 1], else 0, and the gradient that arrives is
    clipped to [−1, 1].
    """
    if value is None:
        value = QuantizedRelu(ceiling.detach(), levels, slope, potential)(z.detach())
    result: Tensor = _ClippedGradient.apply(z, ceiling.detach(), value, slope)  # type: ignore[no-untyped-call]
    return result


class _ClippedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, ceiling: Tensor, value: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(z, ceiling, slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        z, ceiling, slope = ctx.saved_tensors
        arriving = (gradient * ceiling).clamp_(-1, 1).div_(ceiling)
        inside = (z >= (0 if slope is None else -ceiling)) & (z <= ceiling)
        if slope is not None:
            arriving = torch.where(z > 0, arriving, arriving * slope)
        return arriving * inside, None, None, None


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, ceiling: Tensor, value: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(z, ceiling, value, slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        z, ceiling, value, slope = ctx.saved_tensors
        below = 0 if slope is None else -ceiling
        inside = (z > below) & (z < ceiling)
        if slope is None:
            to_input = gradient * inside
            error = value - z
        else:
            factor = torch.where(z > 0, torch.ones_like(slope), slope)
            to_input = gradient * inside * factor
            error = value - z * factor
        to_ceiling = None
        if ctx.needs_input_grad[1]:
            share = (error / ceiling).mul_(inside)
            share += z >= ceiling
            if slope is not None:
                share -= (z <= below) * slope
            to_ceiling = share.mul_(gradient).sum_to_size(ceiling.shape)
        return to_input, to_ceiling, None, None
