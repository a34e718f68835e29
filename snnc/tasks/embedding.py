"""Embedding: the first output is a place, and what counts is what lies near it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc import intervals
from snnc.data.labels import CLASSES
from snnc.figure import Score
from snnc.tasks.sums import Sums, dropped, measured
from snnc.tasks.task import Task, in_rows, tasks

# All pairs of so many samples are put in order; more are spread evenly.
_ORDERED = 2000
# Samples whose distances to all others are held at once.
_ROWS = 1024


@final
@tasks.register("embedding")
@dataclass(frozen=True)
class Embedding(Task):
    """The answer is the first output as one vector, of which only the direction matters.

    ``cosine`` is the mean over samples of that between both networks' vectors. The agreement is the share of samples
    whose nearest other sample is the same, and ``order of pairs`` Spearman's correlation between the two networks'
    similarities of all pairs of samples. With classes as labels, ``retrieval accuracy`` is the share of samples whose
    nearest other one is of their class. They are of the samples evaluated: among more of them, neighbors are nearer.
    """

    labels: ClassVar[str] = CLASSES
    answer_name: ClassVar[str] = "nearest neighbors"
    score_name: ClassVar[str] = "retrieval accuracy"
    wanted: ClassVar[str] = "give class sub-folders, a labels.csv or y in the file"
    judges_alone: ClassVar[bool] = False

    def judged(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return outputs[:1]

    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        return F.normalize(in_rows(outputs[0]).float())

    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return the label of each sample, its vector and the trained network's: neighbors are known at the end."""
        label = torch.full((len(answers), 1), torch.nan) if truth is None else truth.reshape(-1, 1).double()
        other = torch.full_like(answers, torch.nan) if trained is None else trained
        return torch.cat([label.double(), answers.double(), other.double()], 1)

    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        label, own, other = self._parts(outcomes)
        nearest, wanted = _nearest(own), _nearest(other)
        columns = [_hits(label, nearest), _hits(label, wanted)]
        unknown = torch.full_like(label, torch.nan)
        columns += [unknown if nearest is None or wanted is None else nearest.eq(wanted).double(), (own * other).sum(1)]
        found = measured(torch.stack([torch.ones_like(label), *columns], 1), _figures)
        cosine = columns[-1]
        if not cosine.isnan().any():
            interval = intervals.mean(len(cosine), float(cosine.sum()), float(cosine.square().sum()))
            found["scores"]["cosine"] = Score(float(cosine.mean()), interval)
            order = _order_of_pairs(own, other)
            found["scores"] |= {} if order is None else {"order of pairs": Score(order, None)}
        return found

    def reference(self, outcomes: Tensor) -> dict[str, float]:
        label, _, other = self._parts(outcomes)
        hits = _hits(label, _nearest(other))
        return {} if hits.isnan().any() else {self.score_name: 100 * float(hits.mean())}

    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Return half of what the cosine is below 1; the truth is the trained network's vectors."""
        return ((answers.double() - truth.double()).square().sum(1) / 4).clamp(max=1)

    @property
    def charged(self) -> str:
        return "how much further the vectors turned away in that moment"

    @staticmethod
    def _parts(outcomes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own, other = outcomes[:, 1:].tensor_split(2, 1)
        return outcomes[:, 0], own, other


def _figures(sums: Sums) -> dict[str, Sums]:
    hits, wanted, same = (100 * sums[:, place] / sums[:, 0] for place in (1, 2, 3))
    return {"retrieval accuracy": hits, **dropped(hits, wanted), "agreement": same}


def _nearest(vectors: Tensor) -> Tensor | None:
    """Return the number of each vector's nearest other one; None of a single vector, or where they are not known."""
    if len(vectors) < 2 or vectors.isnan().any():
        return None
    found = []
    for start in range(0, len(vectors), _ROWS):
        alike = vectors[start : start + _ROWS] @ vectors.T
        rows = torch.arange(len(alike))
        alike[rows, start + rows] = -torch.inf
        found.append(alike.argmax(1))
    return torch.cat(found)


def _hits(labels: Tensor, nearest: Tensor | None) -> Tensor:
    """Return whether each sample's nearest other one has its label; NaN where that is not known."""
    if nearest is None or labels.isnan().any():
        return torch.full_like(labels, torch.nan)
    return (labels == labels[nearest]).double()


def _order_of_pairs(own: Tensor, other: Tensor) -> float | None:
    """Return Spearman's correlation of the similarities of all pairs; None of so few that there is no order."""
    chosen = torch.linspace(0, len(own) - 1, min(len(own), _ORDERED)).round().long()
    one, two = torch.triu_indices(len(chosen), len(chosen), 1)
    ranks = [_ranks((vectors[chosen] @ vectors[chosen].T)[one, two]) for vectors in (own, other)]
    away = [rank - rank.mean() for rank in ranks] if len(one) > 1 else []
    size = float(away[0].norm() * away[1].norm()) if away else 0.0
    return float(away[0] @ away[1]) / size if size else None


def _ranks(values: Tensor) -> Tensor:
    """Return the place of each value among all, equal ones sharing the mean of theirs."""
    order = values.argsort()
    _, counts = torch.unique_consecutive(values[order], return_counts=True)
    shared = (counts.cumsum(0) - (counts - 1) / 2).double().repeat_interleave(counts)
    return torch.empty_like(shared).scatter_(0, order, shared)
