"""What a conversion has reached, kept now and then and when it is stopped, for one that goes on to the same bytes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from snnc import states
from snnc.conversion import Applied
from snnc.errors import SnncError, StoppedError, UsageError
from snnc.ir import Graph, Node, operations

# Seconds: what is sooner done again is not kept, and what is kept is not kept more often.
_WORTH, _EVERY = 30.0, 60.0


@dataclass(frozen=True, eq=False)
class Reached:
    """What the passes of a recipe made so far, of a trained network ``reference``.

    ``exact`` says whether ``graph`` is the same function still, ``altered`` are name, words, and networks before and
    after of passes that made another, ``settled`` the options of all passes, those to come included: passes before them
    may have chosen some, and ``shares`` of the image. ``inside`` is what the pass that was stopped had reached itself.
    """

    reference: Graph
    canonical: Graph
    graph: Graph
    exact: bool
    applied: tuple[Applied, ...] = ()
    seconds: tuple[float, ...] = ()
    altered: tuple[tuple[str, str, Graph, Graph], ...] = ()
    settled: tuple[Mapping[str, Any], ...] = ()
    shares: tuple[float, ...] = ()
    inside: Mapping[str, Any] | None = None


@final
class Checkpoint:
    """The file of what a conversion has reached, if it has one; ``resume`` goes on from it.

    ``decided`` are numbers that were decided by how fast the machine is, and of how many. Raises UsageError where there
    is nothing to go on from, DataError where it cannot be read.
    """

    def __init__(self, path: Path | None = None, *, resume: bool = False) -> None:
        if resume and (path is None or not path.is_file()):
            hint = "start without --resume, or name the file that was stopped with --output"
            raise UsageError("there is no checkpoint to go on from", place=str(path or "--resume"), hint=hint)
        self._path = path
        self.decided: dict[str, tuple[int, int]] = {}
        self._identity: Mapping[str, str] = {}
        self._reached: Reached | None = None
        self._latest: Reached | None = None
        self._began = self._kept = time.monotonic()
        if resume and path is not None:
            read = states.load(path, [Graph, Node, Reached, Applied, *operations.values()])
            try:
                self._reached, self._identity = read["reached"], dict(read["identity"])
                self.decided |= {str(name): (int(number), int(of)) for name, (number, of) in read["decided"].items()}
                graphs = (self._reached.reference, self._reached.canonical, self._reached.graph)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise states.damaged(path) from None
            if not isinstance(self._reached, Reached) or not all(isinstance(graph, Graph) for graph in graphs):
                raise states.damaged(path)

    @property
    def reached(self) -> Reached | None:
        """What was reached before, None where nothing was."""
        return self._reached

    def claim(self, identity: Mapping[str, str]) -> None:
        """Say what all that is kept belongs to; raises UsageError where what was reached belongs to something else."""
        if self._reached is not None and self._path is not None:
            states.check_identity(self._identity, identity, self._path)
        self._identity = identity

    def keep(self, reached: Reached, inside: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Keep what is reached, and what the next pass has ``inside``, unless something was kept just now.

        Without anything inside, it is kept at the latest where the work is stopped.
        """
        if inside is None:
            self._latest = reached
        if time.monotonic() - self._kept >= _EVERY:
            self._write(reached if inside is None else replace(reached, inside=inside()))

    @contextmanager
    def guarding(self, name: str) -> Iterator[None]:
        """Keep the latest where work that has a ``name`` is stopped; raises StoppedError where a signal did so."""
        try:
            yield
        except SnncError:
            raise
        except BaseException as failure:
            if self._path is None or time.monotonic() - self._began < _WORTH:
                raise
            if self._latest is not None:
                self._write(self._latest)
            if not isinstance(failure, KeyboardInterrupt):
                raise
            hint = "go on with --resume, and all else as it was"
            raise StoppedError(f"stopped in {name}", place=str(self._path), hint=hint) from None

    def _write(self, reached: Reached) -> None:
        self._kept, self._latest = time.monotonic(), None
        if self._path is not None:
            identity = dict(self._identity)
            states.save({"identity": identity, "decided": dict(self.decided), "reached": reached}, self._path)
