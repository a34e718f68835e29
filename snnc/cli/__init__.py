"""The command line: one file per command. Each parses, calls the library, and prints."""

import itertools
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from snnc import plugins, process, project
from snnc.cli.application import application
from snnc.cli.console import print_error
from snnc.errors import DataError, SnncError, UsageError
from snnc.files import removed_caches

_INTERNAL_ERROR = 1
_USAGE = 2
_DATA = 5
_STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    process.prepare()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    interruption = process.Interruption()
    try:
        _check_folder()
        with process.interruptible(interruption), process.limited_memory(_memory(arguments)), removed_caches():
            plugins.load([*project.named_plugins(Path()), *_plugins(arguments)])
            code = application().main(args=arguments, prog_name="snnc", standalone_mode=False)
            sys.stdout.flush()
    except SnncError as error:
        print_error("error", str(error), error.hint, error.details)
        return error.exit_code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "snnc"
        message = error.format_message().rstrip(".").replace("Value error, ", "")
        quoted = "put a pattern of files in quotes, or " if "unexpected extra argument" in message else ""
        print_error("error", f"{message[:1].lower()}{message[1:]} @ {command}", f"{quoted}see {command} --help")
        return _USAGE
    except KeyboardInterrupt:
        return _STOPPED
    except OSError as error:
        process.silence(sys.stdout)
        reason = error.strerror or error
        print_error("error", f"cannot write the result: {reason}", "free some space, or write elsewhere")
        return _DATA
    except Exception as error:
        if interruption.asked:
            return _STOPPED
        if process.is_out_of_memory(error):
            print_error("error", "more memory is needed than is allowed", "give more with --memory, or less to do")
            return _DATA
        verbose = "-v" in arguments or "--verbose" in arguments
        if verbose:
            traceback.print_exc()
        hint = "please report it, with the lines above" if verbose else "run again with -v, and report what it prints"
        print_error("internal error", f"{type(error).__name__}: {error}", hint)
        return _INTERNAL_ERROR
    return code if isinstance(code, int) else 0


def _check_folder() -> None:
    """Raise DataError where the working folder is gone: libraries end the process without a word of it."""
    try:
        Path.cwd()
    except OSError:
        raise DataError("the working folder is gone", place=".", hint="change to a folder that is there") from None


def _plugins(arguments: Sequence[str]) -> list[Path]:
    """Return the files that --plugin names: they are loaded before the flags are made, some of which may be theirs."""
    return [Path(name) for name in _given(arguments, "--plugin")]


def _memory(arguments: Sequence[str]) -> int:
    """Return the bytes that --memory allows, which holds for all that is done, reading the flags too."""
    given = _given(arguments, "--memory")
    if not given:
        return process.default_memory()
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([MGT])i?B?", given[-1], re.ASCII)
    if found is None or not float(found[1]):
        hint = "give a size as in 8G or 500M"
        raise UsageError(f"invalid value {given[-1]!r}", place="--memory", hint=hint)
    return int(float(found[1]) * (1 << {"M": 20, "G": 30, "T": 40}[found[2]]))


def _given(arguments: Sequence[str], flag: str) -> list[str]:
    """Return the values of a flag that is needed before flags are read."""
    after = [value for name, value in itertools.pairwise(arguments) if name == flag]
    return after + [a.removeprefix(f"{flag}=") for a in arguments if a.startswith(f"{flag}=")]
