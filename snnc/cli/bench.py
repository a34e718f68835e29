"""snnc bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import Artifact, parsed_numbers
from snnc.errors import UsageError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.actions.bench import Bench
    from snnc.blocks import Block


@commands.register("bench")
def bench(
    model: Artifact = None,
    exported: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="FORMAT", help="Time files of this format too; can be repeated. Default: onnx."
        ),
    ] = None,
    simulator: Annotated[bool, typer.Option("--simulator", help="Time no exported file.")] = False,
    batch: Annotated[str, typer.Option(metavar="N,N,...", help="So many images at once.")] = "1,32",
    seconds: Annotated[float, typer.Option(metavar="S", help="Run each so long.")] = 1.0,
    *,
    terminal: Terminal,
) -> None:
    """Tell how fast a network runs on this machine: in the simulator, and as exported files in other programs.

    Images are noise: what is computed does not depend on them. What snnc simulates says nothing of a chip.
    """
    model = project.read(Path()).converted(model, Path())
    batches = parsed_numbers(batch, "--batch", int) or ()
    if simulator and exported:
        raise UsageError("--simulator times no exported file", place="--format", hint="leave out one of the two")

    from snnc.actions.bench import FORMATS
    from snnc.actions.bench import bench as timed
    from snnc.artifact import load_conversion

    wanted = () if simulator else tuple(exported or FORMATS)
    with terminal.working() as progress:
        found = timed(load_conversion(model), exported=wanted, batches=batches, seconds=seconds, progress=progress)
    terminal.show(found.plain(), lambda: _shown(found))


def _shown(found: Bench) -> Iterator[Block]:
    from snnc.blocks import Column, Table, Text
    from snnc.text import counted, number

    yield Table.of(
        "",
        [
            (Column("run by", "words"), lambda speed: speed.name),
            (Column("images at once", short="batch", about="images at once"), lambda speed: f"{speed.batch:,}"),
            (Column("ms", about="the median of all runs"), lambda speed: number(speed.milliseconds)),
            (Column("fastest"), lambda speed: number(speed.fastest)),
            (Column("images/s"), lambda speed: number(speed.per_second)),
            (Column("runs"), lambda speed: f"{speed.runs:,}"),
        ],
        found.speeds,
    )
    schedule = found.schedule
    yield Text(
        f"T={schedule.timesteps}, {counted(found.threads, 'thread')} on {found.machine}; exported files answer with "
        "the spikes of all layers besides"
    )
