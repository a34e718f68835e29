"""Run a spiking network one time step at a time: state in, state out, no reset.

Every step does what a ``Program`` does at that step, from what the steps before have left: the
memories of the neurons, and of the operations that are lifted by temporal differences. The input may be another at
every step. The number of the step is known before anything is computed, and nothing depends on what is in a tensor but
other tensors: a step can be traced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from snnc.errors import ModelError
from snnc.feeds import Feeds, Signals, laid_out
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron
from snnc.neurons.base import Timed, at_step
from snnc.neurons.temporal_bias import TemporalBias
from snnc.run.program import Through, directly
from snnc.schedule import Schedule

# What one node remembers: tensors, and counts of steps.
OperationMemory = tuple[Any, ...]


@final
@dataclass(frozen=True, eq=False)
class State:
    """What a network remembers after ``taken`` steps, by node, in tensors of its own that no step writes to."""

    taken: int
    memories: Mapping[str, OperationMemory]


class _Difference(NamedTuple):
    """The sums of what came in since the last start, and what has been put out for it in all."""

    sums: tuple[Tensor, ...]
    answered: Tensor


def start(graph: Graph, feeds: Feeds) -> State:
    """Return the state before the first step, for as many samples, of that precision and on that device.

    Raises ModelError that names the node of a neuron that gathers its whole input before it fires.
    """

    like = next(iter(feeds.values()))

    def blank(name: str) -> Tensor:
        return laid_out(like.new_zeros(feeds.samples, *graph.shapes[name]))

    memories: dict[str, OperationMemory] = {}
    for name, node in graph.nodes.items():
        if isinstance(node.op, CausalNeuron):
            memories[name] = node.op.initial(blank(name))
        elif isinstance(node.op, Timed) and not isinstance(node.op, TemporalBias):
            kind = type(node.op).__name__
            hint = "convert with a causal neuron (recipe synchronous), or run whole trains"
            raise ModelError(f"{kind} has no time step: it gathers its whole input first", place=name, hint=hint)
        elif not node.op.linear:
            memories[name] = _Difference(tuple(map(blank, node.inputs)), blank(name))
    return State(0, memories)


def step(
    graph: Graph, schedule: Schedule, state: State, feeds: Feeds, through: Through = directly
) -> tuple[State, Signals]:
    """Take one time step: (state, samples ``[N, ...]``) to (next state, what every node puts out at this step).

    Inputs are off in sleep, whatever is given, and awake there is as much of them as the schedule's shares say. All
    steps from the end of the rehearsal on count: the sum of an output over them, divided by ``schedule.timesteps``, is
    what the network answers. Every node but the inputs is computed by ``through``.
    """
    gain = _Clock.of(schedule, state.taken).gain
    inputs = graph.ops(Input).items()
    return advanced(graph, schedule, state, {n: at_step(op.entered(feeds[n]), gain) for n, op in inputs}, through)


def advanced(
    graph: Graph, schedule: Schedule, state: State, currents: Mapping[str, Tensor], through: Through = directly
) -> tuple[State, Signals]:
    """Take one time step with what enters at it, by input, whatever the schedule says of that.

    When all steps of the schedule have been taken, those that follow are asleep.
    """
    clock = _Clock.of(schedule, state.taken)
    memories: dict[str, OperationMemory] = {}
    signals: Signals = {}
    for name, node in graph.nodes.items():
        if isinstance(node.op, Input):
            signals[name] = currents[name]
            continue
        compute = partial(_stepped, node, clock, state.memories.get(name, ()), memories)
        signals[name] = through(node, compute, [signals[value] for value in node.inputs])
    return State(state.taken + 1, memories), signals


class _Clock(NamedTuple):
    """Where a step is: how many went before it since the last start, and how much of the image is shown.

    ``gain`` is how much of it at this step and ``elapsed`` until then, in equal steps; ``lit`` whether the network is
    awake, and ``again`` that it is the first step after the rehearsal.
    """

    since: int
    gain: float
    elapsed: float
    lit: bool
    again: bool

    @classmethod
    def of(cls, schedule: Schedule, taken: int) -> "_Clock":
        rehearsing = taken < schedule.rehearsal
        since = taken if rehearsing else taken - schedule.rehearsal
        again = taken == schedule.rehearsal > 0
        gain = schedule.gains[taken] if taken < schedule.lit else 0.0
        elapsed = schedule.elapsed[min(taken, schedule.total - 1)]
        return cls(since, gain, elapsed, taken < schedule.lit, again)


def _stepped(
    node: Node, clock: _Clock, memory: OperationMemory, memories: dict[str, OperationMemory], *inputs: Tensor
) -> Tensor:
    """Return what a node puts out at a step; what it then remembers is put into ``memories``."""
    op = node.op
    if isinstance(op, CausalNeuron):
        before = op.rehearsed(memory, inputs[0]) if clock.again else memory
        memories[node.name], signal = op.step(before, inputs[0], clock.lit)
        return signal
    if isinstance(op, TemporalBias):
        return inputs[0] + op.shift_at(clock.since) if clock.lit else inputs[0]
    if op.linear:
        return op(*inputs) if clock.gain == 1 else op(*inputs) - at_step(_constant(op, inputs), 1 - clock.gain)
    before = _forgotten(memory) if clock.again else memory
    memories[node.name], signal = _advanced(op, before, inputs, clock.elapsed)
    return signal


def _constant(op: Op, inputs: Sequence[Tensor]) -> Tensor:
    """Return what an affine operation answers to nothing, for one sample."""
    return op(*(torch.zeros_like(x[:1]) for x in inputs))


def _advanced(op: Op, memory: OperationMemory, inputs: Sequence[Tensor], elapsed: float) -> tuple[_Difference, Tensor]:
    """Return what the temporal difference of an operation remembers after a step, and what it puts out."""
    before, answered = memory
    sums = tuple(total + x for total, x in zip(before, inputs, strict=True))
    answer = op(*(total / elapsed for total in sums)) * elapsed
    return _Difference(sums, answer), answer - answered


def _forgotten(memory: OperationMemory) -> _Difference:
    sums, answered = memory
    return _Difference(tuple(map(torch.zeros_like, sums)), torch.zeros_like(answered))
