"""Tasks: what an answer is and how good it is; laws over every registered one."""

import dataclasses
import html
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snnc import cli, intervals
from snnc.artifact import load_conversion, save_conversion
from snnc.errors import UsageError
from snnc.export.onnx import onnx_model
from snnc.figure import Energy, Row
from snnc.tasks import Answers, Task, joined, tasks
from snnc.tasks.classification import Classification
from snnc.tasks.detection import Detection
from snnc.tasks.task import seeming
from snnc.tasks.values import Values
from tests.support import Network, normal, relu

FIELDS = set(Row.__dataclass_fields__)


def rows(seed: int, samples: int) -> list[Tensor]:
    """Outputs of a network without any meaning."""
    return [normal(samples, 5, seed=seed), normal(samples, 2, 3, seed=seed + 100)]


def spread(*shape: int, low: float, high: float, seed: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def boxes(seed: int, samples: int) -> list[Tensor]:
    """Boxes as a detector writes them, of 3 classes, 12 in each image."""
    corner = spread(samples, 12, 2, low=0, high=40, seed=seed)
    size = spread(samples, 12, 2, low=5, high=20, seed=seed + 100)
    scores = spread(samples, 12, 1, low=0.3, high=1, seed=seed + 200)
    classes = spread(samples, 12, 1, low=0, high=3, seed=seed + 300).floor()
    return [torch.cat([corner, corner + size, scores, classes], 2)]


@dataclass(frozen=True)
class Case:
    """A task with outputs that it can judge, by a seed, and labels of its kind."""

    task: Task
    outputs: Callable[[int, int], list[Tensor]] = rows
    truth: Callable[[int], Answers] = lambda samples: torch.arange(samples) % 5


def drawn_boxes(samples: int) -> list[Tensor]:
    task = Detection(layout="decoded", size=(64, 64))
    return [torch.cat([found[:5, :5], torch.ones(5, 1)], 1) for found in task.answers(boxes(9, samples))]


CASES = {
    "classification": Case(Classification()),
    "detection": Case(Detection(layout="decoded", size=(64, 64)), boxes, drawn_boxes),
    "values": Case(Values(), rows, lambda samples: torch.cat([o.flatten(1) for o in rows(9, samples)], 1)),
}


def case(name: str) -> tuple[Task, Callable[[int], list[Tensor]], Answers]:
    """The task, 50 outputs of a seed, and their labels."""
    if tasks[name].labels == "boxes":
        pytest.importorskip("pycocotools")
    found = CASES[name]
    return found.task, lambda seed: found.outputs(seed, 50), found.truth(50)


def alike(one: Answers, other: Answers) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", tasks)
def test_what_is_measured_does_not_depend_on_chunks(name: str) -> None:
    task, outputs, labels = case(name)
    answers, trained = task.answers(outputs(0)), task.answers(outputs(1))
    whole = task.measured(task.outcomes(answers, trained, labels))
    parts = [
        task.outcomes(answers[low:high], trained[low:high], labels[low:high])
        for low, high in ((0, 1), (1, 20), (20, 50))
    ]
    assert task.measured(joined(parts)) == whole
    split = joined([task.answers([o[:20] for o in outputs(0)]), task.answers([o[20:] for o in outputs(0)])])
    assert alike(split, answers)


@pytest.mark.parametrize("name", tasks)
def test_figures_are_fields_of_a_row_whatever_is_known(name: str) -> None:
    task, outputs, labels = case(name)
    answers, trained = task.answers(outputs(0)), task.answers(outputs(1))
    for given in ((trained, labels), (trained, None), (None, labels), (None, None)):
        measured = task.measured(task.outcomes(answers, *given))
        assert set(measured) <= FIELDS
        numbers = [value for value in measured.values() if isinstance(value, float)]
        numbers += [score.value for score in measured.get("scores", {}).values()]
        assert all(map(math.isfinite, numbers))
        assert bool(numbers) == (given != (None, None))


@pytest.mark.parametrize("name", tasks)
def test_the_right_answer_loses_nothing_and_no_answer_more_than_one(name: str) -> None:
    task, outputs, _ = case(name)
    answers, others = task.answers(outputs(0)), task.answers(outputs(1))
    assert not task.losses(answers, answers).any()
    losses = task.losses(answers, others)
    assert losses.shape == (50,) and losses.min() >= 0 and 0 < losses.max() <= 1
    agreeing = task.agreeing(answers, answers), task.agreeing(answers, others)
    assert agreeing == (None, None) or (agreeing[0] == 50 and agreeing[1] < 50)
    row = bare(**task.measured(task.outcomes(answers, answers, None)))
    lost = task.lost(row)
    assert lost is not None and lost[0] == pytest.approx(0)


@pytest.mark.parametrize("name", tasks)
def test_training_lessens_the_loss(name: str) -> None:
    task, outputs, labels = case(name)
    if type(task).training_loss is Task.training_loss:
        with pytest.raises(NotImplementedError):
            task.training_loss(outputs(0), labels)
        return
    scores = [output.requires_grad_() for output in outputs(0)]
    task.training_loss(scores, labels).backward()
    moved = [o - 0.1 * (o.grad if o.grad is not None else 0) for o in scores]
    assert task.training_loss(moved, labels) < task.training_loss(scores, labels)


def bare(**measured: Any) -> Row:
    """A row that says nothing but what a task measured."""
    cost = Energy(0, 0, 0, 0, 0, 1, 0, 0, None, 0, None, None)
    return Row(
        timesteps=1,
        sleep=0,
        sleep_used=0,
        total_steps=1,
        repeats=1,
        spikes=0,
        spikes_interval=None,
        synaptic_operations=0,
        energy=cost,
        energy_ratio_interval=None,
        **measured,
    )


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


# From the command line.


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted network whose output is a map of numbers, and arrays without labels."""
    folder = tmp_path_factory.mktemp("maps")
    net = Network((3, 8, 8))
    net.conv(relu(net, net.conv(relu(net, net.conv("x", 6)), 6)), 2, name="last")
    (folder / "model.onnx").write_bytes(onnx_model(net.graph()).SerializeToString())
    for name, seed in (("calibration", 1), ("test", 2)):
        np.savez(folder / f"{name}.npz", x=normal(64, 3, 8, 8, seed=seed).numpy())
    assert cli.main(["convert", f"{folder}/model.onnx", "--recipe", "quick", "-q", *given(folder, "calibration")]) == 0
    return folder


def given(folder: Path, data: str) -> list[str]:
    options = ["--data", f"{folder}/{data}.npz"]
    return [*options, "-o", f"{folder}/model.snn"] if data == "calibration" else options


def evaluated(folder: Path, *options: str) -> int:
    return cli.main(["evaluate", f"{folder}/model.snn", *given(folder, "test"), *options])


def test_numbers_are_never_called_predictions(maps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(maps, "--timesteps", "2,8", "--blame") == 0
    told = capsys.readouterr()
    report = json.loads((maps / "model.report.json").read_text())
    markdown = maps / "report.md"
    assert cli.main(["report", f"{maps}/model.snn", "-q", "--markdown", str(markdown), "--html", f"{maps}/r.html"]) == 0
    for text in (told.out + told.err, markdown.read_text(), html.unescape((maps / "r.html").read_text())):
        assert "prediction" not in text
        assert "% of their size at T=8" in text
    rows = {row["timesteps"]: row for row in report["evaluation"]["rows"]}
    assert rows[8]["accuracy"] is rows[8]["agreement"] is report["summary"]["agreement"] is None
    errors = {steps: row["scores"]["relative-error"]["value"] for steps, row in rows.items()}
    assert 0 < errors[8] < errors[2] < 1
    # The shares of blame add up to the mean of the losses of samples.
    assert sum(share["points"] for share in rows[8]["blame"]) == pytest.approx(100 * errors[8], rel=0.1)


def test_gates_and_comparisons_are_of_the_error(maps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(maps, "--max-relative-error", "0.9", "--min-cosine", "0.5", "-q") == 0
    assert evaluated(maps, "--max-relative-error", "0.001", "-q") == 4
    assert "max-relative-error at T=8" in capsys.readouterr().err
    assert evaluated(maps, "--max-drop", "1", "-q") == 5
    assert cli.main(["diff", f"{maps}/model.snn", f"{maps}/model.snn", "-q"]) == 0
    exported = ["--format", "onnx", "--verify", "-o", f"{maps}/spiking.onnx", "--json"]
    capsys.readouterr()
    assert cli.main(["export", f"{maps}/model.snn", *given(maps, "test"), *exported]) == 0
    assert all(match["agreement"] is None for match in json.loads(capsys.readouterr().out)["verified"])


def test_a_task_is_stated_by_flag_or_project_and_kept(
    maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    digits = Path(__file__).parent.parent / "examples" / "digits"
    data = ["--data", str(digits / "test"), "--limit", "20", "--json"]
    convert = ["convert", str(digits / "model.onnx"), "--recipe", "quick", "-q"]

    def scores(*options: str) -> dict[str, object]:
        capsys.readouterr()
        assert cli.main(["evaluate", "model.snn", *data, *options]) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert (row["accuracy"] is None) == bool(row["scores"])
        return row["scores"]  # type: ignore[no-any-return]

    assert cli.main(convert) == 0
    assert not scores()
    assert scores("--task", "values")
    assert cli.main([*convert, "--task", "values"]) == 0
    assert scores()
    assert not scores("--task", "classification")
    Path("snnc.yaml").write_text("task: {classification: {}}\n")
    assert not scores()
    for text, place in (("clasification", "task"), ("{values: {x: 1}}", "task.values"), ("[values]", "task")):
        Path("snnc.yaml").write_text(f"task: {text}\n")
        assert cli.main(["evaluate", "model.snn", *data]) == 2
        assert place in capsys.readouterr().err


def test_tuning_is_by_what_the_task_counts_as_lost(maps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--max-drop", "60", "--max-steps", "3", "-o", f"{maps}/tuned.snn"]
    assert cli.main(["tune", f"{maps}/model.onnx", *given(maps, "test"), *options]) == 0
    told = capsys.readouterr()
    assert "moves the outputs by" in told.out and "prediction" not in told.out
    assert "as labels" not in told.out + told.err, "no labels would change what is lost"


def test_a_task_that_nobody_registered_cannot_be_kept(maps: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Unregistered(Values):  # type: ignore[misc]
        """A task that no registry has."""

    conversion = dataclasses.replace(load_conversion(maps / "model.snn"), task=Unregistered())
    with pytest.raises(UsageError, match="Unregistered is no registered task"):
        save_conversion(conversion, tmp_path / "model.snn")
    assert not (tmp_path / "model.snn").exists()
