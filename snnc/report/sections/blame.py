"""Which layers the loss comes from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Bar, Bars, Block, Cell, Column, Fold, Missing, Plot, Room, SideBySide, Table, Text
from snnc.figure import Blame, Row
from snnc.report.data import Report
from snnc.report.sections import CONVERT, EVALUATE, Section, sections
from snnc.text import fixed, written

# So many layers are enough to know where to look.
_WORST = 5


@sections.register("blame")
@dataclass(frozen=True)
class BlameSection(Section):
    """What every layer adds to the loss."""

    title: ClassVar[str] = "Where the loss comes from"
    label: ClassVar[str] = "Blame"
    order: ClassVar[int] = 50
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the blame at the number of steps that the report is about, then at the others."""
        rows = () if report.evaluation is None else report.evaluation.rows
        blamed = sorted((row for row in rows if row.blame), key=lambda row: row != report.headline)
        if not blamed or report.evaluation is None:
            what = "Which layers the loss comes from was not measured."
            yield Missing(what, CONVERT if report.stripped else f"{EVALUATE} --blame")
            return
        first, *others = blamed
        task = report.evaluation.judged_by
        yield Text(
            f"Layers were switched from trained to spiking one after the other, in random orders, over "
            f"{first.blame_images:,} images; each is charged with {task.charged}. Points add up to the whole "
            f"loss of {task.loss(report.evaluation.labeled).measures}.",
            only=("page",),
        )
        yield SideBySide((_plot(first), _table(first)), only=("page",))
        for row in others:
            yield Fold(f"At T={row.timesteps}", (_table(row),), only=("page",))
        yield _table(first, _WORST, only=("card",))
        for row in blamed:
            yield _table(row, only=("lines",))
        yield Text(f"points of the loss that enter at each layer, on {first.blame_images:,} images", only=("lines",))


def _table(row: Row, most: int | None = None, *, only: tuple[Room, ...] = ()) -> Table:
    return Table.of(
        f"Points of the loss that enter at every layer, T={row.timesteps}",
        [
            (Column("layer", "layer", short=f"blame at T={row.timesteps}"), lambda blame: blame.name),
            (Column("points", bracketed=True), lambda blame: Cell.of(blame.points, blame.interval, "points")),
            (Column("share of the loss, %", short="share %"), _share),
        ],
        _worst_first(row)[:most],
        only=only,
    )


def _worst_first(row: Row) -> tuple[Blame, ...]:
    return tuple(sorted(row.blame or (), key=lambda blame: -blame.points))


def _share(blame: Blame) -> str | None:
    return None if blame.share is None else fixed(100 * blame.share)


def _plot(row: Row) -> Plot:
    blamed = _worst_first(row)
    words = "; ".join(f"{blame.name} {written(blame.points, 'points')}" for blame in blamed)
    bars = Bars(tuple(Bar(blame.name, (blame.points,), blame.interval) for blame in blamed), ("spiking",), "points")
    return Plot(
        f"Points of the loss by layer, T={row.timesteps}",
        bars,
        f"Points of the loss that enter at every layer: {words}",
        note="Thin lines are 95 % intervals.",
    )
