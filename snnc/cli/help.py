"""snnc help."""

from typing import Annotated

import typer

from snnc.cli.application import application, commands


@commands.register("help")
def help_(
    command: Annotated[
        str | None, typer.Argument(metavar="COMMAND", show_default=False, help="Default: all commands.")
    ] = None,
) -> None:
    """Show the commands, or what one of them does and its options."""
    arguments = [] if command is None else [command]
    application().main(args=[*arguments, "--help"], prog_name="snnc", standalone_mode=False)
