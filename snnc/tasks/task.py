"""What every task says of a network's outputs."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import torch
from torch import Tensor

from snnc.data.dataset import Dataset
from snnc.errors import UsageError
from snnc.figure import Mark, Row, score
from snnc.findings import Finding
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.registry import Registry, suggest
from snnc.text import number, written
from snnc.validation import parse

Shapes: TypeAlias = Sequence[tuple[int, ...]]

# One for each sample: a tensor ``[N, ...]``, or a list of what fits no tensor.
Answers: TypeAlias = Any

# So many numbers of an answer are told.
_FEW = 4


def in_rows(values: Tensor) -> Tensor:
    """Return values ``[N, ...]`` as a row for each sample, one number ``[N]`` too."""
    return values.flatten(1) if values.ndim > 1 else values[:, None]


@dataclass(frozen=True)
class Loss:
    """What is lost by a conversion, in words: what it ``measures``, its ``title``, and ``said`` of a number."""

    measures: str
    title: str
    said: Callable[[float], str]


@dataclass(frozen=True)
class Task(ABC):
    """What an answer of a network is and how good it is; a frozen dataclass whose fields are its options.

    The outputs of a network, ``[N, ...]`` each and in its order, become the answers of its samples. The truth of an
    answer is its label or, without labels, the trained network's answer: the one says how good both networks are, the
    other whether they agree. Everything that is measured of many samples is made from their ``outcomes``.
    """

    # The kind of labels that are the truth, of those that sources find (see ``snnc.data``).
    labels: ClassVar[str]
    # What answers are called, and the score that drops are of, in percent; "" where there is none.
    answer_name: ClassVar[str]
    score_name: ClassVar[str] = ""
    # What to give, where there are no labels.
    wanted: ClassVar[str] = ""
    # Whether a label says how wrong one answer is by itself; otherwise layers are blamed by the trained network's.
    judges_alone: ClassVar[bool] = True
    # Whether answers are judged quickly enough to be judged after every time step.
    quickly_judged: ClassVar[bool] = False
    # Whether an answer is one of several classes, so that one can be taken for another.
    picks_class: ClassVar[bool] = False
    # Whether an answer stays right where its image is shifted, mirrored or covered in part.
    stays_if_varied: ClassVar[bool] = False

    @classmethod
    def parsed(cls, options: object, place: str) -> Self:
        """Return the task with options as somebody wrote them; raises UsageError with the place of a wrong one."""
        return parse(cls, options, place=place)

    def options(self) -> dict[str, Any]:
        """Return the options as ``parsed`` takes them."""
        return dataclasses.asdict(self)

    def fitted(self, network: Graph) -> Self:
        """Return the task for the answers of one network; raises UsageError where its outputs cannot be answers."""
        return self

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        """Raise DataError where a label is no answer of a network whose outputs have these shapes."""
        return

    def named(self, dataset: Dataset) -> Self:
        """Return the task with the names that labels have for answers, where it has none itself."""
        return self

    def remarks(self, dataset: Dataset, outputs: Shapes, outcomes: Answers) -> Iterable[Finding]:
        """Return what makes one doubt that labels and preprocessing are those of the training."""
        return ()

    def judged(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the outputs that answers are made from."""
        return outputs

    @abstractmethod
    def answers(self, outputs: Sequence[Tensor]) -> Answers:
        """Return the answers, one for each sample."""

    def margins(self, outputs: Sequence[Tensor]) -> Tensor | None:
        """Return how far each answer is from being another one, ``[N]``; None where nobody can say."""
        return None

    @abstractmethod
    def outcomes(self, answers: Answers, trained: Answers | None, truth: Answers | None) -> Answers:
        """Return what is kept of each sample: numbers ``[N, k]`` in double precision, NaN where they are not known.

        A list of something else is as good. ``answers`` are the spiking network's, ``trained`` the trained network's,
        None where there is none, ``truth`` the labels, None where there are none.
        """

    @abstractmethod
    def measured(self, outcomes: Answers) -> dict[str, Any]:
        """Return the figures of a row (see ``snnc.figure.Row``) by name, from the outcomes of all samples."""

    def reference(self, outcomes: Answers) -> Mapping[str, float]:
        """Return the scores of the trained network itself by name, from the outcomes of all samples."""
        return {}

    def merit(self, row: Row) -> float | None:
        """Return how good answers are, in points: by labels where there are any, else by the trained network."""
        known = score(self.score_name)(row)
        return row.agreement if known is None else known

    def lost(self, row: Row) -> tuple[float, Interval] | None:
        """Return what the conversion lost, in points, with its interval: of the score, or of what stayed the same.

        Of a single sample the interval holds all that there could be. None where there is nothing to compare with.
        """
        if row.drop is not None:
            return row.drop, row.drop_interval or (-100.0, 100.0)
        if row.agreement is None:
            return None
        low, high = row.agreement_interval or (0.0, 100.0)
        return 100 - row.agreement, (100 - high, 100 - low)

    def loss(self, labeled: bool) -> Loss:
        """Return what ``lost`` means, where samples are ``labeled`` and where they are not."""
        if labeled:
            return Loss(self.score_name, f"points of {self.score_name} lost", self._drop)
        return Loss(
            "agreement",
            f"percent of {self.answer_name} that changed",
            lambda lost: f"changes {written(lost, '%')} % of the trained network's {self.answer_name}",
        )

    @abstractmethod
    def losses(self, answers: Answers, truth: Answers) -> Tensor:
        """Return how wrong each answer is, ``[N]``: what blame charges layers with. 0 is right, 1 is wrong."""

    def wrong(self, outcomes: Answers) -> Tensor | None:
        """Return how wrong the spiking network's answers are, ``[N]`` from 0 to 1, where samples are worth a look."""
        return None

    def told(self, answer: Any) -> str:
        """Return one answer in a few words, for people who watch answers come."""
        values = torch.as_tensor(answer).flatten().tolist()
        few = ", ".join(number(value) for value in values[:_FEW])
        return few if len(values) <= _FEW else f"{few}, ... ({len(values):,} in all)"

    def marks(self, answer: Any) -> tuple[Mark, ...]:
        """Return what is drawn on the picture of a sample for an answer, or for a label."""
        return ()

    @property
    def charged(self) -> str:
        """What blame charges layers with, in words."""
        return f"the {self.answer_name} that turned wrong in that moment, less those that turned right"

    def training_loss(self, outputs: Sequence[Tensor], truth: Answers, smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of outputs, with gradients; raises NotImplementedError where nothing can be learned.

        Of a label that is a class, a share of ``smoothing`` is spread evenly over all classes.
        """
        raise NotImplementedError

    @property
    def trains(self) -> bool:
        """Whether a network can learn the task from labels."""
        return type(self).training_loss is not Task.training_loss

    def distillation(self, outputs: Sequence[Tensor], goals: Sequence[Tensor], temperature: float) -> Tensor | None:
        """Return how far outputs are from the trained network's, with gradients; None where only labels are learned."""
        return None

    def agreeing(self, answers: Answers, trained: Answers) -> float | None:
        """Return how many answers are the trained network's, in part where they are so in part.

        None where they are hardly ever the same.
        """
        return None

    def _drop(self, drop: float) -> str:
        return f"{'gains' if drop < 0 else 'loses'} {written(abs(drop), 'points')} points of {self.score_name}"


tasks: Registry[type[Task]] = Registry("task", __name__.rpartition(".")[0], base=Task)


def joined(parts: Iterable[Answers]) -> Answers:
    """Return the answers, or the outcomes, of several groups of samples as those of one."""
    found = list(parts)
    if found and isinstance(found[0], Tensor):
        return torch.cat(found)
    return [answer for part in found for answer in part]


def picked(answers: Answers, numbers: Tensor) -> Answers:
    """Return some of the answers, in the order of ``numbers``."""
    return [answers[number] for number in numbers.tolist()] if isinstance(answers, list) else answers[numbers]


def stated(data: object, place: str) -> Task:
    """Return the task that somebody wrote down: its name, or a mapping from its name to its options.

    Raises UsageError with the place of what there is not.
    """
    named = {data: {}} if isinstance(data, str) else data
    if not isinstance(named, Mapping) or len(named) != 1:
        hint = f"give a name, or one name with its options: {', '.join(tasks)}"
        raise UsageError(f"expected a task, found {data!r}", place=place, hint=hint)
    ((name, options),) = named.items()
    if name not in tasks:
        raise UsageError(f"unknown task {str(name)!r}", place=place, hint=suggest(str(name), tasks))
    return tasks[str(name)].parsed(options, f"{place}.{name}")


def plain(task: Task) -> dict[str, dict[str, Any]]:
    """Return a task as ``stated`` takes it; raises UsageError where it is not registered."""
    for name, kind in tasks.items():
        if type(task) is kind:
            return {name: task.options()}
    hint = "register it: @snnc.tasks.tasks.register(NAME)"
    raise UsageError(f"{type(task).__name__} is no registered task", place="task", hint=hint)


def chosen(task: Task | None, network: Graph, labels: Collection[str] = ()) -> Task:
    """Return the task that somebody stated, or the one that a network seems to have, fitted to the network."""
    return (task or seeming(network.output_shapes, labels)).fitted(network)


def seeming(outputs: Shapes, labels: Collection[str]) -> Task:
    """Return the task that a network seems to have, from the shapes of its outputs and the kinds of labels of the data.

    Labels say it, as far as they are of a kind that only one task takes; where a row for each sample has a single 1,
    that is its class. Without, it classifies where its only output
    is one row of numbers, which are a regression where labels are values. All else is values, boxes too: how outputs
    hold them has to be stated.
    """
    row, first = len(outputs) == 1 and len(outputs[0]) == 1, outputs[0]
    if "classes" in labels or ("one-hot" in labels and row):
        return tasks["classification"]()
    if "flags" in labels:
        return tasks["multi-label"]()
    if "masks" in labels and len(first) == 3:
        return tasks["segmentation"]()
    if row:
        return tasks["regression" if "values" in labels else "classification"]()
    return tasks["values"]()
