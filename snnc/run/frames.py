"""Run a spiking network on the frames of a stream, and keep what it knows from one to the next.

    seen_f = (1 − leak)·seen_(f−1) + leak·(mean of the last ``window`` frames),   seen_1 = the first frame
    frame 1:  a run as any other
    frame f:  the steps of a run again, asleep; what enters at each is what changed, seen_f − seen_(f−1) at that step

Sums over all steps telescope: what has come in is what the last frame alone would have brought. Biases are in it once,
and what is not linear is a temporal difference, of the last frame alone too. A neuron that counts the closed form of
what has come in, and takes back, so comes to count what it would have counted from a start; whose events reach any
count at once has done so at the end of the same step, exactly. Whoever's level is the same fires nothing (sigma-delta
networks: O'Connor and Welling, ICLR 2017). Only the input remembers frames; everything behind it takes back by events.
Sums in floating point drift: a ``refresh`` starts anew every so many frames.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.errors import DataError, UsageError
from snnc.feeds import Feeds, Signals, laid_out
from snnc.ir import Graph, Input
from snnc.neurons import Neuron
from snnc.neurons.base import at_step, kind_of
from snnc.run.program import Through, directly
from snnc.run.steps import State, advanced, start
from snnc.schedule import Schedule
from snnc.text import counted

_MOST = 65536


@final
@dataclass(frozen=True)
class Between:
    """What happens between the frames of a stream.

    The network sees the mean of the last ``window`` frames (of the first ones, of those that there are) or, with a
    ``leak`` below 1, that goes by so much into a mean that leaks. Every ``refresh`` frames it starts anew (0: never).
    Raises UsageError for what is out of range.
    """

    window: int = 1
    leak: float = 1.0
    refresh: int = 0

    def __post_init__(self) -> None:
        for name, number, least in (("window", self.window, 1), ("refresh", self.refresh, 0)):
            if not least <= number <= _MOST:
                hint = f"give a whole number from {least} to {_MOST}"
                raise UsageError(f"invalid value {number}", place=f"--{name}", hint=hint)
        if not 0 < self.leak <= 1:
            hint = "give a number above 0 and up to 1, which every frame counts"
            raise UsageError(f"invalid value {self.leak:g}", place="--leak", hint=hint)


@final
@dataclass(frozen=True, eq=False)
class Followed:
    """A stream as far as it was shown; no frame writes to it, the next one makes another.

    ``graph`` is what goes on, ``seen`` are the signals that it saw at the last frame, ``answers`` its outputs by name,
    ``[N, ...]``, and ``events`` how many events every neuron sent for it, ``[N, ...]`` by layer.
    """

    graph: Graph
    number: int
    seen: Signals
    answers: Signals
    events: Signals
    memory: State
    totals: Signals
    recent: tuple[Signals, ...]


def check_follows(graph: Graph) -> None:
    """Raise UsageError where a neuron of a network cannot go on from one frame to the next."""
    stuck = {name: neuron for name, neuron in graph.ops(Neuron).items() if not neuron.follows}
    if stuck:
        kinds = ", ".join(sorted({kind_of(neuron) for neuron in stuck.values()}))
        layers = counted(len(stuck), "layer")
        hint = "convert with --neuron 'graded(levels=15)' --timesteps 1, or let each frame start anew"
        message = f"{layers} of neurons cannot take back what they fired for the frame before ({kinds})"
        raise UsageError(message, place="--stream", hint=hint)


def check_streams(frames: bool) -> None:
    """Raise UsageError where samples are no ``frames``: nothing says which of them come one after the other."""
    if not frames:
        hint = "give recordings, sequences of images (--folders sequences) or an array of frames"
        raise UsageError("samples that are no frames of a stream", place="--stream", hint=hint)


def follow(
    graph: Graph,
    schedule: Schedule,
    between: Between,
    before: Followed | None,
    frame: Feeds,
    through: Through = directly,
) -> Followed:
    """Show the next frame of a stream, or of several at once: ``[N, ...]``, or in parts over time; None: the first.

    Raises UsageError where a neuron cannot go on from one frame to the next, DataError where what was followed is of
    another network or of other streams.
    """
    if before is None:
        check_follows(graph)
    elif before.graph is not graph:
        hint = "start again, without what was followed before"
        raise DataError("the state is of another network, or from before this one was changed", hint=hint)
    elif frame.samples != next(iter(before.answers.values())).shape[0]:
        message = f"{counted(frame.samples, 'frame')} for another number of streams"
        raise DataError(message, hint="give one of each stream, or start again")
    signals = frame.signals(schedule)
    entered = {name: op.entered(signals[name]) for name, op in graph.ops(Input).items()}
    recent = (*(() if before is None else before.recent), entered)[-between.window :]
    seen = {name: torch.stack([one[name] for one in recent]).mean(0) for name in entered}
    if before is not None:
        seen = {name: torch.lerp(before.seen[name], signal, between.leak) for name, signal in seen.items()}
    number = 0 if before is None else before.number
    if before is None or (between.refresh and number % between.refresh == 0):
        memory, totals, shown = start(graph, frame), {}, None
    else:
        memory, totals, shown = before.memory, before.totals, before.seen
    events: Signals = {}
    for t, changes in _changes(seen, shown, schedule):
        fresh = memory.taken in (0, schedule.rehearsal)
        memory, signals = advanced(graph, schedule, memory, changes, through)
        for name, neuron in graph.ops(Neuron).items():
            sent = neuron.begun(signals[name])[0] if fresh else signals[name]
            events[name] = events.get(name, 0) + (sent != 0).to(sent.dtype)
        if t >= schedule.rehearsal:
            totals = {name: totals.get(name, 0) + signals[name] for name in graph.outputs}
    answers = {name: total / schedule.timesteps for name, total in totals.items()}
    return Followed(graph, number + 1, seen, answers, events, memory, totals, recent)


def _changes(seen: Signals, shown: Signals | None, schedule: Schedule) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
    """Yield the steps of a frame, and what changed at each against the same step of the frame that was shown."""
    for t in range(0 if shown is None else schedule.rehearsal, schedule.total):
        now = {name: _at(signal, t, schedule) for name, signal in seen.items()}
        if shown is not None:
            now = {name: current - _at(shown[name], t, schedule) for name, current in now.items()}
        yield t, {name: laid_out(current) for name, current in now.items()}


def _at(signal: Tensor, t: int, schedule: Schedule) -> Tensor:
    return signal[t] if len(signal) > 1 else at_step(signal[0], schedule.gains[t])
