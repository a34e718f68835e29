"""What answers are worth after every step from image to answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Block, Cell, Color, Column, Curve, Curves, Fold, Key, Missing, Plot, Table, Text
from snnc.figure import Ledger, Moment
from snnc.report.data import Report
from snnc.report.sections import EVALUATE, Section, sections
from snnc.text import counted, written

# So many steps are told where there is little room.
_FEW = 9


@sections.register("ledger")
@dataclass(frozen=True)
class LedgerSection(Section):
    """The score after every step, at the number of time steps that the report is about."""

    title: ClassVar[str] = "From image to answer"
    label: ClassVar[str] = "Step by step"
    order: ClassVar[int] = 32
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the first steps that are as good, the curve, and the table."""
        row = report.headline
        if row is None:
            yield Missing("What answers are worth after every step was not measured.", EVALUATE)
        if row is None or row.ledger is None:
            return
        ledger = row.ledger
        yield Text(f"T={row.timesteps}: {_reached(ledger)}", only=("page", "card"))
        told = ", ".join(f"{moment.steps}: {written(moment.merit, '%')}" for moment in _some(ledger.moments))
        yield Text(f"{ledger.measures} % by steps from image to answer at T={row.timesteps}: {told}", only=("lines",))
        yield Text(_reached(ledger), only=("lines",))
        if len(ledger.moments) > 1:
            yield _plot(ledger)
            yield Fold("Every step", (_table(ledger),), only=("page",))


def _reached(ledger: Ledger) -> str:
    end = ledger.moments[-1].steps
    parts = [f"within 1 point of the whole run after {counted(ledger.within_end or end, 'step')} of {end}"]
    if ledger.trained is not None:
        network = f"of the trained network ({written(ledger.trained, '%')} %)"
        never = ledger.within_trained is None
        parts.append(f"{network} {'after none' if never else f'after {ledger.within_trained}'}")
    return f"{ledger.measures}: {', '.join(parts)}"


def _some(moments: Sequence[Moment]) -> Sequence[Moment]:
    """Return all moments, or of many the first and more and more rarely others, the last among them."""
    if len(moments) <= _FEW:
        return moments
    places = {round(len(moments) ** (part / (_FEW - 1))) - 1 for part in range(_FEW)}
    return [moments[place] for place in sorted(places)]


def _plot(ledger: Ledger) -> Plot:
    moments = ledger.moments
    curve = Curve(tuple(moment.merit for moment in moments), tuple(moment.interval for moment in moments))
    levels: list[tuple[float, Color]] = [] if ledger.trained is None else [(ledger.trained, "trained")]
    keys = [Key("spiking", "spiking network"), *(Key("trained", "trained network") for _ in levels)]
    words = "; ".join(f"step {moment.steps}: {written(moment.merit, '%')}" for moment in moments)
    title = f"{ledger.measures.capitalize()}, %, after every step from image to answer"
    places = tuple(moment.steps for moment in moments)
    return Plot(title, Curves(places, (curve,), tuple(levels), "steps"), f"{title}. {words}", tuple(keys))


def _table(ledger: Ledger) -> Table:
    return Table.of(
        f"{ledger.measures} after every step from image to answer",
        [
            (Column("steps"), lambda moment: str(moment.steps)),
            (Column(f"{ledger.measures}, %"), lambda moment: Cell.of(moment.merit, moment.interval, "%")),
            (Column("agreement with the trained network, %"), lambda moment: Cell.of(moment.agreement, unit="%")),
            (Column("as after the last step, %"), lambda moment: Cell.of(moment.settled, unit="%")),
        ],
        ledger.moments,
    )
