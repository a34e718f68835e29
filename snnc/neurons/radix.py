"""Two-phase neuron with a radix code: gather the whole input, then send the count in binary, largest digit first.

    phase 1:  V = v(0) + Σ_t x(t),   no spikes
    phase 2:  n = clip(floor(V/θ), 0, 2^min(T, 16) − 1);   s(t) = the digit of n that weighs 2^(T−t)
    receiver: a ← 2·a + W·s(t)·θ

T steps tell 2^T levels apart, with at most T spikes (Wang et al., 2021, arXiv 2105.06943).
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.neurons.base import neurons
from snnc.neurons.counting import Counting

# Counts stay exact in single precision, and more levels than this nobody tells apart: earlier steps are silent.
DIGITS = 16


@final
@neurons.register("radix")
@dataclass(frozen=True, eq=False)
class Radix(Counting):
    """The two-phase neuron whose spike at step t of T stands for 2^(T−t) levels, of at most 65,535."""

    def levels(self, timesteps: int) -> int:
        return (1 << min(timesteps, DIGITS)) - 1

    def weight(self, step: int, timesteps: int) -> int:
        return 1 << min(timesteps - step, DIGITS - 1)

    def told(self, count: Tensor, step: int, timesteps: int) -> Tensor:
        if timesteps - step >= DIGITS:
            return torch.zeros_like(count)
        weight = self.weight(step, timesteps)
        return (count / weight).trunc_().mul_(weight)

    def events(self, count: Tensor) -> Tensor:
        digits = torch.zeros_like(count)
        left = count.clone()
        for _ in range(DIGITS):
            half = (left / 2).floor_()
            digits += left - 2 * half
            left = half
        return digits
