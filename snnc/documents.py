"""Documents that users write: the core types of YAML 1.2, and JSON, within limits on size, depth and aliases.

Dates, numbers in base 60, digits with underscores and the tags of a language are texts or errors here, never values.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from snnc.errors import UsageError
from snnc.files import read_bytes

# What people write has far less of everything; what is written to hurt grows without these.
_BYTES, _JSON_BYTES, _DEPTH, _VALUES, _DIGITS = 1 << 18, 1 << 28, 48, 100_000, 100

_TAG = "tag:yaml.org,2002:"
# The core schema, chapter 10.3.2 of YAML 1.2.2.
_CORE = {
    "null": re.compile(r"~|null|Null|NULL|", re.ASCII),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"
    ),
}


class _Scalars(yaml.resolver.BaseResolver):
    """What texts without quotes are taken for."""


for _name, _pattern in _CORE.items():
    _Scalars.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern.pattern})$", re.ASCII), None)


class _Reader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, _Scalars):
    """The nodes of a document, none of them large."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        _Scalars.__init__(self)
        self._depth = 0
        # How many values each finished node is, aliases written out.
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark, alias = event.start_mark, isinstance(event, yaml.AliasEvent)
        self._depth += 1
        if self._depth > _DEPTH:
            _refuse(f"nested more than {_DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if not alias:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in _parts(node))
        elif id(node) not in self._sizes:
            _refuse("an alias of what it stands in", mark)
        if self._sizes[id(node)] > _VALUES:
            _refuse(f"more than {_VALUES:,} values, aliases written out", mark)
        return node


class _Writer(yaml.emitter.Emitter, yaml.serializer.Serializer, yaml.representer.SafeRepresenter, _Scalars):
    """Plain data as a document; texts that would be read as something else are quoted."""

    def __init__(self, stream: Any, **options: Any) -> None:
        named = {name: options.pop(name) for name in ("default_style", "default_flow_style", "sort_keys")}
        serialized = {name: options.pop(name) for name in ("explicit_start", "explicit_end", "version", "tags")}
        encoding = options.pop("encoding")
        yaml.emitter.Emitter.__init__(self, stream, **options)
        yaml.serializer.Serializer.__init__(self, encoding=encoding, **serialized)
        yaml.representer.SafeRepresenter.__init__(self, **named)
        _Scalars.__init__(self)


def read_yaml(path: Path) -> object:
    """Read one YAML document; raises DataError where there is no such file and UsageError where it is no YAML."""
    data = read_bytes(path, most=_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("not valid YAML", place=str(path), hint="save it as text in UTF-8") from None
    return from_yaml(text, place=str(path), of_file=True)


def from_yaml(text: str, *, place: str, of_file: bool = False) -> object:
    """Return what one YAML document says; raises UsageError where it is none, naming the line ``of_file``s."""
    try:
        if len(text) > _BYTES:
            raise yaml.error.MarkedYAMLError(problem=f"more than {_BYTES:,} characters")
        node = _Reader(text).get_single_node()
        return None if node is None else _value(node)
    # PyYAML raises the latter of characters that there are none of.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}" if mark and of_file else place
        raise UsageError("not valid YAML", place=where, hint=getattr(error, "problem", None) or "check it") from None


def to_yaml(data: object) -> str:
    """Return plain data as a YAML document that is read back the same."""
    return str(yaml.dump(data, Dumper=_Writer, sort_keys=False))


def from_json(data: bytes) -> Any:
    """Return what a JSON document says, numbers that are finite; raises ValueError where it is none."""
    try:
        found = json.loads(
            data, parse_float=_finite, parse_int=_whole, parse_constant=_finite, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level, depth = [found], 0
    while level:
        if depth > _DEPTH:
            raise ValueError(f"it is nested more than {_DEPTH} deep")
        inner = ((*part.values(),) if isinstance(part, dict) else part for part in level)
        level = [part for parts in inner if isinstance(parts, list | tuple) for part in parts]
        level, depth = [part for part in level if isinstance(part, dict | list)], depth + 1
    return found


def read_json(path: Path) -> Any:
    """Read a JSON document; raises DataError where there is no such file and ValueError where it is no JSON."""
    return from_json(read_bytes(path, most=_JSON_BYTES))


def scalar(text: str) -> object:
    """Return what a text without quotes is taken for."""
    kind = next((name for name, pattern in _CORE.items() if pattern.fullmatch(text)), "str")
    return _scalar(kind, text, None)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _value(node: yaml.Node) -> object:
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_value(part) for part in node.value]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(kind, node.value, node.start_mark)
    return _refuse(f"no type of YAML 1.2: {node.tag}", node.start_mark)


def _mapping(node: yaml.MappingNode) -> Mapping[Any, object]:
    """Return a mapping; what another one is merged into it as, ``<<: *name``, gives way to its own keys."""
    found: dict[Any, object] = {}
    shared: dict[Any, object] = {}
    for key, value in node.value:
        merged = isinstance(key, yaml.ScalarNode) and key.value == "<<"
        if merged and isinstance(value, yaml.MappingNode) and not shared:
            shared.update(_mapping(value))
            continue
        if not isinstance(key, yaml.ScalarNode):
            _refuse("a key that is no text", key.start_mark)
        name = _value(key)
        if name in found:
            _refuse(f"the key {name} twice", key.start_mark)
        found[name] = _value(value)
    return {**shared, **found}


def _scalar(kind: str, text: str, mark: yaml.Mark | None) -> object:
    if kind == "str":
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
            _refuse("a text with characters that no text has", mark)
        return text
    if kind not in _CORE or not _CORE[kind].fullmatch(text):
        _refuse(f"no {kind}: {text!r}" if kind in _CORE else f"no type of YAML 1.2: {kind}", mark)
    if len(text) > _DIGITS:
        _refuse(f"a number of {len(text):,} characters", mark)
    if kind == "int":
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if kind == "float":
        # Python calls them as YAML does, without the point before.
        return float(re.sub(r"\.(?=[inIN])", "", text))
    return None if kind == "null" else text.lower() == "true"


def _refuse(problem: str, mark: yaml.Mark | None) -> NoReturn:
    raise yaml.error.MarkedYAMLError(problem=problem, problem_mark=mark)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"it has {names.most_common(1)[0][0][:_DIGITS]!r} twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def _whole(text: str) -> int:
    _finite(text)
    return int(text)
