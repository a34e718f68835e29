"""What a report says, as tables and facts in words: what all faces that people read share."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from snnc.figure import Blame, Energy, Row
from snnc.findings import EXPLANATIONS, Explanation
from snnc.intervals import Interval
from snnc.measure.gates import Gate
from snnc.report.data import AppliedPass, Report, Verification
from snnc.report.layers import Layer
from snnc.text import exact, fixed, number, span, written

Entry = TypeVar("Entry")

UNKNOWN = "-"

_UNMEASURED = "not measured"
_CONVERT = "snnc convert MODEL --data FOLDER"
_EVALUATE = "snnc evaluate --data FOLDER"


@dataclass(frozen=True)
class Fact:
    """One figure with what it is called and what else there is to say of it."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table. ``kind`` says what its cells are; those of ``layer`` and ``code`` come from outside."""

    title: str
    kind: Literal["number", "words", "verdict", "layer", "code"] = "number"


@dataclass(frozen=True)
class Cell:
    """A cell of a table, with its 95 % interval or what else there is to say of it."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table: ``rows`` has one cell for each of the columns."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Missing:
    """What was not measured, and the command that measures it."""

    what: str
    command: str


@dataclass(frozen=True)
class Remark:
    """What was found alike at several nodes, or, without nodes, in the whole network."""

    message: str
    hint: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """All findings of one kind, and what they mean."""

    code: str
    severity: str
    explanation: Explanation
    remarks: tuple[Remark, ...]


def model_file(report: Report) -> str:
    """Return the name of the file that the network was made from."""
    return str(report.provenance["model"]["file"])


def key_facts(report: Report) -> tuple[Fact, ...]:
    """Return what decides whether a network is good enough, at the number of steps that it was made for."""
    facts = _accuracy, _drop, _agreement, _time_steps, _spikes, _energy_ratio, _images
    return tuple(fact(report) for fact in facts)


def missing(report: Report) -> Mapping[str, Missing]:
    """Return what the report lacks, by the part of it that lacks it."""
    return dict(_missing(report))


def by_timesteps(rows: Sequence[Row]) -> Table:
    """Return what was evaluated, one row for each number of time steps."""
    columns: list[tuple[Column, Callable[[Row], Cell | str | None]]] = [
        (Column("T"), lambda row: str(row.timesteps)),
        (Column("steps to the answer"), lambda row: str(row.total_steps)),
        (Column("steps asleep used"), lambda row: f"{row.sleep_used} of {row.sleep}" if row.sleep else None),
        (
            Column("accuracy, %"),
            lambda row: _varying(row.accuracy, row.accuracy_deviation, row.accuracy_interval, row.repeats),
        ),
        (Column("drop, points"), lambda row: _measured(row.drop, row.drop_interval, "points")),
        (Column("drop, % of the trained"), lambda row: _measured(row.relative_drop, row.relative_drop_interval, "%")),
        (
            Column("agreement, %"),
            lambda row: _varying(row.agreement, row.agreement_deviation, row.agreement_interval, row.repeats),
        ),
        (Column("lost to timing, points"), _misaligned),
        (Column("spikes"), lambda row: number(row.spikes)),
        (Column("additions"), lambda row: number(row.synaptic_operations)),
        (Column("energy ratio"), lambda row: _measured(row.energy.ratio, row.energy_ratio_interval, "")),
    ]
    return _table("What was measured at every number of time steps", columns, rows)


def layer_table(layers: Sequence[Layer]) -> Table:
    """Return what is known of layers."""
    columns: list[tuple[Column, Callable[[Layer], Cell | str | None]]] = [
        (Column("layer", "layer"), lambda layer: layer.name),
        (Column("neurons"), lambda layer: fixed(layer.neurons, 0)),
        (Column("threshold"), thresholds),
        (Column("error, %"), lambda layer: _share(layer.error)),
        (Column("alone, %"), lambda layer: _share(layer.isolated_error)),
        (Column("inherited, %"), lambda layer: _share(layer.inherited)),
        (Column("clipping, %"), lambda layer: _share(layer.clipping)),
        (Column("quantization, %"), lambda layer: _share(layer.quantization)),
        (Column("unevenness, %"), lambda layer: _share(layer.unevenness)),
        (Column("fire too often, %"), lambda layer: _share(layer.over_firing)),
        (Column("too seldom, %"), lambda layer: _share(layer.under_firing)),
        (Column("rate"), lambda layer: None if layer.firing_rate is None else number(layer.firing_rate)),
    ]
    return _table("The layers of neurons, from image to answer", columns, layers)


def thresholds(layer: Layer) -> str:
    """Return the threshold, or from where to where those of the channels go."""
    low, high = layer.threshold_minimum, layer.threshold_maximum
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def blame_table(row: Row) -> Table:
    """Return what every layer adds to the loss, the worst first."""
    columns: list[tuple[Column, Callable[[Blame], Cell | str | None]]] = [
        (Column("layer", "layer"), lambda blame: blame.name),
        (Column("points"), lambda blame: _measured(blame.points, blame.interval, "points")),
        (Column("share of the loss, %"), lambda blame: _share(blame.share)),
    ]
    return _table(f"Points of the loss that enter at every layer, T={row.timesteps}", columns, worst_first(row))


def worst_first(row: Row) -> tuple[Blame, ...]:
    """Return the blame, most of it first."""
    return tuple(sorted(row.blame or (), key=lambda blame: -blame.points))


def blamed(report: Report) -> tuple[Row, ...]:
    """Return the rows that have blame, the one that the sentence is about first."""
    rows = () if report.evaluation is None else report.evaluation.rows
    return tuple(sorted((row for row in rows if row.blame), key=lambda row: row != report.headline))


def gates_table(gates: Sequence[Gate]) -> Table:
    """Return how limits were kept."""
    columns: list[tuple[Column, Callable[[Gate], Cell | str | None]]] = [
        (Column("verdict", "verdict"), lambda gate: gate.verdict),
        (Column("gate", "code"), lambda gate: gate.name),
        (Column("layer", "layer"), lambda gate: gate.layer or None),
        (Column("T"), lambda gate: str(gate.timesteps)),
        (Column("measured"), _judged),
        (Column("allowed"), _allowed),
        (Column("samples that would decide"), _deciding),
    ]
    return _table("The limits, and whether they are kept", columns, gates)


def tally(gates: Sequence[Gate]) -> str:
    """Return how many gates there are of every verdict."""
    found = {verdict: sum(gate.verdict == verdict for gate in gates) for verdict in ("failed", "undecided", "passed")}
    return ", ".join(f"{count} {verdict}" for verdict, count in found.items() if count)


def measured_energy(report: Report) -> Energy | None:
    """Return the energy at the number of steps the report is about: as evaluated, else as measured with the layers."""
    return report.summary.energy if report.headline is None else report.headline.energy


def energy_table(energy: Energy) -> Table:
    """Return what one image costs in µJ, beside the trained network and one with narrow activations."""
    reference = energy.reference
    arithmetic = energy.microjoules, reference, energy.quantized
    rows = (
        ("additions caused by spikes", number(energy.accumulations), UNKNOWN, UNKNOWN),
        ("multiplications of analog values", *map(number, (energy.multiplications, reference, energy.quantized))),
        ("all arithmetic", *map(number, arithmetic)),
        ("the same, the trained network's being 1", *(_ratio(value, reference) for value in arithmetic)),
        ("memory traffic", *map(number, (energy.memory, energy.reference_memory, energy.quantized_memory))),
    )
    titles = "spiking network", "trained network", _narrow(energy)
    columns = (Column("µJ per image, estimated", "words"), *map(Column, titles))
    return Table("Energy of one image", columns, tuple(tuple(map(Cell, row)) for row in rows))


def energy_bars(energy: Energy) -> tuple[tuple[str, float, float, float], ...]:
    """Return for each network: its name, additions caused by spikes, multiplications and memory traffic, in µJ."""
    return (
        ("spiking", energy.accumulations, energy.multiplications, energy.memory),
        ("trained", 0.0, energy.reference, energy.reference_memory),
        (f"{energy.bits}-bit", 0.0, energy.quantized, energy.quantized_memory),
    )


def break_even(energy: Energy) -> str:
    """Return the firing rates below which spikes are worth it, in words."""
    rate = f"The neurons fire {number(energy.firing_rate)} spikes per neuron and step."
    others = {"the trained network": energy.break_even, f"the {_narrow(energy)}": energy.quantized_break_even}
    return " ".join([rate, *(_compared(name, limit, energy.firing_rate) for name, limit in others.items())])


def constants(report: Report) -> str:
    """Return what the energies rest on."""
    values = ", ".join(
        f"{name.replace('_', ' ')} {value:g} pJ" for name, value in sorted(report.energy_model.picojoules.items())
    )
    return f"{values} ({report.energy_model.source})"


def verifications_table(found: Sequence[Verification]) -> Table:
    """Return how exported files compare, run elsewhere."""
    columns: list[tuple[Column, Callable[[Verification], Cell | str | None]]] = [
        (Column("verdict", "verdict"), lambda one: one.verdict),
        (Column("format", "words"), lambda one: Cell(one.format, one.variant)),
        (Column("run by", "words"), lambda one: one.engine),
        (Column("T"), lambda one: str(one.timesteps)),
        (Column("images"), lambda one: Cell(fixed(one.images, 0), "noise" if one.noise else "")),
        (Column("equal spikes, %"), lambda one: _finely(one.equal)),
        (Column("in the worst layer, %"), _worst_layer),
        (Column("output error"), lambda one: None if one.output_error is None else number(one.output_error)),
        (Column("same predictions, %"), lambda one: _measured(one.agreement, None, "%")),
        (Column("accuracy there, %"), lambda one: _measured(one.accuracy_there, None, "%")),
        (Column("remark", "words"), lambda one: one.remark or None),
    ]
    return _table("Exported files, run by other programs", columns, found)


def passes_table(report: Report) -> Table:
    """Return the passes in the order in which they ran."""
    columns: list[tuple[Column, Callable[[AppliedPass], Cell | str | None]]] = [
        (Column("pass", "code"), lambda applied: applied.name),
        (Column("operations changed"), lambda applied: fixed(applied.changed, 0)),
        (Column("options", "code"), lambda applied: _options(applied.options)),
    ]
    return _table("The passes, in the order in which they ran", columns, report.passes)


def provenance(report: Report) -> tuple[Fact, ...]:
    """Return where the network and the figures come from."""
    found = [Fact(name, value) for name, value in _flat(report.provenance)]
    if report.evaluation is not None:
        evaluation = {
            "samples": report.evaluation.samples,
            "labels": "yes" if report.evaluation.labelled else "no",
            "sha256": report.evaluation.sha256,
            "seed": report.evaluation.seed,
        }
        found += [Fact(name, value) for name, value in _flat({"evaluation": evaluation})]
    return (*found, Fact("schema of the report", str(report.schema_version)))


def groups(report: Report) -> tuple[Group, ...]:
    """Return the findings by kind, warnings first."""
    by_kind: dict[tuple[bool, str, str], dict[tuple[str, str], list[str]]] = {}
    for finding in report.all_findings:
        remarks = by_kind.setdefault((finding.severity != "warning", finding.code, finding.severity), {})
        nodes = remarks.setdefault((finding.message, finding.hint), [])
        nodes += [finding.node] if finding.node else []
    return tuple(
        Group(code, severity, EXPLANATIONS[code], tuple(Remark(*said, tuple(nodes)) for said, nodes in remarks.items()))
        for (_, code, severity), remarks in sorted(by_kind.items())
    )


def _table(
    caption: str, columns: Sequence[tuple[Column, Callable[[Entry], Cell | str | None]]], entries: Sequence[Entry]
) -> Table:
    """Build a table; columns that say nothing of any entry are left out."""
    cells = [[text(entry) for entry in entries] for _, text in columns]
    kept = [index for index, column in enumerate(cells) if any(cell is not None for cell in column)]
    rows = zip(*(cells[index] for index in kept), strict=True)
    shown = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell or UNKNOWN) for cell in row) for row in rows)
    return Table(caption, tuple(columns[index][0] for index in kept), shown)


def _accuracy(report: Report) -> Fact:
    row, evaluation = report.headline, report.evaluation
    if row is None or evaluation is None or row.accuracy is None:
        return Fact("Accuracy", _UNMEASURED)
    trained = evaluation.reference_accuracy
    known = "trained network stripped" if trained is None else f"trained network {written(trained, '%')} %"
    return Fact("Accuracy", f"{written(row.accuracy, '%')} %", _joined(known, _interval(row.accuracy_interval, "%")))


def _drop(report: Report) -> Fact:
    row = report.headline
    if row is None or row.drop is None:
        return Fact("Drop in accuracy", _UNMEASURED)
    relative = "" if row.relative_drop is None else f"{written(row.relative_drop, '%')} % of the trained network's"
    detail = _joined(_interval(row.drop_interval, "points"), relative)
    return Fact("Drop in accuracy", f"{written(row.drop, 'points')} points", detail)


def _agreement(report: Report) -> Fact:
    row, summary = report.headline, report.summary
    if row is not None and row.agreement is not None:
        return Fact("Agreement", f"{written(row.agreement, '%')} %", _interval(row.agreement_interval, "%"))
    if row is None and summary.agreement is not None:
        return Fact("Agreement", f"{written(summary.agreement, '%')} %", "on images it was calibrated on")
    return Fact("Agreement", _UNMEASURED)


def _time_steps(report: Report) -> Fact:
    shown = report.headline or report.summary
    around = {"of rehearsal": report.summary.rehearsal, "asleep": shown.sleep}
    parts = [f"{steps} {what}" for what, steps in around.items() if steps]
    total = f"{shown.total_steps:,} {'step' if shown.total_steps == 1 else 'steps'} from image to answer"
    return Fact("Time steps", f"T = {shown.timesteps}", ", ".join([total, *parts]))


def _spikes(report: Report) -> Fact:
    spikes = report.summary.spikes if report.headline is None else report.headline.spikes
    energy = measured_energy(report)
    if spikes is None or energy is None:
        return Fact("Spikes per image", _UNMEASURED)
    return Fact("Spikes per image", number(spikes), f"{number(energy.firing_rate)} per neuron and step")


def _energy_ratio(report: Report) -> Fact:
    energy, row = measured_energy(report), report.headline
    if energy is None or energy.ratio is None:
        return Fact("Energy ratio", _UNMEASURED)
    interval = "" if row is None else _interval(row.energy_ratio_interval)
    detail = _joined("arithmetic, the trained network's being 1, estimated", interval)
    return Fact("Energy ratio", number(energy.ratio), detail)


def _images(report: Report) -> Fact:
    calibration, evaluation = report.provenance.get("calibration"), report.evaluation
    calibrated = f"calibrated on {calibration['images']:,}" if calibration else "not calibrated"
    if evaluation is None:
        return Fact("Images evaluated", "none", calibrated)
    known = "with labels" if evaluation.labelled else "without labels"
    return Fact("Images evaluated", fixed(evaluation.samples, 0), f"{known}; {calibrated}")


def _missing(report: Report) -> Iterator[tuple[str, Missing]]:
    evaluation = report.evaluation
    rows = () if evaluation is None else evaluation.rows
    stripped = evaluation is not None and all(row.agreement is None for row in rows)
    if evaluation is None:
        yield "accuracy", Missing("Accuracy was not measured.", _EVALUATE)
    elif not evaluation.labelled:
        what = (
            "The images have no labels, so accuracy is unknown: give class sub-folders, a labels.csv or y in the file."
        )
        yield "accuracy", Missing(what, _EVALUATE)
    if stripped:
        what = "The trained network was stripped, so agreement, drop and blame are unknown: convert without --strip."
        yield "reference", Missing(what, _CONVERT)
    if len(rows) < 2:
        what = "Accuracy, agreement, energy and spikes were not measured at several numbers of time steps."
        yield "timesteps", Missing(what, f"{_EVALUATE} --timesteps 1,2,4,8")
    if not any(row.blame for row in rows):
        what = "Which layers the loss comes from was not measured."
        yield "blame", Missing(what, _CONVERT if stripped else f"{_EVALUATE} --blame")
    if evaluation is None or not evaluation.gates:
        limit = "--max-energy-ratio 1" if stripped else "--max-drop 1%"
        limit = "--min-agreement 99" if evaluation is not None and not evaluation.labelled and not stripped else limit
        yield "gates", Missing("No limits were set.", f"{_EVALUATE} {limit}")
    if any(layer.error is None for layer in report.layers):
        command = _CONVERT if stripped else "snnc calibrate --data FOLDER"
        yield "layers", Missing("The layers were not measured on images.", command)
        yield "outputs", Missing("The outputs were not compared on images.", command)
    if measured_energy(report) is None:
        yield "energy", Missing("Spikes were not counted on images.", _EVALUATE)
    if not report.verifications:
        what = "No exported file was run by another program and compared."
        yield "verifications", Missing(what, "snnc export -o FILE.onnx --verify")


def _interval(interval: Interval | None, unit: str = "") -> str:
    return "" if interval is None else f"95 % interval {span(interval, unit)}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _share(value: float | None) -> str | None:
    return None if value is None else fixed(100 * value)


def _measured(value: float | None, interval: Interval | None, unit: str) -> Cell | None:
    if value is None:
        return None
    return Cell(written(value, unit), "" if interval is None else span(interval, unit))


def _finely(value: float | None) -> Cell | None:
    return None if value is None else Cell(fixed(value, 4))


def _worst_layer(found: Verification) -> Cell | None:
    worst = _finely(found.worst_equal)
    return None if worst is None else replace(worst, detail=found.worst_layer)


def _varying(value: float | None, deviation: float | None, interval: Interval | None, draws: int) -> Cell | None:
    if value is None or deviation is None:
        return _measured(value, interval, "%")
    return Cell(f"{written(value, '%')} ± {written(deviation, '%')}", f"{draws} draws")


def _misaligned(row: Row) -> Cell | None:
    if row.misalignment is None:
        return None
    share = row.misalignment_share
    return Cell(written(row.misalignment, "points"), "" if share is None else f"{fixed(100 * share, 0)} % of the loss")


def _judged(gate: Gate) -> Cell:
    within = "" if gate.interval is None else span(gate.interval, gate.unit)
    return Cell(f"{written(gate.measured, gate.unit)}{gate.unit}", within)


def _allowed(gate: Gate) -> str:
    return f"{'at least' if gate.name.startswith('min-') else 'at most'} {exact(gate.limit)}{gate.unit}"


def _deciding(gate: Gate) -> Cell | None:
    if gate.verdict != "undecided":
        return None
    if gate.interval is None:
        return Cell("2 or more", "one does not say how much samples vary")
    if gate.samples_needed is None:
        return Cell("none", "the measured value is the limit")
    return Cell(f"{gate.samples_needed:,}", f"{gate.samples:,} were measured")


def _narrow(energy: Energy) -> str:
    return f"{energy.bits}-bit network"


def _ratio(value: float, reference: float) -> str:
    return number(value / reference) if reference else UNKNOWN


def _compared(name: str, limit: float | None, rate: float) -> str:
    if limit is None:
        return f"At no rate does the arithmetic cost less than that of {name}."
    here = "does" if rate < limit else "does not"
    return f"Below {number(limit)} the arithmetic costs less than that of {name}; here it {here}."


def _options(options: Mapping[str, Any]) -> str | None:
    return ", ".join(f"{name}={_text(value)}" for name, value in sorted(options.items())) or None


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name what is nested by its path; the passes of the recipe have a table of their own."""
    for name, value in sorted(data.items()):
        path = f"{prefix} {name}".strip()
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        elif path != "recipe passes" and value is not None:
            yield path, _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
