"""Tar files, read where they lie: which files are in one, and where. Nothing is unpacked."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn, Self, final

from snnc.errors import DataError
from snnc.files import check_file

_BLOCK = 512
_SIZE = re.compile(rb"[0-9]{1,20}")
_END = bytes(_BLOCK)
# Headers that hold names; no name is longer.
_LONGEST = 1 << 16
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_FILES, _FOLDER, _LONG_NAME, _EXTENDED = (b"0", b"\0", b"7"), b"5", b"L", b"x"
# What says something of the archive or of where a link leads.
_PASSED_BY = (b"g", b"K", b"V")
_OTHERS = {
    b"1": "a link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a file with holes",
}
_HINT = "fetch it again, or pack it again"


class Member(NamedTuple):
    """A file in an archive: its name, and the place of its bytes."""

    name: str
    offset: int
    size: int


@final
class Archive:
    """A tar file that is open until the context ends; may be read from several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._size = check_file(self._path)
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", place=str(self._path), hint="check the file") from None
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def members(self) -> Iterator[Member]:
        """Yield the files in their order, reading all headers once; folders are passed by.

        Raises DataError where it is empty, compressed, damaged or cut short, and at a link, a pipe or a device.
        """
        if not self._size:
            raise DataError("an empty file", place=str(self._path), hint=_HINT)
        return _members(self._read, self._size, self._path)

    def content(self, member: Member) -> bytes:
        """Return the bytes of a file; raises DataError where they cannot be read."""
        found = self._read(member.size, member.offset)
        if len(found) < member.size:
            raise DataError("cut short since it was opened", place=f"{self._path}:{member.name}", hint=_HINT)
        return found

    def _read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", place=str(self._path), hint="check the file") from None


def _members(read: Callable[[int, int], bytes], size: int, path: Path) -> Iterator[Member]:
    at, name, stated = 0, b"", None
    while (header := read(_BLOCK, at)) != _END:
        if len(header) < _BLOCK:
            if at == 0:
                _damaged(path, at)
            raise DataError("cut short: it has no end", place=str(path), hint=_HINT)
        if at == 0 and header.startswith(_COMPRESSED):
            hint = "unpack it to a plain .tar: samples are read in any order"
            raise DataError("a compressed tar file", place=str(path), hint=hint)
        try:
            right = sum(header) - sum(header[148:156]) + 8 * ord(" ") == _number(header[148:156])
            length = _number(header[124:136]) if stated is None else stated
        except ValueError:
            right = False
        if not right:
            _damaged(path, at)
        kind, start = header[156:157], at + _BLOCK
        # Older archives have other things where the folder stands.
        folder = _text(header[345:500]) if header[257:263] == b"ustar\0" else b""
        called = (name or b"/".join(part for part in (folder, _text(header[:100])) if part)).decode(errors="replace")
        place = f"{path}:{called}"
        if start + length > size:
            raise DataError("cut short: the rest of this file is missing", place=place, hint=_HINT)
        at = start + -(-length // _BLOCK) * _BLOCK
        if kind in (_LONG_NAME, _EXTENDED):
            if length > _LONGEST:
                _damaged(path, start)
            text = read(length, start)
            if kind == _LONG_NAME:
                name = _text(text)
                continue
            said = _said(text, path, start)
            name = said.get(b"path", name)
            if any(key.startswith(b"GNU.sparse") for key in said):
                raise DataError("a file with holes", place=place, hint=_HINT)
            if b"size" in said:
                stated = int(said[b"size"]) if _SIZE.fullmatch(said[b"size"]) else _damaged(path, start)
            continue
        if kind in _OTHERS:
            hint = "pack the files themselves: tar --dereference --hard-dereference"
            raise DataError(f"{_OTHERS[kind]}, no file", place=place, hint=hint)
        if kind in _FILES and not called.endswith("/"):
            yield Member(called.removeprefix("./"), start, length)
        elif kind not in (*_FILES, _FOLDER, *_PASSED_BY):
            _damaged(path, start)
        if kind not in _PASSED_BY:
            name, stated = b"", None


def _said(text: bytes, path: Path, at: int) -> dict[bytes, bytes]:
    """Return the records of an extended header, each ``LENGTH KEY=VALUE`` and a line's end."""
    found = {}
    while text.rstrip(b"\0"):
        digits, _, _ = text.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < len(str(_LONGEST)) + 1 else 0
        key, equals, value = text[len(digits) + 1 : length].partition(b"=")
        if not equals or length > len(text) or not value.endswith(b"\n"):
            _damaged(path, at)
        found[key], text = value[:-1], text[length:]
    return found


def _number(field: bytes) -> int:
    """Return an octal number, or one in base 256; raises ValueError where it is none."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    return int(field.strip(b"\0 ") or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _damaged(path: Path, at: int) -> NoReturn:
    raise DataError(f"damaged, or no tar file: no header at byte {at:,}", place=str(path), hint=_HINT)
