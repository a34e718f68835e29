"""Burst neuron: integrate and fire that may fire several times in one step.

    v(0) = θ/2
    v ← v + x;   s = clip(floor(v/θ), 0, Γ);   v ← v − θ·s

What arrives late can still be fired, and what is above the threshold too: it answers up to Γ·θ (Li and Zeng, IJCAI
2022). With Γ = 1 it is integrate and fire.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons
from snnc.schedule import MAXIMUM_TIMESTEPS, Schedule


class _State(NamedTuple):
    membrane: Tensor


@final
@neurons.register("burst")
@dataclass(frozen=True, eq=False)
class Burst(CausalNeuron):
    """The burst neuron; ``max_event`` is Γ, the most spikes in one step, and it has Γ·T levels."""

    signed: ClassVar[bool] = False

    max_event: int = 2

    def check_own(self) -> None:
        if not 1 <= self.max_event <= MAXIMUM_TIMESTEPS:
            raise ValueError(f"a burst has from 1 to {MAXIMUM_TIMESTEPS} spikes")

    def spikes(self, response: Tensor, schedule: Schedule) -> Tensor:
        # A step may hold several: what counts is the value.
        total = response.sum(0) if len(response) == schedule.total else response[0] * schedule.timesteps
        return (total / self.threshold).round_()

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x))

    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        membrane = state.membrane.add_(x)
        torch.div(membrane, self.threshold, rounding_mode="floor", out=value)
        value.clamp_(0, self.max_event).mul_(self.threshold)
        return _State(membrane.sub_(value))
