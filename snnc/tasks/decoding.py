"""From the raw outputs of a detector to boxes: one layout a function, and whatever else by a user's own ONNX file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from snnc.errors import DataError, UsageError

# Of each sample all candidates: boxes [A, 4] as left, top, right and bottom in pixels of the input, how much speaks for
# each class [A, C], and which classes these are [A, C]: all of them, or one for each box.
Candidates = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Grid:
    """What a layout needs to know: height and width of the input, anchors (width, height) in pixels, and strides.

    ``logits`` says that scores are yet to be turned into shares.
    """

    size: tuple[int, int]
    anchors: Tensor
    strides: tuple[int, ...]
    logits: bool


def _yolov8(outputs: Sequence[Tensor], grid: Grid) -> Candidates:
    """Columns of x, y, width, height and a score for each class: ``[N, 4 + C, A]`` (Ultralytics v8 and v11)."""
    boxes, scores = outputs[0].transpose(1, 2).tensor_split((4,), 2)
    return _all_classes(_cornered(boxes), scores.sigmoid() if grid.logits else scores)


def _yolov5(outputs: Sequence[Tensor], grid: Grid) -> Candidates:
    """Rows of x, y, width, height, objectness and a score for each class: ``[N, A, 5 + C]`` (Ultralytics v5)."""
    boxes, scores = outputs[0].tensor_split((4,), 2)
    scores = scores.sigmoid() if grid.logits else scores
    return _all_classes(_cornered(boxes), scores[..., 1:] * scores[..., :1])


def _yolo_fastestv2(outputs: Sequence[Tensor], grid: Grid) -> Candidates:
    """Cells of all strides in a row, ``[N, 5·anchors + C, cells]``: offsets, objectness, classes (Yolo-FastestV2)."""
    per_cell = len(grid.anchors) // len(grid.strides)
    raw = outputs[0]
    offsets, objectness, classes = raw.tensor_split((4 * per_cell, 5 * per_cell), 1)
    corners, strides = _cells(grid)
    anchors = grid.anchors.reshape(len(grid.strides), per_cell, 2)
    chosen = anchors[torch.cat([torch.full((count,), i) for i, count in enumerate(_counts(grid))])]
    # For every sample, cell and anchor.
    moved = offsets.reshape(len(raw), per_cell, 4, -1).permute(0, 3, 1, 2).sigmoid() * 2
    centers = (moved[..., :2] - 0.5 + corners[:, None]) * strides[:, None, None]
    boxes = torch.cat([centers, moved[..., 2:] ** 2 * chosen], -1)
    scores = objectness.sigmoid().transpose(1, 2)[..., None] * classes.softmax(1).transpose(1, 2)[:, :, None]
    return _all_classes(_cornered(boxes.flatten(1, 2)), scores.flatten(1, 2))


def _ssd(outputs: Sequence[Tensor], grid: Grid) -> Candidates:
    """Scores ``[N, A, C]``, the background first, and corners ``[N, A, 4]`` in shares of the image.

    They come in either order; of three classes, when both have four numbers, in this one.
    """
    scores, boxes = sorted(outputs, key=lambda output: output.shape[2] == 4)
    height, width = grid.size
    scores = scores.softmax(2) if grid.logits else scores
    return _all_classes(boxes * torch.tensor([width, height, width, height]), scores[..., 1:])


def _decoded(outputs: Sequence[Tensor], grid: Grid) -> Candidates:
    """Rows of left, top, right, bottom, score and class: ``[N, A, 6]``."""
    boxes, scores, classes = outputs[0].tensor_split((4, 5), 2)
    return boxes, scores, classes.round()


# What makes candidates of the outputs, and the shape of these, by layout.
LAYOUTS: Final[dict[str, tuple[Callable[[Sequence[Tensor], Grid], Candidates], str]]] = {
    "yolov8": (_yolov8, "[4 + classes, boxes]"),
    "yolov5": (_yolov5, "[boxes, 5 + classes]"),
    "yolo-fastestv2": (_yolo_fastestv2, "[5 x anchors + classes, cells]"),
    "ssd": (_ssd, "[boxes, classes] and [boxes, 4]"),
    "decoded": (_decoded, "[boxes, 6]"),
}


def _all_classes(boxes: Tensor, scores: Tensor) -> Candidates:
    """Return candidates that have a score for every class."""
    return boxes, scores, torch.arange(scores.shape[-1]).expand(scores.shape)


def _cornered(boxes: Tensor) -> Tensor:
    """Return left, top, right and bottom of boxes that are given by center, width and height."""
    center, size = boxes.tensor_split((2,), -1)
    return torch.cat([center - size / 2, center + size / 2], -1)


def _counts(grid: Grid) -> list[int]:
    height, width = grid.size
    return [(height // stride) * (width // stride) for stride in grid.strides]


def _cells(grid: Grid) -> tuple[Tensor, Tensor]:
    """Return column and row of every cell ``[cells, 2]``, and its stride ``[cells]``."""
    height, width = grid.size
    corners, strides = [], []
    for stride in grid.strides:
        rows, columns = torch.arange(height // stride), torch.arange(width // stride)
        down, across = torch.meshgrid(rows, columns, indexing="ij")
        corners.append(torch.stack([across.flatten(), down.flatten()], 1))
        strides.append(torch.full((len(rows) * len(columns),), stride))
    return torch.cat(corners).float(), torch.cat(strides).float()


# A network that gives noise would else be waited for by the minute.
_CANDIDATES = 30_000


def suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, overlap: float, most: int) -> Tensor:
    """Return which boxes stay, best first: of one class, none overlaps a better one by more (IoU).

    Only the best 30,000 are looked at, as Ultralytics does.
    """
    order = scores.argsort(descending=True, stable=True)[:_CANDIDATES]
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    kept: list[Tensor] = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[order, :2])
        high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
        common = (high - low).clamp(min=0).prod(1)
        apart = common <= overlap * (areas[best] + areas[order] - common)
        order = order[apart | (classes[order] != classes[best])]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)


class Decoder:
    """A user's own ONNX file: raw outputs, one sample at a time, in; boxes, scores and classes out.

    It takes the network's outputs in their order, ``[1, ...]``; it gives ``boxes [1, K, 4]`` (left, top, right,
    bottom in pixels of the input), ``scores [1, K]`` and ``classes [1, K]``, or ``scores [1, K, C]``; the axis of the
    batch may be missing. Raises DataError where the file cannot be read and UsageError where it takes or gives
    something else.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._place = str(path)
        if not path.is_file():
            raise DataError("no such decoder", place=self._place, hint="check decoder: of the task")
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            self._session = onnxruntime.InferenceSession(self._place, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own kinds
            reason = str(error).splitlines()[0]
            raise DataError(f"onnxruntime cannot read it: {reason}", place=self._place, hint="check the file") from None
        self._takes = [entry.name for entry in self._session.get_inputs()]
        gives = [entry.name for entry in self._session.get_outputs()]
        if not {"boxes", "scores"} <= set(gives):
            message = f"a decoder gives boxes, scores and classes, this one gives {', '.join(gives)}"
            raise UsageError(message, place=self._place, hint="name its outputs so")
        self._gives = [name for name in ("boxes", "scores", "classes") if name in gives]

    def require(self, outputs: int) -> None:
        """Raise UsageError where it does not take so many outputs."""
        if outputs != len(self._takes):
            message = f"a decoder of {len(self._takes)} inputs for a network of {outputs} outputs"
            raise UsageError(message, place=self._place, hint="it takes what the network gives, in its order")

    def __call__(self, outputs: Sequence[Tensor]) -> Candidates:
        """Return the candidates of one sample from its outputs ``[1, ...]``."""
        feeds = {name: output.numpy() for name, output in zip(self._takes, outputs, strict=True)}
        try:
            found = dict(zip(self._gives, self._session.run(self._gives, feeds), strict=True))
        except Exception as error:  # as above
            reason = str(error).splitlines()[0]
            raise UsageError(f"it does not take these outputs: {reason}", place=self._place, hint="check it") from None
        boxes, scores = self._numbers(found["boxes"]), self._numbers(found["scores"])
        count = boxes.numel() // 4
        fits = boxes.shape in ((count, 4), (1, count, 4)) or not boxes.numel()
        one, several = scores.shape in ((count,), (1, count)), scores.shape[:-1] in ((count,), (1, count))
        if not fits or not (one or several):
            message = f"boxes of shape {list(boxes.shape)} and scores of shape {list(scores.shape)}"
            raise UsageError(
                message, place=self._place, hint="give boxes [1, K, 4] and scores [1, K] or [1, K, classes]"
            )
        boxes, scores = boxes.reshape(count, 4), scores.reshape(count, 1 if one else scores.shape[-1])
        if "classes" not in found:
            return _all_classes(boxes, scores)
        classes = self._numbers(found["classes"])
        if not classes.numel() == scores.numel() == count:
            message = f"{count} boxes, but {scores.numel()} scores and {classes.numel()} classes"
            raise UsageError(message, place=self._place, hint="give one score and one class for each box")
        return boxes, scores, classes.reshape(count, 1).round()

    def _numbers(self, found: object) -> Tensor:
        try:
            return torch.from_numpy(np.asarray(found, np.float32))
        except (TypeError, ValueError):
            message = "a decoder gives numbers, this one gives something else"
            raise UsageError(message, place=self._place, hint="give tensors of numbers") from None
