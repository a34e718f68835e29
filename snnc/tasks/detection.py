"""Detection: boxes around objects, judged as COCO judges them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnc.data.boxes import BOXES
from snnc.data.dataset import Dataset
from snnc.errors import DataError, UsageError
from snnc.figure import Mark, Score
from snnc.intervals import Interval
from snnc.ir import Graph
from snnc.tasks.decoding import LAYOUTS, Decoder, Grid, suppressed
from snnc.tasks.task import Answers, Shapes, Task, tasks
from snnc.text import fixed

# COCO's thresholds of overlap, and the places at which precision is read.
_OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_DRAWS = 400

Layout = Literal["yolov8", "yolov5", "yolo-fastestv2", "ssd", "decoded"]


@dataclass(frozen=True, eq=False)
class Matches:
    """The boxes of one image beside the true ones: ``classes`` and ``scores`` ``[D]``, best first in each class.

    ``hit`` ``[10, D]`` says at which overlaps a box is one of the true ones, ``skipped`` ``[10, D]`` where it counts
    neither way; ``truths`` ``[C]`` counts the true ones by class, as far as there are any.
    """

    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    hit: NDArray[np.bool_]
    skipped: NDArray[np.bool_]
    truths: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is kept of an image: both networks' boxes beside the labels, and one's beside the other's."""

    found: Matches | None
    trained: Matches | None
    agreeing: Matches | None


@final
@tasks.register("detection")
@dataclass(frozen=True)
class Detection(Task):
    """The answer is boxes: ``[k, 6]``, left, top, right and bottom in pixels of the input, class and score.

    ``mAP50`` is the mean over classes of the average precision at an overlap (IoU) of 0.5, ``mAP`` that over overlaps
    from 0.5 to 0.95, both in percent, by pycocotools, of at most 100 boxes an image. Agreement is the mAP50 of the
    spiking network's boxes with the trained network's, those from the score ``certain`` on, as the truth. Intervals are
    bootstraps over images of matches that are made once; the drop's is paired.

    Raises UsageError where the extra ``snnc[detection]`` is missing, or options do not fit the network.
    """

    labels: ClassVar[str] = BOXES
    answer_name: ClassVar[str] = "boxes"
    score_name: ClassVar[str] = "mAP50"
    wanted: ClassVar[str] = "give boxes as YOLO, COCO or Pascal VOC have them"

    layout: Layout | None = None
    """How the outputs hold boxes; ``decoder`` for any other way."""

    decoder: str = ""
    """An ONNX file that makes boxes, scores and classes of the raw outputs."""

    anchors: tuple[tuple[float, float], ...] = ()
    """Width and height of each anchor in pixels, those of the smallest stride first."""

    strides: tuple[int, ...] = (16, 32)
    """How many pixels wide the cells of each output are."""

    logits: bool = False
    """Whether scores are yet to be turned into shares (of YOLO-FastestV2 they always are)."""

    confidence: float = 0.001
    """The least score of a box."""

    overlap: float = 0.65
    """The most that two boxes of a class may overlap (IoU); of two that do, the better one stays."""

    most: int = 300
    """The most boxes of an image."""

    best_class: bool = False
    """Whether a box stands for its best class only."""

    certain: float = 0.25
    """The score from which on a box is shown, and one of the trained network counts as true."""

    size: tuple[int, int] | None = None
    """Height and width of the input; those of the network where nothing is said."""

    names: tuple[str, ...] = ()
    """What the classes are called."""

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= self.certain <= 1:
            raise ValueError("confidence and certain must be shares, and the second no less than the first")
        if not 0 < self.overlap <= 1 or self.most < 1:
            raise ValueError("overlap must be a share above 0, and most 1 or more")
        if self.layout is not None and self.decoder:
            raise ValueError("give a layout or a decoder, not both")

    def fitted(self, network: Graph) -> Self:
        _pycocotools()
        if self.layout is None and not self.decoder:
            shapes = ", ".join(str(list(shape)) for shape in network.output_shapes)
            known = ", ".join(f"{name} {about}" for name, (_, about) in LAYOUTS.items())
            raise UsageError(
                f"the outputs {shapes} hold boxes in a way that is not stated",
                place="task.detection.layout",
                hint=f"give a layout ({known}), or decoder: FILE.onnx",
            )
        shape = next(iter(network.input_shapes.values()))
        if self.size is not None:
            size = self.size
        elif len(shape) == 3:
            size = (shape[1], shape[2]) if shape[0] in (1, 3) else (shape[0], shape[1])
        else:
            raise UsageError(f"an input {list(shape)} is no image", place="task.detection.size", hint="give its size")
        fitted = replace(self, size=size)
        if not self.decoder:
            fitted._require_layout(network.output_shapes)
        return fitted

    def _require_layout(self, outputs: Shapes) -> None:
        assert self.layout is not None
        if self.layout == "yolo-fastestv2" and (not self.anchors or len(self.anchors) % len(self.strides)):
            hint = "give [[width, height], ...] in pixels, as many for each stride"
            raise UsageError("no anchors for every stride", place="task.detection.anchors", hint=hint)
        first, fits = outputs[0], False
        if self.layout == "ssd":
            fits = len(outputs) == 2 and all(len(shape) == 2 for shape in outputs) and 4 in (first[1], outputs[1][1])
        elif len(first) == 2:
            least = {"yolov8": first[0] > 4, "yolov5": first[1] > 5, "decoded": first[1] == 6}
            fits = least.get(self.layout, False)
            if self.layout == "yolo-fastestv2":
                assert self.size is not None
                cells = sum((self.size[0] // stride) * (self.size[1] // stride) for stride in self.strides)
                fits = first[1] == cells and first[0] > 5 * (len(self.anchors) // len(self.strides))
        if not fits:
            shapes = ", ".join(str(list(shape)) for shape in outputs)
            message = f"outputs {shapes}, where {self.layout} has {LAYOUTS[self.layout][1]}"
            raise UsageError(message, place="task.detection.layout", hint="give another layout, or decoder: FILE.onnx")

    def check(self, dataset: Dataset, outputs: Shapes) -> None:
        labels = dataset.labels(BOXES)
        if labels is None:
            return
        if not any(bool((rows[:, 5] > 0).any()) for rows in labels.answers):
            raise DataError("no box in any label", place="--data", hint="give images with something on them")
        count = self._classes(outputs)
        for index, rows in enumerate(labels.answers):
            wrong = rows[(rows[:, 4] < 0) | (rows[:, 4] >= (math.inf if count is None else count))]
            if len(wrong):
                message = f"a box of class {int(wrong[0, 4])}: the network has {count} classes"
                raise DataError(message, place=dataset.name(index), hint="classes count from 0; see label-offset")

    def _classes(self, outputs: Shapes) -> int | None:
        """Return how many classes there are, None where a decoder or the boxes themselves say it."""
        first = outputs[0]
        if self.layout == "yolov8":
            return first[0] - 4
        if self.layout == "yolov5":
            return first[1] - 5
        if self.layout == "yolo-fastestv2":
            return first[0] - 5 * (len(self.anchors) // len(self.strides))
        if self.layout == "ssd":
            return min((shape[1] for shape in outputs if shape[1] != 4), default=4) - 1
        return None

    def answers(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        if not self.decoder:
            assert self.layout is not None
            boxes, scores = LAYOUTS[self.layout][0]([output.float() for output in outputs], self._grid)
            return [self._kept(*sample) for sample in zip(boxes, scores, strict=True)]
        samples = zip(*(output.float().unsqueeze(1) for output in outputs), strict=True)
        return [self._kept(*self._decode(sample)) for sample in samples]

    @cached_property
    def _decode(self) -> Decoder:
        return Decoder(Path(self.decoder))

    @property
    def _grid(self) -> Grid:
        assert self.size is not None
        return Grid(self.size, torch.tensor(self.anchors), self.strides, self.logits)

    def _kept(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Return what stays of the candidates of one image."""
        scores = scores.nan_to_num(0.0)
        if self.best_class:
            best = scores.amax(1, keepdim=True)
            scores = scores * (torch.arange(scores.shape[1]) == scores.argmax(1, keepdim=True)) * (best > 0)
        place, classes = (scores > self.confidence).nonzero().unbind(1)
        found = torch.cat([boxes[place], classes[:, None].float(), scores[place, classes][:, None]], 1)
        found = found[found.isfinite().all(1)]
        return found[suppressed(found[:, :4], found[:, 5], found[:, 4], self.overlap, self.most)]

    def outcomes(self, answers: Answers, trained: Answers | None, truth: Answers | None) -> list[Outcome]:
        """Return how the boxes of each image match, of those known."""
        none: list[Tensor | None] = [None] * len(answers)
        samples = zip(answers, none if trained is None else trained, none if truth is None else truth, strict=True)
        return [self._outcome(*sample) for sample in samples]

    def _outcome(self, found: Tensor, trained: Tensor | None, truth: Tensor | None) -> Outcome:
        return Outcome(
            None if truth is None else matched(found, truth),
            None if truth is None or trained is None else matched(trained, truth),
            None if trained is None else matched(found, trained[trained[:, 5] >= self.certain]),
        )

    def measured(self, outcomes: Answers) -> dict[str, Any]:
        parts = ("found", "trained", "agreeing")
        found, trained, agreeing = ([getattr(outcome, part) for outcome in outcomes] for part in parts)
        drawn = _draws(len(outcomes))
        measured: dict[str, Any] = dict.fromkeys(
            ("agreement", "agreement_interval", "drop", "drop_interval", "relative_drop", "relative_drop_interval")
        )
        scores: dict[str, Score] = {}
        if agreeing[0] is not None:
            same = _Precisions(agreeing)
            measured["agreement"] = same.mean()
            measured["agreement_interval"] = _spread(same.drawn(drawn), same.mean())
        if found[0] is not None:
            ours = _Precisions(found)
            again = ours.drawn(drawn)
            scores["mAP50"] = Score(ours.mean(), _spread(again, ours.mean()))
            scores["mAP"] = Score(ours.mean(range(len(_OVERLAPS))), None)
            for number, value in ours.by_class().items():
                name = self.names[number] if number < len(self.names) else str(number)
                scores[f"mAP50/{name}"] = Score(value, None)
            if trained[0] is not None:
                theirs = _Precisions(trained)
                before, apart = theirs.mean(), theirs.drawn(drawn)
                measured["drop"] = lost = before - ours.mean()
                measured["drop_interval"] = _spread(apart - again, lost)
                if before:
                    measured["relative_drop"] = 100 * lost / before
                    ratio = 100 * (apart - again) / np.where(apart > 0, apart, np.nan)
                    measured["relative_drop_interval"] = _spread(ratio, 100 * lost / before)
        return measured | {"scores": scores}

    def reference(self, outcomes: Answers) -> Mapping[str, float]:
        trained = [outcome.trained for outcome in outcomes]
        if any(matches is None for matches in trained):
            return {}
        precisions = _Precisions(trained)
        return {"mAP50": precisions.mean(), "mAP": precisions.mean(range(len(_OVERLAPS)))}

    def losses(self, answers: Answers, truth: Answers) -> Tensor:
        """Return 1 − F1 of the boxes from the score ``certain`` on, at an overlap of 0.5."""
        pairs = zip(answers, truth, strict=True)
        found = [self._missed(matched(boxes, true[true[:, 5] >= self.certain])) for boxes, true in pairs]
        return torch.tensor(found, dtype=torch.float64)

    def wrong(self, outcomes: Answers) -> Tensor | None:
        beside = [outcome.agreeing or outcome.found for outcome in outcomes]
        known = [matches for matches in beside if matches is not None]
        return torch.tensor([self._missed(matches) for matches in known]) if len(known) == len(beside) else None

    def told(self, answer: Tensor) -> str:
        certain = answer[answer[:, 5] >= self.certain].tolist()
        return ", ".join(self._words(int(row[4]), row[5]) for row in certain) or "nothing"

    def marks(self, answer: Tensor) -> tuple[Mark, ...]:
        assert self.size is not None
        height, width = self.size
        shares = answer[:, :4] / torch.tensor([width, height, width, height])
        certain = zip(shares.clamp(0, 1).tolist(), answer[:, 4:].tolist(), strict=True)
        return tuple(
            Mark(left, top, right, bottom, self._words(int(number), score))
            for (left, top, right, bottom), (number, score) in certain
            if score >= self.certain
        )

    def _words(self, number: int, score: float) -> str:
        name = self.names[number] if number < len(self.names) else str(number)
        return name if score == 1 else f"{name} {fixed(score, 2)}"

    def _missed(self, matches: Matches) -> float:
        """Return 1 − F1 of the boxes that are certain."""
        certain = (matches.scores >= self.certain) & ~matches.skipped[0]
        both = int(certain.sum()) + int(matches.truths.sum())
        return 1 - 2 * int((matches.hit[0] & certain).sum()) / both if both else 0.0


def matched(found: Tensor, truth: Tensor) -> Matches:
    """Match the boxes of one image ``[k, 6]`` (corners, class, score) with the true ones, as pycocotools does.

    The last column of ``truth`` is 0 of boxes that do not count, and less of crowds.
    """
    evaluation = _pycocotools()(iouType="bbox")
    evaluation._gts, evaluation._dts = defaultdict(list), defaultdict(list)
    for index, row in enumerate(truth.double().tolist(), 1):
        kind = {"iscrowd": int(row[5] < 0), "ignore": int(row[5] <= 0)}
        evaluation._gts[0, int(row[4])].append({**_entry(index, row), **kind})
    for index, row in enumerate(found.double().tolist(), 1):
        evaluation._dts[0, int(row[4])].append({**_entry(index, row), "score": row[5]})
    classes, scores, hit, skipped = [], [], [], []
    counts = np.zeros(0, dtype=np.int64)
    for number in sorted({*(key[1] for key in evaluation._gts), *(key[1] for key in evaluation._dts)}):
        evaluation.ious = {(0, number): evaluation.computeIoU(0, number)}
        result = evaluation.evaluateImg(0, number, [0, 1e10], 100)
        classes.append(np.full(len(result["dtScores"]), number))
        scores.append(np.array(result["dtScores"], dtype=np.float64))
        hit.append(result["dtMatches"] > 0)
        skipped.append(result["dtIgnore"] > 0)
        counts = np.pad(counts, (0, number + 1 - len(counts)))
        counts[number] = int((result["gtIgnore"] == 0).sum())
    if not classes:
        nothing = np.zeros((len(_OVERLAPS), 0), dtype=bool)
        return Matches(np.zeros(0, dtype=np.int64), np.zeros(0), nothing, nothing, counts)
    return Matches(
        np.concatenate(classes),
        np.concatenate(scores),
        np.concatenate(hit, 1),
        np.concatenate(skipped, 1),
        counts,
    )


def _entry(index: int, row: Sequence[float]) -> dict[str, Any]:
    left, top, right, bottom = row[:4]
    width, height = right - left, bottom - top
    return {"id": index, "bbox": [left, top, width, height], "area": width * height}


class _Precisions:
    """Average precisions of all images, as pycocotools accumulates them, of any number of draws of the images."""

    def __init__(self, images: Sequence[Matches]) -> None:
        many = max((max(len(image.truths), int(image.classes.max(initial=-1)) + 1) for image in images), default=0)
        self._truths = np.stack([np.pad(image.truths, (0, many - len(image.truths))) for image in images])
        of = np.concatenate([np.full(len(image.scores), index) for index, image in enumerate(images)])
        classes = np.concatenate([image.classes for image in images])
        scores = np.concatenate([image.scores for image in images])
        hit, skipped = (np.concatenate([getattr(i, name) for i in images], 1) for name in ("hit", "skipped"))
        self._classes = []
        for number in np.flatnonzero(self._truths.sum(0)):
            chosen = np.flatnonzero(classes == number)
            chosen = chosen[np.argsort(-scores[chosen], kind="mergesort")]
            self._classes.append((int(number), of[chosen], hit[:, chosen], skipped[:, chosen]))

    def mean(self, overlaps: Sequence[int] = (0,)) -> float:
        """Return the mean over classes and overlaps, in percent; 0 where there is no true box."""
        once = np.ones((1, len(self._truths)), dtype=np.int64)
        values = [self._precision(entry, overlap, once)[0] for entry in self._classes for overlap in overlaps]
        return 100 * float(np.mean(values)) if values else 0.0

    def by_class(self) -> dict[int, float]:
        """Return the average precision of each class that there is, in percent."""
        once = np.ones((1, len(self._truths)), dtype=np.int64)
        return {entry[0]: 100 * float(self._precision(entry, 0, once)[0]) for entry in self._classes}

    def drawn(self, draws: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean at an overlap of 0.5 for each of the draws ``[B, images]`` that count images."""
        if not self._classes:
            return np.zeros(len(draws))
        values = np.stack([self._precision(entry, 0, draws) for entry in self._classes])
        known = ~np.isnan(values)
        means: NDArray[np.float64] = 100 * np.where(known, values, 0).sum(0) / known.sum(0).clip(1)
        return means

    def _precision(
        self, entry: tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]], overlap: int, draws: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the average precision of a class at one overlap in every draw, NaN where it has no true box."""
        number, of, hit, skipped = entry
        weights = draws[:, of] * ~skipped[overlap]
        true = (draws @ self._truths[:, number]).astype(np.float64)
        hits = np.cumsum(weights * hit[overlap], 1)
        total = np.cumsum(weights, 1)
        precision = hits / np.maximum(total, np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        best = np.concatenate([best, np.zeros((len(draws), 1))], 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / true[:, None]
        places = np.stack([np.searchsorted(row, _RECALLS, side="left") for row in np.nan_to_num(recall)])
        found: NDArray[np.float64] = np.where(true > 0, np.take_along_axis(best, places, 1).mean(1), np.nan)
        return found


def _draws(images: int) -> NDArray[np.int64]:
    """Return how often each image is drawn ``[B, images]``; the same for every measurement of so many images."""
    drawn = np.random.default_rng(0).integers(images, size=(_DRAWS, images))
    return np.stack([np.bincount(row, minlength=images) for row in drawn])


def _spread(drawn: NDArray[np.float64], value: float) -> Interval:
    """Return the interval of a value from what draws gave, around the value itself.

    Rare classes, which many draws lack, make the draws higher or lower on the whole: that is no part of chance.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return value, value
    low, high = np.percentile(drawn, (2.5, 97.5)) - drawn.mean()
    return value + float(low), value + float(high)


def _pycocotools() -> Any:
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UsageError("detection needs the package pycocotools", hint="pip install 'snnc[detection]'") from None
    return COCOeval
