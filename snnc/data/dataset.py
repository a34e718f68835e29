"""The samples that a network is calibrated or evaluated on."""

import base64
import hashlib
import io
import json
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from threading import Lock
from typing import Literal, final, overload

import numpy as np
import torch
from torch import Tensor

from snnc.data.arrays import Arrays
from snnc.data.given import Data, Given, gathered
from snnc.data.labels import CLASSES, NAMED, ONE_HOT, Classes, Labels, Named, Values
from snnc.data.noticed import left_out, on_classes
from snnc.data.patterns import is_pattern, matched
from snnc.data.preprocessing import Preprocessing
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Sample, Transform
from snnc.errors import DataError, UsageError
from snnc.feeds import Feeds
from snnc.files import check_file
from snnc.findings import Finding
from snnc.ir import Input
from snnc.process import memory
from snnc.processes import Division, Sum, current

# What samples are kept apart for: two thirds to calibrate on, one third to judge by; or the first 90 % of each class,
# in their order, and the last 10 %.
Part = Literal["calibration", "judging", "train", "test"]

# How many samples are held for the next time, as many as the recipe quick looks at, and the share of the memory that
# they may take.
_MOST_HELD, _SHARE = 2048, 512

# Samples that a thread reads at once, at most: of small ones, handing over takes longer than reading.
_BLOCK = 8

# Threads that read, which a machine still bears.
_MOST_WORKERS = 256

# Fewer samples than this say too little in either part.
_FEWEST_TO_SPLIT = 30
# With so many samples for each class, none is missing by chance.
_MANY = 10

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Reading:
    """How data is read: samples at once, threads (None: one per core, at most 8), and how many samples (None: all).

    ``seed`` draws those that ``limit`` keeps. ``part`` keeps only one of two parts: of those that ``snnc tune`` splits
    data into, out of what ``limit`` leaves; of those before and behind 90 % of each class, before ``limit`` draws.
    """

    batch_size: int = 64
    workers: int | None = None
    limit: int | None = None
    seed: int = 0
    part: Part | None = None


@final
class _Held:
    """Samples by their numbers in a source, as many as fit into a little memory: small ones are decoded once."""

    def __init__(self) -> None:
        self._samples: dict[int, dict[str, Sample]] = {}
        self._room = memory() // _SHARE
        self._taking = Lock()

    def sample(self, index: int, read: Callable[[int], dict[str, Sample]]) -> dict[str, Sample]:
        """Return a sample, and ``read`` it where it is not held."""
        found = self._samples.get(index)
        if found is None:
            found = read(index)
            size = sum(values.nbytes for values in found.values())
            with self._taking:
                if size <= self._room and len(self._samples) < _MOST_HELD and index not in self._samples:
                    # What is part of another array would keep all of that.
                    own = {name: values if values.base is None else values.copy() for name, values in found.items()}
                    self._samples[index] = own
                    self._room -= size
        return found


@final
class Dataset:
    """Samples of a source in a fixed order, preprocessed, and read when they are needed.

    ``inputs`` is the preprocessing that each input of the network asks for, ``shapes`` what it then takes. ``ignored``
    are files that were passed by.
    """

    def __init__(
        self,
        source: Source,
        preprocessing: Preprocessing,
        inputs: Mapping[str, Transform],
        indices: Sequence[int],
        held: _Held | None = None,
    ) -> None:
        self._source = source
        self._preprocessing = preprocessing
        self._inputs = inputs
        self._indices = indices
        self._held = _Held() if held is None else held
        self._digest = ""
        offset = preprocessing.label_offset
        self._labels = {kind: labels.taken(indices, offset) for kind, labels in source.labels.items()}
        self.shapes: Shapes = {name: transform.sample_shape for name, transform in inputs.items()}
        self.ignored = source.ignored

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def over_time(self) -> bool:
        """Whether samples are frames."""
        return self._source.over_time

    @property
    def form(self) -> str:
        """What the files of recordings are; empty of other data."""
        return self._source.form

    def name(self, index: int) -> str:
        """Return the relative path of one image file, or ``x[row]`` of an array file."""
        return self._source.name(self._indices[index])

    @overload
    def labels(self, kind: Literal["classes"]) -> Classes | None: ...

    @overload
    def labels(self, kind: str) -> Labels | None: ...

    def labels(self, kind: str) -> Labels | None:
        """Return the labels of one kind, the label offset added; None where the data has none, nor any taken for it."""
        found = (self._labels.get(kind), *(labels.taken_for(kind) for labels in self._labels.values()))
        return next((labels for labels in found if labels is not None), None)

    @property
    def class_names(self) -> Mapping[int, str]:
        """What classes are called, by their numbers; empty where they are only numbers."""
        classes = self.labels(CLASSES)
        return {} if classes is None else dict(enumerate(classes.names, self._preprocessing.label_offset))

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of labels that the data has."""
        hot = any(isinstance(labels, Values) and labels.one_hot for labels in self._source.labels.values())
        return frozenset(self._labels) | (frozenset({ONE_HOT}) if hot else frozenset())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is odd about the data, as far as it was read."""
        names = [self._source.name(index) for index in range(len(self._source))]
        classes = self._source.labels.get(CLASSES)
        return (
            *left_out(self.ignored, len(names)),
            *on_classes(classes if isinstance(classes, Classes) else None, names, self._preprocessing.class_order),
            *self._source.noticed.findings(self._preprocessing.scale),
        )

    def place(self, index: int) -> str:
        """Return where one sample lies, for errors."""
        return self._source.place(self._indices[index])

    def of_output(self, name: str) -> "Dataset":
        """Return the same samples with the labels of one output alone, by its name, and of their own kind."""
        labels, alone = self.labels(NAMED), self.chosen(range(len(self)))
        parts = labels.parts if isinstance(labels, Named) else {}
        alone._labels = {"": parts[name]} if name in parts else {}
        return alone

    def spread(self, count: int, seed: int = 0) -> "Dataset":
        """Return so many of the samples, spread evenly: ``seed`` draws one from each of ``count`` equal stretches."""
        return self.chosen(_subset(len(self), count, seed))

    def part(self, name: Part, seed: int = 0) -> "Dataset":
        """Return one of two parts that have no sample in common.

        Those for calibration and judging are both spread evenly, drawn by ``seed``; those to train and test are the
        first 90 % of each class, rounded up, and the rest. Raises DataError where there are too few samples to split,
        or no classes.
        """
        if name in ("train", "test"):
            return self._by_class(name)
        if len(self) < _FEWEST_TO_SPLIT:
            hint = f"give {_FEWEST_TO_SPLIT} or more: two thirds to calibrate on, one third to judge by"
            raise DataError(f"{len(self)} images are too few to be split", place="--data", hint=hint)
        judging = set(_subset(len(self), len(self) // 3, seed))
        return self.chosen(tuple(at for at in range(len(self)) if (at in judging) == (name == "judging")))

    def _by_class(self, name: Part) -> "Dataset":
        classes = self.labels(CLASSES)
        if classes is None:
            hint = "put samples into a folder for each class, or list them in labels.csv"
            raise DataError("samples without classes cannot be split by class", place="--part", hint=hint)
        left = {number: -(-9 * count // 10) for number, count in Counter(classes.answers.tolist()).items()}
        kept = []
        for at, number in enumerate(classes.answers.tolist()):
            if (left[number] > 0) == (name == "train"):
                kept.append(at)
            left[number] -= 1
        if not kept:
            raise DataError(f"{len(self)} samples are too few to be split", place="--part", hint="give 2 of each class")
        return self.chosen(kept)

    def chosen(self, numbers: Sequence[int]) -> "Dataset":
        """Return some of the samples, in the order of ``numbers``."""
        indices = tuple(self._indices[number] for number in numbers)
        return Dataset(self._source, self._preprocessing, self._inputs, indices, self._held)

    def sample(self, index: int) -> dict[str, Tensor]:
        """Read one sample, by input; raises DataError where it is broken or does not fit the network."""
        return {name: torch.from_numpy(values) for name, values in self._read(self._indices[index]).items()}

    def shown(self, index: int, every: int | None = None) -> Iterator[tuple[int | None, Feeds]]:
        """Yield what comes of one sample, as it comes, each ready for a network.

        Of a recording it is every so many microseconds, and when they are over, from its start on; else every frame,
        and its number from 1 on, or the sample itself, and None. Raises DataError where it is broken or has no times.
        """
        if every is not None:
            for over, values in self._source.moments(self._indices[index], every):
                yield over, self._feeds(self._fitted(self._indices[index], values))
            return
        values = self._read(self._indices[index])
        if not self.over_time:
            yield None, self._feeds(values)
            return
        for number in range(len(next(iter(values.values())))):
            yield number + 1, Feeds({name: torch.from_numpy(frames[number, None]) for name, frames in values.items()})

    def jpeg(self, index: int, side: int) -> tuple[str, tuple[int, int]] | None:
        """Return a sample as the network sees it before it is scaled, as JPEG in base64, and its size.

        It is made smaller where it is wider or higher than ``side``. None of what is no image, gray or in color.
        """
        place = self._source.place(self._indices[index])
        for name, values in self._source.read(self._indices[index]).items():
            transform = self._inputs[name]
            if transform.is_image and transform.channels in (1, 3) and values.dtype == np.uint8 and values.ndim == 3:
                image, file = transform.pictured(values, place=place), io.BytesIO()
                image.thumbnail((side, side))
                image.save(file, "JPEG", quality=75)
                return base64.b64encode(file.getvalue()).decode(), image.size
        return None

    def batches(self, reading: Reading | None = None) -> Iterator[Feeds]:
        """Iterate over all samples, float32, reading ahead in as many threads as ``reading`` says.

        What is delivered does not depend on the threads, and no sample on the batch size. Besides what the caller
        keeps, at most the batch delivered, the one being filled and ``batch_size`` and eight times ``workers`` samples
        are in memory; small samples are held for the next time, as they were when they were read first. Raises
        DataError at the first sample, in order, that is broken or does not fit; UsageError where a size is below 1.
        """
        reading = reading or Reading()
        workers = min(8, os.cpu_count() or 1) if reading.workers is None else reading.workers
        if workers > _MOST_WORKERS:
            raise UsageError(f"{workers} workers", place="--workers", hint=f"give at most {_MOST_WORKERS}")
        for name, value in (("batch size", reading.batch_size), ("number of workers", workers)):
            _require_positive(name, value)
        return self._batches(reading.batch_size, workers)

    def check_labels(self, outputs: int) -> None:
        """Raise DataError where a class is none of the network's ``outputs``; without classes, do nothing."""
        classes = self.labels(CLASSES)
        if classes is None:
            return
        numbers = classes.answers
        wrong = ((numbers < 0) | (numbers >= outputs)).nonzero()
        if len(wrong):
            index = int(wrong[0])
            raise DataError(
                f"the label {int(numbers[index])} is out of range: the network has {outputs} outputs",
                place=self._source.place(self._indices[index]),
                hint=f"labels run from {int(numbers.min())} to {int(numbers.max())} "
                f"with label-offset {self._preprocessing.label_offset}: set another, or check the labels",
            )

    def uncovered(self, outputs: int) -> Iterator[Finding]:
        """Yield the finding on classes that are not as many as a network's ``outputs``, where that is no chance."""
        classes = self.labels(CLASSES)
        if classes is None:
            return
        folders, seen = len(classes.names), len(set(classes.answers.tolist()))
        if folders and folders + self._preprocessing.label_offset != outputs:
            told = "classes have names" if classes.stated else "folders are the classes"
            message = f"{folders} {told}, but the network has {outputs} outputs"
        elif not folders and seen < outputs and len(self) >= _MANY * outputs:
            message = f"{len(self):,} labels are of {seen} classes, but the network has {outputs} outputs"
        else:
            return
        hint = "look whether these are the classes that the network was trained on, from the first one on"
        yield Finding("classes-not-covered", "warning", "", message, hint)

    def digest(self) -> str:
        """Return the SHA-256 of names, contents and labels of the samples in use.

        It depends neither on where the data lies, nor on the order in which samples are listed, nor on preprocessing.
        Contents are streamed, once. Raises DataError where a file cannot be read.
        """
        self._digest = self._digest or self._streamed_digest()
        return self._digest

    def among(self, count: int, sha256: str, seed: int) -> int:
        """Return how many of the samples are among so many that were drawn by ``seed`` from the same source.

        Those have the digest ``sha256``. 0 where they are of another source, or drawn in another way.
        """
        whole = Dataset(self._source, self._preprocessing, self._inputs, range(len(self._source)))
        drawn = [self, whole.spread(count, seed)]
        if self.labels(CLASSES) is not None:
            drawn.append(whole.part("train").spread(count, seed))
        for found in drawn:
            if len(found) == count and found.digest() == sha256:
                return len({*found._indices} & {*self._indices})
        return 0

    def _streamed_digest(self) -> str:
        order = sorted(self._indices, key=self._source.name)
        names = hashlib.sha256("\n".join(map(self._source.name, order)).encode()).hexdigest()
        current().meet(f"data with names of the digest {names[:12]}")
        division = Division(len(order), len(order))
        contents: Sum[list[str]] = division.sum()
        for start in range(division.start, division.stop, division.size):
            contents.add([self._source.digest(index) for index in order[start : start + division.size]])
        digest = hashlib.sha256()
        for index, content in zip(order, contents.total() if order else [], strict=True):
            labels = [labels.plain(index) for _, labels in sorted(self._source.labels.items())] or [None]
            entry = [self._source.name(index), content, *labels]
            digest.update(json.dumps(entry).encode() + b"\n")
        return digest.hexdigest()

    def _read(self, index: int) -> dict[str, Sample]:
        return self._fitted(index, self._source.read(index))

    def _fitted(self, index: int, read: Mapping[str, Array]) -> dict[str, Sample]:
        place, over_time = self._source.place(index), self._source.over_time
        found = {}
        for name, values in read.items():
            fitted = self._inputs[name]
            frames = [fitted(frame, place=place) for frame in values] if over_time else []
            found[name] = np.stack(frames) if over_time else fitted(values, place=place)
        return found

    def _feeds(self, values: Mapping[str, Sample]) -> Feeds:
        """Return one sample, over time where it is frames."""
        axis = 1 if self.over_time else 0
        tensors = {name: torch.from_numpy(value).unsqueeze(axis) for name, value in values.items()}
        return Feeds(tensors, tensors if self.over_time else ())

    def _batches(self, batch_size: int, workers: int) -> Iterator[Feeds]:
        batches = [self._indices[start : start + batch_size] for start in range(0, len(self), batch_size)]
        # Of few samples, every thread reads some.
        block = max(1, min(_BLOCK, -(-min(batch_size, len(self)) // workers)))
        waiting = (batch[start : start + block] for batch in batches for start in range(0, len(batch), block))
        blocks_ahead = -(-batch_size // block) + workers
        ahead: deque[Future[tuple[list[dict[str, Sample]], Exception | None]]] = deque()
        shapes: dict[str, tuple[int, ...]] = {}
        axis = 1 if self._source.over_time else 0
        pool = ThreadPoolExecutor(workers, thread_name_prefix="snnc-data")

        def read(indices: Sequence[int]) -> tuple[list[dict[str, Sample]], Exception | None]:
            """Return samples up to the first that cannot be read, and why, which is told where its turn comes."""
            some = list[dict[str, Sample]]()
            try:
                for index in indices:
                    some.append(self._held.sample(index, self._read))
            except Exception as error:
                return some, error
            return some, None

        def read_ahead() -> None:
            for indices in islice(waiting, blocks_ahead - len(ahead)):
                ahead.append(pool.submit(copy_context().run, read, indices))

        def samples() -> Iterator[dict[str, Sample]]:
            while True:
                read_ahead()
                some, error = ahead.popleft().result()
                yield from some
                if error is not None:
                    raise error

        try:
            coming = samples()
            for indices in batches:
                feeds: dict[str, Tensor] = {}
                for row, (index, sample) in enumerate(zip(indices, islice(coming, len(indices)), strict=True)):
                    for name, values in sample.items():
                        shape = shapes.setdefault(name, values.shape)
                        if values.shape != shape:
                            message = f"{len(values)} frames, where the sample before has {shape[0]}"
                            hint = "frames of different samples are shown side by side: make as many of each"
                            raise DataError(message, place=self._source.place(index), hint=hint)
                        if row == 0:
                            feeds[name] = torch.empty(*shape[:axis], len(indices), *shape[axis:])
                        # By numpy: whenever torch is called, a thread that reads takes its turn, sample by sample.
                        np.moveaxis(feeds[name].numpy(), axis, 0)[row] = values
                # The workers go on while the caller is busy with this batch.
                read_ahead()
                apart = self._preprocessing.reference == "frames"
                yield Feeds(feeds, feeds if self._source.over_time else (), apart=apart)
        finally:
            pool.shutdown(cancel_futures=True)


def open_dataset(
    data: Data,
    preprocessing: Preprocessing,
    inputs: Mapping[str, Input | tuple[int, ...]],
    reading: Reading | None = None,
) -> Dataset:
    """Open a folder of images or of recordings, or an array file (.npy, .npz), for the inputs of a network, by name.

    Tar shards and Parquet files are opened, too: one, a folder of them, or a pattern of their names.
    Instead of a path it may be what a program holds, as ``gathered`` takes it: tensors, arrays, a tuple of x and y, a
    mapping by names, a Dataset of torch, or what yields batches of these, such as a DataLoader, which is read once.
    Of an input ``Input`` says what it takes, or else a shape, that of one sample of real numbers. Of several inputs,
    only images are preprocessed; integers never are.

    ``batches()`` of the result are preprocessed float tensors ``[N, ...]`` by input. Of ``reading``, ``limit`` keeps so
    many samples, spread evenly: the data is cut into ``limit`` equal stretches, and ``seed`` draws one sample from
    each, because a fixed step would pick a single class from data that cycles through its classes. Raises DataError
    where the data is missing, broken or does not fit, UsageError where ``limit`` is below 1.
    """
    reading = reading or Reading()
    if reading.limit is not None:
        _require_positive("limit", reading.limit)
    taken = {name: op if isinstance(op, Input) else Input(op) for name, op in inputs.items()}
    fitted = {
        name: Transform(preprocessing if len(taken) == 1 or len(op.shape) == 3 else Preprocessing(), op)
        for name, op in taken.items()
    }
    held = gathered(data)
    source = Arrays.held(held, fitted) if isinstance(held, Given) else _opened(held, fitted)
    dataset = Dataset(source, preprocessing, fitted, range(len(source)))
    if reading.part in ("train", "test"):
        dataset = dataset.part(reading.part)
    if reading.limit is not None:
        dataset = dataset.spread(reading.limit, reading.seed)
    return dataset if reading.part not in ("calibration", "judging") else dataset.part(reading.part, reading.seed)


def _opened(path: Path, inputs: Mapping[str, Transform]) -> Source:
    """Open what lies on disk; raises DataError where there is nothing, or nothing known."""
    several = is_pattern(path)
    first = matched(path)[0] if several else path
    if not first.exists():
        raise DataError("no such file or folder", place=str(path), hint="check the path")
    if not first.is_dir():
        check_file(first)
    # What opens all that is left comes last.
    kinds = [kind for kind in sorted(sources.values(), key=lambda kind: kind.general) if kind.several or not several]
    found = [kind for kind in kinds if kind.opens(first, inputs)]
    if not found and several:
        hint = f"give {' or '.join(kind.about for kind in kinds)}"
        raise DataError(f"a pattern of other files: {first.name}", place=str(path), hint=hint)
    if not found:
        # Folders first.
        hint = f"give {', '.join(sorted((kind.about for kind in sources.values()), reverse=True))}"
        raise DataError("neither a folder nor an array file", place=str(path), hint=hint)
    return found[0].open(path, inputs)


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
