"""Strict reading of what users write: plain data -> typed dataclass, or one error with the path into the file."""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from snnc.documents import from_yaml, scalar
from snnc.errors import UsageError
from snnc.registry import suggest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

_CALL = re.compile(r"\s*([^()]*?)\s*(?:\((.*)\))?\s*", re.DOTALL)
# What counts or seeds something has 64 bits, and all else is computed with in single precision.
_LARGEST: Mapping[type, float] = {int: (1 << 63) - 1, float: 3.4028234663852886e38}
_KEY = re.compile(r"([A-Za-z][\w-]*)\s*=\s*")


@dataclasses.dataclass(frozen=True)
class Option:
    """What a field says of itself where it is a flag, too: ``field: Annotated[kind, Option("What it does.")]``.

    ``needs`` is the flag without which it means nothing.
    """

    help: str
    metavar: str | None = None
    needs: str = ""


def called(text: str, *, place: str) -> tuple[str, Mapping[str, object]]:
    """Return the name and the options of ``NAME`` or ``NAME(OPTION=VALUE, ...)``, values as in YAML.

    Raises UsageError where what is in the brackets is no list of options.
    """
    written = _CALL.fullmatch(text)
    if written is None:
        return text, {}
    name, inside = written[1], written[2] or ""
    try:
        options = from_yaml("{" + _KEY.sub(r"\1: ", inside) + "}", place=place)
    except UsageError:
        options = None
    if not isinstance(options, Mapping):
        message, hint = f"no list of options: {inside!r}", f"write {name}(option=value)"
        raise UsageError(message, place=place, hint=hint)
    return name, options


def parse(kind: type[T], data: object, *, place: str, from_texts: bool = True) -> T:
    """Build the dataclass ``kind`` from plain data, rejecting unknown keys and wrong types.

    Keys may be written with hyphens, and numbers ``from_texts`` as YAML has them. Raises UsageError with the path of
    the first problem below ``place``.
    """
    # Most commands read no options: pydantic takes as long to load as all else of snnc --help.
    from pydantic import ValidationError

    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        hint = f"keys: {', '.join(keys(kind))}"
        raise UsageError(f"expected a mapping, found {_shown(data)}", place=place, hint=hint)
    fields: dict[str, Any] = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name in fields:
            hint = "write it once, with hyphens"
            raise UsageError(f"the option {str(key)!r} twice", place=place, hint=hint)
        fields[name] = value
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, inner in _inner(kind).items():
        if isinstance(fields.get(name), Mapping):
            where = f"{place}.{name.replace('_', '-')}"
            fields[name] = parse(inner, fields[name], place=where, from_texts=from_texts)
    for key in data:
        if str(key).replace("-", "_") not in known:
            raise UsageError(f"unknown option {str(key)!r}", place=place, hint=suggest(str(key), keys(kind)))
    try:
        read: T = _adapter(kind).validate_python(fields)  # type: ignore[arg-type]
    except UsageError as error:
        # The dataclass says itself which of its options it refuses.
        raise UsageError(error.message, place=f"{place}.{error.place}", hint=error.hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        reason = reason_of(first["msg"])
        if not first["loc"]:
            # The options contradict each other, or one of them is refused by the dataclass itself.
            raise UsageError(reason, place=place, hint=f"options: {', '.join(keys(kind))}") from None
        # A union is tried member by member; the name of the member that failed is no place in the file.
        parts = [part for part in first["loc"] if isinstance(part, int) or "[" not in part]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}".replace("_", "-") for part in parts)
        value = _shown(first["input"])
        if first["type"] == "tuple_type":
            reason = f"write a list: [{first['input']}]"
        if first["type"] == "path_type":
            reason = "write one path, a number in quotes"
        where = f"{place}{path}".split(".function-", 1)[0]
        raise UsageError(f"invalid value {value}", place=where, hint=reason) from None
    for name, value in fields.items():
        number, where = getattr(read, name), f"{place}.{name.replace('_', '-')}"
        most = _LARGEST.get(type(number), math.inf)
        if most < math.inf and most < abs(number) < math.inf:
            raise UsageError(f"invalid value {_shown(value)}", place=where, hint=f"at most {most}")
        if not _same(value, number, from_texts):
            raise UsageError(f"invalid value {_shown(value)}", place=where, hint="write numbers as YAML 1.2 has them")
    return read


def read_back(kind: Any, data: object, *, place: str) -> Any:
    """Return as ``kind`` what a file of snnc's own has, plain data as JSON says it.

    Nothing is taken for something else: a text is no number, and what no field is called is no field. Raises UsageError
    with the path of the first problem below ``place``.
    """
    from pydantic import ValidationError

    try:
        # From JSON, where a list may stand for a tuple.
        return _stored_adapter(kind).validate_json(json.dumps(data), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        reason = "unknown field" if first["type"] == "unexpected_keyword_argument" else reason_of(first["msg"])
        where = ".".join(map(str, (*filter(None, [place]), *first["loc"])))
        raise UsageError(reason, place=where, hint="make it again") from None


# Of every node of a file the same few are asked, and making one takes longer than all that it checks.
@functools.cache
def _stored_adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _same(written: object, read: object, texts: bool) -> bool:
    """Return whether nothing was taken for a number that YAML does not take for it, such as 1_0, or true for 1.

    Without ``texts``, none of them was.
    """
    if isinstance(written, Mapping) and isinstance(read, Mapping):
        return all(_same(value, read.get(key, value), texts) for key, value in written.items())
    if isinstance(written, list | tuple) and isinstance(read, list | tuple) and len(written) == len(read):
        return all(_same(*pair, texts) for pair in zip(written, read, strict=True))
    if not isinstance(written, str | bool) or not isinstance(read, int | float) or isinstance(read, bool):
        return True
    return texts and isinstance(written, str) and scalar(written) == read


def with_values(given: Mapping[Any, object] | None, others: Mapping[str, object]) -> dict[Any, object]:
    """Return options with others in the place of those of their names, be these written with hyphens or underscores."""
    written = {str(key).replace("_", "-"): key for key in given or {}}
    return {**(given or {}), **{written.get(name.replace("_", "-"), name): value for name, value in others.items()}}


def keys(kind: type[Any]) -> list[str]:
    """Return the options of a dataclass as users write them."""
    return [f.name.replace("_", "-") for f in dataclasses.fields(kind)]


def _inner(kind: type[Any]) -> dict[str, type[Any]]:
    """Return the fields of a dataclass that are dataclasses themselves, or None."""
    found: dict[str, type[Any]] = {}
    for name, hint in get_type_hints(kind).items():
        for member in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
            if isinstance(member, type) and dataclasses.is_dataclass(member):
                found[name] = member
    return found


@functools.cache
def _adapter(kind: type[Any]) -> "TypeAdapter[Any]":
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(extra="forbid", strict=False, arbitrary_types_allowed=True))(kind))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def reason_of(message: str) -> str:
    """Return what pydantic says, a reason that others gave in their own words, as it stands within a line."""
    message = message.replace("Value error, ", "")
    return message[:1].lower() + message[1:]
