"""snnc export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import Artifact, ReadingFlags, check_outputs, parsed
from snnc.errors import UsageError, VerificationError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from rich.console import RenderableType

    from snnc.export.onnx import Match
    from snnc.exporting import Exported


@commands.register("export")
def export(
    model: Artifact = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Where to write the file.")
    ] = ...,  # type: ignore[assignment]
    format: Annotated[  # noqa: A002 - the name of the flag
        Literal["onnx"], typer.Option(help="onnx: standard operations only, which plain onnxruntime runs.")
    ] = "onnx",
    step: Annotated[
        bool,
        typer.Option(
            "--step", help="Write one time step, states in and out, for hosts that keep the loop; else whole trains."
        ),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the file in onnxruntime and compare it, spike for spike.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="With --verify: a folder of images or an array file, best with labels; 64 of them are used unless "
            "--limit says otherwise. Default: evaluation: data: in snnc.yaml, else noise.",
        ),
    ] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(metavar="T,T,...", help="With --verify: time steps. Default: what it was converted for."),
    ] = None,
    *,
    reading: ReadingFlags,
    terminal: Terminal,
) -> None:
    """Write a converted network for other programs to run.

    One ONNX file serves every number of time steps, its input timesteps. Exits with 6, and writes nothing, where
    --verify finds that onnxruntime does not fire the same spikes.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    steps = parsed(timesteps, "--timesteps", int) or ()
    for flag, given in (("--data", data), ("--timesteps", timesteps)):
        if given is not None and not verify:
            raise UsageError(f"{flag} without --verify", hint=f"add --verify, or leave out {flag}")
    check_outputs([output], model)

    from snnc.artifact import load_conversion
    from snnc.exporting import export_onnx
    from snnc.files import write_atomically

    conversion = load_conversion(model)
    with terminal.progress() as progress:
        exported = export_onnx(
            conversion,
            step=step,
            verify=verify,
            data=data or settings.evaluation.data,
            timesteps=steps,
            reading=reading.resolve(),
            progress=progress,
        )
    files = []
    if not exported.mismatch:
        write_atomically(output, exported.data)
        files.append(str(output))
    terminal.show({**exported.plain(), "files": files}, lambda: _render(exported, files))
    if exported.mismatch:
        hint = "nothing was written; please report it with the model"
        raise VerificationError(f"onnxruntime differs: {exported.mismatch}", place=str(model), hint=hint)


def _render(exported: Exported, files: list[str]) -> RenderableType:
    from rich.console import Group

    from snnc.export.onnx.verification import OUTPUT_TOLERANCE, TOLERANCE

    written = [f"written: {', '.join(files)} ({len(exported.data):,} bytes)"] if files else []
    if not exported.matches:
        return Group(*written)
    return Group(
        *(part for found in exported.matches for part in _compared(found)),
        "equal: spikes that are the same in both engines, where the layers before fired the same (at least "
        f"{TOLERANCE:g} asked for, and outputs that differ by {OUTPUT_TOLERANCE:g} at most); "
        "together: where each runs the whole network, and one spike that rounding moves is followed by others",
        *written,
    )


def _compared(found: Match) -> Iterator[RenderableType]:
    """Show how both engines compare at one number of time steps."""
    from snnc.export.onnx.verification import LayerMatch
    from snnc.report.terminal import Column, table

    columns: list[Column[LayerMatch]] = [
        Column("layer", lambda layer: layer.name, "left"),
        Column("neuron", lambda layer: layer.neuron, "left"),
        Column("equal %", lambda layer: f"{layer.alone:.4f}"),
        Column("together", lambda layer: f"{layer.together:.4f}"),
    ]
    yield f"onnxruntime against snnc at T={found.timesteps}, {found.images:,} images"
    yield table(columns, found.layers)
    labelled = ""
    if found.accuracy is not None:
        labelled = f"; accuracy {found.accuracy_there:.2f} % there and {found.accuracy:.2f} % here"
    yield (
        f"outputs differ by {found.readout_error:.1e}, together by {found.output_error:.1e}; "
        f"{found.agreement:.2f} % of predictions are the same{labelled}"
    )
