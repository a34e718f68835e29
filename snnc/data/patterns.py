"""Data in several files: by a pattern with braces and wildcards, as shells have them, or in a folder."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from pathlib import Path

from snnc.data.folder import PARTS, found_in
from snnc.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")
_WILD = ("*", "?", "[")
# More shards have no data set.
_MOST = 100_000


def is_pattern(path: Path) -> bool:
    """Return whether a path stands for several files: it has braces or wildcards, and is none itself."""
    return any(sign in str(path) for sign in ("{", *_WILD)) and not path.exists()


def matched(path: Path) -> list[Path]:
    """Return the files that a pattern stands for: those of braces in their order, those of wildcards by their names.

    ``{000..146}`` are numbers of as many digits, ``{a,b}`` words. Raises DataError where a file of braces is missing,
    and where no file is of a wildcard.
    """
    found: dict[Path, None] = {}
    for name in _expanded(path):
        wild = any(sign in name for sign in _WILD)
        files = _wild(Path(name)) if wild else [Path(name)]
        if not files or not files[0].exists():
            message = "no file of this name" if wild else "no such file, which the pattern names"
            hint = "check the pattern" if wild else "fetch it, or give a pattern of the files that are there"
            raise DataError(message, place=name, hint=hint)
        found |= dict.fromkeys(files)
    return list(found)


def holds(folder: Path, suffixes: Collection[str], rather: Collection[str]) -> bool:
    """Return whether files with one of the suffixes are in a folder, and none of those that are ``rather`` data."""
    held = False
    for name in found_in(folder):
        suffix = Path(name).suffix.lower()
        if suffix in rather:
            return False
        held = held or suffix in suffixes
    return held


def files_of(path: Path, suffixes: Collection[str]) -> tuple[Path, Sequence[str], tuple[str, ...]]:
    """Return a folder, the files below it that a pattern, a folder or a file stands for, and the other files there.

    Raises DataError where a pattern names other files, and where a folder holds several parts of a data set.
    """
    if path.is_dir():
        below = list(found_in(path))
        names = [name for name in below if Path(name).suffix.lower() in suffixes]
        used = {*names}
        # Of a folder and a file that both name a part, the folder says which it is.
        words = ((name, re.split("[^a-z]+", name.lower())) for name in names)
        parts = {part: name for name, found in words for part in [next((w for w in found if w in PARTS), "")] if part}
        if len(parts) > 1:
            hint = f"give one by a pattern, in quotes: --data '{path / re.sub('[0-9]+', '*', parts[min(parts)])}'"
            raise DataError(f"{' and '.join(sorted(parts))} are parts of data", place=str(path), hint=hint)
        return path, names, tuple(name for name in below if name not in used)
    if not is_pattern(path):
        return path.parent, [path.name], ()
    files = matched(path)
    other = next((file for file in files if file.suffix.lower() not in suffixes or not file.is_file()), None)
    if other is not None:
        hint = f"give a pattern of {' or '.join(sorted(suffixes))} files alone"
        raise DataError("another kind of file among those of the pattern", place=str(other), hint=hint)
    # Not where links lead: those of a cache have names that say nothing.
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return folder, [file.absolute().relative_to(folder).as_posix() for file in files], ()


def _wild(path: Path) -> list[Path]:
    """Return the files that wildcards stand for, by their names; hidden ones are not seen."""
    if any("**" in part and part != "**" for part in path.parts):
        hint = "write ** as the name of a folder alone: a/**/*.png"
        raise DataError("no pattern of files", place=str(path), hint=hint)
    fixed = next(at for at, part in enumerate(path.parts) if any(sign in part for sign in _WILD))
    found = Path(*path.parts[:fixed]).glob("/".join(path.parts[fixed:]))
    return sorted(file for file in found if not file.name.startswith("."))


def _expanded(path: Path) -> Iterator[str]:
    """Yield the names that braces stand for; raises DataError where they are too many, or no list."""
    parts: list[list[str]] = []
    count = 1
    text, at = str(path), 0
    for braces in _BRACES.finditer(text):
        numbers = _NUMBERS.fullmatch(braces[1])
        words = braces[1].split(",")
        if numbers:
            first, last = int(numbers[1]), int(numbers[2])
            count *= max(0, last - first + 1)
            if 0 < count <= _MOST:
                words = [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]
        elif len(words) < 2:
            raise DataError(f"no list: {braces[0]}", place=text, hint="write {000000..000146}, or {train,extra}")
        else:
            count *= len(words)
        if not 0 < count <= _MOST:
            hint = "write numbers from the first to the last: {000000..000146}"
            raise DataError(f"{count:,} files", place=text, hint=hint)
        parts += [[text[at : braces.start()]], words]
        at = braces.end()
    for chosen in product(*parts, [text[at:]]):
        yield "".join(chosen)
