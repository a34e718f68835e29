"""Two-phase deterministic neuron: gather the whole input, then spread the spikes evenly.

    phase 1:  V = θ/2 + Σ_t x(t),   no spikes
    phase 2:  n = clip(floor(V/θ), 0, T);   s(t) = floor(n·t/T) − floor(n·(t−1)/T)

The deterministic sibling of two-phase probabilistic neurons (Bojkovic et al., ICML 2025), as defined here.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc.neurons.base import neurons
from snnc.neurons.counting import Counting


@final
@neurons.register("two-phase")
@dataclass(frozen=True, eq=False)
class TwoPhase(Counting):
    """The two-phase deterministic neuron: every spike is one level."""

    def weight(self, step: int, timesteps: int) -> int:
        return 1

    def told(self, count: Tensor, step: int, timesteps: int) -> Tensor:
        return (count * step).div_(timesteps, rounding_mode="floor")

    def events(self, count: Tensor) -> Tensor:
        return count
