"""Heads: several outputs, each with a task of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor

from snnc import intervals
from snnc.data.dataset import Dataset
from snnc.data.labels import NAMED
from snnc.errors import DataError, UsageError
from snnc.figure import Energy, Row, Score
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.registry import suggest
from snnc.tasks.task import Answers, Loss, Shapes, Task, plain, stated, tasks
from snnc.text import written

_LOST = "largest loss"

# A row of which nothing is known but what a task measures.
_EMPTY = Row(
    timesteps=1, sleep=0, sleep_used=0, total_steps=1, repeats=1, spikes=0.0, spikes_interval=None,
    synaptic_operations=0.0, energy=Energy(), energy_ratio_interval=None,
)  # fmt: skip


@final
@tasks.register("heads")
@dataclass(frozen=True)
class Heads(Task):
    """The answer is that of every head: outputs by the names that the user's file has for them, each with its task.

    ``heads`` are these, and ``places`` which outputs they are where that is known already.
    What is lost is what the worst head loses: of its score where there are labels, else as its task counts it without.
    A mean would hide one head that is broken among several that are not. As the worst of several looks worse than it
    is, its interval is wider (Bonferroni). Figures of a head are called ``FIGURE/HEAD``. Labels are called as heads
    are: arrays ``y_HEAD``, or columns of labels.csv.
    """

    labels: ClassVar[str] = NAMED
    answer_name: ClassVar[str] = "answers"
    score_name: ClassVar[str] = "the worst output's score"
    wanted: ClassVar[str] = "give arrays y_NAME in a .npz file, or a labels.csv with a column for each output"

    heads: Mapping[str, Task]
    # Which of the outputs each is.
    places: tuple[int, ...] = ()

    @classmethod
    def parsed(cls, options: object, place: str) -> Self:
        if not isinstance(options, Mapping) or not options:
            hint = "give the task of each output: {heads: {logits: classification, depth: regression}}"
            raise UsageError("no task of any output", place=place, hint=hint)
        return cls({str(name): stated(task, f"{place}.{name}") for name, task in options.items()})

    def options(self) -> dict[str, Any]:
        return {name: plain(task) for name, task in self.heads.items()}

    def fitted(self, network: Graph) -> Self:
        names, found, places = network.output_names, dict[str, Task](), []
        for name, task in self.heads.items():
            if name not in names:
                hint = suggest(name, list(names))
                raise UsageError(f"no output is called {name!r}", place="task.heads", hint=hint)
            places.append(names.index(name))
            found[name] = task.fitted(Graph(network.nodes, (network.outputs[places[-1]],)))
        return replace(self, heads=found, places=tuple(places))

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        labels = dataset.labels(NAMED)
        known = () if labels is None else labels.answers[0]
        for name in known:
            if name not in self.heads:
                hint = f"heads are {', '.join(self.heads)}: name it so, or take it out"
                raise DataError(f"labels of {name!r}, which is no head", place=dataset.place(0), hint=hint)
        for (name, task), place in zip(self.heads.items(), self.places, strict=True):
            own = dataset.of_output(name)
            if name in known and own.labels(task.labels) is None:
                message = f"the labels of {name!r} are no {task.labels}"
                raise DataError(message, place=dataset.place(0), hint=task.wanted)
            task.check(own, outputs[place : place + 1])

    def judged(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(outputs[place] for place in self.places)

    def answers(self, outputs: Sequence[Tensor]) -> list[tuple[Any, ...]]:
        """Return the answers of all heads, in their order, of each sample."""
        by_head = (task.answers([output]) for task, output in zip(self.heads.values(), outputs, strict=True))
        return list(zip(*by_head, strict=True))

    def outcomes(self, answers: Answers, trained: Answers | None, truth: Answers | None) -> list[tuple[Any, ...]]:
        found = []
        for place, (name, task) in enumerate(self.heads.items()):
            other = None if trained is None else _of(trained, place)
            found.append(task.outcomes(_of(answers, place), other, _labels(truth, name)))
        return list(zip(*found, strict=True))

    def measured(self, outcomes: Answers) -> dict[str, Any]:
        scores: dict[str, Score] = {}
        drops, losses, agreements = [], list[tuple[float, Interval]](), []
        for place, (name, task) in enumerate(self.heads.items()):
            row = replace(_EMPTY, **task.measured(_of(outcomes, place)))
            for field in ("accuracy", "drop", "agreement"):
                if (value := getattr(row, field)) is not None:
                    scores[f"{field}/{name}"] = Score(value, getattr(row, f"{field}_interval"))
            scores |= {f"{key}/{name}": known for key, known in row.scores.items() if "/" not in key}
            if row.drop is not None and row.drop_interval is not None:
                drops.append((row.drop, row.drop_interval))
            if (lost := task.lost(row)) is not None:
                losses.append(lost)
            if row.agreement is not None and row.agreement_interval is not None:
                agreements.append((-row.agreement, (-row.agreement_interval[1], -row.agreement_interval[0])))
        fields: dict[str, Any] = dict.fromkeys(("drop", "drop_interval", "agreement", "agreement_interval"))
        if drops:
            fields["drop"], fields["drop_interval"] = _worst(drops)
        if len(agreements) == len(self.heads):
            least, (low, high) = _worst(agreements)
            fields["agreement"], fields["agreement_interval"] = -least, (max(0.0, -high), min(100.0, -low))
        if losses:
            scores[_LOST] = Score(*_worst(losses))
        return {**fields, "scores": scores}

    def reference(self, outcomes: Answers) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for place, (name, task) in enumerate(self.heads.items()):
            known = task.reference(_of(outcomes, place))
            found |= {f"{key}/{name}": value for key, value in known.items() if "/" not in key}
        return found

    def merit(self, row: Row) -> float | None:
        lost = self.lost(row)
        return None if lost is None else -lost[0]

    def lost(self, row: Row) -> tuple[float, Interval] | None:
        """Return what the worst head loses: of its score, or without labels as its task counts it."""
        if row.drop is not None and row.drop_interval is not None:
            return row.drop, row.drop_interval
        worst = row.scores.get(_LOST)
        return None if worst is None else (worst.value, worst.interval or (worst.value, worst.value))

    def loss(self, labeled: bool) -> Loss:
        if labeled:
            return Loss(self.score_name, f"points of {self.score_name} lost", self._drop)
        return Loss(
            "what the worst output loses",
            "what the output that lost most lost, in percent",
            lambda lost: f"loses {written(lost, '%')} % at the output that loses most",
        )

    def losses(self, answers: Answers, truth: Answers) -> Tensor:
        """Return the mean over heads of what each loses, of those whose truth is known."""
        found = []
        for place, (name, task) in enumerate(self.heads.items()):
            right = _labels(truth, name) if isinstance(truth[0], Mapping) else _of(truth, place)
            if right is not None:
                found.append(task.losses(_of(answers, place), right))
        return torch.stack(found).mean(0)

    @property
    def charged(self) -> str:
        return "what all outputs lost in that moment, each as its task counts it, their mean"

    @property
    def trains(self) -> bool:
        return all(task.trains for task in self.heads.values())

    def training_loss(self, outputs: Sequence[Tensor], truth: Answers, smoothing: float = 0.0) -> Tensor:
        """Return the sum of the losses of the heads that have labels."""
        found = []
        for (name, task), output in zip(self.heads.items(), outputs, strict=True):
            right = _labels(truth, name)
            if right is not None:
                found.append(task.training_loss([output], right.to(output.device), smoothing))
        return torch.stack(found).sum()

    def agreeing(self, answers: Answers, trained: Answers) -> float | None:
        counts = [
            task.agreeing(_of(answers, place), _of(trained, place)) for place, task in enumerate(self.heads.values())
        ]
        known = [count for count in counts if count is not None]
        return min(known) if len(known) == len(counts) else None


def _of(rows: Answers, place: int) -> Answers:
    """Return what one head has of every sample, as its task gave it."""
    column = [row[place] for row in rows]
    return torch.stack(column) if column and isinstance(column[0], Tensor) else column


def _labels(truth: Answers | None, name: str) -> Answers | None:
    """Return the labels of one head, None where it has none."""
    if truth is None or name not in truth[0]:
        return None
    column = [row[name] for row in truth]
    return torch.stack(column) if isinstance(column[0], Tensor) else column


def _worst(found: Sequence[tuple[float, Interval]]) -> tuple[float, Interval]:
    value, interval = max(found, key=lambda known: known[0])
    return value, intervals.largest(value, interval, len(found))
