"""snnc finetune."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import (
    InputShape,
    PreprocessingFlags,
    RecipeFlags,
    ReportFile,
    Strict,
    TaskFlag,
    TrainedModel,
    check_outputs,
    required_data,
    shape,
    task_of,
)
from snnc.cli.outcome import Beside, check_warnings, deliver
from snnc.errors import UsageError
from snnc.files import next_to
from snnc.project import report_beside
from snnc.text import counted, number, written

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.actions.finetune import Tuned
    from snnc.blocks import Block

# The recipe that --from-scratch stands for.
FROM_SCRATCH = "from-scratch"


@dataclass(frozen=True)
class TrainingFlags:
    """The training settings that are changed most; --set training.OPTION=VALUE changes any."""

    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Draw the weights anew and train from there, ReLUs as they are: the recipe from-scratch, or that of "
            "--recipe.",
        ),
    ] = False
    epochs: Annotated[int | None, typer.Option(metavar="N", help="How often every image is shown.")] = None
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images to a step, of all processes.")] = None
    learning_rate: Annotated[float | None, typer.Option(metavar="RATE", help="The highest learning rate.")] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Draws what is held out, the order, the noise.")] = None

    def settings(self) -> list[str]:
        """Return the flags that were given as settings of a recipe."""
        given: dict[str, float | str | None] = {"epochs": self.epochs, "batch-size": self.batch_size}
        given |= {"learning-rate": self.learning_rate, "seed": self.seed}
        if self.from_scratch:
            given |= {"from-scratch": "true", "distillation": 0, "features": 0}
        return [f"training.{name}={value}" for name, value in given.items() if value is not None]


@commands.register("finetune")
def finetune(
    model: TrainedModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Data with labels: a folder with one sub-folder for each class, an array file with x and y, tar "
            "shards or Parquet. Default: calibration: data: in snnc.yaml.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="TUNED.onnx", help="Default: the model's name and .tuned.onnx."),
    ] = None,
    convert: Annotated[
        Path | None, typer.Option(metavar="OUT.snn", help="Convert the tuned network in the same go.")
    ] = None,
    report_file: ReportFile = None,
    input_shape: InputShape = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train; auto is a GPU where there is one.")
    ] = "auto",
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Written after every epoch and on a signal. Default: OUTPUT.checkpoint."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint, to the result of a run that was not stopped.")
    ] = False,
    task: TaskFlag = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write a line of figures for each epoch.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Use so many images only, spread evenly.")] = None,
    strict: Strict = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Threads that read images. Default: one per core, at most 8.")
    ] = None,
    *,
    training: TrainingFlags,
    recipe: RecipeFlags,
    preprocessing: PreprocessingFlags,
    terminal: Terminal,
) -> None:
    """Train a network on labeled images, so that it converts without further loss.

    The result is an ordinary ONNX file whose activations are quantized, for snnc convert; or, with --from-scratch, one
    of plain ReLUs. A share (of every class) is held out, and the epoch with the best score on it is kept. Under
    torchrun, all processes train one network.
    """
    settings = project.read(Path())
    model = settings.trained(model, "finetune")
    images = required_data(data, "calibration", settings.calibration.data)
    output = output or Path(f"{model.stem}.tuned.onnx")
    checkpoint = checkpoint or next_to(output, f"{output.name}.checkpoint")
    if report_file is not None and convert is None:
        raise UsageError("a report is made by converting", place="--report", hint="give --convert OUT.snn as well")
    spiking = [] if convert is None else [convert, report_file or report_beside(convert)]
    results = [output, checkpoint, *spiking, *([log] if log else [])]
    check_outputs(results, model, data=images, recipe=recipe.recipe or settings.recipe)
    if resume and not checkpoint.is_file():
        hint = "start without --resume, or name the checkpoint with --checkpoint"
        raise UsageError("there is no checkpoint to go on from", place=str(checkpoint), hint=hint)
    if checkpoint.exists() and not resume:
        hint = "go on from it with --resume, or remove it"
        raise UsageError("there is a checkpoint of an earlier training", place=str(checkpoint), hint=hint)
    sample_shape = shape(input_shape, settings)
    how_images = preprocessing.resolve(settings)

    from snnc.actions import finetune as action
    from snnc.actions.convert import convert as converted
    from snnc.data.dataset import Reading
    from snnc.files import write_atomically
    from snnc.processes import current
    from snnc.recipe import override
    from snnc.report.rows import csv_of

    if training.from_scratch and recipe.recipe is None:
        recipe = replace(recipe, recipe=FROM_SCRATCH)
    how, answers = recipe.resolve(settings), task_of(task, settings)
    action.check_training(how)
    how = override(how, overrides=training.settings())
    reading = Reading(workers=workers, limit=limit)
    with terminal.working(choosing=False) as progress:
        tuned = action.finetune(
            model,
            how,
            data=images,
            task=answers,
            preprocessing=how_images,
            input_shape=sample_shape,
            reading=reading,
            device=device,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
            after_epoch=(lambda history: None)
            if log is None
            else lambda history: write_atomically(log, csv_of(history).encode()),
        )
    tuned.save(output)
    # Whoever converts it reads it.
    current().meet("the network that was trained")
    # Only what is finished needs no checkpoint any more.
    checkpoint.unlink(missing_ok=True)
    if convert is None:
        files = [str(output), *([str(log)] if log else [])]
        terminal.show({"files": files, "training": tuned.plain()}, lambda: _shown(tuned, files, how.timesteps))
        if strict:
            check_warnings(tuned.findings, str(output))
        return
    with terminal.working(choosing=False) as progress:
        conversion, report = converted(
            output, how, data=images, task=answers, preprocessing=how_images, reading=reading, progress=progress
        )
    beside = Beside({"training": tuned.plain()}, [str(output)], _summary(tuned), findings=tuned.findings)
    deliver(terminal, conversion, report, convert, spiking[1], beside=beside, strict=strict)


def _summary(tuned: Tuned) -> str:
    after = f"after {counted(len(tuned.history), 'epoch')} on {counted(tuned.samples, 'image')}"
    held_out = f"{counted(tuned.held_out, 'image')} held out"
    if tuned.score is None:
        loss = min(row["held_out_loss"] for row in tuned.history)
        return f"a loss of {number(loss)} on {held_out}, {after}"
    if tuned.before is not None:
        after += f" (before: {written(tuned.before, '%')} %)"
    score = f"{written(tuned.score, '%')} %"
    if tuned.task.score_name == "accuracy":
        return f"{score} of {held_out}, {after}"
    return f"{score} {tuned.task.score_name} on {tuned.held_out} held out, {after}"


def _shown(tuned: Tuned, files: list[str], timesteps: int) -> list[Block]:
    from snnc.blocks import Text
    from snnc.report.sections.findings import by_kind

    following = f"next: snnc convert {files[0]} --timesteps {timesteps} --data FOLDER"
    told = [*by_kind(tuned.findings), Text(f"written: {', '.join(files)}"), Text(following)]
    return [Text(_summary(tuned)), *told]
