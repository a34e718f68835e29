"""EVT 2.0: words of 32 bits; bits 31-28 say what a word is.

0 and 1 are events of pixels (darker, brighter): bits 27-22 are the lowest of time, 21-11 x, 10-0 y. 8 has the 28 higher
bits of time, in microseconds. What comes before the first of these has no time, and is passed by, as is all else.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.data.recordings.recording import Events

WORD = np.dtype("<u4")

_TIME = 8


def decoded(chunks: Iterator[NDArray[Any]]) -> Iterator[Events]:
    """Yield the events of words."""
    last = -1
    for words in chunks:
        kind = words >> 28
        times = np.flatnonzero(kind == _TIME)
        high = np.concatenate([[last], (words[times] & 0xFFFFFFF).astype(np.int64)])
        last = int(high[-1])
        pixels = np.flatnonzero(kind <= 1)
        found = words[pixels]
        time = high[np.searchsorted(times, pixels)]
        events = Events(
            found >> 11 & 0x7FF, found & 0x7FF, found >> 28, time << 6 | (found >> 22 & 0x3F).astype(np.int64)
        )
        yield events if time.min(initial=0) >= 0 else events.taken(time >= 0)
