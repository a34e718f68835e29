"""The images that conformance vectors are of."""

from dataclasses import replace
from pathlib import Path

import torch

from snnc.conversion import Conversion
from snnc.errors import UsageError
from snnc.export.vectors import conformance_vectors
from snnc.exporting.exported import Exported
from snnc.exporting.samples import samples
from snnc.pipeline import Progress, Reading, silent


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

    Raises UsageError for less than one image and DataError for broken data.
    """
    if count < 1:
        raise UsageError(f"{count} images", place="--vectors", hint="give a whole number from 1")
    reading = replace(reading or Reading(), limit=count)
    batches, labels = samples(conversion, data, reading, "conformance vectors", progress)
    return conformance_vectors(conversion, torch.cat(batches), labels, exported.values, seed=reading.seed)
