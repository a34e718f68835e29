"""How the process that simulates uses the machine: for programs that own their process, not for libraries."""

import contextlib
import ctypes
import errno
import functools
import io
import math
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO, cast, final

from snnc.errors import UsageError

_NO_MEMORY = (
    *("can't allocate memory", "annot allocate memory", "bad allocation", "bad_alloc"),
    *("Failed to allocate", "Unable to allocate", "failed to map segment from shared object"),
)
# What a loader says in the same words where memory is not what it lacks.
_OTHER_LACKS = "static TLS", "not permitted"
_SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([MGT])i?B?", re.ASCII)
# Bytes that a program gives; 0 where none does.
_GIVEN = ContextVar("memory", default=0)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# What asks to end, and the seconds within which several ask once.
STOPPING, _IN_A_ROW = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP), 1.0


def prepare() -> None:
    """Make threads and memory behave; to be called before torch is imported.

    Threads that wait for each other shall soon sleep: on a machine that others use as well, spinning makes the same
    work take many times as long. And freed memory is kept for the next tensor of its size: a third of a simulation's
    time went into the page faults of getting it anew. What the user has set in the environment stays; where the C
    library is not glibc, memory is left alone.
    """
    # What torch's own code remarks is not the user's business.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 1 << 25)
        library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


@final
class Interruption:
    """What signals that ask to end do: raise KeyboardInterrupt, or let work that ``ends_by_itself`` know.

    Those in a row ask once: a terminal and a program may both ask, and people press twice, while temporary files are
    removed. ``asked`` says whether it was raised: it may be lost in a library, and come out as something else.
    """

    def __init__(self) -> None:
        self.asked = False
        self._heard = -math.inf
        self._event: threading.Event | None = None

    def __call__(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if now - self._heard < _IN_A_ROW:
            return
        self._heard = now
        if self._event is not None and not self._event.is_set():
            self._event.set()
        else:
            self.asked = True
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def ends_by_itself(self) -> Iterator[threading.Event]:
        """Turn the first request into an event, as long as this lasts; another one stops at once."""
        self._event = threading.Event()
        try:
            yield self._event
        finally:
            self._event = None


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Let requests to end (SIGTERM, SIGHUP) do what Ctrl-C does, as long as this lasts: temporary files are removed.

    Where somebody listens already, that one goes on.
    """
    # Only the main thread may handle signals, and who started the process may have asked to ignore them.
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOPPING if main}
    listening = next((handler for handler in before.values() if isinstance(handler, Interruption)), None)
    if listening is not None:
        yield listening
        return
    interruption = Interruption()
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, interruption)
    try:
        yield interruption
    finally:
        for number in heard:
            # What was told to pass by meanwhile does.
            if signal.getsignal(number) is interruption:
                signal.signal(number, before[number])


def pass_by() -> None:
    """Let requests to end pass by: what is done is done, and nothing that comes now shall say otherwise."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def memory() -> int:
    """Return how many bytes of memory may be used: those given, or that are allowed, or else half of the machine's."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return _GIVEN.get() or (allowed if allowed != resource.RLIM_INFINITY else default_memory())


@contextlib.contextmanager
def memory_within(size: int | str | None) -> Iterator[None]:
    """Let sizes be chosen for so many bytes of memory, or as in 8G, as long as this lasts; None changes nothing.

    Nothing fails for more: see ``limited_memory``. Raises UsageError where it is no size.
    """
    before = _GIVEN.set(_GIVEN.get() if size is None else memory_size(size, "memory"))
    try:
        yield
    finally:
        _GIVEN.reset(before)


def memory_size(size: int | str, place: str) -> int:
    """Return so many bytes, written as in 8G or 500M; raises UsageError with the place where it is no size."""
    if isinstance(size, int) and size > 0:
        return size
    found = _SIZE.fullmatch(str(size))
    if found is None or not float(found[1]):
        raise UsageError(f"invalid value {size!r}", place=place, hint="give a size as in 8G or 500M")
    return int(float(found[1]) * (1 << {"M": 20, "G": 30, "T": 40}[found[2]]))


def default_memory() -> int:
    """Return half of the memory that the machine, the container around and the limits of the process leave."""
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    return (_machine_memory() if space == resource.RLIM_INFINITY else min(_machine_memory(), space)) // 2


@functools.cache
def _machine_memory() -> int:
    """Return what the machine and the container leave."""
    # Asked at every image that is read, and always the same.
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(Path(file).read_text()))
    return min(sizes)


@contextlib.contextmanager
def limited_memory(allowed: int) -> Iterator[None]:
    """Let no more than so many bytes of memory be had as long as this lasts: what needs more raises MemoryError.

    Where the system keeps no such account, sizes that are computed beforehand are all that is held to it.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = before[1]
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if most == resource.RLIM_INFINITY else min(allowed, most), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that there is no more memory, as libraries say it."""
    said = str(error)
    signs = any(sign in said for sign in _NO_MEMORY) and not any(lack in said for lack in _OTHER_LACKS)
    return isinstance(error, MemoryError) or signs


def lack(error: BaseException) -> tuple[str, str] | None:
    """Return what an exception says that the system allows too little of, and what to do; None where nothing."""
    number = error.errno if isinstance(error, OSError) else None
    if is_out_of_memory(error):
        return "more memory is needed than is allowed", "give more with --memory, or less to do"
    if number in (errno.EMFILE, errno.ENFILE):
        return "more open files are needed than are allowed", "allow more with ulimit -n, or do less at once"
    if number == errno.EAGAIN or "can't start new thread" in str(error):
        return "more threads or processes are needed than are allowed", "allow more with ulimit -u, or do less at once"
    return None


@final
class _Outlet(io.FileIO):
    """A standard stream: what nobody listens to is lost, and so is, where it ``forgives`` all, what does not fit."""

    forgives: type[OSError] = BrokenPipeError

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except self.forgives:
            return len(data)


def prepare_streams() -> None:
    """Make standard streams that take whatever is written; to be called first.

    A stream that is closed leads nowhere; names in any script can be written to any of them; and where nobody reads on,
    the program ends as it would have. A full disk is an error where results go there, and only there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file that is opened would be it.
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if number:
            before = cast(TextIO | None, getattr(sys, name))
            outlet = _Outlet(number, "w", closefd=False)
            outlet.forgives = BrokenPipeError if number == 1 else OSError
            stream = io.TextIOWrapper(
                io.BufferedWriter(outlet),
                encoding=before.encoding if before else "utf-8",
                errors="backslashreplace",
                line_buffering=number == 2 or outlet.isatty(),
            )
            setattr(sys, name, stream)


def silence(stream: TextIO) -> None:
    """Let a stream that could not be written lead nowhere: what is left in it is written once more at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
