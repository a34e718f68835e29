"""How far something is, for people who wait: bars in a notebook, lines in a log."""

import sys
import time
from typing import Any, final

from snnc.data.samples import Progress

# Seconds between two lines of a log.
_EVERY = 10.0


@final
class Lines:
    """Progress as a line on stderr every 10 seconds, for logs, where bars would fill page after page."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= _EVERY:
            self._told = now
            print(f"{label}: {done:,} of {total:,}", file=sys.stderr, flush=True)


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
