"""snnc spikes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import PreprocessingFlags, check_outputs

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.blocks import Block

# What snnc.actions.spikes shows unless it is told otherwise.
_NEURONS = 24


@commands.register("spikes")
def spikes(
    model: Annotated[Path, typer.Argument(metavar="MODEL.snn", show_default=False, help="The converted network.")],
    sample: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE",
            show_default=False,
            help="An image or a recording; or a folder or an array file, with --index.",
        ),
    ],
    index: Annotated[int, typer.Option(metavar="I", help="Which sample of a folder or an array file, from 0.")] = 0,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME", help="Only this layer; can be repeated. snnc inspect has the names."),
    ] = None,
    neurons: Annotated[int, typer.Option(metavar="N", help="So many neurons of each, the most active.")] = _NEURONS,
    timesteps: Annotated[
        int | None, typer.Option(metavar="T", help="Time steps. Default: as it was converted.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with all plots.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture of all plots.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="What is drawn at random.")] = 0,
    *,
    preprocessing: PreprocessingFlags,
    terminal: Terminal,
) -> None:
    """Show which neurons fire when, and their membranes, while the network sees one image."""
    settings = project.read(Path())
    model = settings.converted(model, Path())
    check_outputs([path for path in (html, png) if path], model, data=sample)

    from snnc.actions.spikes import spikes as looked_at
    from snnc.artifact import load_conversion
    from snnc.files import write_atomically

    conversion = load_conversion(model)
    found = looked_at(
        conversion,
        sample,
        index=index,
        layers=layer or (),
        neurons=neurons,
        timesteps=timesteps,
        preprocessing=preprocessing.resolve(settings, conversion.preprocessing),
        seed=seed,
    )
    files = []
    if html is not None:
        write_atomically(html, found.page().encode(), flag="--html")
        files.append(str(html))
    if png is not None:
        write_atomically(png, found.png(), flag="--png")
        files.append(str(png))

    def human() -> Iterator[Block]:
        from snnc.blocks import Text

        yield from found.blocks()
        if files:
            yield Text(f"written: {', '.join(files)}")

    terminal.show({**found.plain(), "files": files}, human)
