"""Classification: the first output says how much speaks for each class."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc import intervals
from snnc.data.dataset import Dataset
from snnc.data.labels import FLAGS, ONE_HOT
from snnc.errors import DataError
from snnc.figure import Row
from snnc.findings import Finding
from snnc.tasks.task import Shapes, Task, in_rows, tasks
from snnc.text import written

# Of fewer samples, nobody can say whether a network is better than chance.
_FEWEST = 20


@final
@tasks.register("classification")
@dataclass(frozen=True)
class Classification(Task):
    """The answer is a class: the place of the largest value of the first output; of a single value, its sign."""

    labels: ClassVar[str] = "classes"
    answer_name: ClassVar[str] = "predictions"
    score_name: ClassVar[str] = "accuracy"
    quickly_judged: ClassVar[bool] = True
    picks_class: ClassVar[bool] = True
    stays_if_varied: ClassVar[bool] = True
    wanted: ClassVar[str] = "give class sub-folders, a labels.csv or y in the file"

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        count, rows = max(2, math.prod(outputs[0])), dataset.labels(FLAGS)
        if rows is not None and ONE_HOT in dataset.kinds and rows.answers.shape[1] != count:
            message = f"there are {rows.answers.shape[1]} labels for each sample, but the network has {count} outputs"
            raise DataError(message, place=dataset.place(0), hint="give a 0 or a 1 for each output, in order")
        dataset.check_labels(count)

    def remarks(self, dataset: Dataset, outputs: Shapes, outcomes: Tensor) -> Iterator[Finding]:
        count, once = max(2, math.prod(outputs[0])), outcomes[:, 2]
        if ONE_HOT in dataset.kinds:
            yield Finding(
                "one-hot",
                "info",
                "",
                "each row of labels holds a single 1: its place is taken as the class",
                "where labels apply each on its own, say so: --task multi-label",
            )
        else:
            yield from dataset.uncovered(count)
        if len(once) < _FEWEST or once.lt(0).any():
            return
        (least, _), share = intervals.proportion(int(once.sum()), len(once)), _percent(once.bool())
        if least <= 100 / count:
            yield Finding(
                "trained-at-chance",
                "warning",
                "",
                f"the trained network itself is right on {written(share, '%')} % of {len(once):,} samples, and chance "
                f"is {written(100 / count, '%')} %",
                "look whether labels, their order, mean, std, scale and channels are those of the training",
            )

    def judged(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return outputs[:1]

    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        flat = in_rows(outputs[0])
        return flat.argmax(1) if flat.shape[1] > 1 else (flat[:, 0] > 0).long()

    def margins(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return by how much more speaks for the class than for the next."""
        first, second = self.scores(outputs).topk(2, 1).values.unbind(1)
        return first - second

    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return whether an answer is right, is the trained network's, and whether that one's is right.

        ``[N, 3]`` are 1 or 0, or -1 where it is not known: all samples are held, once for every step looked at.
        """
        unknown = torch.full((len(answers),), -1, dtype=torch.int8)
        right = unknown if truth is None else (answers == truth).char()
        agrees = unknown if trained is None else (answers == trained).char()
        once = unknown if trained is None or truth is None else (trained == truth).char()
        return torch.stack([right, agrees, once], 1)

    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        right, agrees, once = (None if column.lt(0).any() else column.bool() for column in outcomes.unbind(1))
        found: dict[str, Any] = {
            "accuracy": None if right is None else _percent(right),
            "accuracy_interval": None if right is None else intervals.proportion(int(right.sum()), len(right)),
            "agreement": None if agrees is None else _percent(agrees),
            "agreement_interval": None if agrees is None else intervals.proportion(int(agrees.sum()), len(agrees)),
            **dict.fromkeys(("lost", "won", "drop", "drop_interval", "relative_drop", "relative_drop_interval")),
        }
        if right is not None and once is not None:
            both, lost, won = (int(hits.sum()) for hits in (once & right, once & ~right, ~once & right))
            found["lost"], found["won"] = 100 * lost / len(right), 100 * won / len(right)
            found["drop"] = 100 * (lost - won) / len(right)
            found["drop_interval"] = intervals.paired(lost, won, len(right))
            if both + lost:
                found["relative_drop"] = 100 * (lost - won) / (both + lost)
                found["relative_drop_interval"] = intervals.relative(both, lost, won, len(right))
        return found

    def reference(self, outcomes: Tensor) -> Mapping[str, float]:
        once = outcomes[:, 2]
        return {} if once.lt(0).any() else {"accuracy": _percent(once.bool())}

    def merit(self, row: Row) -> float | None:
        return row.agreement if row.accuracy is None else row.accuracy

    def agreeing(self, answers: Tensor, trained: Tensor) -> int:
        return int((answers == trained).sum())

    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        return (answers != truth).double()

    def training_loss(self, outputs: Sequence[Tensor], truth: Tensor, smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(self.scores(outputs), truth, label_smoothing=smoothing)

    def distillation(self, outputs: Sequence[Tensor], goals: Sequence[Tensor], temperature: float) -> Tensor:
        """Return the divergence of the probabilities (Hinton et al., 2015)."""
        found, wanted = (F.log_softmax(self.scores(both) / temperature, 1) for both in (outputs, goals))
        return F.kl_div(found, wanted, log_target=True, reduction="batchmean") * temperature**2

    def scores(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return a score for every class ``[N, classes]``: the output or, where it is one number, zero and that."""
        scores = in_rows(outputs[0]).float()
        return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)
