"""snnc convert."""

from pathlib import Path
from typing import Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import (
    FaceFlags,
    InputShape,
    Output,
    PartFlag,
    PreprocessingFlags,
    ReadingFlags,
    RecipeFlags,
    ReportFile,
    Strict,
    TrainedModel,
    check_outputs,
    shape,
)
from snnc.cli.outcome import deliver, report_beside
from snnc.cli.preview import refuse, show_plan


@commands.register("convert")
def convert(
    model: TrainedModel = None,
    output: Output = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Calibrate in the same go, on a folder of images or an array file."),
    ] = None,
    input_shape: InputShape = None,
    save_recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the recipe with every option spelled out.")
    ] = None,
    report_file: ReportFile = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave the trained network out: smaller, but cannot be calibrated again.")
    ] = False,
    strict: Strict = False,
    part: PartFlag = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell what would be done, and the recipe in full; write and measure nothing."),
    ] = False,
    *,
    recipe: RecipeFlags,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    faces: FaceFlags,
    terminal: Terminal,
) -> None:
    """Convert a trained network to a spiking one.

    Without --data, thresholds come from what batch normalization states about its inputs: calibrate afterwards.
    """
    settings = project.read(Path())
    model = settings.trained(model)
    output = output or Path(f"{model.stem}.snn")
    report_file = report_file or report_beside(output)
    files = [output, report_file, *([save_recipe] if save_recipe else []), *faces.files().values()]
    faces.summary_file()
    check_outputs(files, model)
    sample_shape = shape(input_shape, settings)
    how_images = preprocessing.resolve(settings)

    from snnc import pipeline, planning
    from snnc.files import write_atomically

    how = recipe.resolve(settings)
    reads = reading.resolve(part)
    if dry_run:
        plan = planning.plan(model, how, data=data, preprocessing=how_images, input_shape=sample_shape, reading=reads)
        show_plan(terminal, plan, data, files)
        refuse(terminal, plan)
        return
    with terminal.progress() as progress:
        conversion, report = pipeline.convert(
            model,
            how,
            data=data,
            preprocessing=how_images,
            input_shape=sample_shape,
            reading=reads,
            progress=progress,
        )
    if save_recipe is not None:
        write_atomically(save_recipe, how.to_yaml().encode())
    deliver(terminal, conversion, report, output, report_file, strip=strip, wanted=faces, strict=strict)
