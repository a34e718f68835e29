"""What two-phase neurons that count have in common: they gather the whole input, then send their count in a code.

    phase 1:  V = v(0) + Σ_t x(t),   no spikes;   n = clip(floor(V/θ), 0, L)
    phase 2:  what has been told of n after step t is told(n, t);   emit θ·(told(n, t) − told(n, t−1))

The count is the quantized activation of the mean input, whatever the order of the spikes that brought it: no unevenness
error. How many levels a spike stands for depends on its step alone, so that none has to carry a number.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from snnc.neurons.base import OrderFreeNeuron, mean_signal, silent_train, summed
from snnc.ops import level_count
from snnc.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Counting(OrderFreeNeuron):
    """A two-phase neuron that is told by its code; with a slope its count goes down to -L, and spikes have its sign."""

    @abstractmethod
    def weight(self, step: int, timesteps: int) -> int:
        """Return how many levels a spike of a step, counted from 1, stands for."""

    @abstractmethod
    def told(self, count: Tensor, step: int, timesteps: int) -> Tensor:
        """Return how much of a count has been sent when a step, counted from 1, is over."""

    @abstractmethod
    def events(self, count: Tensor) -> Tensor:
        """Return how many spikes tell a count, which is not below 0."""

    def largest_change(self, timesteps: int) -> int:
        return self.weight(1, timesteps)

    @final
    def respond(self, currents: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        count = self._count(mean_signal(currents, schedule)[0], schedule.timesteps)
        train = silent_train(schedule, count)
        before = self.value(torch.zeros_like(count))
        for step in range(1, schedule.timesteps + 1):
            after = self.value(self.told(count, step, schedule.timesteps))
            train[schedule.rehearsal + step - 1] = after - before
            before = after
        return train

    @final
    def mean_response(self, mean: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        return self.value(self._count(mean, schedule.timesteps), schedule.timesteps)

    @final
    def spikes(self, response: Tensor, schedule: Schedule) -> Tensor:
        if len(response) == schedule.total:
            return summed(torch.ne(response, 0, out=torch.empty_like(response)))[0]
        return self.events((response[0] * schedule.timesteps / self.threshold).round_())

    @final
    def fired(self, response: Tensor, schedule: Schedule) -> Tensor:
        numbers = torch.zeros_like(response)
        for step in range(1, schedule.timesteps + 1):
            t, weight = schedule.rehearsal + step - 1, self.weight(step, schedule.timesteps)
            up, down = (self.value(torch.full_like(response[t], float(one))) for one in (weight, -weight))
            sign = torch.where((response[t] - up).abs() <= (response[t] - down).abs(), weight, -weight)
            numbers[t] = sign * (response[t] != 0)
        return numbers

    @final
    def _count(self, mean: Tensor, timesteps: int) -> Tensor:
        levels, signed = self.levels(timesteps), self.slope is not None
        ceiling = self.threshold * (levels / timesteps)
        mean = self.counted(mean, timesteps)
        return level_count(self.gathered(mean), ceiling, levels, self.potential, signed=signed)
