"""What a network does that goes on from frame to frame, beside one that starts anew at every frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import UNKNOWN, Block, Cell, Column, Fact, Facts, Table, Text
from snnc.intervals import Interval
from snnc.measure.stream import StreamLayer, Streams
from snnc.report.data import Report
from snnc.report.sections import Section, sections
from snnc.text import counted, exact, fixed, number, span, written


@sections.register("stream")
@dataclass(frozen=True)
class StreamSection(Section):
    """Events per frame, agreement with a restart at every frame, and the score of both."""

    title: ClassVar[str] = "From frame to frame"
    label: ClassVar[str] = "Stream"
    order: ClassVar[int] = 36
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the figures, and the events of every layer, where frames were followed."""
        found = None if report.evaluation is None else report.evaluation.stream
        if found is None:
            return
        shown = f"{counted(found.frames, 'frame')} of {counted(found.streams, 'stream')}"
        yield Text(f"{shown}, each {_seen(found)}; {_exactness(found)}.")
        yield Facts(tuple(_facts(found)), "key")
        yield _table(found)


def _seen(found: Streams) -> str:
    seen = "seen alone" if found.window == 1 else f"seen as the mean of the last {found.window}"
    leaky = f" in a leaky mean, into which it goes by {exact(found.leak)}" if found.leak < 1 else ""
    return f"{seen}{leaky}" + (f", anew every {counted(found.refresh, 'frame')}" if found.refresh else "")


def _exactness(found: Streams) -> str:
    if found.at_once:
        return "events reach any level at once, so that answers are a restart's, up to rounding"
    return "events do not reach every level at once: what changed by more is caught up with later"


def _facts(found: Streams) -> Iterator[Fact]:
    of = "" if found.ratio_interval is None else span(found.ratio_interval)
    ratio = UNKNOWN if found.ratio is None else number(found.ratio)
    yield Fact("events per frame, of a restart's", ratio, of, found.ratio is not None)
    if found.agreement is not None:
        yield Fact("agreement with a restart", f"{written(found.agreement, '%')} %", _between(found.agreement_interval))
    if found.trained_agreement is not None:
        interval = _between(found.trained_agreement_interval)
        yield Fact("agreement with the trained network", f"{written(found.trained_agreement, '%')} %", interval)
    yield Fact("relative error of the outputs to a restart's", number(found.error))
    if found.scored is not None and found.restart_scored is not None:
        beside = f"a restart at every frame has {written(found.restart_scored, '%')} %"
        if found.trained_scored is not None:
            beside += f", the trained network {written(found.trained_scored, '%')} %"
        yield Fact(f"{found.score} of the frames", f"{written(found.scored, '%')} %", beside)


def _between(interval: Interval | None) -> str:
    return "" if interval is None else span(interval, "%")


def _table(found: Streams) -> Table:
    whole = StreamLayer("all layers", found.events, found.restart_events)
    added = StreamLayer("additions that they cause", found.operations, found.restart_operations)
    return Table.of(
        "Events per frame",
        [
            (Column("layer", "layer", short="events per frame"), lambda layer: layer.name),
            (Column("going on"), lambda layer: Cell.of(layer.events)),
            (Column("starting anew", short="anew"), lambda layer: Cell.of(layer.restart_events)),
            (Column("ratio"), _ratio),
        ],
        [*found.layers, whole, added],
    )


def _ratio(layer: StreamLayer) -> str | None:
    return fixed(layer.events / layer.restart_events, 3) if layer.restart_events else None
