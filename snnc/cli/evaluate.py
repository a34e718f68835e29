"""snnc evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import (
    Artifact,
    FaceFlags,
    GateFlags,
    PartFlag,
    PreprocessingFlags,
    ReadingFlags,
    ReportFile,
    Strict,
    check_outputs,
    parsed,
    required_data,
)
from snnc.cli.outcome import check_warnings, report_beside, write_faces
from snnc.errors import GateError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from rich.console import RenderableType

    from snnc.gates import Gate
    from snnc.intervals import Interval
    from snnc.report.data import Blame, Evaluation, Row


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
    blame: Annotated[
        bool, typer.Option("--blame", help="Say which layers the loss comes from, by switching them one by one.")
    ] = False,
    report_file: ReportFile = None,
    no_fail: Annotated[bool, typer.Option("--no-fail", help="Report failed gates, but exit with 0.")] = False,
    strict: Strict = False,
    part: PartFlag = None,
    *,
    gates: GateFlags,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    faces: FaceFlags,
    terminal: Terminal,
) -> None:
    """Measure accuracy, spikes and energy.

    Agreement with the trained network is measured too, and all there is to measure where the data has no labels. What
    was measured goes into the report of the network. A gate passes or fails where the whole 95 % interval is on one
    side of its limit, and is undecided otherwise.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    images = required_data(data, "evaluation", settings.evaluation.data)
    steps = parsed(timesteps, "--timesteps", int) or ()
    limits = gates.resolve(settings)
    report_file = report_file or report_beside(model)
    faces.summary_file()
    check_outputs([report_file, *faces.files().values()], model)

    from snnc import evaluation, pipeline
    from snnc.artifact import load_conversion
    from snnc.report import completed
    from snnc.report.data import write
    from snnc.report.sentence import sentence

    conversion = load_conversion(model)
    with terminal.progress() as progress:
        measured = evaluation.evaluate(
            conversion,
            data=images,
            timesteps=steps,
            sleep=sleep,
            repeats=repeats,
            probe=probe,
            blamed=blame,
            limits=limits,
            preprocessing=preprocessing.resolve(settings, pipeline.preprocessing_of(conversion)),
            reading=reading.resolve(part),
            progress=progress,
        )
    report = completed(conversion, report_file, measured)
    write(report, report_file)
    files = [str(report_file), *write_faces(report, faces)]
    terminal.show({**measured.plain(), "files": files}, lambda: _render(measured, files, sentence(report)))
    failed = [gate for gate in measured.gates if gate.verdict == "failed"]
    if failed and not no_fail:
        hint = "more time steps, calibration on more images, or other limits"
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        details = tuple(gate.sentence for gate in failed[1:])
        raise GateError(f"gate failed: {failed[0].sentence}{others}", place=str(model), hint=hint, details=details)
    if strict and not no_fail:
        check_warnings(report.all_findings, str(model))


def _render(evaluation: Evaluation, files: Sequence[str], summary: str) -> RenderableType:
    """Show an evaluation: one line for each number of time steps, the blame, the gates and what was found."""
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
        Column("energy", lambda row: _measured(row.energy.ratio)),
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
        summary,
        *(part for row in evaluation.rows if row.blame for part in _blamed(row, row.blame)),
        *(f"gate {gate.verdict}: {gate.sentence}" for gate in _shown(evaluation.gates)),
        *findings(evaluation.findings),
        f"written: {', '.join(files)}",
    )


def _blamed(row: Row, blamed: Sequence[Blame]) -> Iterator[RenderableType]:
    """Show the layers by what they add to the loss."""
    from snnc.report.terminal import Column, table

    worst = sorted(blamed, key=lambda blame: -blame.points)
    columns: list[Column[Blame]] = [
        Column(f"blame at T={row.timesteps}", lambda blame: blame.name, "left"),
        Column("points", lambda blame: _measured(blame.points, blame.interval)),
        Column("share %", lambda blame: None if blame.share is None else f"{100 * blame.share:.0f}"),
    ]
    yield ""
    yield table(columns, worst)
    yield f"points of the loss that enter at each layer, on {row.blame_images:,} images"
    yield ""


def _shown(gates: Sequence[Gate]) -> Iterator[Gate]:
    """Leave out the layers that pass: there are many."""
    return (gate for gate in gates if gate.verdict != "passed" or not gate.layer)


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    if any(row.misalignment is not None for row in rows):
        yield "misaligned: points regained by shuffling spikes over time, and their share of the loss"
    if any(row.repeats > 1 for row in rows):
        yield f"means of {max(row.repeats for row in rows)} draws, ± their standard deviation"


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
