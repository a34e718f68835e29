"""What commands end with: the files they write, what they print, and whether they fail."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc import project
from snnc.cli.console import Terminal
from snnc.cli.options import FaceFlags
from snnc.errors import DataError, GateError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.blocks import Block
    from snnc.conversion import Conversion
    from snnc.findings import Finding
    from snnc.report import Report

# So many folders are looked through for a model.
_FOLDERS = 10_000


@dataclass(frozen=True)
class Beside:
    """What a command did besides: in the machine form, as files already written, in words, and what it found.

    ``content`` is of files that are still to be written.
    """

    plain: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[str] = ()
    text: str = ""
    content: Mapping[Path, bytes] = field(default_factory=dict)
    findings: Sequence[Finding] = ()


def deliver(
    terminal: Terminal,
    conversion: Conversion,
    report: Report,
    output: Path,
    report_file: Path,
    *,
    strip: bool = False,
    beside: Beside = Beside(),
    wanted: FaceFlags | None = None,
    strict: bool = False,
    checkpoint: Path | None = None,
) -> None:
    """Write the .snn file, the report and its faces, and print the report; what was kept on the way is removed.

    Raises GateError, after all that, where ``strict`` forbids a finding.
    """
    from snnc.files import write_atomically, writes
    from snnc.report import to_json
    from snnc.report.report import save

    for applied, seconds in zip(conversion.applied, conversion.seconds, strict=True):
        terminal.log(f"{seconds:.2f} s  {applied.name}: {applied.changed} nodes changed")
    text = to_json(report)
    save(conversion, output, report, report_file, strip=strip)
    if checkpoint is not None and writes():
        checkpoint.unlink(missing_ok=True)
    for path, content in beside.content.items():
        write_atomically(path, content)
    also = [*map(str, beside.content), *(write_faces(report, wanted) if wanted else [])]

    def human() -> Iterator[Block]:
        from snnc.blocks import Text
        from snnc.report.faces.terminal import lines
        from snnc.report.sections.findings import by_kind

        if beside.text:
            yield Text(beside.text)
            yield from by_kind(beside.findings)
        yield from lines(report)
        yield Text(f"preprocessing: {conversion.preprocessing.told}")
        yield Text(f"written: {', '.join(files)}")

    files = [*beside.files, str(output), str(report_file), *also]
    terminal.show({"files": files, "report": json.loads(text), **beside.plain}, human)
    if strict:
        check_warnings([*beside.findings, *report.all_findings], str(output))


def write_faces(report: Report, wanted: FaceFlags) -> list[str]:
    """Write the faces of a report that were asked for; returns the names of the files."""
    from snnc.files import write_atomically, writes
    from snnc.report.faces import faces

    files = wanted.files()
    for name, path in files.items():
        shown = _as_in_repository(report) if name == "sarif" else report
        write_atomically(path, faces[name](shown).encode(), flag=f"--{name}")
    summary = wanted.summary_file()
    if summary is not None and writes():
        try:
            if summary.exists() and not summary.is_file():
                raise OSError(errno.EINVAL, "not a file")
            # Other steps have written there too.
            with summary.open("a", encoding="utf-8") as file:
                file.write(faces["markdown"](report))
        except OSError as error:
            hint = "GITHUB_STEP_SUMMARY has to name a file that can be written"
            raise DataError(f"cannot write: {error.strerror}", place=str(summary), hint=hint) from None
    return [str(path) for path in files.values()]


def _as_in_repository(report: Report) -> Report:
    """Return the report with its model called by its path in the repository around: code scanning looks for it there.

    Without a repository it is the path in the working folder. Its name stays where there is no such model in it.
    """
    from snnc.files import has_digest

    model = report.provenance["model"]
    here = Path().resolve()
    root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    for path in (project.read(Path()).model, Path(model["file"]), *_called(model["file"], root)):
        # Not where a link leads: that may be a cache.
        place = None if path is None else path.parent.resolve() / path.name
        if place is None or place.name != model["file"] or not place.is_relative_to(root):
            continue
        if has_digest(place, model["sha256"]):
            named = {**model, "file": place.relative_to(root).as_posix()}
            return replace(report, provenance={**report.provenance, "model": named})
    return report


def _called(name: str, root: Path) -> Iterator[Path]:
    """Yield the files of a name in a folder and those below, none of them hidden, as far as that is soon done."""
    for count, (folder, below, files) in enumerate(os.walk(root)):
        if count == _FOLDERS:
            return
        below[:] = sorted(child for child in below if not child.startswith("."))
        if name in files:
            yield Path(folder, name)


def check_warnings(findings: Sequence[Finding], place: str) -> None:
    """Raise GateError where a finding is a warning."""
    warnings = [finding for finding in findings if finding.severity == "warning"]
    if warnings:
        codes = ", ".join(sorted({finding.code for finding in warnings}))
        hint = f"snnc explain {warnings[0].code} says what to do; without --strict it passes"
        raise GateError(f"--strict: warnings ({codes})", place=place, hint=hint)
