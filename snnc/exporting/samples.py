"""The images that an export is verified on."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.labels import CLASSES
from snnc.data.samples import DatasetSamples, Progress, noise
from snnc.errors import DataError
from snnc.tasks import seeming

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
    shapes = conversion.snn.input_shapes
    (image,) = shapes
    if data is None:
        progress(label, 0, limit)
        return Samples([feeds[image] for feeds in noise(shapes, limit, reading.seed).batches()], None, noise=True)
    dataset = open_dataset(data, conversion.preprocessing, shapes, replace(reading, limit=limit))
    if len(dataset) < at_least:
        hint = f"ask for {len(dataset)}, or name a folder of more"
        raise DataError(f"{len(dataset)} images where {at_least} are asked for", place=str(data), hint=hint)
    outputs = conversion.snn.output_shapes
    (conversion.task or seeming(outputs, dataset.kinds)).check(dataset, outputs)
    labels = dataset.labels(CLASSES)
    batches = [feeds[image] for feeds in DatasetSamples(dataset, reading, label, progress).batches()]
    return Samples(batches, None if labels is None else labels.answers, noise=False)
