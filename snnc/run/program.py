"""Run a graph, trained or spiking, over time.

A value on an edge is a signal ``[S, N, ...]``: S is the number of steps of the schedule, or 1 where every step is the
same (a still input, and all that is computed from it before the first neuron). S is also 1 where no neuron behind
depends on the order of the steps: the signal is then its mean. In a trained network S is 1 everywhere.

Affine operations are applied to every step, with time folded into the batch, and lose their constant part in sleep.
Any other stateless operation f is lifted by temporal differences, y(t) = t·f(x̄_t) − (t−1)·f(x̄_{t−1}) with x̄_t the
mean of the first t steps, so that the mean of its output is f of the mean of its input; in sleep t stays, and where
steps carry other shares of the image t counts what has been shown. For
max-pooling this is lateral-inhibition pooling (CASC, Li et al. 2024): the cumulative output is the maximum of the
cumulative inputs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from typing import final

import torch
from torch import Generator, Tensor

from snnc.errors import DataError
from snnc.feeds import Feeds, Signals, laid_out, rechunk
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.base import Timed, asked_in_order, at_step, is_silent, mean_signal, seeded, stretched
from snnc.neurons.two_phase_probabilistic import drawing_part
from snnc.ops import Activation
from snnc.run.device import CPU, current_device
from snnc.schedule import Schedule

# Told the name and the response of every layer of neurons.
Observer = Callable[[str, Tensor], None]

# Given a node, how its signal is computed and from which: returns the signal, and may look at all of them.
Through = Callable[[Node, Callable[..., Tensor], Sequence[Tensor]], Tensor]


def directly(node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """Compute the signal of a node."""
    return compute(*inputs)


# Numbers in the largest signal of a chunk, found by timing. Of trains a quarter, about what the caches of one core
# hold; where steps do not multiply samples, products of deep layers would have too few rows then.
_CHUNK_ELEMENTS = 1 << 22
_TRAINS = 4
# Numbers that are taken through all of an activation at once, so that they stay in the caches: by timing.
_BLOCK_ELEMENTS = 1 << 18

# A trained network is run for one step.
ONCE = Schedule(1)


@final
class Program:
    """A graph that is ready to be run over a schedule: its tensors laid out, its order worked out, once.

    ``want`` are the nodes whose signals are returned (the outputs unless given), ``given`` those whose signals are
    handed over at every call: what lies only behind them is not computed. A wanted signal is its mean over time,
    ``[1, N, ...]``, unless it is wanted ``stepwise``, or ``trains`` keeps all steps of every signal, ``[S, N, ...]``.
    ``order_free`` are the nodes whose steps no neuron behind asks the order of; ``chunk`` is how many samples to run at
    once, as many as keep the largest signal within the caches.
    """

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule = ONCE,
        *,
        want: Iterable[str] = (),
        given: Iterable[str] = (),
        stepwise: Collection[str] = (),
        trains: bool = False,
    ) -> None:
        self._original = graph
        self.graph = with_layout(graph)
        self.schedule = schedule
        self.want = tuple(dict.fromkeys(want)) or graph.outputs
        self.trains = trains
        self._stepwise = frozenset(stepwise)
        given = frozenset(given)
        needed = graph.ancestors(self.want, stop=given)
        self._order = tuple(node for name, node in self.graph.nodes.items() if name in needed and name not in given)
        ordered = needed if trains else asked_in_order(self._order, self._stepwise)
        self.order_free = frozenset(needed - ordered)
        self._spiking = bool(graph.ops(Timed))
        self._inputs = graph.ops(Input)
        last_use = {value: node.name for node in self._order for value in node.inputs}
        self._device = current_device()
        self._expiring: dict[str, list[str]] = {}
        for value, reader in last_use.items():
            if value not in self.want:
                self._expiring.setdefault(reader, []).append(value)

    @cached_property
    def chunk(self) -> int:
        """How many samples to run at once."""
        largest = max(torch.Size(shape).numel() for shape in self._original.shapes.values())
        ordered = any(not isinstance(neuron, OrderFreeNeuron) for neuron in self.graph.ops(Timed).values())
        trains = self.schedule.total > 1 and (ordered or self._stepwise)
        steps = _TRAINS * self.schedule.total if trains else 1
        return max(1, min(256, _CHUNK_ELEMENTS // max(1, largest * steps)))

    @cached_property
    def _placed(self) -> tuple[Node, ...]:
        """The nodes in order, on the device."""
        placed = self.graph.map_tensors(lambda tensor: tensor.to(self._device))
        return tuple(placed.nodes[node.name] for node in self._order)

    @torch.no_grad()
    def __call__(
        self,
        feeds: Feeds,
        *,
        given: Mapping[str, Tensor] | None = None,
        observe: Observer | None = None,
        generator: Generator | None = None,
        through: Through = directly,
    ) -> Signals:
        """Compute the wanted signals of some samples, all at once.

        ``given`` are the signals of the nodes that the program was made to be given. ``observe`` is called with the
        name and the response of every layer of neurons: ``[schedule.total, N, ...]``, or its mean ``[1, N, ...]``
        where the order of its spikes is not asked for. What neurons draw at random is drawn from ``generator`` (None:
        one with seed 0). Every node but the inputs is computed by ``through``. A network without neurons runs on each
        of frames that are apart: signals are the means of what it makes of them. On another device than the CPU, all is
        handed over from here and to here; where its memory does not suffice, for fewer samples at once. Raises
        ValueError where an input is not fed, DataError where that memory does not suffice for one sample.
        """
        if feeds.over_time and feeds.apart and not self._spiking:
            return _averaged(self(frame, given=given, through=through) for frame in feeds.frames())
        generator, given = seeded(generator), given or {}
        if self._device == CPU or through is not directly:
            return self._computed(self._order, feeds, given, observe, generator, through)
        found, observed = self._computed_elsewhere(feeds, given, generator, watched=observe is not None)
        for name, response in observed:
            assert observe is not None
            observe(name, response)
        return found

    def with_gradients(self, given: Mapping[str, Tensor], through: Through) -> Signals:
        """Compute the wanted signals from those given, with gradients: those of neurons are what ``through`` gives."""
        return self._computed(self._order, Feeds({}), given, None, seeded(None), through)

    def _computed_elsewhere(
        self, feeds: Feeds, given: Mapping[str, Tensor], generator: Generator, *, watched: bool
    ) -> tuple[Signals, list[tuple[str, Tensor]]]:
        """Return the wanted signals, and all responses where they are ``watched``, from the device back here."""
        observed: list[tuple[str, Tensor]] = []

        def observe(name: str, response: Tensor) -> None:
            observed.append((name, response.to(CPU)))

        state = generator.get_state()
        try:
            there = {name: signal.to(self._device) for name, signal in given.items()}
            look = observe if watched else None
            found = self._computed(self._placed, feeds.to(self._device), there, look, generator, directly)
            return {name: signal.to(CPU) for name, signal in found.items()}, observed
        except torch.OutOfMemoryError:
            samples = feeds.samples if len(feeds) else next(iter(given.values())).shape[1]
            if samples < 2:
                hint = "use --device cpu, or a GPU with more memory"
                raise DataError(
                    "one sample needs more memory than the device has", place="--device", hint=hint
                ) from None
        parts = []
        for start, stop in ((0, samples // 2), (samples // 2, samples)):
            generator.set_state(state)
            some = {name: signal[:, start:stop] for name, signal in given.items()}
            part = feeds.part(start, stop) if len(feeds) else feeds
            with drawing_part(start, samples):
                parts.append(self._computed_elsewhere(part, some, generator, watched=watched))
        (found, one), (others, other) = parts
        whole = {name: torch.cat([signal, others[name]], 1) for name, signal in found.items()}
        return whole, [(name, torch.cat([r, q], 1)) for (name, r), (_, q) in zip(one, other, strict=True)]

    def _computed(
        self,
        order: Iterable[Node],
        feeds: Feeds,
        given: Mapping[str, Tensor],
        observe: Observer | None,
        generator: Generator,
        through: Through,
    ) -> Signals:
        signals = feeds.signals(self.schedule)
        signals |= {name: op.entered(signals[name]) for name, op in self._inputs.items() if name in signals}
        signals |= given
        for name in feeds.over_time & self.order_free:
            signals[name] = mean_signal(signals[name], self.schedule)
        for node in order:
            name = node.name
            if isinstance(node.op, Input):
                if name not in signals:
                    raise ValueError(f"the input {name!r} of the network was not fed")
                continue
            inputs = [signals[value] for value in node.inputs]
            if isinstance(node.op, Timed):
                # Spikes of both signs can be counted in the train only.
                counted = observe is not None and isinstance(node.op, Neuron) and node.op.slope is not None
                ordered = name not in self.order_free or counted
                respond = partial(_respond, node.op, self.schedule, ordered, generator)
                signal = through(node, respond, inputs)
                if observe is not None and isinstance(node.op, Neuron):
                    observe(name, signal)
            else:
                signal = through(node, partial(_lift, node.op, self.schedule), inputs)
            signals[name] = mean_signal(signal, self.schedule) if name in self.order_free else signal
            for value in self._expiring.get(name, ()):
                del signals[value]
        whole = self.want if self.trains else self._stepwise
        return {n: signals[n] if n in whole else mean_signal(signals[n], self.schedule) for n in self.want}

    def stream(
        self, batches: Iterable[Feeds], *, observe: Observer | None = None, generator: Generator | None = None
    ) -> Iterator[Signals]:
        """Compute the wanted signals of a stream of samples, in chunks that fit the caches.

        The chunks are the same for the same samples in the same order, whatever the size of the batches that the
        reader happens to deliver, so that nothing that is computed from them depends on it.
        """
        generator = seeded(generator)
        for chunk in rechunk(batches, self.chunk):
            yield self(chunk, observe=observe, generator=generator)


def _averaged(found: Iterable[Signals]) -> Signals:
    total: Signals = {}
    count = 0
    for signals in found:
        total = {name: total[name] + signal if count else signal for name, signal in signals.items()}
        count += 1
    return {name: signal / count for name, signal in total.items()}


def with_layout(graph: Graph) -> Graph:
    """Return the graph with its tensors laid out for the operations that read them; what is so already is shared."""
    tensors = (tensor for node in graph.nodes.values() for tensor in node.op.tensors().values())
    return graph.map_tensors(laid_out) if any(laid_out(tensor) is not tensor for tensor in tensors) else graph


def _respond(op: Timed, schedule: Schedule, ordered: bool, generator: Generator, currents: Tensor) -> Tensor:
    if isinstance(op, OrderFreeNeuron) and not ordered:
        mean = mean_signal(currents, schedule)[0]
        if op.random:
            return op.mean_response(mean, schedule, generator).unsqueeze(0)
        return _in_blocks(lambda some: op.mean_response(some, schedule), mean).unsqueeze(0)
    if schedule.total == 1 and isinstance(op, CausalNeuron):
        return _in_blocks(lambda some: op.respond(some.unsqueeze(0), schedule)[0], currents[0]).unsqueeze(0)
    return op.respond(currents, schedule, generator)


def _in_blocks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply what treats every sample by itself, some of them after the others."""
    # Where this is traced, or on a GPU, there are no caches to keep within; gradients want all in one.
    if torch.compiler.is_compiling() or not x.is_cpu or (x.requires_grad and torch.is_grad_enabled()):
        return function(x)
    size = max(1, _BLOCK_ELEMENTS * len(x) // max(1, x.numel()))
    if size >= len(x):
        return function(x)
    found = (function(part) for part in torch.split(x, size))
    first = next(found)
    alike = first.shape[1:] == x.shape[1:]
    made = torch.empty_like(x, dtype=first.dtype) if alike else first.new_empty(len(x), *first.shape[1:])
    for place, values in zip(torch.split(made, size), chain([first], found), strict=True):
        # Copied while they are in the caches.
        place.copy_(values)
    return made


def computed(op: Op, schedule: Schedule, ordered: bool, generator: Generator, *inputs: Tensor) -> Tensor:
    """Return the signal of an operation from those that it reads; its mean where nobody asks for its ``ordered``."""
    signal = (
        _respond(op, schedule, ordered, generator, *inputs) if isinstance(op, Timed) else _lift(op, schedule, *inputs)
    )
    return signal if ordered else mean_signal(signal, schedule)


def _lift(op: Op, schedule: Schedule, *inputs: Tensor) -> Tensor:
    """Apply a stateless operation to signals."""
    if all(len(signal) == 1 for signal in inputs):
        if isinstance(op, Activation):
            return _in_blocks(op, inputs[0][0]).unsqueeze(0)
        return op(*(signal[0] for signal in inputs)).unsqueeze(0)
    signals = [stretched(signal, schedule) for signal in inputs]
    if not op.linear:
        parts, elapsed = (slice(0, schedule.rehearsal), slice(schedule.rehearsal, None)), schedule.elapsed
        pieces = [temporal_difference(op, [s[p] for s in signals], elapsed[p]) for p in parts if elapsed[p]]
        return torch.cat(pieces)
    steps = _stirring(signals, schedule)
    result = op(*(signal[:steps].flatten(0, 1) for signal in signals))
    result = result.view(steps, signals[0].shape[1], *result.shape[1:])
    if schedule.sleep or schedule.shares:
        constant = op(*(torch.zeros_like(signal[0, :1]) for signal in signals))
        # Without a constant part the result may be a view of the input, which is not ours to write to.
        if constant.any():
            for t, gain in enumerate(schedule.gains[:steps]):
                if gain != 1:
                    result[t] -= at_step(constant, 1 - gain)
    if steps < schedule.total:
        result = torch.cat([result, torch.zeros_like(result[:1]).expand(schedule.total - steps, *result.shape[1:])])
    return result


def _stirring(signals: list[Tensor], schedule: Schedule) -> int:
    """Return after how many steps nothing more comes: asleep, where all is silent, there is nothing to compute."""
    steps = schedule.total
    while steps > schedule.lit and all(is_silent(signal[steps - 1]) for signal in signals):
        steps -= 1
    return steps


def temporal_difference(op: Op, inputs: Sequence[Tensor], elapsed: Sequence[float] | Tensor) -> Tensor:
    """Return what an operation that is not affine gives at every step, ``[S, N, ...]``, for all steps of its inputs.

    ``elapsed`` is how much of the image has been shown until each of them, in equal steps.
    """
    sums = [torch.zeros_like(signal[0]) for signal in inputs]
    outputs: list[Tensor] = []
    before: Tensor | None = None
    for t in range(len(inputs[0])):
        sums = [total + signal[t] for total, signal in zip(sums, inputs, strict=True)]
        after = op(*(total / elapsed[t] for total in sums)) * elapsed[t]
        outputs.append(after if before is None else after - before)
        before = after
    return torch.stack(outputs)
