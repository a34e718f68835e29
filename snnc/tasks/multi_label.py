"""Multi-label classification: the first output says of each label whether it applies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.data.dataset import Dataset
from snnc.data.labels import FLAGS
from snnc.errors import DataError
from snnc.figure import Score
from snnc.ir import Graph
from snnc.ops.functions import Sigmoid
from snnc.tasks.sums import Sums, dropped, measured, scores_of
from snnc.tasks.task import Shapes, Task, in_rows, tasks

# So many labels are told one by one.
_FEW = 8


@final
@tasks.register("multi-label")
@dataclass(frozen=True)
class MultiLabel(Task):
    """The answer says of every number of the first output whether its label applies: where it is likely enough.

    ``micro F1`` is the harmonic mean of precision and recall over all labels of all samples; ``average precision``
    the mean over labels of the area under the curve of precision over recall, for every threshold. ``threshold`` is the
    least probability. ``outputs`` says whether the network gives probabilities or their logits; ``auto`` is
    probabilities where it ends in a sigmoid. Agreement is the share of labels that stay the same.
    """

    labels: ClassVar[str] = FLAGS
    answer_name: ClassVar[str] = "labels"
    score_name: ClassVar[str] = "micro F1"
    quickly_judged: ClassVar[bool] = True
    stays_if_varied: ClassVar[bool] = True
    wanted: ClassVar[str] = "give a labels.csv with a column of 0 and 1 for each label, or y [N, labels] in the file"

    threshold: float = 0.5
    outputs: Literal["auto", "logits", "probabilities"] = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"{self.threshold:g} is no threshold: give a probability")

    def fitted(self, network: Graph) -> Self:
        if self.outputs != "auto":
            return self
        ends = isinstance(network.op(network.outputs[0]), Sigmoid)
        return replace(self, outputs="probabilities" if ends else "logits")

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        labels, count = dataset.labels(FLAGS), math.prod(outputs[0])
        if labels is None:
            return
        if (found := labels.answers.shape[1]) != count:
            message = f"there are {found} labels for each sample, but the network has {count} outputs"
            raise DataError(message, place=dataset.place(0), hint="give a 0 or a 1 for each output, in order")
        wrong = ((labels.answers != 0) & (labels.answers != 1)).nonzero()
        if len(wrong):
            sample, place = wrong[0].tolist()
            message = f"label {place} is {float(labels.answers[sample, place]):g}, neither 0 nor 1"
            raise DataError(
                message, place=dataset.place(sample), hint="1 says that a label applies, 0 that it does not"
            )

    def judged(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return outputs[:1]

    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the logits ``[N, labels]``, less the threshold's: a label applies where they are positive."""
        found = in_rows(outputs[0]).float()
        logits = torch.logit(found, 1e-7) if self.outputs == "probabilities" else found
        return logits - math.log(self.threshold / (1 - self.threshold))

    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return what is counted: labels, those that stay the same, and, of both networks, found, missed, made up.

        Then, for each label, how much speaks for it in either network, and whether it applies.
        """
        unknown = torch.full_like(answers, torch.nan, dtype=torch.float64)
        goal = unknown if truth is None else truth.double()
        same = unknown if trained is None else ((answers > 0) == (trained > 0)).double()
        counts = [torch.ones_like(same), same]
        for network in (answers, trained):
            applies = unknown if network is None else (network > 0).double()
            counts += [applies * goal, (1 - applies) * goal, applies * (1 - goal)]
        sums = torch.stack([count.sum(1) for count in counts], 1)
        other = unknown if trained is None else trained.double()
        return torch.cat([sums, answers.double(), other, goal], 1)

    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        found = measured(outcomes[:, :8], _figures)
        ranked = _precisions(outcomes, trained=False)
        found["scores"] |= {name: Score(value, None) for name, value in ranked.items()}
        return found

    def reference(self, outcomes: Tensor) -> Mapping[str, float]:
        counted = scores_of(outcomes[:, :8], lambda sums: {"micro F1": _f1(sums[:, 5:8])})
        return counted | _precisions(outcomes, trained=True)

    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Return the share of labels that are wrong."""
        goal = truth > 0
        return ((answers > 0) != goal).double().mean(1)

    @property
    def charged(self) -> str:
        return "the labels that turned wrong in that moment, less those that turned right"

    def training_loss(self, outputs: Sequence[Tensor], truth: Tensor, smoothing: float = 0.0) -> Tensor:
        found = in_rows(outputs[0]).float()
        if self.outputs == "probabilities":
            return F.binary_cross_entropy(found.clamp(0, 1), truth.float())
        return F.binary_cross_entropy_with_logits(found, truth.float())

    def agreeing(self, answers: Tensor, trained: Tensor) -> float:
        return float(((answers > 0) == (trained > 0)).double().mean(1).sum())


def _figures(sums: Sums) -> dict[str, Sums]:
    own, trained = _f1(sums[:, 2:5]), _f1(sums[:, 5:8])
    return {"micro F1": own, **dropped(own, trained), "agreement": 100 * sums[:, 1] / sums[:, 0]}


def _f1(counts: Sums) -> Sums:
    """Return the F1 in percent of ``[draws, 3]`` labels found, missed and made up; 100 where there are none at all."""
    found, missed, extra = counts.T
    whole = 2 * found + missed + extra
    return np.where(whole == 0, 100.0, 200 * found / whole)


def _precisions(outcomes: Tensor, *, trained: bool) -> dict[str, float]:
    """Return the average precision in percent: the mean over labels that ever apply and, of a few, of each."""
    spiking, other, goal = outcomes[:, 8:].tensor_split(3, 1)
    scores = other if trained else spiking
    if not scores.shape[1] or scores.isnan().any() or goal.isnan().any() or not goal.any():
        return {}
    order = scores.argsort(0, descending=True)
    ranked, hits = scores.gather(0, order), goal.gather(0, order)
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1, dtype=torch.float64)[:, None]
    # What speaks for a label alike is found together: it counts with the precision behind the last of it.
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:-1] = ranked[:-1] != ranked[1:]
    places = torch.where(last, torch.arange(len(hits))[:, None], len(hits))
    behind = places.flip(0).cummin(0).values.flip(0)
    areas = 100 * (hits * precision.gather(0, behind)).sum(0) / hits.sum(0)
    found = {"average precision": float(areas[~areas.isnan()].mean())}
    if len(areas) <= _FEW:
        each = enumerate(areas.tolist())
        found |= {f"average precision/label {label}": area for label, area in each if not math.isnan(area)}
    return found
