"""snnc calibrate."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import (
    Artifact,
    Device,
    FaceFlags,
    Minutes,
    PartFlag,
    PreprocessingFlags,
    ReadingFlags,
    RecipeFlags,
    ReportFile,
    Resume,
    Strict,
    check_outputs,
    required_data,
)
from snnc.cli.outcome import deliver
from snnc.project import checkpoint_beside, report_beside


@commands.register("calibrate")
def calibrate(
    model: Artifact = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images, recordings, an array file, tar shards or Parquet; no labels needed. "
            "Default: calibration: data: in snnc.yaml.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.snn", help="Default: the file itself.")
    ] = None,
    reset: Annotated[
        Literal["zero"] | None,
        typer.Option(
            help="zero: for a target whose neurons lose what is above the threshold when they fire, as in NIR."
        ),
    ] = None,
    report_file: ReportFile = None,
    strict: Strict = False,
    part: PartFlag = None,
    minutes: Minutes = None,
    device: Device = "cpu",
    resume: Resume = False,
    *,
    recipe: RecipeFlags,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    faces: FaceFlags,
    terminal: Terminal,
) -> None:
    """Calibrate a converted network on images.

    Thresholds and corrections are worked out again. Recipe and preprocessing are those of the flags, else of snnc.yaml,
    else those it was converted with.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    images = required_data(data, "calibration", settings.calibration.data)
    output = output or model
    report_file, checkpoint = report_file or report_beside(output), checkpoint_beside(output)
    faces.summary_file()
    # In place, the file itself is a result.
    results, source = [output, report_file, *faces.files().values()], None if output == model else model
    check_outputs([*results, checkpoint], source, data=images, recipe=recipe.recipe or settings.recipe)

    from snnc.actions.calibrate import calibrate as recalibrated
    from snnc.artifact import load_conversion
    from snnc.recipe import recorded, reset_to_zero
    from snnc.run import computing_on

    conversion = load_conversion(model)
    how = recipe.resolve(settings, lambda: recorded(conversion))
    if reset is not None:
        how = reset_to_zero(how)
    with computing_on(device), terminal.working() as progress:
        conversion, report = recalibrated(
            conversion,
            how,
            data=images,
            preprocessing=preprocessing.resolve(settings, conversion.preprocessing),
            expected=settings.expected_accuracy,
            reading=reading.resolve(part),
            minutes=settings.minutes if minutes is None else minutes,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
        )
    deliver(terminal, conversion, report, output, report_file, wanted=faces, strict=strict, checkpoint=checkpoint)
