"""Limits on what a conversion may cost, judged on what the samples can say."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from snnc.errors import UsageError
from snnc.intervals import Interval
from snnc.text import brackets, exact, written

# Sums carry rounding: what is exactly at the limit is within it.
_ROUNDING = 1e-9

# Nobody evaluates on more.
_MOST_SAMPLES = 10**9

Verdict = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Limits:
    """What ``snnc evaluate`` has to find; None where anything will do.

    ``max_drop``: points of accuracy lost, or, written with a percent sign, percent of the trained network's accuracy.
    ``min_agreement``: percent of equal predictions. ``max_energy_ratio``: arithmetic relative to the trained network's.
    ``max_spikes``: per image. ``max_layer_error``: relative error of every layer, all layers converted.
    """

    max_drop: float | str | None = None
    min_agreement: float | None = None
    max_energy_ratio: float | None = None
    max_spikes: float | None = None
    max_layer_error: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not math.isfinite(_number(value)):
                name = field.name.replace("_", "-")
                kinds = "a number of points or a percentage as in 2%" if field.name == "max_drop" else "a finite number"
                raise ValueError(f"{value!r} is no limit for {name}: give {kinds}")
        if self.min_agreement is not None and not 1 < self.min_agreement <= 100:
            raise ValueError(f"{self.min_agreement:g} is no limit for min-agreement: give percent, as in 95")
        for name in ("max_energy_ratio", "max_spikes", "max_layer_error"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{value:g} is no limit for {name.replace('_', '-')}: give a number from 0")

    @property
    def drop(self) -> float | None:
        """The limit on the drop in points, None where there is none or it is relative."""
        return None if self.max_drop is None or _is_relative(self.max_drop) else _number(self.max_drop)

    @property
    def relative_drop(self) -> float | None:
        """The limit on the drop in percent of the trained network's accuracy, None where there is none of this kind."""
        return _number(self.max_drop) if self.max_drop is not None and _is_relative(self.max_drop) else None


# No limits at all.
ANYTHING = Limits()


@dataclass(frozen=True)
class Tolerances:
    """How much worse than an old conversion a new one may be; infinite where anything will do.

    ``accuracy_loss``: points of accuracy, or, where one of the two has none, of agreement. ``more_spikes`` and
    ``more_energy``: percent of the old figure. ``more_steps``: steps from image to answer. ``layer_error_increase``:
    added to the relative error of a layer. ``threshold_change``: percent of the old threshold, up or down. Raises
    ValueError where one is negative or no number.
    """

    accuracy_loss: float = 0.5
    more_spikes: float = 10.0
    more_energy: float = 10.0
    more_steps: float = 0.0
    layer_error_increase: float = math.inf
    threshold_change: float = math.inf

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not value >= 0:
                raise ValueError(
                    f"{value:g} is no tolerance for {name.replace('_', '-')}: give a number from 0, or inf"
                )


@dataclass(frozen=True)
class Gate:
    """One limit at one number of time steps, at one ``layer`` or ("") in the whole network, and whether it is kept.

    Passed or failed where the whole ``interval`` (95 %) is on one side of the limit. Undecided otherwise; then
    ``samples_needed`` is how many samples would decide if everything stayed in proportion, None where no number would,
    or where a single sample does not say how much samples vary.
    """

    name: str
    timesteps: int
    layer: str
    unit: str
    limit: float
    measured: float
    interval: Interval | None
    samples: int
    verdict: Verdict
    samples_needed: int | None = None

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        where = f" @ {self.layer}" if self.layer else ""
        text = f"{self.name} at T={self.timesteps}{where}: measured {written(self.measured, self.unit)}{self.unit}"
        if self.interval is not None:
            text += f" {brackets(self.interval, self.unit)}"
        text += f", allowed {exact(self.limit)}{self.unit}"
        if self.verdict == "undecided":
            text += f"; {self.samples:,} sample{'s are' if self.samples > 1 else ' is'} not enough to decide, "
            if self.interval is None:
                text += "and does not say how much samples vary"
            elif self.samples_needed is None:
                text += "no number of samples would do"
            else:
                text += f"{self.samples_needed:,} would"
        return text


def merged(limits: Limits, given: Limits) -> Limits:
    """Return the limits with those that are ``given`` in place of the others."""
    values = {name: value for name, value in dataclasses.asdict(given).items() if value is not None}
    return dataclasses.replace(limits, **values)


def stated(**limits: float | str | None) -> Limits:
    """Return limits from flags; raises UsageError where one is none."""
    try:
        return Limits(**limits)  # type: ignore[arg-type]
    except ValueError as error:
        message, _, hint = str(error).partition(": ")
        raise UsageError(message, place="gates", hint=hint) from None


def judge(
    name: str,
    limit: float,
    measured: float,
    interval: Interval | None,
    *,
    samples: int,
    timesteps: int,
    larger: Callable[[float], Interval] | None = None,
    layer: str = "",
    unit: str = "",
) -> Gate:
    """Judge a measured value by its interval; limits called ``min-...`` are from below, all others from above.

    ``larger`` returns the interval that so many times as many samples would have, all in proportion. Without, intervals
    are taken to shrink with the root of the number of samples.
    """
    verdict: Verdict = "undecided" if interval is None else _verdict(name, limit, interval)
    needed = None
    if verdict == "undecided" and interval is not None and abs(limit - measured) > _ROUNDING:
        low, high = interval

        def shrunk(times: float) -> Interval:
            root = math.sqrt(times)
            return measured - (measured - low) / root, measured + (high - measured) / root

        needed = _needed(name, limit, samples, larger or shrunk)
    return Gate(name, timesteps, layer, unit, float(limit), float(measured), interval, samples, verdict, needed)


def _verdict(name: str, limit: float, interval: Interval) -> Verdict:
    # How far the value is within the limit, at its worst and at its best.
    sign = -1 if name.startswith("min-") else 1
    worst, best = sorted(sign * (limit - end) for end in interval)
    if worst >= -_ROUNDING:
        return "passed"
    return "failed" if best < -_ROUNDING else "undecided"


def _needed(name: str, limit: float, samples: int, larger: Callable[[float], Interval]) -> int | None:
    """Return the fewest samples that decide, None where more than anybody has do not."""
    few, many = samples, samples
    while _verdict(name, limit, larger(many / samples)) == "undecided":
        few, many = many, 2 * many
        if many > _MOST_SAMPLES:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        undecided = _verdict(name, limit, larger(middle / samples)) == "undecided"
        few, many = (middle, many) if undecided else (few, middle)
    return many


def _is_relative(value: float | str) -> bool:
    return isinstance(value, str) and value.strip().endswith("%")


def _number(value: float | str) -> float:
    try:
        return float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except ValueError:
        return math.nan
