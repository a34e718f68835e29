"""What the answers are, class by class and on samples that are worth a look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from snnc.blocks import Block, Cell, Column, Fold, Panel, Pictures, Room, Table, Text
from snnc.figure import Mark, Picture, Row
from snnc.measure.figures import unit_of
from snnc.report.data import Report
from snnc.report.sections import Section, sections
from snnc.text import fixed

# So many have room at a terminal.
_FEW = 8


@sections.register("answers")
@dataclass(frozen=True)
class AnswersSection(Section):
    """Scores of single classes, numbers, labels or outputs, and pictures of the worst and of typical samples."""

    title: ClassVar[str] = "Answers"
    order: ClassVar[int] = 35
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the table and the pictures."""
        row, evaluation = report.headline, report.evaluation
        if row is None or evaluation is None:
            return
        parts = {name: score.value for name, score in row.scores.items() if "/" in name}
        if parts:
            yield Fold("One by one", (_one_by_one(parts, row),), only=("page",))
            if len({name.split("/", 1)[1] for name in parts}) <= _FEW:
                yield _one_by_one(parts, row, only=("lines",))
        if evaluation.pictures:
            words = f"The worst samples and typical ones, with the {evaluation.judged_by.answer_name} on them."
            yield Text(words, only=("page",))
        for index, picture in enumerate(evaluation.pictures, 1):
            yield Pictures(
                _title(picture), f"picture-{index}", picture.jpeg, picture.size, tuple(_panels(picture)), only=("page",)
            )


def _one_by_one(parts: Mapping[str, float], row: Row, *, only: tuple[Room, ...] = ()) -> Table:
    """Return the table of scores that are called KIND/PART."""
    kinds, classes = (dict.fromkeys(name.split("/", 1)[side] for name in parts) for side in (0, 1))

    def cell(kind: str, name: str) -> Cell | None:
        return Cell.of(parts.get(f"{kind}/{name}"), unit=unit_of(kind))

    columns = [(Column(", ".join(filter(None, (kind, unit_of(kind))))), partial(cell, kind)) for kind in kinds]
    names = (Column("of", "code"), lambda name: name)
    return Table.of(f"Scores one by one, T={row.timesteps}", [names, *columns], [*classes], only=only)


def _title(picture: Picture) -> str:
    return f"{picture.name}: {picture.about}, loss {fixed(picture.loss, 2)}"


def _panels(picture: Picture) -> Iterator[Panel]:
    for caption, marks in (
        ("labels", picture.true),
        ("trained network", picture.trained),
        ("spiking network", picture.spiking),
    ):
        if marks or caption == "spiking network":
            yield Panel(caption, tuple(map(_box, marks)))


def _box(mark: Mark) -> tuple[float, float, float, float, str]:
    return mark.left, mark.top, mark.right, mark.bottom, mark.words
