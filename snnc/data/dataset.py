"""The samples that a network is calibrated or evaluated on."""

import hashlib
import json
import os
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from snnc.data.arrays import open_arrays
from snnc.data.images import open_images
from snnc.data.preprocessing import Preprocessing
from snnc.data.source import Source
from snnc.data.transform import Sample, Transform
from snnc.errors import DataError, UsageError

# What samples are kept apart for: two thirds to calibrate on, one third to judge by.
Part = Literal["calibration", "judging"]

# Fewer samples than this say too little in either part.
_FEWEST_TO_SPLIT = 30


@final
class Dataset:
    """Samples in a fixed order, read when they are needed.

    ``labels`` [len] are int64 with the label offset added, None where the data has none. ``class_names[i]`` belongs to
    label ``i + label_offset``; empty where labels are only numbers. ``ignored`` counts files that were passed by.
    """

    def __init__(self, source: Source, indices: tuple[int, ...]) -> None:
        self._source = source
        self._indices = indices
        self._offset = source.transform.preprocessing.label_offset
        self.sample_shape = source.transform.sample_shape
        self.class_names = source.class_names
        self.ignored = source.ignored
        self._digest = ""
        self.labels: Tensor | None = None
        if source.labels is not None:
            self.labels = torch.from_numpy(source.labels[np.asarray(indices)] + self._offset)

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        """Return the relative path of one image file, or ``x[row]`` of an array file."""
        return self._source.name(self._indices[index])

    def spread(self, count: int, seed: int = 0) -> "Dataset":
        """Return so many of the samples, spread evenly: ``seed`` draws one from each of ``count`` equal stretches."""
        return Dataset(self._source, tuple(self._indices[index] for index in _subset(len(self), count, seed)))

    def part(self, name: Part, seed: int = 0) -> "Dataset":
        """Return one of two parts that have no sample in common and are both spread evenly, drawn by ``seed``.

        Raises DataError where there are too few samples to split.
        """
        if len(self) < _FEWEST_TO_SPLIT:
            hint = f"give {_FEWEST_TO_SPLIT} or more: two thirds to calibrate on, one third to judge by"
            raise DataError(f"{len(self)} images are too few to be split", place="--data", hint=hint)
        judging = set(_subset(len(self), len(self) // 3, seed))
        return Dataset(
            self._source, tuple(i for at, i in enumerate(self._indices) if (at in judging) == (name == "judging"))
        )

    def sample(self, index: int) -> Tensor:
        """Read one sample [*sample_shape]; raises DataError where it is broken or does not fit the network."""
        return torch.from_numpy(self._source.read(self._indices[index]))

    def batches(
        self, batch_size: int = 64, workers: int | None = None, progress: Callable[[int], None] | None = None
    ) -> Iterator[Tensor]:
        """Iterate over all samples as float32 [N, *sample_shape], reading ahead in ``workers`` threads.

        What is delivered does not depend on ``workers``, and no sample on ``batch_size``. Besides what the caller
        keeps, at most the batch delivered, the one being filled and ``batch_size + workers`` samples are in memory.
        ``progress`` is told the size of each batch when the caller comes back for the next. Raises DataError at the
        first sample, in order, that is broken or does not fit; UsageError where a size is below 1.
        """
        workers = min(8, os.cpu_count() or 1) if workers is None else workers
        for name, value in (("batch size", batch_size), ("number of workers", workers)):
            _require_positive(name, value)
        return self._batches(batch_size, workers, progress)

    def check_labels(self, outputs: int) -> None:
        """Raise DataError where a label is none of the network's ``outputs``; without labels, do nothing."""
        if self.labels is None:
            return
        wrong = ((self.labels < 0) | (self.labels >= outputs)).nonzero()
        if len(wrong):
            index = int(wrong[0])
            raise DataError(
                f"the label {int(self.labels[index])} is out of range: the network has {outputs} outputs",
                place=self._source.place(self._indices[index]),
                hint=f"labels run from {int(self.labels.min())} to {int(self.labels.max())} "
                f"with label-offset {self._offset}: set another, or check the labels",
            )

    def digest(self) -> str:
        """Return the SHA-256 of names, contents and labels of the samples in use.

        It depends neither on where the data lies, nor on the order in which samples are listed, nor on preprocessing.
        Contents are streamed, once. Raises DataError where a file cannot be read.
        """
        self._digest = self._digest or self._streamed_digest()
        return self._digest

    def _streamed_digest(self) -> str:
        labels = self._source.labels
        digest = hashlib.sha256()
        for index in sorted(self._indices, key=self._source.name):
            label = None if labels is None else int(labels[index])
            entry = [self._source.name(index), self._source.digest(index), label]
            digest.update(json.dumps(entry).encode() + b"\n")
        return digest.hexdigest()

    def _batches(self, batch_size: int, workers: int, progress: Callable[[int], None] | None) -> Iterator[Tensor]:
        waiting = iter(self._indices)
        ahead: deque[Future[Sample]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="snnc-data")

        def read_ahead() -> None:
            for index in islice(waiting, batch_size + workers - len(ahead)):
                ahead.append(pool.submit(self._source.read, index))

        try:
            for start in range(0, len(self), batch_size):
                batch = torch.empty(min(batch_size, len(self) - start), *self.sample_shape)
                for row in batch.unbind():
                    read_ahead()
                    row.copy_(torch.from_numpy(ahead.popleft().result()))
                # The workers go on while the caller is busy with this batch.
                read_ahead()
                yield batch
                if progress is not None:
                    progress(len(batch))
        finally:
            pool.shutdown(cancel_futures=True)


def open_dataset(
    path: str | Path,
    preprocessing: Preprocessing,
    sample_shape: tuple[int, ...],
    *,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Open a folder of images or an array file (.npy, .npz) for a network that takes ``sample_shape``.

    ``batches(size)`` of the result are float tensors ``[N, *sample_shape]``, preprocessed, and ``labels`` is ``[len]``.
    ``limit`` keeps so many samples, spread evenly: the data is cut into ``limit`` equal stretches, and ``seed`` draws
    one sample from each, because a fixed step would pick a single class from data that cycles through its classes.
    Raises DataError where the data is missing, broken or does not fit, UsageError where ``limit`` is below 1.
    """
    if limit is not None:
        _require_positive("limit", limit)
    path = Path(path)
    if not path.exists():
        raise DataError("no such file or folder", place=str(path), hint="check the path")
    transform = Transform(preprocessing, sample_shape)
    source: Source
    if path.is_dir():
        source = open_images(path, transform)
    elif path.suffix.lower() in (".npy", ".npz"):
        source = open_arrays(path, transform)
    else:
        hint = "give a folder of images, a .npy file (x) or a .npz file (x and y)"
        raise DataError("neither a folder nor an array file", place=str(path), hint=hint)
    dataset = Dataset(source, tuple(range(len(source))))
    return dataset if limit is None else dataset.spread(limit, seed)


def _subset(samples: int, limit: int, seed: int) -> tuple[int, ...]:
    if limit >= samples:
        return tuple(range(samples))
    draw = random.Random(seed)
    edges = [stretch * samples // limit for stretch in range(limit + 1)]
    # random() is the one draw whose stream Python keeps the same from version to version.
    return tuple(low + int(draw.random() * (high - low)) for low, high in pairwise(edges))


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"the {name} is {value}", hint="give 1 or more")
