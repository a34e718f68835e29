"""What samples show: labels by kind, and the file labels.csv that lists them."""

import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self, final

import torch
from torch import Tensor

from snnc.errors import DataError

FILE_NAME = "labels.csv"

# The kind of labels that are one class for each sample.
CLASSES: Final = "classes"


@dataclass(frozen=True, eq=False)
class Labels(ABC):
    """What samples show, one answer for each: ``answers``, whose type is that of the kind of labels."""

    answers: Any

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def taken(self, indices: Sequence[int], offset: int = 0) -> Self:
        """Return the labels of some samples, ``offset`` added to every number of a class."""

    @abstractmethod
    def plain(self, index: int) -> Any:
        """Return one answer as JSON has it."""


@final
@dataclass(frozen=True, eq=False)
class Classes(Labels):
    """One class for each sample.

    ``answers`` ``[len]`` are int64. ``names[i]`` belongs to the class ``i + offset``; empty where classes are only
    numbers.
    """

    answers: Tensor
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.answers)

    def taken(self, indices: Sequence[int], offset: int = 0) -> Self:
        return type(self)(self.answers[torch.as_tensor(indices, dtype=torch.int64)] + offset, self.names)

    def plain(self, index: int) -> int:
        return int(self.answers[index])


def read_labels(folder: Path, is_sample: Callable[[Path], bool] = Path.is_file) -> dict[str, int]:
    """Read ``labels.csv`` of a folder: relative path -> label, in the order of the file.

    Its header names the columns ``file`` and ``label``; others are passed by. Paths are relative to the folder, with
    forward slashes, and of what ``is_sample``. Raises DataError with the line of the first problem.
    """
    path = folder / FILE_NAME
    labels: dict[str, int] = {}
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise DataError("no columns 'file' and 'label'", place=f"{path}:1", hint="begin with: file,label")
            for row in reader:
                place = f"{path}:{reader.line_num}"
                name = _name(row["file"] or "", folder, is_sample, place)
                if name in labels:
                    hint = f"keep this line or line {lines[name]}"
                    raise DataError(f"{name!r} is listed twice", place=place, hint=hint)
                labels[name] = _label(row["label"] or "", place)
                lines[name] = reader.line_num
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", place=str(path), hint="check the file") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError("not a CSV file in UTF-8", place=str(path), hint="save it as CSV, encoded in UTF-8") from None
    if not labels:
        raise DataError("no image is listed", place=str(path), hint="add lines such as: images/0001.png,3")
    return labels


def _name(text: str, folder: Path, is_sample: Callable[[Path], bool], place: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{text!r} leads out of the folder", place=place, hint="list paths relative to labels.csv")
    try:
        found = bool(text) and is_sample(folder / path)
    except ValueError:
        found = False
    if not found:
        hint = "write paths with forward slashes" if "\\" in text else "paths are relative to labels.csv"
        raise DataError(f"no such image: {text!r}", place=place, hint=hint)
    return path.as_posix()


def _label(text: str, place: str) -> int:
    # int() alone would also take '1_0' and numbers that fit no tensor.
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text.strip(), re.ASCII):
        raise DataError(f"the label {text!r} is no integer", place=place, hint="number the classes from 0")
    return int(text)
