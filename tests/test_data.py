"""Images, arrays and labels: what is read, what is delivered, and every way in which it can be wrong."""

import dataclasses
import json
import os
import random
import shutil
import struct
import threading
import time
import tracemalloc
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from snnc.data import dataset, decoding
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.decoding import decode
from snnc.data.images import ImageFiles
from snnc.data.labels import CLASSES
from snnc.data.noticed import Noticed
from snnc.data.preprocessing import Preprocessing, from_file
from snnc.data.samples import DatasetSamples
from snnc.data.source import Array
from snnc.errors import DataError, SnncError, UsageError
from snnc.validation import parse

REAL = Path(__file__).parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real data lies beside the repository, and is absent")
PLAIN = Preprocessing()
RAW = Preprocessing(scale=1)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def opened(path: Path, preprocessing: Preprocessing, shape: tuple[int, ...], **reading: Any) -> Dataset:
    return open_dataset(path, preprocessing, {"image": shape}, Reading(**reading))


def images(dataset: Dataset, reading: Reading | None = None) -> list[torch.Tensor]:
    return [feeds["image"] for feeds in dataset.batches(reading)]


def fails(
    path: Path, shape: tuple[int, ...] = (3, 4, 4), preprocessing: Preprocessing = PLAIN, outputs: int = 10
) -> DataError:
    """Open and read everything, and return the error, checked for what every error must have."""
    with pytest.raises(DataError) as caught:
        dataset = opened(path, preprocessing, shape)
        dataset.check_labels(outputs)
        list(dataset.batches(Reading(2, 2)))
    error = caught.value
    assert error.exit_code == 5
    assert error.hint
    assert error.place
    assert "\n" not in error.line
    return error


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for index, name in enumerate(["cat/1.png", "cat/0.png", "dog/deep/er/2.png", "ant/3.png", "ant/10.png"]):
        save(tmp_path / "set" / name, pixels(4, 4, 3, seed=index))
    return tmp_path / "set"


# Preprocessing


def test_preprocessing_is_read_strictly_and_survives_json() -> None:
    written = {"mean": [0.5, 0.4, 0.3], "std": [1, 2, 3], "resize": [32, 48], "crop": 30, "label-offset": 1}
    read = parse(Preprocessing, written, place="data")
    assert read == Preprocessing(mean=(0.5, 0.4, 0.3), std=(1, 2, 3), resize=(32, 48), crop=30, label_offset=1)
    assert parse(Preprocessing, json.loads(json.dumps(dataclasses.asdict(read))), place="again") == read


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"std": [0.0]}, "std must be positive"),
        ({"std": [-1.0]}, "std must be positive"),
        ({"mean": [float("nan")]}, "mean must be finite"),
        ({"scale": float("inf")}, "scale must be finite"),
        ({"scale": 0}, "scale must not be 0"),
        ({"resize": 0}, "resize must be at least 1"),
        ({"crop": [4, 0]}, "crop must be at least 1"),
        ({"mean": [1, 2, 3], "std": [1, 2]}, "mean has 3 values, std has 2"),
        ({"channels": "rbg"}, "input should be 'rgb', 'bgr' or 'gray'"),
        ({"normalize": True}, "known: "),
    ],
)
def test_wrong_preprocessing_is_one_usage_error(written: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(Preprocessing, written, place="data")
    assert reason in f"{caught.value} {caught.value.hint}"
    assert caught.value.place.startswith("data")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"channels": "grey"}, "channels must be one of rgb, bgr, gray"),
        ({"layout": "nhcw"}, "layout must be one of nchw, nhwc"),
        ({"array_layout": "any"}, "array_layout must be one of auto, nchw, nhwc"),
        ({"mean": 0.31}, "mean must be a tuple"),
        ({"std": [0.38]}, "std must be a tuple"),
    ],
)
def test_wrong_preprocessing_cannot_be_built(given: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Preprocessing(**given)


def test_preprocessing_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.yaml"
    path.write_text("mean: [0.5]\nchannels: bgr\n")
    assert from_file(path) == Preprocessing(mean=(0.5,), channels="bgr")
    with pytest.raises(DataError, match="no such file"):
        from_file(tmp_path / "none.yaml")


def test_the_order_of_steps(tmp_path: Path) -> None:
    source = pixels(9, 13, 3)
    save(tmp_path / "a.png", source)
    preprocessing = Preprocessing(
        mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), resize=(6, 8), crop=4, channels="bgr", layout="nhwc"
    )
    image = Image.fromarray(source).resize((8, 6), Image.Resampling.BILINEAR).crop((2, 1, 6, 5))
    wanted = (np.asarray(image)[..., ::-1] / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    sample = opened(tmp_path, preprocessing, (4, 4, 3)).sample(0)["image"]
    assert sample.dtype == torch.float32
    assert sample.is_contiguous()
    np.testing.assert_allclose(sample.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "shape"), [(10, 20, (3, 5, 10)), (20, 10, (3, 10, 5)), (7, 9, (3, 5, 6))])
def test_a_number_resizes_the_shorter_side(tmp_path: Path, height: int, width: int, shape: tuple[int, ...]) -> None:
    save(tmp_path / "a.png", pixels(height, width, 3))
    assert opened(tmp_path, Preprocessing(resize=5), shape).sample(0)["image"].shape == shape


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255
    save(tmp_path / "a.png", stripes)
    sample = opened(tmp_path, Preprocessing(resize=4), (3, 4, 4)).sample(0)["image"]
    assert (sample - 0.5).abs().max() < 0.05


def test_one_value_stands_for_all_channels(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((4, 4, 3), 255, np.uint8))
    sample = opened(tmp_path, Preprocessing(mean=(0.5,), std=(0.25,)), (3, 4, 4)).sample(0)["image"]
    assert torch.equal(sample, torch.full((3, 4, 4), 2.0))


@pytest.mark.parametrize(
    ("preprocessing", "shape", "message"),
    [
        (Preprocessing(mean=(0.1, 0.2)), (3, 4, 4), "mean has 2 values, but the network takes 3 channels"),
        (Preprocessing(std=(1, 1, 1)), (1, 4, 4), "std has 3 values, but the network takes 1 channel"),
        (Preprocessing(std=(1, 1, 1)), (4, 4, 3), "std has 3 values, but the network takes 4 channels"),
        (Preprocessing(channels="gray"), (3, 4, 4), "channels is gray, but the network takes 3 channels"),
        (Preprocessing(), (2, 4, 4), "images do not fit a network that takes [2, 4, 4]"),
        (Preprocessing(), (48,), "images do not fit a network that takes [48]"),
        (Preprocessing(), (12, 4), "images do not fit a network that takes [12, 4]"),
        (Preprocessing(), (), "images do not fit a network that takes []"),
    ],
)
def test_preprocessing_must_fit_the_network(
    classes: Path, preprocessing: Preprocessing, shape: tuple[int, ...], message: str
) -> None:
    assert fails(classes, shape, preprocessing).message == message


# Folders of images


def test_class_folders_are_numbered_in_order(classes: Path) -> None:
    (classes / "README.txt").write_text("not an image")
    (classes / "cat" / "notes.md").write_text("nor this")
    (classes / ".hidden").mkdir()
    (classes / ".hidden" / "a.png").write_bytes(b"broken")
    (classes / "ant" / "._3.png").write_bytes(b"broken")
    dataset = opened(classes, PLAIN, (3, 4, 4))
    assert [dataset.name(i) for i in range(len(dataset))] == [
        "ant/10.png",
        "ant/3.png",
        "cat/0.png",
        "cat/1.png",
        "dog/deep/er/2.png",
    ]
    assert dataset.labels(CLASSES).names == ("ant", "cat", "dog")
    assert dataset.labels(CLASSES).answers.dtype == torch.int64
    assert dataset.labels(CLASSES).answers.tolist() == [0, 0, 1, 1, 2]
    assert dataset.ignored == ("README.txt", "cat/notes.md")
    wanted = torch.from_numpy(pixels(4, 4, 3, seed=4)).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(dataset.sample(0)["image"], wanted)


def test_the_label_offset_is_added(classes: Path) -> None:
    labels = opened(classes, Preprocessing(label_offset=1), (3, 4, 4)).labels(CLASSES)
    assert labels.answers.tolist() == [1, 1, 2, 2, 3]


def test_a_folder_of_images_has_no_labels(tmp_path: Path) -> None:
    for name in ["b.png", "a.JPG", "B.bmp"]:
        save(tmp_path / name, pixels(4, 4, 3))
    (tmp_path / "empty").mkdir()
    dataset = opened(tmp_path, PLAIN, (3, 4, 4))
    assert [dataset.name(i) for i in range(3)] == ["B.bmp", "a.JPG", "b.png"]
    assert dataset.labels(CLASSES) is None
    assert dataset.labels("boxes") is None
    dataset.check_labels(1)


def test_a_linked_class_folder_is_followed(classes: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ["ant", "cat", "dog"]:
        (linked / name).symlink_to(classes / name)
    (classes / "ant" / "loop").symlink_to(classes / "ant")
    assert len(opened(linked, PLAIN, (3, 4, 4))) == 5


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff", "gif", "PNG"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    image = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    save(tmp_path / f"a.{suffix}", image)
    sample = opened(tmp_path, RAW, (3, 4, 4)).sample(0)["image"]
    assert (sample[:, 0, 0] - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 6


def test_the_first_frame_is_used(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 2
    assert decode(tmp_path / "a.gif", gray=True)[0, 0].tolist() == [10]


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "YCbCr"])
def test_color_modes_are_converted(tmp_path: Path, mode: str) -> None:
    suffix = {"CMYK": "tif", "YCbCr": "tif"}.get(mode, "png")
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (4, 4), (200, 100, 50)).convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    np.testing.assert_allclose(decode(path, gray=False)[0, 0], (200, 100, 50), atol=3)
    assert decode(path, gray=True).shape == (4, 4, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_gray_modes_are_converted(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray(np.full((4, 4), 0xFFFF, np.uint16)) if mode == "I;16" else Image.new("L", (4, 4), 255)
    image.convert(mode).save(path)
    with Image.open(path) as found:
        assert found.mode == mode
    assert decode(path, gray=True).tolist() == [[[255]] * 4] * 4
    assert decode(path, gray=False).tolist() == [[[255] * 3] * 4] * 4


def test_opaque_palette_transparency_is_dropped_silently(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (200, 100, 50)).convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "a.png", transparency=bytes([255] * 256))
    assert decode(tmp_path / "a.png", gray=False)[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("size", "how"),
    [
        ((1, 1), {}),
        ((7, 5), {"subsampling": "4:2:0"}),
        ((33, 17), {"subsampling": "4:2:2", "progressive": True}),
        ((40, 31), {"subsampling": "4:4:4", "quality": 30}),
        ((64, 48), {"quality": 95, "optimize": True, "comment": b"odd"}),
    ],
)
def test_jpeg_has_the_same_pixels_whoever_decodes_it(
    tmp_path: Path, size: tuple[int, int], how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels(*size, 3)).save(path, **how)
    noticed = Noticed()
    found = decode(path, gray=False, noticed=noticed)
    whole = path.read_bytes()
    assert decoding._color_jpeg(path, "") is not None and noticed._colored == {hash(str(path))}
    # What it warns of, Pillow reads or refuses; gray and other colors are Pillow's as well.
    path.write_bytes(whole[:-20])
    assert decoding._color_jpeg(path, "") is None
    for mode in ("L", "CMYK"):
        Image.fromarray(pixels(*size, 3)).convert(mode).save(tmp_path / "b.jpg")
        assert decoding._color_jpeg(tmp_path / "b.jpg", "") is None
    monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    path.write_bytes(whole)
    assert np.array_equal(decode(path, gray=False), found)


def test_a_color_image_becomes_gray_for_one_channel(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((4, 4, 3), (255, 0, 0), np.uint8))
    for channels in ("rgb", "gray"):
        sample = opened(tmp_path, Preprocessing(scale=1, channels=channels), (1, 4, 4)).sample(0)["image"]
        assert torch.equal(sample, torch.full((1, 4, 4), 76.0))


def test_a_missing_path(tmp_path: Path) -> None:
    error = fails(tmp_path / "none")
    assert error.line == f"no such file or folder @ {tmp_path / 'none'}"
    assert error.hint == "check the path"


def test_a_file_that_is_neither_folder_nor_array(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", pixels(4, 4, 3))
    assert fails(path).message == "neither a folder nor an array file"


def test_an_empty_folder(tmp_path: Path) -> None:
    assert fails(tmp_path).message == "no image in this folder"
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "README.txt").write_text("nothing")
    error = fails(tmp_path)
    assert error.line == f"no image in this folder @ {tmp_path}"
    assert ".webp" in error.hint


def test_images_beside_class_folders(classes: Path) -> None:
    save(classes / "stray.png", pixels(4, 4, 3))
    error = fails(classes)
    assert error.message == "1 of 6 images lie beside the class folders, the first is 'stray.png'"


def test_a_class_folder_without_images(classes: Path) -> None:
    (classes / "bee").mkdir()
    error = fails(classes)
    assert error.line == f"no image in this class folder @ {classes / 'bee'}"
    assert "label" in error.hint


def test_a_gray_image_among_color_ones(classes: Path) -> None:
    save(classes / "dog" / "gray.jpg", pixels(4, 4))
    dataset = opened(classes, PLAIN, (3, 4, 4))
    assert all(sample.shape == (3, 4, 4) for sample in images(dataset)[0])
    found = {finding.code: finding for finding in dataset.findings}["gray-among-color"]
    assert (found.severity, found.message[:34]) == ("info", "1 of 6 images read is gray, one is")


def test_transparency(tmp_path: Path) -> None:
    image = np.full((4, 4, 4), 255, np.uint8)
    image[2, 2, 3] = 254
    path = save(tmp_path / "a.png", image)
    assert fails(tmp_path).line == f"the image is partly transparent @ {path}"


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_pixels_that_have_no_8_bits(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    assert fails(tmp_path, (1, 4, 4)).message == f"pixels of kind {mode} have no agreed way to 8 bits"


def test_an_image_of_the_wrong_size(classes: Path) -> None:
    path = save(classes / "cat" / "0.png", pixels(5, 6, 3))
    error = fails(classes)
    assert error.message == "the image is 5 x 6 (height x width), but the network takes 4 x 4 (height x width)"
    assert error.place == str(path)
    assert "--resize 4,4" in error.hint
    assert "after resize and crop" in fails(classes, preprocessing=Preprocessing(resize=7)).message


def test_an_image_smaller_than_the_crop(classes: Path) -> None:
    error = fails(classes, preprocessing=Preprocessing(crop=(4, 5)))
    assert error.message == "the image is 4 x 4 (height x width), smaller than the crop of 4 x 5 (height x width)"


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif", "gif"])
def test_broken_images(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", pixels(32, 32, 3))
    whole = path.read_bytes()
    draw = random.Random(0)
    for broken in [b"", b"hello", whole[: len(whole) // 2], whole[: len(whole) * 9 // 10]]:
        path.write_bytes(broken)
        error = fails(tmp_path, (3, 32, 32))
        assert error.line == f"cannot read this image: damaged, cut short or no image @ {path}"
    for _ in range(100):
        broken = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            broken[draw.randrange(len(broken) if draw.random() < 0.3 else 64)] = draw.randrange(256)
        path.write_bytes(broken)
        # A flipped byte may go unseen; nothing but a DataError may be seen.
        try:
            decode(path, gray=False)
        except DataError as error:
            assert error.place == str(path)


def test_an_image_that_vanishes(classes: Path) -> None:
    dataset = opened(classes, PLAIN, (3, 4, 4))
    (classes / "cat" / "0.png").unlink()
    for read in (lambda: list(dataset.batches()), dataset.digest):
        with pytest.raises(DataError, match=r"No such file or directory @ .*0\.png"):
            read()


# labels.csv


def listed(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder


def test_labels_csv_is_the_list_of_what_is_used(classes: Path) -> None:
    save(classes / "unlisted.png", pixels(4, 4, 3))
    listed(classes, "\ufefflabel,file,note\r\n 7,dog/deep/er/2.png,x\r\n\r\n-1,./cat/0.png\r\n")
    dataset = opened(classes, PLAIN, (3, 4, 4))
    assert [dataset.name(i) for i in range(len(dataset))] == ["dog/deep/er/2.png", "cat/0.png"]
    assert dataset.labels(CLASSES).answers.tolist() == [7, -1]
    assert dataset.labels(CLASSES).names == ()
    assert dataset.ignored == ()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", ":1", "no columns 'file' and 'label', only nothing"),
        ("cat/0.png,1\n", ":1", "no columns 'file' and 'label', only 'cat/0.png', '1'"),
        ("file,label\n", "", "no image is listed"),
        ("file,label\ncat/0.png,1\ncat/none.png,1\n", ":3", "no such image: 'cat/none.png'"),
        ("file,label\ncat\\0.png,1\n", ":2", r"no such image: 'cat\\0.png'"),
        ("file,label\ncat,1\n", ":2", "no such image: 'cat'"),
        ("file,label\n,1\n", ":2", "no such image: ''"),
        ("file,label\n../set/cat/0.png,1\n", ":2", "'../set/cat/0.png' leads out of the folder"),
        ("file,label\n/cat/0.png,1\n", ":2", "'/cat/0.png' leads out of the folder"),
        ("file,label\ncat/0.png,1\ncat/1.png,1\ncat//0.png,2\n", ":4", "'cat/0.png' is listed twice"),
        ("file,label,label\ncat/0.png,1,2\n", ":1", "two columns are called 'label'"),
        ("file,label\ncat/0.png,1,\ncat/1.png,1,2\n", ":3", "more values than columns"),
        ("file,x,y\ncat/0.png,1e300,1\n", ":2", "'1e300' in column 'x' is no number"),
        ("file,label\ncat/0.png,one\n", ":2", "the label 'one' is no integer"),
        ("file,label\ncat/0.png,1.0\n", ":2", "the label '1.0' is no integer"),
        ("file,label\ncat/0.png,1_0\n", ":2", "the label '1_0' is no integer"),
        ("file,label\ncat/0.png,99999999999999999999\n", ":2", "the label '99999999999999999999' is no integer"),
        ("file,label\ncat/0.png\n", ":2", "the label '' is no integer"),
        ("file,label\ncat/0.png,12\n", "", "the label 12 is out of range: the network has 10 outputs"),
    ],
)
def test_wrong_labels_csv(classes: Path, text: str, line: str, message: str) -> None:
    error = fails(listed(classes, text))
    assert error.message == message
    if "listed twice" in message:
        assert error.hint == "keep this line or line 2"
    if "out of range" in message:
        assert error.place == str(classes / "cat/0.png")
        assert "label-offset" in error.hint
    else:
        assert error.place == f"{classes / 'labels.csv'}{line}"


def test_labels_csv_that_is_no_text(classes: Path) -> None:
    (classes / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
    assert fails(classes).message == "not a CSV file in UTF-8"


def test_a_listed_file_that_is_no_image(classes: Path) -> None:
    (classes / "notes.txt").write_text("no image")
    assert fails(listed(classes, "file,label\nnotes.txt,1\n")).place == str(classes / "notes.txt")


def test_labels_out_of_range_in_class_folders(classes: Path) -> None:
    dataset = opened(classes, PLAIN, (3, 4, 4))
    dataset.check_labels(3)
    with pytest.raises(DataError, match=r"the label 2 is out of range: the network has 2 outputs @ .*2\.png"):
        dataset.check_labels(2)


# Arrays


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_holds_samples_and_labels(tmp_path: Path, compressed: bool) -> None:
    x, y = pixels(5, 4, 4, 3), np.array([3, 1, 2, 0, 9], np.uint8)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", x=x, y=y, other=y)
    dataset = opened(tmp_path / "a.npz", PLAIN, (3, 4, 4))
    (batch,) = images(dataset)
    torch.testing.assert_close(batch, torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255)
    assert dataset.labels(CLASSES).answers.dtype == torch.int64
    assert dataset.labels(CLASSES).answers.tolist() == y.tolist()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("stored", ["nchw", "nhwc", "nhw"])
@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float32, np.float64, ">f4"])
def test_every_array_layout(tmp_path: Path, layout: str, stored: str, kind: type) -> None:
    channels = 1 if stored == "nhw" else 3
    pixel_values = pixels(2, channels, 5, 4)
    x = pixel_values if stored == "nchw" else pixel_values.transpose(0, 2, 3, 1)
    x = x[..., 0] if stored == "nhw" else x
    np.save(tmp_path / "a.npy", x.astype(kind))
    shape = (channels, 5, 4) if layout == "nchw" else (5, 4, channels)
    wanted = pixel_values if layout == "nchw" else pixel_values.transpose(0, 2, 3, 1)
    sample = opened(tmp_path / "a.npy", Preprocessing(scale=1, layout=layout), shape).sample(1)["image"]
    np.testing.assert_array_equal(sample.numpy(), wanted[1])


def test_an_array_of_pixels_is_the_same_as_images(tmp_path: Path) -> None:
    stored = pixels(3, 12, 16, 3)
    for index, image in enumerate(stored):
        save(tmp_path / "images" / f"{index}.png", image)
    np.save(tmp_path / "x.npy", stored)
    np.save(tmp_path / "y.npy", stored.transpose(0, 3, 1, 2))
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(2,), resize=6, crop=(5, 7), channels="bgr")
    batches = [images(opened(tmp_path / name, preprocessing, (3, 5, 7)))[0] for name in ("images", "x.npy", "y.npy")]
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])


def test_floats_are_only_normalized(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    np.save(tmp_path / "a.npy", x)
    preprocessing = Preprocessing(mean=(1, 2, 3), std=(2,), resize=9, channels="bgr")
    sample = opened(tmp_path / "a.npy", preprocessing, (3, 4, 4)).sample(0)["image"]
    wanted = (x[0] - np.reshape([1, 2, 3], (3, 1, 1))) / 2
    np.testing.assert_allclose(sample.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4, 5), (2, 6, 6)])
def test_samples_that_are_no_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pixels(2, *shape)
    np.save(tmp_path / "a.npy", x)
    (batch,) = images(opened(tmp_path / "a.npy", Preprocessing(mean=(0.5,)), shape))
    np.testing.assert_allclose(batch.numpy(), x / 255 - 0.5, atol=1e-6)


def test_an_ambiguous_layout(tmp_path: Path) -> None:
    x = pixels(2, 3, 3, 3)
    np.save(tmp_path / "a.npy", x)
    error = fails(tmp_path / "a.npy", (3, 3, 3))
    assert error.message == "x [2, 3, 3, 3] may be NCHW or NHWC"
    assert "array-layout" in error.hint
    for array_layout, wanted in (("nchw", x), ("nhwc", x.transpose(0, 3, 1, 2))):
        preprocessing = Preprocessing(scale=1, array_layout=array_layout)
        sample = opened(tmp_path / "a.npy", preprocessing, (3, 3, 3)).sample(0)["image"]
        np.testing.assert_array_equal(sample.numpy(), wanted[0])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (pixels(2, 5, 5, 3), "x has shape [2, 5, 5, 3], but the network takes [N, 3, 4, 4]"),
        (pixels(3, 4, 4), "x has shape [3, 4, 4], but the network takes [N, 3, 4, 4]"),
        (pixels(2, 4, 4, 1), "x has shape [2, 4, 4, 1], but the network takes [N, 3, 4, 4]"),
        (np.uint8(3), "x has shape [], but the network takes [N, 3, 4, 4]"),
        (np.zeros((0, 3, 4, 4), np.uint8), "x holds no sample"),
        (np.zeros((2, 3, 4, 4), np.int64), "x is of type int64"),
        (np.zeros((2, 3, 4, 4), bool), "x is of type bool"),
        (np.zeros((2, 3, 4, 4), complex), "x is of type complex128"),
        (np.array([["a"]]), "x is of type <U1"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_wrong_x(tmp_path: Path, x: np.ndarray, message: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, x)
    else:
        np.savez(path, x=x)
    error = fails(path)
    assert error.message == message
    assert error.place == f"{path}:x"


def test_floats_of_the_wrong_size_are_not_resized(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 8, 8)))
    error = fails(tmp_path / "a.npy", preprocessing=Preprocessing(resize=(4, 4)))
    assert "uint8" in error.hint


def test_pixels_of_two_channels_are_not_resized(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(2, 2, 8, 8))
    error = fails(tmp_path / "a.npy", (2, 4, 4), Preprocessing(resize=(4, 4)))
    assert error.message == "cannot resize pixels of 2 channels"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_values_that_are_not_finite(tmp_path: Path, value: float, suffix: str) -> None:
    x = np.zeros((5, 4, 4, 3))
    x[3, 1, 2, 0] = x[3, 3, 3, 0] = x[4] = value
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, x)
    else:
        np.savez(path, x=x)
    error = fails(path)
    assert error.message == f"the value {'inf' if value == 1e300 else value} is not finite"
    assert error.place == f"{path}:x[3, 1, 2, 0]"


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3, np.int64), "y has shape [3], but x holds 2 samples"),
        (np.zeros((2, 3, 2, 2), complex), "y is of type complex128, not integers"),
        (np.zeros(3), "y has shape [3], but x holds 2 samples"),
        (np.zeros(2, bool), "y is of type bool, not integers"),
        (np.array([0, 11]), "the label 11 is out of range: the network has 10 outputs"),
        (np.array([0, -1]), "the label -1 is out of range: the network has 10 outputs"),
    ],
)
def test_wrong_y(tmp_path: Path, y: np.ndarray, message: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=pixels(2, 3, 4, 4), y=y)
    error = fails(path)
    assert error.message == message
    assert error.place == (f"{path}:x[1]" if "range" in message else f"{path}:y")


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    bombs = np.array([print, print], dtype=object)
    np.save(tmp_path / "x.npy", bombs, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=bombs)
    np.savez(tmp_path / "y.npz", x=pixels(2, 3, 4, 4), y=bombs)
    for name in ("x.npy", "x.npz", "y.npz"):
        assert "never read" in fails(tmp_path / name).hint


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_broken_array_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, pixels(2, 3, 4, 4))
    else:
        np.savez_compressed(path, x=pixels(2, 3, 4, 4), y=np.arange(2))
    whole = path.read_bytes()
    for broken in [b"", b"hello", whole[:50], whole[:-1], b"\x80\x04K\x01."]:
        path.write_bytes(broken)
        error = fails(path)
        assert error.line == f"damaged, or no .{suffix} file of plain numbers @ {path}"
    draw = random.Random(0)
    for _ in range(200):
        broken = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        path.write_bytes(broken)
        try:
            list(opened(path, PLAIN, (3, 4, 4)).batches())
        except SnncError as error:
            assert str(path) in error.place


def test_npz_with_an_empty_archive_or_without_x(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=pixels(2, 3, 4, 4), y=np.arange(2))
    assert fails(tmp_path / "a.npz").message == "no array x, only: images, y"
    with zipfile.ZipFile(tmp_path / "b.npz", "w"):
        pass
    assert fails(tmp_path / "b.npz").message == "no array x, only: nothing"


def test_npy_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(40_000, 3, 32, 32)).flush()
    tracemalloc.start()
    dataset = opened(path, PLAIN, (3, 32, 32), limit=500)
    assert sum(batch.samples for batch in dataset.batches()) == 500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 << 20  # of 120 MB


def test_an_npy_that_becomes_shorter_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4_000, 3, 32, 32), np.uint8))
    dataset = opened(path, PLAIN, (3, 32, 32))
    os.truncate(path, 1_000)
    with pytest.raises(DataError, match="became shorter while it was read"):
        next(iter(dataset.batches()))
    with pytest.raises(DataError, match="became shorter while it was read"):
        dataset.digest()


# Delivery


def many(folder: Path, count: int = 37) -> Path:
    for index in range(count):
        save(folder / f"{index:03}.png", pixels(4, 4, 3, seed=index))
    return folder


@pytest.mark.parametrize("batch_size", [1, 5, 36, 37, 64])
@pytest.mark.parametrize("workers", [1, 2, 7, None])
def test_batches_do_not_depend_on_size_or_workers(tmp_path: Path, batch_size: int, workers: int | None) -> None:
    dataset = opened(many(tmp_path), PLAIN, (3, 4, 4))
    wanted = torch.stack([dataset.sample(index)["image"] for index in range(37)])
    told: list[tuple[str, int, int]] = []
    samples = DatasetSamples(dataset, Reading(batch_size, workers), "reading", lambda *tell: told.append(tell))
    for _ in range(2):
        told.clear()
        batches = [feeds["image"] for feeds in samples.batches()]
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert told == [("reading", min(done, 37), 37) for done in range(0, 37 + batch_size, batch_size)]
        assert torch.equal(torch.cat(batches), wanted)


def test_order_survives_slow_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ImageFiles.read

    def slow(source: ImageFiles, index: int) -> np.ndarray:
        time.sleep(0.002 * (7 - index % 7))
        return read(source, index)

    dataset = opened(many(tmp_path), PLAIN, (3, 4, 4))
    wanted = torch.cat(images(dataset, Reading(workers=1)))
    monkeypatch.setattr(ImageFiles, "read", slow)
    assert torch.equal(torch.cat(images(dataset, Reading(5, 7))), wanted)


def test_only_so_many_samples_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    read = ImageFiles.read

    def counted(source: ImageFiles, index: int) -> np.ndarray:
        started.append(index)
        return read(source, index)

    monkeypatch.setattr(ImageFiles, "read", counted)
    dataset = opened(many(tmp_path, 60), PLAIN, (3, 4, 4))
    batches = dataset.batches(Reading(4, 2))
    assert started == []
    for delivered in range(4, 24, 4):
        next(batches)
        time.sleep(0.02)
        # Each of two threads reads two at once.
        assert delivered <= len(started) <= delivered + 4 + 2 * 2
    batches.close()


def test_no_work_goes_on_after_the_caller_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    gate = threading.Event()
    read = ImageFiles.read

    def gated(source: ImageFiles, index: int) -> np.ndarray:
        started.append(index)
        assert index < 4 or gate.wait(10)
        return read(source, index)

    monkeypatch.setattr(ImageFiles, "read", gated)
    batches = opened(many(tmp_path), PLAIN, (3, 4, 4)).batches(Reading(4, 2))
    next(batches)
    threading.Timer(0.1, gate.set).start()
    batches.close()
    # What two threads are reading, two samples each, is finished, no more is begun, and no thread is left.
    assert len(started) <= 4 + 2 * 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("snnc-data")]


def test_what_little_memory_bears_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[int]()
    plain = ImageFiles.read

    def counted(source: ImageFiles, index: int) -> Mapping[str, Array]:
        read.append(index)
        return plain(source, index)

    monkeypatch.setattr(ImageFiles, "read", counted)
    many(tmp_path)
    sample = 4 * 4 * 3 * 4
    monkeypatch.setattr(dataset, "_MOST_HELD", 30)
    for borne in (0, 1, 10, 1000):
        allowed = borne * sample * dataset._SHARE
        monkeypatch.setattr(dataset, "memory", lambda allowed=allowed: allowed)
        whole = opened(tmp_path, PLAIN, (3, 4, 4))
        first = torch.cat([feeds["image"] for feeds in whole.batches(Reading(10, 1))])
        assert len(read) == 37
        part = whole.chosen(range(36, -1, -1))
        again = torch.cat([feeds["image"] for feeds in part.batches(Reading(5, 1))])
        assert torch.equal(again, first.flip(0))
        assert sorted(read) == sorted([*range(37), *range(min(borne, 30), 37)])
        read.clear()


def test_memory_does_not_grow_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is held for the next time.
    monkeypatch.setattr(dataset, "memory", lambda: 0)
    image = pixels(64, 64, 3)
    save(tmp_path / "000.png", image)
    for index in range(1, 300):
        shutil.copy(tmp_path / "000.png", tmp_path / f"{index:03}.png")
    peaks = []
    for limit in (30, 300):
        images = opened(tmp_path, PLAIN, (3, 64, 64), limit=limit)
        list(images.batches(Reading(2)))
        tracemalloc.start()
        for _ in images.batches(Reading(4, 2)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # How many are read ahead is a matter of time.
    ahead = (4 + 2 * 2) * 64 * 64 * 3 * 4
    assert peaks[1] < peaks[0] + ahead


def test_the_error_comes_at_the_first_broken_sample(tmp_path: Path) -> None:
    many(tmp_path)
    for index in (20, 30):
        (tmp_path / f"{index:03}.png").write_bytes(b"broken")
    batches = opened(tmp_path, PLAIN, (3, 4, 4)).batches(Reading(4, 3))
    for _ in range(5):
        next(batches)
    with pytest.raises(DataError, match=r"020\.png"):
        next(batches)


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 1), (-1, 1), (1, 0)])
def test_sizes_below_one(classes: Path, batch_size: int, workers: int) -> None:
    with pytest.raises(UsageError):
        opened(classes, PLAIN, (3, 4, 4)).batches(Reading(batch_size, workers))


# Limit and digest


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_limit_spreads_evenly(tmp_path_factory: pytest.TempPathFactory, samples: int, limit: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("limit") / "a.npy"
    np.save(path, np.arange(samples, dtype=np.float32)[:, None])
    chosen = [int(v) for v in torch.cat(images(opened(path, PLAIN, (1,), limit=limit, seed=seed), Reading(512)))]
    assert len(chosen) == min(samples, limit)
    for index, row in enumerate(chosen):
        assert index * samples // len(chosen) <= row < (index + 1) * samples // len(chosen)
    assert chosen == [int(v) for v in torch.cat(images(opened(path, PLAIN, (1,), limit=limit, seed=seed)))]


def test_a_limit_sees_all_classes_of_cyclic_data(tmp_path: Path) -> None:
    labels = np.arange(1000) % 10
    np.savez(tmp_path / "a.npz", x=np.zeros((1000, 1), np.float32), y=labels)
    datasets = [opened(tmp_path / "a.npz", PLAIN, (1,), limit=100, seed=seed) for seed in (0, 1)]
    subsets = [dataset.labels(CLASSES).answers for dataset in datasets]
    assert all(len(set(subset.tolist())) == 10 for subset in subsets)
    assert not torch.equal(*subsets)


def test_a_limit_below_one(classes: Path) -> None:
    with pytest.raises(UsageError, match="the limit is 0"):
        opened(classes, PLAIN, (3, 4, 4), limit=0)


def digest(path: Path, preprocessing: Preprocessing = PLAIN, limit: int | None = None) -> str:
    return opened(path, preprocessing, (3, 4, 4), limit=limit).digest()


def test_the_digest_is_of_names_contents_and_labels(classes: Path, tmp_path: Path) -> None:
    whole = digest(classes)
    assert whole == digest(classes, Preprocessing(mean=(0.5,), label_offset=1))
    assert whole == digest(shutil.copytree(classes, tmp_path / "copy"))
    assert whole != digest(classes, limit=3)
    (classes / "README.txt").write_text("no image")
    assert whole == digest(classes)
    digests = {whole}
    (classes / "cat").rename(classes / "cow")
    digests.add(digest(classes))
    save(classes / "cow" / "0.png", pixels(4, 4, 3, seed=9))
    digests.add(digest(classes))
    for text in ("cow/0.png,1\nant/3.png,2\n", "cow/0.png,2\nant/3.png,1\n"):
        digests.add(digest(listed(classes, f"file,label\n{text}")))
    assert len(digests) == 5
    assert digest(listed(classes, "file,label\nant/3.png,1\ncow/0.png,2\n")) in digests


def test_the_digest_of_arrays_is_of_their_values(tmp_path: Path) -> None:
    x = pixels(4, 3, 4, 4)
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    np.savez_compressed(tmp_path / "b.npz", x=x)
    np.savez(tmp_path / "c.npz", x=x, y=np.arange(4))
    np.save(tmp_path / "d.npy", x[::-1])
    np.save(tmp_path / "e.npy", x.astype(np.float32))
    digests = [digest(path) for path in sorted(tmp_path.iterdir())]
    assert digests[0] == digests[1] == digests[5]
    assert len(set(digests)) == 4


# Real data


@real_data
def test_real_cifar10() -> None:
    preprocessing = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    dataset = opened(REAL / "cifar10" / "test", preprocessing, (3, 32, 32))
    assert len(dataset) == 1996
    assert dataset.labels(CLASSES).names[0] == "airplane"
    assert dataset.labels(CLASSES).names[9] == "truck"
    assert min(Counter(dataset.labels(CLASSES).answers.tolist()).values()) > 150
    dataset.check_labels(10)
    batches = images(dataset, Reading(256))
    assert sum(len(batch) for batch in batches) == 1996
    assert abs(torch.cat(batches).mean()) < 0.2
    assert len(opened(REAL / "cifar10" / "calibration", preprocessing, (3, 32, 32))) == 1024


@real_data
def test_real_training_arrays() -> None:
    dataset = opened(REAL / "cifar10" / "train.npz", PLAIN, (3, 32, 32), limit=1024)
    assert len(Counter(dataset.labels(CLASSES).answers.tolist())) == 10
    assert 0.4 < float(torch.cat(images(dataset)).mean()) < 0.55


@real_data
def test_real_mnist_is_gray() -> None:
    folder = REAL / "mnist" / "test"
    dataset = opened(folder, Preprocessing(mean=(0.131,), std=(0.308,)), (1, 28, 28))
    assert len(dataset) == 1000
    assert dataset.labels(CLASSES).names == tuple("0123456789")
    assert abs(torch.cat(images(dataset)).mean()) < 0.1
    colored = opened(folder, PLAIN, (3, 28, 28), limit=20)
    images(colored)
    assert [(finding.code, finding.severity) for finding in colored.findings] == [("gray-among-color", "warning")]


@real_data
def test_real_imagenet_sample() -> None:
    preprocessing = Preprocessing(mean=(0.5,), std=(0.5,), resize=(224, 224), label_offset=1)
    dataset = opened(REAL / "imagenet_sample", preprocessing, (3, 224, 224), limit=40)
    dataset.check_labels(1001)
    assert dataset.labels(CLASSES).answers.min() >= 1
    (batch,) = images(dataset, Reading(64))
    assert batch.shape == (40, 3, 224, 224)
    assert -1 <= batch.min() < -0.9
    assert 0.9 < batch.max() <= 1
    unfit = dataclasses.replace(preprocessing, resize=None)
    assert "--resize 224,224" in fails(REAL / "imagenet_sample", (3, 224, 224), unfit, outputs=1001).hint


@real_data
def test_real_photographs_in_bgr() -> None:
    folder = REAL / "coco" / "images"
    bgr, rgb = (
        opened(folder, Preprocessing(resize=(352, 352), channels=channels), (3, 352, 352), limit=4)
        for channels in ("bgr", "rgb")
    )
    assert isinstance(bgr, Dataset)
    assert torch.equal(bgr.sample(3)["image"], rgb.sample(3)["image"].flip(0))


# Hostile data.


def hostile(path: Path, shape: tuple[int, ...] = (4,), **options: Any) -> Dataset:
    return open_dataset(path, Preprocessing(**options), {"x": shape})


@pytest.mark.parametrize("name", ["x", "x.npy", "y.npy"])
def test_a_text_among_arrays_is_none(name: str, tmp_path: Path) -> None:
    arrays = {"x.npy": np.ones((3, 4), np.float32), "y.npy": np.zeros(3, np.int64)}
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        for key, array in arrays.items():
            if key.removesuffix(".npy") != name.removesuffix(".npy"):
                with archive.open(key, "w") as stream:
                    np.lib.format.write_array(stream, array)
        archive.writestr(name, "text")
    with pytest.raises(DataError, match=r"d\.npz"):
        hostile(tmp_path / "d.npz")


def test_an_array_is_as_large_as_its_header_says(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as stream,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 4)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(bytes(1 << 20))
    with pytest.raises(DataError, match="does not fit into memory"):
        hostile(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("value", "options"),
    [(3e38, {}), (-3e38, {}), (1e10, {"std": (1e-15,)}), (1.0, {"mean": (1e15,), "std": (1e-15,)})],
)
def test_values_that_nothing_can_be_computed_with_are_told(
    value: float, options: dict[str, Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.full((3, 4), value, np.float32))
    with pytest.raises(DataError, match=r"the preprocessed value .* is too large @ .*x\[0\]"):
        next(hostile(tmp_path / "x.npy", **options).batches())


@pytest.mark.parametrize("label", [(1 << 64) - 1, 1 << 63, 1 << 40])
def test_labels_do_not_wrap_into_range(label: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((2, 4), np.float32), y=np.array([0, label], np.uint64))
    with pytest.raises(DataError, match="labels beyond"):
        hostile(tmp_path / "d.npz", label_offset=8)


@pytest.mark.parametrize(
    "options",
    [
        {"label_offset": 1 << 70},
        {"label_offset": (1 << 63) - 1},
        {"scale": 1e-50},
        {"scale": 1e300},
        {"std": [1e-45]},
        {"mean": [3e38]},
        {"resize": 1 << 40},
        {"crop": [1 << 31, 4]},
    ],
)
def test_preprocessing_out_of_reason_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="data"):
        parse(Preprocessing, options, place="data")


def test_images_are_measured_before_they_are_read_and_resized(tmp_path: Path) -> None:
    Image.new("L", (30_000, 1)).save(tmp_path / "long.png")
    with pytest.raises(DataError, match=r"256 x 7680000 .*, resized from 1 x 30000 .*, is too large @ .*long\.png"):
        next(hostile(tmp_path, (1, 8, 8), resize=256, crop=8).batches())
    with pytest.raises(DataError, match="is too large"):
        next(hostile(tmp_path, (1, 8, 8), resize=(100_000, 100_000), crop=8).batches())
    header = bytearray((tmp_path / "long.png").read_bytes())
    header[16:24] = struct.pack(">II", 1 << 30, 1 << 30)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    (tmp_path / "long.png").write_bytes(header)
    with pytest.raises(DataError, match=r"cannot read this image|as its header says, is too large"):
        next(hostile(tmp_path, (1, 8, 8)).batches())


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    save(tmp_path / "data" / "a.png", pixels(4, 4))
    os.mkfifo(tmp_path / "data" / "labels.csv")
    with pytest.raises(DataError, match="not a file but a pipe"):
        hostile(tmp_path / "data", (1, 4, 4))
    (tmp_path / "data" / "labels.csv").unlink()
    (tmp_path / "data" / "labels.csv").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="not a file but a device"):
        hostile(tmp_path / "data", (1, 4, 4))
    os.mkfifo(tmp_path / "x.npz")
    (tmp_path / "x.npy").symlink_to("/dev/zero")
    for name in ("x.npz", "x.npy"):
        with pytest.raises(DataError, match="not a file but"):
            hostile(tmp_path / name)


@pytest.mark.parametrize("version", [64, 99, 255])
def test_an_archive_of_a_version_to_come_is_no_array_file(version: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((2, 4), np.float32))
    data = bytearray((tmp_path / "d.npz").read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = version
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"no \.npz file of plain numbers"):
        hostile(tmp_path / "d.npz")
