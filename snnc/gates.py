"""Limits on what a conversion may cost, judged on what the samples can say."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from snnc.errors import UsageError
from snnc.intervals import Interval

# Sums carry rounding: what is exactly at the limit is within it.
_ROUNDING = 1e-9


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
    ``samples_needed`` is how many samples would decide if the measured value stayed, None where no number would.
    """

    name: str
    timesteps: int
    layer: str
    unit: str
    limit: float
    measured: float
    interval: Interval | None
    samples: int
    verdict: Literal["passed", "failed", "undecided"]
    samples_needed: int | None = None

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        where = f" @ {self.layer}" if self.layer else ""
        text = f"{self.name} at T={self.timesteps}{where}: measured {self.measured:.4g}{self.unit}"
        if self.interval is not None:
            text += f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]"
        text += f", allowed {self.limit:g}"
        if self.verdict == "undecided":
            enough = (
                "no number of samples would do" if self.samples_needed is None else f"{self.samples_needed:,} would"
            )
            text += f"; {self.samples:,} samples are not enough to decide, {enough}"
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
    layer: str = "",
    unit: str = "",
) -> Gate:
    """Judge a measured value by its interval; limits called ``min-...`` are from below, all others from above."""
    verdict: Literal["passed", "failed", "undecided"] = "undecided"
    needed: int | None = samples + 1
    if interval is not None:
        # How far the value is within the limit: at its worst, as measured and at its best.
        sign = -1 if name.startswith("min-") else 1
        worst, best = sorted(sign * (limit - end) for end in interval)
        margin = sign * (limit - measured)
        if worst >= -_ROUNDING:
            verdict, needed = "passed", None
        elif best < -_ROUNDING:
            verdict, needed = "failed", None
        elif abs(margin) <= _ROUNDING:
            needed = None
        else:
            # An interval shrinks with the root of the number of samples.
            half = margin - worst if margin > 0 else best - margin
            needed = max(samples + 1, math.ceil(samples * (half / margin) ** 2))
    return Gate(name, timesteps, layer, unit, float(limit), float(measured), interval, samples, verdict, needed)


def _is_relative(value: float | str) -> bool:
    return isinstance(value, str) and value.strip().endswith("%")


def _number(value: float | str) -> float:
    try:
        return float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except ValueError:
        return math.nan
