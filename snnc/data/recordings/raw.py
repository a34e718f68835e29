"""Prophesee RAW: the words of the camera behind a header of text, in one of several encodings."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import numpy as np

from snnc.data.recordings import evt2, evt3
from snnc.data.recordings.recording import Events, Recording, header_lines, recordings, records
from snnc.errors import DataError

_CODECS: Mapping[str, tuple[np.dtype[np.unsignedinteger], Callable[[Iterator[np.ndarray]], Iterator[Events]]]] = {
    "EVT2": (evt2.WORD, evt2.decoded),
    "EVT3": (evt3.WORD, evt3.decoded),
}


@final
@recordings.register("prophesee-raw")
@dataclass(frozen=True, eq=False)
class Raw(Recording):
    """A RAW file; ``start`` is where its events begin, ``codec`` how they are encoded."""

    about: ClassVar[str] = "Prophesee RAW (.raw: EVT2, EVT3)"
    suffixes: ClassVar[tuple[str, ...]] = (".raw",)

    start: int = 0
    codec: str = "EVT3"

    @classmethod
    def opens(cls, path: Path, head: bytes) -> bool:
        return head.startswith(b"% ")

    @classmethod
    def open(cls, path: Path) -> Self:
        lines, start = header_lines(path, b"% ", b"% end")
        said = {key: value.strip() for key, _, value in (line.partition(" ") for line in lines)}
        # As in "EVT3;height=720;width=1280"; earlier in lines of their own, as in "evt 3.0" and "geometry 1280x720".
        codec, *options = said.get("format", "").split(";")
        said |= {key: value for key, _, value in (option.partition("=") for option in options)}
        if not codec:
            codec = f"EVT{said.get('evt', '').removesuffix('.0').replace('.', '')}"
        if codec not in _CODECS or said.get("endianness", "little") != "little":
            order = said.get("endianness", "little")
            shown = codec if order == "little" else f"{codec}, {order}-endian"
            hint = f"known: {', '.join(_CODECS)}, little-endian; Metavision converts others"
            raise DataError(f"an unknown codec: {shown}", place=str(path), hint=hint)
        size = re.search(r"(\d+)x(\d+)", said.get("geometry", "")) or re.fullmatch(
            r"(\d+)x(\d+)", f"{said.get('width', '')}x{said.get('height', '')}"
        )
        return cls(path, (int(size[2]), int(size[1])) if size else None, start=start, codec=codec)

    def events(self, index: int) -> Iterator[Events]:
        word, decoded = _CODECS[self.codec]
        yield from decoded(records(self.path, word, self.start))
