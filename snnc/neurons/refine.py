"""Refining neuron: graded events whose units shrink from step to step, the last of which repairs the first guess.

    w(0) = p − n(0),   n(0) = rest,   p = 1/2
    w ← w + x·L/(T·Θ);   k = clip(floor((w − p)/r_t + 1/2), −g, g), then clip to [−floor(n/r_t), floor((L − n)/r_t)]
    m = r_t·k;   w ← w − m;   n ← n + m;   emit m·T·Θ/L

Units r_1 ≥ … ≥ r_S = 1 are known to all from the number of the step, so that an event carries k, |k| ≤ g, and the
receiver multiplies its weights by r_t: a shift where r_t is a power of two. It takes L ≤ rest + g·Σ r_t to reach all
levels. Best with all of the image in the first step: one step awake, the others asleep. Exact where the last step has
no more than g levels to do. As defined here; weighted spikes and phase coding (Kim et al., Neurocomputing 2018) are the
case that never repairs anything. In units of 1 it is the graded neuron.
"""

from dataclasses import dataclass, field
from typing import final

from snnc.neurons.base import neurons
from snnc.neurons.tracking import Tracking


@final
@neurons.register("refine")
@dataclass(frozen=True, eq=False)
class Refine(Tracking):
    """The refining neuron with ``top`` levels, and events of up to ``event`` units.

    ``units`` are levels, step by step; past the last they stay 1. ``first`` is the largest event of the first step
    (None: as any other), and ``rest`` the count that all start with.
    """

    tried = ({"top": 14, "event": 1, "units": (4, 3, 2, 1), "rest": 3, "first": 2},)

    top: int = field(default=15, metadata={"option": "levels"})
    event: int = field(default=3, metadata={"option": "max-event"})
    units: tuple[int, ...] = (2, 1)
    first: int | None = field(default=None, metadata={"option": "first-event"})
    rest: int = 6

    @property
    def stated_levels(self) -> int:
        return self.top

    @property
    def max_event(self) -> int:
        return self.event

    @property
    def first_event(self) -> int:
        return self.max_event if self.first is None else self.first
