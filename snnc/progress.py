"""How far something is, for people who wait: bars in a notebook, lines in a log."""

import sys
import time
from typing import Any, final

from snnc.data.samples import Progress
from snnc.text import duration

# Seconds between two lines of a log.
_EVERY = 10.0


@final
class Pace:
    """How much longer something takes, by how fast it went so far."""

    def __init__(self) -> None:
        self._total = self._first = self._done = 0
        self._began = 0.0

    def left(self, done: int, total: int) -> float | None:
        """Return the seconds that are left, told how much is done out of how much; None where nobody knows yet."""
        now = time.monotonic()
        # What goes back, or is out of another number, is something else.
        if total != self._total or done < self._done:
            self._total, self._first, self._began = total, done, now
        self._done = done
        gone = done - self._first
        return (now - self._began) * (total - done) / gone if gone else None


@final
class Lines:
    """Progress as a line on stderr every 10 seconds, with the time that is left; bars would fill page after page."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._pace = Pace()

    def __call__(self, label: str, done: int, total: int) -> None:
        now, left = time.monotonic(), self._pace.left(done, total)
        if now - self._told >= _EVERY:
            self._told = now
            more = f", {duration(left)} left" if left else ""
            print(f"{label}: {done:,} of {total:,}{more}", file=sys.stderr, flush=True)


@final
class Bars:
    """Progress as one bar of tqdm at a time, which a notebook draws."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._label = ""

    def __call__(self, label: str, done: int, total: int) -> None:
        if self._bar is not None and (label, total) != (self._label, self._bar.total):
            self._close()
        if self._bar is None:
            if done >= total:
                return
            self._bar, self._label = self._tqdm(desc=label, total=total, leave=False), label
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._close()

    def _close(self) -> None:
        self._bar.close()
        self._bar = None


def told() -> Progress:
    """Return what tells progress where a program runs: bars in a notebook where tqdm is installed, or lines."""
    if in_notebook():
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return Lines()
        return Bars(tqdm)
    return Lines()


def in_notebook() -> bool:
    """Return whether the program is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return "ipykernel" in sys.modules and shell is not None and shell.get_ipython() is not None
