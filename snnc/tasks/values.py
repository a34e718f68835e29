"""Values: outputs that are numbers, compared as numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc import intervals
from snnc.figure import Row, Score, score
from snnc.intervals import Interval
from snnc.tasks.task import Loss, Task, tasks
from snnc.text import written

_ERROR = Loss(
    "relative error",
    "distance of the outputs from the trained network's, in percent of their size",
    lambda lost: f"moves the outputs by {written(lost, '%')} % of their size",
)


@final
@tasks.register("values")
@dataclass(frozen=True)
class Values(Task):
    """The answer is all numbers of all outputs. What has no other task is this.

    ``relative-error`` is the distance (L2) to the trained network's outputs, relative to their size; ``cosine`` the
    mean over samples of the cosine between the two; ``largest-deviation`` the largest difference of two numbers. With
    values as labels, ``label-error`` is the distance to these, relative to their size.
    """

    labels: ClassVar[str] = "values"
    answer_name: ClassVar[str] = "values"

    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        return torch.cat([output.flatten(1) for output in outputs], 1)

    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return squared distance, squared size, cosine and largest deviation; squared distance and size of labels."""
        unknown = torch.full((len(answers),), torch.nan, dtype=torch.float64)
        columns = [unknown] * 4
        if trained is not None:
            apart, wanted = (answers - trained).double(), trained.double()
            columns = [
                apart.square().sum(1),
                wanted.square().sum(1),
                F.cosine_similarity(answers.double(), wanted),
                apart.abs().amax(1) if apart.shape[1] else apart.sum(1),
            ]
        labelled = [unknown] * 2
        if truth is not None:
            goal = truth.flatten(1).double()
            labelled = [(answers.double() - goal).square().sum(1), goal.square().sum(1)]
        return torch.stack([*columns, *labelled], 1)

    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        distance, size, cosine, largest, off, whole = outcomes.unbind(1)
        scores: dict[str, Score] = {}
        if not distance.isnan().any():
            scores["relative-error"] = _relative(distance, size)
            interval = intervals.mean(len(cosine), float(cosine.sum()), float(cosine.square().sum()))
            scores["cosine"] = Score(float(cosine.mean()), interval)
            scores["largest-deviation"] = Score(float(largest.max()), None)
        if not off.isnan().any():
            scores["label-error"] = _relative(off, whole)
        return {"scores": scores}

    def merit(self, row: Row) -> float | None:
        return None if (error := score("relative-error")(row)) is None else -100 * error

    def lost(self, row: Row) -> tuple[float, Interval] | None:
        """Return the error relative to the trained network's outputs, in percent."""
        error = row.scores.get("relative-error")
        if error is None:
            return None
        low, high = error.interval or (error.value, error.value)
        return 100 * error.value, (100 * low, 100 * high)

    def loss(self, labelled: bool) -> Loss:
        return _ERROR

    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Return the distance relative to the size of the truth, 1 at most."""
        apart, size = (answers - truth.flatten(1)).double().norm(dim=1), truth.flatten(1).double().norm(dim=1)
        return torch.where(size > 0, apart / size, (apart > 0).double()).clamp(max=1)

    @property
    def charged(self) -> str:
        return "how much further the values were off from that moment on"

    def training_loss(self, outputs: Sequence[Tensor], truth: Tensor) -> Tensor:
        return F.mse_loss(self.answers(outputs).float(), truth.flatten(1).float())


def _relative(parts: Tensor, wholes: Tensor) -> Score:
    """Return √(Σ parts / Σ wholes): 1 where there is nothing to be relative to and yet a difference."""
    part, whole = math.fsum(parts.tolist()), math.fsum(wholes.tolist())
    value = math.sqrt(part / whole) if whole else float(part > 0)
    return Score(value, intervals.root_ratio(parts.tolist(), wholes.tolist()))
