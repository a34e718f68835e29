"""Data as people have it: what is read all the same, what is told of it, and what is refused by its name."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import snnc
from snnc import ops
from snnc.data.dataset import Dataset, open_dataset
from snnc.data.labels import CLASSES, Classes
from snnc.data.preprocessing import Preprocessing, from_file
from snnc.errors import DataError, UsageError
from snnc.findings import Finding
from snnc.ir import Graph, Node
from snnc.ops import Input
from snnc.tasks.classification import Classification
from tests.frontend_files import one, save

SHAPE = (3, 4, 4)


def picture(path: Path, value: int = 100, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, value // 2, 7)).convert(mode).save(path)
    return path


def opened(path: Path, shape: tuple[int, ...] = SHAPE, **preprocessing: object) -> Dataset:
    return open_dataset(path, Preprocessing(**preprocessing), {"image": Input(shape)})  # type: ignore[arg-type]


def read(path: Path, shape: tuple[int, ...] = SHAPE, **preprocessing: object) -> dict[str, Finding]:
    """Read all samples; return the findings by their kinds."""
    dataset = opened(path, shape, **preprocessing)
    for index in range(len(dataset)):
        dataset.sample(index)
    return {finding.code: finding for finding in dataset.findings}


def numbers(dataset: Dataset) -> dict[str, int]:
    """The classes of samples by their names."""
    classes = dataset.labels(CLASSES)
    assert isinstance(classes, Classes)
    return {dataset.name(index): int(number) for index, number in enumerate(classes.answers)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ant/0.png", "ant/1.png", "bee/0.png"):
        picture(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "#recycle", "lost+found", ".ipynb_checkpoints"])
@pytest.mark.parametrize("inside", ["", "ant/"])
def test_what_systems_keep_for_themselves_is_no_class_and_no_sample(folder: Path, name: str, inside: str) -> None:
    picture(folder / inside / name / "0.png" / "thumb.jpg")
    (folder / inside / "Thumbs.db").write_bytes(b"thumbs")
    (folder / inside / ".DS_Store").write_bytes(b"store")
    (folder / inside / "._0.png").write_bytes(b"resources")
    assert numbers(opened(folder)) == {"ant/0.png": 0, "ant/1.png": 0, "bee/0.png": 1}
    assert not read(folder)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "ppm", "pgm", "pnm"])
def test_images_of_rarer_suffixes_are_read(folder: Path, suffix: str) -> None:
    mode = "L" if suffix == "pgm" else "RGB"
    image = Image.new(mode, (4, 4), 9)
    image.save(folder / "bee" / f"x.{suffix}", format="JPEG" if suffix[0] == "j" else "PPM")
    assert f"bee/x.{suffix}" in numbers(opened(folder))
    assert set(read(folder)) <= {"gray-among-color"}


@pytest.mark.parametrize(("names", "severity"), [(["README.txt"], "info"), (["ant/2.heic", "LICENSE"], "warning")])
def test_files_that_are_left_out_are_told_by_name(folder: Path, names: list[str], severity: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"?")
    found = read(folder)["files-left-out"]
    assert found.severity == severity
    files = "1 file" if len(names) == 1 else "2 files"
    assert found.message == f"{files} beside the 3 samples left out: {', '.join(names)}"


def test_a_file_that_has_no_end_is_no_image_before_anybody_digests_it(folder: Path, tmp_path: Path) -> None:
    with (folder / "bee" / "hole.png").open("wb") as hole:
        hole.truncate(1 << 40)
    model = save(tmp_path / "m.onnx", [one("Relu")], SHAPE, {})
    with pytest.raises(DataError, match="damaged, cut short or no image"):
        snnc.convert(model, data=folder)


def test_what_is_no_file_is_left_out_and_told(folder: Path) -> None:
    os.mkfifo(folder / "ant" / "2.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    assert [*numbers(opened(folder))] == ["ant/0.png", "ant/1.png", "bee/0.png"]
    found = read(folder)["files-left-out"]
    assert found.severity == "warning"
    assert found.message == "2 files beside the 3 samples left out: ant/2.png (a pipe), zero.png (a device)"


def test_folders_that_are_linked_into_a_class_count_and_circles_do_not(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "store" / "more" / "9.png")
    (folder / "ant" / "part").symlink_to(tmp_path / "store")
    (folder / "ant" / "up").symlink_to(folder)
    (tmp_path / "store" / "more" / "again").symlink_to(tmp_path / "store")
    assert [*numbers(opened(folder))] == ["ant/0.png", "ant/1.png", "ant/part/more/9.png", "bee/0.png"]


def test_a_link_to_a_folder_that_became_a_text_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (folder / "ant" / "part").write_text("../../store")
    with pytest.raises(DataError, match="a link to a folder, written as a text"):
        opened(folder)


@pytest.mark.parametrize("how", ["classes", "sequences"])
def test_a_link_to_itself_is_named(folder: Path, how: str) -> None:
    (folder / "ant" / "part").symlink_to("part")
    with pytest.raises(DataError, match="cannot read: Too many levels") as caught:
        opened(folder, folders=how)
    assert caught.value.place == str(folder / "ant" / "part")


@pytest.mark.parametrize("how", ["classes", "sequences"])
def test_folders_within_folders_have_an_end(folder: Path, how: str) -> None:
    (folder / "deep" / "/".join(["in"] * 700)).mkdir(parents=True)
    with pytest.raises(DataError, match="nested more than 64 deep"):
        opened(folder, folders=how)


@pytest.mark.parametrize("name", ["ant/gone.png", "ant/part", "cat"])
def test_a_link_that_leads_nowhere_is_refused(folder: Path, name: str) -> None:
    (folder / name).symlink_to(folder / "nothing")
    with pytest.raises(DataError, match="a link that leads nowhere") as caught:
        opened(folder)
    assert caught.value.place == str(folder / name)


@pytest.mark.parametrize("parts", [["train", "val"], ["test"], ["Train", "Test", "Validation"]])
def test_parts_of_data_are_no_classes(parts: list[str], tmp_path: Path) -> None:
    for part in parts:
        picture(tmp_path / part / "ant" / "0.png")
    with pytest.raises(DataError, match="of data, no class") as caught:
        opened(tmp_path)
    assert f"--data {tmp_path}" in caught.value.hint


def test_folders_below_classes_are_told(folder: Path) -> None:
    picture(folder / "ant" / "winged" / "0.png")
    found = read(folder)["folders-below-classes"]
    assert found.severity == "warning"
    assert found.message.startswith("1 of 4 samples lie in folders below a class folder, the first in 'ant/winged'")


ORDERS: dict[str, tuple[list[str], bool]] = {
    "auto": (["class1", "class10", "class2"], True),
    "name": (["class1", "class10", "class2"], False),
    "natural": (["class1", "class2", "class10"], False),
}


@pytest.mark.parametrize("order", ORDERS)
def test_numbers_in_the_names_of_classes(order: str, tmp_path: Path) -> None:
    names, told = ORDERS[order]
    for name in names:
        picture(tmp_path / name / "0.png")
    classes = opened(tmp_path, class_order=order).labels(CLASSES)
    assert isinstance(classes, Classes) and list(classes.names) == names
    assert classes.answers.sort().values.tolist() == [0, 1, 2]
    found = read(tmp_path, class_order=order)
    assert ("class-order" in found) == told
    assert not told or "'class10' is class 1, and 'class2'" in found["class-order"].message


def test_names_that_are_in_both_orders_are_nothing_to_tell(tmp_path: Path) -> None:
    for name in ("01", "02", "10", "cat", "dog"):
        picture(tmp_path / name / "0.png")
    assert not read(tmp_path)


@pytest.mark.parametrize(("largest", "bits"), [(255, 8), (4095, 12), (16383, 14)])
def test_few_bits_in_images_of_16_are_told(largest: int, bits: int, tmp_path: Path) -> None:
    values = np.linspace(0, largest, 16).astype(np.uint16).reshape(4, 4)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(values).save(tmp_path / f"{suffix}.{suffix}")
    found = read(tmp_path, (1, 4, 4))["values-of-few-bits"]
    assert found.severity == "warning"
    assert f"3 images of 16 bits hold values up to {largest}" in found.message
    assert f"{largest >> 8} of 255" in found.message


def test_images_that_use_16_bits_are_nothing_to_tell(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "b.png")
    assert not read(tmp_path, (1, 4, 4))


def saved(path: Path, x: np.ndarray, y: np.ndarray | None = None) -> Path:
    np.savez(path, x=x, **({} if y is None else {"y": y}))
    return path


def test_real_numbers_that_reach_as_far_as_pixels_are_told(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4)).astype(np.float32)
    far = saved(tmp_path / "far.npz", pixels)
    found = read(far)["pixels-taken-as-scaled"]
    assert found.severity == "warning" and "x holds real numbers up to 25" in found.message
    assert not read(far, scale=1)
    assert not read(saved(tmp_path / "near.npz", pixels / 255))
    assert not read(saved(tmp_path / "both.npz", pixels - 128))


def test_labels_in_a_column_are_classes(tmp_path: Path) -> None:
    dataset = opened(saved(tmp_path / "a.npz", np.zeros((3, *SHAPE), np.float32), np.array([[2], [0], [1]])))
    assert list(numbers(dataset).values()) == [2, 0, 1]


TABLES = {
    "semicolons": "file;label\na.png;1\nb.png;0\n",
    "tabs": "file\tlabel\na.png\t1\nb.png\t0\n",
    "spaces": "file, label\na.png , 1\n b.png, 0 \n",
    "aligned": "file  ,label\na.png ,1  \nb.png ,0  \n",
    "others": "Filename,Class\na.png,1\nb.png,0\n",
    "index": ",image,label\n0,a.png,1\n1,b.png,0\n",
    "quoted": '"file_name";"Target"\n"a.png";"1"\n"b.png";"0"\n',
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_labels_as_people_write_them(table: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "labels.csv").write_text(TABLES[table])
    assert numbers(opened(tmp_path)) == {"a.png": 1, "b.png": 0}


def test_what_a_table_has_instead_is_said(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("Which,What\na.png,1\n")
    with pytest.raises(DataError, match="no columns 'file' and 'label', only 'Which', 'What'"):
        opened(tmp_path)


def test_a_flat_network_says_what_it_wants_in_place_of_images(folder: Path) -> None:
    with pytest.raises(DataError, match=r"takes \[48\]") as caught:
        opened(folder, (48,))
    assert "x of [N, 48]" in caught.value.hint


@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_interpolations(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = np.asarray(Image.fromarray(pixels).resize((6, 5), Image.Resampling[kind.upper()])).transpose(2, 0, 1)
    sample = opened(tmp_path, (3, 5, 6), scale=1, resize=(5, 6), interpolation=kind).sample(0)["image"]
    assert torch.equal(sample, torch.from_numpy(wanted.astype(np.float32)))
    with pytest.raises(ValueError, match="interpolation must be one of"):
        Preprocessing(interpolation="area")  # type: ignore[arg-type]


MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
NORMAL = {"mean": tuple(MEAN), "std": tuple(STD)}
TIMM = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "mean": MEAN, "std": STD}
FACE = {"do_resize": True, "do_normalize": True, "image_mean": MEAN, "image_std": STD}
PUBLISHED: dict[str, tuple[dict[str, object], Preprocessing]] = {
    "timm": (TIMM, Preprocessing(resize=235, crop=(224, 224), interpolation="bicubic", **NORMAL)),
    "timm of a hub": (
        {"architecture": "resnet50", "pretrained_cfg": {**TIMM, "crop_pct": 0.875}},
        Preprocessing(resize=256, crop=(224, 224), interpolation="bicubic", **NORMAL),
    ),
    "timm squashed": (
        {**TIMM, "crop_pct": 1.0, "crop_mode": "squash"},
        Preprocessing(resize=(224, 224), crop=(224, 224), interpolation="bicubic", **NORMAL),
    ),
    "exact size": (
        {**FACE, "size": {"height": 384, "width": 384}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255},
        Preprocessing(resize=(384, 384), **NORMAL),
    ),
    "shorter side": (
        {**FACE, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True, "crop_size": 224},
        Preprocessing(resize=224, crop=(224, 224), interpolation="bicubic", **NORMAL),
    ),
    "share": (
        {**FACE, "size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3},
        Preprocessing(resize=256, crop=(224, 224), interpolation="bicubic", **NORMAL),
    ),
    "share of a large one": (
        {**FACE, "size": {"shortest_edge": 384}, "crop_pct": 0.875, "resample": 3},
        Preprocessing(resize=(384, 384), interpolation="bicubic", **NORMAL),
    ),
    "not scaled": (
        {"do_resize": False, "do_normalize": False, "do_rescale": False, "image_mean": MEAN, "image_std": STD},
        Preprocessing(scale=1.0),
    ),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_preprocessing_as_others_publish_it(kind: str, tmp_path: Path) -> None:
    data, wanted = PUBLISHED[kind]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    assert from_file(path) == wanted


def test_one_number_for_all_channels_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("mean: 0.31\nstd: 1\n")
    assert from_file(tmp_path / "p.yaml") == Preprocessing(mean=(0.31,), std=(1.0,))


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "timm border": ({**TIMM, "crop_mode": "border"}, "crop mode 'border'"),
    "no mean": ({key: value for key, value in TIMM.items() if key != "mean"}, "mean"),
    "hamming": ({**FACE, "size": 224, "resample": 5}, "5"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_preprocessing_of_others_that_snnc_has_not(kind: str, tmp_path: Path) -> None:
    data, message = WRONG[kind]
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=message):
        from_file(tmp_path / "config.json")


def judged(tmp_path: Path, folders: int, outputs: int, right: int, samples: int) -> dict[str, Finding]:
    """Evaluate a network that answers the first class on samples, of which so many are of that class."""
    graph = Graph.of([Node("x", Input((2,)), ()), Node("y", ops.Linear(torch.zeros(outputs, 2), None), ("x",))], ["y"])
    labels = [0] * right + [1 + at % (folders - 1) for at in range(samples - right)]
    path = saved(tmp_path / "data.npz", np.ones((samples, 2), np.float32), np.array(labels))
    data = open_dataset(path, Preprocessing(), {"x": Input((2,))})
    outcomes = Classification().outcomes(torch.zeros(samples), torch.zeros(samples), torch.tensor(labels))
    return {finding.code: finding for finding in Classification().remarks(data, graph.output_shapes, outcomes)}


@pytest.mark.parametrize(
    ("right", "samples", "told"),
    [(10, 100, True), (14, 100, True), (25, 100, False), (90, 100, False), (1, 10, False)],
)
def test_a_trained_network_that_is_no_better_than_chance_is_told(
    right: int, samples: int, told: bool, tmp_path: Path
) -> None:
    found = judged(tmp_path, 10, 10, right, samples)
    assert ("trained-at-chance" in found) == told
    assert not told or "and chance is 10.00 %" in found["trained-at-chance"].message
    assert all(finding.severity == "warning" for finding in found.values())


@pytest.mark.parametrize(
    ("classes", "outputs", "samples", "told"), [(3, 5, 60, True), (3, 5, 40, False), (3, 3, 60, False)]
)
def test_labels_that_leave_outputs_out_are_told(
    classes: int, outputs: int, samples: int, told: bool, tmp_path: Path
) -> None:
    assert ("classes-not-covered" in judged(tmp_path, classes, outputs, samples // 2, samples)) == told


def test_folders_that_are_not_as_many_as_outputs_are_told(folder: Path) -> None:
    assert [finding.message for finding in opened(folder).uncovered(3)] == [
        "2 folders are the classes, but the network has 3 outputs"
    ]
    assert not [*opened(folder).uncovered(2), *opened(folder, label_offset=1).uncovered(3)]
