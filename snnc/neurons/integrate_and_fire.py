"""Integrate and fire with soft reset.

    v(0) = θ/2
    v ← v + x;   s = 1 if v ≥ θ else 0;   v ← v − θ·s

For a constant current its count is that of the quantized ReLU (Bu et al., ICLR 2022).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons


class _State(NamedTuple):
    membrane: Tensor


@final
@neurons.register("if")
@dataclass(frozen=True, eq=False)
class IntegrateAndFire(CausalNeuron):
    """The IF neuron; it has no negative spikes, hence no ``slope``."""

    signed: ClassVar[bool] = False
    saturates: ClassVar[bool] = True

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x))

    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        membrane = self.held(state.membrane.add_(x))
        # Compared straight into numbers: truth values would have to be converted, at the price of the comparison.
        torch.ge(membrane, self.threshold, out=value).mul_(self.threshold)
        return _State(membrane.sub_(value))
