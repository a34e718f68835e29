"""EVT 3.0: words of 16 bits, each changing what is known; bits 15-12 say what a word is, P are the others.

0 y = P[10:0]. 2 an event at x = P[10:0] of polarity P[11]. 3 the x and polarity that vectors begin at. 4 and 5 are
vectors of 12 and 8 pixels: an event for each bit that is set, the lowest first, and x goes on behind them. 8 bits 23-12
of time in microseconds, and 6 bits 11-0. What comes before the first time is passed by, as is all else.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.data.recordings.recording import Events

WORD = np.dtype("<u2")

_Y, _X, _BASE, _VECTOR_12, _VECTOR_8, _LOW, _HIGH = 0, 2, 3, 4, 5, 6, 8
_BITS = np.arange(12)
_HALF = 1 << 11


def decoded(chunks: Iterator[NDArray[Any]]) -> Iterator[Events]:
    """Yield the events of words."""
    known = _Known()
    for words in chunks:
        yield known.advance(words.astype(np.int64))


class _Known:
    """What words have said so far: y, the next x and the polarity of a vector, and time."""

    def __init__(self) -> None:
        self.y = self.x = self.polarity = self.low = 0
        # The higher bits of time, with how often they have begun again; none are known yet.
        self.high = -1

    def advance(self, words: NDArray[np.int64]) -> Events:
        """Return the events of some words."""
        kind, payload = words >> 12, words & 0xFFF
        y = _latest(kind == _Y, payload & 0x7FF, self.y)
        high = _latest(kind == _HIGH, self._unwrapped(kind, payload), self.high)
        # A new high part begins with a low part of 0.
        low = _latest((kind == _LOW) | (kind == _HIGH), np.where(kind == _LOW, payload, 0), self.low)
        widths = np.where(kind == _VECTOR_12, 12, np.where(kind == _VECTOR_8, 8, 0))
        # x behind a vector is where the base was plus all vectors since.
        behind = np.cumsum(widths)
        base = _latest(kind == _BASE, (payload & 0x7FF) - behind, self.x)
        polarity = _latest(kind == _BASE, payload >> 11, self.polarity)
        single = np.flatnonzero(kind == _X)
        vectors = np.flatnonzero(widths)
        at, bit = np.nonzero((payload[vectors, None] >> _BITS & 1) * (widths[vectors, None] > _BITS))
        place = np.concatenate([single, vectors[at]])
        order = place.argsort(kind="stable")
        place = place[order]
        x = np.concatenate([payload[single] & 0x7FF, (base + behind - widths)[vectors[at]] + bit])[order]
        p = np.concatenate([payload[single] >> 11, polarity[vectors[at]]])[order]
        if len(words):
            self.y, self.high, self.low = int(y[-1]), int(high[-1]), int(low[-1])
            self.x, self.polarity = int(base[-1] + behind[-1]), int(polarity[-1])
        timed = high[place] >= 0
        return Events(x, y[place], p, high[place] << 12 | low[place]).taken(timed)

    def _unwrapped(self, kind: NDArray[np.int64], payload: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the higher bits of time that words state, and of other words whatever: never half a turn back."""
        stated = payload[kind == _HIGH]
        found = np.zeros_like(payload)
        if len(stated):
            before = np.concatenate([[self.high & 0xFFF if self.high >= 0 else stated[0]], stated[:-1]])
            turns = np.cumsum(stated - before < -_HALF) + max(self.high, 0) // (1 << 12)
            found[kind == _HIGH] = stated + (turns << 12)
        return found


def _latest(stated: NDArray[np.bool_], values: NDArray[np.int64], before: int) -> NDArray[np.int64]:
    """Return for every word what the latest that states something says, itself included."""
    return np.concatenate([[before], values[stated]])[np.cumsum(stated)]
