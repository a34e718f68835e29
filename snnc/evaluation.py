"""Accuracy against time steps, and the gates that CI trusts."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnc.conversion import Conversion, check_timesteps, latency
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, UsageError
from snnc.findings import Finding
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.pipeline import Loaded, Progress, Reading, preprocessing_of, silent
from snnc.report.findings import other_timesteps
from snnc.run import predicted, stream
from snnc.run.cost import Cost, cost, synapses
from snnc.run.simulation import rechunk

Interval = tuple[float, float]

# 95 % of a normal distribution lies within this many standard deviations.
_Z = 1.959964

# Images run at once, a fixed number so that the batch size of the reader changes no figure.
_IMAGES = 256


@dataclass(frozen=True)
class Row:
    """One number of time steps. Percentages; intervals at 95 %; what a stripped or unlabelled run lacks is None.

    ``drop`` is in points, ANN minus SNN, with a paired interval. ``spikes``, operations and energy are per inference.
    """

    timesteps: int
    total_steps: int
    accuracy: float | None
    accuracy_interval: Interval | None
    drop: float | None
    drop_interval: Interval | None
    agreement: float | None
    agreement_interval: Interval | None
    spikes: float
    synaptic_operations: float
    energy_microjoules: float
    reference_energy_microjoules: float


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
    preprocessing: Preprocessing | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run the spiking network, and the trained one beside it, over data at every number of time steps.

    Of several outputs the first is judged. ``timesteps`` and ``preprocessing`` are the conversion's own unless given.
    Images are read once. Raises DataError where the data is broken or a label is none of the network's outputs,
    UsageError on a number of steps that cannot be run.
    """
    asked = tuple(timesteps) or (conversion.schedule.timesteps,)
    for steps in asked:
        check_timesteps(steps, "--timesteps")
    snn, reference = conversion.snn, conversion.reference
    shape = snn.shapes[snn.inputs[0]]
    loaded = Loaded(
        data, preprocessing or preprocessing_of(conversion), shape, reading or Reading(), "evaluating", progress
    )
    loaded.dataset.check_labels(max(2, math.prod(snn.shapes[snn.outputs[0]])))
    trained: list[Tensor] = []
    spiking: dict[int, list[Tensor]] = {steps: [] for steps in asked}
    counters = {steps: _Spikes(snn, steps) for steps in asked}
    for images in rechunk(loaded.batches(), _IMAGES):
        if reference is not None:
            trained += _predictions(reference, images, 1, None)
        for steps, counter in counters.items():
            spiking[steps] += _predictions(snn, images, steps, counter)
    expected = torch.cat(trained) if trained else None
    labels = loaded.dataset.labels
    connections = synapses(snn)
    dense = Cost(0.0, sum(layer.macs for layer in connections.values())).microjoules
    rows = []
    for steps in asked:
        spikes = {name: total / len(loaded) for name, total in counters[steps].total.items()}
        work = cost(connections, spikes, steps)
        rows.append(
            Row(
                timesteps=steps,
                total_steps=latency(snn, steps),
                **_compared(torch.cat(spiking[steps]), expected, labels),
                spikes=sum(float(count.sum()) for count in spikes.values()),
                synaptic_operations=work.synaptic_operations,
                energy_microjoules=work.microjoules,
                reference_energy_microjoules=dense,
            )
        )
    made_for = conversion.schedule.timesteps
    return Evaluation(
        samples=len(loaded),
        labelled=labels is not None,
        reference_accuracy=None if expected is None or labels is None else _percent(expected == labels),
        rows=tuple(rows),
        findings=tuple(other_timesteps(made_for, steps) for steps in asked if steps != made_for),
    )


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


class _Spikes:
    """The spikes of every neuron, added up over images."""

    def __init__(self, snn: Graph, timesteps: int) -> None:
        self._neurons = snn.ops(Neuron)
        self._timesteps = timesteps
        self.total = {name: torch.zeros(snn.shapes[name], dtype=torch.float64) for name in self._neurons}

    def __call__(self, name: str, response: Tensor) -> None:
        self.total[name] += self._neurons[name].spikes(response, self._timesteps).sum(0, dtype=torch.float64)


def _predictions(graph: Graph, images: Tensor, timesteps: int, observe: _Spikes | None) -> Iterator[Tensor]:
    output = graph.outputs[0]
    for signals in stream(graph, [images], [output], timesteps, observe=observe):
        yield predicted(signals[output][0])


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
