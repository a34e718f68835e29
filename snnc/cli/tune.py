"""snnc tune."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import (
    InputShape,
    Output,
    PreprocessingFlags,
    ReadingFlags,
    ReportFile,
    TaskFlag,
    TrainedModel,
    check_outputs,
    required_data,
    shape,
    task_of,
    typed,
)
from snnc.errors import GateError, UsageError
from snnc.measure.figures import DROP, RELATIVE_DROP
from snnc.project import report_beside
from snnc.text import counted, fixed, number

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.actions.tune import Advice, Chosen, Trial
    from snnc.blocks import Block
    from snnc.findings import Finding

_MAX_DROP = 1.0


@commands.register("tune")
def tune(
    model: TrainedModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images, recordings, an array file, tar shards or Parquet, best with labels. "
            "Default: calibration: data: in snnc.yaml.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Accuracy, or other score, that may be lost; without labels, percent of answers that may change; of "
            "values, percent of their size that they may move. "
            "Default: gates: max-drop: in snnc.yaml, or 1.",
        ),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(metavar="N", help="Steps from image to answer at most.")] = None,
    max_energy: Annotated[
        float | None,
        typer.Option(metavar="RATIO", help="Energy at most, memory traffic included, the trained network's being 1."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Look no longer than this. Default: until all is tried.")
    ] = None,
    latency: Annotated[
        Literal["one-step", "synchronous", "pipelined"] | None,
        typer.Option(
            help="Only networks whose layers all fire at once, or whose layers wait for the one before; or those that "
            "answer within a step, by events that carry a number, tried with more and fewer levels."
        ),
    ] = None,
    proven: Annotated[
        bool, typer.Option("--proven", help="Keep to the drop with the whole 95 % interval, not as measured only.")
    ] = False,
    weight_bits: Annotated[
        str | None,
        typer.Option(
            metavar="N[,M]",
            help="Weights in whole numbers of N bits; where that loses too much, of M in the layers that need them.",
        ),
    ] = None,
    prefer: Annotated[Literal["energy", "steps"], typer.Option(help="What makes a network cheap.")] = "energy",
    output: Output = None,
    input_shape: InputShape = None,
    save_recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the chosen recipe with every option spelled out.")
    ] = None,
    frontier: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write all candidates with what was measured.")
    ] = None,
    report_file: ReportFile = None,
    task: TaskFlag = None,
    *,
    preprocessing: PreprocessingFlags,
    reading: ReadingFlags,
    terminal: Terminal,
) -> None:
    """Find the cheapest spiking network that loses no more than allowed.

    Tries recipes, neurons, thresholds and time steps. Two thirds of the images calibrate, one third judges. Exits
    with 4 where nothing keeps to the limits.
    """
    settings = project.read(Path())
    model = settings.trained(model, "tune")
    images = required_data(data, "calibration", settings.calibration.data)
    output = output or Path(f"{model.stem}.snn")
    report_file = report_file or report_beside(output)
    check_outputs([output, report_file, *(path for path in (save_recipe, frontier) if path)], model, data=images)
    sample_shape = shape(input_shape, settings)
    if max_drop is None:
        if settings.gates.on(RELATIVE_DROP) is not None:
            hint = "give --max-drop POINTS"
            raise UsageError("a relative limit, of which the search knows nothing", place="gates: max-drop", hint=hint)
        own = settings.gates.on(DROP)
        max_drop = _MAX_DROP if own is None else own

    from snnc.actions.tune import tune as tuned
    from snnc.files import write_atomically
    from snnc.report import to_json
    from snnc.report.report import save

    with terminal.working() as progress:
        advice = tuned(
            model,
            data=images,
            max_drop=max_drop,
            max_steps=max_steps,
            max_energy=max_energy,
            minutes=minutes,
            latency=latency,
            proven=proven or settings.gates.proven,
            weight_bits=_widths(weight_bits),
            prefer=prefer,
            task=task_of(task, settings),
            preprocessing=preprocessing.resolve(settings),
            input_shape=sample_shape,
            reading=reading.resolve(),
            progress=progress,
        )
    files = []
    if frontier is not None:
        text = json.dumps(advice.plain(), sort_keys=True, indent=1, allow_nan=False)
        write_atomically(frontier, f"{text}\n".encode())
        files.append(str(frontier))
    chosen, command, report = advice.chosen, "", None
    if chosen is not None:
        given = [*typed(preprocessing), *typed(reading, "limit", "seed")]
        given += [part for text in input_shape or [] for part in ("--input-shape", text)]
        source = ["snnc", "convert", str(model), "--data", str(images), "--part", "calibration"]
        command = shlex.join([*source, *given, *chosen.trial.candidate.flags, "--output", str(output)])
        report = json.loads(to_json(chosen.report))
        save(chosen.conversion, output, chosen.report, report_file)
        files = [str(output), str(report_file), *files]
        if save_recipe is not None:
            write_atomically(save_recipe, chosen.trial.candidate.recipe.to_yaml().encode())
            files.append(str(save_recipe))

    terminal.show(
        {**advice.plain(), "command": command or None, "files": files, "report": report},
        lambda: _shown(advice, command, files),
    )
    if chosen is None:
        hint = "allow more steps, energy, drop or minutes, or give more images to calibrate on"
        raise GateError(advice.shortfall, place=str(model), hint=hint)


def _widths(text: str | None) -> tuple[int, ...]:
    """Read widths of weights."""
    try:
        return tuple(int(part) for part in (text or "").split(",") if text)
    except ValueError:
        raise UsageError(
            f"{text!r} as widths of weights", place="--weight-bits", hint="give whole numbers: 4,8"
        ) from None


def _shown(advice: Advice, command: str, files: list[str]) -> Iterator[Block]:
    """Tell all candidates, best first, then the one that was chosen and how to make it again."""
    from snnc.blocks import Cell, Column, Listing, Table, Text
    from snnc.report.sections.findings import by_kind

    drop = advice.loss.title
    better = "no other is better in drop, latency or energy without being worse in another"
    levels = [(Column("levels", about="in the mean where mixed"), lambda row: str(row[1].candidate.number))]
    yield Text(
        f"{counted(len(advice.trials), 'candidate')}, calibrated on {len(advice.calibration):,} images and judged on "
        f"{len(advice.judging):,} others{_trained(advice)}"
    )
    yield Table.of(
        "",
        [
            (Column("rank"), lambda row: str(row[0])),
            (Column("candidate", "words"), lambda row: row[1].candidate.family.title),
            (Column("T"), lambda row: str(row[1].candidate.timesteps)),
            *(levels if any(trial.candidate.family.count == "levels" for trial in advice.trials) else ()),
            (Column("latency", about="steps from image to answer"), lambda row: str(row[1].steps)),
            (
                Column("drop", about=drop, bracketed=True),
                lambda row: Cell.of(row[1].drop, row[1].drop_interval, "points"),
            ),
            (
                Column("agree %", about="answers as the trained network's"),
                lambda row: Cell.of(row[1].row.agreement, unit="%"),
            ),
            (Column("spikes", about="per image"), lambda row: number(row[1].row.spikes)),
            (
                Column("energy", about="with memory traffic, estimated, the trained network's being 1"),
                lambda row: number(row[1].energy_ratio),
            ),
            (
                Column("arithmetic", about="its energy alone"),
                lambda row: number(row[1].row.energy.arithmetic_ratio or 0),
            ),
            (Column("seconds"), lambda row: fixed(row[1].seconds)),
            (Column("frontier", about=better), lambda row: "*" if row[1].frontier else None),
            (Column("limits", "words"), lambda row: _verdict(row[1], advice.chosen)),
        ],
        [*enumerate(advice.trials, 1)],
    )
    yield Text("")
    if advice.chosen is not None:
        yield Text(_sentence(advice, advice.chosen.trial))
        yield Listing((f"made again by: {command}",))
    if files:
        yield Text(f"written: {', '.join(files)}")
    yield from by_kind([*advice.findings, *_warnings(advice)])


def _warnings(advice: Advice) -> list[Finding]:
    """Return what is to be distrusted in the chosen network, as snnc convert tells it."""
    found = () if advice.chosen is None else advice.chosen.report.all_findings
    return [finding for finding in found if finding.severity == "warning"]


def _sentence(advice: Advice, trial: Trial) -> str:
    """Say in plain words what was chosen."""
    lost = advice.loss.said(trial.drop)
    ratio, arithmetic = number(trial.energy_ratio), number(trial.row.energy.arithmetic_ratio or 0.0)
    least = "least energy" if advice.prefer == "energy" else "fewest steps"
    return (
        f"chosen: {trial.candidate.title}: {lost} (a drop of {advice.limits.max_drop:g} is allowed), answers after "
        f"{counted(trial.steps, 'step')} and needs an estimated {ratio} times the trained network's energy "
        f"(arithmetic alone {arithmetic}): the {least} of all that keep to the limits"
    )


def _trained(advice: Advice) -> str:
    from snnc.report.sentence import reached

    return f"; on these the trained network has {reached(advice.reference)}" if advice.reference else "; no labels"


def _verdict(trial: Trial, chosen: Chosen | None) -> str | None:
    told = "kept" if trial.gate.proven else "kept, not proven"
    if chosen is not None and trial is chosen.trial:
        return f"{told}, chosen"
    return told if trial.kept else None
