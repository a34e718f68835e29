"""What comes of stopping each sample when its answer is certain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Bar, Bars, Block, Cell, Column, Fact, Facts, Fold, Plot, Table, Text
from snnc.figure import EarlyExit
from snnc.intervals import Interval
from snnc.report.data import Report
from snnc.report.sections import Section, sections
from snnc.text import counted, exact, fixed, number, signed, span, written


@sections.register("exit")
@dataclass(frozen=True)
class ExitSection(Section):
    """Mean steps against what answers are worth, and when samples stop."""

    title: ClassVar[str] = "Answering early"
    order: ClassVar[int] = 34
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the figures, when samples stop, and the limits of the margin."""
        rows = () if report.evaluation is None else report.evaluation.rows
        row = next((row for row in rows if row.exit is not None), None)
        if row is None or row.exit is None:
            return
        yield Facts(tuple(_facts(row.exit, row.timesteps)))
        yield Text(f"samples stopped after step: {_stopped(row.exit)}", only=("lines",))
        yield _compared(row.exit, row.exit_beside or ())
        yield _plot(row.exit)
        yield Fold("Limits of the margin", (_table(row.exit),), only=("page",))


def _facts(found: EarlyExit, timesteps: int) -> Iterator[Fact]:
    whole = f"of {counted(found.steps[-1], 'step')} at T={timesteps}"
    yield Fact("Mean steps", number(found.mean_steps), _with(whole, found.mean_steps_interval))
    drop = "" if found.drop is None else f", drop {signed(found.drop, 'points')} points"
    compared = f"whole run {written(found.merit_whole, '%')} %{drop}"
    known = found.merit_interval if found.drop is None else found.drop_interval
    name = found.measures.capitalize()
    yield Fact(name, f"{written(found.merit, '%')} %", _with(compared, known, "%"))
    if found.agreement is not None and found.measures != "agreement":
        trained = _with("with the trained network", found.agreement_interval, "%")
        yield Fact("Agreement", f"{written(found.agreement, '%')} %", trained)
    settled = _with("answers as those of the whole run", found.settled_interval, "%")
    yield Fact("Same answers", f"{written(found.settled, '%')} %", settled)
    until = _with(f"until then, whole run {number(found.spikes_whole)}", found.spikes_interval)
    yield Fact("Spikes", number(found.spikes), until)
    rule = found.rule
    made = f"limits from {counted(rule.samples, 'sample')} of {rule.source}, without labels"
    judged = f"judged on {found.samples:,} others"
    yield Fact("Confidence", exact(rule.confidence), f"{made}; {judged}")


def _with(words: str, interval: Interval | None, unit: str = "") -> str:
    return words if interval is None else f"{words}; 95 % interval {span(interval, unit)}"


def _stopped(found: EarlyExit) -> str:
    pairs = zip(found.steps, found.stopped, strict=True)
    return ", ".join(f"{step}: {_share(count, found)}" for step, count in pairs if count)


def _share(count: int, found: EarlyExit) -> str:
    return f"{fixed(100 * count / found.samples)} %"


def _plot(found: EarlyExit) -> Plot:
    shares = [100 * count / found.samples for count in found.stopped]
    bars = Bars(
        tuple(Bar(f"step {step}", (share,)) for step, share in zip(found.steps, shares, strict=True)),
        ("spiking",),
        "% of samples",
    )
    title = "Samples that stop after each step from image to answer"
    return Plot(title, bars, f"{title}: {_stopped(found)}")


def _compared(found: EarlyExit, others: Sequence[EarlyExit]) -> Table:
    steps = Column("mean steps", bracketed=True)
    return Table.of(
        "Mean steps against what answers are worth, by confidence",
        [
            (Column("confidence"), lambda stop: exact(stop.rule.confidence)),
            (steps, lambda stop: Cell.of(stop.mean_steps, stop.mean_steps_interval)),
            (Column(f"{found.measures}, %", short=f"{found.measures} %"), lambda stop: Cell.of(stop.merit, unit="%")),
            (_DROP, lambda stop: Cell.of(stop.drop, stop.drop_interval, "points")),
            (_AGREEMENT, lambda stop: Cell.of(stop.agreement, stop.agreement_interval, "%")),
            (_SAME, lambda stop: Cell.of(stop.settled, stop.settled_interval, "%")),
            (Column("spikes"), lambda stop: Cell.of(stop.spikes, stop.spikes_interval)),
        ],
        sorted([found, *others], key=lambda stop: stop.rule.confidence),
    )


_DROP = Column("drop to the whole run, points", short="drop", bracketed=True)
_AGREEMENT = Column("agreement with the trained network, %", short="agree %")
_SAME = Column("same answers as the whole run, %", short="same %")


def _table(found: EarlyExit) -> Table:
    # Before the steps that count nothing stops, and after the last everything does.
    limits = found.rule.limits[-len(found.steps) :] if len(found.steps) < len(found.rule.limits) else found.rule.limits
    rows = [*zip(found.steps, limits, found.stopped, strict=True)]
    return Table.of(
        "The margin with which an answer is certain, by steps from image to answer",
        [
            (Column("steps"), lambda row: str(row[0])),
            (Column("least margin"), lambda row: Cell.of(row[1])),
            (Column("samples that stop"), lambda row: str(row[2])),
            (Column("share"), lambda row: _share(row[2], found)),
        ],
        rows,
    )
