"""The images that conformance vectors are of."""

from dataclasses import replace
from pathlib import Path

from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.samples import Progress, silent
from snnc.errors import UsageError
from snnc.export.vectors import conformance_vectors
from snnc.exporting.exported import Exported
from snnc.exporting.samples import samples


def check_count(count: int | None) -> None:
    """Raise UsageError for less than one image; None is none asked for."""
    if count is not None and count < 1:
        raise UsageError(f"{count} images", place="--vectors", hint="give a whole number from 1")


def vectors(
    conversion: Conversion,
    exported: Exported,
    count: int,
    *,
    data: Path | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> bytes:
    """Return conformance vectors for ``count`` images of ``data``, or of noise without data, as safetensors.

    Raises UsageError for less than one image and DataError for broken data, or where it has fewer images.
    """
    check_count(count)
    reading = replace(reading or Reading(), limit=count)
    found = samples(conversion, data, reading, "conformance vectors", progress, at_least=count)
    return conformance_vectors(
        conversion, found.batches, found.labels, trains=exported.trains, means=exported.means, seed=reading.seed
    )
