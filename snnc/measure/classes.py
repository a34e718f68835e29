"""Answers class by class, and those that a conversion changed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from snnc.data.dataset import Dataset
from snnc.figure import ChangedAnswer, ClassAnswers, ClassReport

# So many answers that changed are kept as examples, so many answers that a class is taken for, and as many pixels wide.
_EXAMPLES, _OTHERS, _SIDE = 24, 3, 96


def by_class(
    timesteps: int, spiking: Tensor, trained: Tensor | None, truth: Tensor | None, names: Mapping[int, str]
) -> ClassReport | None:
    """Compare the classes that both networks answer with, ``[N]``; None where there is nothing to compare with."""
    true = trained if truth is None else truth
    if true is None:
        return None
    answers: dict[int, Counter[int]] = {}
    for wanted, given in zip(true.tolist(), spiking.tolist(), strict=True):
        answers.setdefault(wanted, Counter())[given] += 1
    known = None if trained is None or truth is None else Counter(truth[trained == truth].tolist())
    classes = tuple(
        ClassAnswers(
            name=_named(number, names),
            samples=given.total(),
            trained=None if known is None else known[number],
            spiking=given[number],
            taken_for=tuple((_named(other, names), count) for other, count in _others(given, number)),
        )
        for number, given in sorted(answers.items())
    )
    if trained is None:
        return ClassReport(timesteps, classes, None, ())
    changed = (spiking != trained).nonzero()[:, 0].tolist()
    lost_first = changed if truth is None else sorted(changed, key=lambda at: bool(trained[at] != truth[at]))
    examples = tuple(
        ChangedAnswer(
            number=at,
            name="",
            true=None if truth is None else _named(int(truth[at]), names),
            trained=_named(int(trained[at]), names),
            spiking=_named(int(spiking[at]), names),
        )
        for at in lost_first[:_EXAMPLES]
    )
    return ClassReport(timesteps, classes, len(changed), examples)


def pictured(found: ClassReport, dataset: Dataset, *, images: bool) -> ClassReport:
    """Return it with the names of its examples in the data and, where ``images`` are wanted, small ones of them."""

    def looked_up(example: ChangedAnswer) -> ChangedAnswer:
        jpeg, _ = (dataset.jpeg(example.number, _SIDE) if images else None) or ("", ())
        return replace(example, name=dataset.name(example.number), jpeg=jpeg)

    return replace(found, examples=tuple(map(looked_up, found.examples)))


def _others(given: Counter[int], number: int) -> list[tuple[int, int]]:
    others = [(other, count) for other, count in given.items() if other != number]
    return sorted(others, key=lambda pair: (-pair[1], pair[0]))[:_OTHERS]


def _named(number: int, names: Mapping[int, str]) -> str:
    return names.get(number, str(number))
