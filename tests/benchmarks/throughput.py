"""Measure the simulator's speed against onnxruntime running the trained network, in one run.

    python tests/benchmarks/throughput.py [--quick] [--folder FOLDER] [SECTION ...]

Sections: cifar, resnet18, resnet50, mobilenet_v2; all of them where none is named. Ratios are times of the process
divided by onnxruntime's in the same round, the median over the rounds. Those of ImageNet's size have random weights and
are made in ``--folder`` where they are not there; ``.../exported`` is the exported file, run by onnxruntime too.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime
import torch
from harness import PREPROCESSING, SHARED, asked, finish, model_files, outputs, say
from large import file_of

import snnc
from snnc import pipeline, recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.neurons import Neuron, neurons
from snnc.recipe import from_plain
from snnc.schedule import Schedule

NAME = "cifar10_resnet20"
# Thresholds alone, from a few images of noise: how good the network is does not matter to its speed.
PASSES = ("fold-batch-norm", "treat-max-pool", "normalize-activations", "place-neurons", "calibrate-thresholds")
LEVELS = 15
Figures = dict[str, float]


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of the process that some work takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compared(key: str, tasks: Mapping[str, Callable[[], object]], rounds: int, count: int) -> Figures:
    """Return how long all tasks take beside the first."""
    base = next(iter(tasks.values()))
    for warm in tasks.values():
        warm()
    ratios: dict[str, list[float]] = {task: [] for task in tasks}
    seconds: dict[str, list[float]] = {task: [] for task in tasks}
    for turn in range(rounds):
        for task, work in tasks.items():
            # 32 simulated steps take so long that one round says enough.
            if turn and "T=32" in task and "two-phase" not in task:
                continue
            # Each is timed right after the first, so that a change of the machine's speed hits both.
            unit = timed(base)
            seconds[task].append(timed(work))
            ratios[task].append(seconds[task][-1] / unit)
        say(f"{key or NAME}: round {turn + 1} of {rounds}")
    figures = {}
    for task, times in seconds.items():
        figures[f"{key}{task}/ratio"] = statistics.median(ratios[task])
        figures[f"{key}{task}/images_per_second"] = count / statistics.median(times)
        say(f"{key}{task}: {figures[f'{key}{task}/ratio']:.2f} x onnxruntime")
    return figures


def session(path: Path | bytes) -> onnxruntime.InferenceSession:
    """Return onnxruntime with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def standing(made: Conversion, kind: str, timesteps: int, **options: int) -> Conversion:
    """Return a conversion with neurons of another kind, over other time steps.

    Where values go below zero, ``cif`` stands for those that have no negative spikes.
    """
    schedule = Schedule(timesteps)
    ops = {}
    for name, op in made.snn.ops(Neuron).items():
        fits = neurons[kind].signed or op.slope is None
        form = op.closed_form(made.schedule.timesteps)
        ops[name] = neurons[kind if fits else "cif"].standing_for(form, schedule, **options)
    return replace(made, snn=made.snn.with_ops(ops), schedule=schedule)


def cifar(quick: bool, folder: Path) -> Figures:
    """Time a small network of real weights, on many images."""
    count, rounds = (100, 1) if quick else (1000, 3)
    dataset = open_dataset(SHARED / "cifar10/test", PREPROCESSING[NAME], {"x": (3, 32, 32)}, Reading(limit=count))
    images = torch.cat([feeds["x"] for feeds in dataset.batches()])
    path = model_files(NAME)[0]
    made, _ = snnc.convert(path, recipe.load("default"), preprocessing=PREPROCESSING[NAME])
    assert made.reference is not None
    canonical = pipeline.apply_recipe(made.reference, recipe.recorded(made), None).canonical
    network, array = session(path), images.numpy()
    name = network.get_inputs()[0].name

    def spiking(kind: str, timesteps: int) -> Callable[[], object]:
        other = standing(made, kind, timesteps)
        return lambda: outputs(other.snn, images, other.schedule)

    # onnxruntime in batches of 250: no slower than 100 or 1,000 on the machines tried.
    tasks: dict[str, Callable[[], object]] = {
        "onnxruntime": lambda: [network.run(None, {name: array[i : i + 250]}) for i in range(0, count, 250)],
        "torch": lambda: outputs(canonical, images),
    }
    for kind in ("two-phase", "if", "dual-threshold", "cif"):
        for timesteps in (4, 8, 32):
            tasks[f"{kind}/T={timesteps}"] = spiking(kind, timesteps)
    return {"images": float(count), "rounds": float(rounds), **compared("", tasks, rounds, count)}


def large(name: str) -> Callable[[bool, Path], Figures]:
    """Return what times a network of ImageNet's size on four images."""

    def measured(quick: bool, folder: Path) -> Figures:
        count, rounds = (1, 1) if quick else (4, 7)
        path = file_of(name, folder)
        images = torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        chosen = from_plain({"name": "thresholds", "timesteps": 4, "passes": [*PASSES, "substitute-neurons"]})
        made, _ = snnc.convert(path, chosen, data=images)
        network, array = session(path), images.numpy()

        def spiking(kind: str, timesteps: int, **options: int) -> Callable[[], object]:
            other = standing(made, kind, timesteps, **options)
            return lambda: outputs(other.snn, images, other.schedule)

        exported = session(snnc.export(standing(made, "two-phase", 4)).written.data)
        tasks = {
            "onnxruntime": lambda: network.run(None, {network.get_inputs()[0].name: array}),
            "two-phase/T=4": spiking("two-phase", 4),
            "two-phase/T=4/exported": lambda: exported.run(None, {exported.get_inputs()[0].name: array}),
            "graded/steps=1": spiking("graded", 1, top=LEVELS),
            **{f"{kind}/T=4": spiking(kind, 4) for kind in ("if", "dual-threshold", "cif")},
        }
        return compared(f"{name}/", tasks, rounds, count)

    return measured


SECTIONS: Mapping[str, Callable[[bool, Path], Figures]] = {
    "cifar": cifar,
    **{name: large(name) for name in ("resnet18", "resnet50", "mobilenet_v2")},
}


def main() -> None:
    """Time what is asked for."""
    given = asked(__doc__ or "", SECTIONS, "snnc-large")
    figures: Figures = {}
    for name in given.sections:
        figures |= SECTIONS[name](given.quick, given.folder)
    finish(figures)


if __name__ == "__main__":
    main()
