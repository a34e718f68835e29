"""Folders of samples: which are in use, in what order, and of which classes."""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from snnc.data.labels import CLASSES, FILE_NAME, Classes, Labels, read_labels
from snnc.data.noticed import in_natural_order
from snnc.errors import DataError
from snnc.files import kind_of, linked

# How class folders are numbered, as preprocessing says.
Order = Literal["auto", "name", "natural"]

# What systems put into folders that they keep, share or pack.
_HOUSEKEEPING = {
    *("@eadir", "@recycle", "@thumb", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found"),
    *("desktop.ini", "ehthumbs.db", "icon\r", "system volume information", "thumbs.db"),
}
# Folders within folders.
_DEEPEST = 64
# Folders that are parts of a data set, none of its classes.
PARTS = {"dev", "eval", "test", "testing", "train", "training", "val", "valid", "validation"}


def listed(
    folder: Path, suffixes: Collection[str], noun: str, order: Order = "auto"
) -> tuple[Sequence[str], Mapping[str, Labels], tuple[str, ...]]:
    """Return the files in use, by relative names with forward slashes, their labels, and the others.

    With ``labels.csv``, that list is what is used, in its order, and nothing is left out. Otherwise, sub-folders that
    hold files of one of the ``suffixes`` are the classes, as ``by_class`` says, and otherwise the files of the folder
    itself are used without labels. ``noun`` is what one of them is called. Raises DataError where there is none, and as
    ``by_class`` does.
    """
    if (folder / FILE_NAME).exists():
        return *read_labels(folder), ()
    files = files_in(folder)
    samples = of_kind(files, suffixes)
    if not samples:
        hint = f"put {noun}s there ({', '.join(sorted(suffixes))}), in one sub-folder per class if they have labels"
        raise DataError(f"no {noun} in this folder", place=str(folder), hint=hint)
    # Of many files there is one list, where nothing is left out.
    others = {*files} - {*samples} if len(samples) < len(files) else ()
    return samples, by_class(folder, samples, noun, order), tuple(name for name in files if name in others)


def by_class(folder: Path, samples: Sequence[str], noun: str, order: Order = "auto") -> Mapping[str, Labels]:
    """Return the classes of samples by the sub-folder that each is in, no labels where they are in none.

    Names of sub-folders in code-point order ("10" before "2"), or in natural ``order``, number the classes from 0;
    their samples lie anywhere below. Raises DataError where some samples lie beside class folders, where a class folder
    holds none, and where the folders are parts of a data set.
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
    subfolders = [entry.name for entry in entries(folder) if entry.is_dir()]
    if {name.casefold() for name in subfolders} <= PARTS:
        raise DataError(
            f"{' and '.join(subfolders)} {'is a part' if len(subfolders) == 1 else 'are parts'} of data, no class",
            place=str(folder),
            hint=f"give one of them: --data {folder / subfolders[-1]}",
        )
    if order == "natural":
        subfolders.sort(key=in_natural_order)
    numbers = {name: number for number, name in enumerate(subfolders)}
    empty = sorted(numbers.keys() - {name.split("/", 1)[0] for name in samples})
    if empty:
        raise DataError(
            f"no {noun} in this class folder",
            place=str(folder / empty[0]),
            hint=f"it would still take a label: remove it, fill it, or list files and labels in {FILE_NAME}",
        )
    return {CLASSES: Classes(torch.tensor([numbers[name.split("/", 1)[0]] for name in samples]), tuple(subfolders))}


def files_in(folder: Path) -> list[str]:
    """Return the relative names of all files below a folder; raises DataError where it cannot be read."""
    return list(found_in(folder))


def of_kind(files: Sequence[str], suffixes: Collection[str]) -> list[str]:
    """Return those of some files that have one of the suffixes."""
    # Paths would keep every name in the interpreter's table of strings.
    return [name for name in files if name.lower().endswith(tuple(suffixes))]


def found_in(folder: Path, prefix: str = "", above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the relative names of all files, folder by folder, each in code-point order; links are followed.

    Names that begin with a dot, what systems put there for themselves, and links to a folder ``above`` are not seen.
    Raises DataError where a folder cannot be read, and where a link leads nowhere.
    """
    above = within(folder, above)
    for entry in entries(folder):
        if entry.is_dir():
            if leads_back(entry, above):
                continue
            yield from found_in(folder / entry.name, f"{prefix}{entry.name}/", above)
        else:
            yield prefix + file_name(entry)


def within(folder: Path, above: frozenset[str]) -> frozenset[str]:
    """Return the folders above what a folder holds; raises DataError where they are more than anybody has."""
    if len(above) > _DEEPEST:
        hint = "give a folder further down, or put the files into fewer folders"
        raise DataError(f"folders nested more than {_DEEPEST} deep", place=str(folder), hint=hint)
    return above | {os.path.realpath(folder)}


def file_name(entry: os.DirEntry[str]) -> str:
    """Return what to call what is no folder: by its name, behind which is what it is where it is no file either.

    So called, a pipe, a socket or a device is no sample, and told among what was left out. Raises DataError where it is
    a link that leads nowhere, or once led to a folder.
    """
    if entry.is_file():
        if "." not in entry.name and linked(Path(entry.path)).is_dir():
            hint = "make it a link again (git: core.symlinks=true), or put the folder there"
            raise DataError("a link to a folder, written as a text", place=entry.path, hint=hint)
        return entry.name
    if not Path(entry.path).exists():
        raise DataError("a link that leads nowhere", place=entry.path, hint="mend it or remove it")
    return f"{entry.name} ({kind_of(entry.stat())})"


def leads_back(entry: os.DirEntry[str], above: Collection[str]) -> bool:
    """Return whether a folder is a link to one of those ``above`` it, as they are really called: it adds nothing."""
    return entry.is_symlink() and os.path.realpath(entry.path) in above


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by its names; raises DataError where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            seen = (entry for entry in found if not entry.name.startswith("."))
            kept = [entry for entry in seen if entry.name.casefold() not in _HOUSEKEEPING]
            for entry in kept:
                # Of a link that leads in circles the system says so here, and of others what they are from now on.
                entry.is_dir()
            return sorted(kept, key=lambda entry: entry.name)
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
