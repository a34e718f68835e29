"""Export a converted network, and see that what runs elsewhere is what runs here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

from snnc.actions.convert import convert
from snnc.actions.opened import Spiking, conversion_of
from snnc.analysis.integers import saturating
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.given import Data, gathered
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Progress, Samples, silent
from snnc.errors import DataError, UsageError, VerificationError
from snnc.files import next_to, write_atomically
from snnc.findings import Finding
from snnc.formats import verification
from snnc.formats.format import Format, Written, formats
from snnc.formats.match import Match
from snnc.formats.vectors import conformance_vectors, unpacked
from snnc.frontend import InputShapes
from snnc.ir import Input
from snnc.progress import told
from snnc.recipe import Recipe
from snnc.report import Report
from snnc.tasks import Task, chosen
from snnc.text import printable
from snnc.validation import parse

# So many images are run through every engine unless it is said how many.
IMAGES = 64


@final
@dataclass(frozen=True)
class Exported:
    """A file as it is to be written, how others run it, and conformance vectors (b"" where nobody asked for them).

    What is ``observed`` are the vectors in the words of the format, by suffix.
    """

    written: Written[Any]
    matches: tuple[Match, ...] = ()
    vectors: bytes = field(default=b"", repr=False)
    observed: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def mismatch(self) -> str:
        """What is beyond tolerance; "" where nothing is, or nothing was compared."""
        wrong = (match for match in self.matches if match.mismatch)
        return next((f"{match.mismatch} at T={match.timesteps}, run by {match.engine}" for match in wrong), "")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What readers lose of the network, beyond chance."""
        return tuple(match.finding for match in self.matches if match.finding is not None)

    def plain(self) -> dict[str, Any]:
        """Return what was measured, as plain data."""
        found = {"bytes": len(self.written.data), "mismatch": self.mismatch}
        return {**self.written.facts, **found, "verified": [asdict(match) for match in self.matches]}

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write the file and those that belong to it, and conformance vectors if there are any; return where.

        Raises VerificationError where another engine does not fire the same spikes, DataError where a file cannot be
        written.
        """
        path = Path(path)
        self.check(str(path))
        content = self.written.files(path)
        if self.vectors:
            content[vectors_beside(path)] = self.vectors
        content |= {next_to(path, f"{path.stem}{suffix}"): data for suffix, data in self.observed.items()}
        for file, data in content.items():
            write_atomically(file, data)
        return tuple(content)

    def check(self, place: str) -> None:
        """Raise VerificationError where another engine does not fire the same spikes."""
        if self.mismatch:
            hint = "please report it with the model"
            if all(match.rounding for match in self.matches if match.mismatch):
                hint = "its sums lie at thresholds, where rounding decides: --weight-bits makes them exact"
            hint = f"the export was not written; {hint}"
            raise VerificationError(f"another engine differs: {self.mismatch}", place=place, hint=hint)


def export(
    network: Spiking,
    format: Format[Any] | str = "onnx",  # noqa: A002 - the name of the flag
    *,
    options: Mapping[str, object] | None = None,
    verify: bool = False,
    vectors: int | None = None,
    potentials: bool = False,
    membrane_bits: int | None = None,
    data: Data | None = None,
    reading: Reading | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Turn a conversion, or its file, into a file of a format, by its name with ``options``, which ``save`` writes.

    ``verify`` runs it in every engine that there is for it. Engines run 64 images of ``data`` or as many as ``reading``
    says, or noise without data; ``vectors`` asks for conformance vectors of so many images besides, with the
    ``potentials`` of all neurons if need be. With ``membrane_bits`` it is the network whose membranes saturate at so
    many bits that is written. Raises ModelError for what the format cannot say, UsageError for options
    that cannot be and without the extra that the format needs, DataError for broken data, and VerificationError where
    an engine refuses the file.
    """
    check_count(vectors)
    conversion, progress = conversion_of(network), progress or told()
    if membrane_bits is not None:
        conversion = replace(conversion, snn=saturating(conversion.snn, membrane_bits))
    held = None if data is None else gathered(data)
    if isinstance(format, str):
        format = parse(formats[format], dict(options or {}), place=format)  # noqa: A001 - as above
    format.check(conversion)
    reading = reading or Reading()
    written = format.write(conversion)
    matches: list[Match] = []
    if verify or format.runs_unasked:
        few = replace(reading, limit=IMAGES if reading.limit is None else reading.limit)
        engines = [engine for engine in format.engines(written, conversion) if verify or engine.tolerance is None]
        for engine in engines:
            label = f"verifying at T={engine.schedule.timesteps} with {engine.name}"
            found = samples(conversion, held, few, label, progress)
            match = verification.verify(conversion, written, engine, found)
            matches.append(replace(match, remark=printable(match.remark), manner=format.manner(engine)))
    content, observed = b"", dict[str, bytes]()
    if vectors is not None:
        how = replace(reading, limit=vectors)
        found = samples(conversion, held, how, "conformance vectors", progress, at_least=vectors)
        names = {"trains": written.trains, "means": written.means}
        content = conformance_vectors(conversion, found, seed=reading.seed, potentials=potentials, **names)
        observed = dict(format.observed(written, unpacked(content)))
    return Exported(written, tuple(matches), content, observed)


def convert_and_export(
    model: Path,
    recipe: Recipe,
    format: Format[Any],  # noqa: A002 - the name of the flag
    *,
    data: Path | None = None,
    preprocessing: Preprocessing | None = None,
    task: Task | None = None,
    expected: float | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
    minutes: float | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[Conversion, Report, Exported]:
    """Turn a trained network into a spiking one, and that into a file of a format, verified on some of the images.

    What the verification finds, a mismatch too, is in the report. Raises what ``snnc.convert`` and the export
    raise, before any image is read where the format cannot say what the recipe makes.
    """
    reading = reading or Reading()
    conversion, report = check_format(
        model, recipe, format, preprocessing=preprocessing, task=task, input_shape=input_shape
    )
    if data is not None:
        conversion, report = convert(
            model,
            recipe,
            data=data,
            preprocessing=preprocessing,
            task=task,
            expected=expected,
            input_shape=input_shape,
            reading=reading,
            minutes=minutes,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
        )
    few = replace(reading, limit=min(reading.limit or IMAGES, IMAGES))
    exported = export(conversion, format, verify=True, data=data, reading=few, progress=progress)
    return conversion, replace(report, verifications=exported.matches), exported


def check_format(
    model: Path,
    recipe: Recipe,
    format: Format[Any],  # noqa: A002 - the name of the flag
    *,
    preprocessing: Preprocessing | None = None,
    task: Task | None = None,
    input_shape: InputShapes = None,
) -> tuple[Conversion, Report]:
    """Convert without images, and raise what the format raises for what it cannot say."""
    conversion, report = convert(model, recipe, preprocessing=preprocessing, task=task, input_shape=input_shape)
    format.check(conversion)
    return conversion, report


def vectors_beside(path: Path) -> Path:
    """Return where the conformance vectors of an exported file stand."""
    return next_to(path, f"{path.name}.vectors.safetensors")


def check_count(count: int | None) -> None:
    """Raise UsageError for conformance vectors of less than one image; None is none asked for."""
    if count is not None and count < 1:
        raise UsageError(f"{count} images", place="--vectors", hint="give a whole number from 1")


def samples(
    conversion: Conversion, data: Data | None, reading: Reading, label: str, progress: Progress, *, at_least: int = 1
) -> Samples:
    """Return as many images as ``reading`` says, noise without data; of frames over time, some of them, each alone.

    Raises DataError where the data is broken, has fewer than ``at_least`` images, or a label is none of the network's
    outputs.
    """
    inputs = conversion.snn.ops(Input)
    if data is None:
        assert reading.limit is not None
        progress(label, 0, reading.limit)
        return verification.noise(inputs, reading.limit, reading.seed)
    dataset = open_dataset(data, conversion.preprocessing, inputs, reading)
    if len(dataset) < at_least:
        hint = f"ask for {len(dataset)}, or name a folder of more"
        raise DataError(f"{len(dataset)} images where {at_least} are asked for", place=str(data), hint=hint)
    chosen(conversion.task, conversion.snn, dataset.kinds).check(dataset, conversion.snn.output_shapes)
    found = DatasetSamples(dataset, reading, label, progress)
    # A file takes what stays as it is: of frames over time, each is a sample.
    return found.still().thinned(len(dataset)) if found.over_time else found
