"""What chips can hold, read from data files that say where every limit is from.

A limit that no source states is left out, never guessed: ``Capacities.unknown`` names what is therefore not checked.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from snnc.documents import read_yaml
from snnc.errors import UsageError
from snnc.registry import suggest
from snnc.validation import parse

# What is said of each core need not be said of all together.
_IN_CORES = ("neurons", "synapses", "memory")

_SHIPPED = resources.files("snnc") / "targets"


@dataclass(frozen=True)
class Document:
    """A document that limits are quoted from."""

    document: str
    url: str

    def __post_init__(self) -> None:
        if not self.document or not self.url.startswith("https://"):
            raise ValueError("a document has a title and an https address")


@dataclass(frozen=True)
class Citation:
    """Where a limit is from."""

    document: str
    url: str
    section: str

    @property
    def text(self) -> str:
        """The source in one line."""
        return f"{self.document}, {self.section}"


@dataclass(frozen=True)
class Capacity:
    """What every kind of limit has: at least one source."""

    sources: tuple[Citation, ...]

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("a limit needs a source")


@dataclass(frozen=True)
class Maximum(Capacity):
    """At most so many."""

    most: int
    unit: str


@dataclass(frozen=True)
class Permitted(Capacity):
    """One of these numbers."""

    values: tuple[int, ...]
    unit: str


@dataclass(frozen=True)
class Ability(Capacity):
    """Whether something is supported at all."""

    supported: bool


@dataclass(frozen=True)
class Demand(Capacity):
    """Whether something has to be so."""

    required: bool


@dataclass(frozen=True)
class Models(Capacity):
    """The neurons that a chip computes, by snnc's names."""

    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Core:
    """``count`` cores that each hold one layer of so many words of weights and so many neurons."""

    count: int
    weights: int
    neurons: int


@dataclass(frozen=True)
class Cores(Capacity):
    """Cores that each hold one layer."""

    cores: tuple[Core, ...]
    unit: str


@dataclass(frozen=True)
class Spent(Capacity):
    """The energy of one synaptic operation, measured or stated ``of`` a chip."""

    picojoules: float
    of: str


@dataclass(frozen=True)
class Capacities:
    """What a chip can hold; None where no source says so. Bits include the sign.

    ``neurons``, ``synapses``, ``memory`` (for weights), ``inputs`` and ``outputs`` are of the whole network.
    ``destinations`` are layers that one layer feeds, ``levels`` spikes of one neuron for one image, ``event_size`` what
    one event of it carries at most. ``first_kernel``,
    ``first_stride``, ``first_weight_bits`` are those of a layer that the image feeds, where they are others.
    ``shared_kernels`` says whether a convolution is kept as a kernel or as all its connections.
    """

    neurons: Maximum | None = None
    synapses: Maximum | None = None
    memory: Maximum | None = None
    cores: Cores | None = None
    inputs: Maximum | None = None
    outputs: Maximum | None = None
    fan_in: Maximum | None = None
    fan_out: Maximum | None = None
    destinations: Maximum | None = None
    input_size: Maximum | None = None
    input_channels: Permitted | None = None
    output_size: Maximum | None = None
    channels: Maximum | None = None
    dense_inputs: Maximum | None = None
    first_kernel: Permitted | None = None
    kernel: Permitted | None = None
    square_kernels: Demand | None = None
    first_stride: Permitted | None = None
    stride: Permitted | None = None
    dilation: Ability | None = None
    groups: Ability | None = None
    pooling: Permitted | None = None
    global_pooling: Maximum | None = None
    average_pooling: Ability | None = None
    max_pooling: Ability | None = None
    additions: Ability | None = None
    concatenations: Ability | None = None
    first_weight_bits: Maximum | None = None
    weight_bits: Maximum | None = None
    bias_bits: Maximum | None = None
    threshold_bits: Maximum | None = None
    levels: Maximum | None = None
    event_size: Maximum | None = None
    neuron_models: Models | None = None
    signed_spikes: Ability | None = None
    analog_input: Ability | None = None
    shared_kernels: Ability | None = None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of the limits that no source states.

        What first layers have of their own belongs to the others, and what cores hold says what the whole does.
        """
        missing = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is None]
        said = _IN_CORES if self.cores is not None else ()
        return tuple(_written(name) for name in missing if not name.startswith("first_") and name not in said)


@dataclass(frozen=True)
class Target:
    """A chip: its limits, the energy of an event where a source gives one, and the documents that they are from."""

    name: str
    title: str
    documents: Mapping[str, Document]
    limits: Capacities
    event_energy: Spent | None = None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The limits that no source states; of what nobody says any of, there are none to be stated."""
        return self.limits.unknown if self.documents else ()


def target_names() -> list[str]:
    """Return the names of the targets inside the package."""
    return sorted(Path(entry.name).stem for entry in _SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def load_target(name: str) -> Target:
    """Read a target by its name; raises UsageError where there is none of that name."""
    if name not in target_names():
        raise UsageError(f"unknown target {name!r}", place="--target", hint=suggest(name, target_names()))
    with resources.as_file(_SHIPPED / f"{name}.yaml") as path:
        return target_from_plain(read_yaml(path), place=path.name)


def target_from_plain(data: object, *, place: str) -> Target:
    """Build a target from plain data; raises UsageError with the path of the first problem."""
    fields = _mapping(data, place)
    documents = {
        str(key): parse(Document, value, place=f"{place}: documents.{key}")
        for key, value in _mapping(fields.get("documents"), f"{place}: documents").items()
    }
    limits = _mapping(fields.get("limits"), f"{place}: limits")
    read = {
        key: _limit(kind, limits[key], documents, f"{place}: limits.{key}")
        for key, kind in _kinds().items()
        if key in limits
    }
    named = parse(Capacities, {**limits, **read}, place=f"{place}: limits")
    built: dict[str, Any] = {"documents": documents, "limits": named}
    if "event-energy" in fields:
        built["event-energy"] = _limit(Spent, fields["event-energy"], documents, f"{place}: event-energy")
    return parse(Target, {**fields, **built}, place=place)


def _limit(kind: type[Capacity], data: object, documents: Mapping[str, Document], place: str) -> Capacity:
    fields = dict(_mapping(data, place))
    sources = []
    for index, entry in enumerate(fields.get("sources") or []):
        source = parse(Citation, entry, place=f"{place}.sources[{index}]")
        if Document(source.document, source.url) not in documents.values():
            raise UsageError(f"no document is called {source.document!r}", place=place, hint="list it in documents")
        sources.append(source)
    if kind is Cores:
        fields["cores"] = [
            parse(Core, entry, place=f"{place}.cores[{index}]") for index, entry in enumerate(fields.get("cores") or [])
        ]
    return parse(kind, {**fields, "sources": sources}, place=place)


def _kinds() -> dict[str, type[Capacity]]:
    """Return the kind of every limit by its name as written."""
    hints = {name: hint for name, hint in get_type_hints(Capacities).items() if isinstance(hint, UnionType)}
    return {_written(name): get_args(hint)[0] for name, hint in hints.items()}


def _written(name: str) -> str:
    return name.replace("_", "-")


def _mapping(data: object, place: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UsageError("expected a mapping", place=place, hint="write 'key: value' lines")
    return data
