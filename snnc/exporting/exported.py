"""What exporting comes to, whatever the format."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snnc.registry import Registry
from snnc.report.data import Verification


@dataclass(frozen=True)
class Exported(ABC):
    """A file as it is to be written, and how others run it, where that was asked for.

    ``values`` says what the spikes of every layer of neurons are called in the file.
    """

    data: bytes
    values: Mapping[str, str]

    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """Return what was measured, as plain data."""

    @property
    @abstractmethod
    def mismatch(self) -> str:
        """What is beyond tolerance; "" where nothing is, or nothing was compared."""

    @abstractmethod
    def verifications(self) -> tuple[Verification, ...]:
        """Return how the file compares, as the report has it; nothing where it was not compared."""


# Each takes a conversion and the keywords verify, data, reading and progress, besides options of its own.
exports: Registry[Callable[..., Exported]] = Registry("format", __name__.rpartition(".")[0])
