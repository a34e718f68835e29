"""Where samples come from, one at a time."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnc.data.transform import Sample, Transform


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """A list of samples on disk, read one by one and from several threads at once.

    ``labels`` [len] are as they stand on disk, None where there are none; ``ignored`` counts files that were passed by.
    """

    transform: Transform
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    ignored: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Return a name that no other sample has and that moving the data does not change."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Return where the sample lies, for errors."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Return one sample, ready for the network; raises DataError where it is broken or does not fit."""

    @abstractmethod
    def digest(self, index: int) -> str:
        """Return the SHA-256 of one sample as it lies on disk; raises DataError where it cannot be read."""
