"""Accuracy against time steps, and the gates that CI trusts."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from snnc import intervals
from snnc.analysis.latency import latency
from snnc.analysis.reach import connected, targets
from snnc.conversion import Conversion
from snnc.data.samples import Samples
from snnc.display import Displayed
from snnc.feeds import Feeds, Signals
from snnc.figure import ClassReport, EarlyExit, Energy, ExitRule, LayerError, Picture, Row, Score
from snnc.findings import Finding
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.measure.classes import by_class
from snnc.measure.energy import arithmetic, carried, cost, energy
from snnc.measure.gates import Gate
from snnc.measure.layers import LayerErrors
from snnc.measure.ledger import Course
from snnc.measure.neurobench import NeuroBench
from snnc.measure.pictures import Example, examples
from snnc.measure.probe import permuted
from snnc.measure.remarks import idle_steps, nothing_random, on_frames, on_recordings, other_timesteps, unsettled
from snnc.measure.stream import Streams
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import drawing, is_silent, retimed, summed
from snnc.processes import added
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.tasks import Answers, Task, joined, plain, stated
from snnc.text import counted, written

# What rows have only where it was asked for.
_ASKED = ("misalignment", "misalignment_share", "layers", "blame", "exit", "exit_beside")

# Without data of their own, limits for stopping early are made on one of so many samples, and judged on the others.
_HELD_OUT = 5

# Images run at once, a fixed number so that the batch size of the reader changes no figure.
_IMAGES = 256


@dataclass(frozen=True, repr=False)
class Evaluation(Displayed):
    """What ``evaluate`` measured.

    ``task`` is what answers are, as it is stated, and ``reference`` how good the trained network's are, by the names of
    scores. ``labeled`` says whether the data had labels of the kind that the task takes, ``stripped`` whether there
    was no trained network to compare with, ``sha256`` which data it was, ``preprocessing`` how it was read, ``seed``
    what was drawn at random. ``neurobench`` are NeuroBench's figures, at one number of time steps. ``examples`` are
    the numbers of samples that are worth a look, for tasks whose answers can be seen, and ``pictures`` what they show.
    ``compared_with`` is the file of the network that is compared with, "" where that is the one that was converted;
    else ``tuned`` are the scores of that one. ``stream`` is what a network did that went on from frame to frame, where
    that was asked for, and ``by_class`` what became of every class, at one number of time steps.
    """

    samples: int
    labeled: bool
    task: dict[str, dict[str, Any]]
    reference: dict[str, float]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    gates: tuple[Gate, ...] = ()
    seed: int = 0
    sha256: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    stripped: bool = False
    neurobench: NeuroBench | None = None
    examples: tuple[Example, ...] = ()
    pictures: tuple[Picture, ...] = ()
    compared_with: str = ""
    tuned: dict[str, float] = field(default_factory=dict)
    stream: Streams | None = None
    by_class: ClassReport | None = None

    def __repr__(self) -> str:
        merits = [(row.timesteps, row.agreement if row.accuracy is None else row.accuracy) for row in self.rows]
        told = ", ".join(
            f"T={steps}" + ("" if merit is None else f": {written(merit, '%')} %") for steps, merit in merits
        )
        kind = (
            ""
            if all(merit is None for _, merit in merits)
            else " accuracy"
            if self.rows[0].accuracy is not None
            else " agreement"
        )
        return f"<Evaluation on {counted(self.samples, 'sample')}:{kind} {told}>"

    @property
    def judged_by(self) -> Task:
        """The task; raises UsageError where it is of a plug-in that is not loaded."""
        return stated(self.task, "task")

    @property
    def setting(self) -> dict[str, Any]:
        """What two evaluations have in common whose rows can stand beside each other."""
        names = ["samples", "labeled", "task", "seed", "sha256", "preprocessing", "stripped", "compared_with"]
        return {name: getattr(self, name) for name in names}

    def after(self, earlier: "Evaluation") -> "Evaluation":
        """Return the evaluation with the rows that an earlier one in the same setting has besides.

        Of a row that both have, what only the earlier one asked for, such as the blame of layers, stays. Gates are
        those of the later one.
        """
        before = {(row.timesteps, row.sleep): row for row in earlier.rows}
        rows = []
        for row in self.rows:
            old = before.pop((row.timesteps, row.sleep), None)
            lacking = [name for name in _ASKED if getattr(row, name) is None]
            rows.append(row if old is None else replace(row, **{name: getattr(old, name) for name in lacking}))
            if old is not None and row.blame is None:
                rows[-1] = replace(rows[-1], blame_images=old.blame_images)
        kept = tuple(finding for finding in earlier.findings if finding.code != "not-proven")
        return replace(
            self,
            # In the order of steps; of as many, the later row is first.
            rows=tuple(sorted([*rows, *before.values()], key=lambda row: row.timesteps)),
            findings=tuple(dict.fromkeys([*kept, *self.findings])),
            stream=self.stream or earlier.stream,
        )

    def plain(self) -> dict[str, Any]:
        """Return the evaluation as plain data."""
        return dataclasses.asdict(self)


def truth_of(samples: Samples, task: Task) -> Answers | None:
    """Return the right answers, where they are known."""
    labels = samples.labels(task.labels)
    return None if labels is None else labels.answers


def headline(schedules: Sequence[Schedule], conversion: Conversion) -> Schedule:
    """Return the schedule of the number of time steps that a network was made for, else the first.

    What takes many runs, or is shown of single samples, is that of one of several numbers of steps.
    """
    return next((s for s in schedules if s.timesteps == conversion.schedule.timesteps), schedules[0])


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
    original: Graph | None = None,
    exits: Sequence[ExitRule | float] = (),
) -> Evaluation:
    """Evaluate on images that are open already; ``schedules`` are the conversion's own unless given.

    ``canonical``, the trained network in the form that the spiking one was made from, asks for the error of each layer.
    ``original`` is compared with in the place of the trained network, which then is judged beside it. ``exits`` are
    rules by which samples stop early at the headline's number of steps, the one that is asked for first, or confidences
    of such that are made on some of the samples, and judged on the others.
    """
    schedules = tuple(schedules) or (conversion.schedule,)
    snn, reference = conversion.snn, original or conversion.reference
    tuned = None if original is None else conversion.reference
    random = any(type(neuron).random for neuron in snn.ops(Neuron).values())
    seeds = range(seed, seed + repeats)
    connections = connected(snn)
    reach = {name: targets(connections, name) for name in snn.ops(Neuron)}
    networks = {schedule: retimed(snn, conversion.schedule, schedule) for schedule in schedules}
    ordered = {
        schedule: [_Trial(network, schedule, task, reach, seed) for seed in (seeds if random else seeds[:1])]
        for schedule, network in networks.items()
    }
    shuffled = {
        schedule: [_Trial(permuted(network), schedule, task, reach, seed) for seed in seeds if probe]
        for schedule, network in networks.items()
    }
    shown = headline(schedules, conversion)
    for schedule, network in networks.items() if task.quickly_judged else ():
        stops = bool(exits) and schedule == shown
        ordered[schedule][0].course = Course(network, schedule, task, exits=stops)
    ordered[shown][0].keeps = task.picks_class
    trials = [trial for listed in (*ordered.values(), *shuffled.values()) for trial in listed]
    drawn = seeds if random else seeds[:1]
    observers = [
        LayerErrors(canonical, network, schedule, seed)
        for schedule, network in networks.items()
        for seed in drawn
        if canonical is not None
    ]
    expecting = None if reference is None else Program(reference, want=task.judged(reference.outputs))
    beside = None if tuned is None else Program(tuned, want=task.judged(tuned.outputs))
    truth = truth_of(samples, task)

    def seen(images: Feeds, first: int) -> dict[str, Any]:
        right = None if truth is None else truth[first : first + images.samples]
        trained = None if expecting is None else joined(_answers(task, expecting, expecting.stream([images])))
        found: dict[str, Any] = {"sample": [] if first else [images.part(0, 1)], "judged": [], "trained": []}
        if task.picks_class and trained is not None:
            found["trained"] += [trained]
        if beside is not None:
            answers = joined(_answers(task, beside, beside.stream([images])))
            found["judged"] += [task.outcomes(answers, answers, right)]
        found["trials"] = {at: trial.see(images, first, trained, right) for at, trial in enumerate(trials)}
        found["errors"] = {at: observer.squares(images, first) for at, observer in enumerate(observers)}
        return found

    whole = samples.added(_IMAGES, seen)
    (sample,), judged = whole["sample"], whole["judged"]
    for at, trial in enumerate(trials):
        trial.reached(whole["trials"][at])
    errors = [whole["errors"][at] for at in range(len(observers))]
    rows = []
    driven = arithmetic(snn, connections, conversion.schedule).driven_by_spikes
    for at, schedule in enumerate(schedules):
        run, drawn_errors = ordered[schedule], errors[at * len(drawn) : (at + 1) * len(drawn)]
        spikes = {
            name: torch.stack([trial.spikes[name] for trial in run]).mean(0) / len(samples) for name in snn.ops(Neuron)
        }
        payloads = {
            name: torch.stack([trial.payloads[name] for trial in run]).mean(0) / len(samples)
            for name in run[0].payloads
        }
        needed = energy(networks[schedule], connections, spikes, schedule, sample.over_time, payloads)
        compared = _averaged([{**task.measured(trial.outcomes), **trial.work(needed)} for trial in run])
        probed = _averaged([task.measured(trial.outcomes) for trial in shuffled[schedule]])
        row = Row(
            timesteps=schedule.timesteps,
            sleep=schedule.sleep,
            sleep_used=max(trial.sleep_used for trial in run),
            total_steps=latency(snn, schedule),
            repeats=len(run),
            **compared,
            spikes=sum(float(count.sum()) for count in spikes.values()),
            synaptic_operations=cost(snn, connections, spikes, schedule).synaptic_operations,
            energy=needed,
            driven_by_spikes=driven,
            layers=_layer_errors(drawn_errors) if drawn_errors else None,
        )
        if (course := run[0].course) is not None:
            row = replace(row, ledger=course.ledger(row))
            if exits and schedule == shown:
                first, *others = [_exit(course, asked, row, len(samples), seed) for asked in exits]
                row = replace(row, exit=first, exit_beside=tuple(others))
        rows.append(_misaligned(task, row, replace(row, **probed)) if probed else row)
    classes = None
    if task.picks_class:
        compared_with = joined(whole["trained"]) if whole["trained"] else None
        names = {} if samples.dataset is None else samples.dataset.class_names
        classes = by_class(shown.timesteps, ordered[shown][0].answers, compared_with, truth, names)
    made_for = conversion.schedule.timesteps
    unlike = list(dict.fromkeys(s.timesteps for s in schedules if s.timesteps != made_for))
    found = [other_timesteps(made_for, unlike)] if unlike else []
    woken = {row.timesteps for row in rows if row.sleep and row.sleep_used == row.sleep}
    found += [unsettled(schedule) for schedule in schedules if schedule.timesteps in woken]
    asleep = conversion.schedule.sleep
    if not snn.ops(CausalNeuron):
        found += [idle_steps(schedule) for schedule in schedules[:1] if schedule.sleep not in (0, asleep)]
    found += on_frames(snn, sample)
    if samples.dataset is not None and samples.dataset.form:
        found.append(on_recordings(samples.dataset.form))
    if samples.dataset is not None:
        found += samples.dataset.findings
        if truth is not None:
            found += task.remarks(samples.dataset, snn.output_shapes, trials[0].outcomes)
    if repeats > 1 and not random and probe is None:
        found.append(nothing_random(repeats))
    return Evaluation(
        samples=len(samples),
        labeled=truth is not None,
        task=plain(task),
        reference=dict(task.reference(trials[0].outcomes)),
        rows=tuple(rows),
        findings=tuple(found),
        stripped=reference is None,
        tuned=dict(task.reference(joined(judged))) if judged else {},
        by_class=classes,
        examples=examples(task.wrong(ordered[headline(schedules, conversion)][0].outcomes)),
    )


def merit(network: Graph, trained: Graph, samples: Samples, task: Task) -> float | None:
    """Return the score of a network that is not spiking, or, without labels, its agreement with the trained one."""
    programs = [Program(graph, want=task.judged(graph.outputs)) for graph in (network, trained)]
    truth, seen, outcomes = truth_of(samples, task), 0, list[Answers]()
    for images in samples.batches():
        own, expected = (joined(_answers(task, program, program.stream([images]))) for program in programs)
        outcomes.append(task.outcomes(own, expected, None if truth is None else truth[seen : seen + images.samples]))
        seen += images.samples
    measured = task.measured(joined(outcomes))
    score = measured.get("scores", {}).get(task.score_name)
    known = measured.get(task.score_name) if score is None else score.value
    return measured.get("agreement") if known is None else known


def _exit(course: Course, asked: ExitRule | float, row: Row, samples: int, seed: int) -> EarlyExit:
    """Return what comes of stopping early by a rule, or by one that is made on some of the samples alone."""
    if isinstance(asked, ExitRule):
        return course.stopped(asked, row)
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    held_out, others = order[: max(1, samples // _HELD_OUT)], order[max(1, samples // _HELD_OUT) :]
    rule = course.rule(asked, "the evaluation data, held out", held_out.sort().values)
    return course.stopped(rule, row, others.sort().values)


def _layer_errors(draws: Sequence[Mapping[str, Sequence[tuple[float, float]]]]) -> tuple[LayerError, ...]:
    """Return the errors of the layers, of several draws of what is random the mean for each image."""
    found = []
    for name in draws[0]:
        images = list(zip(*(draw[name] for draw in draws), strict=True))
        parts, wholes = ([statistics.fmean(pair[side] for pair in image) for image in images] for side in (0, 1))
        whole, apart = math.fsum(wholes), math.fsum(parts)
        if whole:
            found.append(LayerError(name, math.sqrt(apart / whole), intervals.root_ratio(parts, wholes)))
        else:
            found.append(LayerError(name, 1.0, (1.0, 1.0)) if apart else LayerError(name, 0.0, (0.0, 0.0)))
    return tuple(found)


class _Trial:
    """A network run over all images, once, at one schedule: what came of each, and its spikes added up over images.

    Those are there once they were ``reached``; what a few images bring to them, ``see`` returns. ``reach`` says how
    many accumulations one spike of each neuron causes.
    """

    def __init__(
        self, snn: Graph, schedule: Schedule, task: Task, reach: Mapping[str, Tensor | None], seed: int
    ) -> None:
        self._task = task
        self._snn = snn
        self._reach = reach
        self._schedule = schedule
        self._seed = seed
        self._neurons = snn.ops(Neuron)
        # Where answers are looked at after every step.
        self.course: Course | None = None
        # Spikes, what the events of layers carry where they do not all carry the same, and steps asleep that are used.
        self.spikes: dict[str, Tensor] = {}
        self.payloads: dict[str, Tensor] = {}
        self.sleep_used = 0
        self.outcomes: Answers = torch.empty(0)
        # The answers themselves, where they are kept.
        self.keeps = False
        self.answers: Answers = torch.empty(0)
        # Spikes and accumulations of every image: of the chunk that is being run, and of all.
        self._now = torch.zeros(2, 1, dtype=torch.float64)
        self._by_image = self._now

    @cached_property
    def _program(self) -> Program:
        want = self._task.judged(self._snn.outputs)
        return Program(self._snn, self._schedule, want=want, stepwise=() if self.course is None else want)

    def see(self, images: Feeds, first: int, trained: Answers | None, truth: Answers | None) -> dict[str, Any]:
        """Run the network on some images, and return what they bring."""
        self.spikes, self.payloads, self.sleep_used = {}, {}, 0
        found: list[Answers] = []
        by_image: list[Tensor] = []
        course: dict[str, Any] = {}
        seen = 0
        generator = drawing(self._seed, first)
        for signals in self._program.stream([images], observe=self._count, generator=generator):
            outputs = [signals[name] for name in self._program.want]
            now = slice(seen, seen + outputs[0].shape[1])
            if self.course is None:
                answers = self._task.answers([output[0] for output in outputs])
            else:
                right = [None if of is None else of[now] for of in (trained, truth)]
                answers, looked = self.course.see(outputs, *right)
                course = added(course, looked)
            found.append(answers)
            by_image.append(self._now.expand(2, len(answers)))
            self._now = torch.zeros(2, 1, dtype=torch.float64)
            seen = now.stop
        return {
            "outcomes": [self._task.outcomes(joined(found), trained, truth)],
            "answers": [joined(found)] if self.keeps else [],
            "by image": by_image,
            "course": course,
            "spikes": self.spikes,
            "payloads": self.payloads,
            "sleep used": [self.sleep_used],
        }

    def reached(self, sums: Mapping[str, Any]) -> None:
        """Take what all images brought."""
        self.spikes, self.payloads, self.sleep_used = sums["spikes"], sums["payloads"], max(sums["sleep used"])
        self.outcomes, self._by_image = joined(sums["outcomes"]), torch.cat(sums["by image"], 1)
        self.answers = joined(sums["answers"])
        if self.course is not None:
            self.course.reached(sums["course"])

    def work(self, needed: Energy) -> dict[str, Any]:
        """Return the intervals of spikes and of energy, by how much images differ."""
        spikes, operations = (_mean_interval(values) for values in self._by_image)
        mean = float(self._by_image[1].mean())
        known = operations is not None and needed.reference > 0
        # So many times as much of what spikes cause.
        low, high = (end / mean if mean else 1.0 for end in operations) if operations is not None else (1.0, 1.0)

        def interval(fixed: float, moving: float, reference: float) -> Interval | None:
            return ((fixed + low * moving) / reference, (fixed + high * moving) / reference) if known else None

        whole = needed.total - needed.by_spikes, needed.by_spikes, needed.reference + needed.reference_memory
        return {
            "spikes_interval": spikes,
            "energy_ratio_interval": interval(*whole),
            "arithmetic_ratio_interval": interval(needed.multiplications, needed.accumulations, needed.reference),
        }

    def _count(self, name: str, response: Tensor) -> None:
        spikes = self._neurons[name].spikes(response, self._schedule)
        self.spikes = added(self.spikes, {name: summed(spikes, torch.float64)[0]})
        if self.course is not None:
            self.course.observe(self._neurons[name], response)
        payload = carried(self._neurons[name], response, self._schedule)
        if payload is not None:
            self.payloads = added(self.payloads, {name: payload})
        flat, reach = spikes.flatten(1).double(), self._reach[name]
        operations = torch.zeros(len(flat)) if reach is None else flat @ reach.flatten()
        self._now = self._now + torch.stack([flat.sum(1), operations])
        asleep = response[self._schedule.lit :]
        while self.sleep_used < len(asleep) and not is_silent(asleep[self.sleep_used :]):
            self.sleep_used += 1


def _answers(task: Task, program: Program, signals: Iterable[Signals]) -> Iterator[Answers]:
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


def _misaligned(task: Task, row: Row, shuffled: Row) -> Row:
    """Return the row with what shuffling gained, in points and as a share of what is lost."""
    before, after = task.merit(row), task.merit(shuffled)
    if before is None or after is None:
        return row
    lost, _ = task.lost(row) or (0.0, None)
    return replace(row, misalignment=after - before, misalignment_share=(after - before) / lost if lost > 0 else None)
