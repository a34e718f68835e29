"""snnc inspect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import InputShape, RecipeFlags, check_outputs, shape
from snnc.cli.preview import as_typed, facts_of, plain_survey, refuse, survey_blocks
from snnc.errors import UsageError
from snnc.project import Project

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.actions.inspect import Inspected
    from snnc.actions.plan import Plan
    from snnc.blocks import Block
    from snnc.frontend import InputShapes
    from snnc.hardware import Misfit, Target


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
            help="Of a .snn file: what does not fit a chip (akida, loihi2, speck, spinnaker2, xylo), by how much, and "
            "the nearest change with which it would. Exits with 4 where something does not.",
        ),
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
    if path.suffix == ".snn":
        if annotate is not None:
            hint = "annotate the model it was converted from"
            raise UsageError("a spiking network is no ONNX model to annotate", place=str(path), hint=hint)
        if target is None:
            _show_converted(terminal, path)
        else:
            _show_fit(terminal, path, target)
    else:
        if target is not None:
            hint = f"convert it first: snnc convert {path}, then snnc inspect {path.stem}.snn --target {target}"
            raise UsageError("only a spiking network can fit a target", place="--target", hint=hint)
        _show_trained(terminal, path, settings, shape(input_shape, settings), annotate)


def _show_trained(
    terminal: Terminal, path: Path, settings: Project, sample_shape: InputShapes, annotated: Path | None
) -> None:
    check_outputs([annotated] if annotated else [], path, "--annotate")

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
        f"recipe {provenance.recipe['name']}": "",
        **{f"  {applied.name}": as_typed(applied.options) for applied in conversion.applied},
    }
    yield facts_of(shown)
    yield Text("")
    yield layer_table(found.layers)
    yield from by_kind(conversion.findings)


def _show_fit(terminal: Terminal, path: Path, name: str) -> None:
    from snnc.actions.inspect import hold_against
    from snnc.artifact import load_conversion
    from snnc.hardware import load_target

    target = load_target(name)
    found = hold_against(load_conversion(path), target)
    terminal.show(found.plain(), lambda: _fitting(target, found.misfits))
    found.check(str(path))


def _fitting(target: Target, misfits: Sequence[Misfit]) -> Iterator[Block]:
    from snnc.blocks import Column, Table, Text

    if misfits:
        yield Table.of(
            "",
            [
                (Column("layer", "layer"), lambda misfit: misfit.layer or "network"),
                (Column("limit", "words"), lambda misfit: misfit.limit),
                (Column("needed"), lambda misfit: _counted(misfit.needed)),
                (Column("allowed"), lambda misfit: _counted(misfit.allowed)),
                (Column("too many"), lambda misfit: None if misfit.excess is None else f"{misfit.excess:,}"),
                (Column("of", "words"), lambda misfit: misfit.unit),
                (Column("nearest change", "words"), lambda misfit: misfit.edit),
            ],
            misfits,
        )
        yield Text("")
    for source in dict.fromkeys(source for misfit in misfits for source in misfit.sources):
        yield Text(f"{source.text}: {source.url}")
    yield Text(f"{'does not fit' if misfits else 'fits, as far as is known'}: {target.title}")
    spent = target.event_energy
    if spent is None:
        yield Text("energy of a synaptic operation: no source states it")
    else:
        yield Text(f"energy of a synaptic operation: {spent.picojoules:g} pJ, of {spent.of} ({spent.sources[0].text})")
    if target.limits.unknown:
        yield Text(f"not checked, because no source states it: {', '.join(target.limits.unknown)}")


def _counted(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
