"""Parquet files with a column of images, as Hugging Face writes data sets. They are read by the package pyarrow."""

import importlib
import json
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, NamedTuple, Self, final

import torch
from PIL import Image

from snnc.data.decoding import decode
from snnc.data.images import SUFFIXES as IMAGES
from snnc.data.images import only_input
from snnc.data.labels import CLASSES, LABEL_COLUMNS, Classes, Labels, numbers_of
from snnc.data.patterns import files_of, holds
from snnc.data.preprocessing import MOST_CLASSES
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Transform
from snnc.errors import DataError, UsageError
from snnc.process import memory

_SUFFIXES = {".parquet"}
# What a column of images, and one of labels, is called where there are several.
_IMAGE_COLUMNS = ("image", "img", "picture", "pixels")
_LABEL_COLUMNS = (*LABEL_COLUMNS, "labels", "fine_label")
_BYTES = "bytes"
# One group of rows may take this share of the memory, and so many are kept.
_SHARE, _KEPT = 16, 4
# Bytes that what is known of a row may take: files say the same of a thousand million rows in a few bytes.
_ROW = 256


class _Group(NamedTuple):
    """A group of rows: its file and its number there, its first row in the file, and in all files."""

    file: int
    number: int
    start: int
    first: int


@final
@dataclass(frozen=True)
class _Kept:
    """The groups of rows that were read last."""

    lock: Lock = field(default_factory=Lock)
    columns: OrderedDict[int, Any] = field(default_factory=OrderedDict)


@final
@sources.register("parquet")
@dataclass(frozen=True, eq=False)
class ParquetFiles(Source):
    """The rows of Parquet files: an image in each, as the bytes of an image file, and what it shows.

    Rows are called by their file, relative to ``folder``, and their number there, of ``digits``. They are read in
    groups, as they are stored, a few of which are kept; ``column`` holds the bytes. Opening raises DataError where a
    file is damaged, has no such column, or holds too many rows in a group to be read at once.
    """

    about: ClassVar[str] = "a folder of Parquet files (.parquet) with images, one, or a pattern of their names"
    several: ClassVar[bool] = True

    folder: Path
    files: Sequence[str]
    groups: Sequence[_Group]
    rows: int
    digits: int
    column: str
    input: str
    gray: bool
    kept: _Kept = field(init=False, default_factory=_Kept)

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        return holds(path, _SUFFIXES, IMAGES) if path.is_dir() else path.suffix.lower() in _SUFFIXES

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        name, transform = only_input(inputs, path)
        # As for images.
        Image.init()
        folder, files, ignored = files_of(path, _SUFFIXES)
        groups: list[_Group] = []
        answers: list[Any] = []
        rows = digits = 0
        columns = _Columns()
        for number, file in enumerate(files):
            opened = _opened(folder / file)
            columns = columns if number else _columns(opened.schema_arrow, folder / file)
            _check_columns(opened.schema_arrow, columns, folder / file)
            start = 0
            for group in range(opened.metadata.num_row_groups):
                count = _checked_rows(opened.metadata.row_group(group), columns.image, folder / file)
                groups.append(_Group(number, group, start, rows))
                start, rows = start + count, rows + count
                if rows > memory() // _ROW:
                    hint = "give fewer files, or more with --memory"
                    raise DataError(f"more than {memory() // _ROW:,} rows", place=str(folder / file), hint=hint)
            digits = max(digits, len(str(start)))
            answers += _answers(opened, columns.label, folder / file)
        if not rows:
            raise DataError("no row in it", place=str(path), hint="write at least one")
        one = cls({}, ignored, folder, files, groups, rows, digits, columns.image, name, transform.channels == 1)
        return replace(one, labels=one._labels(answers, columns.classes))

    def __len__(self) -> int:
        return self.rows

    def name(self, index: int) -> str:
        number, row = self._at(index)
        group = self.groups[number]
        # By characters as by numbers, so that they are read in one go in either order.
        return f"{self.files[group.file]}[{group.start + row:0{self.digits}d}]"

    def place(self, index: int) -> str:
        return str(self.folder / self.name(index))

    def read(self, index: int) -> Mapping[str, Array]:
        file = BytesIO(self._content(index))
        return {self.input: decode(file, gray=self.gray, noticed=self.noticed, place=self.place(index))}

    def digest(self, index: int) -> str:
        return sha256(self._content(index)).hexdigest()

    def _at(self, index: int) -> tuple[int, int]:
        """Return the number of the group that a row is in, and of the row there."""
        number = bisect(self.groups, index, key=lambda group: group.first) - 1
        return number, index - self.groups[number].first

    def _content(self, index: int) -> bytes:
        number, row = self._at(index)
        with self.kept.lock:
            column = self.kept.columns.pop(number, None)
            if column is None:
                group = self.groups[number]
                path = self.folder / self.files[group.file]
                column = _told(
                    path, lambda: _opened(path).read_row_group(group.number, [self.column], use_threads=False)
                )
                column = column.column(0)
            self.kept.columns[number] = column
            if len(self.kept.columns) > _KEPT:
                self.kept.columns.popitem(last=False)
        value = column[row].as_py()
        found = value.get(_BYTES) if isinstance(value, Mapping) else value
        if not isinstance(found, bytes):
            hint = "write the images themselves into the file, not their paths"
            raise DataError("no bytes of an image in this row", place=self.place(index), hint=hint)
        return found

    def _labels(self, answers: Sequence[Any], names: tuple[str, ...]) -> Mapping[str, Labels]:
        missing = next((index for index, answer in enumerate(answers) if answer is None), None)
        if missing is not None:
            hint = "fill it in, or leave the row out"
            raise DataError("a row without a label", place=self.place(missing), hint=hint)
        # Test sets whose labels are kept back have this in their place.
        if all(answer == -1 for answer in answers):
            return {}
        try:
            if all(isinstance(answer, int) for answer in answers):
                return {CLASSES: Classes(torch.tensor(answers), names, stated=True)}
            rows = torch.tensor([answer if isinstance(answer, list) else [answer] for answer in answers]).float()
        except (ValueError, TypeError, RuntimeError):
            hint = "give each row a class, or each as many numbers"
            raise DataError("labels of different lengths", place=str(self.folder), hint=hint) from None
        wrong = (~rows.isfinite()).nonzero()
        if len(wrong):
            hint = "replace it, or leave the row out"
            raise DataError("a label that is not finite", place=self.place(int(wrong[0, 0])), hint=hint)
        return numbers_of(rows)


class _Columns(NamedTuple):
    """The column of bytes, that of labels, empty without one, and the names of classes."""

    image: str = ""
    label: str = ""
    classes: tuple[str, ...] = ()


def _columns(schema: Any, path: Path) -> _Columns:
    """Return the columns of images and of labels; raises DataError where there is none, or several, of images."""
    types = _pyarrow().types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def is_image(kind: Any) -> bool:
        return bool(types.is_struct(kind)) and any(one.name == _BYTES and is_bytes(one.type) for one in kind)

    found = {one.name: f"{one.name}.{_BYTES}" for one in schema if is_image(one.type)}
    found = found or {one.name: one.name for one in schema if is_bytes(one.type)}
    named = [name for usual in _IMAGE_COLUMNS for name in found if name.lower() == usual]
    if not found or (len(found) > 1 and not named):
        shown = ", ".join(f"{one.name} ({one.type})" for one in schema)
        message = "several columns of images" if found else "no column of images"
        hint = "have one, image: {bytes, path}, as Hugging Face writes it"
        raise DataError(f"{message}, only: {shown:.200}" if not found else message, place=str(path), hint=hint)
    stated = _stated_classes(schema)
    labels = [name for usual in _LABEL_COLUMNS for name in schema.names if name.lower() == usual]
    label = (labels or (list(stated) if len(stated) == 1 else []) or [""])[0]
    return _Columns(found[(named or list(found))[0]], label, stated.get(label, ()))


def _stated_classes(schema: Any) -> Mapping[str, tuple[str, ...]]:
    """Return the names of classes that Hugging Face states in the file, by their columns."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, Mapping) and isinstance(feature.get("names"), list)
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _check_columns(schema: Any, columns: _Columns, path: Path) -> None:
    """Raise DataError where a file has not the columns of the first, or labels that are no numbers."""
    types = _pyarrow().types
    for name in (columns.image.removesuffix(f".{_BYTES}"), columns.label):
        if name and name not in schema.names:
            hint = "give files of one data set"
            raise DataError(f"no column {name!r}, which the first file has", place=str(path), hint=hint)
    if not columns.label:
        return
    kind = schema.field(columns.label).type
    inner = kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind
    if not (types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner)):
        hint = "number the classes from 0 (Hugging Face: class_encode_column)"
        raise DataError(f"labels of type {kind}, no numbers", place=f"{path}:{columns.label}", hint=hint)


def _checked_rows(group: Any, column: str, path: Path) -> int:
    """Return how many rows a group has; raises DataError where its images are too large to be read at once."""
    parts = [group.column(at) for at in range(group.num_columns)]
    size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema == column)
    if size > memory() // _SHARE:
        hint = "write it in smaller groups (pyarrow: row_group_size=100), or give more with --memory"
        raise DataError(f"{size:,} bytes of images in one group of rows", place=str(path), hint=hint)
    return int(group.num_rows)


def _answers(opened: Any, label: str, path: Path) -> list[Any]:
    """Return the column of labels; raises DataError where one is beyond what counts classes."""
    if not label:
        return []
    found = _told(path, lambda: opened.read([label], use_threads=False).column(0).to_pylist())
    odd = next((answer for answer in found if type(answer) is int and abs(answer) > MOST_CLASSES), None)
    if odd is not None:
        raise DataError(f"the label {odd}", place=f"{path}:{label}", hint="number the classes from 0")
    return [int(answer) if isinstance(answer, bool) else answer for answer in found]


def _opened(path: Path) -> Any:
    reading = _pyarrow().parquet.ParquetFile
    return _told(path, lambda: reading(path, pre_buffer=False))


def _told(path: Path, read: Callable[[], Any]) -> Any:
    """Return what is read; raises DataError where the file is damaged."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # readers of damaged files raise whatever they like
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, or no Parquet file"
        raise DataError(f"cannot read: {reason}", place=str(path), hint="fetch it again") from None


def _pyarrow() -> Any:
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise UsageError("Parquet files need the package pyarrow", hint="pip install 'snnc[parquet]'") from None
