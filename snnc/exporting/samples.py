"""The images that an export is verified on."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from snnc.conversion import Conversion
from snnc.evaluation import check_labels
from snnc.pipeline import Loaded, Progress, Reading, opened, preprocessing_of

# So many images are run through every engine unless it is said how many.
IMAGES = 64


def samples(
    conversion: Conversion, data: Path | None, reading: Reading | None, label: str, progress: Progress
) -> tuple[list[Tensor], Tensor | None]:
    """Return batches of images ``[N, ...]`` and, if any, their labels: 64 or as many as asked for, noise without data.

    Raises DataError where the data is broken or a label is none of the network's outputs.
    """
    reading = reading or Reading()
    reading = replace(reading, limit=reading.limit or IMAGES)
    shape = conversion.snn.shapes[conversion.snn.inputs[0]]
    if data is None:
        generator = Generator().manual_seed(reading.seed)
        progress(label, 0, reading.limit or IMAGES)
        return [torch.randn(reading.limit or IMAGES, *shape, generator=generator)], None
    dataset = opened(data, preprocessing_of(conversion), shape, reading)
    check_labels(dataset, conversion.snn)
    return list(Loaded(dataset, reading, label, progress).batches()), dataset.labels
