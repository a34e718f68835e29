"""What samples show: labels by kind, and the file labels.csv that lists them."""

import csv
import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self, final

import torch
from torch import Tensor

from snnc.errors import DataError
from snnc.files import check_file

FILE_NAME = "labels.csv"
# What separates its columns, and what these are called by others.
_SEPARATORS = (",", ";", "\t")
_FILE_COLUMNS = ("file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "img", "name")
LABEL_COLUMNS = ("label", "class", "class_id", "category", "target", "y", "label_id", "class_label")

# The kinds of labels: one class for each sample; for each of several labels whether it applies; numbers in the shape of
# an output; a class for every pixel; what others are taken for that are a row of numbers for each sample; and those of
# which each output of the network has its own.
CLASSES: Final = "classes"
FLAGS: Final = "flags"
VALUES: Final = "values"
MASKS: Final = "masks"
NUMBERS: Final = "numbers"
NAMED: Final = "named"
# What flags are besides where each sample has a single one.
ONE_HOT: Final = "one-hot"


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
        """Return one answer as JSON has it, or, where it is large, the SHA-256 of it."""

    def taken_for(self, kind: str) -> "Labels | None":
        """Return them as labels of a kind; None where they cannot be taken for such."""
        return None


@final
@dataclass(frozen=True, eq=False)
class Classes(Labels):
    """One class for each sample.

    ``answers`` ``[len]`` are int64. ``names[i]`` belongs to the class ``i + offset``; empty where classes are only
    numbers. Names are numbered by the folders that they are of, unless the data has ``stated`` the numbers.
    """

    answers: Tensor
    names: tuple[str, ...] = ()
    stated: bool = False

    def __len__(self) -> int:
        return len(self.answers)

    def taken(self, indices: Sequence[int], offset: int = 0) -> Self:
        return replace(self, answers=self.answers[torch.as_tensor(indices, dtype=torch.int64)] + offset)

    def plain(self, index: int) -> int:
        return int(self.answers[index])

    def taken_for(self, kind: str) -> Labels | None:
        if kind == NUMBERS:
            return Values(self.answers.float()[:, None])
        return self if kind == CLASSES else None


@final
class OnDisk:
    """Answers of one shape that are read from disk when somebody looks at them: a slice, or some by number."""

    def __init__(self, read: Callable[[int], Tensor], numbers: Sequence[int]) -> None:
        """``read`` returns the answer of a sample, ``numbers`` are the samples."""
        self._read = read
        self._numbers = tuple(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        numbers = self._numbers[chosen] if isinstance(chosen, slice) else [self._numbers[at] for at in chosen.tolist()]
        return torch.stack([self._read(number) for number in numbers])

    def taken(self, indices: Sequence[int]) -> "OnDisk":
        """Return some of them."""
        return OnDisk(self._read, [self._numbers[index] for index in indices])


@final
@dataclass(frozen=True, eq=False)
class Values(Labels):
    """Numbers for each sample, in the shape of an output: ``answers`` ``[len, ...]`` are float32, in memory or on disk.

    ``columns`` are what a row of numbers is called, empty where that is not known.
    """

    answers: Tensor | OnDisk
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.answers)

    def taken(self, indices: Sequence[int], offset: int = 0) -> Self:
        return type(self)(_taken(self.answers, indices), self.columns)

    def plain(self, index: int) -> Any:
        (answer,) = self.answers[slice(index, index + 1)]
        return _digest(answer) if answer.ndim > 1 else answer.tolist()

    @property
    def one_hot(self) -> bool:
        """Whether each row is 1 at one place and 0 elsewhere: then they are classes."""
        rows = self.answers
        if isinstance(rows, OnDisk) or rows.ndim != 2 or rows.shape[1] < 2:
            return False
        return bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(1) == 1).all())

    def taken_for(self, kind: str) -> Labels | None:
        rows = self.answers
        if kind == VALUES:
            return self
        if isinstance(rows, OnDisk) or rows.ndim != 2:
            return None
        if kind == CLASSES:
            return Classes(rows.argmax(1), self.columns) if self.one_hot else None
        if kind == NAMED and self.columns:
            return Named.of({name: _column(rows[:, [at]]) for at, name in enumerate(self.columns)})
        return self if kind in (NUMBERS, FLAGS) else None


@final
@dataclass(frozen=True, eq=False)
class Masks(Labels):
    """A class for every pixel: ``answers`` ``[len, height, width]`` are int64, in memory or on disk."""

    answers: Tensor | OnDisk

    def __len__(self) -> int:
        return len(self.answers)

    def taken(self, indices: Sequence[int], offset: int = 0) -> Self:
        answers = _taken(self.answers, indices)
        if offset and isinstance(answers, OnDisk):
            read, numbers = answers, range(len(indices))
            return type(self)(OnDisk(lambda number: read[slice(number, number + 1)][0] + offset, numbers))
        return type(self)(answers + offset if isinstance(answers, Tensor) else answers)

    def plain(self, index: int) -> str:
        return _digest(self.answers[slice(index, index + 1)][0])

    def taken_for(self, kind: str) -> Labels | None:
        return self if kind == MASKS else None


@final
@dataclass(frozen=True, eq=False)
class Named(Labels):
    """Labels for each output of a network, by its name: ``answers`` are a mapping for each sample."""

    answers: Sequence[Mapping[str, Any]]
    parts: Mapping[str, Labels]

    @classmethod
    def of(cls, parts: Mapping[str, Labels]) -> Self:
        """Join labels of as many samples each."""
        count = len(next(iter(parts.values())))
        rows = [{name: labels.answers[row] for name, labels in parts.items()} for row in range(count)]
        return cls(rows, parts)

    def __len__(self) -> int:
        return len(self.answers)

    def taken(self, indices: Sequence[int], offset: int = 0) -> Self:
        return self.of({name: labels.taken(indices, offset) for name, labels in self.parts.items()})

    def plain(self, index: int) -> dict[str, Any]:
        return {name: labels.plain(index) for name, labels in self.parts.items()}

    def taken_for(self, kind: str) -> Labels | None:
        return self if kind == NAMED else None


def numbers_of(rows: Tensor, columns: Sequence[str] = ()) -> dict[str, Labels]:
    """Return rows of numbers ``[N, k]`` as labels by kind: where all are 0 or 1, they say which labels apply."""
    binary = rows.shape[1] > 1 and bool(((rows == 0) | (rows == 1)).all())
    return {FLAGS if binary else VALUES: Values(rows, tuple(columns))}


def _column(column: Tensor) -> Labels:
    """Return one column of numbers ``[N, 1]`` as labels: classes where all are whole."""
    return Classes(column[:, 0].long()) if bool((column == column.floor()).all()) else Values(column)


def _taken(answers: Tensor | OnDisk, indices: Sequence[int]) -> Tensor | OnDisk:
    if isinstance(answers, OnDisk):
        return answers.taken(indices)
    return answers[torch.as_tensor(indices, dtype=torch.int64)]


def _digest(answer: Tensor) -> str:
    return hashlib.sha256(f"{answer.dtype} {[*answer.shape]} ".encode() + answer.numpy().tobytes()).hexdigest()


def read_labels(
    folder: Path, is_sample: Callable[[Path], bool] = Path.is_file
) -> tuple[tuple[str, ...], Mapping[str, Labels]]:
    """Read ``labels.csv`` of a folder: relative paths in the order of the file, and their labels by kind.

    Its header names the column ``file``, or by another of the usual names. Whole numbers in a column ``label`` are
    classes, others values; columns beside it are passed by. Without that one, all columns are numbers that say of each
    file what its header says. Columns are separated by commas, semicolons or tabs, and spaces around them do not count.
    Paths are relative to the folder, with forward slashes, and of what ``is_sample``. Raises DataError with the line of
    the first problem.
    """
    path = folder / FILE_NAME
    check_file(path)
    lines: dict[str, int] = {}
    rows: list[list[str]] = []
    columns: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            separator = max(_SEPARATORS, key=first.count)
            reader = csv.DictReader(stream, delimiter=separator, skipinitialspace=True)
            header = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            twice = next((name for at, name in enumerate(header) if name and name in header[:at]), None)
            if twice is not None:
                raise DataError(f"two columns are called {twice!r}", place=f"{path}:1", hint="rename or remove one")
            files = _named(header, _FILE_COLUMNS)
            others = [name for name in header if name and name != files]
            columns = ["label"] if "label" in header else others
            if len(others) == 1 and others[0].lower() in LABEL_COLUMNS:
                columns = others
            if not files or not columns:
                found = ", ".join(map(repr, header)) or "nothing"
                message = f"no columns 'file' and 'label', only {found}"
                raise DataError(message, place=f"{path}:1", hint="begin with: file,label")
            for row in reader:
                place = f"{path}:{reader.line_num}"
                # What is beyond the columns stands under no name; programs that write tables leave empty cells there.
                if any(cell.strip() for cell in row.pop(None, ())):
                    hint = "put what has commas in quotes"
                    raise DataError("more values than columns", place=place, hint=hint)
                name = _name((row[files] or "").strip(), folder, is_sample, place)
                if name in lines:
                    hint = f"keep this line or line {lines[name]}"
                    raise DataError(f"{name!r} is listed twice", place=place, hint=hint)
                rows.append([(row[column] or "").strip() for column in columns])
                lines[name] = reader.line_num
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", place=str(path), hint="check the file") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError("not a CSV file in UTF-8", place=str(path), hint="save it as CSV, encoded in UTF-8") from None
    if not rows:
        raise DataError("no image is listed", place=str(path), hint="add lines such as: images/0001.png,3")
    places = [f"{path}:{line}" for line in lines.values()]
    if len(columns) == 1 and columns[0].lower() in LABEL_COLUMNS and not any(_is_fraction(text) for (text,) in rows):
        numbers = [class_number(text, place) for (text,), place in zip(rows, places, strict=True)]
        return tuple(lines), {CLASSES: Classes(torch.tensor(numbers))}
    values = [
        [_value(text, column, place) for text, column in zip(row, columns, strict=True)]
        for row, place in zip(rows, places, strict=True)
    ]
    return tuple(lines), numbers_of(torch.tensor(values), columns)


def _named(header: Sequence[str], usual: Sequence[str]) -> str:
    """Return the column that has the first of the usual names, in any case; "" where none has one."""
    return next((name for known in usual for name in header if name.lower() == known), "")


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


def class_number(text: str, place: str) -> int:
    """Return the class that a text states; raises DataError where it is no integer."""
    # int() alone would also take '1_0' and numbers that fit no tensor.
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        raise DataError(f"the label {text!r} is no integer", place=place, hint="number the classes from 0")
    return int(text)


def _value(text: str, column: str, place: str) -> float:
    value = _number(text)
    if value is None or not abs(value) <= torch.finfo(torch.float32).max:
        hint = "leave out columns that are no labels, or name the one that is: label"
        raise DataError(f"{text!r} in column {column!r} is no number", place=place, hint=hint)
    return value


def _is_fraction(text: str) -> bool:
    """Return whether a text is a number that is not whole."""
    value = _number(text)
    return value is not None and math.isfinite(value) and value != math.floor(value)


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
