"""snnc evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import (
    Artifact,
    Device,
    FaceFlags,
    GateFlags,
    PartFlag,
    PreprocessingFlags,
    ReadingFlags,
    ReportFile,
    StreamFlags,
    Strict,
    TaskFlag,
    check_outputs,
    parsed_numbers,
    required_data,
    task_of,
)
from snnc.cli.outcome import check_warnings, write_faces
from snnc.errors import GateError, UsageError
from snnc.project import report_beside

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.blocks import Block


@commands.register("evaluate")
def evaluate(
    model: Artifact = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A folder with one sub-folder for each class, an array file, tar shards or Parquet. "
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
        bool,
        typer.Option(
            "--blame",
            help="Say which layers the loss comes from, by switching them one by one (at the network's own T).",
        ),
    ] = False,
    blame_images: Annotated[
        int, typer.Option(metavar="N", help="At most so many images for that, each run once for every layer.")
    ] = 1024,
    exit_confidence: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Stop each sample when its answer is certain: that of the whole run with this confidence, as in 0.99.",
        ),
    ] = None,
    exit_data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Samples to learn that on, no labels needed, other than those of the calibration. Default: a fifth of "
            "the data, which is not judged then.",
        ),
    ] = None,
    report_file: ReportFile = None,
    no_fail: Annotated[
        bool, typer.Option("--no-fail", help="Report failed gates and warnings, but exit with 0.")
    ] = False,
    strict: Strict = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, instead of adding to what the report has of before.")
    ] = False,
    part: PartFlag = None,
    device: Device = "cpu",
    task: TaskFlag = None,
    *,
    stream: StreamFlags,
    gates: GateFlags,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    faces: FaceFlags,
    terminal: Terminal,
) -> None:
    """Measure accuracy, spikes and energy.

    Agreement with the trained network is measured too, and all there is to measure where the data has no labels. What
    was measured goes into the report of the network, beside what it has of before. A gate fails where what was measured
    is beyond its limit; it passes within, as not proven where the 95 % interval reaches beyond.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    images = required_data(data, "evaluation", settings.evaluation.data)
    steps = parsed_numbers(timesteps, "--timesteps", int) or ()
    limits = gates.resolve(settings)
    between = stream.resolve()
    if blame_images < 1:
        raise UsageError(f"{blame_images} images", place="--blame-images", hint="give a whole number from 1")
    certain = settings.evaluation.exit_confidence if exit_confidence is None else exit_confidence
    if exit_data is not None and certain is None:
        hint = "add --exit-confidence, or leave out --exit-data"
        raise UsageError("--exit-data without --exit-confidence", hint=hint)
    report_file = report_file or report_beside(model)
    faces.summary_file()
    check_outputs([report_file, *faces.files().values()], model, data=images)

    from snnc.actions.evaluate import evaluate as evaluated
    from snnc.artifact import load_conversion
    from snnc.report import completed
    from snnc.report.data import write
    from snnc.run import computing_on

    conversion = load_conversion(model)
    how = preprocessing.resolve(settings, conversion.preprocessing, compares=True)
    with computing_on(device), terminal.working() as progress:
        measured = evaluated(
            conversion,
            data=images,
            timesteps=steps,
            sleep=sleep,
            repeats=repeats,
            probe=probe,
            blamed=blame_images if blame else 0,
            limits=limits,
            task=task_of(task, settings),
            preprocessing=how,
            expected=settings.expected_accuracy,
            exit_confidence=certain,
            exit_data=exit_data,
            reference=preprocessing.compared_with,
            around=[Path(), model.parent, *([settings.model.parent] if settings.model else [])],
            reading=reading.resolve(part),
            stream=between,
            images=not faces.no_images,
            progress=progress,
        )
    report = completed(conversion, report_file, evaluation=measured, fresh=fresh)
    write(report, report_file)
    files = [str(report_file), *write_faces(report, faces)]

    def human() -> Iterator[Block]:
        from snnc.blocks import Text
        from snnc.report.faces.terminal import lines
        from snnc.report.sections.findings import by_kind

        yield from lines(report, evaluated=True)
        # Those of the conversion are known; of them, warnings are what --strict fails on, unless found again.
        again = {(f.code, f.node) for f in measured.findings}
        others = [f for f in report.all_findings if f.severity == "warning" and (f.code, f.node) not in again]
        shown = [*measured.findings, *(f for f in others if f not in measured.findings)]
        yield from by_kind(shown)
        yield Text(f"preprocessing: {how.told}")
        yield Text(f"written: {', '.join(files)}")

    terminal.show({**measured.plain(), "files": files}, human)
    failed = [gate for gate in measured.gates if gate.verdict == "failed"]
    if failed and not no_fail:
        hint = "snnc tune looks for a network that keeps to limits; else give others"
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        details = tuple(gate.sentence for gate in failed[1:])
        raise GateError(f"gate failed: {failed[0].sentence}{others}", place=str(model), hint=hint, details=details)
    if strict and not no_fail:
        check_warnings(report.all_findings, str(model))
