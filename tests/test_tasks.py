"""Tasks: what an answer is and how good it is; laws over every registered one."""

import math

import pytest
import torch
from torch import Tensor

from snnc import intervals
from snnc.errors import UsageError
from snnc.figure import Row
from snnc.tasks import seeming, tasks
from snnc.tasks.classification import Classification
from snnc.tasks.values import Values
from tests.support import normal

FIELDS = set(Row.__dataclass_fields__)


def outputs(seed: int, samples: int = 50) -> list[Tensor]:
    return [normal(samples, 5, seed=seed), normal(samples, 2, 3, seed=seed + 100)]


def truth(name: str, samples: int = 50) -> Tensor:
    """Labels of the kind that a task takes."""
    if tasks[name].labels == "classes":
        return torch.arange(samples) % 5
    return torch.cat([output.flatten(1) for output in outputs(9, samples)], 1)


@pytest.mark.parametrize("name", tasks)
def test_what_is_measured_does_not_depend_on_chunks(name: str) -> None:
    task = tasks[name]()
    answers, trained, labels = task.answers(outputs(0)), task.answers(outputs(1)), truth(name)
    whole = task.measured(task.outcomes(answers, trained, labels))
    parts = [
        task.outcomes(answers[low:high], trained[low:high], labels[low:high])
        for low, high in ((0, 1), (1, 20), (20, 50))
    ]
    assert task.measured(torch.cat(parts)) == whole
    split = torch.cat([task.answers([o[:20] for o in outputs(0)]), task.answers([o[20:] for o in outputs(0)])])
    assert torch.equal(split, answers)


@pytest.mark.parametrize("name", tasks)
def test_figures_are_fields_of_a_row_whatever_is_known(name: str) -> None:
    task = tasks[name]()
    answers, trained, labels = task.answers(outputs(0)), task.answers(outputs(1)), truth(name)
    for given in ((trained, labels), (trained, None), (None, labels), (None, None)):
        measured = task.measured(task.outcomes(answers, *given))
        assert set(measured) <= FIELDS
        numbers = [value for value in measured.values() if isinstance(value, float)]
        numbers += [score.value for score in measured.get("scores", {}).values()]
        assert all(map(math.isfinite, numbers))
        assert bool(numbers) == (given != (None, None))


@pytest.mark.parametrize("name", tasks)
def test_the_right_answer_loses_nothing_and_no_answer_more_than_one(name: str) -> None:
    task = tasks[name]()
    answers, others = task.answers(outputs(0)), task.answers(outputs(1))
    assert not task.losses(answers, answers).any()
    losses = task.losses(answers, others)
    assert losses.shape == (50,) and losses.min() >= 0 and 0 < losses.max() <= 1
    agreeing = task.agreeing(answers, answers), task.agreeing(answers, others)
    assert agreeing == (None, None) or (agreeing[0] == 50 and agreeing[1] < 50)


@pytest.mark.parametrize("name", tasks)
def test_training_lessens_the_loss(name: str) -> None:
    task, labels = tasks[name](), truth(name)
    scores = [output.requires_grad_() for output in outputs(0)]
    task.training_loss(scores, labels).backward()
    moved = [o - 0.1 * (o.grad if o.grad is not None else 0) for o in scores]
    assert task.training_loss(moved, labels) < task.training_loss(scores, labels)


def test_a_single_value_decides_between_two() -> None:
    task = Classification()
    assert task.answers([torch.tensor([[-1.0], [0.0], [2.0]])]).tolist() == [0, 0, 1]
    assert task.scores([torch.tensor([[2.0]])]).tolist() == [[0, 2]]


def test_classification_counts_who_is_right_where() -> None:
    task = Classification()
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    trained = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0])
    found = torch.tensor([0, 0, 1, 1, 1, 1, 1, 0])
    outcomes = task.outcomes(found, trained, labels)
    measured = task.measured(outcomes)
    assert measured["accuracy"] == 100 * 5 / 8 == task.reference(outcomes)["accuracy"]
    assert measured["agreement"] == 75
    assert (measured["lost"], measured["won"], measured["drop"]) == (12.5, 12.5, 0)
    assert measured["drop_interval"] == intervals.paired(1, 1, 8)
    assert measured["relative_drop_interval"] == intervals.relative(4, 1, 1, 8)
    assert task.reference(task.outcomes(found, trained, None)) == {}


def test_values_are_compared_as_numbers() -> None:
    task = Values()
    trained = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    found = torch.tensor([[3.0, 3.0], [0.0, 2.0]])
    scores = task.measured(task.outcomes(found, trained, trained * 0 + 1))["scores"]
    assert scores["relative-error"].value == pytest.approx(math.sqrt(2 / 26))
    assert scores["largest-deviation"].value == 1
    assert scores["cosine"].value == pytest.approx((21 / (5 * math.sqrt(18)) + 1) / 2)
    assert scores["label-error"].value == pytest.approx(math.sqrt((4 + 4 + 1 + 1) / 4))


def test_values_of_nothing_are_no_division_by_zero() -> None:
    task, nothing = Values(), torch.zeros(2, 3)
    scores = task.measured(task.outcomes(nothing, nothing, None))["scores"]
    assert scores["relative-error"].value == 0
    scores = task.measured(task.outcomes(nothing + 1, nothing, None))["scores"]
    assert scores["relative-error"].value == 1


def test_a_network_that_states_no_task_seems_to_have_one() -> None:
    for outputs_, labels, name in (
        ([(10,)], (), "classification"),
        ([(1,)], (), "classification"),
        ([(10, 4, 4)], (), "values"),
        ([(10, 4, 4)], ("classes",), "classification"),
        ([(10,), (4,)], (), "values"),
        ([(10,), (4,)], ("classes",), "classification"),
        ([()], (), "values"),
    ):
        assert type(seeming(outputs_, labels)) is tasks[name]


def test_an_unknown_task_is_an_error_with_a_hint() -> None:
    with pytest.raises(UsageError, match="unknown task 'clasification'") as caught:
        tasks["clasification"]
    assert "classification" in caught.value.hint
