"""snnc evaluate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import Artifact, PartFlag, PreprocessingFlags, ReadingFlags, parsed, required_data
from snnc.errors import GateError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from rich.console import RenderableType

    from snnc.evaluation import Evaluation, Gate, Interval, Row


@commands.register("evaluate")
def evaluate(
    model: Artifact = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A folder with one sub-folder for each class, or an array file. "
            "Default: evaluation: data: in snnc.yaml.",
        ),
    ] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(metavar="T,T,...", help="Time steps to evaluate at. Default: what it was converted for."),
    ] = None,
    sleep: Annotated[
        int | None, typer.Option(metavar="N", help="Steps asleep after that. Default: as it was converted.")
    ] = None,
    repeats: Annotated[
        int, typer.Option(metavar="N", help="Draw what is random so often: means and standard deviation.")
    ] = 1,
    probe: Annotated[
        Literal["permutation"] | None,
        typer.Option(help="Shuffle spikes over time as well: how much of the loss is due to when they come."),
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(metavar="POINTS", help="Exit with 4 where accuracy drops by more.")
    ] = None,
    min_agreement: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Exit with 4 where fewer predictions stay the same.")
    ] = None,
    part: PartFlag = None,
    *,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    terminal: Terminal,
) -> None:
    """Measure accuracy, spikes and energy.

    Agreement with the trained network is measured too, and all there is to measure where the data has no labels.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    images = required_data(data, "evaluation", settings.evaluation.data)
    steps = parsed(timesteps, "--timesteps", int) or ()
    max_drop = settings.gates.max_drop if max_drop is None else max_drop
    min_agreement = settings.gates.min_agreement if min_agreement is None else min_agreement

    from snnc import evaluation, pipeline
    from snnc.artifact import load_conversion

    conversion = load_conversion(model)
    with terminal.progress() as progress:
        measured = evaluation.evaluate(
            conversion,
            data=images,
            timesteps=steps,
            sleep=sleep,
            repeats=repeats,
            probe=probe,
            preprocessing=preprocessing.resolve(settings, pipeline.preprocessing_of(conversion)),
            reading=reading.resolve(part),
            progress=progress,
        )
    gates = evaluation.gates(measured, max_drop=max_drop, min_agreement=min_agreement)

    terminal.show(
        {**measured.plain(), "gates": [dataclasses.asdict(gate) for gate in gates]}, lambda: _render(measured, gates)
    )
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        limits = "; ".join(
            f"{g.name} at T={g.timesteps}: measured {g.measured:.2f}, allowed {g.limit:g}" for g in failed
        )
        hint = "more time steps, calibration on more images, or other limits"
        raise GateError(f"gate failed: {limits}", place=str(model), hint=hint)


def _render(evaluation: Evaluation, gates: Sequence[Gate]) -> RenderableType:
    """Show an evaluation: one line for each number of time steps, then the gates and what was found."""
    from rich.console import Group

    from snnc.report.terminal import Column, findings, table

    columns: list[Column[Row]] = [
        Column("T", lambda row: str(row.timesteps)),
        Column("latency", lambda row: str(row.total_steps)),
        Column("asleep", lambda row: f"{row.sleep_used} of {row.sleep}" if row.sleep else None),
        Column("accuracy %", lambda row: _varying(row.accuracy, row.accuracy_deviation)),
        Column("drop", lambda row: _measured(row.drop, row.drop_interval)),
        # Beside a drop, which says more, the interval of the agreement would only make the table wide.
        Column("agree %", lambda row: _measured(row.agreement, row.agreement_interval if row.drop is None else None)),
        Column("misaligned", lambda row: _misaligned(row)),
        Column("spikes", lambda row: f"{row.spikes:,.0f}"),
        Column("operations", lambda row: f"{row.synaptic_operations:,.0f}"),
        Column("energy", lambda row: _ratio(row.energy_microjoules, row.reference_energy_microjoules)),
    ]
    reference = evaluation.reference_accuracy
    known = "no labels" if not evaluation.labelled else "stripped of the trained network"
    trained = known if reference is None else f"the trained network has {reference:.2f} % accuracy"
    return Group(
        f"{evaluation.samples:,} samples; {trained}",
        table(columns, evaluation.rows),
        "latency: steps from image to answer; drop: points of accuracy lost; agree: predictions as the "
        "trained network's; brackets: 95 % interval; spikes, operations: per image; "
        "energy: estimated, the trained network's being 1",
        *_remarks(evaluation.rows),
        *(_gate(gate) for gate in gates),
        *findings(evaluation.findings),
    )


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    if any(row.misalignment is not None for row in rows):
        yield "misaligned: points regained by shuffling spikes over time, and their share of the loss"
    if any(row.repeats > 1 for row in rows):
        yield f"means of {max(row.repeats for row in rows)} draws, ± their standard deviation"


def _gate(gate: Gate) -> str:
    verdict = "passed" if gate.passed else "failed"
    return f"gate {gate.name} {verdict} at T={gate.timesteps}: measured {gate.measured:.2f}, allowed {gate.limit:g}"


def _measured(value: float | None, interval: Interval | None = None) -> str | None:
    if value is None:
        return None
    return f"{value:.2f}" if interval is None else f"{value:.2f} [{interval[0]:.1f}, {interval[1]:.1f}]"


def _varying(value: float | None, deviation: float | None) -> str | None:
    return _measured(value) if value is None or deviation is None else f"{value:.2f} ± {deviation:.2f}"


def _misaligned(row: Row) -> str | None:
    if row.misalignment is None:
        return None
    share = "" if row.misalignment_share is None else f" ({100 * row.misalignment_share:.0f} %)"
    return f"{row.misalignment:+.2f}{share}"


def _ratio(value: float, reference: float) -> str | None:
    return f"{value / reference:.2f}" if reference else None
