"""Measure a spiking network on data, and judge it by limits."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from snnc.actions.opened import Spiking, conversion_of, task_of
from snnc.analysis.counterparts import check_counterparts
from snnc.conversion import Conversion
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.given import Data, gathered
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Progress, Samples
from snnc.errors import PreconditionError, UsageError
from snnc.figure import Blame, ExitRule
from snnc.ir import Graph, Input
from snnc.measure import gates, neurobench
from snnc.measure.blame import blame, check_alike
from snnc.measure.classes import pictured
from snnc.measure.evaluation import Evaluation, headline, measure, truth_of
from snnc.measure.expectations import better_read, check_expected, unlike_training, unsure
from snnc.measure.gates import ANYTHING, Limits
from snnc.measure.ledger import CONFIDENCES, calibrated, check_confidence, check_exits
from snnc.measure.pictures import pictures
from snnc.measure.remarks import beside_stream, calibrated_on, learned_on_calibration, not_compared, not_proven
from snnc.measure.stream import follow_streams
from snnc.neurons import CausalNeuron
from snnc.neurons.base import retimed
from snnc.pipeline import canonical_reference, original_of, read_original
from snnc.progress import told
from snnc.run.frames import Between, check_follows, check_streams
from snnc.schedule import Schedule, check_steps
from snnc.tasks import Task, chosen

# A classifier that is right less often may be shown what it was not trained on.
_POOR = 50.0
# An interval is narrow long before.
_MOST_REPEATS = 10_000


def evaluate(
    network: Spiking,
    *,
    data: Data,
    timesteps: int | Sequence[int] = (),
    sleep: int | None = None,
    repeats: int = 1,
    probe: Literal["permutation"] | None = None,
    blamed: int = 0,
    limits: Limits = ANYTHING,
    task: Task | str | None = None,
    preprocessing: Preprocessing | None = None,
    expected: float | None = None,
    exit_confidence: float | None = None,
    exit_data: Data | None = None,
    reference: Path | None = None,
    around: Sequence[Path] = (),
    reading: Reading | None = None,
    stream: Between | None = None,
    images: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the spiking network, and the trained one beside it, over data at every number of time steps.

    ``network`` is a conversion, or its file, and ``data`` is as for ``convert``, where labels are a sub-folder for each
    class, or y.
    The result has a row for each of them (``result.rows``): accuracy where the data has labels, agreement with the
    trained network, spikes and energy, and ``result.plain()`` is all of it as plain data. What an answer is, and how
    good it is, says ``task``: unless given, the one that outputs and labels suggest. ``timesteps``, ``sleep`` and
    ``preprocessing`` are the conversion's own unless given. What is random (neurons, the probe) is drawn ``repeats``
    times, from the reading's seed on. On up to ``blamed`` images every layer is charged with its part of the loss, at
    the conversion's own T or the first. Where ``stream`` says what happens between frames, ``result.stream`` is what a
    network does that goes on from one to the next, beside one that starts anew. ``result.gates`` says which of the
    ``limits`` are met, at the number of time steps that they are for: unless they name one, the conversion's own, or
    the first where that is not evaluated. What is compared with is the network in the file ``reference``. Unless given,
    it is the trained network; of one that was fine-tuned it is the one that it was before, which is looked for in the
    folders ``around``. Its score is to be ``expected``, in percent, or more.

    The worst samples, and those whose class changed, are kept as small pictures, unless ``images`` is False.

    With an ``exit_confidence`` each sample stops when its answer is certain (``row.exit``, at the conversion's own T or
    the first): when the margin of its mean output reaches a limit with which answers are those of the whole run with
    that confidence. Limits are made without labels, on ``exit_data`` or, without such or where it is the same, on a
    fifth of the data, which then is not judged. A network answers more firmly what it was calibrated on: other samples
    tell more.

    Raises DataError where the data is broken, a label is none of the network's outputs, or a limit is on what these
    data or this file cannot tell, UsageError on a number of steps that cannot be run, or is not evaluated though limits
    are for it, where no answer could be certain before the end, and where a network is to go on from frame to frame
    that cannot, and PreconditionError where the trained network cannot stand in for a layer.
    """
    conversion, data, progress = conversion_of(network), gathered(data), progress or told()
    schedules = _schedules(conversion, (timesteps,) if isinstance(timesteps, int) else timesteps, sleep)
    at_limit = _held_to(limits, schedules, conversion)
    if not 1 <= repeats <= _MOST_REPEATS:
        hint = f"give a whole number from 1 to {_MOST_REPEATS}"
        raise UsageError(f"{repeats} repeats", place="--repeats", hint=hint)
    if probe is not None and not conversion.snn.ops(CausalNeuron):
        hint = "convert with --neuron if, dual-threshold or another that fires while it gathers"
        raise UsageError("no neuron here depends on the order of spikes", place="--probe", hint=hint)
    reading = reading or Reading()
    how = preprocessing or conversion.preprocessing
    dataset = open_dataset(data, how, conversion.snn.ops(Input), reading)
    task = chosen(task_of(task) or conversion.task, conversion.snn, dataset.kinds).named(dataset)
    task.check(dataset, conversion.snn.output_shapes)
    shown = headline(schedules, conversion)
    if exit_confidence is not None:
        check_confidence(exit_confidence)
        check_exits(conversion, shown, task)
    if stream is not None:
        check_follows(conversion.snn)
        check_streams(dataset.over_time)
    tuning = conversion.provenance.tuned_from
    if reference is None and tuning is not None:
        reference = original_of(tuning, around)
    original = None if reference is None else read_original(reference, conversion.snn)
    doubts = [not_compared(tuning)] if tuning is not None and original is None else []
    labeled, stripped = dataset.labels(task.labels) is not None, conversion.reference is None and original is None
    if doubts:
        gates.check_original(limits, doubts[0])
    gates.check_limits(limits, labeled=labeled, stripped=stripped, wanted=task.wanted)
    canonical = None
    if blamed or limits.on_layers:
        canonical = canonical_reference(conversion)
        check_counterparts(canonical, conversion.snn)
        if blamed:
            check_alike(canonical, conversion.snn)
            if dataset.over_time and how.reference == "frames":
                hint = "compare with the trained network on their sum: --reference sum"
                raise PreconditionError("no layer stands for one that sees each frame", place="--blame", hint=hint)
    trained = original or conversion.reference
    if trained is not None:
        looked_at = DatasetSamples(dataset, reading, "judging the trained network", progress)
        check_expected(expected, trained, looked_at, task, how)
        doubts += unlike_training(trained, DatasetSamples(dataset, reading, "looking at inputs"), how)
    samples = DatasetSamples(dataset, reading, "evaluating", progress)
    compared = canonical if limits.on_layers else None
    asked = () if exit_confidence is None else tuple(dict.fromkeys((exit_confidence, *CONFIDENCES)))
    exits: Sequence[ExitRule | float] = asked
    if asked and exit_data is not None:
        timed = replace(conversion, snn=retimed(conversion.snn, conversion.schedule, shown))
        learned_on = gathered(exit_data)
        own = open_dataset(learned_on, how, conversion.snn.ops(Input), reading)
        unlabeled = DatasetSamples(own, reading, "learning when to stop", progress)
        if own.digest() != dataset.digest():
            shared = _shared(own, conversion)
            doubts += [learned_on_calibration(shared, len(own))] if shared else []
            exits = calibrated(timed, shown, unlabeled, task, asked, learned_on.name, reading.seed)
    if asked and exits is asked and len(dataset) < 2:
        hint = "give more, or others to learn from with --exit-data"
        raise UsageError("one sample, which cannot be learned from and judged", place="--exit-confidence", hint=hint)
    result = measure(
        conversion,
        samples,
        task,
        schedules,
        repeats=repeats,
        probe=probe,
        seed=reading.seed,
        canonical=compared,
        original=original,
        exits=exits,
    )
    shared = _shared(dataset, conversion)
    doubts += [calibrated_on(shared, len(dataset))] if shared else []
    if trained is not None:
        accuracy = result.reference.get("accuracy") if labeled else None
        doubts += unsure(trained, DatasetSamples(dataset, reading, "looking at answers"), task, accuracy)
        doubted = any(found.code in ("unsure", "unlike-training") for found in doubts)
        if accuracy is not None and (doubted or accuracy < _POOR):
            doubts += better_read(trained, _reader(data, conversion, reading), how, task)
    rows = result.rows
    held = [row for row, schedule in zip(rows, schedules, strict=True) if schedule == at_limit]
    judged = gates.judged(held, result.samples, limits)
    conversion = replace(conversion, snn=retimed(conversion.snn, conversion.schedule, shown))
    if canonical is not None and blamed:
        some = dataset.spread(blamed, reading.seed)
        samples = DatasetSamples(some, reading, f"blaming layers at T={shown.timesteps}", progress)
        shares = _blamed(conversion, canonical, samples, task, shown, reading.seed)
        at = schedules.index(shown)
        rows = (*rows[:at], replace(rows[at], blame=shares, blame_images=len(some)), *rows[at + 1 :])
    followed = None
    if stream is not None:
        streams = DatasetSamples(dataset, reading, "following streams", progress)
        doubts.append(beside_stream(shown))
        followed = follow_streams(conversion.snn, shown, streams, task, stream, trained=trained, seed=reading.seed)
    counting = DatasetSamples(dataset, reading, "counting operations", progress)
    return replace(
        result,
        pictures=pictures(conversion, dataset, task, shown, result.examples, reading.seed) if images else (),
        by_class=None if result.by_class is None else pictured(result.by_class, dataset, images=images),
        rows=rows,
        stream=followed,
        neurobench=neurobench.measure(conversion.snn, shown, counting, seed=reading.seed),
        gates=judged,
        compared_with="" if reference is None else reference.name,
        findings=result.findings
        + tuple(doubts)
        + tuple(not_proven(gate) for gate in judged if gate.verdict == "not proven"),
        seed=reading.seed,
        sha256=dataset.digest(),
        preprocessing=json.loads(json.dumps(asdict(how))),
    )


def _shared(dataset: Dataset, conversion: Conversion) -> int:
    """Return how many of the samples the network was calibrated on."""
    calibration = conversion.provenance.calibration
    return 0 if calibration is None else dataset.among(calibration.images, calibration.sha256, calibration.seed)


def _blamed(
    conversion: Conversion, canonical: Graph, samples: Samples, task: Task, schedule: Schedule, seed: int
) -> tuple[Blame, ...]:
    labels = truth_of(samples, task) if task.judges_alone else None
    charged = blame(canonical, conversion.snn, samples, labels, schedule, task, seed=seed)
    whole = sum(charge.samples for charge in charged)
    return tuple(
        Blame(charge.name, charge.points, charge.interval, charge.samples / whole if whole > 0 else None)
        for charge in charged
    )


def _reader(data: Data, conversion: Conversion, reading: Reading) -> Callable[[Preprocessing], Samples]:
    inputs = conversion.snn.ops(Input)
    return lambda how: DatasetSamples(open_dataset(data, how, inputs, reading), reading, "reading otherwise")


def _held_to(limits: Limits, schedules: Sequence[Schedule], conversion: Conversion) -> Schedule:
    """Return the schedule that limits are for; raises UsageError where they name one that is not evaluated."""
    named = [schedule for schedule in schedules if schedule.timesteps == limits.timesteps]
    if limits and limits.timesteps is not None and not named:
        evaluated = ", ".join(f"T={schedule.timesteps}" for schedule in schedules)
        hint = f"add {limits.timesteps} to --timesteps, or change --gate-timesteps, or timesteps under gates"
        raise UsageError(f"limits are for T={limits.timesteps}, evaluated at {evaluated}", place="gates", hint=hint)
    return named[0] if named else headline(schedules, conversion)


def _schedules(conversion: Conversion, timesteps: Sequence[int], sleep: int | None) -> tuple[Schedule, ...]:
    own = conversion.schedule
    asleep = own.sleep if sleep is None else sleep
    asked = tuple(timesteps) or (own.timesteps,)
    for steps in asked:
        check_steps(steps, asleep, own.rehearsal, prefix="--")
    return tuple(own.over(steps, asleep) for steps in asked)
