"""Answers class by class, and those that a conversion changed: counted, and shown with pictures or without."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import snnc
from snnc import cli
from snnc.blocks import Fold, Gallery, Table
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.measure.classes import by_class
from snnc.report import Report
from snnc.report.data import write
from snnc.report.faces import faces, seen

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
NAMES = {0: "cat", 1: "dog", 2: "owl"}


def given(answers: Sequence[int]) -> torch.Tensor:
    return torch.tensor(answers)


def test_classes_are_counted_by_labels_and_what_was_lost_comes_first() -> None:
    truth, trained, spiking = given([0, 0, 1, 1, 2, 2]), given([1, 0, 1, 1, 2, 0]), given([0, 0, 2, 1, 0, 1])
    found = by_class(4, spiking, trained, truth, NAMES)
    assert found is not None and (found.timesteps, found.changed) == (4, 4)
    assert [(one.name, one.samples, one.trained, one.spiking, one.taken_for) for one in found.classes] == [
        ("cat", 2, 1, 2, ()),
        ("dog", 2, 2, 1, (("owl", 1),)),
        ("owl", 2, 1, 0, (("cat", 1), ("dog", 1))),
    ]
    assert [example.number for example in found.examples] == [2, 4, 0, 5]
    assert (found.examples[0].true, found.examples[0].trained, found.examples[0].spiking) == ("dog", "dog", "owl")


def test_without_labels_classes_are_the_trained_network_s_and_without_that_too_there_are_none() -> None:
    trained, spiking = given([0, 1, 1]), given([0, 0, 1])
    found = by_class(1, spiking, trained, None, {})
    assert found is not None
    assert [(one.name, one.samples, one.trained, one.spiking) for one in found.classes] == [
        ("0", 1, None, 1),
        ("1", 2, None, 1),
    ]
    assert [(example.true, example.trained, example.spiking) for example in found.examples] == [(None, "1", "0")]
    assert by_class(1, spiking, None, None, {}) is None
    stripped = by_class(1, spiking, None, given([0, 1, 1]), {})
    assert stripped is not None and (stripped.changed, stripped.examples) == (None, ())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    how = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
    network, made = snnc.convert(DIGITS / "model.onnx", recipe="quick", timesteps=1, preprocessing=how)
    found = snnc.evaluate(network, data=DIGITS / "test", timesteps=[1, 2], reading=Reading(limit=60))
    return replace(made, evaluation=found)


def test_an_evaluation_keeps_small_pictures_of_what_changed(report: Report) -> None:
    assert report.evaluation is not None and report.evaluation.by_class is not None
    row, found = report.headline, report.evaluation.by_class
    assert row is not None and row.accuracy is not None and row.agreement is not None and found.timesteps == 1
    assert sum(one.samples for one in found.classes) == 60 and {one.name for one in found.classes} <= set("0123456789")
    assert sum(one.spiking for one in found.classes) == round(row.accuracy * 0.6)
    assert found.changed == 60 - round(row.agreement * 0.6) > 0
    for example in found.examples:
        assert example.name.startswith(f"{example.true}/")
        with Image.open(io.BytesIO(base64.b64decode(example.jpeg))) as image:
            assert image.size == (8, 8)


def test_the_page_shows_them_with_both_answers_unless_nobody_wants_images(report: Report, tmp_path: Path) -> None:
    def answers(of: Report) -> tuple[object, ...]:
        return next(blocks for name, _, blocks in seen(of, "page") if name == "answers")

    assert report.evaluation is not None and report.evaluation.by_class is not None
    example = report.evaluation.by_class.examples[0]
    (gallery,) = (block for block in answers(report) if isinstance(block, Gallery))
    assert gallery.pictures[0].name == example.name
    assert gallery.pictures[0].words[0] == f"{example.trained} → {example.spiking}"
    bare = report.without_images()
    assert not [block for block in answers(bare) if isinstance(block, Gallery)]
    changed, classes = (block for block in answers(bare) if isinstance(block, Table))
    assert changed.rows[0][0].text == example.name and classes.sorts
    write(report, tmp_path / "r.json")
    page = tmp_path / "p.html"
    for flags, images in (((), len(gallery.pictures)), (("--no-images",), 0)):
        assert cli.main(["report", str(tmp_path / "r.json"), "--html", str(page), "-q", *flags]) == 0
        assert page.read_text().count("<img ") == images
    assert f"| `{example.name}` |" in faces["markdown"](report)


def test_of_several_draws_it_is_the_first_that_is_told(report: Report) -> None:
    assert report.evaluation is not None
    drawn = replace(report.evaluation, rows=tuple(replace(row, repeats=3) for row in report.evaluation.rows))
    for found, told in ((report, "at T=1: "), (replace(report, evaluation=drawn), "at T=1, in the first of 3 draws: ")):
        assert f"Answers that are not the trained network's {told}" in faces["markdown"](found).replace("\\", "")


def test_many_classes_are_folded(report: Report) -> None:
    assert report.evaluation is not None and report.evaluation.by_class is not None
    found = report.evaluation.by_class
    many = replace(found, classes=found.classes * 3)
    blocks = next(
        blocks
        for name, _, blocks in seen(replace(report, evaluation=replace(report.evaluation, by_class=many)), "page")
        if name == "answers"
    )
    assert [block.title for block in blocks if isinstance(block, Fold)] == ["Class by class"]


def test_evaluate_keeps_no_picture_where_none_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["convert", str(DIGITS / "model.onnx"), "--timesteps", "1", "--recipe", "quick", "-q"]) == 0
    asked = ["evaluate", "--data", str(DIGITS / "test"), "--limit", "20", "--channels", "gray", "-q", "--no-images"]
    assert cli.main([*asked, "--mean", "0.31", "--std", "0.38"]) == 0
    evaluation = json.loads((tmp_path / "model.report.json").read_text())["evaluation"]
    examples = evaluation["by_class"]["examples"]
    assert examples and all(example["name"] and example["jpeg"] == "" for example in examples)
