"""Integrate and fire with soft reset.

    v(0) = θ/2
    v ← v + x;   s = 1 if v ≥ θ else 0;   v ← v − θ·s

For a constant current its count is that of the quantized ReLU (Bu et al., ICLR 2022).
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons


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
        # Compared straight into numbers: truth values would have to be converted, at the price of the comparison.
        value = torch.ge(membrane, self.threshold, out=torch.empty_like(membrane)).mul_(self.threshold)
        return membrane.sub_(value), value
