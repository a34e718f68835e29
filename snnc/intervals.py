"""Confidence intervals at 95 %: what a sample says of all that could have been drawn."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Whoever only asks for help need not wait for it.
    from numpy.typing import NDArray

Interval = tuple[float, float]

# 95 % of a normal distribution lies within this many standard deviations.
NORMAL_95 = 1.959964

# Percentages that are less apart are the same.
_ROUNDING = 1e-9

# How often samples are drawn anew, and how many of them at once: 32 megabytes.
_DRAWS, _DRAWN_AT_ONCE = 1000, 1 << 22


def proportion(hits: float, samples: float) -> Interval:
    """Return Wilson's interval of a proportion (1927), in percent."""
    share, square = hits / samples, NORMAL_95**2
    center = (share + square / (2 * samples)) / (1 + square / samples)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / samples + square / (4 * samples**2)) / (1 + square / samples)
    return 100 * max(0.0, center - half), 100 * min(1.0, center + half)


def paired(lost: float, won: float, samples: float) -> Interval:
    """Return the interval of a difference of paired proportions (Agresti and Min, 2005), in points."""
    # Half an image more in each of the four cells keeps the interval honest where hardly any image changed sides.
    lost_, won_, total = lost + 0.5, won + 0.5, samples + 2
    center = (lost_ - won_) / total
    half = NORMAL_95 * math.sqrt(lost_ + won_ - (lost_ - won_) ** 2 / total) / total
    return 100 * (center - half), 100 * (center + half)


def relative(both: float, lost: float, won: float, samples: float) -> Interval:
    """Return the interval of a paired difference relative to the first proportion, 1 − p₂/p₁, in percent.

    ``both`` are right twice, ``lost`` only at first, ``won`` only then. By the delta method, with half an image more in
    each of the four cells, as for ``paired``.
    """
    both_, lost_, won_, total = both + 0.5, lost + 0.5, won + 0.5, samples + 2
    first = both_ + lost_
    center = (lost_ - won_) / first
    # How far each image is from the ratio: d = (a − s) − center·a, whose mean is 0.
    squares = lost_ * (1 - center) ** 2 + both_ * center**2 + won_
    half = NORMAL_95 * math.sqrt(squares * total / (total - 1)) / first
    return 100 * (center - half), 100 * (center + half)


def difference(old: float, old_interval: Interval, new: float, new_interval: Interval) -> Interval:
    """Return the interval of ``new`` − ``old``, both from samples of their own, from the intervals of the two.

    By the square-and-add method (Newcombe, 1998, with Wilson's intervals of two proportions; Zou and Donner, 2008, of
    any two estimates).
    """
    (old_low, old_high), (new_low, new_high) = old_interval, new_interval
    center = new - old
    return center - math.hypot(new - new_low, old_high - old), center + math.hypot(new_high - new, old - old_low)


def largest(value: float, interval: Interval, count: int) -> Interval:
    """Return the interval of a value that was chosen as the largest of ``count``, from its own (Bonferroni).

    Of many values of which none is more than chance, the largest looks like more: its own interval is too narrow.
    """
    from statistics import NormalDist

    wider = NormalDist().inv_cdf(1 - 0.025 / count) / NORMAL_95
    low, high = interval
    return value - (value - low) * wider, value + (high - value) * wider


def mean(count: int, total: float, squares: float) -> Interval | None:
    """Return the interval of a mean, from the number of values, their sum and the sum of their squares.

    None of a single value, which says nothing of how much values vary.
    """
    center = total / count
    if count < 2:
        return None
    variance = max(0.0, squares - total * center) / (count - 1)
    half = NORMAL_95 * math.sqrt(variance / count)
    return center - half, center + half


def root_ratio(parts: Sequence[float], wholes: Sequence[float]) -> Interval | None:
    """Return the interval of √(Σ parts / Σ wholes) over samples: that of a relative L2 error. By the delta method.

    None of a single sample, or where there is nothing to be relative to.
    """
    whole, count = math.fsum(wholes), len(parts)
    if count < 2 or not whole:
        return None
    ratio = math.fsum(parts) / whole
    squares = math.fsum((part - ratio * of) ** 2 for part, of in zip(parts, wholes, strict=True))
    half = NORMAL_95 * math.sqrt(squares * count / (count - 1)) / whole
    return math.sqrt(max(0.0, ratio - half)), math.sqrt(ratio + half)


def varies(interval: Interval | None) -> bool:
    """Return whether draws of samples gave percentages that differ."""
    return interval is not None and interval[1] - interval[0] > _ROUNDING


def varied(value: float, interval: Interval | None, samples: int, *, difference: bool = False) -> Interval | None:
    """Return the interval of a percentage by the bootstrap as it is, unless all draws gave the same.

    They do where no sample differs from the others, which does not say that none ever will: it is that of a proportion
    then, or of a paired ``difference``.
    """
    if interval is None or varies(interval):
        return interval
    hits = min(abs(value) / 100, 1.0) * samples
    if not difference:
        return proportion(hits, samples)
    return paired(hits, 0, samples) if value >= 0 else paired(0, hits, samples)


def bootstrap(
    samples: int, figures: "Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]"
) -> dict[str, tuple[float, Interval | None]]:
    """Return figures with their intervals, as far as they are known, by the bootstrap over samples (Efron, 1979).

    ``figures`` makes them, ``[draws]`` each, from how often each sample was drawn, ``[draws, samples]``: NaN is not
    known. What it makes of two networks, such as a drop, is of samples drawn alike for both, hence paired. An interval
    is from the 2.5th to the 97.5th percentile of draws that are always the same; None of a single sample.
    """
    import numpy as np

    def made(times: "NDArray[Any]") -> "Mapping[str, NDArray[Any]]":
        with np.errstate(divide="ignore", invalid="ignore"):
            return figures(times)

    found = {name: float(values[0]) for name, values in made(np.ones((1, samples))).items()}
    known = {name: value for name, value in found.items() if not math.isnan(value)}
    if samples < 2:
        return {name: (value, None) for name, value in known.items()}
    generator, drawn = np.random.default_rng(0), list[Mapping[str, "NDArray[Any]"]]()
    step = max(1, _DRAWN_AT_ONCE // samples)
    for first in range(0, _DRAWS, step):
        draws = min(step, _DRAWS - first)
        chosen = generator.integers(0, samples, (draws, samples)) + samples * np.arange(draws)[:, None]
        times = np.bincount(chosen.ravel(), minlength=draws * samples).reshape(draws, samples)
        drawn.append(made(times.astype(np.float64)))
    intervals: dict[str, tuple[float, Interval | None]] = {}
    for name, value in known.items():
        low, high = np.nanpercentile(np.concatenate([part[name] for part in drawn]), (2.5, 97.5))
        intervals[name] = value, (min(float(low), value), max(float(high), value))
    return intervals
