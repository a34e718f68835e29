"""Integrate and fire with hard reset: what a spike leaves above the threshold is lost.

    v(0) = 0
    v ← v + x;   s = 1 if v ≥ φ·θ else 0;   v ← 0 where s = 1;   emit θ·s

What many simulators and chips have instead of the soft reset, and what NIR defines. A spike stands for at least φ·θ,
and on average for more: hence it carries a value θ of its own, which calibrate-hard-reset works out together with φ.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron, neurons

_ZERO = torch.tensor(0.0)
_ONE = torch.tensor(1.0)


class _State(NamedTuple):
    membrane: Tensor


@final
@neurons.register("if-zero")
@dataclass(frozen=True, eq=False)
class IntegrateAndFireToZero(CausalNeuron):
    """The IF neuron that is reset to zero; ``firing`` is φ, and v(0) = 0 unless ``potential`` says otherwise."""

    signed: ClassVar[bool] = False
    # A start in the middle would be forgotten with the first spike.
    rounding: ClassVar[float] = 0.5

    potential: Tensor = _ZERO
    firing: Tensor = _ONE

    def check_own(self) -> None:
        if not bool(((self.firing > 0) & self.firing.isfinite()).all()):
            raise ValueError("firing thresholds must be positive and finite")

    @property
    def exact(self) -> bool:
        """What a spike leaves above the threshold is lost."""
        return False

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x))

    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        membrane = state.membrane.add_(x)
        torch.ge(membrane, self.firing * self.threshold, out=value)
        membrane.masked_fill_(value.bool(), 0)
        value.mul_(self.threshold)
        return _State(membrane)
