"""snnc convert."""

from collections import ChainMap
from pathlib import Path
from typing import Annotated, Any

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.jobs import given, run_jobs
from snnc.cli.options import (
    Device,
    FaceFlags,
    InputShape,
    Jobs,
    Minutes,
    PartFlag,
    PreprocessingFlags,
    ReadingFlags,
    RecipeFlags,
    ReportFile,
    Resume,
    Strict,
    TaskFlag,
    check_outputs,
    chosen_format,
    known_format,
    shape,
    task_of,
)
from snnc.cli.outcome import Beside, deliver
from snnc.cli.preview import refuse, show_plan
from snnc.errors import UsageError
from snnc.files import next_to
from snnc.project import checkpoint_beside, report_beside


@commands.register("convert")
def convert(
    context: typer.Context,
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL...", show_default=False, help="ONNX or TorchScript files. Default: model in snnc.yaml."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.snn|FOLDER",
            help="Default: the model's name, in this folder. Several models go into a folder.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Calibrate in the same go, on images, recordings, an array file, tar shards or Parquet.",
        ),
    ] = None,
    input_shape: InputShape = None,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="At most so many steps from image to answer, all counted: chooses the neuron, its levels, time "
            "steps awake and asleep, and shares of the image. --max-event is the largest event then.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --steps: the chip whose events and neurons it has to be; the report says how full it is.",
        ),
    ] = None,
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
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            callback=known_format,
            help="Write it for other programs too, beside the .snn file, verified as snnc export --verify does; snnc "
            "export --help has the formats.",
        ),
    ] = None,
    task: TaskFlag = None,
    minutes: Minutes = None,
    device: Device = "cpu",
    resume: Resume = False,
    at_once: Jobs = None,
    *,
    recipe: RecipeFlags,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    faces: FaceFlags,
    terminal: Terminal,
) -> None:
    """Convert a trained network to a spiking one.

    Without --data, thresholds come from what batch normalization states about its inputs or, where the file has none
    left, thresholds and biases come from synthetic input, in a minute: calibrate afterward. Several models are
    converted with the same flags, several at once, and told in one table; what fails stops no other.
    """
    settings = project.read(Path())
    if models and (len(models) > 1 or (output is not None and output.is_dir())):
        _convert_all(context, [settings.trained(model) for model in models], output or Path(), at_once, faces, terminal)
        return
    model = settings.trained(models[0] if models else None)
    output = output or Path(f"{model.stem}.snn")
    report_file, checkpoint = report_file or report_beside(output), checkpoint_beside(output)
    chosen = chosen_format(export, settings) if export else None
    exported_to = [next_to(output, f"{output.stem}{chosen.suffix}")] if chosen else []
    files = [output, report_file, *([save_recipe] if save_recipe else []), *faces.files().values(), *exported_to]
    faces.summary_file()
    check_outputs([*files, checkpoint], model, data=data, recipe=recipe.recipe or settings.recipe)

    from snnc.actions.convert import convert as converted
    from snnc.actions.export import check_format, convert_and_export
    from snnc.actions.plan import plan as planned
    from snnc.budget import Budget
    from snnc.cli.preview import plain_survey
    from snnc.errors import ModelError
    from snnc.files import write_atomically
    from snnc.frontend import open_model
    from snnc.recipe import recorded
    from snnc.run import computing_on

    reads = reading.resolve(part)
    arguments: dict[str, Any] = {
        "data": data,
        "preprocessing": preprocessing.resolve(settings),
        "input_shape": shape(input_shape, settings),
        "reading": reads,
    }
    answers, expected = task_of(task, settings), settings.expected_accuracy
    budget = Budget(settings.minutes if minutes is None else minutes)
    left = budget.minutes
    told, held_to = "", None
    within = recipe.steps(steps, settings)
    if within is None and target is not None:
        raise UsageError("--target without --steps", hint="add --steps, or hold it against one: snnc inspect --target")
    if within is not None:
        from snnc.actions.steps import choose_steps
        from snnc.hardware import load_target

        chip = target or settings.target
        held_to = None if chip is None else load_target(chip)
        with computing_on(device), terminal.working() as progress:
            best = choose_steps(
                model, within, target=held_to, max_event=recipe.max_event, task=answers, progress=progress, **arguments
            )
        recipe, told = recipe.along(best.way, settings), best.told
        left = budget.minutes_left
    how = recipe.resolve(settings)
    if dry_run:
        plan = planned(model, how, **arguments)
        if chosen is not None and not plan.survey.problems:
            check_format(model, how, chosen, input_shape=arguments["input_shape"])
        show_plan(terminal, plan, data, files, told)
        refuse(terminal, plan)
        return
    exported = None
    try:
        with computing_on(device), terminal.working() as progress:
            if chosen is None:
                conversion, report = converted(
                    model,
                    how,
                    task=answers,
                    expected=expected,
                    minutes=left,
                    checkpoint=checkpoint,
                    resume=resume,
                    progress=progress,
                    **arguments,
                )
            else:
                conversion, report, exported = convert_and_export(
                    model,
                    how,
                    chosen,
                    task=answers,
                    expected=expected,
                    minutes=left,
                    checkpoint=checkpoint,
                    resume=resume,
                    progress=progress,
                    **arguments,
                )
    except ModelError as error:
        if terminal.as_json and error.details:
            terminal.show(plain_survey(open_model(model, arguments["input_shape"]).survey), tuple)
        raise
    if held_to is not None:
        from snnc.actions.inspect import hold_against
        from snnc.report import held

        report = held(conversion, report, hold_against(conversion, held_to))
    if save_recipe is not None:
        write_atomically(save_recipe, recorded(conversion).to_yaml().encode())
    right = exported if exported and not exported.mismatch else None
    written = [right.written.files(path) for path in exported_to] if right else []
    beside = Beside(content=dict(ChainMap(*written)), text=told, plain={"chosen": told} if told else {})
    deliver(
        terminal,
        conversion,
        report,
        output,
        report_file,
        strip=strip,
        beside=beside,
        wanted=faces,
        strict=strict,
        checkpoint=checkpoint,
    )
    if exported is not None:
        exported.check(str(model))


def _convert_all(
    context: typer.Context,
    models: list[Path],
    output: Path,
    at_once: int | None,
    faces: FaceFlags,
    terminal: Terminal,
) -> None:
    """Convert several models into a folder, each by this very command."""
    from snnc.actions.jobs import each

    single = ("resume", "report_file", "save_recipe", "html", "markdown", "sarif", "github_summary", "dry_run")
    said = given(context, *(known.name or "" for known in context.command.params if known.name not in single))
    if said:
        hint = "convert it alone, or see snnc report"
        raise UsageError(f"{said[0]} is of one model, not of {len(models)}", place="snnc convert", hint=hint)
    if (output.exists() and not output.is_dir()) or output.suffix == ".snn":
        hint = "give a folder: -o out"
        raise UsageError(f"one file for {len(models)} models", place=str(output), hint=hint)
    several = ("models", "output", "junit", "at_once", "memory", "as_json", "quiet", "verbose")
    run_jobs(terminal, each(models, output, given(context, *several)), at_once, junit=faces.junit)
