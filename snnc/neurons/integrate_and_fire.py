"""Integrate and fire with soft reset.

    v(0) = θ/2
    v ← v + x;   s = 1 if v ≥ θ else 0;   v ← v − θ·s

For a constant current its count is that of the quantized ReLU (Bu et al., ICLR 2022).
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, empty_train, neurons


@final
@neurons.register("if")
@dataclass(frozen=True, eq=False)
class IntegrateAndFire(CausalNeuron):
    """The IF neuron; it has no negative spikes, hence no ``slope``."""

    signed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slope is not None:
            raise ValueError("an IF neuron has no negative spikes and cannot stand for a LeakyReLU")

    def initial(self, x: Tensor) -> Tensor:
        return (self.threshold / 2).expand_as(x)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        membrane = state + x
        return self._fire(membrane, torch.empty_like(membrane))

    def respond(self, currents: Tensor, timesteps: int) -> Tensor:
        # The loop of ``step`` in place, on one membrane and straight into the train.
        train = empty_train(timesteps, currents[0])
        membrane = torch.empty_like(currents[0]).copy_(self.initial(currents[0]))
        for t in range(timesteps):
            self._fire(membrane.add_(currents[t % len(currents)]), train[t])
        return train

    def _fire(self, membrane: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        # Compared straight into numbers: truth values would have to be converted, at the price of the comparison.
        torch.ge(membrane, self.threshold, out=value)
        return membrane.sub_(value.mul_(self.threshold)), value
