"""Tar shards as WebDataset has them: files whose names differ only in their ends are one sample."""

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, final

import numpy as np
import torch
from PIL import Image

from snnc.data.arrays import one_row
from snnc.data.decoding import decode
from snnc.data.images import SUFFIXES as IMAGES
from snnc.data.images import one_input, only_input
from snnc.data.labels import CLASSES, LABEL_COLUMNS, Classes, Labels, class_number, numbers_of
from snnc.data.patterns import files_of, holds
from snnc.data.preprocessing import MOST_CLASSES
from snnc.data.source import Array, Source, sources
from snnc.data.tar import Archive, Member
from snnc.data.transform import Transform
from snnc.errors import DataError
from snnc.process import memory

_SUFFIXES = {".tar"}
_TAR = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|xz|zst))$")
_ARRAY, _CLASS, _MAPPING, _TEXT = "npy", "cls", "json", "txt"
# What a mapping calls its label.
_KEYS = ("cls", *LABEL_COLUMNS)
# Labels are short; texts may be captions, and larger mappings hold more than a label.
_LONGEST = {_CLASS: 1 << 10, _MAPPING: 1 << 20, _TEXT: 1 << 5}
# One file may take this share of the memory: several are read at once.
_SHARE = 16


class _Sample(NamedTuple):
    """What is read of a sample, and what it shows: a class, a number or a row of them, None where nothing says it."""

    data: Member
    label: Any
    text: str


@final
@sources.register("shards")
@dataclass(frozen=True, eq=False)
class Shards(Source):
    """The samples of tar files, in their order; what each shows stands beside it, in .cls, .json or .txt.

    Samples are called by their shard, relative to ``folder``, and their name there; ``places`` are their shards, and
    where in these they lie, ``[N, 3]`` with their sizes.
    """

    about: ClassVar[str] = "a folder of tar shards (.tar), one, or a pattern of their names"
    several: ClassVar[bool] = True

    folder: Path
    shards: Sequence[str]
    names: Sequence[str]
    places: Array
    input: str
    transform: Transform

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        # Of what is compressed, whoever opens it says so.
        return holds(path, _SUFFIXES, IMAGES) if path.is_dir() else bool(_TAR.search(path.name.lower()))

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        # As for images.
        Image.init()
        folder, shards, beside = files_of(path, _SUFFIXES)
        names: list[str] = []
        # Compact: there may be millions.
        places = array("q")
        shown: list[Any] = []
        texts: list[str] = []
        others = [*beside]
        for number, shard in enumerate(shards):
            before = len(names)
            for sample in _samples(folder / shard, others):
                names.append(sample.data.name)
                places.extend((number, sample.data.offset, sample.data.size))
                shown.append(sample.label)
                texts.append(sample.text)
            if len(names) == before:
                hint = "fetch it again, or leave it out"
                raise DataError("no sample in this shard", place=str(folder / shard), hint=hint)
        arrays = all(name.endswith(f".{_ARRAY}") for name in names)
        name, transform = (one_input if arrays else only_input)(inputs, path)
        source = cls({}, tuple(others), folder, shards, names, np.array(places).reshape(-1, 3), name, transform)
        return replace(source, labels=source._labels(shown, texts))

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return f"{self.shards[self.places[index, 0]]}/{self.names[index]}"

    def place(self, index: int) -> str:
        return f"{self._shard(index)}:{self.names[index]}"

    def read(self, index: int) -> Mapping[str, Array]:
        found, place = self._content(index), self.place(index)
        if self.names[index].lower().endswith(f".{_ARRAY}"):
            return {self.input: one_row(found, self.names[index], self.transform, self._shard(index))}
        gray = self.transform.channels == 1
        return {self.input: decode(BytesIO(found), gray=gray, noticed=self.noticed, place=place)}

    def digest(self, index: int) -> str:
        return sha256(self._content(index)).hexdigest()

    def _shard(self, index: int) -> Path:
        return Path(self.folder, self.shards[self.places[index, 0]])

    def _content(self, index: int) -> bytes:
        _, offset, size = self.places[index].tolist()
        if size > memory() // _SHARE:
            hint = "leave it out, or give more with --memory"
            raise DataError(f"{size:,} bytes are too much for one sample", place=self.place(index), hint=hint)
        with Archive(self._shard(index)) as archive:
            return archive.content(Member(self.names[index], offset, size))

    def _labels(self, shown: list[Any], texts: list[str]) -> Mapping[str, Labels]:
        """Return what samples show; raises DataError where only some show anything, or things of several kinds."""
        if all(label is None for label in shown) and all(re.fullmatch("[0-9]{1,9}", text) for text in texts):
            shown = [int(text) for text in texts]
        missing = next((index for index, label in enumerate(shown) if label is None), None)
        if missing is not None:
            if any(label is not None for label in shown):
                hint = "pack its label beside it (.cls), or leave it out"
                raise DataError("a sample without a label among such as have one", place=self.place(missing), hint=hint)
            return {}
        if all(isinstance(label, int) for label in shown):
            return {CLASSES: Classes(torch.tensor(shown))}
        rows = [label if isinstance(label, list) else [label] for label in shown]
        odd = next((index for index, row in enumerate(rows) if len(row) != len(rows[0])), None)
        if odd is not None:
            hint = "give each sample a class, or each as many numbers"
            raise DataError(
                f"a label of {len(rows[odd])} numbers, where the first has {len(rows[0])}",
                place=self.place(odd),
                hint=hint,
            )
        return numbers_of(torch.tensor(rows, dtype=torch.float32))


def _samples(shard: Path, others: list[str]) -> Iterator[_Sample]:
    """Yield the samples of a shard, and add the files that are none to ``others``.

    Raises DataError where a label has no sample, a sample two files, or two samples one name.
    """
    seen: set[str] = set()
    with Archive(shard) as archive:
        visible = (member for member in archive.members() if not member.name.rpartition("/")[2].startswith("."))
        for key, group in groupby(visible, lambda member: _parts(member.name)[0]):
            files: dict[str, Member] = {}
            for member in group:
                kind = _parts(member.name)[1]
                if files.setdefault(kind, member) is not member:
                    raise _twice(shard, member)
            label, text = _shown(archive, shard, files)
            data = [member for kind, member in files.items() if kind == _ARRAY or f".{kind}" in IMAGES]
            if not data and label is not None:
                named = files.get(_CLASS) or files[_MAPPING]
                hint = "pack its image beside it, under the same name, or leave it out"
                raise DataError("a label without a sample", place=f"{shard}:{named.name}", hint=hint)
            if len(data) > 1:
                hint = "pack one image or array for each sample"
                place = f"{shard}:{data[1].name}"
                raise DataError(f"a second one beside {data[0].name!r}", place=place, hint=hint)
            if not data:
                others += [f"{shard.name}:{member.name}" for member in files.values()]
                continue
            if key in seen:
                raise _twice(shard, data[0])
            seen.add(key)
            yield _Sample(data[0], label, text)


def _shown(archive: Archive, shard: Path, files: Mapping[str, Member]) -> tuple[Any, str]:
    """Return what the files of a sample say that it shows, and a text that may be its class where nothing else is."""
    if _CLASS in files:
        return class_number(_short(archive, shard, files[_CLASS]).strip(), f"{shard}:{files[_CLASS].name}"), ""
    if _MAPPING in files:
        return _stated(_short(archive, shard, files[_MAPPING]), f"{shard}:{files[_MAPPING].name}"), ""
    if _TEXT in files and files[_TEXT].size <= _LONGEST[_TEXT]:
        return None, _short(archive, shard, files[_TEXT]).strip()
    return None, ""


def _parts(name: str) -> tuple[str, str]:
    """Return what all files of a sample are called, up to the first dot, and the last end of one, in small letters."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}", file.rpartition(".")[2].lower()


def _short(archive: Archive, shard: Path, member: Member) -> str:
    place = f"{shard}:{member.name}"
    most = _LONGEST[_parts(member.name)[1]]
    if member.size > most:
        raise DataError(f"larger than {most:,} bytes: no label", place=place, hint="pack labels alone")
    try:
        return archive.content(member).decode()
    except UnicodeDecodeError:
        raise DataError("no text in UTF-8", place=place, hint="write the number of the class as a text") from None


def _stated(text: str, place: str) -> Any:
    """Return the label that JSON states: a number or a row of numbers, alone or in a mapping; None without one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("no JSON", place=place, hint='write {"label": 3}') from None
    if isinstance(found, Mapping):
        found = next((found[key] for key in _KEYS if key in found), None)
    row = found if isinstance(found, list) and found else [found]
    if all(type(number) in (int, float) and abs(number) <= MOST_CLASSES for number in row):
        return found
    if found is None:
        return None
    raise DataError(f"the label {found!r:.40} is no number", place=place, hint="number the classes from 0")


def _twice(shard: Path, member: Member) -> DataError:
    hint = "give each sample a name of its own, and pack its files one behind the other"
    return DataError("a name that another sample has", place=f"{shard}:{member.name}", hint=hint)
