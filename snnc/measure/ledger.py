"""What answers are worth after every step, and what comes of stopping each sample when its answer is certain.

A network that fires while it gathers has an answer after every step: that of its mean output so far. How sure it is
says the margin, by how much more speaks for the answer than for the next. The limit of a step is the smallest margin
that is enough there: of the samples that stop at that step or have before, answers are those of the whole run with the
confidence asked for, by the lower end of the 95 % interval: few samples promise little. Labels are not looked at.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snnc import intervals
from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.data.samples import Samples
from snnc.errors import UsageError
from snnc.feeds import Feeds
from snnc.figure import EarlyExit, ExitRule, Ledger, Moment, Row
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.measure.figures import figures
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.base import drawing, kind_of, mean_signal, running_means
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.tasks import Answers, Task, joined

# What is within so many points is as good.
_AS_GOOD = 1.0

# What comes of these is told beside the confidence that is asked for.
CONFIDENCES = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)

# Answers are looked at after so many of the steps at most.
_MOST = 256

# Sums of percentages carry rounding.
_ROUNDING = 1e-9


class Course:
    """The answers of a network after every step that counts, over all samples that it was run on.

    They are there once they were ``reached``; what a few samples bring to them, ``see`` returns.
    """

    def __init__(self, snn: Graph, schedule: Schedule, task: Task, *, exits: bool) -> None:
        self._task, self._schedule, self._exits = task, schedule, exits
        counting = schedule.timesteps + (schedule.sleep if snn.ops(CausalNeuron) else 0)
        stride = math.ceil(counting / _MOST)
        # Steps that are looked at, from the end of the rehearsal on; after the last there is nothing to come.
        self._looked_at = tuple(range((counting - 1) % stride, counting, stride))
        self._before = latency(snn, schedule) - counting
        self._outcomes: list[Answers] = []
        self._settled: list[Answers] = []
        # Of samples that may stop early: answers, margins, whether answers are those of the whole run, spikes by step.
        self.answers = self.margins = self.spikes = torch.empty(0)
        self.trained: Tensor | None = None
        self.truth: Tensor | None = None
        self._fired: Tensor | None = None

    def observe(self, neuron: Neuron, response: Tensor) -> None:
        """Count the spikes of a layer at every step."""
        if self._exits:
            spikes = neuron.sent(response, self._schedule).ne(0).flatten(2).sum(2, dtype=torch.float64)
            self._fired = spikes if self._fired is None else self._fired + spikes

    def see(
        self, signals: Sequence[Tensor], trained: Answers | None, truth: Answers | None
    ) -> tuple[Answers, dict[str, Any]]:
        """Take what a network answers at every step, ``[total, N, ...]``; return its answers, and what they bring."""
        task = self._task
        whole = [mean_signal(signal, self._schedule)[0] for signal in signals]
        means = [running_means(signal, self._schedule) for signal in signals]
        outputs = [[mean[at] for mean in means] for at in self._looked_at[:-1]] + [whole]
        answers = [task.answers(found) for found in outputs]
        found: dict[str, Any] = {
            "outcomes": {at: [task.outcomes(each, trained, truth)] for at, each in enumerate(answers)},
            "settled": {at: [task.outcomes(each, answers[-1], None)] for at, each in enumerate(answers)},
        }
        if self._exits:
            found["answers"] = [torch.stack(answers, 1)]
            found["margins"] = [torch.stack([_margins(task, each) for each in outputs], 1)]
            found |= {name: [each] for name, each in (("trained", trained), ("truth", truth)) if each is not None}
            if self._fired is not None:
                steps = [self._schedule.rehearsal + at for at in self._looked_at]
                found["spikes"] = [self._fired.cumsum(0)[steps].T]
                self._fired = None
        return answers[-1], found

    def reached(self, sums: Mapping[str, Any]) -> None:
        """Take what all samples brought."""
        self._outcomes, self._settled = (
            [joined(sums[name][at]) for at in range(len(self._looked_at))] for name in ("outcomes", "settled")
        )
        if self._exits:
            self.answers, self.margins = torch.cat(sums["answers"]), torch.cat(sums["margins"])
            self.trained, self.truth = (torch.cat(sums[n]) if n in sums else None for n in ("trained", "truth"))
            self.spikes = torch.cat(sums["spikes"]) if "spikes" in sums else self.spikes

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps from image to answer after which answers are looked at."""
        return tuple(self._before + at + 1 for at in self._looked_at)

    def ledger(self, row: Row) -> Ledger | None:
        """Return what answers are worth step by step; None where they are not worth anything that could be said."""
        task = self._task
        moments = []
        for steps, found, settled in zip(self.steps, self._outcomes, self._settled, strict=True):
            judged = replace(row, **task.measured(found))
            merit = _merit(task, judged)
            if merit is None:
                return None
            same = task.measured(settled).get("agreement")
            moments.append(Moment(steps, *merit[1:], judged.agreement, same))
        measures, _, _ = _known(task, row)
        trained = 100.0 if measures == "agreement" else task.reference(self._outcomes[-1]).get(measures)
        return Ledger(measures, tuple(moments), trained, _first(moments, moments[-1].merit), _first(moments, trained))

    def rule(self, confidence: float, source: str, chosen: Tensor | None = None) -> ExitRule:
        """Return the rule with which answers are those of the whole run, made on all samples or the ``chosen``."""
        answers, margins = self.answers, self.margins
        if chosen is not None:
            answers, margins = answers[chosen], margins[chosen]
        running = torch.ones(len(answers), dtype=torch.bool)
        gone = changed = 0
        limits: list[float | None] = [None] * self._schedule.total
        found: float | None = None
        for at, step in enumerate(self._looked_at[:-1]):
            other = answers[:, at] != answers[:, -1]
            # Where all of them have stopped, whoever comes to the last limit later stops as well.
            if running.any():
                found = _least(margins[running, at], other[running], confidence, gone, changed)
            limits[self._schedule.rehearsal + step] = found
            if found is not None:
                stops = running & (margins[:, at] >= found)
                gone, changed = gone + int(stops.sum()), changed + int(other[stops].sum())
                running &= ~stops
        return ExitRule(confidence, tuple(limits), len(answers), source)

    def stopped(self, rule: ExitRule, row: Row, chosen: Tensor | None = None) -> EarlyExit:
        """Return what comes of a rule on all samples, or on the ``chosen``."""
        task = self._task
        picked = slice(None) if chosen is None else chosen
        answers, margins, spikes = self.answers[picked], self.margins[picked], self.spikes[picked]
        trained, truth = (None if known is None else known[picked] for known in (self.trained, self.truth))
        limits = [rule.limits[self._schedule.rehearsal + at] for at in self._looked_at[:-1]]
        enough = margins >= margins.new_tensor([math.inf if x is None else x for x in limits] + [-math.inf])
        at = enough.double().argmax(1, keepdim=True)
        early, whole = answers.gather(1, at)[:, 0], answers[:, -1]
        steps = torch.tensor(self.steps, dtype=torch.float64)[at[:, 0]]
        until = spikes.gather(1, at)[:, 0]
        judged, entire = (replace(row, **task.measured(task.outcomes(x, trained, truth))) for x in (early, whole))
        against = replace(row, **task.measured(task.outcomes(early, whole, truth)))
        (measures, merit, merit_interval), (_, merit_whole, _) = _known(task, judged), _known(task, entire)
        assert against.agreement is not None
        return EarlyExit(
            rule=rule,
            samples=len(early),
            steps=self.steps,
            stopped=tuple(torch.bincount(at[:, 0], minlength=len(self.steps)).tolist()),
            mean_steps=float(steps.mean()),
            mean_steps_interval=_interval(steps),
            measures=measures,
            merit=merit,
            merit_interval=merit_interval,
            merit_whole=merit_whole,
            drop=against.drop,
            drop_interval=against.drop_interval,
            agreement=judged.agreement,
            agreement_interval=judged.agreement_interval,
            settled=against.agreement,
            settled_interval=against.agreement_interval,
            spikes=float(until.mean()),
            spikes_interval=_interval(until),
            spikes_whole=float(spikes[:, -1].mean()),
        )


def check_exits(conversion: Conversion, schedule: Schedule, task: Task) -> None:
    """Raise UsageError where no answer could be certain before the end."""
    place = "--exit-confidence"
    if gathering := conversion.snn.ops(OrderFreeNeuron):
        name, neuron = next(iter(gathering.items()))
        hint = "convert with a neuron that fires while it gathers: --latency synchronous, or --neuron if"
        message = f"{kind_of(neuron)} neurons gather their whole input first: no answer before the end"
        raise UsageError(message, place=f"{place}: {name}", hint=hint)
    if schedule.timesteps + schedule.sleep == 1:
        hint = "convert for more steps, as with --timesteps 4"
        raise UsageError("the network answers in one step: there is none to stop before", place=place, hint=hint)
    if type(task).margins is Task.margins:
        hint = "leave it out: of classes one can be certain (--task classification)"
        raise UsageError(f"nobody can say how certain {task.answer_name} are", place=place, hint=hint)


def check_confidence(confidence: float, place: str = "--exit-confidence") -> None:
    """Raise UsageError for a confidence that is none."""
    if not 0 < confidence < 1:
        hint = "give a share between 0 and 1, as in 0.99"
        raise UsageError(f"{confidence:g} is no confidence", place=place, hint=hint)


def calibrated(
    conversion: Conversion,
    schedule: Schedule,
    samples: Samples,
    task: Task,
    confidences: Iterable[float],
    source: str,
    seed: int,
) -> tuple[ExitRule, ...]:
    """Return the rules for stopping early that are made on samples of their own, with each of the confidences."""
    course = Course(conversion.snn, schedule, task, exits=True)
    want = task.judged(conversion.snn.outputs)
    program = Program(conversion.snn, schedule, want=want, stepwise=want)

    def seen(feeds: Feeds, first: int) -> dict[str, Any]:
        signals = program(feeds, generator=drawing(seed, first))
        return course.see([signals[name] for name in want], None, None)[1]

    course.reached(samples.added(program.chunk, seen))
    return tuple(course.rule(confidence, source) for confidence in confidences)


def _least(margins: Tensor, other: Tensor, confidence: float, gone: int, changed: int) -> float | None:
    """Return the least margin with which answers stay the same with this confidence; None where none is enough.

    ``other`` says which are not those of the whole run; of those that are ``gone`` already so many ``changed``.
    """
    order = margins.argsort(descending=True)
    ranked, wrong = margins[order], changed + other[order].double().cumsum(0)
    count = gone + torch.arange(1, len(ranked) + 1, dtype=torch.float64)
    # The end of Wilson's interval (1927).
    share, square = wrong / count, intervals.NORMAL_95**2
    half = intervals.NORMAL_95 * (share * (1 - share) / count + square / (4 * count**2)).sqrt()
    enough = (share + square / (2 * count) + half) / (1 + square / count) <= 1 - confidence
    # Who has as much as another stops with it.
    enough[:-1] &= ranked[:-1] != ranked[1:]
    places = enough.nonzero()
    return float(ranked[int(places[-1])]) if len(places) else None


def _margins(task: Task, outputs: Sequence[Tensor]) -> Tensor:
    margins = task.margins(outputs)
    assert margins is not None
    return margins


def _merit(task: Task, row: Row) -> tuple[str, float, Interval | None] | None:
    """Return what says how good answers are, its value and its interval: by labels, else by the trained network."""
    for name in (task.score_name, "agreement"):
        for figure in figures("row"):
            if figure.name == name and (value := figure.value(row)) is not None:
                return name, value, figure.interval(row)
    return None


def _known(task: Task, row: Row) -> tuple[str, float, Interval | None]:
    found = _merit(task, row)
    assert found is not None
    return found


def _first(moments: Iterable[Moment], goal: float | None) -> int | None:
    near = (moment.steps for moment in moments if goal is not None and moment.merit >= goal - _AS_GOOD - _ROUNDING)
    return next(near, None)


def _interval(values: Tensor) -> Interval | None:
    return intervals.mean(len(values), float(values.sum()), float(values.square().sum()))
