"""AEDAT 4: compressed packets, as the programs of iniVation write them; read by the package aedat."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np

from snnc.data.recordings.extra import package
from snnc.data.recordings.recording import Events, Recording, damaged, recordings
from snnc.errors import DataError, SnncError


@final
@recordings.register("aedat-4")
@dataclass(frozen=True, eq=False)
class Aedat4(Recording):
    """A file of AEDAT 4; ``stream`` is the first of events in it."""

    about: ClassVar[str] = "AEDAT 4 (.aedat4)"
    suffixes: ClassVar[tuple[str, ...]] = (".aedat4",)

    stream: int = 0

    @classmethod
    def opens(cls, path: Path, head: bytes) -> bool:
        return head.startswith(b"#!AER-DAT4")

    @classmethod
    def open(cls, path: Path) -> Self:
        streams = {number: said for number, said in _decoder(path).id_to_stream().items() if said["type"] == "events"}
        if not streams:
            raise DataError("no stream of events in this file", place=str(path), hint="record events, not frames alone")
        number = min(streams)
        return cls(path, (streams[number]["height"], streams[number]["width"]), stream=number)

    def events(self, index: int) -> Iterator[Events]:
        packets = _decoder(self.path)
        while True:
            try:
                packet = next(packets, None)
            except Exception as error:  # the library has no errors of its own
                raise damaged(self.path, error) from None
            if packet is None:
                return
            if packet["stream_id"] == self.stream and "events" in packet:
                found = packet["events"]
                yield Events(found["x"], found["y"], found["on"].astype(np.uint8), found["t"].astype(np.int64))


def _decoder(path: Path) -> Any:
    try:
        return package("aedat", path).Decoder(path)
    except SnncError:
        raise
    except Exception as error:  # as above
        raise damaged(path, error) from None
