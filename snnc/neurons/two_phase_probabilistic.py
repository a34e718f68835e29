"""Two-phase probabilistic neuron: gather the whole input, then fire at random, as evenly as chance allows.

    phase 1:  V = v(0) + Σ_t x(t),   no spikes
    phase 2:  v(1) = V;   for t = 1..T:   p = clip(v/(θ·(T−t+1)), 0, 1),   s ~ Bernoulli(p),   v ← v − θ·s

Of a whole number V/θ in [0, T] it emits exactly so many spikes, in an order that is uniformly random; of any other
floor or ceil of it (Bojkovic et al., ICML 2025, as defined here: its text could not be read). With a slope (LeakyReLU),
as defined here, negative charge fires as positive charge does, in spikes that weigh −slope·θ.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from snnc.neurons.base import OrderFreeNeuron, mean_signal, neurons, seeded, silent_train
from snnc.schedule import Schedule

_ZERO = torch.tensor(0.0)
# Where samples that are run begin in those that are drawn for together, and how many these are; None: they are all.
_PART: ContextVar[tuple[int, int] | None] = ContextVar("part", default=None)


@final
@neurons.register("two-phase-probabilistic")
@dataclass(frozen=True, eq=False)
class TwoPhaseProbabilistic(OrderFreeNeuron):
    """The two-phase probabilistic neuron; v(0) = 0 unless ``potential`` says otherwise."""

    random: ClassVar[bool] = True
    # Between two levels it rounds at random: nothing has to be added for it to round to the nearest.
    rounding: ClassVar[float] = 0.5

    potential: Tensor = _ZERO

    def respond(self, currents: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        mean = mean_signal(currents, schedule)[0]
        train = silent_train(schedule, mean)
        for t, spikes in enumerate(self._draws(mean, schedule.timesteps, generator), schedule.rehearsal):
            train[t] = self.value(spikes)
        return train

    def mean_response(self, mean: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        # Simulated all the same: how often V/θ is rounded up is no simple function of its fraction.
        count = torch.zeros_like(mean)
        for spikes in self._draws(mean, schedule.timesteps, generator):
            count += spikes
        return self.value(count, schedule.timesteps)

    def _draws(self, mean: Tensor, timesteps: int, generator: Generator | None) -> Iterator[Tensor]:
        """Yield the spikes of phase 2, step by step."""
        mean = self.counted(mean, timesteps)
        charge = torch.mul(self.gathered(mean), timesteps / self.threshold).add_(self.potential)
        sign = charge.sign() if self.slope is not None else torch.ones_like(self.threshold)
        charge *= sign
        # Random numbers lie in [0, 1): clipping the probability would change nothing.
        for left, draw in zip(range(timesteps, 0, -1), draws(charge.shape, timesteps, generator), strict=True):
            spikes = torch.lt(draw.to(charge.device), charge / left, out=torch.empty_like(charge))
            charge -= spikes
            yield spikes * sign


def draws(shape: Sequence[int], timesteps: int, generator: Generator | None) -> Iterator[Tensor]:
    """Yield the random numbers, in [0, 1), that decide on the spikes of a layer ``[N, ...]``, step by step.

    They are drawn on the CPU, so that they are the same on every device, however many samples have room there at once.
    """
    generator, (start, whole) = seeded(generator), _PART.get() or (0, shape[0])
    for _ in range(timesteps):
        drawn = torch.rand((whole, *shape[1:]), generator=generator, dtype=torch.float32)
        yield drawn[start : start + shape[0]]


@contextmanager
def drawing_part(start: int, whole: int) -> Iterator[None]:
    """Let samples that are a part of a ``whole``, from ``start`` on, draw what they would among all of it."""
    begun, count = _PART.get() or (0, whole)
    before = _PART.set((begun + start, count))
    try:
        yield
    finally:
        _PART.reset(before)
