"""Samples that are read again and again, and who is told how far that is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar, final, overload

import torch
from torch import Generator

from snnc.data.dataset import Dataset, Reading
from snnc.data.labels import Classes, Labels
from snnc.feeds import Feeds, rechunk
from snnc.processes import Division, Sum

# Told what is being done: a label, how much of it is done, out of how much.
Progress = Callable[[str, int, int], None]

Added = TypeVar("Added")
Totals = Mapping[str, Any]

# Fewer samples than this cannot spare a tenth.
_FEWEST_TO_SPLIT = 20


def silent(label: str, done: int, total: int) -> None:
    """Report progress to nobody."""


class Samples(ABC):
    """Samples that can be read again and again, always in the same order.

    ``dataset`` is None of what is no data; ``over_time`` says whether samples are frames. So many as belong
    ``together`` can only be chosen as one.
    """

    dataset: Dataset | None = None
    over_time: bool = False

    @property
    def together(self) -> int:
        """How many samples belong together."""
        return 1

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self) -> Iterator[Feeds]:
        """Yield all samples, preprocessed."""

    def added(self, size: int, work: Callable[[Feeds, int], Added]) -> Added:
        """Return what ``work`` makes of all samples, about ``size`` at once, added up.

        It is given some samples and the number of the first of them, and what it returns is handed over: dictionaries
        are added by their keys, lists are joined, all else is added as ``+=`` does. Where several processes work
        together, each does so on some of the samples, and all get the same sum; how many they are changes no digit.
        """
        division = self.divided(size)
        total: Sum[Added] = division.sum()
        first = division.start
        for feeds in rechunk(self.own(division).batches(), division.size):
            total.add(work(feeds, first))
            first += feeds.samples
        return total.total()

    def counted(self, size: int, count: Callable[[Feeds, Totals], None], totals: Totals) -> None:
        """Let ``count`` add all samples, about ``size`` at once, to totals that are exact in any order.

        As ``added`` does, but there is never more than one of each in memory.
        """
        division = self.divided(size)
        if division.counts:
            for feeds in rechunk(self.own(division).batches(), division.size):
                count(feeds, totals)
        for name, total in totals.items():
            division.share(name, total)

    def divided(self, size: int, **options: int) -> Division:
        """Return how the samples are divided among processes, and into chunks of about ``size``."""
        return Division(len(self), size, together=self.together, **options)

    def own(self, division: Division) -> "Samples":
        """Return those samples that are this process's."""
        numbers = range(division.start // self.together, division.stop // self.together)
        return self if division.whole else self.chosen(numbers)

    def followed_by(self, others: "Samples") -> "Samples":
        """Return these samples and behind them others, of the same kind."""
        return _JoinedSamples(self, others)

    @overload
    def labels(self, kind: Literal["classes"]) -> Classes | None: ...

    @overload
    def labels(self, kind: str) -> Labels | None: ...

    def labels(self, kind: str) -> Labels | None:
        """Return what the samples show; None where the data does not say it, or they are no data."""
        return None if self.dataset is None else self.dataset.labels(kind)

    @abstractmethod
    def chosen(self, numbers: Sequence[int]) -> "Samples":
        """Return some of the samples, in the order of ``numbers``; only they are read."""

    def thinned(self, most: int) -> "Samples":
        """Return at most so many of the samples, spread evenly over all."""
        return self.chosen(torch.linspace(0, len(self) - 1, min(len(self), most)).round().long().tolist())

    def split(self) -> tuple["Samples", "Samples"]:
        """Return all samples but a tenth, and that tenth, drawn at random, always the same.

        What is solved for or trained on the one is judged by the other. Fewer than 20 cannot spare any: then the
        second part is empty.
        """
        held = len(self) // 10 if len(self) >= _FEWEST_TO_SPLIT else 0
        order = torch.randperm(len(self), generator=Generator().manual_seed(0))
        return self.chosen(order[held:].sort().values.tolist()), self.chosen(order[:held].sort().values.tolist())

    def still(self) -> "Samples":
        """Return the samples as a network that is not spiking sees them: frames one by one, or their mean."""
        return _StillSamples(self) if self.over_time else self


@final
class DatasetSamples(Samples):
    """Those of a dataset; ``progress`` is told under a label."""

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

    def chosen(self, numbers: Sequence[int]) -> Samples:
        return DatasetSamples(self.dataset.chosen(numbers), self._reading, self._label, self._progress)


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

    def chosen(self, numbers: Sequence[int]) -> Samples:
        return MemorySamples(self._feeds.taken(torch.tensor(numbers, dtype=torch.long)), self._size)


@final
class _StillSamples(Samples):
    """Those of others, without time: each frame of a sample is one, in order, or the mean of its frames."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    @cached_property
    def together(self) -> int:
        """How many one sample makes; of none, no matter."""
        return max((len([*first.frames()]) for first in self._samples.thinned(1).batches()), default=1)

    def __len__(self) -> int:
        return len(self._samples) * self.together

    def batches(self) -> Iterator[Feeds]:
        for feeds in self._samples.batches():
            frames = [*feeds.frames()]
            yield Feeds({name: torch.stack([frame[name] for frame in frames], 1).flatten(0, 1) for name in feeds})

    def chosen(self, numbers: Sequence[int]) -> Samples:
        """Return the frames of some of the samples, whose numbers these are."""
        return _StillSamples(self._samples.chosen(numbers))

    def thinned(self, most: int) -> Samples:
        return _StillSamples(self._samples.thinned(max(1, most // self.together)))

    def split(self) -> tuple[Samples, Samples]:
        """Return the frames of all samples but a tenth, and those of that tenth."""
        rest, held_out = self._samples.split()
        return _StillSamples(rest), _StillSamples(held_out)


@final
class _JoinedSamples(Samples):
    """Those of one, and then those of another."""

    def __init__(self, first: Samples, second: Samples) -> None:
        self._first, self._second = first, second
        self.over_time = first.over_time

    @property
    def together(self) -> int:
        return self._first.together

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def batches(self) -> Iterator[Feeds]:
        yield from self._first.batches()
        yield from self._second.batches()

    def chosen(self, numbers: Sequence[int]) -> Samples:
        """Return some of the samples, those of the first before those of the second."""
        first = len(self._first) // self.together
        parts = [n for n in numbers if n < first], [n - first for n in numbers if n >= first]
        return _JoinedSamples(self._first.chosen(parts[0]), self._second.chosen(parts[1]))
