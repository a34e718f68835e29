"""Everything that a report says, as data; its machine form, and the schema of that.

Whatever is not under ``provenance`` is the same in every run on the same data and machine.
"""

import contextlib
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from pydantic import TypeAdapter
from pydantic.json_schema import SkipJsonSchema

from snnc.conversion import Applied, Provenance
from snnc.display import Displayed
from snnc.documents import read_json
from snnc.errors import DataError, UsageError, VerificationError
from snnc.figure import Energy, Row
from snnc.files import write_atomically
from snnc.findings import Finding
from snnc.formats.match import Match
from snnc.measure.energy import ASSUMPTIONS, PICOJOULES, SOURCE
from snnc.measure.evaluation import Evaluation
from snnc.measure.layers import Layer
from snnc.measure.summary import Summary
from snnc.report.sections import Section, sections
from snnc.text import counted, foreign, harmless, printable
from snnc.validation import read_back

SCHEMA_VERSION = 7


@dataclass(frozen=True)
class EnergyModel:
    """The constants that energies rest on, in pJ, where they are from, and what is assumed of memory."""

    picojoules: dict[str, float]
    source: str
    memory: str


@dataclass(frozen=True, repr=False)
class Report(Displayed):
    """Everything the report's faces show.

    ``evaluation`` is None until ``snnc evaluate`` has run, and ``earlier`` are those before it that were in another
    setting: on other data, say. ``verifications`` are of the files exported last.
    ``sections`` are those that have data of their own, by name: the machine form has each under that name, and
    ``unknown`` ones of plug-ins that are not loaded stay in it as they are.
    """

    summary: Summary
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]
    passes: tuple[Applied, ...]
    evaluation: Evaluation | None
    provenance: dict[str, Any]
    verifications: tuple[Match, ...] = ()
    earlier: tuple[Evaluation, ...] = ()
    energy_model: EnergyModel = EnergyModel(PICOJOULES, SOURCE, ASSUMPTIONS)
    schema_version: int = SCHEMA_VERSION
    sections: SkipJsonSchema[Mapping[str, Any]] = field(default_factory=dict)
    unknown: SkipJsonSchema[Mapping[str, Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        measured = "not evaluated" if self.evaluation is None else repr(self.evaluation)
        return f"<Report on {self.model_file}: {counted(len(self.layers), 'layer')}, {measured}>"

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """All findings, those of the evaluation too, the severe ones first."""
        evaluated = () if self.evaluation is None else self.evaluation.findings
        found = dict.fromkeys([*self.findings, *evaluated])
        return tuple(sorted(found, key=lambda finding: finding.severity != "warning"))

    @property
    def headline(self) -> Row | None:
        """What was evaluated at the number of steps that the network was made for, else at the first asked for."""
        rows = () if self.evaluation is None else self.evaluation.rows
        return next((row for row in rows if row.timesteps == self.summary.timesteps), next(iter(rows), None))

    @property
    def energy(self) -> Energy | None:
        """The energy at the number of steps of the headline, without one that measured with the layers."""
        return self.summary.energy if self.headline is None else self.headline.energy

    @property
    def model_file(self) -> str:
        """The name of the file that the network was made from."""
        return str(self.provenance["model"]["file"])

    @property
    def stripped(self) -> bool:
        """Whether it was evaluated without the trained network."""
        return self.evaluation is not None and self.evaluation.stripped

    @property
    def unmeasured(self) -> bool:
        """Whether there are layers that were not measured on images."""
        return any(layer.error is None for layer in self.layers)

    @property
    def calibration(self) -> int | None:
        """How many images the network was calibrated on, None where on none."""
        found = self.provenance.get("calibration")
        return None if found is None else int(found["images"])

    def without_images(self) -> "Report":
        """Return it without pictures of samples."""
        found = self.evaluation
        if found is None:
            return self
        classes = found.by_class
        if classes is not None:
            bare = tuple(dataclasses.replace(example, jpeg="") for example in classes.examples)
            classes = dataclasses.replace(classes, examples=bare)
        return dataclasses.replace(self, evaluation=dataclasses.replace(found, pictures=(), by_class=classes))


@final
@dataclass(frozen=True)
class _Measured(Provenance):
    """What a report says of where its network is from: ``snn`` is the network itself."""

    snn: str = ""


def plain(report: Report) -> dict[str, Any]:
    """Return the report as plain data, as ``parsed`` takes it."""
    data = dataclasses.asdict(dataclasses.replace(report, sections={}, unknown={}))
    del data["sections"], data["unknown"]
    own = {name: dataclasses.asdict(section) for name, section in report.sections.items()}
    found: dict[str, Any] = as_written({**report.unknown, **data, **own})
    return found


def to_json(report: Report) -> str:
    """Return the machine form: keys sorted, no time stamps, so that equal conversions give equal bytes.

    Raises VerificationError where a figure is no finite number, as of a network that computes none.
    """
    data = plain(report)
    try:
        return json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n"
    except ValueError:
        hint = "the network computes infinities, or what is no number: look at its weights, its data and its neurons"
        message, place = "a figure of the report is no finite number", next(_endless(data))
        raise VerificationError(message, place=place, hint=hint) from None


def _endless(data: Any, place: str = "report") -> Iterator[str]:
    """Yield where in plain data there is a number that is not finite."""
    if isinstance(data, float) and not math.isfinite(data):
        yield place
    elif isinstance(data, dict | list):
        inner = data.items() if isinstance(data, dict) else enumerate(data)
        for key, value in inner:
            yield from _endless(value, f"{place}.{key}")


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the machine form, with what every section adds."""
    described = TypeAdapter(Report).json_schema(mode="serialization")
    for name, kind in _with_data().items():
        own = TypeAdapter(kind).json_schema(mode="serialization")
        described["$defs"] |= own.pop("$defs", {})
        described["properties"][name] = own
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"snnc report, version {SCHEMA_VERSION}",
        **{key: value for key, value in described.items() if key != "title"},
    }


def write(report: Report, path: Path, *, flag: str = "--report") -> None:
    """Write the machine form; raises DataError where the file cannot be written."""
    write_atomically(path, to_json(report).encode(), flag=flag)
    with contextlib.suppress(OSError):
        staged(path).unlink(missing_ok=True)


def staged(path: Path) -> Path:
    """Return where a report waits until the network that it is on has taken its place."""
    return path.with_name(f".{path.name}.next")


def read(path: Path) -> Report:
    """Read a report; raises DataError where there is none, it is broken, or of another version of the schema."""
    try:
        data = read_json(path)
    except DataError as error:
        hint = "make one with snnc convert or snnc evaluate"
        raise DataError(f"cannot read the report: {error.message}", place=str(path), hint=hint) from None
    except ValueError:
        hint = "make it again with snnc evaluate"
        raise DataError("not a report: no valid JSON", place=str(path), hint=hint) from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        hint = "install a newer snnc" if newer else "make it again with snnc calibrate or snnc evaluate"
        message = f"schema version {version}, this snnc reads version {SCHEMA_VERSION}" if version else "not a report"
        raise DataError(message, place=str(path), hint=hint)
    if not _is_harmless(data):
        hint = "make it again with snnc evaluate"
        raise DataError("damaged report: control characters in a text", place=str(path), hint=hint)
    return parsed(data, str(path))


def parsed(data: dict[str, Any], place: str) -> Report:
    """Return the report that plain data is.

    Raises DataError, naming the ``place``, where the data is no report.
    """
    own = _with_data()
    whole = {field.name for field in dataclasses.fields(Report)} - {"sections", "unknown"}
    try:
        read_back(_Measured, data.get("provenance"), place="provenance")
        report: Report = read_back(Report, {name: value for name, value in data.items() if name in whole}, place="")
        found = {name: read_back(kind, data[name], place=name) for name, kind in own.items() if name in data}
        for where, fault in _contradictions(report):
            raise UsageError(fault, place=where, hint="make it again")
    except UsageError as error:
        message = f"damaged report: {error.place}: {error.message}"
        raise DataError(message, place=place, hint="make it again with snnc evaluate") from None
    unknown = {name: value for name, value in data.items() if name not in {*whole, *own}}
    return dataclasses.replace(report, sections=found, unknown=unknown)


def _contradictions(report: Report) -> Iterator[tuple[str, str]]:
    """Yield where a report says what no measurement does, and what that is."""
    names = Counter(layer.name for layer in report.layers)
    for number, layer in enumerate(report.layers):
        if names[layer.name] > 1:
            yield f"layers.{number}.name", f"two layers are called {foreign(layer.name)!r}"
    if report.summary.layers != len(report.layers):
        yield "summary.layers", f"{report.summary.layers} where {len(report.layers)} are listed"
    found = report.summary.arithmetic
    if found is not None and found.macs < max((operation.macs for operation in found.analog), default=0):
        yield "summary.arithmetic.macs", "less than one operation has"
    yield from _impossible(dataclasses.replace(report, sections={}, unknown={}), "")


def _impossible(found: object, place: str) -> Iterator[tuple[str, str]]:
    """Yield where counts are negative, shares beyond all, and intervals end before they begin."""
    if isinstance(found, tuple):
        for number, part in enumerate(found):
            yield from _impossible(part, f"{place}.{number}")
    elif isinstance(found, int) and found < 0 and not place.endswith(".seed"):
        yield place, f"{found} of what is counted"
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            value, where = getattr(found, field.name), f"{place}.{field.name}".removeprefix(".")
            if field.name.endswith("interval") and value is not None and value[0] > value[1]:
                yield where, "an interval that ends before it begins"
            if field.name in ("accuracy", "agreement") and value is not None and not 0 <= value <= 100:
                yield where, f"{value:g} percent"
            yield from _impossible(value, where)


def _with_data() -> dict[str, type[Section]]:
    """Return the sections that have data of their own."""
    return {name: kind for name, kind in sections.items() if dataclasses.fields(kind)}


def _is_harmless(data: Any) -> bool:
    """Return whether no text holds what a terminal would obey."""
    if isinstance(data, str):
        return harmless(data)
    if isinstance(data, dict):
        return all(_is_harmless(key) and _is_harmless(value) for key, value in data.items())
    return all(map(_is_harmless, data)) if isinstance(data, list) else True


def as_written(data: Any) -> Any:
    """Round numbers to nine digits, the rest depending on the order in which threads add up; make texts harmless."""
    if isinstance(data, float):
        return float(f"{data:.9g}")
    if isinstance(data, str):
        return data if harmless(data) else printable(data)
    if isinstance(data, dict):
        return {key: as_written(value) for key, value in data.items()}
    return [as_written(value) for value in data] if isinstance(data, list | tuple) else data
