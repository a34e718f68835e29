"""snnc report."""

from __future__ import annotations

import dataclasses
import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import FaceFlags, check_outputs
from snnc.cli.outcome import write_faces

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from collections.abc import Iterator

    from snnc.blocks import Block
    from snnc.report import Report


@commands.register("report")
def report(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL.snn|REPORT.json",
            show_default=False,
            help="The converted network, or a report alone. Default: the network that snnc evaluate would take.",
        ),
    ] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="The report on MODEL.snn. Default: the one beside it."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the machine form; - prints it.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser; without --html, it is written beside.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of reports and do no more.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    *,
    faces: FaceFlags,
) -> None:
    """Show what was measured of a conversion.

    Nothing is measured anew: layers were by snnc convert and calibrate, accuracy and gates by snnc evaluate.
    """
    if schema:
        from snnc.report.data import schema as described

        Terminal(as_json=True).show(described(), tuple)
        return
    path = model or project.read(Path()).converted(None, Path())
    if show and faces.html is None:
        stem = path.stem.removesuffix(".report")
        faces = dataclasses.replace(faces, html=path.with_name(f"{stem}.report.html"))
    faces.summary_file()
    machine = [json_file] if json_file is not None and str(json_file) != "-" else []
    check_outputs([*machine, *faces.files().values()], path)

    from snnc.actions.report import report as read_again
    from snnc.report.data import plain, write

    found = read_again(path, report_file)
    found = found.without_images() if faces.no_images else found
    files = write_faces(found, faces)

    for file in machine:
        write(found, file, flag="--json")
    files += map(str, machine)
    terminal = Terminal(as_json=json_file is not None and not machine, quiet=quiet)
    terminal.show(json.loads(json.dumps(plain(found))), lambda: _shown(found, files))
    if show and faces.html is not None:
        webbrowser.open(faces.html.resolve().as_uri())


def _shown(report: Report, files: list[str]) -> Iterator[Block]:
    from snnc.blocks import Text
    from snnc.report.faces.terminal import lines

    yield from lines(report)
    if files:
        yield Text(f"written: {', '.join(files)}")
