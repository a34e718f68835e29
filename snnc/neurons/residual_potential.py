"""Integrate and fire, silenced by its residual potential (SRP): who should not have fired at all does not.

    v(0) = θ/2;   rehearse τ steps as integrate and fire;   m = 1 if v(τ) > 1e-3·θ else 0
    start again:  v ← v + x;   s = 1 if v ≥ θ else 0;   v ← v − θ·s;   emit m·s

A neuron that a rehearsal leaves with no charge has fired too often, most likely where the trained network is at zero
(Hao et al., AAAI 2023). Without rehearsal it is integrate and fire.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons

# The least residual potential, as a share of the threshold, of a neuron that may fire.
LEAST = 1e-3


class _State(NamedTuple):
    membrane: Tensor
    # None while it rehearses: everyone may fire.
    mask: Tensor | None


@final
@neurons.register("srp")
@dataclass(frozen=True, eq=False)
class ResidualPotential(CausalNeuron):
    """The SRP neuron; it has no negative spikes, hence no ``slope``."""

    signed: ClassVar[bool] = False

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x), None)

    def rehearsed(self, state: _State, x: Tensor) -> _State:
        mask = torch.gt(state.membrane, LEAST * self.threshold).to(x.dtype)
        return _State(self.start(x), mask)

    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        membrane = state.membrane.add_(x)
        torch.ge(membrane, self.threshold, out=value).mul_(self.threshold)
        membrane.sub_(value)
        if state.mask is not None:
            value.mul_(state.mask)
        return _State(membrane, state.mask)
