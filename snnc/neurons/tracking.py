"""What graded neurons have in common: they follow the closed form of what has come in so far, in whole levels.

    w(0) = p − n(0),   n(0) = rest
    w ← w + x/θ;   k = clip(floor((w + (r−1)·p)/r), −g, g), and no farther than n = 0 or L;   m = r·k
    w ← w − m;   n ← n + m;   emit θ·m

The membrane is kept in levels, and one level weighs θ = T·Θ/L, so that x/θ rounds as the closed form does. In units of
r = 1 level this is n(t) = n(t−1) + clip(n*(t) − n(t−1), −g, g), where n*(t) is the closed form of the input so far (the
tracking law): whoever has caught up is exact, whatever the order of what came. What rests in the receivers from the
first step on, rest·θ, is part of the first step's response, and no event. With a slope (LeakyReLU) the count goes down
to −L, and an event carries what it changes of the value of n. As a code of its input w is the distance from the count
in levels of the side of zero that the input is on.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons.base import CausalNeuron
from snnc.ops.activation import as_above, lessened
from snnc.schedule import MAXIMUM_TIMESTEPS, Schedule


class _State(NamedTuple):
    membrane: Tensor
    spikes: Tensor
    awake: int
    taken: int


@dataclass(frozen=True, eq=False)
class Tracking(CausalNeuron):
    """A neuron whose events say by how many levels its count changes."""

    saturates: ClassVar[bool] = True

    @property
    @abstractmethod
    def stated_levels(self) -> int | None:
        """The levels that it has over any number of time steps; None where it has g for every step awake."""

    @property
    def follows(self) -> bool:
        # What it has counted is the closed form of what came in, and asleep it takes in what changes.
        return self.takes_back

    @property
    def first_event(self) -> int:
        """The largest event of the first step."""
        return self.max_event

    @property
    def largest_event(self) -> int:
        return max(self.first_event, self.max_event)

    def event_words(self, schedule: Schedule) -> int:
        signed = self.negative_over(schedule)
        return max(self.first_event, 2 * self.max_event if signed else self.max_event) + 1

    @property
    def exact(self) -> bool:
        most = self.stated_levels
        if most is None:
            return True
        lowest = 0 if self.slope is None else -most
        within = self.rest - self.max_event <= lowest and self.rest + self.first_event >= most
        return within and not self.coarse_steps

    @property
    def immediate(self) -> bool:
        # What rests is added before the input, and rounds otherwise; so does a ceiling of several thresholds.
        alike = self.stated_levels is not None or self.max_event == 1
        return alike and self.exact and not self.rest and not self.coding and self.membrane_bits is None

    def levels(self, timesteps: int) -> int:
        return self.stated_levels or self.max_event * timesteps

    def check_own(self) -> None:
        most, units, largest = self.stated_levels, self.units, self.max_event
        if most is not None and not 1 <= most <= MAXIMUM_TIMESTEPS:
            raise ValueError(f"{most} is given, and a neuron has from 1 to {MAXIMUM_TIMESTEPS} levels")
        if not 1 <= largest <= MAXIMUM_TIMESTEPS:
            raise ValueError(f"{largest} is given, and the largest event is from 1 to {MAXIMUM_TIMESTEPS} levels")
        if not largest <= self.first_event <= 2 * largest:
            raise ValueError(f"the largest first event is from {largest} to {2 * largest}, once or twice any other")
        if units[-1:] != (1,) or list(units) != sorted(units, reverse=True):
            raise ValueError(f"units never rise, and end with 1, as in [2, 1]: {list(units)} do not")
        taken_back = min(most or 0, largest * units[0] if self.takes_back else 0)
        if not 0 <= self.rest <= taken_back:
            raise ValueError(f"rest is from 0 to what the first event takes back, {taken_back} at most")
        within = self.rest + self.first_event * units[0] + largest * sum(units[1:])
        if len(units) > 1 and most is not None and most > within:
            raise ValueError(f"events of up to {largest} in these units reach {within} of {most} levels")

    @property
    def worth(self) -> Tensor:
        """What one level weighs: the threshold, rounded as the closed form over one step does it."""
        return self.threshold if self.stated_levels is None else self._ceiling / self.stated_levels

    @property
    def scale(self) -> Tensor:
        """What turns currents into levels, rounded likewise."""
        return 1 / self.threshold if self.stated_levels is None else self.stated_levels / self._ceiling

    @property
    def _ceiling(self) -> Tensor:
        return self.threshold * self.levels(1)

    def start(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).copy_(self.potential - self.rest)

    def initial(self, x: Tensor) -> _State:
        return _State(self.start(x), torch.full_like(x, self.rest), 0, 0)

    def membrane(self, state: _State) -> Tensor:
        return state.membrane * self.worth

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        if self.membrane_bits is None or self.unit is None:
            return None
        unit, most = self.unit * self.scale, 1 << self.membrane_bits - 1
        return unit * (0.5 - most), unit * (most - 0.5)

    @final
    def advance(self, state: _State, x: Tensor, awake: bool, value: Tensor) -> _State:
        count, lit, first = state.spikes, state.awake + awake, state.taken == 0
        unit = self.units[min(state.taken, self.coarse_steps)]
        most = self.stated_levels or self.max_event * lit
        membrane = self.held(state.membrane.add_(x * self.scale))
        torch.floor(self._behind(membrane, count, unit), out=value)
        value.clamp_(-self.max_event if self.takes_back else 0, self.first_event if first else self.max_event)
        least = 0 if self.slope is None else -most
        if unit > 1:
            above, below = ((side / unit).floor_() for side in (most - count, count - least))
            torch.minimum(value, above, out=value)
            torch.maximum(value, below.neg_(), out=value).mul_(unit)
        after = torch.add(count, value).clamp_(least, most)
        torch.sub(after, count, out=value)
        membrane.sub_(self._in_levels(after) - self._in_levels(count) if self.coding else value)
        if self.slope is not None:
            torch.sub(self._in_levels(after), self._in_levels(count), out=value)
        if first:
            value.add_(self.rest)
        value.mul_(self.worth)
        return _State(membrane, after, lit, state.taken + 1)

    def value(self, count: Tensor, timesteps: int = 1) -> Tensor:
        return self._in_levels(count) * (self.worth / timesteps)

    def _behind(self, membrane: Tensor, count: Tensor, unit: int) -> Tensor:
        """Return how many units the count is behind the input, with the share p of a unit on top."""
        if self.coding and self.slope is not None:
            arrived = membrane - self.potential + self._in_levels(count)
            membrane = as_above(arrived, self.slope) + self.potential - count
        return membrane if unit == 1 else (membrane + (unit - 1) * self.potential) / unit

    def _in_levels(self, count: Tensor) -> Tensor:
        """Return the value of a count in levels above zero."""
        return count if self.slope is None else lessened(count, self.slope)
