"""Tasks: what an answer is and how good it is; laws over every registered one."""

import dataclasses
import html
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import snnc
from snnc import cli, intervals, ops
from snnc.artifact import load_conversion, save_conversion
from snnc.data.dataset import Dataset, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, UsageError
from snnc.feeds import Feeds
from snnc.figure import Energy, Row
from snnc.formats.onnx import onnx_model
from snnc.ir import Graph
from snnc.measure import remarks
from snnc.run import Program
from snnc.tasks import Answers, Task, joined, tasks
from snnc.tasks.classification import Classification
from snnc.tasks.detection import Detection
from snnc.tasks.embedding import Embedding
from snnc.tasks.heads import Heads
from snnc.tasks.multi_label import MultiLabel
from snnc.tasks.regression import Regression
from snnc.tasks.segmentation import Segmentation
from snnc.tasks.task import seeming
from snnc.tasks.values import Values, ssim
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


def maps_of_classes(seed: int, samples: int) -> list[Tensor]:
    """Scores of 4 classes for each pixel."""
    return [normal(samples, 4, 6, 5, seed=seed)]


def masks(samples: int) -> Tensor:
    drawn = spread(samples, 6, 5, low=0, high=4, seed=9).long()
    drawn[:, 0] = 255
    return drawn


def numbers_of(samples: int) -> Tensor:
    return torch.cat([output.flatten(1) for output in rows(9, samples)], 1)


def labels_by_name(samples: int) -> list[dict[str, Tensor]]:
    numbers = normal(samples, 6, seed=9)
    return [{"kind": torch.tensor(sample % 5), "place": numbers[sample]} for sample in range(samples)]


CASES = {
    "classification": Case(Classification()),
    "embedding": Case(Embedding()),
    "heads": Case(Heads({"kind": Classification(), "place": Regression(tolerance=2.5)}, (0, 1)), rows, labels_by_name),
    "multi-label": Case(MultiLabel(outputs="logits"), rows, lambda samples: (normal(samples, 5, seed=9) > 0).float()),
    "regression": Case(Regression(tolerance=2.5), rows, numbers_of),
    "segmentation": Case(Segmentation(classes=4), maps_of_classes, masks),
    "detection": Case(Detection(layout="decoded", size=(64, 64)), boxes, drawn_boxes),
    "values": Case(Values(), rows, numbers_of),
}


def case(name: str) -> tuple[Task, Callable[[int], list[Tensor]], Answers]:
    """The task, 50 outputs of a seed, and their labels."""
    if tasks[name].labels == "boxes":
        pytest.importorskip("pycocotools")
    found = CASES[name]
    return found.task, lambda seed: found.outputs(seed, 50), found.truth(50)


def alike(one: Answers, other: Answers) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))


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
def test_that_nothing_changed_is_no_proof_that_nothing_will(name: str) -> None:
    task, outputs, labels = case(name)
    answers = task.answers(outputs(0))
    measured = task.measured(task.outcomes(answers, answers, labels))
    if measured.get("agreement") is not None:
        low, high = measured["agreement_interval"]
        assert low < 99 and high == pytest.approx(100) and measured["agreement"] == 100
    if measured.get("drop") is not None:
        low, high = measured["drop_interval"]
        assert low < -1 and high > 1 and measured["drop"] == 0
        # As a share of a score, how wide it is depends on the score: classes know, others do not.
        relative = measured.get("relative_drop_interval")
        assert relative is None or relative[0] < -1


@pytest.mark.parametrize("name", tasks)
def test_what_one_sample_loses_is_known_and_could_be_anything(name: str) -> None:
    task, outputs, labels = case(name)
    answers, trained = (task.answers([output[:1] for output in outputs(seed)]) for seed in (0, 1))
    for truth in (labels[:1], None):
        row = bare(**task.measured(task.outcomes(answers, trained, truth)))
        lost = task.lost(row)
        if row.drop is not None or row.agreement is not None:
            assert lost is not None
            value, (low, high) = lost
            assert low < value <= high or low <= value < high


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


@pytest.mark.parametrize("name", tasks)
def test_only_labels_that_are_classes_are_smoothed(name: str) -> None:
    task, outputs, labels = case(name)
    if type(task).training_loss is Task.training_loss:
        return
    plain, smoothed = (task.training_loss(outputs(0), labels, smoothing) for smoothing in (0.0, 0.5))
    classes = name in ("classification", "segmentation", "heads")
    assert torch.equal(plain, smoothed) is not classes


def bare(**measured: Any) -> Row:
    """A row that says nothing but what a task measured."""
    cost = Energy()
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
        ([(10,)], ("values",), "regression"),
        ([(10,), (4,)], ("values",), "values"),
        ([(3, 4, 4)], ("values",), "values"),
        ([(10,)], ("flags",), "multi-label"),
        ([(10,)], ("flags", "one-hot"), "classification"),
        ([(10, 4, 4)], ("masks",), "segmentation"),
        ([(10,)], ("masks",), "classification"),
        ([(10, 4, 4)], ("boxes",), "values"),
    ):
        assert type(seeming(outputs_, labels)) is tasks[name]


@pytest.mark.parametrize(
    ("outputs", "named"),
    [
        ([(4420, 2), (4420, 4)], "detection(layout=ssd)"),
        ([(84, 8400)], "detection(layout=yolov8)"),
        ([(25200, 85)], "detection(layout=yolov5)"),
        ([(21, 64, 64)], "segmentation"),
        ([(21, 16, 16)], "segmentation"),
        ([(21, 64, 64), (21, 64, 64)], "segmentation"),
        ([(3, 64, 64)], ""),
        ([(21, 63, 63)], ""),
        ([(32, 8, 8)], ""),
        ([(1000,)], ""),
        ([(77, 512)], ""),
        ([(10,), (4,)], ""),
    ],
)
def test_outputs_that_look_like_a_task_name_it(outputs: list[tuple[int, ...]], named: str) -> None:
    found = remarks._looks_like(outputs, (3, 64, 64))
    assert ("" if found is None else found[1]) == named


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


# What single tasks count.


def test_segmentation_counts_over_all_pixels_that_count() -> None:
    task = Segmentation(classes=3, ignore=9)
    truth = torch.tensor([[[0, 0, 1], [1, 9, 9]], [[0, 0, 0], [0, 1, 1]]])
    found = torch.tensor([[[0, 1, 1], [1, 0, 2]], [[0, 0, 0], [0, 0, 1]]]).short()
    trained = truth.where(truth < 9, 0).short()
    measured = task.measured(task.outcomes(found, trained, truth))
    scores = {name: score.value for name, score in measured["scores"].items()}
    # Of class 0 five pixels of seven, of class 1 three of five; class 2 is nowhere that counts.
    assert scores["mean IoU"] == pytest.approx(100 * (5 / 7 + 3 / 5) / 2)
    assert scores["pixel accuracy"] == pytest.approx(80)
    assert measured["agreement"] == pytest.approx(75)
    assert measured["drop"] == pytest.approx(100 - scores["mean IoU"])
    assert task.reference(task.outcomes(found, trained, truth)) == {"mean IoU": 100, "pixel accuracy": 100}
    # Twice as large a mask says the same.
    larger = truth.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert task.measured(task.outcomes(found, trained, larger)) == measured
    assert task.losses(found, larger).tolist() == [0.25, pytest.approx(1 / 6)]


def test_one_channel_is_segmented_by_its_sign() -> None:
    assert Segmentation().answers([torch.tensor([[[[-1.0, 2.0]]]])]).tolist() == [[[0, 1]]]


def test_regression_is_measured_as_scikit_learn_does() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task, goal = Regression(), normal(40, 3, seed=1) * torch.tensor([1.0, 5.0, 0.1]) + 100
    goal[:, 2] = 7
    found, trained = goal + normal(40, 3, seed=2), goal + normal(40, 3, seed=3) / 2
    outcomes = task.outcomes(found, trained, goal)
    measured = task.measured(outcomes)
    scores = {name: score.value for name, score in measured["scores"].items()}
    r2 = [100 * metrics.r2_score(goal.double(), network.double()) for network in (found, trained)]
    assert scores["R2"] == pytest.approx(r2[0]) and task.reference(outcomes)["R2"] == pytest.approx(r2[1])
    assert measured["drop"] == pytest.approx(r2[1] - r2[0])
    assert scores["MAE"] == pytest.approx(metrics.mean_absolute_error(goal, found))
    assert scores["RMSE"] == pytest.approx(metrics.root_mean_squared_error(goal, found))
    assert scores["R2 to the trained network"] == pytest.approx(
        100 * metrics.r2_score(trained.double(), found.double())
    )
    assert measured["agreement"] is None
    within = Regression(tolerance=1.0).measured(Regression(tolerance=1.0).outcomes(found, trained, None))["agreement"]
    assert within == pytest.approx(100 * float(((found - trained).abs() <= 1).all(1).double().mean()))


def test_labels_are_counted_as_scikit_learn_does() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task = MultiLabel(outputs="logits", threshold=0.7)
    goal = (normal(60, 4, seed=1) > 0.5).float()
    found, trained = ((goal + normal(60, 4, seed=seed)).mul(4).round() / 4 for seed in (2, 3))
    outcomes = task.outcomes(task.answers([found]), task.answers([trained]), goal)
    scores = {name: score.value for name, score in task.measured(outcomes)["scores"].items()}
    flags = [network.sigmoid() > 0.7 for network in (found, trained)]
    assert scores["micro F1"] == pytest.approx(100 * metrics.f1_score(goal, flags[0], average="micro"))
    assert scores["average precision"] == pytest.approx(100 * metrics.average_precision_score(goal, found))
    assert task.reference(outcomes)["micro F1"] == pytest.approx(
        100 * metrics.f1_score(goal, flags[1], average="micro")
    )
    assert task.measured(outcomes)["agreement"] == pytest.approx(100 * float((flags[0] == flags[1]).double().mean()))
    probabilities = MultiLabel(outputs="probabilities", threshold=0.7).answers([found.sigmoid()])
    torch.testing.assert_close(probabilities, task.answers([found]), atol=1e-4, rtol=0)


def test_embeddings_are_known_by_their_neighbors() -> None:
    task = Embedding()
    angles = torch.tensor([0.0, 10.0, 30.0, 60.0, 65.0]).deg2rad()
    trained = torch.stack([angles.cos(), angles.sin()], 1)
    # The middle one turns toward the last two.
    turned = angles + torch.tensor([0.0, 0.0, 20.0, 0.0, 0.0]).deg2rad()
    found = torch.stack([turned.cos(), turned.sin()], 1) * 3
    outcomes = task.outcomes(task.answers([found]), task.answers([trained]), torch.tensor([0, 0, 0, 1, 1]))
    measured = task.measured(outcomes)
    scores = {name: score.value for name, score in measured["scores"].items()}
    assert measured["agreement"] == 80
    assert scores["retrieval accuracy"] == 80 and measured["drop"] == 20
    assert scores["cosine"] == pytest.approx((4 + math.cos(math.radians(20))) / 5)
    assert 0 < scores["order of pairs"] < 1
    same = task.measured(task.outcomes(task.answers([trained]), task.answers([trained]), None))
    assert same["scores"]["order of pairs"].value == pytest.approx(1) and same["agreement"] == 100


def test_images_are_compared_as_images() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noisy = images + 0.1
    task = Values()
    measured = task.measured(task.outcomes(noisy, images, images))["scores"]
    assert measured["PSNR"].value == pytest.approx(20, abs=1e-4) == measured["PSNR to the trained network"].value
    assert task.reference(task.outcomes(noisy, images, images)) == {"PSNR": 100, "SSIM": pytest.approx(1)}
    # One window, by the formula.
    places = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    weights = np.outer(places, places) / places.sum() ** 2
    one, two = images[:1, :1, :11, :11].double().numpy()[0, 0], noisy[:1, :1, :11, :11].double().numpy()[0, 0] ** 2
    mean = [(weights * image).sum() for image in (one, two)]
    spread = [(weights * image**2).sum() - m**2 for image, m in zip((one, two), mean, strict=True)]
    together = (weights * one * two).sum() - mean[0] * mean[1]
    wanted = (2 * mean[0] * mean[1] + 1e-4) * (2 * together + 9e-4)
    wanted /= (mean[0] ** 2 + mean[1] ** 2 + 1e-4) * (spread[0] + spread[1] + 9e-4)
    found = ssim(torch.from_numpy(one)[None, None], torch.from_numpy(two)[None, None], 1.0)
    assert found.tolist() == [pytest.approx(wanted)]
    assert "PSNR" not in task.measured(task.outcomes(noisy[:, :2], images[:, :2], images[:, :2]))["scores"]


def test_draws_that_are_all_the_same_say_less_than_they_seem_to() -> None:
    assert intervals.varied(98.0, (97.0, 99.0), 50) == (97, 99) and intervals.varied(98.0, None, 1) is None
    assert intervals.varied(100.0, (100.0, 100.0), 50) == intervals.proportion(50, 50)
    assert intervals.varied(0.0, (0.0, 0.0), 50, difference=True) == intervals.paired(0, 0, 50)
    assert intervals.varies((97, 99)) and not intervals.varies((98, 98)) and not intervals.varies(None)
    assert intervals.varied(-20.0, (-20.0, -20.0), 50, difference=True) == intervals.paired(0, 10, 50)


def test_a_bootstrap_says_what_a_closed_form_does() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = intervals.bootstrap(400, lambda times: {"mean": times @ values / times.sum(1), "none": 0 * times[:, 0] / 0})
    (value, interval), wanted = found["mean"], intervals.mean(400, values.sum(), (values**2).sum())
    assert set(found) == {"mean"} and value == pytest.approx(values.mean()) and interval is not None
    assert interval == pytest.approx(wanted, abs=0.03)
    assert intervals.bootstrap(1, lambda times: {"mean": times @ values[:1]}) == {"mean": (values[0], None)}


# Data with labels of every kind, from the command line.


def converted(folder: Path, graph: Graph, *options: str) -> Path:
    """Convert a network, calibrated on the samples of ``calibration.npz``."""
    (folder / "model.onnx").write_bytes(onnx_model(graph).SerializeToString())
    command = ["convert", f"{folder}/model.onnx", "--recipe", "quick", "-q", "--data", f"{folder}/calibration.npz"]
    assert cli.main([*command, "-o", f"{folder}/model.snn", *options]) == 0
    return folder / "model.snn"


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that gives a class for every pixel, and a folder of images with masks."""
    folder = tmp_path_factory.mktemp("segmented")
    net = Network((3, 8, 8))
    net.conv(relu(net, net.conv("x", 6)), 4, name="last")
    drawn = np.random.default_rng(0)
    np.savez(folder / "calibration.npz", x=drawn.integers(0, 256, (64, 3, 8, 8), np.uint8))
    for name in ("images/a", "masks/a"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(20):
        picture = drawn.integers(0, 256, (10, 8, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"data/images/a/{number:02}.png")
        # A palette, whose places are the classes.
        mask = Image.fromarray(drawn.choice([0, 1, 2, 3, 255], (10, 8)).astype(np.uint8), "P")
        mask.putpalette([0, 90, 7] * 256)
        mask.save(folder / f"data/masks/a/{number:02}.png")
    converted(folder, net.graph())
    return folder


def run(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([*command])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_masks_beside_images_are_segmentation(segmented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", f"{segmented}/model.snn", "--data", f"{segmented}/data", "--crop", "8,8"]
    code, told, _ = run(capsys, *command, "--blame", "--max-drop", "100", "--min-agreement", "2")
    assert code == 0 and "mean IoU" in told and "prediction" not in told
    assert "accuracy" not in told.replace("pixel accuracy", "")
    assert ("mean IoU" in told and "of pixel classes" in told) or "mean IoU" in told
    code, told, _ = run(capsys, *command, "--json")
    found = json.loads(told)
    assert found["task"] == {"segmentation": {"classes": 4, "ignore": 255}} and found["labeled"]
    (row,) = found["rows"]
    assert row["drop"] == pytest.approx(found["reference"]["mean IoU"] - row["scores"]["mean IoU"]["value"])
    assert row["drop_interval"][0] <= row["drop"] <= row["drop_interval"][1]
    # The masks are cropped as their images are: nothing else gives these figures.
    crops = [np.asarray(Image.open(path))[1:9] for path in sorted((segmented / "data/masks/a").iterdir())]
    images = [np.asarray(Image.open(path))[1:9] for path in sorted((segmented / "data/images/a").iterdir())]
    np.savez(segmented / "same.npz", x=np.stack(images), y=np.stack(crops))
    code, told, _ = run(capsys, *command[:3], f"{segmented}/same.npz", "--json")
    (same,) = json.loads(told)["rows"]
    assert same["scores"] == row["scores"] and same["drop_interval"] == row["drop_interval"]


def test_reports_of_segmentation_speak_its_language(segmented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", f"{segmented}/model.snn", "--data", f"{segmented}/same.npz", "--timesteps", "1,4"]
    drop = ["--max-drop", "0.000001", "--junit", f"{segmented}/junit.xml", "--sarif", f"{segmented}/run.sarif"]
    assert run(capsys, *command, *drop, "-q")[0] in (0, 4)
    assert "max-drop" in (segmented / "junit.xml").read_text()
    faces = ["--markdown", f"{segmented}/report.md", "--html", f"{segmented}/report.html", "-q"]
    assert run(capsys, "report", f"{segmented}/model.snn", *faces)[0] == 0
    for name in ("report.md", "report.html"):
        text = html.unescape((segmented / name).read_text())
        assert "mean IoU" in text.replace("Mean IoU", "mean IoU") and "prediction" not in text
    code, told, _ = run(capsys, "diff", f"{segmented}/model.snn", f"{segmented}/model.snn", "--all")
    assert code == 0 and "mean IoU" in told


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: (data / "masks/a/03.png").unlink(), "nothing in masks for this image"),
        (lambda data: (data / "masks/a/03.png").write_bytes(b"no image"), "damaged, cut short or no image"),
        (
            lambda data: Image.new("RGB", (8, 10)).save(data / "masks/a/03.png"),
            "pixels of kind RGB are no class numbers",
        ),
        (lambda data: Image.new("L", (8, 9)).save(data / "masks/a/03.png"), "9 x 8 (height x width), but its image"),
        (lambda data: Image.new("L", (8, 10), 4).save(data / "masks/a/03.png"), "the class 4 at row 0, column 0"),
    ],
)
def test_wrong_masks_are_one_line(
    segmented: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, message: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(segmented / "data", data)
    spoil(data)
    code, _, error = run(capsys, "evaluate", f"{segmented}/model.snn", "--data", str(data), "--crop", "8,8")
    assert code == 5 and message in error and "a/03.png" in error
    assert len(error.strip().splitlines()) == 2


def test_a_task_that_nobody_stated_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Network((3, 16, 16))
    net.conv(relu(net, net.conv("x", 6)), 4, name="last")
    np.savez(tmp_path / "calibration.npz", x=normal(64, 3, 16, 16, seed=1).numpy())
    for options, told in (((), True), (("--task", "segmentation"), False)):
        converted(tmp_path, net.graph(), *options)
        findings = json.loads((tmp_path / "model.report.json").read_text())["findings"]
        assert ("task-not-stated" in {finding["code"] for finding in findings}) == told
    assert "state it: --task 'segmentation'" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that gives two numbers."""
    folder = tmp_path_factory.mktemp("rows")
    net = Network((6,))
    net.linear(relu(net, net.linear("x", 16)), 2, name="last")
    graph = net.graph()
    for name, seed in (("calibration", 1), ("test", 2)):
        x = normal(64, 6, seed=seed)
        truth = Program(graph)(Feeds({"x": x}))["last"][0]
        np.savez(folder / f"{name}.npz", x=x.numpy(), y=(truth + normal(64, 2, seed=3) / 10).numpy())
    converted(folder, graph)
    return folder


def test_real_numbers_as_labels_are_a_regression(numbers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", f"{numbers}/model.snn", "--data", f"{numbers}/test.npz"]
    code, told, _ = run(capsys, *command, "--blame", "--timesteps", "2,8")
    assert code == 0 and "R2" in told and "prediction" not in told and "accuracy" not in told
    code, told, _ = run(capsys, *command, "--json", "--task", "regression(tolerance=0.5)")
    found = json.loads(told)
    (row,) = found["rows"]
    assert found["task"] == {"regression": {"tolerance": 0.5}}
    assert 0 < row["drop"] < 100 and 0 < row["agreement"] <= 100 and "R2/number 1" in row["scores"]
    assert run(capsys, *command, "-q", "--max-drop", "90")[0] == 0
    code, _, error = run(capsys, *command, "-q", "--max-drop", "0.001")
    assert code == 4 and "max-drop at T=8" in error
    code, told, _ = run(capsys, *command[:3], f"{numbers}/calibration.npz", "--task", "regression(tolerance=-1)")
    assert code == 2


def test_tuning_keeps_to_points_of_r2(numbers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--max-drop", "30", "--max-steps", "4", "-o", f"{numbers}/tuned.snn"]
    code, told, error = run(capsys, "tune", f"{numbers}/model.onnx", "--data", f"{numbers}/test.npz", *limits)
    assert code == 0 and "points of R2" in told and "prediction" not in told + error


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full((64, 2), np.nan, np.float32), "the value nan is not finite"),
        (np.zeros((64, 3), np.float32), "labels have 3 numbers for each sample, but the network gives 2"),
        (np.zeros((63, 2), np.float32), "y has shape [63, 2], but x holds 64 samples"),
    ],
)
def test_wrong_numbers_are_one_line(
    numbers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], y: np.ndarray, message: str
) -> None:
    np.savez(tmp_path / "test.npz", x=normal(64, 6, seed=2).numpy(), y=y)
    command = ["evaluate", f"{numbers}/model.snn", "--data", f"{tmp_path}/test.npz", "--task", "regression"]
    code, _, error = run(capsys, *command)
    assert code == 5 and message in error and len(error.strip().splitlines()) == 2


def test_flags_as_labels_are_multi_label(numbers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = (normal(64, 2, seed=4) > 0).numpy()
    np.savez(tmp_path / "test.npz", x=normal(64, 6, seed=2).numpy(), y=flags)
    command = ["evaluate", f"{numbers}/model.snn", "--data", f"{tmp_path}/test.npz"]
    code, told, _ = run(capsys, *command)
    assert code == 0 and "micro F1" in told and "prediction" not in told
    code, told, _ = run(capsys, *command, "--json")
    assert json.loads(told)["task"] == {"multi-label": {"outputs": "logits", "threshold": 0.5}}
    np.savez(tmp_path / "test.npz", x=normal(64, 6, seed=2).numpy(), y=flags * 2)
    code, _, error = run(capsys, *command, "--task", "multi-label")
    assert code == 5 and "neither 0 nor 1" in error


def test_rows_with_a_single_one_are_classes(numbers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = (normal(64, seed=4) > 0).long().numpy()
    command = ["evaluate", f"{numbers}/model.snn", "--data", f"{tmp_path}/test.npz", "--json"]
    told = {}
    for name, y in (("numbers", classes), ("rows", np.eye(2)[classes])):
        np.savez(tmp_path / "test.npz", x=normal(64, 6, seed=2).numpy(), y=y)
        code, text, _ = run(capsys, *command)
        assert code == 0
        told[name] = json.loads(text)
    assert told["rows"]["rows"] == told["numbers"]["rows"]
    assert "one-hot" in [finding["code"] for finding in told["rows"]["findings"]]
    code, text, _ = run(capsys, *command, "--task", "multi-label")
    assert code == 0 and "multi-label" in json.loads(text)["task"]
    np.savez(tmp_path / "test.npz", x=normal(64, 6, seed=2).numpy(), y=np.eye(3, dtype=np.uint8)[classes])
    code, _, error = run(capsys, *command)
    assert code == 5 and "3 labels for each sample" in error


def test_columns_of_a_list_are_numbers(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")

    def listed(header: str, *rows: str) -> Dataset:
        lines = [f"{number}.png,{row}" for number, row in enumerate(rows)]
        (tmp_path / "labels.csv").write_text("\n".join([f"file,{header}", *lines]))
        return open_dataset(tmp_path, Preprocessing(), {"x": (3, 4, 4)})

    ages = listed("age,height", "3,1.5", "4,1.25", "5,2").labels("numbers")
    assert ages is not None and ages.answers.tolist() == [[3, 1.5], [4, 1.25], [5, 2]]
    assert listed("label", "3", "4.5", "5").kinds == {"values"}
    assert listed("label,note", "3,x", "4,y", "5,z").kinds == {"classes"}
    assert listed("cat,dog", "0,1", "1,1", "0,0").kinds == {"flags"}
    classes = listed("label", "3", "4", "5").labels("numbers")
    assert classes is not None and classes.answers.tolist() == [[3], [4], [5]]
    for text in ("x", "", "nan", "1_0"):
        with pytest.raises(DataError, match=r"in column 'age' is no number @ .*labels.csv:3"):
            listed("age", "3.5", text, "5")


def test_targets_beside_images_are_what_a_network_should_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Network((3, 12, 12))
    net.conv(relu(net, net.conv("x", 6)), 3, name="last")
    drawn = np.random.default_rng(0)
    np.savez(tmp_path / "calibration.npz", x=drawn.integers(0, 256, (64, 3, 12, 12), np.uint8))
    for name in ("images", "targets"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            picture = drawn.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / f"data/{name}/{number}.png")
    model = converted(tmp_path, net.graph())
    command = ["evaluate", str(model), "--data", f"{tmp_path}/data"]
    code, told, _ = run(capsys, *command, "--json", "--min-psnr", "1")
    found = json.loads(told)
    (row,) = found["rows"]
    assert code == 0 and found["task"] == {"values": {"peak": 1.0}} and found["labeled"]
    assert {"PSNR", "SSIM", "PSNR to the trained network", "label-error"} <= set(row["scores"])
    assert set(found["reference"]) == {"PSNR", "SSIM"}
    code, told, _ = run(capsys, *command)
    assert "dB" in told
    Image.new("RGB", (11, 12)).save(tmp_path / "data/targets/0.png")
    code, _, error = run(capsys, *command)
    assert code == 5 and "the labels are [3, 12, 11] for each sample" in error


def test_embeddings_need_no_labels(numbers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", f"{numbers}/model.snn", "--data", f"{numbers}/test.npz", "--task", "embedding"]
    code, told, _ = run(capsys, *command, "--blame", "--min-cosine", "0.1", "--min-agreement", "2")
    assert code == 0 and "nearest neighbors" in told and "prediction" not in told


# Several heads.


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose outputs the file calls ``kind`` and ``place.xy``, as no node is called, and labels of both."""
    folder = tmp_path_factory.mktemp("headed")
    net = Network((6,))
    hidden = relu(net, net.linear("x", 16))
    net.linear(hidden, 4, name="logits")
    net.linear(hidden, 2, name="numbers")
    graph = Graph.of(net.nodes, ["logits", "numbers"])
    for name, seed in (("calibration", 1), ("test", 2)):
        x = normal(64, 6, seed=seed)
        found = Program(graph)(Feeds({"x": x}))
        labels = {
            "y_kind": found["logits"][0].argmax(1),
            "y_place.xy": found["numbers"][0] + normal(64, 2, seed=3) / 10,
        }
        np.savez(folder / f"{name}.npz", x=x.numpy(), **{key: value.numpy() for key, value in labels.items()})
    model = onnx_model(graph)
    called = {"logits": "kind", "numbers": "place.xy"}
    for node in model.graph.node:
        node.output[:] = [called.get(name, name) for name in node.output]
    for output in model.graph.output:
        output.name = called.get(output.name, output.name)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    command = ["convert", f"{folder}/model.onnx", "--recipe", "quick", "-q", "--data", f"{folder}/calibration.npz"]
    assert cli.main([*command, "-o", f"{folder}/model.snn"]) == 0
    return folder


BOTH = "task: {heads: {kind: classification, place.xy: {regression: {tolerance: 0.5}}}}\n"


def test_every_output_has_a_task_by_its_name_in_the_file(
    headed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(headed)
    Path("snnc.yaml").write_text(BOTH)
    command = ["evaluate", "model.snn", "--data", "test.npz", "--timesteps", "2"]
    code, told, _ = run(capsys, *command, "--blame", "--max-drop", "90")
    assert code == 0 and "the worst output's score" in told and "prediction" not in told
    code, told, _ = run(capsys, *command, "--json")
    found = json.loads(told)
    assert found["task"] == {"heads": {"kind": {"classification": {}}, "place.xy": {"regression": {"tolerance": 0.5}}}}
    assert found["labeled"] and set(found["reference"]) >= {"accuracy/kind", "R2/place.xy"}
    (row,) = found["rows"]
    drops = {name: score["value"] for name, score in row["scores"].items() if name.startswith("drop/")}
    assert row["drop"] == max(drops.values()) and set(drops) == {"drop/kind", "drop/place.xy"}
    agreements = {row["scores"][f"agreement/{name}"]["value"] for name in ("kind", "place.xy")}
    assert row["agreement"] == min(agreements)
    # Of one head alone it is what its own task says.
    Path("snnc.yaml").write_text("task: {heads: {place.xy: regression}}\n")
    np.savez("alone.npz", x=np.load("test.npz")["x"], **{"y_place.xy": np.load("test.npz")["y_place.xy"]})
    code, told, _ = run(capsys, *command[:3], "alone.npz", "--timesteps", "2", "--json")
    (alone,) = json.loads(told)["rows"]
    assert alone["drop"] == drops["drop/place.xy"]
    assert run(capsys, "report", "model.snn", "--html", "r.html", "--markdown", "r.md", "-q")[0] == 0
    assert "place.xy" in Path("r.html").read_text()


def test_heads_are_learned_together(headed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(headed)
    Path("snnc.yaml").write_text(BOTH)
    assert cli.main(["finetune", "model.onnx", "--data", "test.npz", "--epochs", "2", "-q", "-o", "tuned.onnx"]) == 0


@pytest.mark.parametrize(
    ("task", "code", "message"),
    [
        ("{heads: {kinds: classification}}", 2, "no output is called 'kinds'"),
        ("{heads: {kind: clasification}}", 2, "unknown task 'clasification'"),
        ("{heads: {}}", 2, "no task of any output"),
        ("{heads: {kind: classification}}", 5, "labels of 'place.xy', which is no head"),
        ("{heads: {kind: classification, place.xy: classification}}", 5, "the labels of 'place.xy' are no classes"),
    ],
)
def test_wrong_heads_are_one_line(
    headed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(headed)
    Path("snnc.yaml").write_text(f"task: {task}\n")
    found, _, error = run(capsys, "evaluate", "model.snn", "--data", "test.npz")
    assert found == code and message in error and len(error.strip().splitlines()) == 2


def test_an_answer_may_be_one_number_without_an_axis(tmp_path: Path) -> None:
    net = Network((4,))
    net.add(ops.Relu(), net.linear("x", 4))
    net.add(ops.Mean((1,), False), net.nodes[-1].name)
    net.add(ops.Affine(torch.tensor(1.5), None))
    graph = net.graph()
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(graph).SerializeToString())
    conversion, report = snnc.convert(path, "quick", data=tmp_path / "d.npz")
    assert conversion.snn.output_shapes == ((),)
    assert snnc.evaluate(conversion, data=tmp_path / "d.npz", timesteps=[4]).rows and report.layers
