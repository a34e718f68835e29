"""What a file in C keeps: constants, states, and functions that are called, each once and under a name of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from snnc.formats.c.functions import SOURCES, needed
from snnc.formats.c.language import WIDTHS, Array, Names, Value, declared, type_of
from snnc.formats.c.operations import Record

# What of a file belongs to no layer.
OTHERS = "others"

# Bytes of a whole number of a record.
_WIDTH = WIDTHS["int32_t"]


@final
@dataclass
class Footprint:
    """What a layer takes, in bytes: constants, what is kept from step to step, and its value while it is computed."""

    constants: int = 0
    state: int = 0
    scratch: int = 0


@final
class Storage:
    """Declarations as they come to be, and what memory they take; alive for one export.

    ``time`` is the type of what there is of the time.
    """

    def __init__(self, names: Names, time: str) -> None:
        self.names = names
        self.constants: list[str] = []
        self.states: list[str] = []
        self.memory: dict[str, Footprint] = {}
        self._time = time
        self._own: list[str] = []
        self._called: set[str] = set()
        # Functions for some types, by what they are called.
        self._typed: dict[str, tuple[str, dict[str, str]]] = {}
        # By content the names of constants and functions.
        self._kept: dict[tuple[str, ...], str] = {}

    def of(self, owner: str) -> Footprint:
        """Return what a layer takes, to be added to."""
        return self.memory.setdefault(owner, Footprint())

    def call(self, function: str, *arguments: object) -> str:
        """Return a call of one of the functions that files are made of, for numbers of the types that it is given."""
        types: dict[str, str] = {}
        for letter, argument in zip(SOURCES[function].letters, arguments, strict=True):
            if isinstance(argument, Value) and letter and types.setdefault(letter, argument.kind) != argument.kind:
                raise TypeError(f"{function} takes {argument.kind} where it has {types[letter]}")
        types = {letter: types.get(letter, self._time) for letter in sorted({*SOURCES[function].letters} - {""})}
        name = function
        if any(kind != "float" for kind in types.values()):
            content = (function, *types.values())
            if content not in self._kept:
                self._kept[content] = self.names.new(function, *(kind.removesuffix("_t") for kind in types.values()))
            name = self._kept[content]
        self._called.add(function)
        self._typed[name] = function, types
        return f"{name}({', '.join(map(str, arguments))});"

    @property
    def functions(self) -> Iterator[str]:
        """The text of all functions and types, each behind what it needs."""
        for function in needed(self._called):
            typed = [(name, types) for name, (known, types) in self._typed.items() if known == function]
            for name, types in typed or [(function, {})]:
                yield SOURCES[function].written(function, name, types)
        yield from self._own

    def state(self, owner: str, part: str, size: int, kind: str) -> Value:
        """Keep so many numbers from step to step, and return what they are called."""
        name = self.names.new(owner, part)
        self.states.append(f"static {kind} {name}[{max(size, 1)}];")
        self.of(owner).state += WIDTHS[kind] * max(size, 1)
        return Value(name, kind)

    def constant(self, owner: str, part: str, array: Array) -> Value:
        """Keep constants, and return what they, or those that are the same, are called."""
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        content = (array.dtype.str, str(array.size), digest)
        if content not in self._kept:
            name = self._kept[content] = self.names.new(owner, part)
            self.constants.append(declared(name, array))
            self.of(owner).constants += array.nbytes
        return Value(self._kept[content], type_of(array))

    def record(self, owner: str, part: str, record: Record) -> str:
        """Keep a constant of a type of the file, and return where it is."""
        self._called.add(record.kind)
        fields = (entry if isinstance(entry, tuple) else (entry,) for entry in record.fields)
        numbers = sum(map(len, fields))
        body = str(record.fields).replace("(", "{").replace(")", "}")
        content = (record.kind, body)
        if content not in self._kept:
            name = self._kept[content] = self.names.new(owner, part)
            self.constants.append(f"static const {record.kind} {name} = {body};")
            self.of(owner).constants += _WIDTH * numbers
        return f"&{self._kept[content]}"

    def functions_of(self, kind: str, *texts: str) -> str:
        """Keep functions whose names start with NAME, once, and return what stands in the place of that."""
        if texts not in self._kept:
            name = self._kept[texts] = self.names.new(kind)
            self._own += [text.replace("NAME", name) for text in texts if text]
            self._called |= {function for function in SOURCES if any(f"{function}(" in text for text in texts)}
        return self._kept[texts]
