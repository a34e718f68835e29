"""Two-phase neuron that fires once: gather the whole input, then spike the earlier, the larger the count is.

    phase 1:  V = v(0) + Σ_t x(t),   no spikes
    phase 2:  n = clip(floor(V/θ), 0, T);   s(t) = 1 where n ≥ 1 and t = T − n + 1,   else 0
    receiver: i ← i + W·s(t)·θ;   a ← a + i

A spike weighs one level for every step that is left, its own included: the same answers as of spikes spread evenly,
with one spike at most (Rueckauer and Liu, ISCAS 2018; Stanojevic et al., 2022, of analog times).
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.neurons.base import neurons
from snnc.neurons.counting import Counting


@final
@neurons.register("first-spike")
@dataclass(frozen=True, eq=False)
class FirstSpike(Counting):
    """The two-phase neuron whose one spike, at step t of T, stands for T − t + 1 levels."""

    def weight(self, step: int, timesteps: int) -> int:
        return timesteps - step + 1

    def told(self, count: Tensor, step: int, timesteps: int) -> Tensor:
        return torch.where(count.abs() >= self.weight(step, timesteps), count, 0.0)

    def events(self, count: Tensor) -> Tensor:
        return count.clamp(max=1)
