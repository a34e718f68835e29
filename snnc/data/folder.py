"""Folders of samples: which are in use, in what order, and of which classes."""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from snnc.data.labels import CLASSES, FILE_NAME, Classes, Labels, read_labels
from snnc.errors import DataError


def listed(folder: Path, suffixes: Collection[str], noun: str) -> tuple[Sequence[str], Mapping[str, Labels], int]:
    """Return the files in use, by relative names with forward slashes, their labels, and how many others there are.

    With ``labels.csv``, that list is what is used, in its order. Otherwise, sub-folders that hold files of one of the
    ``suffixes`` are the classes, as ``by_class`` says, and otherwise the files of the folder itself are used without
    labels. ``noun`` is what one of them is called. Raises DataError where there is none, and as ``by_class`` does.
    """
    files = files_in(folder)
    if (folder / FILE_NAME).exists():
        names, labels = read_labels(folder)
        used = {FILE_NAME, *names}
        return names, labels, sum(name not in used for name in files)
    samples = of_kind(files, suffixes)
    if not samples:
        hint = f"put {noun}s there ({', '.join(sorted(suffixes))}), in one sub-folder per class if they have labels"
        raise DataError(f"no {noun} in this folder", place=str(folder), hint=hint)
    return samples, by_class(folder, samples, noun), len(files) - len(samples)


def by_class(folder: Path, samples: Sequence[str], noun: str) -> Mapping[str, Labels]:
    """Return the classes of samples by the sub-folder that each is in, no labels where they are in none.

    Names of sub-folders in code-point order ("10" before "2") number the classes from 0; their samples lie anywhere
    below. Raises DataError where some samples lie beside class folders, and where a class folder holds none.
    """
    top = [name for name in samples if "/" not in name]
    if len(top) == len(samples):
        return {}
    if top:
        raise DataError(
            f"{len(top)} of {len(samples)} {noun}s lie beside the class folders, the first is {top[0]!r}",
            place=str(folder),
            hint=f"move them into class folders, or list files and labels in {FILE_NAME}",
        )
    subfolders = sorted(entry.name for entry in entries(folder) if entry.is_dir())
    numbers = {name: number for number, name in enumerate(subfolders)}
    classes = [name.split("/", 1)[0] for name in samples]
    empty = sorted(numbers.keys() - set(classes))
    if empty:
        raise DataError(
            f"no {noun} in this class folder",
            place=str(folder / empty[0]),
            hint=f"it would still take a label: remove it, fill it, or list files and labels in {FILE_NAME}",
        )
    return {CLASSES: Classes(torch.tensor([numbers[name] for name in classes]), tuple(subfolders))}


def files_in(folder: Path) -> list[str]:
    """Return the relative names of all files below a folder; raises DataError where it cannot be read."""
    return list(found_in(folder))


def of_kind(files: Sequence[str], suffixes: Collection[str]) -> list[str]:
    """Return those of some files that have one of the suffixes."""
    return [name for name in files if Path(name).suffix.lower() in suffixes]


def found_in(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield the relative names of all files, folder by folder, each in code-point order.

    Names that begin with a dot are not seen. Raises DataError where a folder cannot be read.
    """
    for entry in entries(folder):
        # A link is followed at the top, where class folders are; deeper, it could lead in circles.
        if entry.is_dir(follow_symlinks=not prefix):
            yield from found_in(folder / entry.name, f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield prefix + entry.name


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by its names; raises DataError where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        place = str(error.filename or folder)
        raise DataError(f"cannot read: {error.strerror}", place=place, hint="check the folder") from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, streamed; raises DataError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", place=str(path), hint="check the file") from None
