"""Where samples come from, one at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from snnc.data.labels import Labels
from snnc.data.noticed import Noticed
from snnc.data.transform import Transform
from snnc.errors import DataError
from snnc.registry import Registry

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """A list of samples on disk, read one by one and from several threads at once.

    ``about`` says in a help text what it opens. What is ``general`` opens what no other source does, and what takes
    ``several`` files is opened by a pattern, too (see ``snnc.data.patterns``). ``labels`` are as they stand on disk,
    by kind ("classes" are ``Classes``); ``ignored`` are files that were passed by.
    ``noticed`` grows as samples are read.
    """

    about: ClassVar[str]
    general: ClassVar[bool] = False
    several: ClassVar[bool] = False

    labels: Mapping[str, Labels]
    ignored: tuple[str, ...]
    noticed: Noticed = field(init=False, default_factory=Noticed)

    @classmethod
    @abstractmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        """Return whether this kind of source is meant by a file or folder that exists, for a network's ``inputs``."""

    @classmethod
    @abstractmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        """Open it for a network that takes ``inputs``; raises DataError where it is damaged or does not fit."""

    @property
    def over_time(self) -> bool:
        """Whether samples are frames."""
        return False

    @property
    def form(self) -> str:
        """What the files of recordings are, where their kind says more than their names; empty otherwise."""
        return ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Return a name that no other sample has and that moving the data does not change."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Return where the sample lies, for errors."""

    @abstractmethod
    def read(self, index: int) -> Mapping[str, Array]:
        """Return one sample as it lies on disk, by input; raises DataError where it is broken.

        Of pixels and values that are an image, ``[height, width, channels]``; otherwise in the shape of the input. Of
        a source over time as many frames of that, ``[S, ...]``, in every sample alike.
        Pixels are uint8, gray where the input has one channel and RGB where it has three; values are float32, finite.
        """

    def moments(self, index: int, every: int) -> Iterator[tuple[int, Mapping[str, Array]]]:
        """Yield what every ``every`` microseconds of a recording show, as ``read`` returns it, and when they are over.

        Raises DataError where it is no recording, and where it is broken, as far as it was read.
        """
        raise DataError("no recording with times", place=self.place(index), hint="leave out --every")

    @abstractmethod
    def digest(self, index: int) -> str:
        """Return the SHA-256 of one sample as it lies on disk; raises DataError where it cannot be read."""


sources: Registry[type[Source]] = Registry("data source", __name__.rpartition(".")[0], base=Source)
