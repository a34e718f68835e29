"""Samples that are worth a look: the worst, and typical ones."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from snnc.conversion import Conversion
from snnc.data.dataset import Dataset
from snnc.feeds import Feeds
from snnc.figure import Picture
from snnc.ir import Graph
from snnc.run import ONCE, Program
from snnc.schedule import Schedule
from snnc.tasks import Answers, Task

# So many of each kind, and as wide or high at most.
_EACH, _SIDE = 3, 320

# The number of a sample, and why it is shown.
Example = tuple[int, Literal["worst", "typical"]]


def examples(losses: Tensor | None) -> tuple[Example, ...]:
    """Return the numbers of the samples with the largest losses, and of those in the middle of all."""
    if losses is None:
        return ()
    order = losses.argsort(descending=True, stable=True).tolist()
    middle = max(_EACH, (len(order) - _EACH) // 2)
    worst: list[Example] = [(number, "worst") for number in order[:_EACH]]
    return (*worst, *((number, "typical") for number in order[middle : middle + _EACH]))


def pictures(
    conversion: Conversion,
    dataset: Dataset,
    task: Task,
    schedule: Schedule,
    chosen: Sequence[Example],
    seed: int = 0,
) -> tuple[Picture, ...]:
    """Return the pictures of some samples of a dataset, with what both networks find on them."""
    found = []
    labels = dataset.labels(task.labels)
    for number, about in chosen:
        picture = dataset.jpeg(number, _SIDE)
        if picture is None:
            return ()
        feeds = Feeds({name: values.unsqueeze(0) for name, values in dataset.sample(number).items()})
        spiking = _answer(conversion.snn, schedule, task, feeds, seed)
        trained = None if conversion.reference is None else _answer(conversion.reference, ONCE, task, feeds, seed)
        true = None if labels is None else labels.answers[number : number + 1]
        # The worst are those that are furthest from the trained network where there is one.
        beside = spiking if true is None else true
        found.append(
            Picture(
                dataset.name(number),
                about,
                float(task.losses(spiking, beside if trained is None else trained)[0]),
                *picture,
                *(() if answer is None else task.marks(answer[0]) for answer in (true, trained, spiking)),
            )
        )
    return tuple(found)


def _answer(graph: Graph, schedule: Schedule, task: Task, feeds: Feeds, seed: int) -> Answers:
    program = Program(graph, schedule, want=task.judged(graph.outputs))
    signals = program(feeds, generator=torch.Generator().manual_seed(seed))
    return task.answers([signals[name][0] for name in program.want])
