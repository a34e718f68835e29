"""Segmentation: the first output says for every pixel how much speaks for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.data.dataset import Dataset
from snnc.data.labels import MASKS
from snnc.errors import DataError, UsageError
from snnc.ir import Graph
from snnc.tasks.sums import Sums, dropped, mean_of_known, measured, scores_of
from snnc.tasks.task import Shapes, Task, tasks

# Masks looked at together, before anything is run.
_MASKS = 64


@final
@tasks.register("segmentation")
@dataclass(frozen=True)
class Segmentation(Task):
    """The answer is a class for every pixel of the output ``[N, classes, height, width]``; of one channel, its sign.

    ``mean IoU`` is the mean over classes of intersection over union, counted over all pixels of all samples; a class
    that neither labels nor the network have is left out. ``pixel accuracy`` is the share of pixels that are right.
    Pixels that masks mark as ``ignore`` do not count. A mask is brought to the size of the output, each pixel taking
    the nearest: so the score and the pixels that stay the same are of one size, which is the network's own. ``classes``
    is how many classes there are, 0 for as many as the output has.
    """

    labels: ClassVar[str] = MASKS
    answer_name: ClassVar[str] = "pixel classes"
    score_name: ClassVar[str] = "mean IoU"
    wanted: ClassVar[str] = "give folders images and masks, or whole numbers y [N, height, width] in the file"

    ignore: int = 255
    classes: int = 0

    def fitted(self, network: Graph) -> Self:
        shape = network.output_shapes[0]
        if len(shape) != 3:
            hint = "state another task, such as classification or values"
            message = f"segmentation takes an output of classes, height and width, not of {list(shape)}"
            raise UsageError(message, place="task", hint=hint)
        return replace(self, classes=max(2, shape[0]))

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        masks = dataset.labels(MASKS)
        if masks is None:
            return
        for start in range(0, len(masks), _MASKS):
            found = masks.answers[start : start + _MASKS]
            wrong = (self._counted(found) & ((found < 0) | (found >= self.classes))).nonzero()
            if len(wrong):
                sample, row, column = wrong[0].tolist()
                raise DataError(
                    f"the class {int(found[sample, row, column])} at row {row}, column {column} of the mask is out of "
                    f"range: the network has {self.classes} classes",
                    place=dataset.place(start + sample),
                    hint=f"pixels that are no class are {self.ignore}: state another number as task: segmentation: "
                    "ignore, or set label-offset",
                )

    def judged(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return outputs[:1]

    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        maps = outputs[0]
        return (maps.argmax(1) if maps.shape[1] > 1 else maps[:, 0] > 0).short()

    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return how many pixels are the same, and how many there are; then counts for every class.

        Of all pixels those of both networks alike, of the spiking network and of the trained one. Of the pixels that
        count those of the spiking network that are right, all of its, the same two of the trained one, and the labels'.
        """
        every = torch.ones_like(answers, dtype=torch.bool)
        unknown = torch.full((len(answers), self.classes), torch.nan, dtype=torch.float64)
        same = unknown[:, 0] if trained is None else (answers == trained).flatten(1).sum(1).double()
        found = [same[:, None], torch.full((len(answers), 1), float(answers[0].numel()), dtype=torch.float64)]
        found += (
            [unknown] * 3
            if trained is None
            else [self._count(answers, answers == trained), self._count(answers, every), self._count(trained, every)]
        )
        goal = None if truth is None else self._sized(truth, answers)
        for network in (answers, trained):
            if network is None or goal is None:
                found += [unknown] * 2
            else:
                counted = self._counted(goal)
                found += [self._count(network, counted & (network == goal)), self._count(network, counted)]
        return torch.cat([*found, unknown if goal is None else self._count(goal, self._counted(goal))], 1)

    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        return measured(outcomes, self._figures)

    def reference(self, outcomes: Tensor) -> Mapping[str, float]:
        return scores_of(outcomes, lambda sums: self._scores(self._by_class(sums), trained=True))

    def _figures(self, sums: Sums) -> dict[str, Sums]:
        by_class = self._by_class(sums)
        spiking, trained = (self._scores(by_class, trained=which) for which in (False, True))
        alike, own, other = (by_class[:, place] for place in range(3))
        return {
            **spiking,
            **dropped(spiking["mean IoU"], trained["mean IoU"]),
            "agreement": 100 * sums[:, 0] / sums[:, 1],
            "mean IoU to the trained network": 100 * mean_of_known(alike / (own + other - alike)),
        }

    def _scores(self, by_class: Sums, *, trained: bool) -> dict[str, Sums]:
        right, own = (by_class[:, place + 2 * trained] for place in (3, 4))
        labels = by_class[:, 7]
        return {
            "mean IoU": 100 * mean_of_known(right / (own + labels - right)),
            "pixel accuracy": 100 * right.sum(1) / labels.sum(1),
        }

    def _by_class(self, sums: Sums) -> Sums:
        return sums[:, 2:].reshape(len(sums), 8, self.classes)

    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Return the share of pixels that are wrong, of those that count."""
        goal = self._sized(truth, answers)
        counted = self._counted(goal)
        wrong = (counted & (answers != goal)).flatten(1).sum(1).double()
        return wrong / counted.flatten(1).sum(1).clamp(min=1)

    @property
    def charged(self) -> str:
        return "the pixels that turned wrong in that moment, less those that turned right"

    def agreeing(self, answers: Tensor, trained: Tensor) -> float:
        return float((answers == trained).double().flatten(1).mean(1).sum())

    def training_loss(self, outputs: Sequence[Tensor], truth: Tensor, smoothing: float = 0.0) -> Tensor:
        maps = outputs[0].float()
        scores = torch.cat([torch.zeros_like(maps), maps], 1) if maps.shape[1] == 1 else maps
        goal = self._sized(truth, maps[:, 0])
        lost = F.cross_entropy(
            scores, goal.long(), ignore_index=self.ignore, reduction="sum", label_smoothing=smoothing
        )
        return lost / self._counted(goal).sum().clamp(min=1)

    def _counted(self, masks: Tensor) -> Tensor:
        return masks != self.ignore

    def _count(self, classes: Tensor, where: Tensor) -> Tensor:
        """Count the pixels of every class ``[N, classes]`` where they are asked for."""
        samples = torch.arange(len(classes)).view(-1, 1, 1)
        places = (classes.long() + self.classes * samples)[where]
        return torch.bincount(places, minlength=len(classes) * self.classes).view(-1, self.classes).double()

    @staticmethod
    def _sized(masks: Tensor, like: Tensor) -> Tensor:
        """Return masks ``[N, height, width]`` in the size of others."""
        if masks.shape == like.shape:
            return masks
        return F.interpolate(masks[:, None].float(), like.shape[1:], mode="nearest-exact")[:, 0].long()
