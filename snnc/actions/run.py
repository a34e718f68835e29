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
from snnc.errors import UsageError
from snnc.feeds import Feeds
from snnc.figure import ExitRule
from snnc.ir import Graph, Input
from snnc.measure.ledger import check_exits
from snnc.neurons import Neuron
from snnc.run import Program
from snnc.run.frames import Between, Followed, check_follows, check_streams, follow
from snnc.run.program import with_layout
from snnc.run.steps import start, step
from snnc.schedule import Schedule
from snnc.tasks import Task, chosen

# Given what comes, returns the outputs by name, [1, ...], how many events were sent, and after how many steps.
_Answering = Callable[[Feeds], tuple[Mapping[str, Tensor], float, int]]


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
    early: bool = False,
) -> Iterator[Decision]:
    """Yield a decision for each sample of the data, for each frame of it or, of recordings, ``every`` microseconds.

    A recording is read as far as its decisions are asked for. Each starts anew unless ``stream`` says what happens
    between frames: then a sample is a stream, and the network goes on from one to the next. What is random is drawn
    from ``seed`` alike for each. With ``early`` each ends as soon as its answer is certain, by the rule of the
    conversion. Raises what ``evaluate`` raises of data that is broken, and UsageError where samples are no streams, a
    neuron cannot go on, or the rule is lacking.
    """
    snn, schedule = conversion.snn, conversion.schedule
    dataset = open_dataset(data, preprocessing or conversion.preprocessing, snn.ops(Input), reading or Reading())
    judging = chosen(task or conversion.task, snn, dataset.kinds)
    if stream is not None:
        check_follows(snn)
        check_streams(dataset.over_time or every is not None)
    want = judging.judged(snn.outputs)
    if early:
        if stream is not None:
            hint = "leave out one of them"
            raise UsageError("a stream that goes on does not stop early", place="--exit-early", hint=hint)
        rule = conversion.exit_rule("--exit-early")
        check_exits(conversion, schedule, judging)
        anew = _until_certain(conversion, judging, rule)
    else:
        anew = _anew(Program(snn, schedule, want=want), latency(snn, schedule), seed)
    for index in range(len(dataset)):
        answering = anew if stream is None else _going_on(with_layout(snn), schedule, stream)
        for at, feeds in dataset.shown(index, every):
            began = time.perf_counter()
            outputs, spikes, steps = answering(feeds)
            answer = judging.answers([outputs[name] for name in want])[0]
            taken = 1000 * (time.perf_counter() - began)
            yield Decision(dataset.name(index), at, judging.told(answer), _plain(answer), steps, int(spikes), taken)


def _anew(program: Program, steps: int, seed: int) -> _Answering:
    neurons = program.graph.ops(Neuron)

    def answer(feeds: Feeds) -> tuple[Mapping[str, Tensor], float, int]:
        fired: list[float] = []

        def count(name: str, response: Tensor) -> None:
            fired.append(float(neurons[name].spikes(response, program.schedule).sum()))

        signals = program(feeds, observe=count, generator=torch.Generator().manual_seed(seed))
        return {name: signals[name][0] for name in program.want}, sum(fired), steps

    return answer


def _until_certain(conversion: Conversion, task: Task, rule: ExitRule) -> _Answering:
    snn, schedule = conversion.snn, conversion.schedule
    want = task.judged(snn.outputs)

    @torch.no_grad()
    def answer(feeds: Feeds) -> tuple[Mapping[str, Tensor], float, int]:
        shown, state = feeds.signals(schedule), start(snn, feeds)
        totals: dict[str, Tensor] = {}
        means: dict[str, Tensor] = {}
        spikes = at = 0
        for at in range(schedule.total):
            frame = Feeds({name: signal[at if len(signal) > 1 else 0] for name, signal in shown.items()})
            state, signals = step(snn, schedule, state, frame)
            for name, neuron in snn.ops(Neuron).items():
                first = at in (0, schedule.rehearsal)
                spikes += int((neuron.begun(signals[name])[0] if first else signals[name]).count_nonzero())
            if at >= schedule.rehearsal:
                totals = {name: totals.get(name, 0) + signals[name] for name in want}
                means = {name: total / schedule.elapsed[at] for name, total in totals.items()}
                margins = task.margins([*means.values()])
                if margins is not None and rule.enough(at, float(margins[0])):
                    break
        return means, spikes, at + 1

    return answer


def _going_on(snn: Graph, schedule: Schedule, between: Between) -> _Answering:
    before: list[Followed] = []
    steps = latency(snn, schedule)

    @torch.no_grad()
    def answer(feeds: Feeds) -> tuple[Mapping[str, Tensor], float, int]:
        before[:] = [follow(snn, schedule, between, next(iter(before), None), feeds)]
        return before[0].answers, sum(float(events.sum()) for events in before[0].events.values()), steps

    return answer


def _plain(answer: Any) -> Any:
    """Return an answer as JSON has it, in which numbers are finite."""
    if isinstance(answer, Tensor):
        return _plain(answer.tolist())
    if isinstance(answer, list):
        return [_plain(part) for part in answer]
    return None if isinstance(answer, float) and not math.isfinite(answer) else answer
