"""Two-phase deterministic neuron: gather the whole input, then spread the spikes evenly.

    phase 1:  V = θ/2 + Σ_t x(t),   no spikes
    phase 2:  n = clip(floor(V/θ), 0, T);   s(t) = floor(n·t/T) − floor(n·(t−1)/T)

Its count is the quantized ReLU of its mean input, whatever the order of the spikes that brought it: no unevenness
error. The deterministic sibling of two-phase probabilistic neurons (Bojkovic et al., ICML 2025), as defined here.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from snnc.neurons.base import OrderFreeNeuron, mean_signal, neurons, silent_train
from snnc.ops import level_count
from snnc.schedule import Schedule


@final
@neurons.register("two-phase")
@dataclass(frozen=True, eq=False)
class TwoPhase(OrderFreeNeuron):
    """The two-phase deterministic neuron; with a slope its count goes down to −T."""

    def respond(self, currents: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        timesteps = schedule.timesteps
        count = self._count(mean_signal(currents, schedule)[0], timesteps)
        train = silent_train(schedule, count)
        before = self.value(torch.zeros_like(count))
        for t in range(1, timesteps + 1):
            after = self.value((count * t).div_(timesteps, rounding_mode="floor"))
            train[schedule.rehearsal + t - 1] = after - before
            before = after
        return train

    def mean_response(self, mean: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        return self.value(self._count(mean, schedule.timesteps), schedule.timesteps)

    def _count(self, mean: Tensor, timesteps: int) -> Tensor:
        signed = self.slope is not None
        return level_count(self.gathered(mean), self.threshold, self.levels(timesteps), self.potential, signed=signed)
