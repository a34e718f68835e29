"""Every error a user can cause: one line that names the place, one hint, one exit code."""

from functools import partial
from typing import Any, ClassVar


class SnncError(Exception):
    """Base of all errors that snnc raises on purpose.

    ``line`` is the message, the place named at its end as ``@ place``; ``hint`` says what to do about it; ``details``
    are further lines where one error stands for many, and ``str(error)`` is all of that. ``exit_code`` is what the
    command line ends with. Of several processes, those that fail with the same do so ``everywhere``, and one of them
    tells it: to the others it is ``told``.
    """

    exit_code: ClassVar[int] = 1
    everywhere = False
    told = False

    def __init__(self, message: str, *, hint: str, place: str = "", details: tuple[str, ...] = ()) -> None:
        self.message = message
        self.hint = hint
        self.place = place
        self.details = details
        super().__init__(message)

    @property
    def line(self) -> str:
        """The message with its place."""
        return f"{self.message} @ {self.place}" if self.place else self.message

    def __str__(self) -> str:
        hint = [f"hint: {self.hint}"] if self.hint else []
        return "\n".join([self.line, *(f"    {detail}" for detail in self.details), *hint])

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.message, hint=self.hint, place=self.place, details=self.details), ()


class UsageError(SnncError):
    """The command line, the project file or the recipe asks for something that does not exist."""

    exit_code = 2


class PreconditionError(UsageError):
    """A pass cannot run on this graph or without this data."""


class ModelError(SnncError):
    """The model file cannot be read, or holds what cannot be converted."""

    exit_code = 3


class LostError(SnncError):
    """Of several processes that work together, one has ended."""

    def __init__(self, rank: int, *, told: bool) -> None:
        hint = "see what was printed before; where it was killed, give it more memory, or start fewer processes"
        super().__init__(f"process {rank} has ended, and with it the work of all", hint=hint)
        self.everywhere, self.told = True, told


class StoppedError(SnncError):
    """A signal asked to stop, and what was reached by then is kept."""

    exit_code = 130


class GateError(SnncError):
    """A measured figure is worse than the user allows."""

    exit_code = 4


class DataError(SnncError):
    """Images, arrays, labels or files are missing, broken or cannot be written."""

    exit_code = 5


class VerificationError(SnncError):
    """Two executions of what should be the same network differ."""

    exit_code = 6
