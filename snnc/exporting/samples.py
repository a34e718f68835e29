"""The images that an export is verified on."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from snnc.artifact import preprocessing_of
from snnc.conversion import Conversion
from snnc.errors import DataError
from snnc.evaluation import check_labels
from snnc.pipeline import Loaded, Progress, Reading, opened

# So many images are run through every engine unless it is said how many.
IMAGES = 64


@dataclass(frozen=True, eq=False)
class Samples:
    """Batches of images ``[N, ...]`` and, if any, their labels; ``noise`` says that they are no images."""

    batches: list[Tensor]
    labels: Tensor | None
    noise: bool


def samples(
    conversion: Conversion,
    data: Path | None,
    reading: Reading | None,
    label: str,
    progress: Progress,
    *,
    at_least: int = 1,
) -> Samples:
    """Return images: 64 or as many as asked for, noise without data.

    Raises DataError where the data is broken, has fewer than ``at_least`` images, or a label is none of the network's
    outputs.
    """
    reading = reading or Reading()
    limit = IMAGES if reading.limit is None else reading.limit
    shape = conversion.snn.shapes[conversion.snn.inputs[0]]
    if data is None:
        generator = Generator().manual_seed(reading.seed)
        progress(label, 0, limit)
        return Samples([torch.randn(limit, *shape, generator=generator)], None, noise=True)
    dataset = opened(data, preprocessing_of(conversion), shape, replace(reading, limit=limit))
    if len(dataset) < at_least:
        hint = f"ask for {len(dataset)}, or name a folder of more"
        raise DataError(f"{len(dataset)} images where {at_least} are asked for", place=str(data), hint=hint)
    check_labels(dataset, conversion.snn)
    return Samples([*Loaded(dataset, reading, label, progress).batches()], dataset.labels, noise=False)
