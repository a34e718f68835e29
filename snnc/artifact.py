"""model.snn: one safetensors file, tensors plus a JSON header. No pickle, no code; same inputs, same bytes."""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from snnc import plugins
from snnc.conversion import Applied, Conversion, Provenance
from snnc.data.preprocessing import Preprocessing
from snnc.documents import from_json
from snnc.errors import DataError, ModelError, UsageError
from snnc.files import check_file, write_atomically
from snnc.findings import Finding
from snnc.ir import Graph, Input, Node, Op, operations
from snnc.ops import Weighted
from snnc.process import memory
from snnc.schedule import Schedule
from snnc.tasks import Task, plain, tasks
from snnc.text import foreign, in_one_line
from snnc.validation import parse, read_back

Parsed = TypeVar("Parsed")

FORMAT_VERSION = 5
_HEADER = "snnc"
# Lines that name a node are read by people, and passes add to what the importer makes of names.
_LONGEST_NAME = 1000
_KINDS = {torch.float32: "F32"}
_MORE = "give more with --memory"
_HINT = "convert the model again, or fetch the file again"


class _OtherVersionError(ValueError):
    """What a file holds is laid out otherwise than this snnc does it."""


@final
@dataclass(frozen=True)
class _Node:
    """A node as the header has it, ``{"tensor": NAME}`` in the stead of tensors."""

    name: str
    op: str
    fields: dict[str, Any]
    inputs: tuple[str, ...]
    source: tuple[str, ...]
    output: str = ""


@final
@dataclass(frozen=True)
class _Graph:
    nodes: tuple[_Node, ...]
    outputs: tuple[str, ...]


@final
@dataclass(frozen=True)
class _Header:
    format: int
    snn: _Graph
    reference: _Graph | None
    schedule: Schedule
    plugins: tuple[str, ...]
    applied: tuple[Applied, ...]
    imported: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    preprocessing: dict[str, Any]
    provenance: Provenance
    task: dict[str, dict[str, Any]] | None


def save_conversion(conversion: Conversion, path: str | Path) -> None:
    """Write a conversion as ``model.snn``; the same conversion makes the same bytes.

    Raises DataError where the file cannot be written, and then leaves none behind.
    """
    tensors: dict[str, Tensor] = {}
    by_content: dict[tuple[str, torch.dtype, torch.Size], str] = {}
    by_identity: dict[int, str] = {}

    def keep(name: str, tensor: Tensor) -> str:
        return by_identity.get(id(tensor)) or by_identity.setdefault(id(tensor), keep_content(name, tensor))

    def keep_content(name: str, tensor: Tensor) -> str:
        content = _digest(tensor), tensor.dtype, tensor.shape
        if content not in by_content:
            by_content[content] = name
            tensors[name] = tensor
        return by_content[content]

    header = {
        "format": FORMAT_VERSION,
        "snn": _pack(conversion.snn, "snn", keep),
        "reference": _pack(conversion.reference, "reference", keep) if conversion.reference else None,
        "schedule": dataclasses.asdict(conversion.schedule),
        "plugins": plugins_needed(conversion),
        "applied": [
            {"name": a.name, "options": dict(a.options), "changed": a.changed, "plugin": a.plugin}
            for a in conversion.applied
        ],
        "imported": [dataclasses.asdict(finding) for finding in conversion.imported],
        "findings": [dataclasses.asdict(finding) for finding in conversion.findings],
        "preprocessing": conversion.preprocessing.plain(),
        "provenance": conversion.provenance.plain(),
        "task": None if conversion.task is None else plain(conversion.task),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
    write_atomically(Path(path), lambda file: _write(tensors, text, file))


def fingerprint(conversion: Conversion) -> str:
    """Return a SHA-256 of the spiking network and its schedule: the same for the same network, stripped or not."""

    def digest(name: str, tensor: Tensor) -> str:
        return _digest(tensor)

    described = {
        "snn": _pack(conversion.snn, "snn", digest),
        "schedule": dataclasses.asdict(conversion.schedule),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().data).hexdigest()


def _write(tensors: Mapping[str, Tensor], text: str, path: Path) -> None:
    """Write the file that safetensors would, one tensor after the other: of a large network there is one in memory."""
    entries: dict[str, Any] = {"__metadata__": {_HEADER: text}}
    stop = 0
    for name in sorted(tensors):
        start, stop = stop, stop + tensors[name].nbytes
        kind = _KINDS[tensors[name].dtype]
        entries[name] = {"dtype": kind, "shape": [*tensors[name].shape], "data_offsets": [start, stop]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in sorted(tensors):
            file.write(tensors[name].detach().contiguous().numpy().data)


def load_conversion(path: str | Path) -> Conversion:
    """Read a conversion, checking everything.

    Raises DataError where there is no such file, ModelError that names what is wrong with it or the plug-in that is
    missing.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError("no such file", place=str(path), hint="make one with: snnc convert model.onnx")
    size = check_file(path, hint="make one with: snnc convert model.onnx")
    if 2 * size > memory():
        raise ModelError(f"more memory would be needed than is allowed: {size:,} bytes", place=str(path), hint=_MORE)
    try:
        with safe_open(path, framework="pt") as file:
            header = from_json((file.metadata() or {})[_HEADER].encode())
            # Copied: where they lie in the file depends on its header, and products of matrices round otherwise there.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        hint = _HINT if path.suffix == ".snn" else "give a .snn file, which snnc convert makes of a trained network"
        raise ModelError(f"not a complete .snn file ({_first_line(error)})", place=str(path), hint=hint) from None
    try:
        _check_version(header)
        read = _stored("", _Header, header)
        _check_plugins(read, path)
        return _unpack(read, tensors)
    except _OtherVersionError as error:
        message = f"written by another version of snnc: {error}"
        raise ModelError(message, place=str(path), hint="convert the model again") from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        detail = f"missing {error}" if isinstance(error, KeyError) else _first_line(error)
        raise ModelError(f"damaged .snn file: {detail}", place=str(path), hint=_HINT) from None


def plugins_needed(conversion: Conversion) -> list[str]:
    """Return the plug-ins without which the file cannot be read, or the passes cannot be applied again."""
    graphs = [graph for graph in (conversion.snn, conversion.reference) if graph is not None]
    kinds = {type(node.op) for graph in graphs for node in graph.nodes.values()}
    named = {*map(plugins.origin, [*kinds, type(conversion.task)]), *(applied.plugin for applied in conversion.applied)}
    return sorted(named - {""})


def _pack(graph: Graph, prefix: str, keep: typing.Callable[[str, Tensor], str]) -> dict[str, Any]:
    nodes = []
    for name, node in graph.nodes.items():
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(node.op):  # type: ignore[arg-type]
            value = getattr(node.op, field.name)
            tensor = isinstance(value, Tensor)
            fields[field.name] = {"tensor": keep(f"{prefix}.{name}.{field.name}", value)} if tensor else value
        kind = type(node.op).__name__
        called = {"output": node.output} if node.output else {}
        nodes.append(
            {"name": name, "op": kind, "fields": fields, "inputs": node.inputs, "source": node.source, **called}
        )
    return {"nodes": nodes, "outputs": graph.outputs}


def _check_version(header: Mapping[str, Any]) -> None:
    version = header["format"]
    if version != FORMAT_VERSION:
        raise _OtherVersionError(f"format version {version!r}, this snnc reads version {FORMAT_VERSION}")


def _check_plugins(header: _Header, path: Path) -> None:
    missing = [name for name in header.plugins if not plugins.is_loaded(name)]
    if missing:
        names = ", ".join(map(repr, missing))
        needed = f"the plug-in {names}" if len(missing) == 1 else f"the plug-ins {names}"
        hint = f"name the file that it was converted with: --plugin {missing[0]}.py, or plugins: in snnc.yaml"
        raise ModelError(f"needs {needed}, not loaded here", place=str(path), hint=hint)


def _unpack(header: _Header, tensors: dict[str, Tensor]) -> Conversion:
    used: set[str] = set()
    snn = _graph(header.snn, tensors, used)
    reference = _graph(header.reference, tensors, used) if header.reference is not None else None
    extra = set(tensors) - used
    if extra:
        raise ValueError(f"tensor {sorted(extra)[0]!r} belongs to nothing")
    for graph in (snn, reference):
        # Both are computed at once, in double precision where they are compared.
        if graph is not None and 16 * graph.size() > memory():
            raise ValueError(f"it computes {graph.size():,} numbers for one sample, more than memory allows")
    model = header.provenance.model
    # Running one blank sample proves that every shape fits.
    shapes = snn.shapes
    if reference is not None:
        takes = [
            {name: (op.shape, op.numbers, op.below) for name, op in graph.ops(Input).items()}
            for graph in (reference, snn)
        ]
        if takes[0] != takes[1]:
            raise ValueError("the two networks take other inputs")
        wanted = [reference.shapes[name] for name in reference.outputs]
        if wanted != [shapes[name] for name in snn.outputs]:
            raise ValueError("the two networks have outputs of different shapes")
    for graph in (snn, reference):
        if graph is not None and (unneeded := graph.nodes.keys() - graph.without_dead().nodes.keys()):
            raise ValueError(f"no output needs node {min(unneeded)!r}")
    return Conversion(
        reference=reference,
        snn=snn,
        schedule=header.schedule,
        applied=header.applied,
        imported=_shown(header.imported),
        findings=_shown(header.findings),
        preprocessing=_parsed("preprocessing", Preprocessing, header.preprocessing),
        provenance=replace(header.provenance, model=replace(model, file=foreign(model.file))),
        task=None if header.task is None else _task(header.task),
    )


def _task(named: Mapping[str, dict[str, Any]]) -> Task:
    if len(named) != 1:
        raise ValueError("field 'task': expected the name of one task")
    ((name, options),) = named.items()
    if name not in tasks:
        raise ValueError(f"unknown task {name!r}")
    return _parsed(f"task.{name}", tasks[name], options)


def _parsed(field: str, kind: type[Parsed], stored: Mapping[str, Any]) -> Parsed:
    try:
        return parse(kind, stored, place=field, from_texts=False)
    except UsageError as error:
        raise ValueError(f"field {error.place!r}: {error.message}") from None


def _shown(found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(
        replace(f, node=foreign(f.node), message=in_one_line(f.message), hint=in_one_line(f.hint)) for f in found
    )


def _graph(packed: _Graph, tensors: Mapping[str, Tensor], used: set[str]) -> Graph:
    nodes = []
    for entry in packed.nodes:
        # What the importer makes; anything else has no business on a terminal or in a file's keys.
        if not (entry.name.isascii() and entry.name.isidentifier() and len(entry.name) <= _LONGEST_NAME):
            raise ValueError(f"{foreign(entry.name)!r} is no name of a node")
        try:
            op = _op(entry.op, entry.fields, tensors, used)
        except (ValueError, TypeError, KeyError) as error:
            kind = _OtherVersionError if isinstance(error, _OtherVersionError) else ValueError
            raise kind(f"node {entry.name!r}: {_first_line(error)}") from error
        # Not asked where it is built: torch builds it of tensors without numbers, as it exports.
        if isinstance(op, Weighted) and op.unit is not None and not (op.unit > 0).all():
            raise ValueError(f"node {entry.name!r}: units must be positive")
        nodes.append(Node(entry.name, op, entry.inputs, tuple(map(foreign, entry.source)), entry.output))
    return Graph.of(nodes, packed.outputs)


def _op(name: str, fields: Mapping[str, Any], tensors: Mapping[str, Tensor], used: set[str]) -> Op:
    if name not in operations:
        raise ValueError(f"unknown operation {name!r}")
    kind = operations[name]
    hints = typing.get_type_hints(kind)
    wanted = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if set(fields) != wanted:
        odd = sorted(set(fields) ^ wanted)[0]
        raise _OtherVersionError(f"{name} has {'an unknown' if odd in fields else 'no'} field {odd!r}")
    values: dict[str, Any] = {}
    for field, value in fields.items():
        hint = hints[field]
        members = typing.get_args(hint) if typing.get_origin(hint) in {typing.Union, types.UnionType} else (hint,)
        if Tensor not in members:
            values[field] = _stored(field, hint, value)
        elif value is None and type(None) in members:
            values[field] = None
        else:
            named = _stored(field, dict[Literal["tensor"], str], value)
            values[field] = _tensor(named["tensor"], tensors, used)
            if field not in kind.unbounded and not values[field].isfinite().all():
                raise ValueError(f"tensor {named['tensor']!r} holds infinities")
    return kind(**values)


def _tensor(name: str, tensors: Mapping[str, Tensor], used: set[str]) -> Tensor:
    if name not in tensors:
        raise ValueError(f"tensor {name!r} is missing")
    tensor = tensors[name]
    if tensor.dtype != torch.float32:
        raise ValueError(f"tensor {name!r} is {tensor.dtype}, not float32")
    if tensor.isnan().any():
        raise ValueError(f"tensor {name!r} holds NaN")
    used.add(name)
    return tensor


def _stored(field: str, hint: Any, value: object) -> Any:
    try:
        return read_back(hint, value, place=field)
    except UsageError as error:
        raise ValueError(f"field {error.place!r}: {error.message}" if error.place else error.message) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
