"""Limits on what a conversion may cost, judged on what the samples can say."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from typing import Any, Literal

from snnc.errors import DataError, UsageError
from snnc.figure import Figure, Limit, Row
from snnc.intervals import Interval
from snnc.measure import figures
from snnc.text import brackets, exact, typable, written

# Sums carry rounding: what is exactly at the limit is within it.
_ROUNDING = 1e-9

# Nobody evaluates on more.
_MOST_SAMPLES = 10**9

Ruling = Literal["passed", "failed", "undecided"]


class Limits(Mapping[str, float | str]):
    """What ``snnc evaluate`` has to find, by the names of gates (``max-drop``); whatever is not there may be anything.

    Given by keywords, as in ``Limits(max_drop=1, min_agreement=98)``. The figures say which limits there are; a drop is
    in points or, written as ``2%``, in percent of the trained network's accuracy.

    Raises ValueError where one is no limit, TypeError where there is none of the name.
    """

    def __init__(self, **given: float | str | None) -> None:
        known, self._stated = figures.limits(), dict[str, float | str]()
        for key, value in given.items():
            name = key.replace("_", "-")
            if name not in known:
                raise TypeError(f"no limit is called {name!r}")
            if value is not None:
                _check(name, value, known[name])
                self._stated[name] = value

    def __getitem__(self, name: str) -> float | str:
        return self._stated[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stated)

    def __len__(self) -> int:
        return len(self._stated)

    def __repr__(self) -> str:
        return f"Limits({self._stated})"

    def on(self, figure: Figure) -> float | None:
        """Return the limit on a figure, None where there is none."""
        value = None if figure.limit is None else self._stated.get(figure.limit.name)
        if figure.limit is None or value is None or _is_relative(value) != figure.limit.with_percent:
            return None
        return _number(value)

    @property
    def on_layers(self) -> bool:
        """Whether every layer has to be compared with the trained network."""
        return any(self.on(figure) is not None for figure in figures.figures("layer"))


# No limits at all.
ANYTHING = Limits()


def limits_form() -> type[Any]:
    """Return a dataclass of all limits that there are, as snnc.yaml states them; it checks them when it is made."""

    def check(form: Any) -> None:
        Limits(**vars(form))

    return make_dataclass(
        "LimitsForm",
        [
            (name.replace("-", "_"), (float | str | None) if _with_percent(known) else (float | None), None)
            for name, known in figures.limits().items()
        ],
        namespace={"__post_init__": check},
    )


class Tolerances(Mapping[str, float]):
    """How much worse than an old conversion a new one may be, all of it by name; infinite where anything will do.

    Given by keywords, as in ``Tolerances(more_spikes=20)``. The figures say which there are, and what is usual.

    Raises ValueError where one is negative or no number, TypeError where there is none of the name.
    """

    def __init__(self, **given: float) -> None:
        known = figures.tolerances()
        for name, value in given.items():
            if name not in known:
                raise TypeError(f"no tolerance is called {name!r}")
            if not value >= 0:
                raise ValueError(
                    f"{value:g} is no tolerance for {name.replace('_', '-')}: give a number from 0, or inf"
                )
        self._allowed = {name: given.get(name, tolerance.default) for name, tolerance in known.items()}

    def __getitem__(self, name: str) -> float:
        return self._allowed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._allowed)

    def __len__(self) -> int:
        return len(self._allowed)

    def __repr__(self) -> str:
        return f"Tolerances({self._allowed})"


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
    verdict: Ruling
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
        # Programs read it: findings, test cases and logs.
        return typable(text)


def merged(limits: Limits, given: Limits) -> Limits:
    """Return the limits with those that are ``given`` in place of the others."""
    return Limits(**{name.replace("-", "_"): value for name, value in {**limits, **given}.items()})


def stated_limits(**limits: float | str | None) -> Limits:
    """Return limits from flags; raises UsageError where one is none."""
    try:
        return Limits(**limits)
    except ValueError as error:
        message, _, hint = str(error).partition(": ")
        raise UsageError(message, place="gates", hint=hint) from None


def check_limits(limits: Limits, *, labelled: bool, stripped: bool, wanted: str) -> None:
    """Raise DataError where data without labels, or a file without the trained network, leave a limit unjudged.

    ``wanted`` says what to give for labels.
    """
    held = {
        figure.limit.name: figure.limit for figure in figures.figures() if figure.limit and figure.limit.name in limits
    }
    for name, limit in held.items():
        if limit.needs_labels and not labelled:
            hint = "; ".join(part for part in (wanted, "or gate on what needs none, as --min-agreement") if part)
            raise DataError(f"--{name} needs labels", hint=hint)
    for name, limit in held.items():
        if limit.needs_reference and stripped:
            hint = "convert again without --strip"
            raise DataError(f"--{name} needs the trained network, which was stripped", hint=hint)


def judged(rows: Sequence[Row], samples: int, limits: Limits) -> tuple[Gate, ...]:
    """Judge what was measured on so many samples, at every number of time steps, and every layer by itself.

    Raises DataError where a limit was given for what could not be measured.
    """
    return tuple(gate for row in rows for figure in figures.figures() for gate in _gates(figure, row, samples, limits))


def figure_of(gate: Gate) -> Figure | None:
    """Return the figure that a gate is on; None where it comes from a plug-in that is not there."""
    held = (figure for figure in figures.figures() if figure.limit is not None and figure.limit.name == gate.name)
    return next((figure for figure in held if figure.unit == gate.unit.strip()), None)


def _gates(figure: Figure, row: Row, samples: int, limits: Limits) -> Iterator[Gate]:
    limit = limits.on(figure)
    if limit is None or figure.limit is None:
        return
    name = figure.limit.name
    subjects = [(error.name, error) for error in row.layers or ()] if "layer" in figure.of else [("", row)]
    lacking = DataError(
        f"--{name} cannot be judged: {figure.limit.lacking}", hint="check data and labels, or leave the gate out"
    )
    if not subjects:
        raise lacking
    for layer, subject in subjects:
        value = figure.value(subject)
        if value is None:
            raise lacking
        yield judge(
            name,
            limit,
            value,
            figure.interval(subject),
            samples=samples,
            timesteps=row.timesteps,
            larger=lambda times: figure.expected(row, samples * times),
            layer=layer,
            unit=f" {figure.unit}" if figure.unit else "",
        )


def judge(
    name: str,
    limit: float,
    measured: float,
    interval: Interval | None,
    *,
    samples: int,
    timesteps: int,
    larger: Callable[[float], Interval | None] = lambda times: None,
    layer: str = "",
    unit: str = "",
) -> Gate:
    """Judge a measured value by its interval; limits called ``min-...`` are from below, all others from above.

    ``larger`` returns the interval that so many times as many samples would have, all in proportion. Where it is None,
    intervals are taken to shrink with the root of the number of samples.
    """
    verdict: Ruling = "undecided" if interval is None else _verdict(name, limit, interval)
    needed = None
    if verdict == "undecided" and interval is not None and abs(limit - measured) > _ROUNDING:
        low, high = interval

        def shrunk(times: float) -> Interval:
            root = math.sqrt(times)
            return measured - (measured - low) / root, measured + (high - measured) / root

        needed = _needed(name, limit, samples, lambda times: larger(times) or shrunk(times))
    return Gate(name, timesteps, layer, unit, float(limit), float(measured), interval, samples, verdict, needed)


def _verdict(name: str, limit: float, interval: Interval) -> Ruling:
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


def _check(name: str, value: float | str, known: Sequence[Limit]) -> None:
    """Raise ValueError where a value is none that one of the limits of a name accepts."""
    number = _number(value)
    limit = next((limit for limit in known if limit.with_percent == _is_relative(value)), None)
    if not math.isfinite(number):
        expected = known[0].expected if _with_percent(known) else "a finite number"
        raise ValueError(f"{value!r} is no limit for {name}: give {expected}")
    if limit is None or not limit.accepts(number):
        raise ValueError(f"{number:g} is no limit for {name}: give {known[0].expected}")


def _with_percent(known: Sequence[Limit]) -> bool:
    return any(limit.with_percent for limit in known)


def _is_relative(value: float | str) -> bool:
    return isinstance(value, str) and value.strip().endswith("%")


def _number(value: float | str) -> float:
    try:
        return float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except ValueError:
        return math.nan
