"""Limits on what a conversion may cost, judged on what the samples can say."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from typing import Any, Literal

from snnc.errors import DataError, UsageError
from snnc.figure import Figure, Limit, Row
from snnc.findings import Finding
from snnc.intervals import Interval
from snnc.measure import figures
from snnc.text import brackets, exact, typable, written

# Sums carry rounding: what is exactly at the limit is within it.
_ROUNDING = 1e-9

# Nobody is told to gather more samples than this, unless so many times as many as there are is less than they have.
_MOST_SAMPLES, _MOST_TIMES = 100_000, 10

Ruling = Literal["passed", "failed", "not proven"]


class Limits(Mapping[str, float | str]):
    """What ``snnc evaluate`` has to find, by the names of gates (``max-drop``); whatever is not there may be anything.

    Given by keywords, as in ``Limits(max_drop=1, min_agreement=98)``. The figures say which limits there are; a drop is
    in points or, written as ``2%``, in percent of the trained network's accuracy. They are for ``timesteps``, None for
    as many as the network was made for; with ``proven``, a limit that is kept but not proven to be is broken.

    Raises ValueError where one is no limit, TypeError where there is none of the name.
    """

    def __init__(self, *, timesteps: int | None = None, proven: bool = False, **given: float | str | None) -> None:
        if timesteps is not None and timesteps < 1:
            raise ValueError(f"{timesteps} time steps to be judged at: give a whole number from 1")
        self.timesteps, self.proven = timesteps, proven
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
        return f"Limits({self._stated}, timesteps={self.timesteps}, proven={self.proven})"

    def __eq__(self, other: object) -> bool:
        mine = self._stated, self.timesteps, self.proven
        return isinstance(other, Limits) and mine == (other._stated, other.timesteps, other.proven)

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

    limits: list[tuple[str, Any, Any]] = [
        (name.replace("-", "_"), (float | str | None) if _with_percent(known) else (float | None), None)
        for name, known in figures.limits().items()
    ]
    return make_dataclass(
        "LimitsForm",
        [*limits, ("timesteps", int | None, None), ("proven", bool, False)],
        namespace={"__post_init__": check},
    )


class Tolerances(Mapping[str, float]):
    """How much worse than an old conversion a new one may be, all of it by name; infinite where anything will do.

    Given by keywords, as in ``Tolerances(more_spikes=20)``. The figures say which there are, and what is usual. With
    ``proven``, what keeps to one but is not proven to has become worse.

    Raises ValueError where one is negative or no number, TypeError where there is none of the name.
    """

    def __init__(self, *, proven: bool = False, **given: float) -> None:
        self.proven, known = proven, figures.tolerances()
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

    Failed where the measured value is beyond the limit, however few samples there are; passed where the whole
    ``interval`` (95 %) is within it. Not proven where only the measured value is, which fails where proof was asked
    for; then ``samples_needed`` is how many samples would prove it if everything stayed in proportion, None where no
    number within reason would, or where a single sample does not say how much samples vary.
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
    def proven(self) -> bool | None:
        """Whether a limit that is kept is proven to be; None of one that is not kept."""
        return self.verdict == "passed" if _is_within(self.name, self.limit, self.measured) else None

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        where = f" @ {self.layer}" if self.layer else ""
        text = f"{self.name} at T={self.timesteps}{where}: measured {written(self.measured, self.unit)}{self.unit}"
        if self.interval is not None:
            text += f" {brackets(self.interval, self.unit)}"
        text += f", allowed {exact(self.limit)}{self.unit}"
        if self.proven is False:
            text += f"; not proven, {self.doubt}"
        # Programs read it: findings, test cases and logs.
        return typable(text)

    @property
    def doubt(self) -> str:
        """How many samples would prove a limit that is not proven, in words."""
        if self.interval is None:
            return "one sample does not say how much samples vary"
        count = (
            "no number of samples within reason" if self.samples_needed is None else f"{self.samples_needed:,} samples"
        )
        return f"{count} would ({self.samples:,} measured)"


def merged(limits: Limits, given: Limits) -> Limits:
    """Return the limits with those that are ``given`` in place of the others."""
    return Limits(
        timesteps=given.timesteps or limits.timesteps,
        proven=given.proven or limits.proven,
        **{name.replace("-", "_"): value for name, value in {**limits, **given}.items()},
    )


def stated_limits(*, timesteps: int | None = None, proven: bool = False, **limits: float | str | None) -> Limits:
    """Return limits from flags; raises UsageError where one is none."""
    try:
        return Limits(timesteps=timesteps, proven=proven, **limits)
    except ValueError as error:
        message, _, hint = str(error).partition(": ")
        raise UsageError(message, place="gates", hint=hint) from None


def check_limits(limits: Limits, *, labeled: bool, stripped: bool, wanted: str) -> None:
    """Raise DataError where data without labels, or a file without the trained network, leave a limit unjudged.

    ``wanted`` says what to give for labels.
    """
    held = {
        figure.limit.name: figure.limit for figure in figures.figures() if figure.limit and figure.limit.name in limits
    }
    for name, limit in held.items():
        if limit.needs_labels and not labeled:
            hint = "; ".join(part for part in (wanted, "or gate on what needs none, as --min-agreement") if part)
            raise DataError(f"--{name} needs labels", hint=hint)
    for name, limit in held.items():
        if limit.needs_reference and stripped:
            hint = "convert again without --strip"
            raise DataError(f"--{name} needs the trained network, which was stripped", hint=hint)


def check_original(limits: Limits, missing: Finding) -> None:
    """Raise DataError where a limit is on what is lost of a network that is not there."""
    for figure in figures.figures():
        if figure.limit is not None and figure.limit.needs_labels and figure.limit.name in limits:
            raise DataError(f"--{figure.limit.name} cannot be judged: {missing.message}", hint=missing.hint)


def judged(rows: Iterable[Row], samples: int, limits: Limits) -> tuple[Gate, ...]:
    """Judge what was measured on so many samples, and every layer by itself.

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
            proven=limits.proven,
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
    proven: bool = False,
) -> Gate:
    """Judge a measured value and its interval; limits called ``min-...`` are from below, all others from above.

    ``larger`` returns the interval that so many times as many samples would have, all in proportion. Where it is None,
    intervals are taken to shrink with the root of the number of samples. What is not ``proven`` fails if that says so.
    """
    within = _is_within(name, limit, measured)
    certain = within and interval is not None and _is_wholly_within(name, limit, interval)
    verdict: Ruling = "passed" if certain else "not proven" if within and not proven else "failed"
    needed = None
    if within and not certain and interval is not None and abs(limit - measured) > _ROUNDING:
        low, high = interval

        def shrunk(times: float) -> Interval:
            root = math.sqrt(times)
            return measured - (measured - low) / root, measured + (high - measured) / root

        needed = _needed(name, limit, samples, lambda times: larger(times) or shrunk(times))
    return Gate(name, timesteps, layer, unit, float(limit), float(measured), interval, samples, verdict, needed)


def _is_within(name: str, limit: float, value: float) -> bool:
    return (value - limit if name.startswith("min-") else limit - value) >= -_ROUNDING


def _is_wholly_within(name: str, limit: float, interval: Interval) -> bool:
    return all(_is_within(name, limit, end) for end in interval)


def _needed(name: str, limit: float, samples: int, larger: Callable[[float], Interval]) -> int | None:
    """Return the fewest samples that prove that a limit is kept, None where no number within reason does."""
    few, many = samples, samples
    while not _is_wholly_within(name, limit, larger(many / samples)):
        few, many = many, 2 * many
        if few > max(_MOST_SAMPLES, _MOST_TIMES * samples):
            return None
    while many - few > 1:
        middle = (few + many) // 2
        proven = _is_wholly_within(name, limit, larger(middle / samples))
        few, many = (few, middle) if proven else (middle, many)
    return many if many <= max(_MOST_SAMPLES, _MOST_TIMES * samples) else None


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
