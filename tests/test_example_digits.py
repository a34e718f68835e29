"""The files of examples/digits are what its README says: accurate, small, and free of leaks between their parts."""

import re
import runpy
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


class Labeled(NamedTuple):
    images: np.ndarray
    labels: np.ndarray


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.mode == "L"
        return np.asarray(image)


def preprocessed(files: list[Path]) -> np.ndarray:
    # By hand and not with snnc's reader: this is what that reader can be compared with.
    settings = yaml.safe_load((DIGITS / "snnc.yaml").read_text(encoding="utf-8"))["preprocessing"]
    assert settings["channels"] == "gray"
    images = np.stack([pixels(file) for file in files])[:, None].astype(np.float32)
    mean, std = (np.array(settings[key], dtype=np.float32).reshape(1, 1, 1, 1) for key in ("mean", "std"))
    return (images / 255 - mean) / std


@pytest.fixture(scope="module")
def test_images() -> Labeled:
    files = sorted((DIGITS / "test").glob("*/*.png"))
    return Labeled(preprocessed(files), np.array([int(file.parent.name) for file in files]))


@pytest.fixture(scope="module")
def logits(test_images: Labeled) -> np.ndarray:
    session = onnxruntime.InferenceSession(DIGITS / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": test_images.images})[0]


def test_the_project_file_names_what_is_there():
    project = yaml.safe_load((DIGITS / "snnc.yaml").read_text(encoding="utf-8"))
    assert (DIGITS / project["model"]).is_file()
    assert (DIGITS / project["calibration"]["data"]).is_dir()
    assert (DIGITS / project["evaluation"]["data"]).is_dir()


def test_the_folders_hold_the_promised_images(test_images: Labeled):
    assert len(list((DIGITS / "calibration").iterdir())) == 200
    assert test_images.images.shape == (400, 1, 8, 8)
    # Stratified, so no digit is rare: an accuracy over them means the same for each.
    assert np.bincount(test_images.labels, minlength=10).min() >= 38


def test_the_accuracy_is_reached(test_images: Labeled, logits: np.ndarray):
    assert (logits.argmax(axis=1) == test_images.labels).mean() >= 0.97


# TorchScript is deprecated in torch; that people still have such files is why the example has one.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_agrees_with_onnx(test_images: Labeled, logits: np.ndarray):
    model = torch.jit.load(DIGITS / "model.pt")
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.from_numpy(test_images.images)).numpy(), logits, rtol=1e-4, atol=1e-4)


def test_onnx_keeps_what_a_conversion_can_get_wrong():
    model = onnx.load(DIGITS / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") == 4
    assert kinds.count("MaxPool") == kinds.count("Add") == 1
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_no_calibration_image_is_a_test_image():
    calibration, test = (
        {pixels(file).tobytes() for file in (DIGITS / folder).rglob("*.png")} for folder in ("calibration", "test")
    )
    assert calibration and test
    assert calibration.isdisjoint(test)


def test_it_is_small():
    assert sum(file.stat().st_size for file in DIGITS.rglob("*") if file.is_file()) < 1_000_000
    assert all((DIGITS / model).stat().st_size < 60_000 for model in ("model.onnx", "model.pt"))


def test_the_models_do_not_say_where_they_were_made():
    with zipfile.ZipFile(DIGITS / "model.pt") as archive:
        assert not [name for name in archive.namelist() if name.endswith(".debug_pkl")]
        contents = b"".join(archive.read(name) for name in archive.namelist())
    for data in (contents, (DIGITS / "model.onnx").read_bytes()):
        assert not re.search(rb"site-packages|train\.py|/home/|/Users/", data)


def test_the_notebook_plots_the_spikes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = shutil.copytree(DIGITS, tmp_path / "digits")
    for image in sorted((folder / "calibration").iterdir())[64:]:
        image.unlink()
    monkeypatch.chdir(folder)
    with matplotlib.rc_context({"backend": "Agg"}):
        names = runpy.run_path("spikes.py", run_name="__main__")
        names["plt"].close(names["figure"])
    said = capsys.readouterr().out
    assert "16 of 16 images are recognized" in said
    assert "step by step, the same answer: True" in said
    with Image.open(folder / "spikes.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    # Spikes of both signs, in their colors.
    for color in ((0x2A, 0x5B, 0xD7), (0xE4, 0x57, 0x2E)):
        assert (drawn == color).all(1).sum() > 1000
