"""The commands, found by their files, as one typer application."""

import copy
import dataclasses
import functools
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, final, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from snnc.errors import UsageError
from snnc.files import at_home
from snnc.registry import Registry
from snnc.version import VERSION


class Flags(ABC):
    """A group of flags that is made from what is registered when its command is built, and holds what was ``given``.

    A group whose flags are always the same is a dataclass instead.
    """

    def __init__(self, **given: Any) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}

    @classmethod
    @abstractmethod
    def options(cls) -> dict[str, Any]:
        """Return what typer needs to know of each flag: its annotation, by the name of its parameter."""


commands: Registry[Callable[..., None]] = Registry("command", "snnc.cli", plugins=False)

# Nobody counts further; what is drawn at random starts from any number of 64 bits.
_LARGEST, _LARGEST_SEED = 1_000_000_000, (1 << 63) - 1

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
To read on: snnc guide.
Exit codes: 0 ok, 1 internal error, 2 usage or recipe, 3 unsupported model,
4 gate failed, 5 data problem, 6 verification mismatch, 130 stopped by signal.
"""


_Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Load what this file adds: neurons, passes, operations and more. Can be repeated.",
    ),
]


_Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Use no more memory than this, as in 8G: more is an error. Default: half of the machine's.",
    ),
]


_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Read this project file; its paths are relative to it. Default: snnc.yaml in this folder, if any.",
    ),
]


_OF_ALL = {"config": _Config, "plugin": _Plugins, "memory": _Memory}


class _Command(TyperCommand):
    """A command whose help shows its flags in their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, the flags of its own, and those of each group, below its name."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                of_group = getattr(param, "rich_help_panel", None) or "Options"
                name = "Arguments" if param.param_type_name == "argument" else of_group
                groups.setdefault(name, []).append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


@final
class _Commands(TyperGroup):
    """The commands, of which the one alone that is asked for is given its flags: those of some take torch to make."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _whole(name), rest


def application() -> Any:
    """Build the application."""
    app = _typer(cls=_Commands, add_completion=True)
    app.callback(invoke_without_command=True, help=_HELP, epilog=_EPILOG)(_root)
    for name, function in commands.items():
        about, _, _ = (inspect.getdoc(function) or "").partition("\n\n")
        app.command(name, short_help=" ".join(about.split()))(_named)
    return typer.main.get_command(app)


def _named() -> None:
    """Stand for a command where it is listed."""


def _whole(name: str) -> Any:
    app = _typer(add_completion=False)
    app.command(name, cls=_Command)(_flattened(commands[name]))
    return typer.main.get_command(app)


def _typer(**options: Any) -> typer.Typer:
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"snnc {VERSION}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _flattened(function: Callable[..., None]) -> Callable[..., None]:
    """Let typer see each flag of a group of flags as a parameter of its own; add those of all commands."""
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    flat: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        flags = _flags(kind)
        if flags is None:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = kind, [flag.name for flag in flags]
        flat += flags

    for name, annotation in _OF_ALL.items():
        flat.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

    @functools.wraps(function)
    def command(**given: Any) -> None:
        # Used before the flags were read: some of them may be a plug-in's.
        for name in _OF_ALL:
            del given[name]
        given = {name: _at_home(value) for name, value in given.items()}
        for name, value in given.items():
            most = _LARGEST_SEED if name == "seed" else _LARGEST
            if type(value) is int and abs(value) > most:
                raise UsageError(f"{value} is too large", place=f"--{name.replace('_', '-')}", hint=f"at most {most}")
        built = {name: kind(**{key: given.pop(key) for key in keys}) for name, (kind, keys) in groups.items()}
        function(**given, **built)

    command.__signature__ = signature.replace(parameters=flat)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return command


def _flags(kind: Any) -> list[inspect.Parameter] | None:
    """Return the flags of a group as parameters, None of what is no group."""
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Flags):
        known: dict[str, tuple[Any, Any]] = {name: (annotation, None) for name, annotation in kind.options().items()}
    elif dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        known = {field.name: (hints[field.name], field.default) for field in dataclasses.fields(kind)}
    else:
        return None
    title = re.split("[:.,;]", inspect.getdoc(kind) or "")[0]
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_below(title, annotation))
        for name, (annotation, default) in known.items()
    ]


def _below(title: str, annotation: Any) -> Any:
    """Return a flag that is shown below the title of its group."""
    kind, info, *others = get_args(annotation)
    shown = copy.copy(info)
    shown.rich_help_panel = title
    return Annotated[kind, shown, *others]


def _at_home(value: Any) -> Any:
    """Return a path, or several, with what ``~`` stands for: shells leave it as it is behind an equals sign."""
    if isinstance(value, list | tuple):
        return type(value)(map(_at_home, value))
    return at_home(value) if isinstance(value, Path) else value
