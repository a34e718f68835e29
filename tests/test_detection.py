"""Detection: boxes from label files and from raw outputs, and figures as pycocotools has them."""

import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor

from snnc import cli
from snnc.data.dataset import open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, UsageError
from snnc.formats.onnx import onnx_model
from snnc.tasks import stated
from snnc.tasks.decoding import LAYOUTS, Grid, suppressed
from snnc.tasks.detection import Detection, matched
from tests.support import Network, normal, relu

SQUARE = Preprocessing(resize=(40, 40))
GRID = Grid((64, 64), torch.tensor([[8.0, 8.0], [16.0, 24.0], [30.0, 20.0], [50.0, 60.0]]), (16, 32), logits=False)


def image(folder: Path, name: str, width: int = 80, height: int = 40) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((width, height), 50).convert("RGB").save(path)


def yolo(folder: Path, lines: dict[str, str]) -> Path:
    """Two images, 80 wide and 40 high, with text files of labels in a folder beside."""
    for name in ("a", "b"):
        image(folder, f"images/{name}.png")
    (folder / "labels").mkdir()
    for name, text in lines.items():
        (folder / f"labels/{name}.txt").write_text(text)
    return folder


def coco(folder: Path) -> dict[str, Any]:
    for name in ("a", "b"):
        image(folder, f"images/{name}.png")
    box = {"image_id": 5, "category_id": 44, "bbox": [20, 10, 40, 20]}
    return {
        "images": [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "b.png"}],
        "categories": [{"id": 44, "name": "cat"}, {"id": 7, "name": "ant"}],
        "annotations": [box, box | {"iscrowd": 1, "category_id": 7.0}],
    }


def opened(folder: Path, preprocessing: Preprocessing = SQUARE) -> Any:
    dataset = open_dataset(folder, preprocessing, {"x": (3, 40, 40)})
    labels = dataset.labels("boxes")
    assert labels is not None
    return dataset, labels


def test_boxes_are_found_in_text_files_beside_the_images(tmp_path: Path) -> None:
    folder = yolo(tmp_path, {"a": "1 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.2 0.1 0.2 0.3\n", "b": ""})
    (folder / "classes.txt").write_text("ant\ncat\n")
    for place in (folder, folder / "images"):
        dataset, labels = opened(place)
        assert labels.names == ("ant", "cat") and len(dataset) == 2
        first, second = labels.answers
        assert first.tolist() == [[10, 10, 30, 30, 1, 1], pytest.approx([4, 4, 8, 12, 0, 1])]
        assert second.shape == (0, 6)


def test_captions_beside_the_images_of_classes_are_no_boxes(tmp_path: Path) -> None:
    for name in ("ant/a", "cat/b"):
        image(tmp_path, f"{name}.jpg")
        (tmp_path / f"{name}.txt").write_text("a small animal\n")
    dataset = open_dataset(tmp_path, SQUARE, {"x": (3, 40, 40)})
    assert dataset.kinds == {"classes"}
    (tmp_path / "ant/a.txt").write_text("ant 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match="no box: 'ant"):
        open_dataset(tmp_path, SQUARE, {"x": (3, 40, 40)})


@pytest.mark.parametrize(("offset", "name"), [(0, "cat"), (1, "ant"), (-1, "")])
def test_boxes_are_called_as_their_labels_call_them(offset: int, name: str, tmp_path: Path) -> None:
    folder = yolo(tmp_path, {"a": "1 0.5 0.5 0.5 0.5", "b": ""})
    (folder / "classes.txt").write_text("ant\ncat\n")
    dataset, labels = opened(folder, replace(SQUARE, label_offset=offset))
    task = Detection(layout="yolov8").named(dataset)
    assert task.names == labels.names and task.names[1:2] == ((name,) if name else ())
    assert Detection(layout="yolov8", names=("x",)).named(dataset).names == ("x",)


def test_boxes_are_found_in_cocos_file(tmp_path: Path) -> None:
    data = coco(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances.json").write_text(json.dumps(data))
    _, labels = opened(tmp_path)
    assert labels.names == ("ant", "cat")
    # Classes are numbered as the ids rise, a crowd does not count.
    assert labels.answers[0].tolist() == [[10, 10, 30, 30, 1, 1], [10, 10, 30, 30, 0, -1]]


def test_boxes_are_found_in_vocs_files(tmp_path: Path) -> None:
    entry = (
        "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>21</xmin><ymin>11</ymin><xmax>60</xmax>"
        "<ymax>30</ymax></bndbox></object>"
    )
    (tmp_path / "Annotations").mkdir()
    # Whoever counts pixels from 0 is one off.
    edge = entry.format("cat", 0).replace("<xmin>21", "<xmin>0").replace("<ymin>11", "<ymin>0")
    for name, body in (("a", entry.format("cat", 0) + entry.format("ant", 1)), ("b", edge)):
        image(tmp_path, f"JPEGImages/{name}.jpg")
        (tmp_path / f"Annotations/{name}.xml").write_text(f"<annotation>{body}</annotation>")
    _, labels = opened(tmp_path)
    assert labels.names == ("ant", "cat")
    assert labels.answers[0].tolist() == [[10, 10, 30, 30, 1, 1], [10, 10, 30, 30, 0, 0]]
    assert labels.answers[1].tolist() == [[0, 0, 30, 30, 1, 1]]


@pytest.mark.parametrize(
    ("preprocessing", "box"),
    [
        (Preprocessing(resize=(40, 40)), [10, 10, 30, 30]),
        (Preprocessing(resize=(40, 40), fit="letterbox"), [10, 15, 30, 25]),
        (Preprocessing(resize=40, crop=40), [0, 10, 40, 30]),
        (Preprocessing(crop=(40, 40)), [0, 10, 40, 30]),
    ],
)
def test_boxes_move_with_the_image(tmp_path: Path, preprocessing: Preprocessing, box: list[float]) -> None:
    folder = yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5", "b": ""})
    # The object is white.
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[10:30, 20:60] = 255
    Image.fromarray(picture).save(folder / "images/a.png")
    dataset, labels = opened(folder, preprocessing)
    assert labels.answers[0][0, :4].tolist() == box
    seen = dataset.sample(0)["x"][0]
    left, top, right, bottom = map(int, box)
    assert seen[top:bottom, left:right].mean() > 0.9
    bars = preprocessing.fit == "letterbox"
    assert float(seen[0, 0]) == (pytest.approx(114 / 255) if bars else 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"a": "0 0.9 0.5 0.5 0.5", "b": ""}, "a box leaves its image"),
        ({"a": "0 0.5 0.5 0 0.5", "b": ""}, "a box without area"),
        ({"a": "0 nan 0.5 0.1 0.5", "b": ""}, "a box without area"),
        ({"a": "cat 0.5 0.5 0.1 0.5", "b": ""}, "no box"),
        ({"a": "0 0.5 0.5", "b": ""}, "no box"),
        ({"a": "-1 0.5 0.5 0.1 0.5", "b": ""}, "is no whole number"),
        ({"a": "1e30 0.5 0.5 0.1 0.5", "b": ""}, "is no whole number"),
        ({"a": "0 0.5 0.5 0.1 0.5"}, "an image without a label file"),
    ],
)
def test_a_broken_label_is_named(tmp_path: Path, lines: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        opened(yolo(tmp_path, lines))
    assert caught.value.place.endswith(("a.txt:1", "images/b.png"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [ant, cat]", ("ant", "cat")),
        ("names: {1: cat, 0: ant}", ("ant", "cat")),
        ("names: {2: cat, 0: ant}", ("ant", "1", "cat")),
        ("names: [2026-13-01]", ("2026-13-01",)),
        ("names:", ()),
        ("path: here", ()),
        ("names: 5", None),
        ("names: cat", None),
        ("names: {cat: 0}", None),
        ("names: [", None),
        ("names: [caf\xe9]", None),
    ],
)
def test_classes_are_called_what_the_file_beside_them_says(
    tmp_path: Path, text: str, names: tuple[str, ...] | None
) -> None:
    folder = yolo(tmp_path, {"a": "1 0.5 0.5 0.5 0.5", "b": ""})
    (folder / "data.yaml").write_bytes(text.encode("latin-1"))
    if names is not None:
        assert opened(folder)[1].names == names
        return
    with pytest.raises(DataError) as caught:
        opened(folder)
    assert "data.yaml" in caught.value.place and caught.value.hint
    (folder / "classes.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"cannot read this file @ .*classes.txt"):
        opened(folder)


def test_an_image_of_many_folders_is_not_guessed(tmp_path: Path) -> None:
    data = coco(tmp_path)
    image(tmp_path, "others/a.png")
    (tmp_path / "instances.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"2 images are called 'a\.png'") as caught:
        opened(tmp_path)
    assert "images/a.png or others/a.png" in caught.value.hint
    data["images"][0]["file_name"] = "images/a.png"
    (tmp_path / "instances.json").write_text(json.dumps(data))
    assert len(opened(tmp_path)[0]) == 2


@pytest.mark.parametrize(
    "change", ["annotations", "bbox", "image", "twice", "text", "deep", "infinite", "nothing", "unknown"]
)
def test_a_broken_file_of_annotations_is_named(tmp_path: Path, change: str) -> None:
    data = coco(tmp_path)
    if change == "annotations":
        data["annotations"] = [{"image_id": 5}]
    elif change == "bbox":
        data["annotations"][0]["bbox"] = [0, 0, 400, 10]
    elif change == "image":
        data["images"][0]["file_name"] = "missing.png"
    elif change == "infinite":
        data["annotations"][0]["category_id"] = float("inf")
    elif change == "nothing":
        data["images"] = data["annotations"] = []
    elif change == "unknown":
        data["annotations"][0]["image_id"] = 99
    (tmp_path / "annotations").mkdir()
    text = {"text": "{", "deep": "[" * 100_000}.get(change) or json.dumps(data)
    (tmp_path / "annotations/instances.json").write_text(text)
    if change == "twice":
        (tmp_path / "other.json").write_text(text)
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert str(tmp_path) in caught.value.place


@pytest.mark.parametrize(
    ("rows", "change", "message", "place"),
    [
        ("images", {"id": 6}, "the id 6 twice in images", ""),
        ("images", {"file_name": "b.png"}, "'images/b.png' is listed twice", ""),
        ("categories", {"id": 7}, "the id 7 twice in categories", ""),
        ("annotations", {"image_id": 5.9}, "no id: 5.9", ": annotations[0]"),
        ("annotations", {"category_id": True}, "no id: True", ": annotations[0]"),
        ("annotations", {"category_id": 8}, "no category 8", ": annotations[0]"),
        ("annotations", {"bbox": [1, 2, 3]}, "not as COCO writes it: ", ": annotations[0]"),
    ],
)
def test_what_coco_says_twice_or_of_nothing_is_told_at_its_place(
    tmp_path: Path, rows: str, change: dict[str, Any], message: str, place: str
) -> None:
    data = coco(tmp_path)
    data[rows][0] |= change
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(data))
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert message in caught.value.message and caught.value.place == f"{file}{place}" and caught.value.hint


def test_an_entity_in_xml_is_not_expanded(tmp_path: Path) -> None:
    image(tmp_path, "JPEGImages/a.jpg")
    (tmp_path / "Annotations").mkdir()
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation>&b;</annotation>'
    (tmp_path / "Annotations/a.xml").write_text(bomb)
    with pytest.raises(DataError, match="entities"):
        opened(tmp_path)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("make", [fifo, endless, hole])
@pytest.mark.parametrize("name", ["labels/a.txt", "annotations/a.xml", "annotations/a.json", "classes.txt"])
def test_label_files_that_have_no_end_are_refused(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    folder = yolo(tmp_path, {"a": "1 0.5 0.5 0.5 0.5", "b": ""} if name == "classes.txt" else {"b": ""})
    (folder / name).parent.mkdir(exist_ok=True)
    if name.endswith(".xml"):
        shutil.rmtree(folder / "labels")
        (folder / "annotations/b.xml").write_text("<annotation/>")
    make(folder / name)
    if name == "classes.txt" and make is not hole:
        # What is no file is none that says anything.
        assert opened(folder)[1].names == ()
        return
    with pytest.raises(DataError, match=r"not a file but|larger than") as caught:
        opened(folder)
    assert caught.value.place == str(folder / name)


# Layouts: what they hold, written by hand from boxes that are known.


def test_layouts_hold_the_same_boxes() -> None:
    corners = torch.tensor([[[10.0, 12.0, 30.0, 40.0], [0.0, 0.0, 8.0, 8.0]]])
    scores = torch.tensor([[[0.1, 0.8], [0.6, 0.2]]])
    center, size = (corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]
    whole = torch.tensor([64.0, 64.0, 64.0, 64.0])
    background = torch.zeros(1, 2, 1)
    written = {
        "yolov8": [torch.cat([center, size, scores], 2).transpose(1, 2)],
        "yolov5": [torch.cat([center, size, torch.full((1, 2, 1), 0.5), scores * 2], 2)],
        "ssd": [torch.cat([background, scores], 2), corners / whole],
        "decoded": [torch.cat([corners, scores.amax(2, True), scores.argmax(2, True).float()], 2)],
    }
    assert set(written) == set(LAYOUTS) - {"yolo-fastestv2"}
    for name, outputs in written.items():
        boxes, found, classes = LAYOUTS[name][0](outputs, GRID)
        assert torch.allclose(boxes, corners), name
        wanted = scores.amax(2, True) if name == "decoded" else scores
        assert torch.allclose(found, wanted), name
        assert classes.tolist() == ([[[1], [0]]] if name == "decoded" else [[[0, 1], [0, 1]]]), name


def test_of_two_outputs_of_four_numbers_the_second_holds_the_boxes() -> None:
    corners = torch.tensor([[[0.25, 0.25, 0.5, 0.75]]])
    for scores in (torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]), torch.tensor([[[0.0, 0.0, 1.0, 0.0]]])):
        boxes, found, _ = LAYOUTS["ssd"][0]([scores, corners], GRID)
        assert torch.equal(boxes, corners * 64) and torch.equal(found, scores[..., 1:])


def test_the_cells_of_all_strides_stand_in_a_row() -> None:
    raw = normal(2, 5 * 2 + 3, 16 + 4, seed=1)
    boxes, scores, _ = LAYOUTS["yolo-fastestv2"][0]([raw], GRID)
    assert boxes.shape == (2, 40, 4) and scores.shape == (2, 40, 3)
    place = 0
    for cell in range(20):
        stride, across = (16, 4) if cell < 16 else (32, 2)
        number = cell if cell < 16 else cell - 16
        for anchor in range(2):
            offsets = raw[0, 4 * anchor : 4 * anchor + 4, cell].sigmoid() * 2
            x, y = (offsets[0] - 0.5 + number % across) * stride, (offsets[1] - 0.5 + number // across) * stride
            width, height = offsets[2:] ** 2 * GRID.anchors[anchor + (0 if cell < 16 else 2)]
            wanted = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
            assert torch.allclose(boxes[0, place], wanted, atol=1e-4)
            sure = raw[0, 8 + anchor, cell].sigmoid() * raw[0, 10:, cell].softmax(0)
            assert torch.allclose(scores[0, place], sure, atol=1e-5)
            place += 1


def test_of_boxes_that_overlap_the_best_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [20.0, 0, 30, 10], [0.0, 0, 10, 10]])
    scores, classes = torch.tensor([0.5, 0.9, 0.3, 0.4]), torch.tensor([0.0, 0, 0, 1])
    assert suppressed(boxes, scores, classes, 0.5, 10).tolist() == [1, 3, 2]
    assert suppressed(boxes, scores, classes, 0.5, 2).tolist() == [1, 3]
    assert suppressed(boxes, scores, classes, 1.0, 10).tolist() == [1, 0, 3, 2]
    assert suppressed(boxes[:0], scores[:0], classes[:0], 0.5, 10).tolist() == []
    # One box as large as none could be changes nothing for the others.
    wild = torch.cat([boxes, torch.tensor([[0.0, 0, 1e30, 1e30]])])
    classes = torch.tensor([7.0, 7, 7, 8, 7])
    assert suppressed(wild, torch.tensor([0.5, 0.9, 0.3, 0.4, 0.1]), classes, 0.5, 10).tolist() == [1, 3, 2, 4]


def test_of_very_many_boxes_only_the_best_are_looked_at() -> None:
    corners = torch.arange(40_000.0)[:, None] * 10 + torch.tensor([0.0, 0, 5, 5])
    kept = suppressed(corners, torch.arange(40_000.0), torch.zeros(40_000), 0.5, 3)
    assert kept.tolist() == [39_999, 39_998, 39_997]
    same = torch.tensor([[0.0, 0, 5, 5]]).expand(40_000, 4)
    far = torch.cat([same, torch.tensor([[90.0, 90, 99, 99]])])
    # What is behind the last that is looked at is not there, even if it is apart.
    assert suppressed(far, -torch.arange(40_001.0), torch.zeros(40_001), 0.5, 3).tolist() == [0]


def test_what_is_no_number_and_no_class_is_no_box() -> None:
    none, inf = torch.nan, torch.inf
    box = [0.0, 0.0, 8.0, 8.0]
    rows = [[*box, 0.9, value] for value in (none, inf, -inf, -1, 1e30)]
    rows += [[*box, value, 1] for value in (none, inf)] + [[none, *box[1:], 0.9, 1], [0, 0, inf, 8, 0.9, 1]]
    for most in (False, True):
        task = Detection(layout="decoded", size=(64, 64), best_class=most)
        found = task.answers([torch.tensor([rows, [*rows[1:], [*box, 0.75, 2.0]]])])
        assert [boxes.tolist() for boxes in found] == [[], [[*box, 2, 0.75]]]


# Figures.


def some_boxes(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(count, 2, generator=generator) * 40, torch.rand(count, 2, generator=generator) * 20 + 5
    rest = torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + size, (rest[:, :1] * 3).floor(), rest[:, 1:]], 1)


def test_the_figures_are_those_of_pycocotools() -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation_module = pytest.importorskip("pycocotools.cocoeval")
    truths, found = [], []
    for index in range(25):
        truth = some_boxes(index, index % 7)
        # Some are crowds, the only ones that pycocotools itself does not count.
        truth[:, 5] = torch.where(truth[:, 5] > 0.2, 1.0, -1.0)
        moved = truth + 0
        moved[:, :4] += torch.randn(len(truth), 4, generator=torch.Generator().manual_seed(index))
        moved[:, 5] = some_boxes(index + 50, len(truth))[:, 5]
        truths.append(truth)
        found.append(torch.cat([moved, some_boxes(index + 100, 4)]))
    images = [{"id": index} for index in range(25)]
    annotations, results = [], []
    for index, (truth, boxes) in enumerate(zip(truths, found, strict=True)):
        for left, top, right, bottom, number, counts in truth.tolist():
            box = [left, top, right - left, bottom - top]
            entry = {"image_id": index, "category_id": int(number), "bbox": box, "area": box[2] * box[3]}
            annotations.append({"id": len(annotations) + 1, **entry, "iscrowd": int(counts < 0)})
        for left, top, right, bottom, number, score in boxes.tolist():
            box = [left, top, right - left, bottom - top]
            results.append({"image_id": index, "category_id": int(number), "bbox": box, "score": score})
    with redirect_stdout(io.StringIO()):
        truth_set = coco_module.COCO()
        truth_set.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number} for number in range(3)],
        }
        truth_set.createIndex()
        evaluation = evaluation_module.COCOeval(truth_set, truth_set.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    task = Detection(layout="decoded", size=(64, 64))
    measured = task.measured(task.outcomes(found, None, truths))
    assert measured["scores"]["mAP50"].value == pytest.approx(100 * evaluation.stats[1])
    assert measured["scores"]["mAP"].value == pytest.approx(100 * evaluation.stats[0])
    assert 10 < measured["scores"]["mAP50"].value < 90


def test_agreement_takes_the_trained_networks_boxes_for_true() -> None:
    pytest.importorskip("pycocotools")
    task = Detection(layout="decoded", size=(64, 64), certain=0.5)
    trained = [some_boxes(index, 8) for index in range(20)]
    same = task.measured(task.outcomes(trained, trained, None))
    assert same["agreement"] == 100 and same["drop"] is None and same["scores"] == {}
    half = [boxes[::2] for boxes in trained]
    fewer = task.measured(task.outcomes(half, trained, None))
    assert 20 < fewer["agreement"] < 80
    low, high = fewer["agreement_interval"]
    assert low < fewer["agreement"] < high
    truth = [torch.cat([boxes[:, :5], torch.ones(len(boxes), 1)], 1) for boxes in trained]
    measured = task.measured(task.outcomes(half, trained, truth))
    assert measured["drop"] == pytest.approx(100 - measured["scores"]["mAP50"].value)
    assert task.reference(task.outcomes(half, trained, truth)) == {"mAP50": 100, "mAP": 100}
    assert matched(trained[0], truth[0]).hit.all()


def test_what_does_not_count_is_neither_missed_nor_wrong() -> None:
    pytest.importorskip("pycocotools")
    task = Detection(layout="decoded", size=(64, 64), certain=0.5)
    sure = torch.tensor([[0.0, 0, 10, 10, 1, 0.9], [20, 20, 30, 30, 1, 0.8]])
    counts = torch.tensor([[0.0, 0, 10, 10, 1, 1], [20, 20, 30, 30, 1, 0]])
    crowd = torch.tensor([[0.0, 0, 10, 10, 1, 1], [15, 15, 40, 40, 1, -1]])
    found = [sure, sure[:1], sure[1:], sure]
    truth = [counts, counts, counts, crowd]
    assert task.losses(found, truth).tolist() == [0, 0, 1, 0]
    # Of the trained network's boxes, those that it is not certain of.
    unsure = torch.cat([sure[:1], torch.tensor([[20.0, 20, 30, 30, 1, 0.1]])])
    assert task.losses([sure[:1], sure], [unsure, unsure]).tolist() == pytest.approx([0, 1 / 3])


def test_what_cannot_be_compared_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocotools")
    task = Detection(layout="decoded", size=(64, 64), certain=0.5)
    found = [some_boxes(index, 8) for index in range(3)]
    unsure = [boxes * torch.tensor([1, 1, 1, 1, 1, 0.4]) for boxes in found]
    # Nothing that the trained network is certain of could stay the same.
    for trained in (unsure, [boxes[:0] for boxes in found]):
        measured = task.measured(task.outcomes(found, trained, None))
        assert measured["agreement"] is None and measured["agreement_interval"] is None
    # One image does not say how much images vary.
    truth = [torch.cat([some_boxes(9, 4)[:, :5], torch.ones(4, 1)], 1)]
    measured = task.measured(task.outcomes(found[:1], unsure[:1], truth))
    intervals = [measured[f"{name}_interval"] for name in ("drop", "relative_drop", "agreement")]
    assert [*intervals, measured["scores"]["mAP50"].interval] == [None] * 4
    dataset, _ = opened(yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5", "b": ""}))
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(UsageError, match="needs the package pycocotools") as caught:
        task.check(dataset, [(10, 6)])
    assert "snnc[detection]" in caught.value.hint


# From the command line.


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of cells, images with boxes on them, and a project file."""
    pytest.importorskip("pycocotools")
    folder = tmp_path_factory.mktemp("detector")
    net = Network((3, 32, 32))
    hidden = relu(net, net.conv("x", 8, stride=4))
    hidden = relu(net, net.conv(hidden, 8, stride=2))
    net.conv(hidden, 5 + 3, stride=2, name="last")
    model = onnx_model(net.graph())
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for index in range(12):
        image(folder, f"data/images/{index}.png", 32, 32)
        path = folder / f"data/labels/{index}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{index % 3} 0.5 0.5 0.6 0.6\n")
    return folder


def test_a_detector_is_judged_by_its_boxes(
    detector: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(detector)
    flatten_to_cells(detector)
    project = {
        "model": "cells.onnx",
        "task": {"detection": {"layout": "yolo-fastestv2", "anchors": [[20, 20]], "strides": [16], "certain": 0.1}},
        "calibration": {"data": "data/images"},
        "evaluation": {"data": "data"},
    }
    (detector / "snnc.yaml").write_text(json.dumps(project))
    assert cli.main(["convert", "--recipe", "quick", "--data", "data", "-q"]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", "--blame", "--html", "page.html", "--markdown", "page.md"]) == 0
    told = capsys.readouterr()
    assert "mAP50" in told.out and "prediction" not in told.out + told.err
    report = json.loads((detector / "cells.report.json").read_text())
    row = report["evaluation"]["rows"][0]
    assert report["evaluation"]["task"]["detection"]["size"] == [32, 32]
    assert set(report["evaluation"]["reference"]) == {"mAP50", "mAP"}
    assert row["drop"] == pytest.approx(
        report["evaluation"]["reference"]["mAP50"] - row["scores"]["mAP50"]["value"], abs=1e-6
    )
    pictures = report["evaluation"]["pictures"]
    assert [picture["about"] for picture in pictures] == ["worst"] * 3 + ["typical"] * 3
    assert pictures[0]["loss"] >= pictures[3]["loss"] and len({picture["name"] for picture in pictures}) == 6
    assert all(len(picture["true"]) == 1 for picture in pictures)
    assert (detector / "page.html").read_text().count("data:image/jpeg;base64,") == 6
    for page in ("page.html", "page.md"):
        text = (detector / page).read_text()
        assert "mAP50" in text and "prediction" not in text
    assert cli.main(["evaluate", "--max-drop", "100", "-q"]) == 0
    assert cli.main(["evaluate", "--min-agreement", "0", "-q"]) == 2
    assert cli.main(["evaluate", "--max-drop=-90", "-q"]) == 4
    assert "max-drop" in capsys.readouterr().err


def flatten_to_cells(folder: Path) -> None:
    """Give the network's map [8, 2, 2] the shape [8, 4]."""
    model = onnx.load(folder / "model.onnx")
    name = model.graph.output[0].name
    model.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [3], [0, 8, 4]))
    model.graph.node.append(helper.make_node("Reshape", [name, "shape"], ["cells"], name="cells"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("cells", TensorProto.FLOAT, [None, 8, 4]))
    onnx.save(model, folder / "cells.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "in a way that is not stated"),
        ({"layout": "yolo-fastestv2"}, "no anchors for every stride"),
        ({"layout": "ssd"}, "where ssd has"),
        ({"layout": "yolo-fastestv2", "anchors": [[1, 1]], "strides": [8]}, "where yolo-fastestv2 has"),
        ({"layout": "decoded", "decoder": "x.onnx"}, "not both"),
        ({"layout": "decodet"}, "decodet"),
        ({"certain": 2}, "must be shares"),
        ({"layout": "yolo-fastestv2", "anchors": [[1, 1]], "strides": []}, "1 or more"),
        ({"layout": "yolo-fastestv2", "anchors": [[1, 1]], "strides": [0]}, "1 or more"),
        ({"layout": "decoded", "size": [0, 32]}, "1 or more"),
        ({"names": ["cat", "cat"]}, "names must differ"),
        ({"decoder": "missing.onnx", "layout": None}, "no such decoder"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    pytest.importorskip("pycocotools")
    net = Network((3, 32, 32))
    net.conv("x", 8, stride=16, name="last")
    with pytest.raises((UsageError, DataError)) as caught:
        stated({"detection": options}, "task").fitted(net.graph())
    assert message in f"{caught.value} {caught.value.hint}"
    assert "detection" in caught.value.place or caught.value.place == options["decoder"]


def decoder(path: Path, outputs: tuple[str, ...] = ("boxes", "scores", "classes"), inputs: int = 1) -> Path:
    """An ONNX file that takes rows of six for boxes, scores and classes."""
    ends = {"boxes": (0, 4), "scores": (4, 5), "classes": (5, 6)}
    nodes, constants = [], [helper.make_tensor("axis", TensorProto.INT64, [1], [2])]
    for name in outputs:
        for end, place in zip(("low", "high"), ends[name], strict=True):
            constants.append(helper.make_tensor(f"{name}_{end}", TensorProto.INT64, [1], [place]))
        nodes.append(helper.make_node("Slice", ["raw0", f"{name}_low", f"{name}_high", "axis"], [name]))
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info(f"raw{i}", TensorProto.FLOAT, [1, None, 6]) for i in range(inputs)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_decoder_of_ones_own_does_what_a_layout_does(tmp_path: Path) -> None:
    rows = torch.stack([some_boxes(index, 6)[:, [0, 1, 2, 3, 5, 4]] for index in range(3)])
    own = Detection(decoder=str(decoder(tmp_path / "decode.onnx")), size=(64, 64))
    known = Detection(layout="decoded", size=(64, 64))
    for one, other in zip(own.answers([rows]), known.answers([rows]), strict=True):
        assert len(one) and torch.equal(one, other)


def test_a_decoder_that_does_not_fit_is_named(tmp_path: Path) -> None:
    rows = torch.zeros(1, 2, 6)
    wrong = {
        "decoder gives boxes": Detection(decoder=str(decoder(tmp_path / "a.onnx", ("scores",)))),
        "does not take these outputs": Detection(decoder=str(decoder(tmp_path / "c.onnx"))),
    }
    for message, task in wrong.items():
        with pytest.raises(UsageError, match=message) as caught:
            task.answers([rows[..., :5] if "take" in message else rows])
        assert caught.value.place.endswith(".onnx")
    net = Network((3, 32, 32))
    net.conv("x", 8, stride=16, name="last")
    with pytest.raises(UsageError, match=r"of 2 inputs for a network of 1 outputs @ .*b\.onnx"):
        Detection(decoder=str(decoder(tmp_path / "b.onnx", inputs=2))).fitted(net.graph())
    (tmp_path / "d.onnx").write_text("no model")
    for path, message in (("d.onnx", "onnxruntime cannot read it"), ("e.onnx", "no such decoder")):
        with pytest.raises(DataError, match=message):
            Detection(decoder=str(tmp_path / path)).answers([rows])


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        ({"boxes": (1, 5, 4), "scores": (1, 5)}, ""),
        ({"boxes": (5, 4), "scores": (5, 3)}, ""),
        ({"boxes": (1, 1, 4), "scores": (1, 1, 3)}, ""),
        ({"boxes": (1, 5, 4), "scores": (1, 5, 1), "classes": (5,)}, ""),
        ({"boxes": (1, 0, 4), "scores": (1, 0), "classes": (1, 0)}, ""),
        ({"boxes": (4, 5), "scores": (5,)}, "boxes of shape"),
        ({"boxes": (1, 5, 4), "scores": (1, 3, 5)}, "scores of shape"),
        ({"boxes": (1, 5, 4), "scores": (7,)}, "scores of shape"),
        ({"boxes": (1, 5, 4), "scores": (5, 3), "classes": (5,)}, "15 scores and 5 classes"),
        ({"boxes": (1, 5, 4), "scores": (5,), "classes": (4,)}, "5 scores and 4 classes"),
    ],
)
def test_what_a_decoder_gives_is_held_to_its_shapes(
    tmp_path: Path, gives: dict[str, tuple[int, ...]], message: str
) -> None:
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, [0.5] * math.prod(shape)) for name, shape in gives.items()
    ]
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in constants]
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in gives],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "d.onnx")
    task = Detection(decoder=str(tmp_path / "d.onnx"), size=(64, 64), overlap=1.0)
    if not message:
        (found,) = task.answers([torch.zeros(1, 3)])
        assert found.shape == (math.prod(gives["scores"]), 6)
        return
    with pytest.raises(UsageError, match=message) as caught:
        task.answers([torch.zeros(1, 3)])
    assert caught.value.place.endswith("d.onnx") and caught.value.hint


def test_classes_beyond_the_networks_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    dataset, _ = opened(yolo(tmp_path, {"a": "7 0.5 0.5 0.5 0.5", "b": ""}))
    with pytest.raises(DataError, match="a box of class 7: the network has 2 classes"):
        Detection(layout="yolov8").check(dataset, [(6, 100)])
    (tmp_path / "labels/a.txt").write_text("")
    dataset, _ = opened(tmp_path)
    with pytest.raises(DataError, match="no box in any label"):
        Detection(layout="yolov8").check(dataset, [(6, 100)])


def test_the_output_that_loses_most_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Network((3, 8, 8))
    hidden = relu(net, net.conv("x", 6))
    net.conv(hidden, 2, name="first")
    net.conv(relu(net, net.conv(hidden, 6)), 3, name="second")
    graph = net.graph("first", "second")
    (tmp_path / "two.onnx").write_bytes(onnx_model(graph).SerializeToString())
    np.savez(tmp_path / "x.npz", x=normal(32, 3, 8, 8, seed=1).numpy())
    out = ["-o", f"{tmp_path}/two.snn", "--html", f"{tmp_path}/page.html"]
    assert cli.main(["convert", f"{tmp_path}/two.onnx", "--data", f"{tmp_path}/x.npz", "--recipe", "quick", *out]) == 0
    summary = json.loads((tmp_path / "two.report.json").read_text())["summary"]
    errors = summary["output_errors"]
    assert len(errors) == 2 and min(errors.values()) < summary["output_error"] < max(errors.values())
    worst = max(errors, key=lambda name: errors[name])
    assert f"The output {worst} is furthest" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("place", ["annotations/a.json", "a.json"])
def test_annotations_beyond_the_memory_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    folder = yolo(tmp_path, {"a": ""})
    shutil.rmtree(folder / "labels")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    monkeypatch.setattr("snnc.data.boxes.memory", lambda: 64)
    with pytest.raises(DataError, match="annotations larger than 16 bytes") as caught:
        opened(folder)
    assert caught.value.hint == "give more with --memory"
