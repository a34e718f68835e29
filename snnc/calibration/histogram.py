"""Histograms of pre-activations per channel, exact under any split, order or merge, and the thresholds they give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from snnc.files import temporary_folder

# A bin is what shares the sign, the exponent and the first six bits of the mantissa of a float32: 64 bins an octave,
# at most 1.6 % wide, over magnitudes from 2^-16 to 2^20. No range has to be known before, so counts can be merged.
_MANTISSA_SHIFT = 23 - 6
_FIRST = (127 - 16) << 6
_BINS = 36 << 6
# The first bits of a float32, as a whole number: the least of those with a sign, and for each the bin, those of
# negative values behind the others, and behind all of them that of 0.
_NEGATIVE = 1 << 31 - _MANTISSA_SHIFT
_MAGNITUDES = torch.arange(_NEGATIVE, dtype=torch.int32).sub_(_FIRST).clamp_(0, _BINS - 1)
_BIN_OF = torch.cat([_MAGNITUDES, _MAGNITUDES + _BINS])
_BIN_OF[::_NEGATIVE] = 2 * _BINS
_EDGES = torch.arange(_FIRST, _FIRST + _BINS + 1, dtype=torch.int32).bitwise_left_shift(_MANTISSA_SHIFT)
_LOWER = torch.cat([torch.zeros(1, dtype=torch.float64), _EDGES[1:].view(torch.float32).double()])
_CENTERS = (_LOWER[:-1] + _LOWER[1:]) / 2

# Where the search for the best threshold starts: shares of the largest value. The more levels, the more local minima
# there are, each a few percent wide: near starts find more than many refinements.
_STARTS = 2.0 ** -torch.arange(0, 5, 1 / 32, dtype=torch.float64)
_REFINEMENTS = 2

# All bins: those of positive values, those of negative ones, and that of 0.
_WIDTH = 2 * _BINS + 1

# How many numbers are looked up at once, and how many channels are counted and summed up at once.
_LOOKUPS, _ROWS = 1 << 18, 256


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often each channel took which value.

    ``positive`` and ``negative`` ``[C, bins]`` count by magnitude; ``counts`` has them side by side, the negative ones
    first where it is ``turned``, and zeros last. ``total`` ``[C]`` counts all values. Counts of samples are integers;
    those of ``gaussian`` are probabilities, and weighed ones are sums of weights.
    """

    counts: Tensor
    total: Tensor
    turned: bool = False

    @classmethod
    def empty(cls, channels: int, *, weighed: bool = False, most: int = 1 << 31, on_disk: bool = False) -> Histogram:
        """Return the histogram of nothing yet, of at most so many values a channel, kept in memory or ``on_disk``.

        Raises DataError where the disk is full.
        """
        kind = torch.float64 if weighed else torch.int32 if most < 1 << 31 else torch.int64
        counts = _on_disk(channels, kind) if on_disk else torch.zeros(channels, _WIDTH, dtype=kind)
        return cls(counts, torch.zeros(channels, dtype=torch.float64 if weighed else torch.int64))

    @classmethod
    def of(cls, values: Tensor, axis: int, weights: Tensor | None = None) -> Histogram:
        """Count ``values`` ``[N, ...]`` by the channels along ``axis``, each once or as often as its weight says."""
        counts = cls.empty(values.shape[axis], weighed=weights is not None)
        counts.count(values, axis, weights)
        return counts

    @staticmethod
    def size(channels: int) -> int:
        """Return how many bytes the histogram of so many channels takes at most."""
        return channels * _WIDTH * torch.int64.itemsize

    def count(self, values: Tensor, axis: int, weights: Tensor | None = None) -> None:
        """Count more values, as ``of`` does."""
        # Images have their channels innermost: nothing has to be moved to count along memory.
        every = values.detach().float().movedim(axis, -1).contiguous()
        often = None if weights is None else weights.detach().double().movedim(axis, -1)
        for part in self._rows():
            last = every[..., part].contiguous()
            bits, channels = last.view(torch.int32), last.shape[-1]
            prefixes = bits.bitwise_right_shift(_MANTISSA_SHIFT).bitwise_and_(2 * _NEGATIVE - 1)
            keys = _BIN_OF.index_select(0, prefixes.flatten()).view(-1, channels)
            keys += torch.arange(channels, dtype=torch.int32) * _WIDTH
            each = self.counts.new_ones(()).expand(len(keys), channels) if often is None else often[..., part]
            # Added one by one: of many channels there are far more bins than values.
            self.counts[part].view(-1).index_add_(0, keys.flatten(), each.reshape(-1))
            self.total[part] += each.reshape(-1, channels).sum(0) if often is not None else len(keys)

    @classmethod
    def gaussian(cls, mean: Tensor, deviation: Tensor) -> Histogram:
        """Return the bins' probabilities of normal distributions, one per channel; both arguments ``[C]``."""
        mean = mean.double().unsqueeze(1)
        scale = deviation.double().clamp(min=1e-12).unsqueeze(1)
        sides = [torch.special.ndtr((_LOWER + each) / scale).diff(dim=1) for each in (-mean, mean)]
        return cls(torch.cat([*sides, torch.zeros_like(mean)], 1), torch.ones(len(mean), dtype=torch.float64))

    @property
    def positive(self) -> Tensor:
        """How many positive values there are in each bin of magnitudes."""
        return self._side(self.turned)

    @property
    def negative(self) -> Tensor:
        """How many negative values there are in each bin of magnitudes."""
        return self._side(not self.turned)

    def __iadd__(self, other: Histogram) -> Self:
        self.counts.add_(other.counts)
        self.total.add_(other.total)
        return self

    def copy_(self, other: Histogram) -> None:
        """Count what another histogram has counted, and nothing else."""
        self.counts.copy_(other.counts)
        self.total.copy_(other.total)

    def mirrored(self) -> Histogram:
        """Return the histogram of the values with the other sign."""
        return replace(self, turned=not self.turned)

    def pooled(self) -> Histogram:
        """Return the histogram of all channels together, with one channel."""
        return Histogram(self.counts.sum(0, keepdim=True), self.total.sum(0, keepdim=True), self.turned)

    def maximum(self, *, signed: bool = False) -> Tensor:
        """Return the upper edge of the last bin that holds anything positive, ``[C]``, 0 where nothing is positive."""
        return self.percentile(100.0, signed=signed)

    def percentile(self, percent: float, *, signed: bool = False) -> Tensor:
        """Return the value that ``percent`` % of all values do not exceed, ``[C]``, never below 0.

        It is the upper edge of the bin in which that share is reached. ``signed`` asks for magnitudes.
        """
        found = []
        for part in self._rows():
            counts = self.positive[part] + self.negative[part] if signed else self.positive[part]
            above, whole = counts.flip(1).cumsum(1).flip(1).double(), self.total[part].double().unsqueeze(1)
            # A Gaussian's tail never ends: what is rarer than this does not count.
            last = (above > whole * (1 - percent / 100) + 1e-6 * whole * (not self._counted)).sum(1)
            found.append(torch.where(last > 0, _LOWER[last], 0.0))
        return torch.cat(found)

    def mmse(self, levels: int, ceiling: Tensor, slope: Tensor | None = None) -> Tensor:
        """Return the thresholds ``[C]`` that minimize E[(φ(z) − a(z))²], 0 where no value is positive.

        φ is the quantized ReLU on ``levels`` steps up to the threshold, a the activation clipped at ``ceiling``
        ``[C]``, with ``slope`` ``[C]`` for negative values. From several starts the fixed point
        θ ← E[a·k/T] / E[(k/T)²] (k the level that φ takes) is iterated; the best of all is returned.
        """
        found = []
        for part in self._rows(_LOOKUPS // (len(_STARTS) * levels)):
            weights = self._weights(part, None if slope is None else slope[part])
            target = torch.minimum(_CENTERS, ceiling[part].double().unsqueeze(1))
            largest = torch.where(weights > 0, target, 0.0).amax(1, keepdim=True)
            found.append(_best(largest, _tail(weights), _tail(weights * target), levels))
        return torch.cat(found)

    def error(self, thresholds: Tensor, levels: int, ceiling: Tensor, slope: Tensor | None = None) -> Tensor:
        """Return how much each channel's values lose in all, ``[C]``: the sum of (φ(z) − a(z))², as ``mmse`` has them.

        ``thresholds`` are ``[C]``; where one is 0, φ is.
        """
        found = []
        for part in self._rows():
            threshold = thresholds[part].double().unsqueeze(1)
            target = torch.minimum(_CENTERS, ceiling[part].double().unsqueeze(1))
            level = (target * levels / threshold.clamp(min=torch.finfo(torch.float64).tiny) + 0.5).floor()
            lost = (level.clamp(max=levels) * threshold / levels - target).square()
            weights = self._weights(part, None if slope is None else slope[part])
            found.append((lost * weights).sum(1) * self.total[part].double())
        return torch.cat(found)

    def _side(self, second: bool) -> Tensor:
        return self.counts[:, second * _BINS : (second + 1) * _BINS]

    @property
    def _counted(self) -> bool:
        return not self.counts.is_floating_point()

    def _rows(self, most: int = _ROWS) -> Iterator[slice]:
        """Yield channels, as many at once as keep what is computed of them small."""
        rows = max(1, min(most, _ROWS))
        yield from (slice(first, first + rows) for first in range(0, len(self.total), rows))

    def _weights(self, part: slice, slope: Tensor | None) -> Tensor:
        """Return what share of a channel's values, with the square of their slope, each bin of magnitudes holds."""
        weights = self.positive[part].double()
        if slope is not None:
            weights = weights + self.negative[part].double() * slope.double().square().unsqueeze(1)
        whole = self.total[part].double()
        return weights / torch.where(whole > 0, whole, 1.0).unsqueeze(1)


def _on_disk(channels: int, kind: torch.dtype) -> Tensor:
    """Return zeros, for all bins of each channel, in a file that goes when they do."""
    with temporary_folder() as folder:
        path = folder / "counts"
        with path.open("wb") as file:
            # A disk that is full is noticed here: what is mapped cannot say so.
            os.posix_fallocate(file.fileno(), 0, channels * _WIDTH * kind.itemsize)
        zeros = torch.from_file(str(path), shared=True, size=channels * _WIDTH, dtype=kind)
    return zeros.view(channels, _WIDTH)


def _tail(weights: Tensor) -> Tensor:
    """Return the sums over this bin and all above it, ``[C, bins + 1]``."""
    sums = weights.flip(1).cumsum(1).flip(1)
    return torch.nn.functional.pad(sums, (0, 1))


def _best(largest: Tensor, above: Tensor, target_above: Tensor, levels: int) -> Tensor:
    """Return the best thresholds ``[C]`` from all starts, by the sums of weights and of weighted targets above a bin.

    φ rises by one level at (k − 1/2)·θ/T for k = 1..T, so that all expectations are sums over what lies above.
    """
    steps = torch.arange(1, levels + 1, dtype=torch.float64)
    rise = (2 * steps - 1) / levels**2
    thresholds, errors = [largest * _STARTS], []
    for iteration in range(_REFINEMENTS + 1):
        threshold = thresholds[-1]
        first = _first_center((steps - 0.5) * (threshold.unsqueeze(2) / levels))
        second, cross = (
            (sums.gather(1, first.flatten(1)).view(first.shape) * each).sum(2)
            for sums, each in ((above, rise), (target_above, torch.ones(())))
        )
        cross = cross / levels
        # The error up to the constant E[a²].
        errors.append(threshold.square() * second - 2 * threshold * cross)
        if iteration < _REFINEMENTS:
            thresholds.append(torch.where(second > 0, cross / second, threshold))
    # The first of the best, start by start.
    found, tried = (torch.stack(part, 2).flatten(1) for part in (errors, thresholds))
    return tried.gather(1, found.argmin(1, keepdim=True)).squeeze(1)


def _first_center(values: Tensor) -> Tensor:
    """Return the first bin whose center is not below a value, float64: what searchsorted finds, by arithmetic."""
    bins = values.view(torch.int64).bitwise_right_shift(52 - 6).sub_((1023 - 16) << 6).clamp_(0, _BINS - 1)
    return bins.add_(_CENTERS[bins] < values)
