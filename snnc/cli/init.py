"""snnc init."""

from pathlib import Path
from typing import Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.errors import UsageError
from snnc.files import write_atomically


@commands.register("init")
def init(force: Annotated[bool, typer.Option("--force", help="Overwrite the one that is there.")] = False) -> None:
    """Write a commented snnc.yaml into this folder."""
    path = Path(project.FILE)
    if path.exists() and not force:
        raise UsageError("there is one already", place=str(path), hint="overwrite it with --force")
    write_atomically(path, project.template(project.only_model(Path())).encode())
    typer.echo(f"written: {path}")
