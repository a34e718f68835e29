"""What convert and calibrate end with: the files they write, and what they print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc.cli.console import Terminal

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from rich.console import RenderableType

    from snnc.conversion import Conversion
    from snnc.report import Report


def report_beside(output: Path) -> Path:
    """Return where the report of a .snn file goes unless the user says otherwise."""
    return output.with_name(f"{output.stem}.report.json")


@dataclass(frozen=True)
class Beside:
    """What a command did besides: in the machine form, as files already written, and in words."""

    plain: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[str] = ()
    text: str = ""


def deliver(
    terminal: Terminal,
    conversion: Conversion,
    report: Report,
    output: Path,
    report_file: Path,
    *,
    strip: bool = False,
    beside: Beside = Beside(),
) -> None:
    """Write the .snn file and the report, and print the report."""
    from snnc.artifact import save_conversion
    from snnc.files import write_atomically
    from snnc.report import to_json

    for applied in conversion.applied:
        terminal.log(f"{applied.seconds:.2f} s  {applied.name}: {applied.changed} nodes changed")
    text = to_json(report)
    save_conversion(replace(conversion, reference=None) if strip else conversion, output)
    write_atomically(report_file, text.encode())

    def human() -> RenderableType:
        from rich.console import Group

        from snnc.report.terminal import render

        lines = [beside.text] if beside.text else []
        return Group(*lines, render(report), f"written: {', '.join(files)}")

    files = [*beside.files, str(output), str(report_file)]
    terminal.show({"files": files, "report": json.loads(text), **beside.plain}, human)
