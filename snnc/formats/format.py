"""What a format of exports is; the registry finds one in each file or folder of this package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, final

from torch import Tensor

from snnc.conversion import Conversion
from snnc.errors import ModelError, UsageError
from snnc.formats.match import Manner
from snnc.formats.verification import Engine
from snnc.registry import Registry

_File = TypeVar("_File")

# An error names so many nodes, and counts the others.
_NAMED = 5


@final
@dataclass(frozen=True)
class Refusal:
    """Something in a network that a format cannot say: the nodes that hold it, and what to do instead."""

    message: str
    hint: str
    places: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The nodes in words."""
        others = len(self.places) - _NAMED
        return ", ".join(self.places[:_NAMED]) + (f" and {others} more" if others > 0 else "")


@final
@dataclass(frozen=True)
class Written(Generic[_File]):
    """A file: its bytes, and what it calls the spikes of every layer of neurons.

    ``trains`` says, by layer, what the spikes at every step are called in the file, and ``means`` what their mean over
    time is, of layers for which the file has no more. ``variant`` is what of the format was written, ``facts`` is what
    the format says of it to machines, ``notes`` what it says to people, and ``file`` what its engines need. Files that
    belong to it stand ``beside`` it, by their suffix.
    """

    format: str
    variant: str
    data: bytes
    file: _File
    trains: Mapping[str, str]
    means: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def files(self, path: Path) -> dict[Path, bytes]:
        """Return all files that are to be written where the first is written to ``path``.

        Raises UsageError where that is the place of another.
        """
        if path.suffix in self.beside:
            hint = f"name the file itself: what goes to {path.suffix} is written beside it"
            raise UsageError("it is not what is written there", place=str(path), hint=hint)
        return {path: self.data, **{path.with_suffix(suffix): data for suffix, data in self.beside.items()}}


class Format(ABC, Generic[_File]):
    """A way to export a conversion, a frozen dataclass.

    Its fields are its options: flags of ``snnc export`` and keys under ``export: NAME:`` in snnc.yaml, as the
    ``snnc.validation.Option`` of each field describes them.
    """

    name: ClassVar[str]
    # What is put behind the name of a model; a trained network in ONNX often stands beside the .snn file.
    suffix: ClassVar[str]
    about: ClassVar[str]
    # The extra of snnc that it needs; "" for none.
    extra: ClassVar[str] = ""
    # Whether some of its engines are run even where no verification is asked for: those that hold the file to nothing.
    runs_unasked: ClassVar[bool] = False

    @abstractmethod
    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        """Return all that the format cannot say of a network, without the work of ``write``."""

    @abstractmethod
    def write(self, conversion: Conversion) -> Written[_File]:
        """Return the file; the same conversion gives the same bytes.

        Raises ModelError for the first of what ``refusals`` lists.
        """

    def observed(self, written: Written[_File], vectors: Mapping[str, Tensor]) -> Mapping[str, bytes]:
        """Return conformance vectors in the words of the format, by suffix; nothing where it has none of its own."""
        return {}

    def manner(self, engine: Engine) -> Manner:
        """Return how an engine takes neurons, where it may take them otherwise, and the code that loads a file."""
        return Manner()

    @abstractmethod
    def engines(self, written: Written[_File], conversion: Conversion) -> Iterator[Engine]:
        """Yield what the file is run by, here and now.

        Raises UsageError for options that the file cannot be run with, and VerificationError where one refuses it.
        """

    @final
    def check(self, conversion: Conversion) -> None:
        """Raise ModelError with all that the format refuses."""
        refused = self.refusals(conversion)
        if not refused:
            return
        first, *others = refused
        more = f" (and {len(others)} more)" if others else ""
        details = tuple(f"{other.message} @ {other.place}: {other.hint}" for other in others)
        raise ModelError(f"{first.message}{more}", place=first.place, hint=first.hint, details=details)


def grouped(errors: Iterable[ModelError]) -> tuple[Refusal, ...]:
    """Return errors as refusals, those with equal words as one."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for error in errors:
        places = found.setdefault((error.message, error.hint), {})
        places |= {error.place: None} if error.place else {}
    return tuple(Refusal(message, hint, tuple(places)) for (message, hint), places in found.items())


def raised(questions: Iterable[Callable[[], object]]) -> Iterator[ModelError]:
    """Ask all questions, and yield the errors that they raise."""
    for question in questions:
        try:
            question()
        except ModelError as error:
            yield error


formats: Registry[type[Format[Any]]] = Registry("format", __name__.rpartition(".")[0], base=Format)
