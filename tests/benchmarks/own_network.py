"""Train a network of plain ReLUs on CIFAR-10 from scratch, as a user would: snnc finetune --from-scratch.

python tests/benchmarks/own_network.py [--quick] [--epochs N] [--folder FOLDER]

Seven convolutions, those between two resolutions of stride 2, so that nothing but ReLUs is nonlinear; 0.6 billion
floating point operations an image and step of training. The first is whitened by the recipe and stays like that; what
the last layer answers is scaled down, which lets it bear the rate of the others (Jordan, 2024). The training images are
the 48,330 labeled ones of CIFAR-10's 50,000. ``--folder`` keeps the network, its checkpoint and its log, and a training
that was stopped goes on from there; latency.py takes the network from the same place. Nothing is chosen on the test
images.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from snnc import process

process.prepare()

import numpy as np
import torch
from harness import PREPROCESSING, SHARED, finish, oracle, say
from PIL import Image
from torch import nn

FOLDER = Path(tempfile.gettempdir()) / "snnc-own"
NETWORK = "cifar10_own.onnx"
HOW = PREPROCESSING["cifar10_nin"]
EPOCHS = 15
# Channels that are whitened, of windows of 2x2, and channels, window and stride of every other convolution.
WHITENED = 24
LAYERS = ((96, 4, 2), (96, 3, 1), (256, 4, 2), (256, 3, 1), (384, 4, 2), (384, 3, 1))
SCALE = 1 / 22


class Scale(nn.Module):
    """A product with a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``SCALE`` times the input."""
        return x * SCALE


def network() -> nn.Sequential:
    """Return the network as it is drawn."""
    steps: list[nn.Module] = [nn.Conv2d(3, WHITENED, 2, bias=False), nn.ReLU()]
    before = WHITENED
    for channels, window, stride in LAYERS:
        steps += [nn.Conv2d(before, channels, window, stride, padding=1, bias=False)]
        steps += [nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10), Scale())


def images(to: Path, quick: bool) -> Path:
    """Gather all labeled images of the training set in one file."""
    if not to.exists():
        known = np.load(SHARED / "cifar10/train.npz")
        pixels, labels = [*known["x"]], [*known["y"]]
        for shard in [] if quick else sorted((SHARED / "cifar10").glob("train_rest-*.tar")):
            with tarfile.open(shard) as tar:
                for member in tar:
                    data = tar.extractfile(member)
                    assert data is not None
                    if member.name.endswith(".webp"):
                        pixels.append(np.asarray(Image.open(io.BytesIO(data.read())).convert("RGB")))
                    else:
                        labels.append(int(data.read()))
        assert len(pixels) == len(labels)
        np.savez(to, x=np.stack(pixels), y=np.array(labels))
    return to


def trained(folder: Path, epochs: int, quick: bool) -> Path:
    """Return the trained network, and train it before, or go on with that, where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    tuned, start, checkpoint = folder / NETWORK, folder / "drawn.onnx", folder / "checkpoint"
    if tuned.exists():
        return tuned
    data = images(folder / "train.npz", quick)
    if not start.exists():
        torch.manual_seed(0)
        options = {"dynamo": False, "do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
        torch.onnx.export(network().eval(), (torch.zeros(1, 3, 32, 32),), str(start), opset_version=17, **options)
    command = [sys.executable, "-m", "snnc", "finetune", "--from-scratch", str(start), "--data", str(data)]
    command += ["-o", str(tuned), "--checkpoint", str(checkpoint), "--log", str(folder / "log.csv")]
    command += ["--mean", ",".join(map(str, HOW.mean or ())), "--std", ",".join(map(str, HOW.std or ()))]
    command += ["--epochs", str(epochs), "--batch-size", "512", "--learning-rate", "3"]
    command += ["--set", "training.weight-decay=0.00033", "--device", "auto"]
    command += ["--resume"] if checkpoint.exists() else []
    say(" ".join(command))
    started, used = time.perf_counter(), _cpu()
    done = subprocess.run(command, check=False)
    times = folder / "times.json"
    before = json.loads(times.read_text()) if times.exists() else {"minutes": 0.0, "cpu": 0.0}
    spent = {"minutes": (time.perf_counter() - started) / 60, "cpu": (_cpu() - used) / 60}
    times.write_text(json.dumps({key: before[key] + value for key, value in spent.items()}))
    if done.returncode:
        raise SystemExit(done.returncode)
    return tuned


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def accuracy(path: Path) -> float:
    """Return the accuracy of onnxruntime on the 1,996 test images, in percent."""
    classes = sorted(folder for folder in (SHARED / "cifar10/test").iterdir() if folder.is_dir())
    files = [(file, label) for label, folder in enumerate(classes) for file in sorted(folder.iterdir())]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file, _ in files])
    shown = ((pixels / 255 - HOW.mean) / HOW.std).transpose(0, 3, 1, 2)
    answers = oracle(path, torch.from_numpy(shown).float()).argmax(1)
    return float((answers == torch.tensor([label for _, label in files])).float().mean() * 100)


def main() -> None:
    """Train, and say how good it is and what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the images, one epoch, to see that it runs")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="how often every image is shown")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="kept")
    given = parser.parse_args()
    folder = given.folder / ("quick" if given.quick else "")
    path = trained(folder, 1 if given.quick else given.epochs, given.quick)
    spent = json.loads((folder / "times.json").read_text())
    figures = {f"cifar10_own/train/{key}": value for key, value in spent.items()}
    finish(figures | {"cifar10_own/ann/top1": accuracy(path)})


if __name__ == "__main__":
    main()
