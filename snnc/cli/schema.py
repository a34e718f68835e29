"""snnc schema."""

from typing import Annotated

import typer

from snnc.cli.application import commands
from snnc.cli.console import Terminal


@commands.register("schema")
def schema(
    document: Annotated[
        str, typer.Argument(metavar="config|recipe|report", show_default=False, help="What it describes.")
    ],
) -> None:
    """Print the JSON Schema of snnc.yaml, of recipes or of reports, by which editors complete and check them."""
    from snnc.actions.schema import schema_of

    Terminal(as_json=True).show(schema_of(document), tuple)
