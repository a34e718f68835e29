"""snnc demo."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.errors import DataError

# What of the example a first conversion needs. It travels in the wheel; in a checkout it lies where it is worked on.
_FILES = ("model.onnx", "snnc.yaml", "calibration", "test")
_PACKAGE = Path(__file__).parent.parent
_PLACES = (_PACKAGE / "digits", _PACKAGE.parent / "examples" / "digits")

_PAGE = "page.html"
_COMMANDS = (
    ("convert", "model.onnx"),
    ("calibrate", "model.snn"),
    ("evaluate", "model.snn", "--timesteps", "1,2,4,8", "--html", _PAGE),
)


@commands.register("demo")
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder for the files.")
    ] = Path("snnc-demo"),
    *,
    terminal: Terminal,
) -> None:
    """Convert a small network that reads handwritten digits, calibrate it, and measure it, in about a minute.

    Leaves a folder with the network, 600 images and the page that tells what came of it, and tells the three commands.
    """
    _copy(output)

    from snnc.cli import main

    with contextlib.chdir(output):
        for command in _COMMANDS:
            last = command == _COMMANDS[-1]
            if not (terminal.as_json or terminal.quiet):
                print(f"{'' if command == _COMMANDS[0] else chr(10)}$ snnc {shlex.join(command)}", flush=True)
            how = ["--json"] if terminal.as_json and last else ["-q"] if terminal.as_json or terminal.quiet else []
            code = main([*command, *how])
            if code:
                raise typer.Exit(code)
    if not (terminal.as_json or terminal.quiet):
        print(f"\nall of it lies in {output}; the page for a browser: {output / _PAGE}")


def _copy(folder: Path) -> None:
    """Copy the example; raises DataError where that cannot be done, and leaves nothing half-written."""
    source = next((place for place in _PLACES if place.is_dir()), None)
    if source is None:
        raise DataError("the digits are not in this installation", place=str(_PLACES[0]), hint="install snnc again")
    if folder.exists():
        raise DataError("it exists already", place=str(folder), hint="choose another with --output, or remove it")
    try:
        folder.mkdir()
        for name in _FILES:
            copied = shutil.copytree if (source / name).is_dir() else shutil.copyfile
            copied(source / name, folder / name)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the files cannot be copied"
        raise DataError(f"cannot write: {reason}", place=str(folder), hint="choose another with --output") from None
