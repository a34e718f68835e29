"""What every spiking neuron is: currents in, spike values out, no hidden state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar, Self, final

import torch
from torch import Generator, Tensor

from snnc.ir import Graph, Node, Op, broadcast, operations, whole
from snnc.ops import HALF, Coding, Quantized, QuantizedRelu
from snnc.ops.activation import as_above, check_coding, lessened
from snnc.registry import Registered, Registry
from snnc.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Timed(Op):
    """An operation on whole signals rather than on one step at a time."""

    linear: ClassVar[bool] = False

    @abstractmethod
    def respond(self, currents: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        """Return the response, ``[schedule.total, N, ...]``.

        ``currents`` is ``[schedule.total, N, ...]``, or ``[1, N, ...]`` for a current that is the same at every step
        with the image on and 0 in sleep. What is drawn at random is drawn from ``generator`` (None: one with seed 0).
        """

    def shaped(self, *inputs: Tensor) -> Tensor:
        (currents,) = inputs
        for name, tensor in self.tensors().items():
            if tensor.ndim >= currents.ndim:
                raise ValueError(f"a {name} of shape {[*tensor.shape]} for samples {[*currents.shape[1:]]}")
        return broadcast(currents, *self.tensors().values())

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the response to one step."""
        (currents,) = inputs
        return self.respond(currents.unsqueeze(0), Schedule(1))[0]


@dataclass(frozen=True, eq=False)
class Neuron(Timed):
    """A layer of spiking neurons with soft reset, whose spikes carry the value of their threshold.

    ``threshold`` broadcasts against one sample, so it is one per layer or one per channel. With a ``slope`` (for
    LeakyReLU) the signed spike count may go below zero, and what is below zero weighs ``slope``; only a ``signed``
    neuron can do that. With ``coding`` they stand for no rectifier but for the value itself: a spike below zero takes
    from the membrane what it weighs, slope · threshold. A ``random`` one draws its spikes. ``potential`` is v(0) as a
    share of the threshold, and broadcasts likewise; ``rounding`` is how much more the potential of the closed form is.
    What fields a neuron adds, other than tensors, are its options, in recipes and for ``--neuron``, under the name that
    ``metadata["option"]`` says where it is another. ``tried`` are such fields that the laws are asked for, too.

    With a ``unit``, what arrives is whole numbers of it, and so are thresholds and, with half a unit on top, v(0): what
    a current is off by, because sums round, is taken away, and no sum of whole numbers lies at a threshold. Of a kind
    that ``saturates``, membranes may be of so many bits, the sign among them: what they hold no more is lost.
    """

    signed: ClassVar[bool] = True
    random: ClassVar[bool] = False
    saturates: ClassVar[bool] = False
    rounding: ClassVar[float] = 0.0
    tried: ClassVar[Sequence[Mapping[str, Any]]] = ()

    threshold: Tensor
    slope: Tensor | None = None
    potential: Tensor = HALF
    coding: bool = False
    unit: Tensor | None = field(default=None, kw_only=True)
    membrane_bits: int | None = field(default=None, kw_only=True)

    @final
    def __post_init__(self) -> None:
        if not bool(((self.threshold > 0) & self.threshold.isfinite()).all()):
            raise ValueError("thresholds must be positive and finite")
        if not bool(self.potential.isfinite().all()):
            raise ValueError("initial potentials must be finite")
        if self.unit is not None and not bool(((self.unit > 0) & self.unit.isfinite()).all()):
            raise ValueError("units must be positive and finite")
        if self.slope is not None and not self.takes_back:
            raise ValueError(f"{type(self).__name__} has no negative spikes and cannot stand for what goes below zero")
        if self.coding:
            if self.slope is None:
                raise ValueError("a code needs spikes of both signs")
            check_coding(self.slope)
        if self.membrane_bits is not None:
            self._check_saturating(self.membrane_bits)
        self.check_own()

    def _check_saturating(self, bits: int) -> None:
        name = type(self).__name__
        if not 2 <= bits <= MAXIMUM_MEMBRANE_BITS:
            raise ValueError(f"membranes have from 2 to {MAXIMUM_MEMBRANE_BITS} bits")
        if not self.saturates or self.slope is not None:
            raise ValueError(f"membranes of {name} do not saturate" + " below zero" * self.saturates)
        if self.unit is None:
            raise ValueError("what drives it is real numbers, of which a membrane of some bits holds none")
        needed = int((self.threshold.double() / self.unit).max().round())
        if needed >= 1 << bits - 1:
            wide = needed.bit_length() + 1
            raise ValueError(f"its threshold of {needed:,} units needs membranes of {wide} bits, and they have {bits}")

    def check_own(self) -> None:
        """Raise ValueError where a field that this kind of neuron adds is out of range."""

    @property
    def exact(self) -> bool:
        """Whether the mean output for a constant current is the closed form, and does not only come near it."""
        return not self.random

    @property
    def takes_back(self) -> bool:
        """Whether it fires negative spikes, as far as its kind can."""
        return self.signed

    def negative_over(self, schedule: Schedule) -> bool:
        """Whether a negative spike can come over all steps."""
        return self.slope is not None

    @property
    def follows(self) -> bool:
        """Whether it may go on from one frame to the next: shown what changed, it comes to count what a start would."""
        return False

    @final
    def follows_at_once(self, timesteps: int) -> bool:
        """Return whether it does so in one step, however much changed."""
        farthest = self.levels(timesteps) * (1 if self.slope is None else 2)
        return self.follows and self.max_event >= farthest and not self.coarse_steps

    @property
    def max_event(self) -> int:
        """The largest event that it sends in one step, in units."""
        return 1

    @property
    def largest_event(self) -> int:
        """The largest event of all steps, the first among them."""
        return self.max_event

    @property
    def units(self) -> Sequence[int]:
        """How many levels a unit of an event is, step by step since the last start; past the last it stays."""
        return (1,)

    @property
    def coarse_steps(self) -> int:
        """How many steps after a start go by before a silent one, asleep and without current, is followed by none."""
        return sum(unit != self.units[-1] for unit in self.units)

    def largest_change(self, timesteps: int) -> int:
        """Return the most levels that the count changes by in one step."""
        return self.largest_event * self.units[0]

    @property
    def rest(self) -> int:
        """What the count starts from; receivers hold it from the first step on, whose response it is part of."""
        return 0

    def levels(self, timesteps: int) -> int:
        """Return how many levels above 0 the mean output has after so many time steps."""
        return self.max_event * timesteps

    @final
    def timesteps_within(self, levels: int) -> int | None:
        """Return the most time steps over which it has no more than so many levels, None where one step has more."""
        return max((steps for steps in range(1, levels + 1) if self.levels(steps) <= levels), default=None)

    @classmethod
    def standing_for(cls, activation: Quantized, schedule: Schedule, **options: Any) -> Self:
        """Return the neuron whose mean output is, or comes near, that of a quantized activation.

        Its ceiling is that of the activation, and its levels are those that it has over the time steps. ``options``
        are the fields that this kind of neuron adds.
        """
        start, coding = activation.potential - cls.rounding, isinstance(activation, Coding)
        neuron = cls(activation.ceiling, activation.slope, start, coding, **options)
        # The threshold is the weight of one level.
        share = schedule.timesteps / neuron.levels(schedule.timesteps)
        return neuron if share == 1 else replace(neuron, threshold=activation.ceiling * share)

    @final
    def retimed(self, before: int, after: int) -> Self:
        """Return the neuron with the same ceiling over ``after`` time steps that it has over ``before``."""
        share = Fraction(self.levels(before) * after, before * self.levels(after))
        # What it takes in stays as it is, and no other threshold is a whole number of its units.
        return self if share == 1 else replace(self.in_reals(), threshold=self.threshold * float(share))

    @final
    def in_reals(self) -> Self:
        """Return the neuron without a unit: what arrives, and what its membrane holds, is any real number."""
        return self if self.unit is None else replace(self, unit=None, membrane_bits=None)

    @final
    def counted(self, current: Tensor, steps: int = 1) -> Tensor:
        """Return a current that is the mean over so many steps, each of which brought whole numbers of units."""
        if self.unit is None:
            return current
        unit = self.unit / steps
        return whole(current, unit).mul_(unit)

    def closed_form(self, timesteps: int) -> Quantized:
        """Return the quantized activation that the mean output is, or comes near, for a constant current."""
        levels = self.levels(timesteps)
        ceiling = self.threshold * (levels / timesteps)
        start = self.potential + self.rounding
        if self.coding and self.slope is not None:
            return Coding(ceiling, levels, self.slope, start)
        return QuantizedRelu(ceiling, levels, self.slope, start)

    def gathered(self, z: Tensor) -> Tensor:
        """Return an input in units in which a spike takes as much from it below zero as above."""
        return as_above(z, self.slope) if self.coding and self.slope is not None else z

    def spikes(self, response: Tensor, schedule: Schedule) -> Tensor:
        """Return how many spikes, of either sign and of however many levels, each neuron fired, from its response.

        That may be the mean, ``[1, N, ...]``, where there are no negative spikes.
        """
        if len(response) == schedule.total:
            response = self.sent(response, schedule)
            # Compared straight into numbers and summed: counting truth values takes eight times as long.
            return summed(torch.ne(response, 0, out=torch.empty_like(response)))[0]
        return (response[0] * schedule.timesteps / self.threshold).round_()

    def fired(self, response: Tensor, schedule: Schedule) -> Tensor:
        """Return how many spikes were fired at every step, ``[schedule.total, N, ...]``, as signed numbers.

        ``response`` is that of all steps. ``value`` of what the count rests at and the sum since the end of the
        rehearsal is the mean output. Spikes that weigh nothing (with a slope of 0) cannot be seen, and do not count;
        with a slope of -1 a count weighs the same whatever its sign, and is taken for a positive one; so it is with any
        slope below 0 where events have several levels.
        """
        numbers = torch.empty_like(response)
        for t, values in enumerate(self.sent(response, schedule)):
            if t in (0, schedule.rehearsal):
                count = torch.full_like(values, self.rest)
            numbers[t] = self.fired_next(count, values)
            count = count + numbers[t]
        return numbers

    @final
    def sent(self, response: Tensor, schedule: Schedule) -> Tensor:
        """Return what was fired at every step, from the response of all steps: what rests is part of the first."""
        if not self.rest:
            return response
        sent = response.clone()
        for t in {0, schedule.rehearsal}:
            sent[t], _ = self.begun(response[t])
        return sent

    @final
    def begun(self, response: Tensor) -> tuple[Tensor, Tensor]:
        """Return what of the response of a first step was fired, and the count before it."""
        count = torch.full_like(response, self.rest)
        return response - self.value(count) if self.rest else response, count

    @final
    def payloads(self, response: Tensor, schedule: Schedule) -> Tensor:
        """Return what the event of every step carries, in the units of that step: signed, ``[total, N, ...]``."""
        starts = [t if t < schedule.rehearsal else t - schedule.rehearsal for t in range(schedule.total)]
        units = [float(self.units[min(since, self.coarse_steps)]) for since in starts]
        return self.fired(response, schedule) / response.new_tensor(units).view(-1, *(1 for _ in response.shape[1:]))

    def event_words(self, schedule: Schedule) -> int:
        """Return how many words an event is one of, silence among them."""
        return (2 if self.negative_over(schedule) else 1) * self.max_event + 1

    @final
    def event_bits(self, schedule: Schedule) -> int:
        """Return how many bits tell the words of an event apart."""
        return (self.event_words(schedule) - 1).bit_length()

    def fired_next(self, count: Tensor, response: Tensor) -> Tensor:
        """Return the signed numbers of spikes at one step, from what was fired and the count before it.

        With a slope, a spike carries what it changes of the value of the count.
        """
        if self.slope is None:
            return (response / self.threshold).round_()
        value = self.value(count)
        if self.largest_change(1) > 1:
            levels = (value + response) / self.threshold
            return (torch.where(levels > 0, levels, levels / self.slope) - count).round_()
        up, down = (self.value(count + one) - value for one in (1, -1))
        sign = torch.where((response - up).abs() <= (response - down).abs(), 1.0, -1.0)
        return sign.to(response.dtype).mul_(response != 0)

    def value(self, count: Tensor, timesteps: int = 1) -> Tensor:
        """Return the mean of ``count`` spikes over the steps: the threshold each, negative ones times the slope."""
        if self.slope is not None:
            count = lessened(count, self.slope)
        return count * (self.threshold / timesteps)


# More whole numbers than those of single precision are not told apart.
MAXIMUM_MEMBRANE_BITS = 24

# What a neuron remembers from one step to the next: its membrane potential, other tensors shaped like its layer, and
# counts of steps.
NeuronState = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class CausalNeuron(Neuron):
    """A neuron whose spike at a step depends on the currents up to that step."""

    @abstractmethod
    def initial(self, x: Tensor) -> NeuronState:
        """Return the state before the first step, in tensors of its own; currents are like ``x``, ``[N, ...]``."""

    @abstractmethod
    def advance(self, state: Any, x: Tensor, awake: bool, value: Tensor) -> NeuronState:
        """Take one time step in place: may overwrite the tensors of ``state``, and fills ``value``.

        Asleep, without current and past its coarse steps, who is silent at one step stays silent.
        """

    @final
    def negative_over(self, schedule: Schedule) -> bool:
        # In a single step nothing has been fired that could be taken back.
        return self.takes_back and (schedule.total > 1 or self.rest > 0 or self.slope is not None)

    def rehearsed(self, state: Any, x: Tensor) -> NeuronState:
        """Return the state to start again with, in tensors of its own, from the one that the rehearsal ended in."""
        return self.initial(x)

    @final
    def step(self, state: NeuronState, x: Tensor, awake: bool = True) -> tuple[NeuronState, Tensor]:
        """Take one time step: (state, currents) to (next state, spikes times their values); changes neither."""
        value = torch.empty_like(x)
        own = type(state)(*(part.clone() if isinstance(part, Tensor) else part for part in state))
        return self.advance(own, self.counted(x), awake, value), value

    @property
    def immediate(self) -> bool:
        """Whether its response to a single step is the closed form, to the last digit."""
        return False

    @final
    def respond(self, currents: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        if schedule.total == 1 and self.immediate:
            return self.closed_form(1)(self.counted(currents))
        train, gains = empty_train(schedule.total, currents[0]), schedule.gains
        state = self.initial(currents[0])
        constant = len(currents) < schedule.total
        # Spikes that weigh nothing cannot be seen: then a step that seems silent may not be.
        visible = self.slope is None or bool((self.slope != 0).all())
        for t in range(schedule.total):
            awake = t < schedule.lit
            if t == schedule.rehearsal > 0:
                state = self.rehearsed(state, currents[0])
            settled = t > max(schedule.lit, schedule.rehearsal + self.coarse_steps)
            if visible and settled and is_silent(train[t - 1]) and (constant or is_silent(currents[t:])):
                # Asleep, silent, and nothing more to come: so it stays.
                train[t:] = 0
                break
            x = currents[t] if not constant else at_step(currents[0], gains[t])
            state = self.advance(state, self.counted(x), awake, train[t])
        return train

    @final
    def potentials(self, currents: Tensor, schedule: Schedule) -> Tensor:
        """Return the membrane potential after every step for the currents of all steps, both ``[total, N, ...]``."""
        found, value = empty_train(schedule.total, currents[0]), torch.empty_like(currents[0])
        state = self.initial(currents[0])
        for t, x in enumerate(currents):
            if t == schedule.rehearsal > 0:
                state = self.rehearsed(state, x)
            state = self.advance(state, self.counted(x), t < schedule.lit, value)
            found[t] = self.membrane(state)
        return found

    def membrane(self, state: Any) -> Tensor:
        """Return the membrane potential of a state, in what the threshold is measured in."""
        membrane: Tensor = state[0]
        return membrane

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Return the least and the most that a membrane holds, as states have it; None where it holds anything."""
        if self.membrane_bits is None or self.unit is None:
            return None
        most = 1 << self.membrane_bits - 1
        return self.unit * (0.5 - most), self.unit * (most - 0.5)

    @final
    def held(self, membrane: Tensor) -> Tensor:
        """Cut off, in place, what a membrane does not hold."""
        bounds = self.bounds()
        return membrane if bounds is None else membrane.clamp_(*bounds)

    def start(self, x: Tensor) -> Tensor:
        """Return the membrane potential before the first step, shaped and laid out in memory like ``x``."""
        return torch.empty_like(x).copy_(self.potential * self.threshold)

    @final
    def coding_bounds(self, count: Tensor, margin: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return from what potential on a code of ``count`` spikes fires one more, and below what one less.

        Halfway to the next level, from half a threshold: what the membrane starts with is its own. ``margin`` is how
        much farther down one less has to be, as a share of that level.
        """
        value, rest = self.value(count), self.threshold / 2
        up, down = self.value(count + 1) - value, value - self.value(count - 1)
        return rest + up / 2, rest - (0.5 + margin) * down


@dataclass(frozen=True, eq=False)
class OrderFreeNeuron(Neuron):
    """A neuron that gathers its whole input before it fires, so that only the input's mean matters.

    It fires in ``timesteps`` steps, and neither rehearses nor sleeps.
    """

    @abstractmethod
    def mean_response(self, mean: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        """Return the mean output over the steps for the mean input ``[N, ...]``: the mean of ``respond``."""


def asked_in_order(order: Sequence[Node], asked: Iterable[str] = ()) -> set[str]:
    """Return the nodes whose step order matters: they are ``asked`` for step by step, or a neuron behind asks for it.

    No other neuron is between.
    """
    found = set(asked)
    for node in reversed(order):
        if isinstance(node.op, OrderFreeNeuron):
            continue
        if isinstance(node.op, Neuron) or node.name in found:
            found.update(node.inputs)
    return found


def retimed(graph: Graph, before: Schedule, after: Schedule) -> Graph:
    """Return a network whose neurons have over other time steps the ceilings that they have over those before."""
    found = {name: op.retimed(before.timesteps, after.timesteps) for name, op in graph.ops(Neuron).items()}
    changed = {name: op for name, op in found.items() if op is not graph.op(name)}
    return graph.with_ops(changed) if changed else graph


def seeded(generator: Generator | None) -> Generator:
    """Return the generator, or one with seed 0: nothing is drawn from what the whole process shares."""
    return generator or Generator().manual_seed(0)


def drawing(seed: int, first: int) -> Generator:
    """Return what is drawn from for samples of which this is the number of the first, whoever runs those before."""
    return Generator().manual_seed((seed * 1_000_003 + first) % 2**63)


def at_step(constant: Tensor, gain: float) -> Tensor:
    """Return what of a constant current there is at a step, of which the schedule says the gain."""
    return constant if gain == 1 else constant * gain


def stretched(signal: Tensor, schedule: Schedule) -> Tensor:
    """Return a signal with all its steps: a constant one is on as long as the image is, and as much of it."""
    if len(signal) == schedule.total:
        return signal
    if schedule.shares:
        gains = torch.tensor(schedule.gains, dtype=signal.dtype, device=signal.device)
        return signal * gains.view(-1, *(1 for _ in signal.shape[1:]))
    on = signal.expand(schedule.lit, *signal.shape[1:])
    return torch.cat([on, torch.zeros_like(signal).expand(schedule.sleep, *signal.shape[1:])]) if schedule.sleep else on


def is_silent(signal: Tensor) -> bool:
    """Return whether a signal is zero everywhere."""
    # The extremes take a fifth of the time that any() does.
    return not signal.numel() or not (signal.amax() or signal.amin())


def mean_signal(signal: Tensor, schedule: Schedule) -> Tensor:
    """Return the mean over time of a signal ``[total or 1, N, ...]``, as ``[1, N, ...]``."""
    return signal if len(signal) == 1 else summed(signal[schedule.rehearsal :]) / schedule.timesteps


def along_memory(values: Tensor) -> Tensor:
    """Return all values in the order in which they lie in memory, ``[N]``."""
    return values.permute(sorted(range(values.ndim), key=values.stride, reverse=True)).flatten()


def summed(signal: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return the sum over the first axis, steps or samples, ``[1, ...]``, laid out in memory like each of them."""
    # Axes as they lie in memory: where channels are innermost, a sum takes ten times as long in any other order.
    order = (0, *sorted(range(1, signal.ndim), key=signal.stride, reverse=True))
    back = sorted(range(signal.ndim), key=order.__getitem__)
    return signal.permute(order).sum(0, keepdim=True, dtype=dtype).permute(back)


def running_means(signal: Tensor, schedule: Schedule) -> Tensor:
    """Return the means of a signal ``[total or 1, N, ...]`` until every step from the end of the rehearsal on.

    Each is relative to what has been shown of the image until then: ``[timesteps + sleep, N, ...]``.
    """
    counting = stretched(signal, schedule)[schedule.rehearsal :]
    elapsed = signal.new_tensor(schedule.elapsed[schedule.rehearsal :])
    return counting.cumsum(0) / elapsed.view(-1, *(1 for _ in counting.shape[1:]))


def empty_train(timesteps: int, like: Tensor) -> Tensor:
    """Return an uninitialized ``[timesteps, *like.shape]`` whose every step has the memory layout of ``like``."""
    strides = torch.empty_like(like, device="meta").stride()
    return torch.empty_strided((timesteps, *like.shape), (like.numel(), *strides), dtype=like.dtype, device=like.device)


def silent_train(schedule: Schedule, like: Tensor) -> Tensor:
    """Return a train without spikes, to be filled in while it is awake."""
    train = empty_train(schedule.total, like)
    train[: schedule.rehearsal] = 0
    train[schedule.lit :] = 0
    return train


def kind_of(op: Op) -> str:
    """Return what people call the kind of an operation: a neuron by its name in recipes, others by their class."""
    return next((name for name, kind in neurons.items() if type(op) is kind), type(op).__name__)


class _Neurons(Registry[type[Neuron]]):
    """The neurons by the names that recipes use; each is an operation too, by the name of its class."""

    def register(self, name: str) -> Callable[[Registered], Registered]:
        enter = super().register(name)

        def enter_both(kind: Registered) -> Registered:
            operations.register(kind.__name__)(kind)  # type: ignore[attr-defined]
            return enter(kind)

        return enter_both


neurons: Registry[type[Neuron]] = _Neurons("neuron", __name__.rpartition(".")[0], base=Neuron)
