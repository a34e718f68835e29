"""snnc export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.cli.console import Terminal
from snnc.cli.options import Artifact, Format, ReadingFlags, ReportFile, Strict, check_outputs, parsed
from snnc.cli.outcome import check_warnings, report_beside
from snnc.errors import UsageError

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.blocks import Block
    from snnc.export.comparison import Match
    from snnc.export.nir.verification import Match as NirMatch
    from snnc.exporting.exported import Exported
    from snnc.exporting.nir import ExportedNir
    from snnc.exporting.replica import Replica
    from snnc.findings import Finding

_RESETS = {"subtract": "their threshold", "zero": "setting them to zero"}


@commands.register("export")
def export(
    model: Artifact = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Where to write the file.")
    ] = ...,  # type: ignore[assignment]
    format: Annotated[  # noqa: A002 - the name of the flag
        Format,
        typer.Option(
            help="onnx: standard operations only, which plain onnxruntime runs. nir: the neuromorphic interchange "
            "format, for networks that it can say (recipe nir); needs snnc[nir]. torch: a program of torch.export "
            "(.pt2), which torch alone runs for the time steps it was converted for."
        ),
    ] = "onnx",
    profile: Annotated[
        Literal["portable", "cuba", "if"] | None,
        typer.Option(help="Of NIR: what most importers read (the default), neurons as CubaLIF, or as they are."),
    ] = None,
    step: Annotated[
        bool,
        typer.Option(
            "--step", help="Write one time step, states in and out, for hosts that keep the loop; else whole trains."
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Run the file in onnxruntime, torch, or all NIR frameworks installed; compare spike for spike.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="For --verify and --vectors: a folder of images or an array file, best with labels; --verify uses 64 "
            "of them unless --limit says otherwise. Default: evaluation: data: in snnc.yaml, else noise.",
        ),
    ] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(metavar="T,T,...", help="With --verify: time steps. Default: what it was converted for."),
    ] = None,
    vectors: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also write what goes in, what every layer fires and what comes out, of N images, to check others by: "
            "FILE.vectors.safetensors.",
        ),
    ] = None,
    report_file: ReportFile = None,
    strict: Strict = False,
    *,
    reading: ReadingFlags,
    terminal: Terminal,
) -> None:
    """Write a converted network for other programs to run.

    One ONNX file serves every number of time steps, its input timesteps. What --verify finds goes into the report.
    Exits with 6, and writes no export, where another engine does not fire the same spikes.
    """
    settings = project.read(Path())
    model = settings.converted(model, Path())
    steps = parsed(timesteps, "--timesteps", int) or ()
    for flag, given, needs in (
        ("--timesteps", timesteps is not None, "--verify" if not verify else ""),
        ("--timesteps", timesteps is not None, "--format onnx" if format != "onnx" else ""),
        ("--step", step, "--format onnx" if format != "onnx" else ""),
        ("--profile", profile is not None, "--format nir" if format != "nir" else ""),
        ("--report", report_file is not None, "--verify" if not verify else ""),
        (
            "--data",
            data is not None,
            "--verify or --vectors" if not verify and vectors is None and format != "nir" else "",
        ),
    ):
        if given and needs:
            raise UsageError(f"{flag} without {needs}", hint=f"add {needs}, or leave out {flag}")
    report_file = report_file or report_beside(model)
    vectors_file = output.with_name(f"{output.name}.vectors.safetensors")
    check_outputs([output, *([report_file] if verify else []), *([vectors_file] if vectors is not None else [])], model)

    from snnc.artifact import load_conversion
    from snnc.exporting.converted import check
    from snnc.exporting.exported import formats
    from snnc.exporting.vectors import check_count
    from snnc.exporting.vectors import vectors as conformance_vectors
    from snnc.files import write_atomically
    from snnc.report import completed
    from snnc.report.data import write

    check_count(vectors)
    conversion = load_conversion(model)
    options: dict[str, Any] = {"profile": profile or "portable"} if format == "nir" else {}
    options |= {"step": step, "timesteps": steps} if format == "onnx" else {}
    images: dict[str, Any] = {"data": data or settings.evaluation.data, "reading": reading.resolve()}
    with terminal.progress() as progress:
        exported = formats[format].export(conversion, verify=verify, progress=progress, **images, **options)
        written = {output: exported.data}
        if vectors is not None:
            written[vectors_file] = conformance_vectors(conversion, exported, vectors, progress=progress, **images)
    files = []
    if not exported.mismatch:
        for path, content in written.items():
            write_atomically(path, content)
            files.append(str(path))
    if verify:
        write(completed(conversion, report_file, verifications=exported.verifications()), report_file)
        files.append(str(report_file))
    warnings = [finding for finding in conversion.findings if finding.severity == "warning"]
    plain = {**exported.plain(), "files": files, "findings": [asdict(finding) for finding in warnings]}
    terminal.show(plain, lambda: _shown(exported, warnings, files))
    check(exported, str(model))
    if strict:
        check_warnings(warnings, str(model))


def _shown(exported: Exported, warnings: Sequence[Finding], files: Sequence[str]) -> Iterator[Block]:
    from snnc.blocks import Text
    from snnc.exporting.nir import ExportedNir
    from snnc.exporting.replica import Replica
    from snnc.report.sections.findings import by_kind

    if isinstance(exported, ExportedNir):
        yield from _read_elsewhere(exported)
    elif isinstance(exported, Replica):
        yield from _run_elsewhere(exported)
    yield from by_kind(warnings)
    yield Text(f"written: {', '.join(files)}" if files else "nothing was written")


def _run_elsewhere(exported: Replica) -> Iterator[Block]:
    """Tell how the other engine compares, at every number of time steps."""
    from snnc.blocks import Text
    from snnc.export.comparison import OUTPUT_TOLERANCE, TOLERANCE

    for found in exported.matches:
        yield from _compared(exported.engine, found)
    if exported.matches:
        yield Text(
            "equal: spikes that are the same in both engines, where the layers before fired the same (at least "
            f"{TOLERANCE:g} asked for, and outputs that differ by {OUTPUT_TOLERANCE:g} at most); "
            "together: where each runs the whole network, and one spike that rounding moves is followed by others"
        )


def _read_elsewhere(exported: ExportedNir) -> Iterator[Block]:
    """Tell how a NIR file is read: by the reference interpreter, by each framework, and with a reset to zero."""
    from snnc.blocks import Cell, Column, Table, Text
    from snnc.text import fixed

    readers = {
        "reference interpreter": exported.reference,
        **{f"{found.framework} {found.version}": found.reference for found in exported.foreign},
        "with a reset to zero": exported.hard_reset,
    }
    read = {name: found for name, found in readers.items() if found is not None}
    yield Text(
        f"NIR, profile {exported.profile}, T={exported.timesteps}; neurons are reset by {_RESETS[exported.reset]}"
    )
    yield Table.of(
        "",
        [
            (Column("read by", "words"), lambda row: row[0]),
            (Column("equal spikes %"), lambda row: fixed(row[1].equal, 4)),
            (Column("worst layer"), lambda row: fixed(min(layer.equal for layer in row[1].layers), 4)),
            (Column("output error"), lambda row: f"{row[1].output_error:.1e}"),
            (Column("same prediction %"), lambda row: Cell.of(row[1].agreement, unit="%")),
            (Column("accuracy there %"), lambda row: Cell.of(row[1].accuracy_there, unit="%")),
            (Column("here"), lambda row: Cell.of(row[1].accuracy, unit="%")),
        ],
        [*read.items()],
    )
    if read:
        yield _layers(read)
    for found in exported.foreign:
        if found.refusal:
            yield Text(f"{found.framework} {found.version} does not read it: {found.refusal}")
    if exported.hard_reset is not None:
        yield Text(
            "NIR defines a reset to zero, and this file says that its neurons are reset by their threshold; a reader "
            "that does not heed that gets what stands under reset to zero (snnc calibrate --reset zero converts for it)"
        )


def _layers(read: Mapping[str, NirMatch]) -> Block:
    """Tell the equal spikes of every layer, by reader."""
    from snnc.blocks import Cell, Column, Table
    from snnc.text import fixed

    equal = [{layer.name: layer.equal for layer in found.layers} for found in read.values()]
    columns = Column("equal spikes %", "layer"), *map(Column, read)
    rows = tuple((Cell(name), *(Cell(fixed(found[name], 4)) for found in equal)) for name in equal[0])
    return Table("", columns, rows)


def _compared(engine: str, found: Match) -> Iterator[Block]:
    """Tell how both engines compare at one number of time steps."""
    from snnc.blocks import Column, Table, Text
    from snnc.text import fixed, written

    yield Text(f"{engine} against snnc at T={found.timesteps}, {found.images:,} images")
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
    labelled = ""
    if found.accuracy is not None and found.accuracy_there is not None:
        labelled = f"; accuracy {written(found.accuracy_there, '%')} % there and {written(found.accuracy, '%')} % here"
    yield Text(
        f"outputs differ by {found.readout_error:.1e}, together by {found.output_error:.1e}; "
        f"{written(found.agreement, '%')} % of predictions are the same{labelled}"
    )
