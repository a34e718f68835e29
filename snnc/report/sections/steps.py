"""What was evaluated, against the number of time steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from snnc.blocks import (
    Block,
    Cell,
    Color,
    Column,
    Curve,
    Curves,
    Fold,
    Key,
    Missing,
    Plot,
    Room,
    SideBySide,
    Table,
    Text,
)
from snnc.figure import Figure, Row, Trend
from snnc.intervals import Interval
from snnc.measure.evaluation import Evaluation
from snnc.measure.figures import figures
from snnc.measure.gates import Gate, figure_of
from snnc.report.data import Report
from snnc.report.sections import EVALUATE, Section, sections
from snnc.report.sentence import reached
from snnc.text import counted, signed, span, written

# So many numbers have room below a plot.
_FEW = 5


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
            what = "Scores, agreement, energy and spikes were not measured at several numbers of time steps."
            yield Missing(what, f"{EVALUATE} --timesteps 1,2,4,8")
        if evaluation is None:
            return
        samples = counted(evaluation.samples, "sample")
        yield Text(f"{samples}; {_trained(evaluation)}", only=("lines",))
        yield row_table(rows, only=("page",), whole=False)
        drawn = tuple(trends(evaluation))
        if drawn:
            yield SideBySide(drawn, only=("page",))
            yield Text("Bands and vertical lines are 95 % intervals.", soft=True, only=("page",))
        yield Fold("All figures", (row_table(rows),), only=("page",))
        yield row_table(rows, only=("card", "lines"))
        if report.earlier:
            yield from _earlier(report.earlier)
        if any(row.repeats > 1 for row in rows):
            yield Text(f"means of {max(row.repeats for row in rows)} draws, ± their standard deviation", soft=True)
        said = "95 % intervals. Spikes, additions and energy are per image; energy is estimated."
        yield Text(f"Small print: {said}", soft=True, only=("page",))
        yield Text(f"In parentheses: {said}", soft=True, only=("card",))


def _trained(evaluation: Evaluation) -> str:
    if evaluation.reference:
        tuned = f"; fine-tuned it has {reached(evaluation.tuned)}" if evaluation.tuned else ""
        return f"the trained network has {reached(evaluation.reference)}{tuned}"
    if not evaluation.labeled:
        return "no labels"
    return "stripped of the trained network" if evaluation.stripped else "with labels"


def _earlier(evaluations: Sequence[Evaluation]) -> Iterator[Block]:
    """Yield what was measured in other settings: on other samples, or with other preprocessing, seed or reference."""
    measured = [(evaluation, row) for evaluation in evaluations for row in evaluation.rows]
    steps = ", ".join(f"T={row.timesteps} on {counted(evaluation.samples, 'sample')}" for evaluation, row in measured)
    yield Text(f"Measured before in another setting, and still in the report: {steps}.", only=("lines",))
    yield Table.of(
        "Measured before in another setting: on other samples, or read, drawn or compared otherwise",
        [
            (Column("samples"), lambda pair: f"{pair[0].samples:,}"),
            (Column("T"), lambda pair: str(pair[1].timesteps)),
            *((_column(figure), partial(_cell_of, figure)) for figure in figures("row") if figure.short is not None),
        ],
        measured,
        only=("page", "card"),
    )


def _cell_of(figure: Figure, pair: tuple[Evaluation, Row]) -> Cell | None:
    return _cell(figure, pair[1])


def row_table(rows: Sequence[Row], *, only: tuple[Room, ...] = (), whole: bool = True) -> Table:
    """Return what was measured at every number of time steps: the ``whole``, or what has a column everywhere."""
    asleep = Column("steps asleep used", short="asleep")
    return Table.of(
        "What was measured at every number of time steps",
        [
            (Column("T"), lambda row: str(row.timesteps)),
            (asleep, lambda row: f"{row.sleep_used} of {row.sleep}" if row.sleep else None),
            *((column, said) for column, said in figure_columns() if whole or column.short is not None),
        ],
        rows,
        only=only,
    )


def figure_columns() -> list[tuple[Column, Callable[[Row], Cell | None]]]:
    """Return a column for each figure of one number of steps, and what it says of it."""
    return [(_column(figure), partial(_cell, figure)) for figure in figures("row")]


def _column(figure: Figure) -> Column:
    title = figure.title or ", ".join(part for part in (figure.name, figure.unit) if part)
    return Column(title, short=figure.short, about=figure.about, bracketed=figure.bracketed)


def _cell(figure: Figure, row: Row) -> Cell | None:
    value, deviation = figure.value(row), figure.deviation(row)
    if value is None:
        return None
    if deviation is not None:
        return Cell(f"{written(value, figure.unit)} ± {written(deviation, figure.unit)}")
    interval = figure.interval(row)
    # What is the same of all samples needs no interval.
    cell = Cell.of(value, None if interval == (value, value) else interval, figure.unit, figure.detail(row))
    return replace(cell, text=signed(value, figure.unit)) if cell is not None and figure.signed else cell


def trends(evaluation: Evaluation) -> Iterator[Plot]:
    """Draw figures against all steps from image to answer, where there are several numbers of them."""
    # One place for each number of steps, of the row that is first.
    rows = sorted({row.total_steps: row for row in reversed(evaluation.rows)}.values(), key=lambda row: row.total_steps)
    if len(rows) < 2:
        return
    for figure in figures("row"):
        if figure.trend is not None and any(figure.value(row) is not None for row in rows):
            yield _plot(figure, figure.trend, rows, evaluation)


def _plot(figure: Figure, trend: Trend, rows: Sequence[Row], evaluation: Evaluation) -> Plot:
    trained = evaluation.reference.get(trend.of) if trend.trained is None else trend.trained
    limits = sorted(set(_limits(figure, trend, evaluation.gates, trained)))
    levels: list[tuple[float, Color]] = [(limit, "limit") for limit in limits]
    keys = [Key("spiking", "spiking network")]
    if trained is not None:
        levels.insert(0, (trained, "trained"))
        keys.append(Key("trained", "trained network"))
    if limits:
        keys.append(Key("limit", "limit of a gate"))
    values, intervals = tuple(map(figure.value, rows)), tuple(map(figure.interval, rows))
    words = "; ".join(
        f"T={row.timesteps}, {row.total_steps} steps: {_written(value, interval, figure.unit)}"
        for row, value, interval in zip(rows, values, intervals, strict=True)
        if value is not None
    )
    places = tuple(row.total_steps for row in rows)
    axis = f"steps from image to answer, at T = {_listed([row.timesteps for row in rows])}"
    drawing = Curves(places, (Curve(values, intervals),), tuple(levels), axis, from_zero=not figure.unit, doubling=True)
    label = f"{trend.title}, against all steps from image to answer. {words}"
    return Plot(trend.title, drawing, label, tuple(keys))


def _listed(timesteps: Sequence[int]) -> str:
    few = len(timesteps) <= _FEW
    return ", ".join(map(str, timesteps)) if few else f"{timesteps[0]} to {timesteps[-1]}"


def _limits(figure: Figure, trend: Trend, gates: Sequence[Gate], trained: float | None) -> Iterator[float]:
    """Yield where the limits are in a plot."""
    for gate in gates:
        held = figure_of(gate)
        if held == figure:
            yield gate.limit
        elif held is not None and held.name in trend.lowered_by and trained is not None:
            yield trained - gate.limit * (trained / 100 if held.unit == "%" else 1)


def _written(value: float, interval: Interval | None, unit: str) -> str:
    return written(value, unit) if interval is None else f"{written(value, unit)} ({span(interval, unit)})"
