"""The functions of a kind of neuron in C: one step, and what it has learned when it starts again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from snnc.formats.c.functions import NEXT
from snnc.formats.c.language import recurred
from snnc.formats.onnx.neurons import Recurrence

_PATTERN = ("int32_t n_", "int32_t inner_", "int32_t count_")


@final
@dataclass(frozen=True)
class NeuronFunctions:
    """The text of both functions, in which NAME is what they are called, and what each of them is given.

    A step is given ``x``, ``y``, all states, some ``constants``, ``tables`` with their lengths, and the time where the
    recurrence counts it; a new start some ``states`` and ``begins``, which are constants and starts.
    """

    step: str
    constants: tuple[str, ...]
    tables: tuple[str, ...]
    again: str = ""
    states: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Kinds:
    """The types of numbers of a layer of neurons: those computed with, what comes in and goes out, and by name others.

    Others are constants and states: of whole numbers the smallest that hold them.
    """

    own: str = "float"
    taken: str = "float"
    sent: str = "float"
    others: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """Return the type of a constant or a state."""
        return self.others.get(name, self.own)

    def cast(self, value: str, kind: str) -> str:
        """Return a value that is computed as one of a type."""
        return value if kind == self.own else f"({kind}){value}"


def neuron_functions(form: Recurrence, kinds: Kinds, *, rehearses: bool) -> NeuronFunctions:
    """Write a recurrence; raises ModelError where it is made of what nobody has written in C."""
    found = recurred(form, kinds.own)
    asked = _words(found.advance)
    constants = tuple(name for name in form.constants if name in asked and name not in found.tables)
    parameters = [
        f"const {kinds.taken} *x_",
        f"{kinds.sent} *y_",
        *(f"{kinds.of(state)} *{state}_state" for state in form.starts),
        *(f"const {kinds.of(name)} *{name}_values" for name in constants),
        *(parameter for name in found.tables for parameter in (f"const float *{name}", f"float {name}_length")),
        *([f"{kinds.own} {form.counts}"] if form.counts else []),
        *_PATTERN,
    ]
    body = [
        f"const {kinds.own} x = x_[i_];",
        *_read(form, asked, constants, kinds),
        *found.advance,
        f"y_[i_] = {kinds.cast('spikes', kinds.sent)};",
        *(f"{state}_state[i_] = {kinds.cast(f'next_{state}', kinds.of(state))};" for state in form.starts),
    ]
    step = f"/* {form.about.replace('*/', '')} */\n{_looped('step', parameters, body)}"
    if not (form.learned and rehearses):
        return NeuronFunctions(step, constants, found.tables)
    asked = _words(found.rehearsed)
    states = tuple(state for state in form.starts if state in asked or state in form.learned)
    begins = tuple(name for name in (*form.constants, *(f"start_{state}" for state in form.starts)) if name in asked)
    parameters = [
        *(f"{kinds.of(state)} *{state}_state" for state in states),
        *(f"const {kinds.of(name)} *{name}_values" for name in begins),
        *_PATTERN,
    ]
    body = [
        *_read(form, asked, begins, kinds),
        *found.rehearsed,
        *(f"{state}_state[i_] = again_{state};" for state in form.learned),
    ]
    return NeuronFunctions(step, constants, found.tables, _looped("again", parameters, body), states, begins)


def _words(lines: Iterable[str]) -> set[str]:
    return {word for line in lines for word in re.findall(r"\w+", line.partition(" = ")[2])}


def _read(form: Recurrence, asked: set[str], constants: Sequence[str], kinds: Kinds) -> list[str]:
    return [
        *(f"const {kinds.own} {name} = {name}_values[c_];" for name in constants),
        *(f"const {kinds.own} {state} = {state}_state[i_];" for state in form.starts if state in asked),
    ]


def _looped(what: str, parameters: Sequence[str], body: Sequence[str]) -> str:
    """Write a function that does the same for every neuron."""
    lines = "\n        ".join([*body, re.sub(r"\b(inner|count|k|c)\b", r"\1_", NEXT)])
    head = f"static void NAME_{what}({', '.join(parameters)}) {{"
    return f"{head}\n    for (int32_t i_ = 0, c_ = 0, k_ = 0; i_ < n_; ++i_) {{\n        {lines}\n    }}\n}}"
