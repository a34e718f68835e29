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

from snnc import intervals
from snnc.data.boxes import BOXES, MOST_CLASSES, Boxes
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
    neither way; ``truths`` ``[G]`` are the classes of the true ones.
    """

    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    hit: NDArray[np.bool_]
    skipped: NDArray[np.bool_]
    truths: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Judged:
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
    spiking network's boxes with the trained network's, those from the score ``certain`` on, as the truth; where there
    are none, it is not known. Intervals are bootstraps over images of matches that are made once; the drop's is paired.

    Raises UsageError where options do not fit the network and, once boxes are to be matched, where the extra
    ``snnc[detection]`` is missing.
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
    """What the classes are called; what label files call them where nothing is said."""

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= self.certain <= 1:
            raise ValueError("confidence and certain must be shares, and the second no less than the first")
        if not 0 < self.overlap <= 1 or self.most < 1:
            raise ValueError("overlap must be a share above 0, and most 1 or more")
        if not self.strides or min(self.strides) < 1 or min(self.size or (1,)) < 1:
            raise ValueError("strides and size must be 1 or more")
        if len(set(self.names)) < len(self.names):
            raise ValueError("names must differ")
        if self.layout is not None and self.decoder:
            raise ValueError("give a layout or a decoder, not both")

    def fitted(self, network: Graph) -> Self:
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
            channels_last = shape[2] in (1, 3) and shape[0] not in (1, 3)
            size = (shape[0], shape[1]) if channels_last else (shape[1], shape[2])
        else:
            raise UsageError(f"an input {list(shape)} is no image", place="task.detection.size", hint="give its size")
        fitted = replace(self, size=size)
        if self.decoder:
            fitted._decode.require(len(network.outputs))
        else:
            fitted._require_layout(network.output_shapes)
        return fitted

    def _require_layout(self, outputs: Shapes) -> None:
        assert self.layout is not None
        if self.layout == "yolo-fastestv2" and (not self.anchors or len(self.anchors) % len(self.strides)):
            hint = "give [[width, height], ...] in pixels, as many for each stride"
            raise UsageError("no anchors for every stride", place="task.detection.anchors", hint=hint)
        first, fits = outputs[0], False
        if self.layout == "ssd":
            flat = len(outputs) == 2 and all(len(shape) == 2 for shape in outputs)
            fits = flat and first[0] == outputs[1][0] and 4 in (first[1], outputs[1][1])
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
        _pycocotools()
        labels = dataset.labels(BOXES)
        if labels is None:
            return
        if not any(bool((rows[:, 5] > 0).any()) for rows in labels.answers):
            raise DataError("no box in any label", place="--data", hint="give images with something on them")
        count = self._classes(outputs)
        for index, rows in enumerate(labels.answers):
            wrong = rows[(rows[:, 4] < 0) | (rows[:, 4] >= (math.inf if count is None else count))]
            if len(wrong):
                known = "they count from 0" if count is None else f"the network has {count} classes"
                message = f"a box of class {int(wrong[0, 4])}: {known}"
                raise DataError(message, place=dataset.name(index), hint="classes count from 0; see label-offset")

    def named(self, dataset: Dataset) -> Self:
        labels = dataset.labels(BOXES)
        if self.names or not isinstance(labels, Boxes) or len(set(labels.names)) < len(labels.names):
            return self
        return replace(self, names=labels.names)

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
            candidates = LAYOUTS[self.layout][0]([output.float() for output in outputs], self._grid)
            return [self._kept(*sample) for sample in zip(*candidates, strict=True)]
        samples = zip(*(output.float().unsqueeze(1) for output in outputs), strict=True)
        return [self._kept(*self._decode(sample)) for sample in samples]

    @cached_property
    def _decode(self) -> Decoder:
        return Decoder(Path(self.decoder))

    @property
    def _grid(self) -> Grid:
        assert self.size is not None
        return Grid(self.size, torch.tensor(self.anchors), self.strides, self.logits)

    def _kept(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        """Return what stays of the candidates of one image; what is no number, or no class, is none."""
        scores = torch.where(scores.isfinite() & (classes >= 0) & (classes < MOST_CLASSES), scores, 0)
        if self.best_class:
            scores = scores * (torch.arange(scores.shape[1]) == scores.argmax(1, keepdim=True))
        place, column = (scores > self.confidence).nonzero().unbind(1)
        found = torch.cat([boxes[place], torch.stack([classes[place, column], scores[place, column]], 1)], 1)
        found = found[found.isfinite().all(1)]
        return found[suppressed(found[:, :4], found[:, 5], found[:, 4], self.overlap, self.most)]

    def outcomes(self, answers: Answers, trained: Answers | None, truth: Answers | None) -> list[Judged]:
        """Return how the boxes of each image match, of those known."""
        none: list[Tensor | None] = [None] * len(answers)
        samples = zip(answers, none if trained is None else trained, none if truth is None else truth, strict=True)
        return [self._outcome(*sample) for sample in samples]

    def _outcome(self, found: Tensor, trained: Tensor | None, truth: Tensor | None) -> Judged:
        return Judged(
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
            if same.known:
                measured["agreement"] = same.mean()
                measured["agreement_interval"] = _share(same.drawn(drawn), same.mean(), len(found))
        if found[0] is not None:
            ours = _Precisions(found)
            again = ours.drawn(drawn)
            scores["mAP50"] = Score(ours.mean(), _share(again, ours.mean(), len(found)))
            scores["mAP"] = Score(ours.mean(range(len(_OVERLAPS))), None)
            for number, value in ours.by_class().items():
                name = self.names[number] if number < len(self.names) else str(number)
                scores[f"mAP50/{name}"] = Score(value, None)
            if trained[0] is not None:
                theirs = _Precisions(trained)
                before, apart = theirs.mean(), theirs.drawn(drawn)
                measured["drop"] = lost = before - ours.mean()
                spread = _spread(apart - again, lost)
                measured["drop_interval"] = intervals.varied(lost, spread, len(found), difference=True)
                if before:
                    measured["relative_drop"] = relative = 100 * lost / before
                    ratio = 100 * (apart - again) / np.where(apart > 0, apart, np.nan)
                    spread = _spread(ratio, relative)
                    measured["relative_drop_interval"] = spread if intervals.varies(spread) else None
        return measured | {"scores": scores}

    def reference(self, outcomes: Answers) -> Mapping[str, float]:
        trained = [outcome.trained for outcome in outcomes]
        if any(matches is None for matches in trained):
            return {}
        precisions = _Precisions(trained)
        return {"mAP50": precisions.mean(), "mAP": precisions.mean(range(len(_OVERLAPS)))}

    def losses(self, answers: Answers, truth: Answers) -> Tensor:
        """Return 1 − F1 of the boxes from the score ``certain`` on, at an overlap of 0.5.

        Labels that do not count are neither missed nor wrong.
        """
        pairs = zip(answers, truth, strict=True)
        kept = ((boxes, true[(true[:, 5] >= self.certain) | (true[:, 5] <= 0)]) for boxes, true in pairs)
        return torch.tensor([self._missed(matched(boxes, true)) for boxes, true in kept], dtype=torch.float64)

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
        both = int(certain.sum()) + len(matches.truths)
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
    classes, scores, hit, skipped, truths = [], [], [], [], []
    for number in sorted({*(key[1] for key in evaluation._gts), *(key[1] for key in evaluation._dts)}):
        evaluation.ious = {(0, number): evaluation.computeIoU(0, number)}
        result = evaluation.evaluateImg(0, number, [0, 1e10], 100)
        classes.append(np.full(len(result["dtScores"]), number))
        scores.append(np.array(result["dtScores"], dtype=np.float64))
        hit.append(result["dtMatches"] > 0)
        skipped.append(result["dtIgnore"] > 0)
        truths.append(np.full(int((result["gtIgnore"] == 0).sum()), number))
    if not classes:
        nothing = np.zeros((len(_OVERLAPS), 0), dtype=bool)
        none = np.zeros(0, dtype=np.int64)
        return Matches(none, np.zeros(0), nothing, nothing, none)
    return Matches(
        np.concatenate(classes),
        np.concatenate(scores),
        np.concatenate(hit, 1),
        np.concatenate(skipped, 1),
        np.concatenate(truths),
    )


def _entry(index: int, row: Sequence[float]) -> dict[str, Any]:
    left, top, right, bottom = row[:4]
    width, height = right - left, bottom - top
    return {"id": index, "bbox": [left, top, width, height], "area": width * height}


@dataclass(frozen=True, eq=False)
class _Class:
    """One class in all images: its ``number``, how many are ``true`` in each image ``[N]``, and its boxes, best first.

    A box is ``of`` an image ``[D]``; ``hit`` and ``skipped`` ``[10, D]`` are as in ``Matches``.
    """

    number: int
    true: NDArray[np.int64]
    of: NDArray[np.int64]
    hit: NDArray[np.bool_]
    skipped: NDArray[np.bool_]


class _Precisions:
    """Average precisions of all images, as pycocotools accumulates them, of any number of draws of the images."""

    def __init__(self, images: Sequence[Matches]) -> None:
        of = np.concatenate([np.full(len(image.scores), index) for index, image in enumerate(images)])
        classes = np.concatenate([image.classes for image in images])
        scores = np.concatenate([image.scores for image in images])
        hit, skipped = (np.concatenate([getattr(i, name) for i in images], 1) for name in ("hit", "skipped"))
        truths = np.concatenate([image.truths for image in images])
        holders = np.repeat(np.arange(len(images)), [len(image.truths) for image in images])
        self._images, self._classes = len(images), list[_Class]()
        for number in np.unique(truths):
            chosen = np.flatnonzero(classes == number)
            chosen = chosen[np.argsort(-scores[chosen], kind="mergesort")]
            true = np.bincount(holders[truths == number], minlength=len(images))
            self._classes.append(_Class(int(number), true, of[chosen], hit[:, chosen], skipped[:, chosen]))

    @property
    def known(self) -> bool:
        """Whether there is a true box."""
        return bool(self._classes)

    def mean(self, overlaps: Sequence[int] = (0,)) -> float:
        """Return the mean over classes and overlaps, in percent; 0 where there is no true box."""
        once = np.ones((1, self._images), dtype=np.int64)
        values = [_precision(one, overlap, once)[0] for one in self._classes for overlap in overlaps]
        return 100 * float(np.mean(values)) if values else 0.0

    def by_class(self) -> dict[int, float]:
        """Return the average precision of each class that there is, in percent."""
        once = np.ones((1, self._images), dtype=np.int64)
        return {one.number: 100 * float(_precision(one, 0, once)[0]) for one in self._classes}

    def drawn(self, draws: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean at an overlap of 0.5 for each of the draws ``[B, images]`` that count images."""
        if not self._classes or not len(draws):
            return np.zeros(len(draws))
        values = np.stack([_precision(one, 0, draws) for one in self._classes])
        known = ~np.isnan(values)
        means: NDArray[np.float64] = 100 * np.where(known, values, 0).sum(0) / known.sum(0).clip(1)
        return means


def _precision(one: _Class, overlap: int, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the average precision of a class at one overlap in every draw, NaN where it has no true box."""
    weights = draws[:, one.of] * ~one.skipped[overlap]
    true = (draws @ one.true).astype(np.float64)
    hits = np.cumsum(weights * one.hit[overlap], 1)
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
    """Return how often each image is drawn ``[B, images]``; the same for every measurement of so many images.

    Of a single image, which says nothing of how much images vary, there are no draws.
    """
    if images < 2:
        return np.zeros((0, images), dtype=np.int64)
    drawn = np.random.default_rng(0).integers(images, size=(_DRAWS, images))
    return np.stack([np.bincount(row, minlength=images) for row in drawn])


def _share(drawn: NDArray[np.float64], value: float, images: int) -> Interval | None:
    """Return the interval of a percentage from what draws gave; None of a single image."""
    spread = _spread(drawn, value)
    within = None if spread is None else (max(spread[0], 0.0), min(spread[1], 100.0))
    return intervals.varied(value, within, images)


def _spread(drawn: NDArray[np.float64], value: float) -> Interval | None:
    """Return the interval of a value from what draws gave, around the value itself; None of a single image.

    Rare classes, which many draws lack, make the draws higher or lower on the whole: that is no part of chance.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return None
    low, high = np.percentile(drawn, (2.5, 97.5)) - drawn.mean()
    return value + float(low), value + float(high)


def _pycocotools() -> Any:
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UsageError("detection needs the package pycocotools", hint="pip install 'snnc[detection]'") from None
    return COCOeval
