"""Measure snnc beside SpikingJelly 2.0.0: the same network, the same images, one after the other in one run.

    python tests/benchmarks/peers.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: convert, simulate, accuracy; all of them where none is named. SpikingJelly's conversions are its rate coding
with percentiles of 99.9 % for each channel and neurons that start at half their threshold, and its local threshold
balancing; pip installs it into ``--folder``, which is kept. Ratios of speed are its seconds over ours, of the process,
the median over rounds in which both take turns. The transformer is not here: SpikingJelly does not convert it, which
``modern.py spikingjelly`` shows.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from snnc import process

process.prepare()

import onnx
import torch
import torch.nn.functional as F
from harness import PREPROCESSING, SHARED, asked, finish, outputs, say
from onnx import numpy_helper
from torch import Tensor, nn

import snnc
from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.labels import Classes
from snnc.ir import Input
from snnc.neurons import neurons
from snnc.neurons.base import Neuron
from snnc.schedule import Schedule

Figures = dict[str, float]

NAME = "cifar10_resnet20"
PACKAGES = ("spikingjelly==2.0.0", "loguru", "tqdm", "requests", "urllib3", "idna", "certifi", "charset-normalizer")
STEPS = (2, 4, 8, 32)
BATCH = 64
# Images to calibrate on, to be timed and to judge on, and rounds.
CALIBRATED, TIMED, JUDGED, ROUNDS = 512, 256, 1000, 5


class Block(nn.Module):
    """Two convolutions beside a shortcut: every second place, and channels of zeros around.

    That is a convolution here: SpikingJelly converts no network that pads channels.
    """

    def __init__(self, channels: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made)
        self.conv2, self.bn2 = nn.Conv2d(made, made, 3, 1, 1, bias=False), nn.BatchNorm2d(made)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Conv2d(channels, made, 1, stride, bias=False)
            kept = torch.eye(channels)
            self.shortcut.weight.data = F.pad(kept, (0, 0, *[(made - channels) // 2] * 2))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, rectified."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        total: Tensor = self.relu2(y + self.shortcut(x))
        return total


class ResNet20(nn.Module):
    """The network in torch, as SpikingJelly needs it, with the weights of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                *(Block(before if not block else made, made, stride if not block else 1) for block in range(3))
            )
            for before, made, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.pool, self.linear = nn.AvgPool2d(8), nn.Linear(64, 10)
        file = onnx.load(SHARED / f"models/{NAME}.onnx").graph
        weights = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in file.initializer}
        own = self.state_dict()
        self.load_state_dict({name: weights.get(name, value) for name, value in own.items()})
        missing = {name for name in own if not name.endswith("num_batches_tracked")} - set(weights)
        assert all("shortcut" in name for name in missing), missing

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


def installed(folder: Path) -> bool:
    """Make SpikingJelly importable, installed into a folder of its own; return whether that went well."""
    if not (folder / "spikingjelly").exists():
        say(f"installing SpikingJelly into {folder}")
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *PACKAGES]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            say("SpikingJelly cannot be installed")
            return False
    sys.path.append(str(folder))
    return True


def read(part: str, count: int | None) -> Dataset:
    """Return images of the test set, or those to calibrate on; None: all."""
    return open_dataset(SHARED / "cifar10" / part, PREPROCESSING[NAME], {"x": Input((3, 32, 32))}, Reading(limit=count))


def pixels(part: str, count: int | None) -> Tensor:
    """Return images as the network takes them."""
    return torch.cat([feeds["x"] for feeds in read(part, count).batches()])


def truth(part: str, count: int | None) -> Tensor:
    """Return their labels."""
    labels = read(part, count).labels("classes")
    assert isinstance(labels, Classes)
    return labels.answers


def theirs(calibration: Tensor, how: str) -> nn.Module:
    """Return what SpikingJelly makes of the network: ``rate`` or ``ltb``."""
    from spikingjelly.activation_based.ann2snn import Converter, LocalThresholdBalancingRecipe, RateCodingRecipe

    if how == "rate":
        loader = [(part, None) for part in calibration.split(BATCH)]
        chosen = RateCodingRecipe(dataloader=loader, mode="99.9%", channel_wise=True, half_threshold=True)
    else:
        # Thresholds rise from zero batch by batch, and need many: each is one image.
        chosen = LocalThresholdBalancingRecipe(dataloader=[(image, None) for image in calibration.split(1)])
    converted: nn.Module = Converter(recipe=chosen).convert(ResNet20().eval()).eval()
    return converted


def simulated(network: nn.Module, images: Tensor, steps: int) -> Tensor:
    """Return the mean outputs of SpikingJelly's network over so many steps."""
    from spikingjelly.activation_based import functional

    found = []
    with torch.no_grad():
        for part in images.split(BATCH):
            functional.reset_net(network)
            found.append(sum(network(part) for _ in range(steps)) / steps)
    return torch.cat(found)


def ours() -> Conversion:
    """Return what snnc makes of the network: recipe quick."""
    made, _ = snnc.convert(
        SHARED / f"models/{NAME}.onnx",
        recipe.load("quick"),
        data=SHARED / "cifar10/calibration",
        preprocessing=PREPROCESSING[NAME],
        reading=Reading(limit=CALIBRATED),
    )
    return made


def answered(made: Conversion, kind: str, steps: int, images: Tensor) -> Tensor:
    """Return the mean outputs of our network with neurons of a kind over so many steps."""
    schedule = Schedule(steps)
    layers = made.snn.ops(Neuron).items()
    standing = {
        name: neurons[kind].standing_for(op.closed_form(made.schedule.timesteps), schedule) for name, op in layers
    }
    return outputs(made.snn.with_ops(standing), images, schedule)


def ratio(theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> float:
    """Return how many times as long they take as we do."""
    found = []
    for _ in range(rounds + 1):
        started = time.process_time()
        theirs()
        middle = time.process_time()
        ours()
        found.append((middle - started) / (time.process_time() - middle))
    # The first round warms up.
    return statistics.median(found[1:])


def convert() -> Figures:
    """Time both conversions, images read among them."""

    def rate() -> nn.Module:
        return theirs(pixels("calibration", CALIBRATED), "rate")

    return {"peers/resnet20/convert/speed-ratio": ratio(rate, ours, 1)}


def simulate() -> Figures:
    """Time both simulations, at the same steps, and ours of two-phase neurons beside theirs at 32."""
    calibration, images = pixels("calibration", CALIBRATED), pixels("test", TIMED)
    network, made = theirs(calibration, "rate"), ours()
    figures = {}
    for steps in STEPS:

        def run(steps: int = steps) -> Tensor:
            return simulated(network, images, steps)

        def own(kind: str, steps: int = steps) -> Tensor:
            return answered(made, kind, steps, images)

        rounds = 1 if steps > 8 else ROUNDS
        figures[f"peers/resnet20/if/T={steps}/speed-ratio"] = ratio(run, lambda own=own: own("if"), rounds)
        if steps == 32:
            figures["peers/resnet20/two-phase/T=32/speed-ratio"] = ratio(run, lambda own=own: own("two-phase"), rounds)
    return figures


def accuracy() -> Figures:
    """Judge both on the same images, all steps counted: a two-phase network of T steps takes T for each layer."""
    calibration, images = pixels("calibration", CALIBRATED), pixels("test", JUDGED)
    wanted, made = truth("test", JUDGED), ours()

    def right(logits: Tensor) -> float:
        return float((logits.argmax(1) == wanted).float().mean() * 100)

    figures = {"peers/resnet20/trained/top1": right(outputs(made.reference, images) if made.reference else images)}
    for how, name in (("rate", "spikingjelly"), ("ltb", "spikingjelly-ltb")):
        network = theirs(calibration, how)
        for steps in STEPS:
            figures[f"peers/resnet20/{name}/T={steps}/top1"] = right(simulated(network, images, steps))
    for kind in ("if", "two-phase", "cif"):
        for steps in STEPS:
            figures[f"peers/resnet20/{kind}/T={steps}/top1"] = right(answered(made, kind, steps, images))
    return figures


SECTIONS = {"convert": convert, "simulate": simulate, "accuracy": accuracy}


def main() -> None:
    global CALIBRATED, TIMED, JUDGED, ROUNDS
    given = asked(__doc__ or "", SECTIONS, "snnc-peers")
    if given.quick:
        CALIBRATED, TIMED, JUDGED, ROUNDS = 64, 32, 64, 1
    figures: Figures = {}
    if installed(given.folder):
        for name in given.sections:
            figures |= SECTIONS[name]()
            say(f"{name}: done")
    finish(figures)


if __name__ == "__main__":
    main()
