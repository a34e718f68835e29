"""snnc inspect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import InputShape, shape
from snnc.errors import ModelError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from rich.console import RenderableType

    from snnc.conversion import Conversion
    from snnc.frontend import Survey, Verdict


@commands.register("inspect")
def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="An ONNX, TorchScript or .snn file. Default: the .snn file that snnc evaluate would take.",
        ),
    ] = None,
    input_shape: InputShape = None,
    *,
    terminal: Terminal,
) -> None:
    """Show what a model or .snn file holds.

    Of a model: every operation and what it becomes. Exits with 3 where one cannot become spiking.
    """
    settings = project.read(Path())
    path = model or settings.converted(None, Path())
    if path.suffix == ".snn":
        _show_converted(terminal, path)
    else:
        _show_trained(terminal, path, shape(input_shape, settings))


def _show_trained(terminal: Terminal, path: Path, sample_shape: tuple[int, ...] | None) -> None:
    from snnc.frontend import survey

    found = survey(path, sample_shape)
    terminal.show({**dataclasses.asdict(found), "macs": found.macs}, lambda: _render_survey(found))
    if found.problems:
        share = sum(verdict.share for verdict in found.problems)
        count = f"{len(found.problems)} of {len(found.verdicts)} operations"
        message = f"{count} cannot become spiking ({100 * share:.1f} % of the MACs)"
        # Who has not seen the table gets them here.
        details = tuple(f"{v.name} ({v.operation}): {_problem(v)}" for v in found.problems) if terminal.quiet else ()
        hint = "replace these operations and retrain, or export the network without them"
        raise ModelError(message, place=str(path), hint=hint, details=details)


def _render_survey(found: Survey) -> RenderableType:
    from rich.console import Group

    from snnc.report.terminal import Column, findings, render_facts, table

    facts = {
        "input": _shape(found.input_shape),
        "output": ", ".join(map(_shape, found.output_shapes)),
        "MACs": f"{found.macs:,}",
        "opset": str(found.opset),
        "made by": found.producer or "unknown",
        "sha256": found.sha256,
    }
    columns: list[Column[Verdict]] = [
        Column("operation", lambda verdict: verdict.name, "left"),
        Column("kind", lambda verdict: verdict.operation, "left"),
        Column("MACs %", lambda verdict: f"{100 * verdict.share:.1f}" if verdict.macs else ""),
        Column("becomes", lambda verdict: verdict.becomes or f"cannot spike: {_problem(verdict)}", "left"),
    ]
    return Group(render_facts(facts), "", table(columns, found.verdicts), *findings(found.findings))


def _problem(verdict: Verdict) -> str:
    return f"{verdict.problem}; {verdict.hint}"


def _show_converted(terminal: Terminal, path: Path) -> None:
    from snnc.artifact import load_conversion
    from snnc.conversion import latency
    from snnc.report.layers import describe

    conversion = load_conversion(path)
    layers = describe(conversion.snn)
    schedule = conversion.schedule
    facts = {
        "bytes": path.stat().st_size,
        "parameters": _parameters(conversion),
        "timesteps": schedule.timesteps,
        "sleep": schedule.sleep,
        "rehearsal": schedule.rehearsal,
        "total_steps": latency(conversion.snn, schedule),
        "coding": conversion.schedule.coding,
        "calibrated": conversion.calibrated,
        "reference": conversion.reference is not None,
        "layers": [
            {
                key: getattr(layer, key)
                for key in ("name", "source", "neuron", "neurons", "threshold_minimum", "threshold_maximum")
            }
            for layer in layers
        ],
        "passes": [{"name": a.name, "options": dict(a.options), "changed": a.changed} for a in conversion.applied],
        "findings": [dataclasses.asdict(finding) for finding in conversion.findings],
        "preprocessing": dict(conversion.preprocessing),
        "provenance": dict(conversion.provenance),
    }
    terminal.show(facts, lambda: _render_converted(conversion, facts))


def _render_converted(conversion: Conversion, facts: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    from snnc.report.layers import describe
    from snnc.report.terminal import findings, layer_table, render_facts

    provenance = conversion.provenance
    calibration = provenance.get("calibration")
    shown = {
        "made from": f"{provenance['model']['file']} (sha256 {provenance['model']['sha256']})",
        "with": ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        "calibrated": f"on {calibration['images']:,} images" if calibration else "no",
        "time steps": f"{facts['timesteps']} ({facts['total_steps']} from image to answer), {facts['coding']} coding",
        "trained network": "kept" if facts["reference"] else "stripped",
        "size": f"{facts['bytes']:,} bytes, {facts['parameters']:,} parameters",
        "preprocessing": _options(conversion.preprocessing),
        f"recipe {provenance['recipe']['name']}": "",
        **{f"  {applied.name}": _options(applied.options) for applied in conversion.applied},
    }
    layers = layer_table(describe(conversion.snn))
    return Group(render_facts(shown), "", layers, *findings(conversion.findings))


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {_value(value)}" for name, value in options.items() if value != [])


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parameters(conversion: Conversion) -> int:
    """Count weights, biases and thresholds of the spiking network."""
    ops = (node.op for node in conversion.snn.nodes.values())
    return sum(tensor.numel() for op in ops for tensor in op.tensors().values())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
