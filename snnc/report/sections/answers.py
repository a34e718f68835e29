"""What the answers are, class by class and on samples that are worth a look."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from snnc.blocks import Block, Cell, Column, Fold, Gallery, Panel, Pictures, Room, Table, Text, Thumbnail
from snnc.figure import ChangedAnswer, ClassReport, Mark, Picture, Row
from snnc.measure.figures import unit_of
from snnc.report.data import Report
from snnc.report.sections import Section, sections
from snnc.text import fixed

# So many have room at a terminal.
_FEW = 8
# More classes have a table that few read.
_MANY = 20


@sections.register("answers")
@dataclass(frozen=True)
class AnswersSection(Section):
    """What changed, scores of single classes, numbers, labels or outputs, and pictures of samples."""

    title: ClassVar[str] = "Answers"
    order: ClassVar[int] = 35
    evaluated: ClassVar[bool] = True

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the table and the pictures."""
        row, evaluation = report.headline, report.evaluation
        if row is None or evaluation is None:
            return
        if evaluation.by_class is not None:
            yield from _by_class(evaluation.by_class, labeled=evaluation.labeled, draws=row.repeats)
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


def _by_class(found: ClassReport, *, labeled: bool, draws: int) -> Iterator[Block]:
    """Yield the answers that changed, then every class: of several draws in the first."""
    samples = sum(one.samples for one in found.classes)
    if found.changed is not None:
        many = f"{found.changed:,} of {samples:,}" if found.changed else "none"
        first = f", in the first of {draws} draws" if draws > 1 else ""
        yield Text(f"Answers that are not the trained network's at T={found.timesteps}{first}: {many}.")
    shown = tuple(example for example in found.examples if example.jpeg)
    if shown:
        title = f"{_of(shown, found)}: trained network → spiking network"
        pictures = tuple(Thumbnail(example.name, tuple(_told(example)), example.jpeg) for example in shown)
        yield Gallery(title, pictures, only=("page",))
    elif found.examples:
        yield _changed(found, found.examples, only=("page",))
    if found.examples:
        yield _changed(found, found.examples[:_FEW], only=("card", "lines"))
    table = _classes(found, labeled)
    yield table if len(found.classes) <= _MANY else Fold("Class by class", (table,), only=("page",))


def _of(shown: Sequence[ChangedAnswer], found: ClassReport) -> str:
    return f"All {len(shown)}" if len(shown) == found.changed else f"{len(shown)} of {found.changed:,}"


def _told(example: ChangedAnswer) -> Iterator[str]:
    yield f"{example.trained} → {example.spiking}"
    if example.true is not None:
        right = {example.trained: "lost", example.spiking: "won"}.get(example.true, "both wrong")
        yield f"label {example.true}, {right}"


def _changed(found: ClassReport, examples: Sequence[ChangedAnswer], *, only: tuple[Room, ...]) -> Table:
    return Table.of(
        f"{_of(examples, found)} answers that changed",
        [
            (Column("sample", "code", short="changed"), lambda example: example.name),
            (Column("trained network", "code", short="trained"), lambda example: example.trained),
            (Column("spiking network", "code", short="spiking"), lambda example: example.spiking),
            (Column("label", "code"), lambda example: example.true),
        ],
        examples,
        only=only,
    )


def _classes(found: ClassReport, labeled: bool) -> Table:
    title = "class" if labeled else "trained network's answer"
    return Table.of(
        f"Classes and what they are taken for, T={found.timesteps}",
        [
            (Column(title, "code"), lambda one: one.name),
            (Column("samples"), lambda one: f"{one.samples:,}"),
            (Column("trained network, %"), lambda one: _share(one.trained, one.samples)),
            (Column("spiking network, %"), lambda one: _share(one.spiking, one.samples)),
            (
                Column("lost, points", about="what the trained network knows more of"),
                lambda one: None if one.trained is None else fixed(100 * (one.trained - one.spiking) / one.samples),
            ),
            (
                Column("taken for", "words", about="other answers of the spiking network, and how often"),
                lambda one: ", ".join(f"{name} ({count:,})" for name, count in one.taken_for) or None,
            ),
        ],
        found.classes,
        only=("page",),
        sorts=True,
    )


def _share(known: int | None, samples: int) -> str | None:
    return None if known is None else fixed(100 * known / samples)


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
