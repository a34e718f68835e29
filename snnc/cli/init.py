"""snnc init."""

from pathlib import Path
from typing import Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.errors import DataError, UsageError


@commands.register("init")
def init(force: Annotated[bool, typer.Option("--force", help="Overwrite the one that is there.")] = False) -> None:
    """Write a commented snnc.yaml into this folder."""
    path = Path(project.FILE)
    if path.exists() and not force:
        raise UsageError("there is one already", place=str(path), hint="overwrite it with --force")
    try:
        path.write_text(project.template(project.only_model(Path())), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write: {error.strerror}", place=str(path), hint="check the folder") from None
    typer.echo(f"written: {path}")
