"""snnc check-vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc.cli.application import commands
from snnc.cli.console import Terminal

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.actions.check_vectors import CheckedVectors
    from snnc.blocks import Block


@commands.register("check-vectors")
def check_vectors(
    model: Annotated[Path, typer.Argument(metavar="MODEL.snn", show_default=False, help="The converted network.")],
    theirs: Annotated[
        Path,
        typer.Argument(
            metavar="THEIRS",
            show_default=False,
            help="What a device fired: .npz or .safetensors, arrays spikes.LAYER [steps, samples, ...] of signed "
            "numbers, as snnc export --vectors writes them, and input, or .nir, as nir.write_data writes it; "
            "potential.LAYER (voltages in NIR) is shown where it is there.",
        ),
    ],
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take the input from this file of snnc export --vectors."),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Compare the layers that are there.")] = False,
    *,
    terminal: Terminal,
) -> None:
    """Compare what a device fired with what the network fires; exit with 6 where a spike is another.

    The first that differs is named: at the earliest step, of the first layer that does.
    """
    from snnc.actions.check_vectors import check_vectors as compared
    from snnc.artifact import load_conversion

    found = compared(load_conversion(model), theirs, vectors=vectors, partial=partial)
    terminal.show(found.plain(), lambda: _shown(found))
    found.check()


def _shown(checked: CheckedVectors) -> Iterator[Block]:
    """Tell the equal spikes of every layer, and what drives the neuron whose spike is the first that differs."""
    from snnc.blocks import Column, Table, Text
    from snnc.text import counted, fixed, printable

    found, first = checked.found, checked.found.first
    yield Text(f"{counted(found.samples, 'sample')}, {counted(found.steps, 'step')}")
    yield Table.of(
        "",
        [
            (Column("layer", "layer"), lambda layer: printable(layer.name)),
            (Column("neuron", "words"), lambda layer: layer.neuron),
            (Column("equal %"), lambda layer: fixed(layer.equal, 4)),
            (Column("first at step"), lambda layer: "" if layer.first is None else str(layer.first.step)),
        ],
        found.layers,
    )
    if found.missing:
        yield Text(f"not compared: {printable(', '.join(found.missing))}")
    yield Text(printable(checked.sentence))
    if first is not None and first.potential is not None:
        there = "" if first.potential_there is None else f" ({first.potential_there:.7g} there)"
        driven = f"current {first.current:.7g}, potential after the step {first.potential:.7g}{there}"
        yield Text(f"{driven}, threshold {first.threshold:.7g}")
