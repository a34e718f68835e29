"""A neuron of one's own: integrate and fire whose membrane has a floor, as on chips whose potentials have no sign."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons import CausalNeuron, neurons


class State(NamedTuple):
    membrane: Tensor


@final
@neurons.register("floored")
@dataclass(frozen=True, eq=False)
class Floored(CausalNeuron):
    """v ← max(v + x, −depth·θ);   s = 1 if v ≥ θ else 0;   v ← v − θ·s

    ``depth`` is how many thresholds the floor lies below zero.
    """

    depth: float = 0.0
    signed: ClassVar[bool] = False

    def initial(self, x: Tensor) -> State:
        return State(self.start(x))

    def advance(self, state: State, x: Tensor, awake: object, value: Tensor) -> State:
        membrane = torch.maximum(state.membrane.add_(x), -self.depth * self.threshold)
        torch.ge(membrane, self.threshold, out=value).mul_(self.threshold)
        return State(membrane.sub_(value))
