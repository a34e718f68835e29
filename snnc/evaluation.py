"""Accuracy against time steps, and the gates that CI trusts."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from snnc.conversion import Conversion, latency
from snnc.data.dataset import Dataset
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, UsageError
from snnc.findings import Finding
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron
from snnc.pipeline import Loaded, Progress, Reading, opened, preprocessing_of, silent
from snnc.report.findings import nothing_random, other_timesteps, unsettled
from snnc.run import predicted, stream
from snnc.run.cost import Cost, cost, synapses
from snnc.run.probe import permuted
from snnc.run.simulation import ONCE, rechunk
from snnc.schedule import Schedule, check_steps

Interval = tuple[float, float]

# 95 % of a normal distribution lies within this many standard deviations.
_Z = 1.959964

# Images run at once, a fixed number so that the batch size of the reader changes no figure.
_IMAGES = 256


@dataclass(frozen=True)
class Row:
    """One number of time steps. Percentages; intervals at 95 %; what a stripped or unlabelled run lacks is None.

    ``drop`` is in points, ANN minus SNN, with a paired interval. ``spikes``, operations and energy are per inference.
    Of several repeats everything is the mean, and ``accuracy_deviation`` the standard deviation. ``sleep_used`` is how
    many of the steps asleep something still fired in, for any image. ``misalignment`` is what the permutation probe
    gained: points of accuracy (of agreement, without labels), ``misalignment_share`` its share of the whole loss.
    """

    timesteps: int
    sleep: int
    sleep_used: int
    total_steps: int
    repeats: int
    accuracy: float | None
    accuracy_deviation: float | None
    accuracy_interval: Interval | None
    drop: float | None
    drop_interval: Interval | None
    agreement: float | None
    agreement_interval: Interval | None
    spikes: float
    synaptic_operations: float
    energy_microjoules: float
    reference_energy_microjoules: float
    misalignment: float | None = None
    misalignment_share: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` measured. ``labelled`` says whether the data had labels."""

    samples: int
    labelled: bool
    reference_accuracy: float | None
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    def plain(self) -> dict[str, Any]:
        """Return the evaluation as plain data."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Gate:
    """One limit at one number of time steps, and whether it was kept."""

    name: str
    timesteps: int
    limit: float
    measured: float
    passed: bool


def evaluate(
    conversion: Conversion,
    *,
    data: Path,
    timesteps: Sequence[int] = (),
    sleep: int | None = None,
    repeats: int = 1,
    probe: Literal["permutation"] | None = None,
    preprocessing: Preprocessing | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run the spiking network, and the trained one beside it, over data at every number of time steps.

    Of several outputs the first is judged. ``timesteps``, ``sleep`` and ``preprocessing`` are the conversion's own
    unless given. What is random (neurons, the probe) is drawn ``repeats`` times, from the reading's seed on. Images are
    read once. Raises DataError where the data is broken or a label is none of the network's outputs,
    UsageError on a number of steps that cannot be run.
    """
    schedules = _schedules(conversion, timesteps, sleep)
    if repeats < 1:
        raise UsageError(f"{repeats} repeats", place="--repeats", hint="give a whole number from 1")
    if probe is not None and not conversion.snn.ops(CausalNeuron):
        hint = "use it with --neuron if, dual-threshold or another that fires while it gathers"
        raise UsageError("no neuron here depends on the order of spikes", place="--probe", hint=hint)
    reading = reading or Reading()
    shape = conversion.snn.shapes[conversion.snn.inputs[0]]
    dataset = opened(data, preprocessing or preprocessing_of(conversion), shape, reading)
    check_labels(dataset, conversion.snn)
    loaded = Loaded(dataset, reading, "evaluating", progress)
    return measure(conversion, loaded, schedules, repeats=repeats, probe=probe, seed=reading.seed)


def check_labels(dataset: Dataset, graph: Graph) -> None:
    """Raise DataError where a label is none of the network's outputs."""
    dataset.check_labels(max(2, math.prod(graph.shapes[graph.outputs[0]])))


def measure(
    conversion: Conversion,
    loaded: Loaded,
    schedules: Sequence[Schedule] = (),
    *,
    repeats: int = 1,
    probe: Literal["permutation"] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate on images that are open already; ``schedules`` are the conversion's own unless given."""
    schedules = tuple(schedules) or (conversion.schedule,)
    snn, reference = conversion.snn, conversion.reference
    random = any(type(neuron).random for neuron in snn.ops(Neuron).values())
    seeds = range(seed, seed + repeats)
    plain = {
        schedule: [_Trial(snn, schedule, seed) for seed in (seeds if random else seeds[:1])] for schedule in schedules
    }
    shuffled = {schedule: [_Trial(permuted(snn), schedule, seed) for seed in seeds if probe] for schedule in schedules}
    trials = [trial for listed in (*plain.values(), *shuffled.values()) for trial in listed]
    trained: list[Tensor] = []
    for images in rechunk(loaded.batches(), _IMAGES):
        if reference is not None:
            output = reference.outputs[0]
            trained += [predicted(signals[output][0]) for signals in stream(reference, [images], [output], ONCE)]
        for trial in trials:
            trial.see(images)
    expected = torch.cat(trained) if trained else None
    labels = loaded.dataset.labels
    connections = synapses(snn)
    dense = Cost(0.0, sum(layer.macs for layer in connections.values())).microjoules
    rows = []
    for schedule in schedules:
        run = plain[schedule]
        spikes = {
            name: torch.stack([trial.spikes[name] for trial in run]).mean(0) / len(loaded) for name in snn.ops(Neuron)
        }
        work = cost(connections, spikes, schedule)
        compared = _averaged([_compared(trial.found, expected, labels) for trial in run])
        probed = _averaged([_compared(trial.found, expected, labels) for trial in shuffled[schedule]])
        rows.append(
            Row(
                timesteps=schedule.timesteps,
                sleep=schedule.sleep,
                sleep_used=max(trial.sleep_used for trial in run),
                total_steps=latency(snn, schedule),
                repeats=len(run),
                **compared,
                spikes=sum(float(count.sum()) for count in spikes.values()),
                synaptic_operations=work.synaptic_operations,
                energy_microjoules=work.microjoules,
                reference_energy_microjoules=dense,
                **_misalignment(compared, probed),
            )
        )
    made_for = conversion.schedule.timesteps
    found = [other_timesteps(made_for, s.timesteps) for s in schedules if s.timesteps != made_for]
    woken = {row.timesteps for row in rows if row.sleep and row.sleep_used == row.sleep}
    found += [unsettled(schedule) for schedule in schedules if schedule.timesteps in woken]
    if repeats > 1 and not random and probe is None:
        found.append(nothing_random(repeats))
    return Evaluation(
        samples=len(loaded),
        labelled=labels is not None,
        reference_accuracy=None if expected is None or labels is None else _percent(expected == labels),
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


def gates(
    evaluation: Evaluation, *, max_drop: float | None = None, min_agreement: float | None = None
) -> tuple[Gate, ...]:
    """Judge an evaluation: accuracy drop in points, agreement in percent, at every number of time steps.

    Raises DataError where a limit needs labels or the trained network and they are not there.
    """
    for limit in (max_drop, min_agreement):
        if limit is not None and not math.isfinite(limit):
            raise UsageError(f"{limit} is no limit", place="gates", hint="give a finite number")
    judged = []
    for row in evaluation.rows:
        if max_drop is not None:
            if row.drop is None:
                what = "labels" if not evaluation.labelled else "the trained network, which was stripped"
                hint = "use class sub-folders or labels.csv, or gate on --min-agreement"
                raise DataError(f"--max-drop needs {what}", hint=hint)
            # Sums of percentages carry rounding: a drop of exactly the limit is within it.
            judged.append(Gate("max-drop", row.timesteps, max_drop, row.drop, row.drop <= max_drop + 1e-9))
        if min_agreement is not None:
            if row.agreement is None:
                hint = "convert again without --strip"
                raise DataError("--min-agreement needs the trained network, which was stripped", hint=hint)
            passed = row.agreement >= min_agreement - 1e-9
            judged.append(Gate("min-agreement", row.timesteps, min_agreement, row.agreement, passed))
    return tuple(judged)


class _Trial:
    """A network run over all images, once, at one schedule: what it predicted, and its spikes added up over images."""

    def __init__(self, snn: Graph, schedule: Schedule, seed: int) -> None:
        self._snn = snn
        self._schedule = schedule
        self._generator = torch.Generator().manual_seed(seed)
        self._neurons = snn.ops(Neuron)
        self._predictions: list[Tensor] = []
        self.spikes = {name: torch.zeros(snn.shapes[name], dtype=torch.float64) for name in self._neurons}
        self.sleep_used = 0

    def see(self, images: Tensor) -> None:
        output = self._snn.outputs[0]
        chunks = stream(self._snn, [images], [output], self._schedule, observe=self._count, generator=self._generator)
        self._predictions += [predicted(signals[output][0]) for signals in chunks]

    @property
    def found(self) -> Tensor:
        return torch.cat(self._predictions)

    def _count(self, name: str, response: Tensor) -> None:
        self.spikes[name] += self._neurons[name].spikes(response, self._schedule).sum(0, dtype=torch.float64)
        asleep = response[self._schedule.lit :]
        while self.sleep_used < len(asleep) and asleep[self.sleep_used :].any():
            self.sleep_used += 1


def _averaged(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of what was measured several times, and how much the accuracy varies."""
    if not trials:
        return {}
    found: dict[str, Any] = {}
    for name, first in trials[0].items():
        values = [trial[name] for trial in trials]
        if isinstance(first, tuple):
            found[name] = tuple(statistics.fmean(ends) for ends in zip(*values, strict=True))
        else:
            found[name] = None if first is None else statistics.fmean(values)
    accuracies = [trial["accuracy"] for trial in trials if trial["accuracy"] is not None]
    found["accuracy_deviation"] = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return found


def _misalignment(plain: dict[str, Any], probed: dict[str, Any]) -> dict[str, Any]:
    """Return what shuffling gained, in points and as a share of what is lost."""
    measure = "accuracy" if plain["accuracy"] is not None else "agreement"
    if not probed or plain[measure] is None:
        return {}
    gained = probed[measure] - plain[measure]
    lost = plain["drop"] if measure == "accuracy" else 100 - plain["agreement"]
    return {"misalignment": gained, "misalignment_share": gained / lost if lost and lost > 0 else None}


def _compared(found: Tensor, expected: Tensor | None, labels: Tensor | None) -> dict[str, Any]:
    right = None if labels is None else found == labels
    agrees = None if expected is None else found == expected
    drop = interval = None
    if right is not None and expected is not None:
        lost = int(((expected == labels) & ~right).sum())
        won = int(((expected != labels) & right).sum())
        drop = 100 * (lost - won) / len(right)
        interval = _paired(lost, won, len(right))
    return {
        "accuracy": None if right is None else _percent(right),
        "accuracy_interval": None if right is None else _wilson(int(right.sum()), len(right)),
        "drop": drop,
        "drop_interval": interval,
        "agreement": None if agrees is None else _percent(agrees),
        "agreement_interval": None if agrees is None else _wilson(int(agrees.sum()), len(agrees)),
    }


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)


def _wilson(hits: int, samples: int) -> Interval:
    """Return Wilson's interval of a proportion (1927), in percent."""
    share, square = hits / samples, _Z**2
    center = (share + square / (2 * samples)) / (1 + square / samples)
    half = _Z * math.sqrt(share * (1 - share) / samples + square / (4 * samples**2)) / (1 + square / samples)
    return 100 * max(0.0, center - half), 100 * min(1.0, center + half)


def _paired(lost: int, won: int, samples: int) -> Interval:
    """Return the interval of a difference of paired proportions (Agresti and Min, 2005), in points."""
    # Half an image more in each of the four cells keeps the interval honest where hardly any image changed sides.
    lost_, won_, total = lost + 0.5, won + 0.5, samples + 2
    center = (lost_ - won_) / total
    half = _Z * math.sqrt(lost_ + won_ - (lost_ - won_) ** 2 / total) / total
    return 100 * (center - half), 100 * (center + half)
