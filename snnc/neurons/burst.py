"""Burst neuron: integrate and fire that may fire several times in one step.

    v(0) = θ/2
    v ← v + x;   s = clip(floor(v/θ), 0, Γ);   v ← v − θ·s

What arrives late can still be fired, and what is above the threshold too: it answers up to Γ·θ (Li and Zeng, IJCAI
2022). Here a burst is one event that carries s; it is the graded neuron without negative events, with as many levels as
its events reach in T steps: asleep, too, it fires no more than Γ·T in all. With Γ = 1 it is integrate and fire.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from snnc.neurons.base import neurons
from snnc.neurons.tracking import Tracking


@final
@neurons.register("burst")
@dataclass(frozen=True, eq=False)
class Burst(Tracking):
    """The burst neuron; ``max_event`` is Γ, the most spikes in one step, and it has Γ·T levels."""

    signed: ClassVar[bool] = False

    max_event: int = 2

    @property
    def stated_levels(self) -> None:
        return None
