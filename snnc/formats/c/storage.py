"""What a file in C keeps: constants, states, and functions that are called, each once and under a name of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import final

from snnc.formats.c.functions import SOURCES
from snnc.formats.c.language import Array, Names, declared
from snnc.formats.c.operations import Record

# Bytes of a number, whole or not.
WIDTH = 4

# What of a file belongs to no layer.
OTHERS = "others"


@final
@dataclass
class Footprint:
    """What a layer takes, in bytes: constants, what is kept from step to step, and its value while it is computed."""

    constants: int = 0
    state: int = 0
    scratch: int = 0


@final
class Storage:
    """Declarations as they come to be, and what memory they take; alive for one export."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.constants: list[str] = []
        self.states: list[str] = []
        self.functions: list[str] = []
        self.called: set[str] = set()
        self.memory: dict[str, Footprint] = {}
        # By content the names of constants and functions.
        self._kept: dict[tuple[str, ...], str] = {}

    def of(self, owner: str) -> Footprint:
        """Return what a layer takes, to be added to."""
        return self.memory.setdefault(owner, Footprint())

    def call(self, function: str, *arguments: object) -> str:
        """Return a call of one of the functions that files are made of."""
        assert function in SOURCES
        self.called.add(function)
        return f"{function}({', '.join(map(str, arguments))});"

    def state(self, owner: str, part: str, size: int) -> str:
        """Keep so many numbers from step to step, and return what they are called."""
        name = self.names.new(owner, part)
        self.states.append(f"static float {name}[{max(size, 1)}];")
        self.of(owner).state += WIDTH * max(size, 1)
        return name

    def constant(self, owner: str, part: str, array: Array) -> str:
        """Keep constants, and return what they, or those that are the same, are called."""
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        content = (array.dtype.str, str(array.size), digest)
        if content not in self._kept:
            name = self._kept[content] = self.names.new(owner, part)
            self.constants.append(declared(name, array))
            self.of(owner).constants += WIDTH * array.size
        return self._kept[content]

    def record(self, owner: str, part: str, record: Record) -> str:
        """Keep a constant of a type of the file, and return where it is."""
        self.called.add(record.kind)
        fields = (entry if isinstance(entry, tuple) else (entry,) for entry in record.fields)
        numbers = sum(map(len, fields))
        body = str(record.fields).replace("(", "{").replace(")", "}")
        content = (record.kind, body)
        if content not in self._kept:
            name = self._kept[content] = self.names.new(owner, part)
            self.constants.append(f"static const {record.kind} {name} = {body};")
            self.of(owner).constants += WIDTH * numbers
        return f"&{self._kept[content]}"

    def functions_of(self, kind: str, *texts: str) -> str:
        """Keep functions whose names start with NAME, once, and return what stands in the place of that."""
        if texts not in self._kept:
            name = self._kept[texts] = self.names.new(kind)
            self.functions += [text.replace("NAME", name) for text in texts if text]
            self.called |= {function for function in SOURCES if any(f"{function}(" in text for text in texts)}
        return self._kept[texts]
