"""The command line: one file per command. Each parses, calls the library, and prints."""

import itertools
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import typer

from snnc import plugins, process, project
from snnc.cli.application import application
from snnc.cli.console import print_error
from snnc.errors import DataError, SnncError, UsageError
from snnc.files import at_home, noted_files, removed_caches
from snnc.text import in_one_line
from snnc.validation import reason_of

_STOPPED = 130
# With less, libraries end the process while they are loaded, in words of their own or in none.
_LEAST = 256 << 20
# What pydantic says around its own reasons, beside a value.
_AROUND = re.compile(r"Input (?=should)|, unable to parse.*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    process.prepare()
    with process.interruptible() as interruption:
        return _ended(sys.argv[1:] if arguments is None else list(arguments), interruption)


def _ended(arguments: list[str], interruption: process.Interruption) -> int:
    """Run a command and tell how it ended, if not well; return the exit code."""
    written: list[Path] | None = []
    try:
        with noted_files() as written, _joined(arguments):
            try:
                code = _run(arguments)
                if code == _STOPPED:
                    raise KeyboardInterrupt
                return code
            except (SnncError, KeyboardInterrupt):
                raise
            except BaseException as error:
                if interruption.asked:
                    raise KeyboardInterrupt from error
                # So ends what completes words for a shell.
                if isinstance(error, SystemExit) and plugins.fault(error) is None:
                    raise
                raise _said(error, arguments) from error
    except SnncError as error:
        if not error.told:
            print_error(
                "internal error" if type(error) is SnncError else "error", error.line, error.hint, error.details
            )
        return error.exit_code
    except KeyboardInterrupt:
        if written is not None:
            # Files of a dot's name are on their way to another.
            complete = ", ".join(str(path) for path in written if not path.name.startswith("."))
            told = f"complete is what was written before: {complete}" if complete else "no file was written"
            print(f"stopped: {in_one_line(told)}", file=sys.stderr)
        return _STOPPED


def _run(arguments: list[str]) -> int:
    _check_folder()
    with project.named(_config(arguments)), process.limited_memory(_memory(arguments)), removed_caches():
        plugins.load([*project.named_plugins(Path()), *_plugins(arguments)])
        code = application().main(args=arguments, prog_name="snnc", standalone_mode=False)
        sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _joined(arguments: list[str]) -> AbstractContextManager[object]:
    """Join the other processes, if there are any: torch takes a while to load, which most commands do without."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from snnc.processes import joined

    return joined(f"snnc {shlex.join(arguments)}")


def _said(error: BaseException, arguments: Sequence[str]) -> SnncError:
    """Return what any failure is called."""
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "snnc"
        message = reason_of(_AROUND.sub("", error.format_message().rstrip(".")))
        quoted = "put a pattern of files in quotes, or " if "unexpected extra argument" in message else ""
        hint = f"{quoted}see {command} --help"
        return UsageError(message, place=command, hint=hint)
    lack = process.lack(error)
    if lack is not None:
        return DataError(lack[0], hint=lack[1])
    verbose = "-v" in arguments or "--verbose" in arguments
    of_plugin = plugins.fault(error)
    if verbose and (of_plugin is not None or not isinstance(error, OSError)):
        traceback.print_exception(error)
    if of_plugin is not None:
        return of_plugin
    if isinstance(error, OSError):
        reason = error.strerror or error
        if isinstance(error.filename, str | bytes):
            place = os.fsdecode(error.filename)
            return DataError(f"cannot read or write: {reason}", place=place, hint="check the path")
        process.silence(sys.stdout)
        return DataError(f"cannot write the result: {reason}", hint="free some space, or write elsewhere")
    hint = "please report it, with the lines above" if verbose else "run again with -v, and report what it prints"
    if plugins.loaded():
        hint += f"; a plug-in may be to blame: python -m snnc.laws {plugins.loaded()[0]}"
    return SnncError(f"{type(error).__name__}: {error}", hint=hint)


def _check_folder() -> None:
    """Raise DataError where the working folder is gone: libraries end the process without a word of it."""
    try:
        Path.cwd()
    except OSError:
        raise DataError("the working folder is gone", place=".", hint="change to a folder that is there") from None


def _plugins(arguments: Sequence[str]) -> list[Path]:
    """Return the files that --plugin names: they are loaded before the flags are made, some of which may be theirs."""
    return [at_home(Path(name)) for name in _given(arguments, "--plugin")]


def _config(arguments: Sequence[str]) -> Path | None:
    """Return the project file that --config names: plug-ins that it names are loaded before the flags are made."""
    given = _given(arguments, "--config")
    return at_home(Path(given[-1])) if given else None


def _memory(arguments: Sequence[str]) -> int:
    """Return the bytes that --memory or the project file allows: for all that is done, reading the flags too."""
    given = _given(arguments, "--memory")
    size = process.memory_size(given[-1], "--memory") if given else project.named_memory(Path())
    if size is not None and size < _LEAST:
        place = "--memory" if given else f"{project.FILE}: memory"
        raise UsageError("too little for any command", place=place, hint=f"give {_LEAST >> 20}M or more")
    return process.default_memory() if size is None else size


def _given(arguments: Sequence[str], flag: str) -> list[str]:
    """Return the values of a flag that is needed before flags are read."""
    after = [value for name, value in itertools.pairwise(arguments) if name == flag]
    return after + [a.removeprefix(f"{flag}=") for a in arguments if a.startswith(f"{flag}=")]
