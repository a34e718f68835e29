"""How numbers, names and recurrences are spelled in C."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snnc.errors import ModelError
from snnc.formats.onnx.neurons import Recurrence
from snnc.rules import RefusedError
from snnc.text import identifier

Array = NDArray[Any]

# Names in a file are distinct in so many characters, which every compiler tells apart.
_LONGEST_NAME = 48

# The types of numbers, and the bytes of each.
WIDTHS = {"float": 4, "uint8_t": 1, "int8_t": 1, "int16_t": 2, "int32_t": 4, "int64_t": 8}

_TYPES = {"f4": "float", "i1": "int8_t", "i2": "int16_t", "i4": "int32_t", "i8": "int64_t"}

# Results of comparisons are 0 and 1.
_EXPRESSIONS = {
    "Abs": "{0} < 0.0f ? -{0} : {0}",
    "Add": "{0} + {1}",
    "And": "{0} != 0.0f && {1} != 0.0f",
    "Cast": "{0}",
    "CastLike": "{0}",
    "Clip": "{0} < {1} ? {1} : {0} > {2} ? {2} : {0}",
    "Div": "{0} / {1}",
    "Floor": "rounded_down({0})",
    "Gather": "{0}[(int32_t){1}]",
    "Greater": "{0} > {1}",
    "GreaterOrEqual": "{0} >= {1}",
    "Identity": "{0}",
    "Less": "{0} < {1}",
    "LessOrEqual": "{0} <= {1}",
    "Max": "{0} > {1} ? {0} : {1}",
    "Min": "{0} < {1} ? {0} : {1}",
    "Mul": "{0} * {1}",
    "Neg": "-{0}",
    "Or": "{0} != 0.0f || {1} != 0.0f",
    "PRelu": "{0} < 0.0f ? {0} * {1} : {0}",
    "Shape": "{0}_length",
    "Sign": "(float)(({0} > 0.0f) - ({0} < 0.0f))",
    "Squeeze": "{0}",
    "Sub": "{0} - {1}",
    "Where": "{0} != 0.0f ? {1} : {2}",
}

# Of whole numbers quotients are rounded down; nothing is divided by what is below zero.
_WHOLE_EXPRESSIONS = {
    **{kind: spelling.replace("0.0f", "0").replace("(float)", "") for kind, spelling in _EXPRESSIONS.items()},
    "Div": "{0} / {1} - ({0} % {1} < 0)",
    "Floor": "{0}",
}

# What stands in a text as it is.
_PLAIN = frozenset(f"{string.ascii_letters}{string.digits} ._-:".encode())

_STATEMENT = re.compile(r"(\w+) = (\w+)(?:<([^>]*)>)?\(([^()]*)\)")


@final
class Names:
    """Names that nothing else in a file has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def new(self, *wanted: str) -> str:
        """Return a name made of words, whatever characters they are of."""
        plain = identifier("_".join(wanted))[-_LONGEST_NAME:].strip("_")
        name = plain = identifier(plain)
        count = 1
        while name in self._taken:
            count += 1
            name = f"{plain}_{count}"
        self._taken.add(name)
        return name


def number(value: float) -> str:
    """Write a number in single precision, so that it is read as that very number."""
    single = np.float32(value)
    if math.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    digits = str(single)
    return f"{digits}f" if "." in digits or "e" in digits else f"{digits}.0f"


@final
class Value(str):
    """Where numbers lie, and of which type they are."""

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, place: str, kind: str) -> Value:
        """Say where numbers of a kind lie."""
        value = super().__new__(cls, place)
        value.kind = kind
        return value


def integer_type(least: float, most: float) -> str:
    """Return the smallest type that holds whole numbers from the least to the most; raises RefusedError without one."""
    bits = max(int(most), -int(least) - 1).bit_length() + 1
    for name, width in WIDTHS.items():
        if name.startswith("int") and bits <= 8 * width:
            return name
    raise RefusedError(f"its numbers have {bits} bits, and C has 64", hint="convert with fewer --weight-bits")


def text(value: str) -> str:
    """Write a text, whatever it holds."""
    plain = (chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in value.encode("utf-8", "replace"))
    return f'"{"".join(plain)}"'


def declared(name: str, array: Array) -> str:
    """Write an array of constants."""
    numbers = [number(value) if array.dtype.kind == "f" else str(value) for value in array.ravel()]
    rows = [", ".join(numbers[start : start + 8]) for start in range(0, len(numbers), 8)]
    body = ",\n    ".join(rows)
    return f"static const {type_of(array)} {name}[{array.size}] = {{\n    {body}\n}};"


def type_of(array: Array) -> str:
    """Return the type of an array of constants."""
    return _TYPES[array.dtype.str[1:]]


@final
@dataclass(frozen=True, eq=False)
class Along:
    """Constants, each for ``inner`` numbers one after another, and again from the first behind the last."""

    values: tuple[Array, ...]
    inner: int
    count: int


def along(tensors: Sequence[Tensor], shape: Sequence[int]) -> Along:
    """Return tensors that broadcast against one sample of a shape, all with the same numbers beside one another."""
    rank = len(shape)
    full = [tensor.detach().cpu().reshape((1,) * (rank - tensor.ndim) + tensor.shape) for tensor in tensors]
    full = [tensor.reshape(tensor.shape[tensor.ndim - rank :]) for tensor in full]
    varying = [axis for tensor in full for axis, length in enumerate(tensor.shape) if length > 1]
    first, last = (min(varying), max(varying) + 1) if varying else (0, 0)
    inner, count = math.prod(shape[last:]), math.prod(shape[first:last])
    if not varying:
        inner = math.prod(shape)
    each = (tensor.expand(*(shape[a] if first <= a < last else 1 for a in range(rank))) for tensor in full)
    return Along(tuple(tensor.contiguous().numpy().ravel() for tensor in each), inner, count)


def condensed(tensor: Tensor) -> Tensor:
    """Return a tensor with one entry only along every axis along which all are equal."""
    for axis in range(tensor.ndim):
        first = tensor.narrow(axis, 0, 1)
        tensor = first if bool((tensor == first).all()) else tensor
    return tensor


@final
@dataclass(frozen=True)
class Recurred:
    """A recurrence in C: the constants that are looked up by number, and statements for a step and for a new start."""

    tables: tuple[str, ...]
    advance: tuple[str, ...]
    rehearsed: tuple[str, ...]


def recurred(form: Recurrence, kind: str) -> Recurred:
    """Translate a recurrence, computed in numbers of one type.

    Raises ModelError where it is made of what nobody has written in C.
    """
    steps, again = _statements(form.advance), _statements(form.rehearsed)
    tables = tuple(name for name in form.constants if _looked_up(name, [*steps.values(), *again.values()]))
    advance = _written(steps, ["spikes", *(f"next_{state}" for state in form.starts)], kind)
    return Recurred(tables, advance, _written(again, [f"again_{state}" for state in form.learned], kind))


_Statement = tuple[str, str, tuple[str, ...]]


def _statements(body: str) -> Mapping[str, _Statement]:
    """Return what each line makes: by its name the operation, its attributes and what it reads."""
    found: dict[str, _Statement] = {}
    for line in filter(None, map(str.strip, body.splitlines())):
        match = _STATEMENT.fullmatch(line)
        if match is None or (match[2] != "Constant" and match[2] not in _EXPRESSIONS):
            hint = "convert with another neuron, or write it with operations that are in snnc.formats.c.language"
            raise ModelError(f"nobody has written this step of a neuron in C: {line}", hint=hint)
        reads = tuple(name.strip() for name in match[4].split(",") if name.strip())
        asked = _EXPRESSIONS.get(match[2], "").count
        # Which axis is left out is all the same to a number.
        used = tuple(name for index, name in enumerate(reads) if asked(f"{{{index}}}"))
        found[match[1]] = (match[2], match[3] or "", used)
    return found


def _looked_up(name: str, statements: Iterable[_Statement]) -> bool:
    return any(kind in {"Gather", "Shape"} and reads[0] == name for kind, _, reads in statements)


def _written(statements: Mapping[str, _Statement], results: Iterable[str], kind: str) -> tuple[str, ...]:
    """Return the lines that the results need, in order."""
    needed, waiting = set[str](), [*results]
    while waiting:
        name = waiting.pop()
        if name in statements and name not in needed:
            needed.add(name)
            waiting += statements[name][2]
    return tuple(
        f"const {kind} {name} = {_expression(*statements[name], kind)};" for name in statements if name in needed
    )


def _expression(operation: str, attributes: str, reads: Sequence[str], kind: str) -> str:
    if operation == "Constant":
        value = float(attributes.partition("=")[2].strip(" []").partition(",")[0])
        return number(value) if kind == "float" else str(round(value))
    return (_EXPRESSIONS if kind == "float" else _WHOLE_EXPRESSIONS)[operation].format(*reads)


def constants(values: Tensor | Array, kind: str = "") -> Array:
    """Return constants of a type or, of whole numbers, of the smallest that holds them ("")."""
    array: Array = values.detach().cpu().contiguous().numpy() if isinstance(values, Tensor) else values
    if kind != "float":
        array = array.astype(np.float64).round()
        kind = kind or (integer_type(array.min(), array.max()) if array.size else "int8_t")
    code = next(code for code, name in _TYPES.items() if name == kind)
    return np.ascontiguousarray(array.astype(code))


def integers(*values: int) -> Array:
    """Return whole numbers as constants."""
    return np.array(values, np.int32)
