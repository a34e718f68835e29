"""snnc export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import Artifact, Device, FormatFlags, ReadingFlags, ReportFile, Strict, check_outputs
from snnc.cli.outcome import check_warnings
from snnc.errors import UsageError
from snnc.files import next_to
from snnc.project import report_beside

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.actions.export import Exported
    from snnc.blocks import Block
    from snnc.findings import Finding
    from snnc.formats.format import Format
    from snnc.formats.match import Match


@commands.register("export")
def export(
    model: Artifact = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Where to write the file.")
    ] = ...,  # type: ignore[assignment]
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Run the file in all that runs it and is installed, such as onnxruntime, torch, or frameworks that "
            "read NIR; compare spike for spike.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="For --verify and --vectors: images, arrays, shards or Parquet, best with labels; "
            "--verify uses 64 of them unless --limit says otherwise. Default: evaluation: data: in snnc.yaml, else "
            "noise.",
        ),
    ] = None,
    vectors: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also write what goes in, what every layer fires and what comes out, of N images, to check others by: "
            "FILE.vectors.safetensors.",
        ),
    ] = None,
    potentials: Annotated[
        bool,
        typer.Option("--potentials", help="With --vectors: the potential of every neuron after every step, too."),
    ] = False,
    membrane_bits: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of a network in whole numbers (--weight-bits): write it with membranes that saturate at N bits.",
        ),
    ] = None,
    report_file: ReportFile = None,
    strict: Strict = False,
    device: Device = "cpu",
    *,
    chosen: FormatFlags,
    reading: ReadingFlags,
    terminal: Terminal,
) -> None:
    """Write a converted network for other programs to run.

    What --verify finds goes into the report. Exits with 6, and writes no export, where another engine does not fire
    the same spikes.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    how = chosen.resolve(settings, ["--verify"] if verify else [])
    _check_ending(output, how)
    unread = not verify and vectors is None and not how.runs_unasked
    for flag, given, needs in (
        ("--report", report_file is not None, "--verify" if not verify else ""),
        ("--data", data is not None, "--verify or --vectors" if unread else ""),
        ("--potentials", potentials, "--vectors" if vectors is None else ""),
    ):
        if given and needs:
            raise UsageError(f"{flag} without {needs}", hint=f"add {needs}, or leave out {flag}")
    report_file = report_file or report_beside(model)
    vectors_file = [] if vectors is None else [next_to(output, f"{output.name}.vectors.safetensors")]
    written = [output, *([report_file] if verify else []), *vectors_file]
    samples = data or settings.evaluation.data
    check_outputs(written, model, data=samples)

    from snnc.actions.export import check_count
    from snnc.actions.export import export as exported_by
    from snnc.artifact import load_conversion
    from snnc.report import completed, with_exit_rule
    from snnc.report.data import write
    from snnc.run import computing_on

    check_count(vectors)
    conversion = with_exit_rule(load_conversion(model), report_file)
    images: dict[str, Any] = {"data": samples, "reading": reading.resolve()}
    asked: dict[str, Any] = {
        "verify": verify,
        "vectors": vectors,
        "potentials": potentials,
        "membrane_bits": membrane_bits,
    }
    with computing_on(device), terminal.working() as progress:
        exported = exported_by(conversion, how, progress=progress, **asked, **images)
    files = [] if exported.mismatch else [*map(str, exported.save(output))]
    if verify:
        write(completed(conversion, report_file, verifications=exported.matches), report_file)
        files.append(str(report_file))
    warnings = [finding for finding in conversion.findings if finding.severity == "warning"] + [*exported.findings]
    plain = {**exported.plain(), "files": files, "findings": [asdict(finding) for finding in warnings]}
    terminal.show(plain, lambda: _shown(exported, warnings, files, output))
    exported.check(str(model))
    if strict:
        check_warnings(warnings, str(model))


def _check_ending(output: Path, how: Format[Any]) -> None:
    """Raise UsageError where a file is called as what another format writes."""
    from snnc.formats.format import formats

    meant = [name for name, kind in formats.items() if output.name.lower().endswith(kind.suffix)]
    if meant and not any(isinstance(how, formats[name]) for name in meant):
        hint = f"add --format {meant[0]}, or call the file otherwise"
        raise UsageError(f"{output.name} is called as what another format writes", place="--output", hint=hint)


def _shown(exported: Exported, warnings: Sequence[Finding], files: Sequence[str], output: Path) -> Iterator[Block]:
    from snnc.blocks import Listing, Text
    from snnc.report.sections.exports import compared
    from snnc.report.sections.findings import by_kind

    yield from map(Text, exported.written.notes)
    if exported.matches:
        yield compared(exported.matches)
        for found in exported.matches:
            yield from _layers(found)
        yield Text(
            "equal: spikes that are the same in both engines, where the layers before fired the same; together: where "
            "each runs the whole network, and one spike that rounding moves is followed by others"
        )
    for found in exported.matches:
        if found.manner.code:
            yield Text(f"loaded in {found.engine}, for {found.timesteps} steps, by:")
            given = {"FILE": str(output), "TIMESTEPS": str(found.timesteps)}
            yield Listing(tuple(f"    {_filled(line, given)}" for line in found.manner.code))
    yield from by_kind(warnings)
    yield Text(f"written: {', '.join(files)}" if files else "nothing was written")


def _filled(line: str, given: Mapping[str, str]) -> str:
    """Return a line of code with what it is about in the place of names."""
    for name, value in given.items():
        line = line.replace(name, value)
    return line


def _layers(found: Match) -> Iterator[Block]:
    """Tell the equal spikes of every layer."""
    from snnc.blocks import Column, Table, Text
    from snnc.text import fixed, written

    if not found.layers:
        return
    images = "images of noise" if found.noise else "images"
    yield Text(f"{found.engine} against snnc at T={found.timesteps}, {found.images:,} {images}")
    yield Table.of(
        "",
        [
            (Column("layer", "layer"), lambda layer: layer.name),
            (Column("neuron", "words"), lambda layer: layer.neuron),
            (Column("equal %"), lambda layer: fixed(layer.alone, 4)),
            (Column("together"), lambda layer: fixed(layer.together, 4)),
        ],
        found.layers,
    )
    if found.accuracy is not None and found.accuracy_there is not None:
        yield Text(f"accuracy {written(found.accuracy_there, '%')} % there and {written(found.accuracy, '%')} % here")
