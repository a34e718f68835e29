"""Run a spiking network on what comes, and tell each answer as it comes."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.ir import Input
from snnc.neurons import Neuron
from snnc.run import Program
from snnc.tasks import Task, chosen


@dataclass(frozen=True)
class Decision:
    """One answer, of a network that starts anew.

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
) -> Iterator[Decision]:
    """Yield a decision for each sample of the data, for each frame of it or, of recordings, ``every`` microseconds.

    A recording is read as far as its decisions are asked for. Each starts anew: nothing is kept from one to the next.
    What is random is drawn from ``seed`` alike for each. Raises what ``evaluate`` raises of data that is broken.
    """
    snn, schedule = conversion.snn, conversion.schedule
    dataset = open_dataset(data, preprocessing or conversion.preprocessing, snn.ops(Input), reading or Reading())
    judging = chosen(task or conversion.task, snn, dataset.kinds)
    program = Program(snn, schedule, want=judging.judged(snn.outputs))
    neurons, steps = snn.ops(Neuron), latency(snn, schedule)
    for index in range(len(dataset)):
        for at, feeds in dataset.shown(index, every):
            fired: list[Tensor] = []

            def count(name: str, response: Tensor, fired: list[Tensor] = fired) -> None:
                fired.append(neurons[name].spikes(response, schedule).sum())

            began = time.perf_counter()
            signals = program(feeds, observe=count, generator=torch.Generator().manual_seed(seed))
            answer = judging.answers([signals[name][0] for name in program.want])[0]
            taken = 1000 * (time.perf_counter() - began)
            spikes = int(sum(float(spikes) for spikes in fired))
            yield Decision(dataset.name(index), at, judging.told(answer), _plain(answer), steps, spikes, taken)


def _plain(answer: Any) -> Any:
    """Return an answer as JSON has it, in which numbers are finite."""
    if isinstance(answer, Tensor):
        return _plain(answer.tolist())
    if isinstance(answer, list):
        return [_plain(part) for part in answer]
    return None if isinstance(answer, float) and not math.isfinite(answer) else answer
