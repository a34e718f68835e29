"""Convert and export in one go."""

from dataclasses import replace
from pathlib import Path

from snnc import pipeline
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Progress, silent
from snnc.errors import VerificationError
from snnc.exporting.exported import Exported, formats
from snnc.exporting.samples import IMAGES
from snnc.recipe import Recipe
from snnc.report import Report


def convert_and_export(
    model: Path,
    recipe: Recipe,
    format: str,  # noqa: A002 - the name of the flag
    *,
    data: Path | None = None,
    preprocessing: Preprocessing | None = None,
    input_shape: tuple[int, ...] | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> tuple[Conversion, Report, Exported]:
    """Turn a trained network into a spiking one, and that into a file of a format, verified on some of the images.

    What the verification finds, a mismatch too, is in the report. Raises what ``snnc.pipeline.convert`` and the export
    raise, before any image is read where the format cannot say what the recipe makes.
    """
    reading = reading or Reading()
    conversion, report = check_format(model, recipe, format, preprocessing=preprocessing, input_shape=input_shape)
    if data is not None:
        conversion, report = pipeline.convert(
            model,
            recipe,
            data=data,
            preprocessing=preprocessing,
            input_shape=input_shape,
            reading=reading,
            progress=progress,
        )
    few = replace(reading, limit=min(reading.limit or IMAGES, IMAGES))
    exported = formats[format].export(conversion, verify=True, data=data, reading=few, progress=progress)
    return conversion, replace(report, verifications=exported.verifications()), exported


def check_format(
    model: Path,
    recipe: Recipe,
    format: str,  # noqa: A002 - the name of the flag
    *,
    preprocessing: Preprocessing | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> tuple[Conversion, Report]:
    """Convert without images, and raise what the format raises for what it cannot say."""
    conversion, report = pipeline.convert(model, recipe, preprocessing=preprocessing, input_shape=input_shape)
    formats[format].check(conversion)
    return conversion, report


def check(exported: Exported, place: str) -> None:
    """Raise VerificationError where another engine does not fire the same spikes."""
    if exported.mismatch:
        hint = "the export was not written; please report it with the model"
        raise VerificationError(f"another engine differs: {exported.mismatch}", place=place, hint=hint)
