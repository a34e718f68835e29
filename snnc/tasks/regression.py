"""Regression: the outputs are a few numbers that mean something."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.data.dataset import Dataset
from snnc.data.labels import NUMBERS
from snnc.errors import DataError, UsageError
from snnc.figure import Row, score
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.tasks.sums import Sums, dropped, measured, scores_of
from snnc.tasks.task import Loss, Shapes, Task, in_rows, tasks
from snnc.text import written

_TO_TRAINED = "R2 to the trained network"
# More numbers than this are a map or a picture, fewer than that are told one by one.
_MOST, _FEW = 256, 8
_KEPT = 11


@final
@tasks.register("regression")
@dataclass(frozen=True)
class Regression(Task):
    """The answer is a row of numbers, those of all outputs.

    ``R2`` is the share of the labels' variance that the network explains, in percent, the mean over numbers; ``MAE``
    and ``RMSE`` are the mean absolute and the root of the mean squared error, the means over numbers, in their unit.
    R2 and MAE to the trained network need no labels. Answers agree that are no further than ``tolerance`` apart in
    every number; without one, none is expected to be the same.
    """

    labels: ClassVar[str] = NUMBERS
    answer_name: ClassVar[str] = "values"
    score_name: ClassVar[str] = "R2"
    quickly_judged: ClassVar[bool] = True
    wanted: ClassVar[str] = "give a labels.csv with a column for each number, or y in the file"

    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise ValueError(f"{self.tolerance:g} is no tolerance: give a number from 0")

    def fitted(self, network: Graph) -> Self:
        if (count := _numbers(network.output_shapes)) > _MOST:
            message = f"{count:,} numbers are no row of a few: regression takes up to {_MOST}"
            raise UsageError(message, place="task", hint="state another task, such as values")
        return self

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        labels = dataset.labels(NUMBERS)
        if labels is not None and (found := labels.answers.shape[1]) != _numbers(outputs):
            message = f"labels have {found} numbers for each sample, but the network gives {_numbers(outputs)}"
            raise DataError(message, place=dataset.place(0), hint="give one for each number of the outputs, in order")

    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        return torch.cat([in_rows(output) for output in outputs], 1)

    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return for each number: the label and its square; absolute and squared error of both networks.

        Then the trained network's number and its square, how far the spiking one is from it, the square of that, and
        whether it is within the tolerance.
        """
        own = answers.double()
        unknown = torch.full_like(own, torch.nan)
        goal = unknown if truth is None else truth.reshape(len(own), -1).double()
        other = unknown if trained is None else trained.double()
        found = [goal, goal.square()]
        for network in (own, other):
            found += [(network - goal).abs(), (network - goal).square()]
        within = unknown
        if self.tolerance is not None and trained is not None:
            within = ((own - other).abs().amax(1, keepdim=True) <= self.tolerance).double().expand_as(own)
        found += [other, other.square(), (own - other).abs(), (own - other).square(), within]
        return torch.cat([torch.ones(len(own), 1, dtype=torch.float64), *found], 1)

    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        return measured(outcomes, _figures)

    def reference(self, outcomes: Tensor) -> Mapping[str, float]:
        return scores_of(outcomes, lambda sums: _scores(sums, trained=True))

    def merit(self, row: Row) -> float | None:
        known = score(self.score_name)(row)
        return score(_TO_TRAINED)(row) if known is None else known

    def lost(self, row: Row) -> tuple[float, Interval] | None:
        """Return the points of R2 lost or, without labels, the share of the trained network's variance that is lost.

        Of a single sample, whose R2 is all or nothing, the interval holds all that there could be.
        """
        if row.drop is not None:
            return row.drop, row.drop_interval or (-100.0, 100.0)
        kept = row.scores.get(_TO_TRAINED)
        if kept is None:
            return None
        low, high = kept.interval or (0.0, 100.0)
        return 100 - kept.value, (100 - high, 100 - low)

    def loss(self, labeled: bool) -> Loss:
        if labeled:
            return Loss(self.score_name, f"points of {self.score_name} lost", self._drop)
        return Loss(
            "variance",
            "percent of the variance of the trained network's values that is lost",
            lambda lost: f"loses {written(lost, '%')} % of the variance of the trained network's values",
        )

    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Return the distance relative to the size of the truth, 1 at most."""
        goal = truth.reshape(len(answers), -1).double()
        apart, size = (answers.double() - goal).norm(dim=1), goal.norm(dim=1)
        return torch.where(size > 0, apart / size, (apart > 0).double()).clamp(max=1)

    @property
    def charged(self) -> str:
        return "how much further the values were off, relative to their size, from that moment on"

    def training_loss(self, outputs: Sequence[Tensor], truth: Tensor, smoothing: float = 0.0) -> Tensor:
        found = self.answers(outputs).float()
        return F.mse_loss(found, truth.reshape(len(found), -1).float())


def _numbers(outputs: Shapes) -> int:
    return sum(math.prod(shape) for shape in outputs)


def _parts(sums: Sums) -> tuple[Sums, list[Sums]]:
    """Return how many samples were drawn ``[draws, 1]``, and what is kept of them for each number ``[draws, k]``."""
    return sums[:, :1], np.split(sums[:, 1:], _KEPT, 1)


def _figures(sums: Sums) -> dict[str, Sums]:
    count, (*_, other, other_squares, apart, apart_squares, within) = _parts(sums)
    spiking, trained = (_scores(sums, trained=which) for which in (False, True))
    return {
        **spiking,
        **dropped(spiking["R2"], trained["R2"]),
        "agreement": 100 * (within / count)[:, 0],
        _TO_TRAINED: _explained(count, other, other_squares, apart_squares).mean(1),
        "MAE to the trained network": (apart / count).mean(1),
    }


def _scores(sums: Sums, *, trained: bool) -> dict[str, Sums]:
    count, (goal, squares, *errors) = _parts(sums)
    absolute, squared = errors[2 * trained : 2 * trained + 2]
    explained = _explained(count, goal, squares, squared)
    found = {
        "R2": explained.mean(1),
        "MAE": (absolute / count).mean(1),
        "RMSE": np.sqrt(squared / count).mean(1),
    }
    if 1 < (numbers := explained.shape[1]) <= _FEW:
        found |= {f"R2/number {place}": explained[:, place] for place in range(numbers)}
    return found


def _explained(count: Sums, goal: Sums, squares: Sums, apart: Sums) -> Sums:
    """Return the share of the variance that is explained, in percent; of what does not vary, all or nothing."""
    variance = np.maximum(squares - goal**2 / count, 0)
    constant = variance <= 1e-12 * squares
    return np.where(constant, np.where(apart > 0, 0.0, 100.0) + 0 * apart, 100 * (1 - apart / variance))
