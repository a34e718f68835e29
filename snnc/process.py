"""How the process that simulates uses the machine: for programs that own their process, not for libraries."""

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def prepare() -> None:
    """Make threads and memory behave; to be called before torch is imported.

    Threads that wait for each other shall soon sleep: on a machine that others use as well, spinning makes the same
    work take many times as long. And freed memory is kept for the next tensor of its size: a third of a simulation's
    time went into the page faults of getting it anew. What the user has set in the environment stays; where the C
    library is not glibc, memory is left alone.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 1 << 25)
        library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let a request to end (SIGTERM) do what Ctrl-C does, as long as this lasts: temporary files are removed."""
    # Only the main thread may handle signals, and who started the process may have asked to ignore this one.
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
