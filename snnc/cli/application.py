"""The commands, found by their files, as one typer application."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from snnc.registry import Registry
from snnc.version import VERSION

commands: Registry[Callable[..., None]] = Registry("command", "snnc.cli")

_HELP = "Turn a trained neural network into a spiking one."

# A paragraph whose lines typer shall not join starts with \\b.
_EPILOG = """\
\b
Three commands make a spiking network and measure it:
  snnc convert model.onnx
  snnc calibrate --data folder
  snnc evaluate --data folder --timesteps 4

\b
What would be typed again goes into snnc.yaml: see snnc init.
Exit codes: 0 ok, 1 internal error, 2 usage or recipe, 3 unsupported model,
4 gate failed, 5 data problem, 6 verification mismatch, 130 stopped by a signal.
"""


def application() -> Any:
    """Build the application."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True, help=_HELP, epilog=_EPILOG)(_root)
    for name, function in commands.items():
        app.command(name)(_flattened(function))
    return typer.main.get_command(app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"snnc {VERSION}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _flattened(function: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the fields of a parameter that is a dataclass of flags as parameters of their own."""
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    flat: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(kind, include_extras=True)
        fields = dataclasses.fields(kind)
        groups[parameter.name] = kind, [field.name for field in fields]
        flat += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )
            for field in fields
        ]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        built = {name: kind(**{key: given.pop(key) for key in keys}) for name, (kind, keys) in groups.items()}
        function(**given, **built)

    command.__signature__ = signature.replace(parameters=flat)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return command
