"""Signed integrate and fire: a second, negative threshold takes back a spike that came too early.

    v(0) = θ/2,   n(0) = 0
    v ← v + x;   s = +1 if v ≥ θ;   −1 if v < −θ_neg and n ≥ 1;   else 0;   v ← v − θ·s,   n ← n + s

The neuron of error compensation learning (Liu et al., ICML 2025) as defined here: its text could not be read. With a
slope (LeakyReLU) the condition n ≥ 1 is dropped, and a spike carries what it changes of the value of n, so that a
spike taken back is taken back whole. As a code of its input, of both signs,

    s = +1 if v ≥ θ/2 + (S(n+1) − S(n))/2;   −1 if v < θ/2 − (1/2 + θ_neg/θ)·(S(n) − S(n−1));   v ← v − (S(n+s) − S(n))

where S(n) is what n spikes weigh.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons


class _State(NamedTuple):
    membrane: Tensor
    spikes: Tensor


@final
@neurons.register("dual-threshold")
@dataclass(frozen=True, eq=False)
class DualThreshold(CausalNeuron):
    """The dual-threshold neuron; ``negative_threshold`` is θ_neg as a share of θ, in (0, 1]."""

    negative_threshold: float = 1e-3

    def check_own(self) -> None:
        if not 0 < self.negative_threshold <= 1:
            raise ValueError("the negative threshold is a share of the threshold in (0, 1]")

    @property
    def exact(self) -> bool:
        """The negative threshold is not where a count below zero rounds down."""
        return self.slope is None

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x), torch.zeros_like(x))

    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        membrane = state.membrane.add_(x)
        # Compared straight into numbers: truth values would have to be converted, at the price of the comparison.
        above, below = self.threshold, -self.negative_threshold * self.threshold
        if self.coding:
            above, below = self.coding_bounds(state.spikes, self.negative_threshold)
        undo = torch.lt(membrane, below, out=torch.empty_like(membrane))
        if self.slope is None:
            undo.mul_(state.spikes.clamp(max=1))
        fired = torch.ge(membrane, above, out=value).sub_(undo)
        spikes = state.spikes + fired
        charge = torch.mul(fired, self.threshold, out=undo)
        weighed = charge if self.slope is None else self.value(spikes) - self.value(state.spikes)
        membrane.sub_(weighed if self.coding else charge)
        value.copy_(weighed)
        return _State(membrane, spikes)
