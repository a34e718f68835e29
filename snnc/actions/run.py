"""Run a spiking network on what comes, and tell each answer as it comes."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.feeds import Feeds
from snnc.ir import Graph, Input
from snnc.neurons import Neuron
from snnc.run import Program
from snnc.run.frames import Between, Followed, check_follows, check_streams, follow
from snnc.schedule import Schedule
from snnc.tasks import Task, chosen

# Given what comes, returns the outputs by name, [1, ...], and how many events were sent.
_Answering = Callable[[Feeds], tuple[Mapping[str, Tensor], float]]


@dataclass(frozen=True)
class Decision:
    """One answer, of a network that starts anew, or that goes on from the frame before.

    ``sample`` is what the sample is called, ``at`` the microseconds or frames of it that are over by then, None where
    it has neither. ``answer`` is in words, ``values`` as plain data, None for what is no number. It takes ``steps``
    from the input to the answer, in which so many ``spikes`` fire, and took ``milliseconds`` here.
    """

    sample: str
    at: int | None
    answer: str
    values: Any
    steps: int
    spikes: int
    milliseconds: float


def run(
    conversion: Conversion,
    *,
    data: str | Path,
    every: int | None = None,
    task: Task | None = None,
    preprocessing: Preprocessing | None = None,
    reading: Reading | None = None,
    seed: int = 0,
    stream: Between | None = None,
) -> Iterator[Decision]:
    """Yield a decision for each sample of the data, for each frame of it or, of recordings, ``every`` microseconds.

    A recording is read as far as its decisions are asked for. Each starts anew unless ``stream`` says what happens
    between frames: then a sample is a stream, and the network goes on from one to the next. What is random is drawn
    from ``seed`` alike for each. Raises what ``evaluate`` raises of data that is broken, and UsageError where samples
    are no streams or a neuron cannot go on.
    """
    snn, schedule = conversion.snn, conversion.schedule
    dataset = open_dataset(data, preprocessing or conversion.preprocessing, snn.ops(Input), reading or Reading())
    judging = chosen(task or conversion.task, snn, dataset.kinds)
    if stream is not None:
        check_follows(snn)
        check_streams(dataset.over_time or every is not None)
    want, steps = judging.judged(snn.outputs), latency(snn, schedule)
    anew = _anew(Program(snn, schedule, want=want), seed)
    for index in range(len(dataset)):
        answering = anew if stream is None else _going_on(snn, schedule, stream)
        for at, feeds in dataset.shown(index, every):
            began = time.perf_counter()
            outputs, spikes = answering(feeds)
            answer = judging.answers([outputs[name] for name in want])[0]
            taken = 1000 * (time.perf_counter() - began)
            yield Decision(dataset.name(index), at, judging.told(answer), _plain(answer), steps, int(spikes), taken)


def _anew(program: Program, seed: int) -> _Answering:
    neurons = program.graph.ops(Neuron)

    def answer(feeds: Feeds) -> tuple[Mapping[str, Tensor], float]:
        fired: list[float] = []

        def count(name: str, response: Tensor) -> None:
            fired.append(float(neurons[name].spikes(response, program.schedule).sum()))

        signals = program(feeds, observe=count, generator=torch.Generator().manual_seed(seed))
        return {name: signals[name][0] for name in program.want}, sum(fired)

    return answer


def _going_on(snn: Graph, schedule: Schedule, between: Between) -> _Answering:
    before: list[Followed] = []

    @torch.no_grad()
    def answer(feeds: Feeds) -> tuple[Mapping[str, Tensor], float]:
        before[:] = [follow(snn, schedule, between, next(iter(before), None), feeds)]
        return before[0].answers, sum(float(events.sum()) for events in before[0].events.values())

    return answer


def _plain(answer: Any) -> Any:
    """Return an answer as JSON has it, in which numbers are finite."""
    if isinstance(answer, Tensor):
        return _plain(answer.tolist())
    if isinstance(answer, list):
        return [_plain(part) for part in answer]
    return None if isinstance(answer, float) and not math.isfinite(answer) else answer
