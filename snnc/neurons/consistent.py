"""Consistent integrate and fire (CIF): with enough sleep, the same answer as the quantized network.

    v(0) = θ/2,   n(0) = 0
    v ← v + x;   t ← t + 1 while awake
    s = +1 if v ≥ θ and n < t;   −1 if v < 0 and n > 0;   else 0;   v ← v − θ·s,   n ← n + s

Once nothing fires any more, n = clip(floor((X + v(0))/θ), 0, T) for the whole input X, whatever the order in which it
came (CASC, Li et al., 2024). v(0) = θ/2 matches activations that round to the nearest level, v(0) = 0 those that
round down. With a slope (LeakyReLU) the count goes down to −t, and a spike carries what it changes of the value of n.
As a code of its input it compares v with half a level above θ/2, or below, and v loses what the spike carries.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons


class _State(NamedTuple):
    membrane: Tensor
    spikes: Tensor
    awake: int


@final
@neurons.register("cif")
@dataclass(frozen=True, eq=False)
class ConsistentIntegrateAndFire(CausalNeuron):
    """The CIF neuron."""

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x), torch.zeros_like(x), 0)

    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        membrane, count = state.membrane.add_(x), state.awake + awake
        lowest = 0 if self.slope is None else -count
        # Compared straight into numbers: truth values would have to be converted, at the price of the comparison.
        other = torch.empty_like(membrane)
        above, below = self.coding_bounds(state.spikes) if self.coding else (self.threshold, 0.0)
        torch.ge(membrane, above, out=value).mul_(torch.lt(state.spikes, count, out=other))
        undo = torch.lt(membrane, below, out=torch.empty_like(membrane)).mul_(torch.gt(state.spikes, lowest, out=other))
        fired = value.sub_(undo)
        spikes = state.spikes + fired
        charge = torch.mul(fired, self.threshold, out=other)
        weighed = charge if self.slope is None else self.value(spikes) - self.value(state.spikes)
        membrane.sub_(weighed if self.coding else charge)
        value.copy_(weighed)
        return _State(membrane, spikes, count)
