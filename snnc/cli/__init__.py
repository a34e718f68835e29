"""The command line: one file per command. Each parses, calls the library, and prints."""

import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

import typer

from snnc import plugins, process, project
from snnc.cli.application import application
from snnc.cli.console import print_error
from snnc.errors import SnncError

_INTERNAL_ERROR = 1
_USAGE = 2
_DATA = 5
# What a shell reports for a program that nobody listened to any more (SIGPIPE).
_STOPPED, _BROKEN_PIPE = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    process.prepare()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # Names in a model can be in any script; a terminal that cannot show them shall not end the program.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with process.interruptible():
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
        print_error("error", f"{message[:1].lower()}{message[1:]} @ {command}", f"see {command} --help")
        return _USAGE
    except KeyboardInterrupt:
        return _STOPPED
    except (BrokenPipeError, SystemExit):
        # typer and rich exit when nobody reads on. Python flushes once more at its end: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        reason = error.strerror or error
        print_error("error", f"cannot write the result: {reason}", "free some space, or write elsewhere")
        return _DATA
    except Exception as error:
        verbose = "-v" in arguments or "--verbose" in arguments
        if verbose:
            traceback.print_exc()
        hint = "please report it, with the lines above" if verbose else "run again with -v, and report what it prints"
        print_error("internal error", f"{type(error).__name__}: {error}", hint)
        return _INTERNAL_ERROR
    return code if isinstance(code, int) else 0


def _plugins(arguments: Sequence[str]) -> list[Path]:
    """Return the files that --plugin names: they are loaded before the flags are made, some of which may be theirs."""
    named = [value for flag, value in itertools.pairwise(arguments) if flag == "--plugin"]
    return [Path(name) for name in named + [a.removeprefix("--plugin=") for a in arguments if "--plugin=" in a[:9]]]
