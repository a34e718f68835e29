"""Several processes that do one work together, as ``torchrun`` starts them.

All of them run the same program, and come to the same results. What takes long is divided: samples are cut into
stretches, which depend on nothing but their number; each process adds up what it makes of its own, and the sums of the
stretches are added in the order of a binary tree over all of them. So neither the number of processes nor who had which
stretch changes the last digit. The first process writes and speaks.
"""

import io
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.nn.functional import all_reduce
from torch.distributed.rendezvous import rendezvous

from snnc.errors import LostError, SnncError, UsageError
from snnc.files import left_to_others

Value = TypeVar("Value")

# Samples make at least so many stretches, of at least so many samples each, where they suffice; and never more.
_LEAST, _SAMPLES, _MOST = 8, 32, 64

# Seconds until the others have to be there, and until they have to have heard of what failed.
_COMING, _HEARING = 60, 30
# Whoever is to end as well is told so by a signal, a moment later.
_FIRST_WAITS, _OTHERS_WAIT = 0.05, 2.0
# Nobody knows how long the work between two meetings takes; who has ended is known at once.
_PATIENCE = timedelta(days=7)
# The number of each meeting, the same in all processes.
_MEETINGS = itertools.count()

# What torchrun says to each process.
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Link(Protocol):
    """How values get from one process to another."""

    def send(self, value: object, to: int) -> None:
        """Hand a value over; raises RuntimeError where the other process has ended."""

    def receive(self, of: int) -> Any:
        """Wait for a value; raises RuntimeError where the other process has ended."""


@dataclass(frozen=True)
class _Word:
    """What one process brings to a meeting: for ``what`` it came, and the value, or why there is none."""

    what: str
    value: Any = None
    failure: SnncError | None = None


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is."""

    rank: int = 0
    count: int = 1
    link: Link | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes, with its gradient."""
        if self.count == 1:
            return tensor
        total: Tensor = all_reduce(tensor)  # type: ignore[no-untyped-call]
        return total / self.count

    def share(self, count: int) -> slice:
        """Return which of ``count`` samples, the same in all processes and divided evenly, are this one's."""
        size = count // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def folded(self, what: str, mine: Value, fold: Callable[[Value, Value], Value]) -> Value:
        """Return what all processes bring, folded in their order, to all of them.

        Raises what any of them failed with, and UsageError where they do not all come for the same.
        """
        return mine if self.count == 1 else self._met(_Word(what, mine), fold)

    def meet(self, what: str) -> None:
        """Wait until all processes have come for this."""
        self.folded(what, None, lambda mine, others: None)

    def failed(self, failure: SnncError) -> SnncError:
        """Let all processes fail alike, unless they do already; returns what with, of which the first of them tells.

        Where they are busy for long, this one tells it, and whoever started them ends the others.
        """
        if self.count == 1 or failure.everywhere:
            return failure
        known = [failure]

        def tell() -> None:
            try:
                self._met(_Word("", failure=failure), lambda mine, others: mine)
            except SnncError as error:
                known.append(error)

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(_HEARING)
        return known[-1]

    def _met(self, word: _Word, fold: Callable[[Any, Any], Any]) -> Any:
        assert self.link is not None
        other = 0
        try:
            if self.first:
                for other in range(1, self.count):
                    word = _both(word, self.link.receive(other), fold)
                for other in range(1, self.count):
                    self.link.send(word, other)
            else:
                self.link.send(word, 0)
                word = self.link.receive(0)
        except RuntimeError:
            time.sleep(_FIRST_WAITS if self.first else _OTHERS_WAIT)
            raise LostError(other, told=self.rank > 1) from None
        if word.failure is not None:
            word.failure.everywhere, word.failure.told = True, not self.first
            raise word.failure
        return word.value


def _both(one: _Word, other: _Word, fold: Callable[[Any, Any], Any]) -> _Word:
    if one.failure is not None or other.failure is not None:
        return one if one.failure is not None else other
    if one.what != other.what:
        hint = "start all of them alike, with the same arguments, data and version"
        return _Word("", failure=UsageError(f"processes do not do the same: {one.what}, and {other.what}", hint=hint))
    return _Word(one.what, fold(one.value, other.value))


ALONE = Processes()
_CURRENT: ContextVar[Processes] = ContextVar("processes", default=ALONE)


def current() -> Processes:
    """Return the processes that do this work together: this one alone, unless others have joined."""
    return _CURRENT.get()


@contextmanager
def working(processes: Processes) -> Iterator[Processes]:
    """Let processes do together what is done as long as this lasts, and only the first of them write."""
    before = _CURRENT.set(processes)
    try:
        with nullcontext() if processes.first else left_to_others():
            yield processes
    finally:
        _CURRENT.reset(before)


@contextmanager
def _silent() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def joined(what: str) -> Iterator[Processes]:
    """Join the other processes where ``torchrun`` started several, and leave them at the end.

    Within, what fails in one of them fails in all alike. ``what`` is that for which all come. Raises UsageError where
    the others cannot be reached, or came for something else.
    """
    if current() is not ALONE or os.environ.get("WORLD_SIZE", "1") == "1":
        yield current()
        return
    processes = _connected()
    try:
        processes.meet(what)
        with working(processes), nullcontext() if processes.first else _silent():
            yield processes
        processes.meet("the end")
    except SnncError as error:
        told = processes.failed(error)
        dist.destroy_process_group()
        raise told from error
    dist.destroy_process_group()


def _connected() -> Processes:
    """Meet the others where the environment says."""
    lacking = [name for name in _TOLD if name not in os.environ]
    if lacking:
        hint = "start with torchrun, which sets all of them, or unset WORLD_SIZE"
        raise UsageError(f"WORLD_SIZE is set, but {' and '.join(lacking)} not", place="WORLD_SIZE", hint=hint)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        store, rank, count = next(iter(rendezvous("env://", timeout=timedelta(seconds=_COMING))))
        # torchrun's store outlives a meeting: what was left there of one is not for the next.
        store = PrefixStore(f"snnc {next(_MEETINGS)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    except (RuntimeError, ValueError):
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        hint = "look whether all processes were started, and whether they reach MASTER_ADDR and MASTER_PORT"
        raise UsageError("the other processes cannot be reached", place=place, hint=hint) from None
    return Processes(rank, count, _Wire())


class _Wire:
    """The link of torch.distributed. Tensors go as they are, all else is pickled."""

    def send(self, value: object, to: int) -> None:
        tensors: list[Tensor] = []
        stream = io.BytesIO()
        _Pickler(stream, tensors).dump(value)
        text = torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)
        dist.send(torch.tensor([len(text)]), to)
        for tensor in (text, *tensors):
            if tensor.numel():
                dist.send(_bytes_of(tensor), to)

    def receive(self, of: int) -> Any:
        size = torch.zeros(1, dtype=torch.long)
        dist.recv(size, of)
        text = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(text, of)
        waiting: list[Tensor] = []
        value = _Unpickler(io.BytesIO(text.numpy().tobytes()), waiting).load()
        for tensor in waiting:
            if tensor.numel():
                dist.recv(_bytes_of(tensor), of)
        return value


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors
        # What is one tensor here is one there.
        self._places: dict[Tensor, int] = {}

    def persistent_id(self, value: object) -> Any:
        if not isinstance(value, Tensor):
            return None
        if value not in self._places:
            self._places[value] = len(self._tensors)
            self._tensors.append(value.detach().contiguous())
        return self._places[value], value.shape, value.dtype


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, known: tuple[int, torch.Size, torch.dtype]) -> Tensor:
        place, shape, kind = known
        if place == len(self._tensors):
            self._tensors.append(torch.empty(shape, dtype=kind))
        return self._tensors[place]


@dataclass(frozen=True)
class _Node(Generic[Value]):
    """The sum of the stretches ``[place · 2^level, (place + 1) · 2^level)``."""

    level: int
    place: int
    value: Value


@final
class Division:
    """How samples are divided: into chunks to be looked at at once, these into stretches, and those among processes.

    ``size`` is that of a chunk: the one that suits, or a smaller one where there are few samples. ``start`` and
    ``stop`` bound the samples of this process, which are whole stretches: at least one, though others may have it,
    too, and of these one ``counts`` it. So many samples in a row as belong ``together`` are in one chunk; ``most`` is
    how many stretches there may be, a few of whose sums are in memory at once.
    """

    def __init__(self, count: int, size: int, *, together: int = 1, most: int = _MOST) -> None:
        self._processes, self.count = current(), count
        suits = max(1, min(size, max(_SAMPLES, -(-count // _LEAST))))
        self.size = -(-suits // together) * together
        chunks = -(-count // self.size)
        stretches = min(most, chunks)
        rank, processes = self._processes.rank, self._processes.count
        first = rank * stretches // processes
        own = range(first, max(first + min(1, stretches), (rank + 1) * stretches // processes))
        # The stretches that end with a chunk; those of another process are not counted twice.
        self._ends = {(number + 1) * chunks // stretches: number for number in own}
        self.counts = rank == 0 or (rank - 1) * stretches // processes != first
        self._begun = first * chunks // max(stretches, 1)
        self.start = self._begun * self.size
        self.stop = min(count, max(self._ends, default=0) * self.size)

    def sum(self) -> "Sum[Any]":
        """Return a sum over all samples that has yet to be made."""
        return Sum(self._processes, self._what, self._ends if self.counts else {}, self._begun)

    def share(self, name: str, total: Any) -> None:
        """Add up a total of each process, exact in any order, and leave the whole in all of them."""
        whole = self._processes.folded(f"{self._what}, {name}", total, added)
        if whole is not total:
            total.copy_(whole)

    @property
    def _what(self) -> str:
        return f"{self.count} samples, {self.size} at once"

    @property
    def whole(self) -> bool:
        """Whether this process has all samples."""
        return self.stop - self.start == self.count


@final
class Sum(Generic[Value]):
    """What is added up over samples: dictionaries by their keys, all else as ``+=`` does.

    Values are handed over: they may be changed.
    """

    def __init__(self, processes: Processes, what: str, ends: dict[int, int], begun: int) -> None:
        self._processes = processes
        self._what = what
        self._ends = ends
        self._begun = begun
        self._stretch: list[Value] = []
        self._nodes: list[_Node[Value]] = []

    def add(self, part: Value) -> None:
        """Take what came of the next chunk of this process."""
        if not self._ends:
            return
        self._begun += 1
        self._stretch = [reduce(added, [*self._stretch, part])]
        del part
        if self._begun in self._ends:
            self._nodes = _grown(self._nodes, [_Node(0, self._ends[self._begun], *self._stretch)])
            self._stretch = []

    def total(self) -> Value:
        """Return the sum over all samples, of all processes."""
        nodes = self._processes.folded(self._what, self._nodes, _grown)
        whole: Value = reduce(added, [node.value for node in nodes])
        return whole


def _grown(nodes: list[_Node[Value]], others: Sequence[_Node[Value]]) -> list[_Node[Value]]:
    """Return the nodes of the tree, neighbors below one node added up."""
    nodes = [*nodes]
    for node in others:
        nodes.append(node)
        while len(nodes) > 1 and nodes[-2].level == nodes[-1].level and nodes[-2].place ^ 1 == nodes[-1].place:
            right, left = nodes.pop(), nodes.pop()
            nodes.append(_Node(left.level + 1, left.place // 2, added(left.value, right.value)))
    return nodes


def added(one: Any, other: Any) -> Any:
    """Return the sum of two values, the first of which it may become: dictionaries by their keys."""
    if isinstance(one, dict):
        for key, value in other.items():
            one[key] = added(one[key], value) if key in one else value
        return one
    one += other
    return one
