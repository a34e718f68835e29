"""What was measured, for people at a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table

from snnc.findings import Finding
from snnc.report import Report, Summary
from snnc.report.layers import Layer
from snnc.report.sentence import sentence

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Column(Generic[Entry]):
    """A column of a table: its title, and what it says of an entry (None: nothing is known)."""

    title: str
    text: Callable[[Entry], str | None]
    justify: Literal["left", "right"] = "right"


def render(report: Report) -> RenderableType:
    """Show a conversion: its layers, a summary, and what was found."""
    shown: list[RenderableType] = [layer_table(report.layers)]
    if report.summary.images:
        shown.append(
            "error: relative distance (L2) to the trained network, all layers converted, and what of it this layer "
            "adds by clipping, quantization and unevenness; alone: only this layer converted; "
            "rate: spikes per neuron and step"
        )
    return Group(*shown, "", _summary(report.summary, report), sentence(report), *findings(report.all_findings))


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
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in facts.items())


def findings(found: Iterable[Finding]) -> list[str]:
    """Return one line for each finding, of the form that errors have."""
    lines = []
    for finding in found:
        place = f" @ {finding.node}" if finding.node else ""
        lines.append(f"{finding.severity}: {finding.message}{place}      hint: {finding.hint}")
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
        grid.add_row(*("-" if cell is None else cell for cell in row))
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
        parts.append(f"{summary.agreement:.1f} % of predictions as the trained network's")
    if summary.energy is not None and summary.energy.ratio is not None:
        parts.append(f"{summary.energy.ratio:.2f} times its energy (estimated)")
    return ", ".join(parts)


def _range(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f}"


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
