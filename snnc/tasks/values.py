"""Values: outputs that are numbers, compared as numbers; where they are images, as images too."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc import intervals
from snnc.data.dataset import Dataset
from snnc.data.labels import VALUES
from snnc.errors import DataError
from snnc.figure import Row, Score, score
from snnc.intervals import Interval
from snnc.tasks.task import Loss, Shapes, Task, in_rows, tasks
from snnc.text import written

# Of two images that are the same, the ratio is infinite.
_MOST_DECIBELS = 100.0
_WINDOW, _SIGMA = 11, 1.5

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

    Where the only output is an image, of one channel or three, ``PSNR`` and ``SSIM`` (Wang et al., 2004) are means over
    images, to the labels and to the trained network's images. ``peak`` is the largest value of a pixel.
    """

    labels: ClassVar[str] = VALUES
    answer_name: ClassVar[str] = "values"

    peak: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.peak < math.inf:
            raise ValueError(f"{self.peak:g} is no largest value of a pixel: give a number above 0")

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        labels, wanted = dataset.labels(VALUES), sum(math.prod(shape) for shape in outputs)
        if labels is None or not len(labels):
            return
        found = labels.answers[:1]
        if found[0].numel() != wanted:
            shapes = " and ".join(str(list(shape)) for shape in outputs)
            message = f"the labels are {list(found[0].shape)} for each sample, but the network gives {shapes}"
            raise DataError(message, place=dataset.place(0), hint="save them in the shape of the outputs")

    def answers(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the only output as it is, several in one row."""
        return outputs[0] if len(outputs) == 1 else torch.cat([in_rows(output) for output in outputs], 1)

    def outcomes(self, answers: Tensor, trained: Tensor | None, truth: Tensor | None) -> Tensor:
        """Return squared distance, squared size, cosine and largest deviation; squared distance and size of labels.

        Then PSNR and SSIM to the trained network, to the labels, and of the trained network to the labels.
        """
        own = in_rows(answers).double()
        unknown = torch.full((len(own),), torch.nan, dtype=torch.float64)
        columns = [unknown] * 4
        if trained is not None:
            wanted = in_rows(trained).double()
            apart = own - wanted
            columns = [
                apart.square().sum(1),
                wanted.square().sum(1),
                F.cosine_similarity(own, wanted),
                apart.abs().amax(1) if apart.shape[1] else apart.sum(1),
            ]
        labeled = [unknown] * 2
        if truth is not None:
            goal = in_rows(truth).double()
            labeled = [(own - goal).square().sum(1), goal.square().sum(1)]
        goals = None if truth is None else truth.reshape(answers.shape)
        pairs = ((answers, trained), (answers, goals), (trained, goals))
        return torch.stack([*columns, *labeled, *(part for pair in pairs for part in self._alike(*pair, unknown))], 1)

    def measured(self, outcomes: Tensor) -> dict[str, Any]:
        distance, size, cosine, largest, off, whole = outcomes[:, :6].unbind(1)
        scores: dict[str, Score] = {}
        if not distance.isnan().any():
            scores["relative-error"] = _relative(distance, size)
            scores["cosine"] = _mean(cosine)
            scores["largest-deviation"] = Score(float(largest.max()), None)
        if not off.isnan().any():
            scores["label-error"] = _relative(off, whole)
        names = ("PSNR to the trained network", "SSIM to the trained network", "PSNR", "SSIM")
        known = dict(zip(names, outcomes[:, 6:10].unbind(1), strict=True))
        return {"scores": scores | {name: _mean(part) for name, part in known.items() if not part.isnan().any()}}

    def reference(self, outcomes: Tensor) -> Mapping[str, float]:
        known = zip(("PSNR", "SSIM"), outcomes[:, 10:].unbind(1), strict=True)
        return {name: float(part.mean()) for name, part in known if not part.isnan().any()}

    def _alike(self, images: Tensor | None, goals: Tensor | None, unknown: Tensor) -> tuple[Tensor, Tensor]:
        """Return PSNR and SSIM of each image, NaN where they are none."""
        if images is None or goals is None or images.ndim != 4 or images.shape[1] not in (1, 3):
            return unknown, unknown
        return psnr(images, goals, self.peak), ssim(images, goals, self.peak)

    def merit(self, row: Row) -> float | None:
        return None if (error := score("relative-error")(row)) is None else -100 * error

    def lost(self, row: Row) -> tuple[float, Interval] | None:
        """Return the error relative to the trained network's outputs, in percent."""
        error = row.scores.get("relative-error")
        if error is None:
            return None
        low, high = error.interval or (error.value, error.value)
        return 100 * error.value, (100 * low, 100 * high)

    def loss(self, labeled: bool) -> Loss:
        return _ERROR

    def losses(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Return the distance relative to the size of the truth, 1 at most."""
        goal = in_rows(truth).double()
        apart, size = (in_rows(answers).double() - goal).norm(dim=1), goal.norm(dim=1)
        return torch.where(size > 0, apart / size, (apart > 0).double()).clamp(max=1)

    @property
    def charged(self) -> str:
        return "how much further the values were off from that moment on"

    def training_loss(self, outputs: Sequence[Tensor], truth: Tensor, smoothing: float = 0.0) -> Tensor:
        return F.mse_loss(in_rows(self.answers(outputs)).float(), in_rows(truth).float())


def _relative(parts: Tensor, wholes: Tensor) -> Score:
    """Return √(Σ parts / Σ wholes): 1 where there is nothing to be relative to and yet a difference."""
    part, whole = math.fsum(parts.tolist()), math.fsum(wholes.tolist())
    value = math.sqrt(part / whole) if whole else float(part > 0)
    return Score(value, intervals.root_ratio(parts.tolist(), wholes.tolist()))


def _mean(values: Tensor) -> Score:
    interval = intervals.mean(len(values), float(values.sum()), float(values.square().sum()))
    return Score(float(values.mean()), interval)


def psnr(images: Tensor, goals: Tensor, peak: float) -> Tensor:
    """Return the peak signal to noise ratio of each image ``[N]`` in decibels; 100, of what is the same, at most."""
    error = (images.double() - goals.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(peak**2 / error.clamp(min=1e-300))).clamp(max=_MOST_DECIBELS)


def ssim(images: Tensor, goals: Tensor, peak: float) -> Tensor:
    """Return the structural similarity of each image ``[N]``, the mean over channels and windows; NaN of smaller ones.

    Windows of 11 pixels, weighted by a Gaussian of 1.5, as far as they are within the image.
    """
    if min(images.shape[2:]) < _WINDOW:
        return torch.full((len(images),), torch.nan, dtype=torch.float64)
    places = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-places.square() / (2 * _SIGMA**2))
    line = line / line.sum()

    def blurred(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values.flatten(0, 1)[:, None], line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))

    one, two = images.double(), goals.double()
    mean_one, mean_two = blurred(one), blurred(two)
    spread_one, spread_two = blurred(one**2) - mean_one**2, blurred(two**2) - mean_two**2
    together = blurred(one * two) - mean_one * mean_two
    bright, rough = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    alike = (2 * mean_one * mean_two + bright) * (2 * together + rough)
    alike = alike / ((mean_one**2 + mean_two**2 + bright) * (spread_one + spread_two + rough))
    return in_rows(alike).mean(1).view(len(images), -1).mean(1)
