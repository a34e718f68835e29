"""Graded neuron: its count is the closed form of the input so far, followed with at most g levels a step.

    w(0) = p − n(0),   n(0) = rest
    w ← w + x·L/(T·Θ);   m = clip(floor(w), −g, g), then clip(m, −n, L − n);   w ← w − m;   n ← n + m;   emit m·T·Θ/L

L, the levels, and T, the time steps, are independent. One step with g ≥ L is the closed form exactly, and events need
no sign; signed events with g ≥ L are the closed form after every step, whatever the order of what came; with smaller
ones a network of N layers is exact N·(ceil(L/g) − 1) steps after the last input. Where the first event, which is never
negative, may be up to 2·g, all events fit into 2·g + 1 words; the same is had from counts that rest at g in the
receivers. As defined here; kin are multi-threshold neurons (Chen et al., 2025), LM-HT (Hao et al., NeurIPS 2024) and
sigma-delta networks (O'Connor and Welling, ICLR 2017). With L = T and g = 1 it is consistent integrate and fire.
"""

from dataclasses import dataclass, field
from typing import final

from snnc.neurons.base import neurons
from snnc.neurons.tracking import Tracking


@final
@neurons.register("graded")
@dataclass(frozen=True, eq=False)
class Graded(Tracking):
    """The graded neuron with ``top`` levels, and events of up to ``event`` levels (None, or more: all of them).

    Without ``takes_back`` no event is negative; ``first`` is the largest event of the first step (None: as any other).
    ``rest`` is the count that all start with.
    """

    tried = (
        {"top": 4, "event": 2, "rest": 2},
        {"top": 5, "event": 2, "first": 4},
        {"top": 3, "takes_back": False},
    )

    top: int = field(default=15, metadata={"option": "levels"})
    event: int | None = field(default=None, metadata={"option": "max-event"})
    takes_back: bool = field(default=True, metadata={"option": "signed"})
    first: int | None = field(default=None, metadata={"option": "first-event"})
    rest: int = 0

    @property
    def stated_levels(self) -> int:
        return self.top

    @property
    def max_event(self) -> int:
        # From -L to L is the farthest.
        return self.top if self.event is None else min(self.event, self.top * (1 if self.slope is None else 2))

    @property
    def first_event(self) -> int:
        return self.max_event if self.first is None else self.first
