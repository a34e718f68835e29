"""Two-phase deterministic neuron: gather the whole input, then spread the spikes evenly.

    phase 1:  V = θ/2 + Σ_t x(t),   no spikes
    phase 2:  n = clip(floor(V/θ), 0, T);   s(t) = floor(n·t/T) − floor(n·(t−1)/T)

Its count is the quantized ReLU of its mean input, whatever the order of the spikes that brought it: no unevenness
error. The deterministic sibling of two-phase probabilistic neurons (Bojkovic et al., ICML 2025), as defined here.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.neurons.base import OrderFreeNeuron, empty_train, neurons
from snnc.ops import level_count


@final
@neurons.register("two-phase")
@dataclass(frozen=True, eq=False)
class TwoPhase(OrderFreeNeuron):
    """The two-phase deterministic neuron; with a slope its count goes down to −T."""

    def respond(self, currents: Tensor, timesteps: int) -> Tensor:
        count = self._count(currents.mean(0), timesteps)
        train = empty_train(timesteps, count)
        before = self.value(torch.zeros_like(count))
        for t in range(1, timesteps + 1):
            after = self.value((count * t).div_(timesteps, rounding_mode="floor"))
            train[t - 1] = after - before
            before = after
        return train

    def mean_response(self, mean: Tensor, timesteps: int) -> Tensor:
        return self.value(self._count(mean, timesteps), timesteps)

    def _count(self, mean: Tensor, timesteps: int) -> Tensor:
        return level_count(mean, self.threshold, timesteps, signed=self.slope is not None)
