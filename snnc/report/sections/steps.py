"""What was evaluated, against the number of time steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Block, Cell, Color, Column, Curve, Curves, Key, Missing, Plot, SideBySide, Table, Text
from snnc.figure import Row
from snnc.intervals import Interval
from snnc.measure.gates import Gate
from snnc.report.data import Evaluation, Report
from snnc.report.sections import EVALUATE, Section, sections
from snnc.text import fixed, number, signed, span, written


@sections.register("steps")
@dataclass(frozen=True)
class StepsSection(Section):
    """Accuracy, agreement, spikes and energy at every number of steps."""

    title: ClassVar[str] = "Against time steps"
    label: ClassVar[str] = "Time steps"
    order: ClassVar[int] = 30
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the plots and the table."""
        evaluation = report.evaluation
        rows = () if evaluation is None else evaluation.rows
        if len(rows) < 2:
            what = "Accuracy, agreement, energy and spikes were not measured at several numbers of time steps."
            yield Missing(what, f"{EVALUATE} --timesteps 1,2,4,8")
        if evaluation is None:
            return
        yield Text(f"{evaluation.samples:,} samples; {_trained(evaluation)}", only=("lines",))
        yield Text("Bands and vertical lines are 95 % intervals.", soft=True, only=("page",))
        yield SideBySide(tuple(_plots(evaluation)), only=("page",))
        yield _table(rows)
        if any(row.repeats > 1 for row in rows):
            yield Text(f"means of {max(row.repeats for row in rows)} draws, ± their standard deviation", soft=True)
        said = "95 % intervals. Spikes, additions and energy are per image; energy is estimated."
        yield Text(f"Small print: {said}", soft=True, only=("page",))
        yield Text(f"In parentheses: {said}", soft=True, only=("card",))


def _trained(evaluation: Evaluation) -> str:
    if evaluation.reference_accuracy is not None:
        return f"the trained network has {written(evaluation.reference_accuracy, '%')} % accuracy"
    return "stripped of the trained network" if evaluation.labelled else "no labels"


def _table(rows: Sequence[Row]) -> Table:
    return Table.of(
        "What was measured at every number of time steps",
        [
            (Column("T"), lambda row: str(row.timesteps)),
            (
                Column("steps to the answer", short="latency", about="steps from image to answer"),
                lambda row: str(row.total_steps),
            ),
            (
                Column("steps asleep used", short="asleep"),
                lambda row: f"{row.sleep_used} of {row.sleep}" if row.sleep else None,
            ),
            (
                Column("accuracy, %", short="accuracy %"),
                lambda row: _varying(row.accuracy, row.accuracy_deviation, row.accuracy_interval),
            ),
            (
                Column("drop, points", short="drop", about="points of accuracy lost", bracketed=True),
                lambda row: Cell.of(row.drop, row.drop_interval, "points"),
            ),
            (
                Column("drop, % of the trained", short=None),
                lambda row: Cell.of(row.relative_drop, row.relative_drop_interval, "%"),
            ),
            (
                Column("agreement, %", short="agree %", about="predictions as the trained network's"),
                lambda row: _varying(row.agreement, row.agreement_deviation, row.agreement_interval),
            ),
            (
                Column("lost to timing, points", short="misaligned", about="points regained by shuffling spikes"),
                _misaligned,
            ),
            (Column("spikes", about="per image"), lambda row: number(row.spikes)),
            (
                Column("additions", short="operations", about="per image"),
                lambda row: number(row.synaptic_operations),
            ),
            (
                Column("energy ratio", short="energy", about="estimated, the trained network's being 1"),
                lambda row: Cell.of(row.energy.ratio, row.energy_ratio_interval, ""),
            ),
        ],
        rows,
    )


def _varying(value: float | None, deviation: float | None, interval: Interval | None) -> Cell | None:
    if value is None or deviation is None:
        return Cell.of(value, interval, "%")
    return Cell(f"{written(value, '%')} ± {written(deviation, '%')}")


def _misaligned(row: Row) -> Cell | None:
    if row.misalignment is None:
        return None
    share = row.misalignment_share
    detail = "" if share is None else f"{fixed(100 * share, 0)} % of the loss"
    return Cell(signed(row.misalignment, "points"), detail)


@dataclass(frozen=True)
class _Quantity:
    title: str
    gate: str
    value: Callable[[Row], float | None]
    interval: Callable[[Row], Interval | None]
    unit: str = ""


_ACCURACY = _Quantity("Accuracy, %", "max-drop", lambda row: row.accuracy, lambda row: row.accuracy_interval, "%")
_AGREEMENT = _Quantity(
    "Agreement with the trained network, %",
    "min-agreement",
    lambda row: row.agreement,
    lambda row: row.agreement_interval,
    "%",
)
_ENERGY = _Quantity(
    "Energy of arithmetic, trained network = 1",
    "max-energy-ratio",
    lambda row: row.energy.ratio,
    lambda row: row.energy_ratio_interval,
)
_SPIKES = _Quantity("Spikes per image", "max-spikes", lambda row: row.spikes, lambda row: row.spikes_interval)


def _plots(evaluation: Evaluation) -> Iterator[Plot]:
    trained = evaluation.reference_accuracy
    references = {_ACCURACY: trained, _AGREEMENT: None, _ENERGY: 1.0, _SPIKES: None}
    rows = sorted(evaluation.rows, key=lambda row: row.timesteps)
    for quantity, reference in references.items():
        if any(quantity.value(row) is not None for row in rows):
            limits = {_drawn(gate, trained) for gate in evaluation.gates if gate.name == quantity.gate}
            yield _plot(quantity, rows, reference, sorted(limits))


def _plot(quantity: _Quantity, rows: Sequence[Row], reference: float | None, limits: Sequence[float]) -> Plot:
    levels: list[tuple[float, Color]] = [(limit, "limit") for limit in limits]
    keys = [Key("spiking", "spiking network")]
    if reference is not None:
        levels.insert(0, (reference, "trained"))
        keys.append(Key("trained", "trained network"))
    if limits:
        keys.append(Key("limit", "limit of a gate"))
    values, intervals = tuple(map(quantity.value, rows)), tuple(map(quantity.interval, rows))
    words = "; ".join(
        f"T={row.timesteps}: {_written(value, interval, quantity.unit)}"
        for row, value, interval in zip(rows, values, intervals, strict=True)
        if value is not None
    )
    places = tuple(row.timesteps for row in rows)
    drawing = Curves(places, (Curve(values, intervals),), tuple(levels), "T", from_zero=not quantity.unit)
    label = f"{quantity.title}, against the number of time steps. {words}"
    return Plot(quantity.title, drawing, label, tuple(keys))


def _drawn(gate: Gate, trained: float | None) -> float:
    """Return where a limit is in the plot: that on the drop is so far below the trained network's accuracy."""
    if gate.name != "max-drop" or trained is None:
        return gate.limit
    return trained - gate.limit if gate.unit == " points" else trained * (1 - gate.limit / 100)


def _written(value: float, interval: Interval | None, unit: str) -> str:
    return written(value, unit) if interval is None else f"{written(value, unit)} ({span(interval, unit)})"
