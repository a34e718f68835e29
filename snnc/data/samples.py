"""Samples that are read again and again, and who is told how far that is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Literal, final, overload

import torch
from torch import Tensor

from snnc.data.dataset import Dataset, Reading
from snnc.data.labels import Classes, Labels
from snnc.feeds import Feeds

# Told what is being done: a label, how much of it is done, out of how much.
Progress = Callable[[str, int, int], None]


def silent(label: str, done: int, total: int) -> None:
    """Report progress to nobody."""


class Samples(ABC):
    """Samples that can be read again and again, always in the same order.

    ``dataset`` is None of what is no data; ``over_time`` says whether samples are frames.
    """

    dataset: Dataset | None = None
    over_time: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self) -> Iterator[Feeds]:
        """Yield all samples, preprocessed."""

    @overload
    def labels(self, kind: Literal["classes"]) -> Classes | None: ...

    @overload
    def labels(self, kind: str) -> Labels | None: ...

    def labels(self, kind: str) -> Labels | None:
        """Return what the samples show; None where the data does not say it, or they are no data."""
        return None if self.dataset is None else self.dataset.labels(kind)

    @abstractmethod
    def thinned(self, most: int) -> "Samples":
        """Return at most so many of the samples, spread evenly over all; only they are read."""

    def still(self) -> "Samples":
        """Return the samples as a network that is not spiking sees them: frames one by one, or their mean."""
        return _StillSamples(self) if self.over_time else self

    def _spread(self, most: int) -> Tensor:
        return torch.linspace(0, len(self) - 1, min(len(self), most)).round().long()


@final
class DatasetSamples(Samples):
    """Those of a dataset, read from disk every time; ``progress`` is told under a label."""

    dataset: Dataset

    def __init__(self, dataset: Dataset, reading: Reading, label: str, progress: Progress = silent) -> None:
        self.dataset = dataset
        self.over_time = dataset.over_time
        self._reading = reading
        self._label = label
        self._progress = progress

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self) -> Iterator[Feeds]:
        done = 0
        self._progress(self._label, 0, len(self))
        for batch in self.dataset.batches(self._reading):
            yield batch
            done += batch.samples
            self._progress(self._label, done, len(self))

    def thinned(self, most: int) -> Samples:
        chosen = self.dataset.chosen(self._spread(most).tolist())
        return DatasetSamples(chosen, self._reading, self._label, self._progress)


@final
class MemorySamples(Samples):
    """Those that are in memory, handed out ``size`` at once."""

    def __init__(self, feeds: Feeds, size: int | None = None) -> None:
        self._feeds = feeds
        self.over_time = bool(feeds.over_time)
        self._size = size or feeds.samples

    def __len__(self) -> int:
        return self._feeds.samples

    def batches(self) -> Iterator[Feeds]:
        yield from self._feeds.split(self._size)

    def thinned(self, most: int) -> Samples:
        return MemorySamples(self._feeds.taken(self._spread(most)), self._size)


@final
class _StillSamples(Samples):
    """Those of others, without time: each frame of a sample is one, in order, or the mean of its frames."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    @cached_property
    def _each(self) -> int:
        """How many one sample makes."""
        (first,) = self._samples.thinned(1).batches()
        return len([*first.frames()])

    def __len__(self) -> int:
        return len(self._samples) * self._each

    def batches(self) -> Iterator[Feeds]:
        for feeds in self._samples.batches():
            frames = [*feeds.frames()]
            yield Feeds({name: torch.stack([frame[name] for frame in frames], 1).flatten(0, 1) for name in feeds})

    def thinned(self, most: int) -> Samples:
        return _StillSamples(self._samples.thinned(max(1, most // self._each)))
