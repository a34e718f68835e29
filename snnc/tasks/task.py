"""What every task says of a network's outputs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from snnc.data.dataset import Dataset
from snnc.errors import UsageError
from snnc.figure import Row
from snnc.intervals import Interval
from snnc.registry import Registry, suggest
from snnc.validation import parse


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

    def check(self, dataset: Dataset, outputs: Sequence[tuple[int, ...]]) -> None:
        """Raise DataError where a label is no answer of a network whose outputs have these shapes."""
        return

    def judged(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the outputs that answers are made from."""
        return outputs

    @abstractmethod
    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the answers ``[N, ...]``."""

    @abstractmethod
    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return what is kept of each sample, ``[N, k]`` in double precision, NaN where it is not known.

        ``answers`` are the spiking network's, ``trained`` the trained network's, None where there is none, ``truth``
        the labels, None where there are none.
        """

    @abstractmethod
    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        """Return the figures of a row (see ``snnc.figure.Row``) by name, from the outcomes of all samples."""

    @abstractmethod
    def lost(self, row: Row) -> tuple[float, Interval]:
        """Return what the conversion lost, in points, with its interval: of the score, or of what stayed the same."""

    @abstractmethod
    def loss(self, labelled: bool) -> Loss:
        """Return what ``lost`` means, where samples are ``labelled`` and where they are not."""

    @abstractmethod
    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Return how wrong each answer is, ``[N]``: what blame charges layers with. 0 is right, 1 is wrong."""

    def training_loss(self, outputs: Sequence[Tensor], truth: Tensor) -> Tensor:
        """Return the mean loss of outputs, with gradients; raises NotImplementedError where nothing can be learned."""
        raise NotImplementedError

    def reference(self, outcomes: Tensor) -> Mapping[str, float]:
        """Return what is known of the trained network itself, from the outcomes of all samples."""
        return {}

    def agreeing(self, answers: Tensor, trained: Tensor) -> int | None:
        """Return how many answers are the trained network's; None where answers are hardly ever the same."""
        return None


tasks: Registry[type[Task]] = Registry("task", __name__.rpartition(".")[0])


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
    return parse(tasks[str(name)], options, place=f"{place}.{name}")


def seeming(outputs: Sequence[tuple[int, ...]], labels: Collection[str]) -> Task:
    """Return the task that a network seems to have, from the shapes of its outputs and the kinds of labels of the data.

    It classifies where the data has classes, or where its only output is one row of numbers; all else is values.
    """
    classifies = "classes" in labels or (len(outputs) == 1 and len(outputs[0]) == 1)
    return tasks["classification" if classifies else "values"]()
