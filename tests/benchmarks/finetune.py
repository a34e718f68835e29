"""Fine-tune on labels, convert, and count what is right on test images.

python tests/benchmarks/finetune.py [--quick] [--steps T] [--epochs N] [--images N] [SECTION ...]

Sections: tuned, noise, resnet18; the first two where none is named. resnet18 trains the CIFAR variant of that network
from scratch and wants a GPU: --epochs 1 --quick shows that it runs. The training images are 16,384 of CIFAR-10's
50,000. Nothing is chosen on the test images.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import snnc
from snnc import process
from snnc.actions.finetune import finetune

process.prepare()

import torch
from harness import PREPROCESSING, SHARED, asked, finish, model_files, outputs, say
from torch import Tensor, nn

from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.formats.onnx import onnx_model
from snnc.run import ONCE

Figures = dict[str, float]

NAME = "cifar10_resnet20"
HOW = PREPROCESSING[NAME]
TRAINING, TEST = SHARED / "cifar10/train.npz", SHARED / "cifar10/test"
DEVICE = "auto"
# --quick takes few images, --epochs and --steps change what they say.
READING, JUDGED = Reading(), Reading()
EPOCHS: int | None = None
STEPS: int | None = None


def tune(model: Path, name: str, timesteps: int, folder: Path, *settings: str) -> tuple[Path, float]:
    """Fine-tune a network, and time it."""
    if EPOCHS is not None:
        settings = (*settings, f"training.epochs={EPOCHS}")
    started = time.perf_counter()
    tuned = finetune(
        model,
        recipe.load(name, timesteps=timesteps, overrides=settings),
        data=TRAINING,
        preprocessing=HOW,
        reading=READING,
        device=DEVICE,
        progress=_progress(),
    )
    seconds = time.perf_counter() - started
    say(f"{name}, T={timesteps}: held out {tuned.score:.2f} % (before {tuned.before:.2f}), {seconds:.0f} s")
    file = folder / f"{name}-{timesteps}.onnx"
    file.write_bytes(onnx_model(tuned.graph).SerializeToString())
    return file, seconds


def _progress() -> Callable[[str, int, int], None]:
    shown = {""}

    def tell(label: str, done: int, total: int) -> None:
        epoch = label.partition(",")[0]
        if epoch.startswith("epoch") and epoch not in shown:
            shown.add(epoch)
            say(label)

    return tell


def converted(file: Path, name: str, timesteps: int, *settings: str, sleep: int | None = None) -> Conversion:
    """Convert a tuned network as a user would."""
    how = recipe.load(name, timesteps=timesteps, sleep=sleep, overrides=settings)
    made, _ = snnc.convert(
        file, how, data=SHARED / "cifar10/calibration", preprocessing=HOW, reading=Reading(limit=READING.limit)
    )
    return made


def judge(key: str, made: Conversion) -> Figures:
    """Count what a conversion gets right on the test images."""
    result = snnc.evaluate(made, data=TEST, reading=JUDGED)
    (row,) = result.rows
    say(f"{key}: {row.accuracy:.2f} % (tuned network {result.reference['accuracy']:.2f}), {row.total_steps} steps")
    assert row.accuracy is not None
    return {
        f"{key}/top1": row.accuracy,
        f"{key}/tuned/top1": result.reference["accuracy"],
        f"{key}/total_steps": float(row.total_steps),
        f"{key}/images": float(result.samples),
    }


def agreements(key: str, made: Conversion) -> Figures:
    """Compare the predictions of the tuned network and of its spiking one, in single and double precision."""
    dataset = open_dataset(TEST, HOW, {"x": (3, 32, 32)}, Reading(limit=JUDGED.limit))
    images = torch.cat([feeds["x"] for feeds in dataset.batches()])
    assert made.reference is not None
    figures: Figures = {}
    for precision, dtype in (("", torch.float32), ("_float64", torch.float64)):
        both = ((made.reference, ONCE), (made.snn, made.schedule))
        wanted, found = (
            outputs(graph.map_tensors(lambda t, to=dtype: t.to(to)), images.to(dtype), schedule).argmax(1)
            for graph, schedule in both
        )
        figures[f"{key}/agreement{precision}"] = 100 * float((wanted == found).double().mean())
    say(f"{key}: {figures}")
    return figures


def tuned() -> Figures:
    """Tune with the default recipe; two-phase neurons, and consistent ones after sleep."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for timesteps in (STEPS,) if STEPS else (2, 4):
            key = f"{NAME}/T={timesteps}"
            file, figures[f"{key}/seconds"] = tune(model_files(NAME)[0], "default", timesteps, Path(folder))
            pipelined = converted(file, "default", timesteps)
            figures |= judge(key, pipelined) | agreements(f"{key}/two-phase", pipelined)
            asleep = converted(file, "casc", timesteps, sleep=16)
            figures |= judge(f"{key}/cif", asleep) | agreements(f"{key}/cif", asleep)
    for precision in ("", "_float64"):
        found = [value for key, value in figures.items() if key.endswith(f"/agreement{precision}")]
        figures[f"{NAME}/agreement{precision}"] = min(found)
    return figures


def noise() -> Figures:
    """Tune with and without noise at equal cost; dual-threshold neurons, synchronous."""
    figures: Figures = {}
    equal = ("training.epochs=10", "training.optimizer=adamw", "training.learning-rate=0.001")
    equal += ("training.augment=[crop, flip]", "training.batch-size=64", "training.warm-up=0.05")
    with tempfile.TemporaryDirectory() as folder:
        for total in (STEPS,) if STEPS else (2, 4, 8):
            for activation in ("qcfs", "noisy-qcfs"):
                how = (*equal, f"training.activation={activation}", f"training.levels={total}")
                how += (f"training.noise-steps={total}", "training.noise-neuron=dual-threshold")
                file, seconds = tune(model_files(NAME)[0], "residual-noise", total, Path(folder), *how)
                key = f"{NAME}/synchronous/steps={total}/{activation}"
                made = converted(file, "error-compensation", total)
                figures |= judge(key, made) | {f"{key}/seconds": seconds}
    return figures


def resnet18() -> Figures:
    """Train the CIFAR variant of ResNet-18 from scratch, with quantized activations from the start."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        file = Path(folder) / "resnet18.onnx"
        torch.onnx.export(ResNet18(), (torch.zeros(1, 3, 32, 32),), file, dynamo=False)
        for timesteps in (STEPS,) if STEPS else (1, 2, 4):
            key = f"cifar10_resnet18/T={timesteps}"
            how = "error-compensation"
            tuned_file, figures[f"{key}/seconds"] = tune(file, how, timesteps, Path(folder), "training.batch-size=128")
            figures |= judge(key, converted(tuned_file, how, timesteps))
    return figures


class _Block(nn.Module):
    def __init__(self, width: int, channels: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(width, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.short = nn.Sequential()
        if stride > 1 or width != channels:
            self.short = nn.Sequential(nn.Conv2d(width, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.main(x) + self.short(x)
        return total.relu()


class ResNet18(nn.Sequential):
    """ResNet-18 (He et al., CVPR 2016) with the first layer of the CIFAR variant: 3x3, without pooling."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        width = 64
        for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [_Block(width, channels, stride), _Block(channels, channels, 1)]
            width = channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
        self.eval()


SECTIONS: dict[str, Callable[[], Figures]] = {"tuned": tuned, "noise": noise, "resnet18": resnet18}


def main() -> None:
    global READING, JUDGED, EPOCHS, STEPS
    numbers = {"steps": "one T only", "epochs": "other than the recipe's", "images": "so many training images only"}
    given = asked(__doc__ or "", SECTIONS, usual=("tuned", "noise"), **numbers)
    EPOCHS, STEPS = given.epochs, given.steps
    if given.quick:
        READING, JUDGED = Reading(limit=1638), Reading(limit=200)
    if given.images:
        READING = Reading(limit=given.images)
    figures: Figures = {}
    for name in given.sections:
        figures |= SECTIONS[name]()
    finish(figures)


if __name__ == "__main__":
    main()
