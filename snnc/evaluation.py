"""Accuracy against time steps, and the gates that CI trusts."""

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from snnc import intervals
from snnc.analysis.latency import latency
from snnc.analysis.reach import connected, targets
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Progress, Samples, silent
from snnc.errors import UsageError
from snnc.feeds import Feeds, Signals, rechunk
from snnc.figure import Blame, Energy, LayerError, Row, Score
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.measure import gates
from snnc.measure.blame import blame, check_alike
from snnc.measure.energy import Cost, cost, energy
from snnc.measure.gates import ANYTHING, Limits
from snnc.measure.probe import permuted
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import is_silent
from snnc.pipeline import canonical_reference
from snnc.report.data import Evaluation
from snnc.report.findings import idle_steps, nothing_random, other_timesteps, undecided, unsettled
from snnc.report.layers import LayerErrors, check_comparable
from snnc.run import Program
from snnc.schedule import Schedule, check_steps
from snnc.tasks import Task, seeming

# Images run at once, a fixed number so that the batch size of the reader changes no figure.
_IMAGES = 256


def evaluate(
    conversion: Conversion,
    *,
    data: str | Path,
    timesteps: Sequence[int] = (),
    sleep: int | None = None,
    repeats: int = 1,
    probe: Literal["permutation"] | None = None,
    blamed: int = 0,
    limits: Limits = ANYTHING,
    task: Task | None = None,
    preprocessing: Preprocessing | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run the spiking network, and the trained one beside it, over data at every number of time steps.

    The result has a row for each of them (``result.rows``): accuracy where the data has labels, agreement with the
    trained network, spikes and energy, and ``result.plain()`` is all of it as plain data. What an answer is, and how
    good it is, says ``task``: unless given, the one that outputs and labels suggest. ``data`` is a folder of images,
    with a sub-folder for each class where there are labels, or an array file. ``timesteps``, ``sleep`` and
    ``preprocessing`` are the conversion's own unless given. What is random
    (neurons, the probe) is drawn ``repeats`` times, from the reading's seed on. On up to ``blamed`` images every layer
    is charged with its part of the loss, at the conversion's own T or the first. ``result.gates`` says which of the
    ``limits`` are met.

    Raises DataError where the data is broken, a label is none of the network's outputs, or a limit is on what these
    data or this file cannot tell, UsageError on a number of steps that cannot be run, and PreconditionError where the
    trained network cannot stand in for a layer.
    """
    schedules = _schedules(conversion, timesteps, sleep)
    if repeats < 1:
        raise UsageError(f"{repeats} repeats", place="--repeats", hint="give a whole number from 1")
    if probe is not None and not conversion.snn.ops(CausalNeuron):
        hint = "convert with --neuron if, dual-threshold or another that fires while it gathers"
        raise UsageError("no neuron here depends on the order of spikes", place="--probe", hint=hint)
    reading = reading or Reading()
    how = preprocessing or conversion.preprocessing
    dataset = open_dataset(data, how, conversion.snn.input_shapes, reading)
    outputs = conversion.snn.output_shapes
    task = task or conversion.task or seeming(outputs, dataset.kinds)
    task.check(dataset, outputs)
    gates.check(limits, labelled=dataset.labels(task.labels) is not None, stripped=conversion.reference is None)
    canonical = None
    if blamed or limits.on_layers:
        canonical = canonical_reference(conversion)
        check_comparable(canonical, conversion.snn)
        if blamed:
            check_alike(canonical, conversion.snn)
    samples = DatasetSamples(dataset, reading, "evaluating", progress)
    compared = canonical if limits.on_layers else None
    result = measure(
        conversion, samples, task, schedules, repeats=repeats, probe=probe, seed=reading.seed, canonical=compared
    )
    judged = gates.judged(result.rows, result.samples, limits)
    rows = result.rows
    if canonical is not None and blamed:
        # Of several numbers of steps, the one that the network was made for; blaming takes many runs.
        chosen = next((s for s in schedules if s.timesteps == conversion.schedule.timesteps), schedules[0])
        some = dataset.spread(blamed, reading.seed)
        samples = DatasetSamples(some, reading, f"blaming layers at T={chosen.timesteps}", progress)
        shares = _blamed(conversion, canonical, samples, task, chosen, reading.seed)
        at = schedules.index(chosen)
        rows = (*rows[:at], replace(rows[at], blame=shares, blame_images=len(some)), *rows[at + 1 :])
    return replace(
        result,
        rows=rows,
        gates=judged,
        findings=result.findings + tuple(undecided(gate) for gate in judged if gate.verdict == "undecided"),
        seed=reading.seed,
        sha256=dataset.digest(),
        preprocessing=json.loads(json.dumps(asdict(how))),
    )


def _blamed(
    conversion: Conversion, canonical: Graph, samples: Samples, task: Task, schedule: Schedule, seed: int
) -> tuple[Blame, ...]:
    labels = _truth(samples, task)
    charged = blame(canonical, conversion.snn, samples.batches(), labels, len(samples), schedule, task, seed=seed)
    whole = sum(charge.samples for charge in charged)
    return tuple(
        Blame(charge.name, charge.points, charge.interval, charge.samples / whole if whole > 0 else None)
        for charge in charged
    )


def _truth(samples: Samples, task: Task) -> Tensor | None:
    """Return the right answers ``[len, ...]``, where they are known."""
    labels = samples.labels(task.labels)
    return None if labels is None else labels.answers


def measure(
    conversion: Conversion,
    samples: Samples,
    task: Task,
    schedules: Sequence[Schedule] = (),
    *,
    repeats: int = 1,
    probe: Literal["permutation"] | None = None,
    seed: int = 0,
    canonical: Graph | None = None,
) -> Evaluation:
    """Evaluate on images that are open already; ``schedules`` are the conversion's own unless given.

    ``canonical``, the trained network in the form that the spiking one was made from, asks for the error of each layer.
    """
    schedules = tuple(schedules) or (conversion.schedule,)
    snn, reference = conversion.snn, conversion.reference
    random = any(type(neuron).random for neuron in snn.ops(Neuron).values())
    seeds = range(seed, seed + repeats)
    connections = connected(snn)
    reach = {name: targets(connections, name) for name in snn.ops(Neuron)}
    plain = {
        schedule: [_Trial(snn, schedule, task, reach, seed) for seed in (seeds if random else seeds[:1])]
        for schedule in schedules
    }
    shuffled = {
        schedule: [_Trial(permuted(snn), schedule, task, reach, seed) for seed in seeds if probe]
        for schedule in schedules
    }
    trials = [trial for listed in (*plain.values(), *shuffled.values()) for trial in listed]
    errors: dict[Schedule, list[LayerErrors]] = {schedule: [] for schedule in schedules}
    if canonical is not None:
        drawn = seeds if random else seeds[:1]
        errors = {schedule: [LayerErrors(canonical, snn, schedule, seed) for seed in drawn] for schedule in schedules}
    expecting = None if reference is None else Program(reference, want=task.judged(reference.outputs))
    truth, seen = _truth(samples, task), 0
    for images in rechunk(samples.batches(), _IMAGES):
        trained = None if expecting is None else torch.cat([*_answers(task, expecting, expecting.stream([images]))])
        right = None if truth is None else truth[seen : seen + images.samples]
        seen += images.samples
        for trial in trials:
            trial.see(images, trained, right)
        for observer in (draw for draws in errors.values() for draw in draws):
            observer.see(images)
    rows = []
    for schedule in schedules:
        run = plain[schedule]
        spikes = {
            name: torch.stack([trial.spikes[name] for trial in run]).mean(0) / len(samples) for name in snn.ops(Neuron)
        }
        needed = energy(snn, connections, spikes, schedule)
        compared = _averaged([{**task.measured(trial.outcomes), **trial.work(needed)} for trial in run])
        probed = _averaged([task.measured(trial.outcomes) for trial in shuffled[schedule]])
        rows.append(
            Row(
                timesteps=schedule.timesteps,
                sleep=schedule.sleep,
                sleep_used=max(trial.sleep_used for trial in run),
                total_steps=latency(snn, schedule),
                repeats=len(run),
                **compared,
                spikes=sum(float(count.sum()) for count in spikes.values()),
                synaptic_operations=cost(snn, connections, spikes, schedule).synaptic_operations,
                energy=needed,
                **_misalignment(compared, probed),
                layers=_layer_errors(errors[schedule]) if errors[schedule] else None,
            )
        )
    made_for = conversion.schedule.timesteps
    found = [other_timesteps(made_for, s.timesteps) for s in schedules if s.timesteps != made_for]
    woken = {row.timesteps for row in rows if row.sleep and row.sleep_used == row.sleep}
    found += [unsettled(schedule) for schedule in schedules if schedule.timesteps in woken]
    asleep = conversion.schedule.sleep
    if not snn.ops(CausalNeuron):
        found += [idle_steps(schedule) for schedule in schedules[:1] if schedule.sleep not in (0, asleep)]
    if repeats > 1 and not random and probe is None:
        found.append(nothing_random(repeats))
    return Evaluation(
        samples=len(samples),
        labelled=truth is not None,
        reference_accuracy=task.reference(trials[0].outcomes).get("accuracy"),
        rows=tuple(rows),
        findings=tuple(found),
    )


def _schedules(conversion: Conversion, timesteps: Sequence[int], sleep: int | None) -> tuple[Schedule, ...]:
    own = conversion.schedule
    asleep = own.sleep if sleep is None else sleep
    asked = tuple(timesteps) or (own.timesteps,)
    for steps in asked:
        check_steps(steps, asleep, own.rehearsal, prefix="--")
    return tuple(replace(own, timesteps=steps, sleep=asleep) for steps in asked)


def _layer_errors(draws: Sequence[LayerErrors]) -> tuple[LayerError, ...]:
    """Return the errors of the layers, of several draws of what is random the mean for each image."""
    found = []
    for name in draws[0].squares:
        pairs = [draw.squares[name] for draw in draws]
        parts, wholes = (
            [statistics.fmean(values) for values in zip(*sides, strict=True)] for sides in zip(*pairs, strict=True)
        )
        whole, apart = math.fsum(wholes), math.fsum(parts)
        if whole:
            found.append(LayerError(name, math.sqrt(apart / whole), intervals.root_ratio(parts, wholes)))
        else:
            found.append(LayerError(name, 1.0, (1.0, 1.0)) if apart else LayerError(name, 0.0, (0.0, 0.0)))
    return tuple(found)


class _Trial:
    """A network run over all images, once, at one schedule: what came of each, and its spikes added up over images.

    ``reach`` says how many accumulations one spike of each neuron causes.
    """

    def __init__(
        self, snn: Graph, schedule: Schedule, task: Task, reach: Mapping[str, Tensor | None], seed: int
    ) -> None:
        self._task = task
        self._program = Program(snn, schedule, want=task.judged(snn.outputs))
        self._reach = reach
        self._schedule = schedule
        self._generator = torch.Generator().manual_seed(seed)
        self._neurons = snn.ops(Neuron)
        self._outcomes: list[Tensor] = []
        self.spikes = {name: torch.zeros(snn.shapes[name], dtype=torch.float64) for name in self._neurons}
        self.sleep_used = 0
        # Spikes and accumulations of every image: of the chunk that is being run, and of those before.
        self._now = torch.zeros(2, 1, dtype=torch.float64)
        self._by_image: list[Tensor] = []

    def see(self, images: Feeds, trained: Tensor | None, truth: Tensor | None) -> None:
        found = []
        signals = self._program.stream([images], observe=self._count, generator=self._generator)
        for answers in _answers(self._task, self._program, signals):
            found.append(answers)
            self._by_image.append(self._now.expand(2, len(answers)))
            self._now = torch.zeros(2, 1, dtype=torch.float64)
        self._outcomes.append(self._task.outcomes(torch.cat(found), trained, truth))

    @property
    def outcomes(self) -> Tensor:
        """What the task keeps of every image."""
        return torch.cat(self._outcomes)

    def work(self, needed: Energy) -> dict[str, Any]:
        """Return the intervals of spikes and of energy, by how much images differ."""
        spikes, operations = (_mean_interval(values) for values in torch.cat(self._by_image, 1))
        ratio = None
        if operations is not None and needed.reference:
            low, high = (Cost(ends, 0.0).accumulations + needed.multiplications for ends in operations)
            ratio = low / needed.reference, high / needed.reference
        return {"spikes_interval": spikes, "energy_ratio_interval": ratio}

    def _count(self, name: str, response: Tensor) -> None:
        spikes = self._neurons[name].spikes(response, self._schedule)
        self.spikes[name] += spikes.sum(0, dtype=torch.float64)
        flat, reach = spikes.flatten(1).double(), self._reach[name]
        operations = torch.zeros(len(flat)) if reach is None else flat @ reach.flatten()
        self._now = self._now + torch.stack([flat.sum(1), operations])
        asleep = response[self._schedule.lit :]
        while self.sleep_used < len(asleep) and not is_silent(asleep[self.sleep_used :]):
            self.sleep_used += 1


def _answers(task: Task, program: Program, signals: Iterable[Signals]) -> Iterator[Tensor]:
    """Yield the answers from what a program computes, chunk by chunk."""
    for found in signals:
        yield task.answers([found[name][0] for name in program.want])


def _mean_interval(values: Tensor) -> Interval | None:
    return intervals.mean(len(values), float(values.sum()), float(values.square().sum()))


def _averaged(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of what was measured several times, and how much the accuracy varies."""
    if not trials:
        return {}
    found: dict[str, Any] = {}
    for name, first in trials[0].items():
        values = [trial[name] for trial in trials]
        if isinstance(first, Mapping):
            found[name] = {key: _mean_score([value[key] for value in values]) for key in first}
        elif isinstance(first, tuple):
            found[name] = tuple(statistics.fmean(ends) for ends in zip(*values, strict=True))
        else:
            found[name] = None if first is None else statistics.fmean(values)
    for name in ("accuracy", "agreement"):
        drawn = [value for trial in trials if (value := trial.get(name)) is not None]
        found[f"{name}_deviation"] = statistics.stdev(drawn) if len(drawn) > 1 else None
    return found


def _mean_score(drawn: Sequence[Score]) -> Score:
    """Return the mean of a score that was measured several times."""
    ends = [score.interval for score in drawn if score.interval is not None]
    interval = (statistics.fmean(low for low, _ in ends), statistics.fmean(high for _, high in ends)) if ends else None
    return Score(statistics.fmean(score.value for score in drawn), interval)


def _misalignment(plain: dict[str, Any], probed: dict[str, Any]) -> dict[str, Any]:
    """Return what shuffling gained, in points and as a share of what is lost."""
    measure = "accuracy" if plain.get("accuracy") is not None else "agreement"
    if not probed or plain.get(measure) is None:
        return {}
    gained = probed[measure] - plain[measure]
    lost = plain["drop"] if measure == "accuracy" else 100 - plain["agreement"]
    return {"misalignment": gained, "misalignment_share": gained / lost if lost and lost > 0 else None}
