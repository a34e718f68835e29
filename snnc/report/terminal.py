"""What was measured, for people at a terminal."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table

from snnc.figure import Blame, Energy, Row
from snnc.findings import Finding
from snnc.intervals import Interval
from snnc.measure.gates import Gate
from snnc.report import Report, Summary
from snnc.report.data import Evaluation, Verification
from snnc.report.escaping import printable
from snnc.report.facts import measured_energy
from snnc.report.layers import Layer
from snnc.report.sentence import sentence
from snnc.text import brackets, fixed, number, signed, written

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Column(Generic[Entry]):
    """A column of a table: its title, and what it says of an entry (None: nothing is known)."""

    title: str
    text: Callable[[Entry], str | None]
    justify: Literal["left", "right"] = "right"


def render(report: Report) -> RenderableType:
    """Show a conversion: its layers, a summary, what was evaluated, what one inference costs, and what was found."""
    shown: list[RenderableType] = [layer_table(report.layers)]
    if report.summary.images:
        shown.append(
            "error: relative distance (L2) to the trained network, all layers converted, and what of it this layer "
            "adds by clipping, quantization and unevenness; alone: only this layer converted; "
            "rate: spikes per neuron and step"
        )
    shown += ["", _summary(report.summary, report)]
    if report.evaluation is not None:
        shown += ["", render_evaluation(report.evaluation)]
    if report.verifications:
        shown += ["", verifications_table(report.verifications)]
    energy = measured_energy(report)
    if energy is not None:
        shown += ["", _energy_table(energy, report), ""]
    return Group(*shown, sentence(report), *findings(report.all_findings))


def _energy_table(energy: Energy, report: Report) -> RenderableType:
    """Show what one inference costs, beside the trained network and a narrow one."""
    steps = (report.headline or report.summary).timesteps
    rows = [
        (f"spiking, T={steps}", energy.accumulations, energy.multiplications, energy.memory, energy.firing_rate),
        ("trained network", 0.0, energy.reference, energy.reference_memory, energy.break_even),
        (f"with {energy.bits} bit", 0.0, energy.quantized, energy.quantized_memory, energy.quantized_break_even),
    ]
    columns: list[Column[tuple[str, float, float, float, float | None]]] = [
        Column("energy, µJ", lambda row: row[0], "left"),
        Column("additions", lambda row: number(row[1])),
        Column("multiplications", lambda row: number(row[2])),
        Column("memory", lambda row: number(row[3])),
        Column("spikes per neuron and step", lambda row: "never" if row[4] is None else number(row[4])),
    ]
    constants = ", ".join(
        f"{name.replace('_', ' ')} {cost:g} pJ" for name, cost in sorted(report.energy_model.picojoules.items())
    )
    told = (
        f"estimates per inference ({constants}; {report.energy_model.source}); in the last column the rate measured, "
        "and those below which spikes need less arithmetic than the trained network, and than one with activations of "
        f"{energy.bits} bit"
    )
    return Group(table(columns, rows), told)


def render_evaluation(evaluation: Evaluation) -> RenderableType:
    """Show an evaluation: one line for each number of time steps, the energy, the blame and the gates."""
    columns: list[Column[Row]] = [
        Column("T", lambda row: str(row.timesteps)),
        Column("latency", lambda row: str(row.total_steps)),
        Column("asleep", lambda row: f"{row.sleep_used} of {row.sleep}" if row.sleep else None),
        Column("accuracy %", lambda row: _varying(row.accuracy, row.accuracy_deviation)),
        Column("drop", lambda row: _measured(row.drop, row.drop_interval, "points")),
        Column("agree %", _agreeing),
        Column("misaligned", lambda row: _misaligned(row)),
        Column("spikes", lambda row: number(row.spikes)),
        Column("operations", lambda row: number(row.synaptic_operations)),
        Column("energy", lambda row: None if row.energy.ratio is None else number(row.energy.ratio)),
    ]
    reference = evaluation.reference_accuracy
    known = "no labels" if not evaluation.labelled else "stripped of the trained network"
    trained = known if reference is None else f"the trained network has {written(reference, '%')} % accuracy"
    return Group(
        f"{evaluation.samples:,} samples; {trained}",
        table(columns, evaluation.rows),
        _legend(evaluation.rows),
        *_remarks(evaluation.rows),
        *(part for row in evaluation.rows if row.blame for part in _blamed(row, row.blame)),
        *(f"gate {gate.verdict}: {gate.sentence}" for gate in _shown(evaluation.gates)),
    )


def verifications_table(found: Sequence[Verification]) -> Table:
    """Build the table of exported files, as others run them."""
    columns: list[Column[Verification]] = [
        Column("export", lambda one: f"{one.format}, {one.variant}", "left"),
        Column("run by", lambda one: one.engine, "left"),
        Column("T", lambda one: str(one.timesteps)),
        Column("images", lambda one: f"{one.images:,}{' of noise' if one.noise else ''}"),
        Column("equal spikes %", lambda one: None if one.equal is None else fixed(one.equal, 4)),
        Column("worst layer", lambda one: None if one.worst_equal is None else fixed(one.worst_equal, 4)),
        Column("output error", lambda one: None if one.output_error is None else number(one.output_error)),
        Column("same prediction %", lambda one: _measured(one.agreement)),
        Column("accuracy there %", lambda one: _measured(one.accuracy_there)),
        Column("verdict", lambda one: one.verdict, "left"),
        Column("remark", lambda one: one.remark or None, "left"),
    ]
    return table(columns, found)


def layer_table(layers: Sequence[Layer]) -> Table:
    """Build the table of layers, with what is known of them."""
    columns: list[Column[Layer]] = [
        Column("layer", lambda layer: layer.name, "left"),
        Column("neurons", lambda layer: f"{layer.neurons:,}"),
        Column("threshold", lambda layer: _range(layer.threshold_minimum, layer.threshold_maximum)),
        Column("error %", lambda layer: _percent(layer.error)),
        Column("alone", lambda layer: _percent(layer.isolated_error)),
        Column("clip", lambda layer: _percent(layer.clipping)),
        Column("quant", lambda layer: _percent(layer.quantization)),
        Column("uneven", lambda layer: _percent(layer.unevenness)),
        Column("rate", lambda layer: _figure(layer.firing_rate)),
    ]
    return table(columns, layers)


def render_facts(facts: Mapping[str, str]) -> RenderableType:
    """Show names and values."""
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {printable(value)}".rstrip() for name, value in facts.items())


def findings(found: Iterable[Finding]) -> list[str]:
    """Return one line for each finding, of the form that errors have."""
    lines = []
    for finding in found:
        place = f" @ {finding.node}" if finding.node else ""
        said = printable(f"{finding.severity}: {finding.message}{place}")
        lines.append(f"{said}      hint: {printable(finding.hint)}")
    return lines


def table(columns: Sequence[Column[Entry]], entries: Sequence[Entry]) -> Table:
    """Build a table; columns that say nothing of any entry are left out."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    texts = []
    for column in columns:
        cells = [column.text(entry) for entry in entries]
        if any(cell is not None for cell in cells):
            grid.add_column(column.title, justify=column.justify, overflow="fold")
            texts.append(cells)
    for row in zip(*texts, strict=True):
        # Names are those of a file, which may hold what a terminal, or a CI system, would obey.
        grid.add_row(*("-" if cell is None else printable(cell) for cell in row))
    return grid


def _summary(summary: Summary, report: Report) -> str:
    calibration = report.provenance.get("calibration")
    parts = [
        f"{summary.layers} spiking layers",
        f"{summary.neurons:,} neurons",
        f"T={summary.timesteps}, {summary.total_steps} steps from image to answer",
        f"calibrated on {calibration['images']:,} images" if calibration else "uncalibrated",
    ]
    if summary.agreement is not None:
        parts.append(f"{written(summary.agreement, '%')} % of predictions as the trained network's")
    if summary.energy is not None and summary.energy.ratio is not None:
        parts.append(f"{number(summary.energy.ratio)} times its energy (estimated)")
    return ", ".join(parts)


def _range(low: float, high: float) -> str:
    return number(low) if low == high else f"{number(low)}..{number(high)}"


def _percent(share: float | None) -> str | None:
    return None if share is None else fixed(100 * share)


def _figure(value: float | None) -> str | None:
    return None if value is None else number(value)


def _blamed(row: Row, blamed: Sequence[Blame]) -> Iterator[RenderableType]:
    """Show the layers by what they add to the loss."""
    worst = sorted(blamed, key=lambda blame: -blame.points)
    columns: list[Column[Blame]] = [
        Column(f"blame at T={row.timesteps}", lambda blame: blame.name, "left"),
        Column("points", lambda blame: _measured(blame.points, blame.interval, "points")),
        Column("share %", lambda blame: _percent(blame.share)),
    ]
    yield ""
    yield table(columns, worst)
    yield f"points of the loss that enter at each layer, on {row.blame_images:,} images"
    yield ""


def _shown(gates: Sequence[Gate]) -> Iterator[Gate]:
    """Leave out layers that pass, of which there are many, and what is undecided: that is a finding."""
    return (gate for gate in gates if gate.verdict == "failed" or (gate.verdict == "passed" and not gate.layer))


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    if any(row.misalignment is not None for row in rows):
        yield "misaligned: points regained by shuffling spikes over time, and their share of the loss"
    if any(row.repeats > 1 for row in rows):
        yield f"means of {max(row.repeats for row in rows)} draws, ± their standard deviation"


def _measured(value: float | None, interval: Interval | None = None, unit: str = "%") -> str | None:
    if value is None:
        return None
    return written(value, unit) if interval is None else f"{written(value, unit)} {brackets(interval, unit)}"


def _legend(rows: Sequence[Row]) -> str:
    """Say what the columns hold, of those that are there."""
    said = ["latency: steps from image to answer"]
    if any(row.drop is not None for row in rows):
        said.append("drop: points of accuracy lost")
    if any(row.agreement is not None for row in rows):
        said.append("agree: predictions as the trained network's")
    if any(row.drop_interval or (row.drop is None and row.repeats == 1 and row.agreement_interval) for row in rows):
        said.append("brackets: 95 % interval")
    return "; ".join([*said, "spikes, operations: per image", "energy: estimated, the trained network's being 1"])


def _varying(value: float | None, deviation: float | None, interval: Interval | None = None) -> str | None:
    if value is None or deviation is None:
        return _measured(value, interval)
    return f"{written(value, '%')} ± {written(deviation, '%')}"


def _agreeing(row: Row) -> str | None:
    # Beside a drop, which says more, the interval of the agreement would only make the table wide.
    return _varying(row.agreement, row.agreement_deviation, row.agreement_interval if row.drop is None else None)


def _misaligned(row: Row) -> str | None:
    if row.misalignment is None:
        return None
    share = "" if row.misalignment_share is None else f" ({fixed(100 * row.misalignment_share, 0)} %)"
    return f"{signed(row.misalignment, 'points')}{share}"
