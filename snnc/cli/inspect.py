"""snnc inspect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import InputShape, RecipeFlags, check_outputs, shape
from snnc.cli.preview import as_typed, facts_of, plain_survey, refuse, survey_blocks
from snnc.errors import UsageError
from snnc.project import Project, report_beside
from snnc.validation import parse

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.actions.inspect import Inspected
    from snnc.actions.plan import Plan
    from snnc.blocks import Block
    from snnc.figure import Energy
    from snnc.frontend import InputShapes
    from snnc.hardware import Fitted


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
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.onnx",
            help="Write the ONNX model, its weights inside, with what becomes of every operation: Netron shows it.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a .snn file: how full it makes a chip (akida, loihi2, speck, spinnaker2, xylo, or generic-mcu by "
            "its file in C), what does not fit, by how much, and the nearest change with which it would. Exits with 4 "
            "where something does not.",
        ),
    ] = None,
    flash: Annotated[int | None, typer.Option(metavar="BYTES", help="Of generic-mcu: how much flash it has.")] = None,
    ram: Annotated[int | None, typer.Option(metavar="BYTES", help="Of generic-mcu: how much RAM it has.")] = None,
    macs: Annotated[
        float | None, typer.Option(metavar="N", help="Of generic-mcu: its multiply-accumulates a second, in floats.")
    ] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="With --target: also put what it says into this report."),
    ] = None,
    *,
    terminal: Terminal,
) -> None:
    """Show what a model or .snn file holds.

    Of a model: every operation and what the recipe of snnc.yaml, or the default one, makes of it. Exits with 3 where
    one cannot become spiking.
    """
    settings = project.read(Path())
    path = model or settings.converted(None, Path())
    room = {"flash": flash, "ram": ram, "macs": macs}
    if target is None:
        for flag, value in {**room, "report": report_file}.items():
            if value is not None:
                hint = "add --target generic-mcu, or leave it out"
                raise UsageError(f"--{flag} without --target", hint=hint)
    if path.suffix == ".snn":
        if annotate is not None:
            hint = "annotate the model it was converted from"
            raise UsageError("a spiking network is no ONNX model to annotate", place=str(path), hint=hint)
        if target is None:
            _show_converted(terminal, path)
        else:
            check_outputs([] if report_file is None else [report_file], path)
            _show_fit(terminal, path, target, room, report_file)
    else:
        if target is not None:
            hint = f"convert it first: snnc convert {path}, then snnc inspect {path.stem}.snn --target {target}"
            raise UsageError("only a spiking network can fit a target", place="--target", hint=hint)
        _show_trained(terminal, path, settings, shape(input_shape, settings), annotate)


def _show_trained(
    terminal: Terminal, path: Path, settings: Project, sample_shape: InputShapes, annotated: Path | None
) -> None:
    check_outputs([annotated] if annotated else [], path)

    from snnc.actions.plan import plan
    from snnc.frontend import annotate

    found = plan(path, RecipeFlags().resolve(settings), input_shape=sample_shape)
    if annotated is not None:
        annotate(found.model, found.survey, annotated)
    files = [] if annotated is None else [str(annotated)]
    terminal.show({**plain_survey(found.survey), "files": files}, lambda: _trained(found, files))
    refuse(terminal, found)


def _trained(found: Plan, files: list[str]) -> Iterator[Block]:
    from snnc.blocks import Text

    yield from survey_blocks(found.survey)
    if files:
        yield Text(f"written: {', '.join(files)}")


def _show_converted(terminal: Terminal, path: Path) -> None:
    from snnc.actions.inspect import inspect as inspected_by
    from snnc.artifact import load_conversion

    found = inspected_by(load_conversion(path))
    size = path.stat().st_size
    terminal.show({"bytes": size, **found.plain()}, lambda: _converted(found, size))


def _converted(found: Inspected, size: int) -> Iterator[Block]:
    from snnc.blocks import Text
    from snnc.report.sections.findings import by_kind
    from snnc.report.sections.network import layer_table

    conversion, schedule = found.conversion, found.conversion.schedule
    provenance = conversion.provenance
    calibration = provenance.calibration
    shown = {
        "made from": f"{provenance.model.file} (sha256 {provenance.model.sha256})",
        "with": ", ".join(f"{name} {version}" for name, version in provenance.versions.items()),
        "calibrated": f"on {calibration.images:,} images" if calibration else "no",
        "time steps": f"{schedule.timesteps} ({found.total_steps} from image to answer), {schedule.coding} coding",
        "trained network": "stripped" if conversion.reference is None else "kept",
        "size": f"{size:,} bytes, {found.parameters:,} parameters",
        "preprocessing": as_typed(conversion.preprocessing.plain()),
        f"recipe {provenance.recipe_name}": "",
        **{f"  {applied.name}": as_typed(applied.options) for applied in conversion.applied},
    }
    yield facts_of(shown)
    yield Text("")
    yield layer_table(found.layers)
    yield from by_kind(conversion.findings)


def _show_fit(terminal: Terminal, path: Path, name: str, room: Mapping[str, float | None], report: Path | None) -> None:
    import contextlib

    from snnc.actions.inspect import hold_against, hold_on_microcontroller
    from snnc.artifact import load_conversion
    from snnc.errors import DataError
    from snnc.hardware import MICROCONTROLLER, Room, load_target
    from snnc.report import completed, stored
    from snnc.report.data import write

    given = next((flag for flag, value in room.items() if value is not None), "")
    if name != MICROCONTROLLER.name and given:
        hint = f"leave it out, or give --target {MICROCONTROLLER.name}"
        raise UsageError(f"what {name} has is known", place=f"--{given}", hint=hint)
    target = None if name == MICROCONTROLLER.name else load_target(name)
    conversion = load_conversion(path)
    if target is not None:
        found = hold_against(conversion, target)
    else:
        told = {flag: value for flag, value in room.items() if value is not None}
        found = hold_on_microcontroller(conversion, parse(Room, told, place=name))
    energy = operations = None
    with contextlib.suppress(DataError):
        known = stored(conversion, report_beside(path))
        energy, operations = known.energy, known.summary.synaptic_operations
    files = []
    if report is not None:
        write(completed(conversion, report, fitted=found), report)
        files.append(str(report))
    terminal.show({**found.plain(), "files": files}, lambda: _fitting(found, energy, operations, files))
    found.check(str(path))


def _fitting(found: Fitted, energy: Energy | None, operations: float | None, files: Sequence[str]) -> Iterator[Block]:
    from snnc.blocks import Text
    from snnc.report.sections.resources import ResourcesSection

    yield from ResourcesSection.on(found).taken(energy, operations)
    if files:
        yield Text(f"written: {', '.join(files)}")
