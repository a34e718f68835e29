"""snnc sweep."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import (
    InputShape,
    PreprocessingFlags,
    TaskFlag,
    TrainedModel,
    parsed_numbers,
    required_data,
    shape,
    task_of,
)
from snnc.errors import DataError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.blocks import Block
    from snnc.report.sweep import Sweep

# Names, of which some have options in brackets.
_NAME = re.compile(r"[^,(]+(?:\([^)]*\))?")


@commands.register("sweep")
def sweep(
    model: TrainedModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images of which every seed draws two thirds to calibrate on. "
            "Default: calibration: data: in snnc.yaml.",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images that judge, best with labels. Default: evaluation: data: in snnc.yaml, else the third that "
            "does not calibrate.",
        ),
    ] = None,
    recipes: Annotated[
        str, typer.Option(metavar="NAME|FILE,...", help="The recipes: snnc list recipes has the names.")
    ] = "quick",
    neurons: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Neurons, in place of the recipes' own: snnc list neurons.")
    ] = None,
    levels: Annotated[
        str | None, typer.Option(metavar="L,...", help="Levels, of neurons that are made with some, such as graded.")
    ] = None,
    timesteps: Annotated[
        str | None, typer.Option(metavar="T,...", help="Time steps, each calibrated for. Default: the recipes' own.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="N,...", help="Each draws other images to calibrate on, and what is random.")
    ] = "0",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where results are kept; run again, it goes on. Default: MODEL.sweep.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Of --data use so many images only.")] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images at once; changes no result.")] = 64,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Threads that read images. Default: one per core, at most 8.")
    ] = None,
    input_shape: InputShape = None,
    task: TaskFlag = None,
    *,
    preprocessing: PreprocessingFlags,
    terminal: Terminal,
) -> None:
    """Convert in every combination of recipes, neurons, levels, time steps and seeds, and compare all of them.

    Writes a page with all curves, rows as CSV and JSON, tables with means and deviations as LaTeX and Markdown, and
    BibTeX of what is used. What is done stays: run again, it goes on where it was.
    """
    settings = project.read(Path())
    model = settings.trained(model, "sweep")
    images = required_data(data, "calibration", settings.calibration.data)
    folder = output or Path(f"{model.stem}.sweep")
    if folder.exists() and not folder.is_dir():
        raise DataError("cannot write: not a folder", place=str(folder), hint="choose another with --output")
    steps, counts = parsed_numbers(timesteps, "--timesteps", int), parsed_numbers(levels, "--levels", int)
    drawn = parsed_numbers(seeds or None, "--seeds", int) or ()

    from snnc.actions.sweep import sweep as swept
    from snnc.data.dataset import Reading

    with terminal.working() as progress:
        found = swept(
            model,
            data=images,
            judged_on=test or settings.evaluation.data,
            recipes=_names(recipes),
            neurons=_names(neurons or ""),
            levels=counts or (),
            timesteps=steps or (),
            seeds=drawn,
            folder=folder,
            task=task_of(task, settings),
            preprocessing=preprocessing.resolve(settings),
            input_shape=shape(input_shape, settings),
            reading=Reading(batch_size, workers, limit),
            progress=progress,
        )
    files = [*map(str, found.save())]
    terminal.show({**found.plain(), "files": files}, lambda: _shown(found, files))


def _names(text: str) -> list[str]:
    return [name.strip() for name in _NAME.findall(text) if name.strip()]


def _shown(found: Sweep, files: Sequence[str]) -> Iterator[Block]:
    from snnc.blocks import Text

    yield from found.blocks()
    yield Text(f"written: {', '.join(files)}")
