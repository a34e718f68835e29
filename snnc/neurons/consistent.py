"""Consistent integrate and fire (CIF): with enough sleep, the same answer as the quantized network.

    v(0) = θ/2,   n(0) = 0
    v ← v + x;   t ← t + 1 while awake
    s = +1 if v ≥ θ and n < t;   −1 if v < 0 and n > 0;   else 0;   v ← v − θ·s,   n ← n + s

Once nothing fires any more, n = clip(floor((X + v(0))/θ), 0, T) for the whole input X, whatever the order in which it
came (CASC, Li et al., 2024). v(0) = θ/2 matches activations that round to the nearest level, v(0) = 0 those that
round down. Event for event it is the graded neuron with as many levels as steps awake and events of one level: that
n < t is what these imply.
"""

from dataclasses import dataclass
from typing import final

from snnc.neurons.base import neurons
from snnc.neurons.tracking import Tracking


@final
@neurons.register("cif")
@dataclass(frozen=True, eq=False)
class ConsistentIntegrateAndFire(Tracking):
    """The CIF neuron."""

    @property
    def stated_levels(self) -> None:
        return None
