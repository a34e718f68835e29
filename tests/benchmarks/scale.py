"""Measure what large networks and many samples cost: memory and time of import, inspect and convert.

    python tests/benchmarks/scale.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: import, quick, densenet, inspect, vgg16; all of them where none is named. Times are those of the processor, on
one thread. ``inspect`` and ``vgg16`` take networks with random weights from ``zoo.py``, made in ``--folder`` where they
are not there; VGG-16 is given random images.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnx
import torch
from harness import PREPROCESSING, SHARED, environment, finish, model_files, read, say
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from zoo import PACKAGES, made, run

from snnc import pipeline, recipe
from snnc.actions.plan import plan
from snnc.data.dataset import Reading, open_dataset
from snnc.data.samples import MemorySamples
from snnc.feeds import Feeds
from snnc.frontend import read_model
from snnc.ir import Input
from snnc.run import Program

RESNET = "cifar10_resnet20"
ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    """Return the processor's time for some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def row_of(kinds: tuple[str, ...], count: int, path: Path) -> Path:
    """Write a network of so many nodes in a row, one kind after the other; what takes weights has its own."""
    nodes, weights = [], []
    for number, kind in zip(range(count), itertools.cycle(kinds), strict=False):
        inputs = [f"v{number}"]
        if kind == "MatMul":
            weights.append(numpy_helper.from_array(np.eye(8, dtype=np.float32), f"w{number}"))
            inputs.append(f"w{number}")
        nodes.append(helper.make_node(kind, inputs, [f"v{number + 1}"], name=f"node {number}"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("v0", f"v{count}")]
    graph = helper.make_graph(nodes, "row", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def imported(folder: Path, quick: bool) -> dict[str, float]:
    """Read rows of nodes: the time of a node among many over that of one among few, the worst of all rows."""
    counts = (100, 300) if quick else (300, 3000)
    growths = {}
    for kinds in (("Identity",), ("Relu",), ("MatMul", "Relu")):
        each = []
        for count in counts:
            path = row_of(kinds, count, folder / "row.onnx")
            read_model(path)
            each.append(min(seconds(lambda path=path: read_model(path)) for _ in range(ROUNDS)) / count)
        growths["+".join(kinds)] = each[1] / each[0]
        say(f"{' and '.join(kinds)}: {1e3 * each[0]:.2f} ms a node of {counts[0]}, {1e3 * each[1]:.2f} of {counts[1]}")
    return {"scale/import/growth": max(growths.values())}


def corrected(folder: Path, quick: bool) -> dict[str, float]:
    """Run the recipe quick on a residual network."""
    return {"scale/quick/passes-over-forward": passes(model_files(RESNET)[0], 64 if quick else 1024, quick)}


def corrected_dense(folder: Path, quick: bool) -> dict[str, float]:
    """Run it on DenseNet-BC-100 (Huang et al., CVPR 2017) with random weights."""
    torch.manual_seed(0)
    network, path = densenet().train(), folder / "densenet-bc-100.onnx"
    network(torch.randn(64, 3, 32, 32))
    sample = (torch.zeros(1, 3, 32, 32),)
    # The older exporter prints nothing where the figures go.
    torch.onnx.export(network.eval(), sample, path, input_names=["x"], dynamo=False)
    return {"scale/quick/densenet/passes-over-forward": passes(path, 16 if quick else 256, quick)}


class Dense(nn.Sequential):
    """Two convolutions, and what they see beside what they make."""

    def forward(self, x: Tensor) -> Tensor:
        """Return both, one behind the other."""
        return torch.cat([x, super().forward(x)], 1)


def densenet(growth: int = 12, layers: int = 16, blocks: int = 3) -> nn.Sequential:
    """Return a network of dense blocks with bottlenecks, and with transitions that halve."""

    def normalized(channels: int, made: int, window: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, made, window, padding=window // 2, bias=False)
        return [nn.BatchNorm2d(channels), nn.ReLU(), convolution]

    channels = 2 * growth
    parts: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    for block in range(blocks):
        for _ in range(layers):
            parts.append(Dense(*normalized(channels, 4 * growth, 1), *normalized(4 * growth, growth, 3)))
            channels += growth
        if block < blocks - 1:
            parts += [*normalized(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(
        *parts, nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(channels, 10)
    )


def passes(path: Path, images: int, quick: bool) -> float:
    """Return how many passes of the trained network the recipe quick takes the time of, on images of CIFAR-10."""
    graph = read(path, (3, 32, 32))
    reading = Reading(limit=images)
    dataset = open_dataset(SHARED / "cifar10/calibration", PREPROCESSING[RESNET], graph.ops(Input), reading)
    samples = MemorySamples(Feeds({n: torch.cat([feeds[n] for feeds in dataset.batches()]) for n in graph.inputs}))
    steps = recipe.load("quick")
    program = Program(graph)

    def forward() -> None:
        for _ in program.stream(samples.batches()):
            pass

    forward()
    ratios = []
    for _ in range(1 if quick or images < 1024 else ROUNDS):
        before = seconds(forward)
        spent = seconds(lambda: pipeline.apply_recipe(graph, steps, samples))
        ratios.append(2 * spent / (before + seconds(forward)))
        say(f"recipe quick: {spent:.1f} s, {ratios[-1]:.2f} passes of the trained network")
    return sorted(ratios)[len(ratios) // 2]


def inspected(folder: Path, quick: bool) -> dict[str, float]:
    """Say what the default recipe makes of DenseNet-121, over the time in which the file is read."""
    path = file_of("densenet121", folder)
    if path is None:
        return {}
    steps = recipe.load("default")
    plan(path, steps)
    read_in = min(seconds(lambda: read_model(path)) for _ in range(ROUNDS))
    told_in = min(seconds(lambda: plan(path, steps)) for _ in range(ROUNDS))
    say(f"DenseNet-121: {read_in:.2f} s to read, {told_in:.2f} s to inspect")
    return {"scale/inspect/densenet121/cpu-over-import": told_in / read_in}


def converted(folder: Path, quick: bool) -> dict[str, float]:
    """Convert VGG-16 on images by the recipe quick, from the command line."""
    path = file_of("vgg16", folder)
    if path is None:
        return {}
    count = 4 if quick else 64
    coarse = np.random.default_rng(0).integers(0, 256, (count, 14, 14, 3), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        np.savez(Path(scratch, "images.npz"), x=coarse.repeat(16, 1).repeat(16, 2))
        command = ("convert", path, "-o", "made.snn", "--recipe", "quick", "--data", "images.npz")
        done = run(sys.executable, "-m", "snnc", *command, folder=Path(scratch))
    if done.code:
        say(f"VGG-16 exits with {done.code}:\n{done.text[-1000:]}")
        return {}
    say(f"VGG-16 on {count} images: {done.seconds:.0f} s, {done.gigabytes:.2f} GB")
    return {"scale/vgg16/convert/gigabytes": done.gigabytes, "scale/vgg16/convert/cpu-seconds": done.seconds}


def file_of(name: str, folder: Path) -> Path | None:
    """Return the file of an architecture, made where it is not there; says where it cannot be made."""
    there = (folder / f"{name}.npz").exists()
    failure = "" if there else made(environment(folder / "environment", *PACKAGES), name, folder)
    if failure:
        say(f"{name}: cannot be made here: {failure}")
        return None
    return folder / f"{name}.onnx"


SECTIONS: Mapping[str, Callable[[Path, bool], dict[str, float]]] = {
    "import": imported,
    "quick": corrected,
    "densenet": corrected_dense,
    "inspect": inspected,
    "vgg16": converted,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="few nodes and images, to see that it runs")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "snnc-zoo", help="kept")
    given = parser.parse_args()
    if unknown := {*given.sections} - {*SECTIONS}:
        parser.error(f"no section {sorted(unknown)[0]!r}; there are: {', '.join(SECTIONS)}")
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    for name in given.sections or SECTIONS:
        figures |= SECTIONS[name](folder, given.quick)
    finish(figures)


if __name__ == "__main__":
    main()
