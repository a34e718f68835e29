"""What answers within a number of steps from image to answer: neurons, their options, and how long they are on.

Each rule says the best that one way of spiking makes of so many steps and of events of so many units. Ways are ranked
by the levels of an exact activation that they are worth, where 15 are as good as any number: ``worth`` is from what
they gave beside exact ones on a ResNet-20 for CIFAR-10, without training, and is 1 where every layer is exact.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from snnc.errors import UsageError
from snnc.hardware.target import Target
from snnc.neurons import Neuron
from snnc.neurons.choice import chosen
from snnc.schedule import MAXIMUM_TIMESTEPS, Schedule
from snnc.text import counted
from snnc.validation import called

# Levels beyond which nothing is gained, and which events carry where nothing else is said: 4 bits.
ENOUGH = 15

_ONE = torch.tensor(1.0)


@dataclass(frozen=True)
class Way:
    """A neuron as recipes name it, the steps that it is on for, and ``recipe`` that suits it.

    It takes ``steps`` from image to answer. ``why`` says in words what speaks for it.
    """

    neuron: str
    schedule: Schedule
    steps: int
    recipe: str
    why: str
    worth: float = 1.0

    @property
    def made(self) -> Neuron:
        """One neuron."""
        choice = chosen(self.neuron)
        return choice.kind(_ONE, **choice.options)

    @property
    def levels(self) -> int:
        """The levels of an activation."""
        return self.made.levels(self.schedule.timesteps)

    @property
    def bits(self) -> int:
        """The bits of an event."""
        return self.made.event_bits(self.schedule)

    @property
    def rank(self) -> tuple[float, int, int]:
        """The less the better."""
        return -min(ENOUGH, self.levels * self.worth), self.steps, self.bits

    @property
    def told(self) -> str:
        """The way in words."""
        awake = f"T={self.schedule.timesteps}"
        asleep = f" and {self.schedule.sleep} asleep" if self.schedule.sleep else ""
        shares = f", shares {', '.join(f'{share:g}' for share in self.schedule.shares)}" if self.schedule.shares else ""
        signed = " with a sign" if self.made.negative_over(self.schedule) else ""
        events = f"{counted(self.levels, 'level')}, events of {counted(self.bits, 'bit')}{signed}"
        return f"{self.neuron}, {awake}{asleep}{shares}: {counted(self.steps, 'step')} from image to answer, {events}"


# Given steps, the largest event, and how many layers wait for one another, with the read-out, if neurons gather first.
_Rule = Callable[[int, int, int], Way | None]
_rules: list[_Rule] = []


def _rule(rule: _Rule) -> _Rule:
    _rules.append(rule)
    return rule


def _causal(neuron: str, timesteps: int, sleep: int, why: str, worth: float = 1.0, shares: Sequence[float] = ()) -> Way:
    schedule = Schedule(timesteps, sleep, shares=tuple(shares))
    recipe = "one-step" if schedule.total < _MANY else "synchronous"
    return Way(neuron, schedule, schedule.total, recipe, why, worth)


# From so many steps on unit events follow a few levels more without shares of the image, and settle in the last two.
_MANY, _SETTLING = 8, 2


@_rule
def _whole(steps: int, largest: int, waits: int) -> Way:
    levels = min(largest, ENOUGH)
    return _causal(f"graded(levels={levels})", 1, 0, "one event says all: every layer is exact in its first step")


@_rule
def _counted(steps: int, largest: int, waits: int) -> Way:
    why = "as many spikes as it takes in one step: every layer is exact"
    return _causal(f"burst(max-event={min(largest, ENOUGH)})", 1, 0, why)


@_rule
def _from_rest(steps: int, largest: int, waits: int) -> Way:
    event = min(largest, (ENOUGH + 1) // 2)
    why = "counts that rest in the receivers are reached, or taken back, in one step: every layer is exact"
    return _causal(f"graded(levels={2 * event}, max-event={event}, rest={event})", 1, 0, why)


@_rule
def _refined(steps: int, largest: int, waits: int) -> Way | None:
    if steps < 2 or largest < 2:
        return None
    event = min(largest, ENOUGH // 5)
    neuron = f"refine(levels={5 * event}, max-event={event}, units=[2, 1], rest={2 * event})"
    return _causal(neuron, 1, 1, "the second step repairs the first guess", 0.8)


@_rule
def _shared(steps: int, largest: int, waits: int) -> Way | None:
    if steps < 2:
        return None
    levels, shares, worth = (3, (0.75, 0.25), 0.85) if steps < 4 else (4, (0.5, 0.3, 0.2, 0.0), 1.0)
    neuron = f"graded(levels={levels}, max-event=1, rest=1)"
    why = "single signed spikes follow what has come in, most of the image first"
    return _causal(neuron, len(shares), 0, why, worth, shares)


@_rule
def _followed(steps: int, largest: int, waits: int) -> Way | None:
    if steps < _MANY:
        return None
    timesteps = steps - _SETTLING
    neuron = f"graded(levels={timesteps}, max-event=1)"
    return _causal(neuron, timesteps, _SETTLING, "single signed spikes follow what has come in, and settle asleep", 0.9)


@_rule
def _fired(steps: int, largest: int, waits: int) -> Way | None:
    why = "single spikes without a sign; some come too early or too late, which takes steps to even out"
    return _causal("if", steps, 0, why, 0.3) if steps > 1 else None


@_rule
def _gathered(steps: int, largest: int, waits: int) -> Way | None:
    if steps < 2 * waits:
        return None
    timesteps = min(steps // waits, ENOUGH)
    why = "each layer waits for the one before: every count is exact"
    return Way("two-phase", Schedule(timesteps), waits * timesteps, "default", why)


@_rule
def _in_binary(steps: int, largest: int, waits: int) -> Way | None:
    if steps < 2 * waits:
        return None
    timesteps = min(steps // waits, ENOUGH.bit_length())
    why = "each layer waits for the one before, and sends its count bit by bit"
    return Way("radix", Schedule(timesteps), waits * timesteps, "default", why)


def ways(steps: int, waits: int, target: Target | None = None, largest: int | None = None) -> list[Way]:
    """Return what answers within so many steps, the best first; ``waits`` is as for the rules.

    ``largest`` is the largest event, 15 unless given or the target says another. Raises UsageError where nothing does,
    and what would.
    """
    if not 1 <= steps <= MAXIMUM_TIMESTEPS:
        hint = f"give a whole number from 1 to {MAXIMUM_TIMESTEPS}"
        raise UsageError(f"{steps} steps from image to answer", place="--steps", hint=hint)
    if largest is not None and largest < 1:
        raise UsageError(f"events of up to {largest}", place="--max-event", hint="give a whole number from 1")
    found = sorted(_allowed(steps, waits, target, largest), key=lambda way: way.rank)
    if not found:
        more = next((n for n in range(steps + 1, _FARTHEST) if [*_allowed(n, waits, target, largest)]), None)
        hint = "leave out --target" if more is None else f"give {counted(more, 'step')}, or leave out --target"
        name = "" if target is None else f" on {target.name}"
        raise UsageError(f"no neuron answers within {counted(steps, 'step')}{name}", place="--steps", hint=hint)
    return found


# Nobody waits for more.
_FARTHEST = 1025


def _allowed(steps: int, waits: int, target: Target | None, largest: int | None) -> Iterator[Way]:
    limits = None if target is None else target.limits
    most = min(
        ENOUGH if largest is None else largest,
        limits.event_size.most if limits is not None and limits.event_size is not None else MAXIMUM_TIMESTEPS,
    )
    for rule in _rules:
        way = rule(steps, most, waits)
        if way is None or way.steps > steps or way.made.largest_event > most:
            continue
        if limits is None or _fits(way, target):
            yield way


def _fits(way: Way, target: Target | None) -> bool:
    assert target is not None
    limits, neuron = target.limits, way.made
    name = called(way.neuron, place="")[0]
    if limits.neuron_models is not None and name not in limits.neuron_models.kinds:
        return False
    if limits.levels is not None and way.levels > limits.levels.most:
        return False
    unsigned = limits.signed_spikes is not None and not limits.signed_spikes.supported
    return not (unsigned and neuron.negative_over(way.schedule))
