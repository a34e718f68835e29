"""A network that goes on from frame to frame, beside one that starts anew at every frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnc import intervals
from snnc.analysis.latency import latency
from snnc.analysis.reach import connected, targets
from snnc.data.samples import Samples
from snnc.feeds import Feeds, Signals, rechunk
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.neurons.base import mean_signal
from snnc.run import Program
from snnc.run.frames import Between, Followed, follow
from snnc.schedule import Schedule
from snnc.tasks import Answers, Task, joined


@dataclass(frozen=True)
class StreamLayer:
    """The events of a layer per frame: of a network that goes on, and of one that starts anew."""

    name: str
    events: float
    restart_events: float


@dataclass(frozen=True)
class Streams:
    """What was measured of so many streams, over so many ``frames`` in all, of a network that goes on.

    ``window``, ``leak`` and ``refresh`` are what happened between frames. ``at_once`` says that every neuron follows
    any change in one step, so that answers are those of a restart up to rounding. Events and ``operations``, the
    accumulations that these cause, are per frame; ``ratio`` is of the events to a restart's, with its interval over
    streams. ``agreement`` is with a restart, in percent, None where answers are hardly ever the same; ``error`` is the
    relative distance of the outputs to a restart's. ``score`` names the task's, "" where it has none or there are no
    labels: those of a stream are for each of its frames. ``trained`` figures are beside the trained network, shown the
    same frames, None where there is none.
    """

    streams: int
    frames: int
    window: int
    leak: float
    refresh: int
    total_steps: int
    at_once: bool
    events: float
    restart_events: float
    ratio: float | None
    ratio_interval: Interval | None
    operations: float
    restart_operations: float
    agreement: float | None
    agreement_interval: Interval | None
    error: float
    score: str
    scored: float | None
    restart_scored: float | None
    trained_agreement: float | None
    trained_agreement_interval: Interval | None
    trained_scored: float | None
    layers: tuple[StreamLayer, ...]


@torch.no_grad()
def follow_streams(
    snn: Graph,
    schedule: Schedule,
    samples: Samples,
    task: Task,
    between: Between,
    *,
    trained: Graph | None = None,
    seed: int = 0,
) -> Streams:
    """Show every stream frame by frame to a network that goes on, to one that starts anew, and to the trained one.

    Raises UsageError where a neuron cannot go on from one frame to the next.
    """
    neurons = snn.ops(Neuron)
    connections = connected(snn)
    reach = {name: targets(connections, name) for name in neurons}
    want = task.judged(snn.outputs)
    program = Program(snn, schedule, want=want, given=snn.inputs)
    reference = None if trained is None else Program(trained, want=task.judged(trained.outputs), given=trained.inputs)
    labels, seen, frames = samples.labels(task.labels), 0, 0
    # By layer and stream: what was sent by the one that goes on and the other, and what that caused.
    sent: dict[str, list[Tensor]] = {name: [] for name in neurons}
    outcomes: list[Answers] = []
    beside: list[Answers] = []
    apart, size = 0.0, 0.0
    for chunk in rechunk(samples.batches(), program.chunk):
        right = None if labels is None else labels.answers[seen : seen + chunk.samples]
        seen += chunk.samples
        counted = {name: torch.zeros(2, chunk.samples, 2, dtype=torch.float64) for name in neurons}
        before: Followed | None = None
        for frame in Feeds(chunk, chunk.over_time, apart=True).frames():
            before = follow(program.graph, schedule, between, before, frame)
            restart, events = _restarted(program, neurons, before.seen, seed)
            for name in neurons:
                for way, fired in enumerate((before.events[name], events[name])):
                    counted[name][way] += _work(fired, reach[name])
            found, anew = [before.answers[name] for name in want], [restart[name][0] for name in want]
            outcomes.append(task.outcomes(task.answers(found), task.answers(anew), right))
            if reference is not None:
                means = {name: mean_signal(signal, schedule) for name, signal in before.seen.items()}
                wanted = task.answers([signal[0] for signal in reference(Feeds({}), given=means).values()])
                beside.append(task.outcomes(task.answers(found), wanted, right))
            frames += chunk.samples
            apart += sum(float((one - other).double().square().sum()) for one, other in zip(found, anew, strict=True))
            size += sum(float(other.double().square().sum()) for other in anew)
        for name in neurons:
            sent[name].append(counted[name])
    layers = {name: torch.cat(parts, 1) for name, parts in sent.items()}
    whole = sum(layers.values(), torch.zeros(2, seen, 2, dtype=torch.float64))
    (events_, operations), (restart_events, restart_operations) = (whole.sum(1) / frames).tolist()
    root = intervals.root_ratio(whole[0, :, 0].tolist(), whole[1, :, 0].tolist())
    alike, once = (task.measured(joined(found)) if found else {} for found in (outcomes, beside))
    scored = _scored(task, alike)
    return Streams(
        streams=seen,
        frames=frames,
        window=between.window,
        leak=between.leak,
        refresh=between.refresh,
        total_steps=latency(snn, schedule),
        at_once=all(neuron.follows_at_once(schedule.timesteps) for neuron in neurons.values()),
        events=events_,
        restart_events=restart_events,
        ratio=events_ / restart_events if restart_events else None,
        ratio_interval=None if root is None else (root[0] ** 2, root[1] ** 2),
        operations=operations,
        restart_operations=restart_operations,
        error=(apart / size) ** 0.5 if size else float(apart > 0),
        layers=tuple(
            StreamLayer(name, *(float(found) / frames for found in counts[:, :, 0].sum(1)))
            for name, counts in layers.items()
        ),
        agreement=alike.get("agreement"),
        agreement_interval=alike.get("agreement_interval"),
        score="" if scored is None else task.score_name,
        scored=scored,
        restart_scored=task.reference(joined(outcomes)).get(task.score_name),
        trained_agreement=once.get("agreement"),
        trained_agreement_interval=once.get("agreement_interval"),
        trained_scored=task.reference(joined(beside)).get(task.score_name) if beside else None,
    )


def _restarted(
    program: Program, neurons: Mapping[str, Neuron], seen: Signals, seed: int
) -> tuple[Signals, dict[str, Tensor]]:
    """Return what a network answers that starts anew, and how many events every neuron sends, ``[N, ...]``."""
    events: dict[str, Tensor] = {}

    def count(name: str, response: Tensor) -> None:
        events[name] = neurons[name].spikes(response, program.schedule)

    generator = torch.Generator().manual_seed(seed)
    return program(Feeds({}), given=seen, observe=count, generator=generator), events


def _work(events: Tensor, reach: Tensor | None) -> Tensor:
    """Return the events of every sample and the accumulations that they cause, ``[N, 2]``."""
    flat = events.flatten(1).double()
    operations = torch.zeros(len(flat), dtype=torch.float64) if reach is None else flat @ reach.flatten().double()
    return torch.stack([flat.sum(1), operations], 1)


def _scored(task: Task, measured: Mapping[str, Any]) -> float | None:
    """Return the score that drops are of, from what was measured of all samples."""
    scores = {name: score.value for name, score in measured.get("scores", {}).items()}
    found: float | None = {**scores, "accuracy": measured.get("accuracy")}.get(task.score_name)
    return found
