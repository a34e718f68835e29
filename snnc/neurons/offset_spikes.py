"""Integrate and fire that corrects its offset (COS): who fires once too often or too seldom starts elsewhere.

    v(0) = θ/2;   rehearse ρ steps as integrate and fire;   u is the potential before firing
    start again from v(0) − max(θ, min_firing u − 0.999·θ)   where v(ρ) < 0, after having fired
                     v(0) + max(θ, 1.001·θ − max_silent u)   where v(ρ) ≥ θ, after having been silent
                     v(0)                                    elsewhere

The shift takes one spike away, or adds one (Hao et al., ICLR 2023). Without rehearsal it is integrate and fire.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons

# How far from the threshold, as a share of it, the potential is put that decides on the spike.
MARGIN = 1e-3


class _State(NamedTuple):
    membrane: Tensor
    # The least potential that fired and the greatest that did not; None once they have been used.
    firing: Tensor | None
    silent: Tensor | None


@final
@neurons.register("cos")
@dataclass(frozen=True, eq=False)
class OffsetSpikes(CausalNeuron):
    """The COS neuron; it has no negative spikes, hence no ``slope``."""

    signed: ClassVar[bool] = False

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x), torch.full_like(x, torch.inf), torch.full_like(x, -torch.inf))

    def rehearsed(self, state: _State, x: Tensor) -> _State:
        assert state.firing is not None and state.silent is not None
        down = torch.maximum(self.threshold, state.firing - (1 - MARGIN) * self.threshold)
        up = torch.maximum(self.threshold, (1 + MARGIN) * self.threshold - state.silent)
        membrane = self.start(x)
        membrane = torch.where((state.membrane < 0) & state.firing.isfinite(), membrane - down, membrane)
        membrane = torch.where((state.membrane >= self.threshold) & state.silent.isfinite(), membrane + up, membrane)
        return _State(membrane, None, None)

    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        membrane = state.membrane.add_(x)
        torch.ge(membrane, self.threshold, out=value)
        if state.firing is not None and state.silent is not None:
            fired = value.bool()
            torch.minimum(state.firing, membrane.masked_fill(~fired, torch.inf), out=state.firing)
            torch.maximum(state.silent, membrane.masked_fill(fired, -torch.inf), out=state.silent)
        value.mul_(self.threshold)
        return _State(membrane.sub_(value), state.firing, state.silent)
