"""Train the digit classifier of this folder, and write its images, its two model files and its snnc.yaml."""

import argparse
import time
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 0
CALIBRATION_IMAGES = 200
TEST_IMAGES = 400

PROJECT = """\
model: model.onnx
calibration:
  data: calibration
evaluation:
  data: test
preprocessing:
  mean: [{mean}]
  std: [{std}]
  channels: gray
"""


class Digits(nn.Module):
    """Small, with what a conversion has to get right: batch normalization, a residual addition and a max-pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(1, 12)
        self.inner = convolution(12, 12)
        self.outer = convolution(12, 12)
        self.last = convolution(12, 24)
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(24 * 4 * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        stem = F.relu(self.stem(image))
        residual = self.outer(F.relu(self.inner(stem)))
        features = self.pool(F.relu(residual + stem))
        return self.classifier(torch.flatten(F.relu(self.last(features)), 1))


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    # No bias: the batch normalization that follows would subtract it again.
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))


class Part(NamedTuple):
    images: np.ndarray
    labels: np.ndarray


def split() -> tuple[Part, Part, Part]:
    """The training, calibration and test parts of scikit-learn's digits, every digit equally frequent in each."""
    digits = load_digits()
    # 0..16 becomes 0..255, so that the network sees exactly what the PNG files hold.
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    images, test_images, labels, test_labels = train_test_split(
        images, digits.target, test_size=TEST_IMAGES, stratify=digits.target, random_state=SEED
    )
    images, calibration_images, labels, calibration_labels = train_test_split(
        images, labels, test_size=CALIBRATION_IMAGES, stratify=labels, random_state=SEED
    )
    return Part(images, labels), Part(calibration_images, calibration_labels), Part(test_images, test_labels)


def save_images(output: Path, calibration: Part, test: Part) -> None:
    """Write calibration/0000.png..., which needs no labels, and test/<digit>/0000.png..."""
    for index, image in enumerate(calibration.images):
        save_image(output / "calibration" / f"{index:04}.png", image)
    for digit in range(10):
        for index, image in enumerate(test.images[test.labels == digit]):
            save_image(output / "test" / str(digit) / f"{index:04}.png", image)


def save_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, optimize=True)


def preprocess(images: np.ndarray, mean: float, std: float) -> Tensor:
    return (torch.from_numpy(images)[:, None].float() / 255 - mean) / std


def train(images: Tensor, labels: Tensor, epochs: int, batch: int, rate: float) -> Digits:
    torch.manual_seed(SEED)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def save_onnx(model: Digits, image: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        # torch points to its newer exporter, which has already folded the batch normalization that we want to keep.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (image,),
            path,
            dynamo=False,
            # Else the exporter folds the batch normalization into the convolutions itself.
            do_constant_folding=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )
    exported = onnx.load(path)
    for node in exported.graph.node:
        # Where in the source the node came from, with the folders of the machine: nobody else has those.
        node.ClearField("doc_string")
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, path)


def save_torchscript(model: Digits, image: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        # TorchScript is deprecated, and still how many trained networks are kept: that is why this file is here.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(model, image), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            # Only debuggers read these, and they hold the folders of the machine. ZipInfo has a fixed date.
            if not name.endswith(".debug_pkl"):
                archive.writestr(zipfile.ZipInfo(name), data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="default: the folder of this script")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    # Threads that wait for each other on images this small cost far more than they save, and reorder the sums.
    torch.set_num_threads(1)

    training, calibration, test = split()
    save_images(options.output, calibration, test)

    # Rounded, so that the numbers in snnc.yaml are the numbers the network was trained with.
    mean = round(float(training.images.mean()) / 255, 2)
    std = round(float(training.images.std()) / 255, 2)
    project = PROJECT.format(mean=mean, std=std)
    (options.output / "snnc.yaml").write_text(project, encoding="utf-8")

    start = time.perf_counter()
    images = preprocess(training.images, mean, std)
    model = train(images, torch.from_numpy(training.labels), options.epochs, options.batch, options.rate)
    seconds = time.perf_counter() - start
    save_onnx(model, images[:1], options.output / "model.onnx")
    save_torchscript(model, images[:1], options.output / "model.pt")

    with torch.no_grad():
        predicted = model(preprocess(test.images, mean, std)).argmax(dim=1).numpy()
    correct = int((predicted == test.labels).sum())
    print(f"{correct} of {len(test.labels)} test images right ({correct / len(test.labels):.2%}), {seconds:.0f} s")


if __name__ == "__main__":
    main()
