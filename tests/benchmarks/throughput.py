"""Measure the simulator's speed against onnxruntime running the trained network, in one run.

    python tests/benchmarks/throughput.py [--quick]

Ratios are times divided by onnxruntime's time in the same round, the median over the rounds.
"""

import statistics
import time
from collections.abc import Callable

import onnxruntime
import torch
from harness import PREPROCESSING, SHARED, arguments, finish, model_files, outputs, say

import snnc
from snnc import pipeline, recipe
from snnc.data.dataset import Reading, open_dataset
from snnc.neurons import neurons
from snnc.neurons.two_phase import TwoPhase
from snnc.schedule import Schedule

NAME = "cifar10_resnet20"


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    quick = arguments(__doc__ or "").quick
    count, rounds = (100, 1) if quick else (1000, 3)
    dataset = open_dataset(SHARED / "cifar10/test", PREPROCESSING[NAME], {"x": (3, 32, 32)}, Reading(limit=count))
    images = torch.cat([feeds["x"] for feeds in dataset.batches()])
    path = model_files(NAME)[0]
    made, _ = snnc.convert(path, recipe.load("default"), preprocessing=PREPROCESSING[NAME])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    array, name = images.numpy(), session.get_inputs()[0].name
    assert made.reference is not None
    reference = made.reference
    canonical = pipeline.apply_recipe(reference, recipe.recorded(made), None).canonical

    def spiking(kind: str, timesteps: int) -> Callable[[], object]:
        layers = made.snn.ops(TwoPhase).items()
        graph = made.snn.with_ops(
            {n: neurons[kind].standing_for(op.closed_form(timesteps), Schedule(timesteps)) for n, op in layers}
        )
        return lambda: outputs(graph, images, Schedule(timesteps))

    # onnxruntime in batches of 250: no slower than 100 or 1,000 on the machines tried.
    tasks: dict[str, Callable[[], object]] = {
        "onnxruntime": lambda: [session.run(None, {name: array[i : i + 250]}) for i in range(0, count, 250)],
        "torch": lambda: outputs(canonical, images),
    }
    for kind in ("two-phase", "if", "dual-threshold", "cif"):
        for timesteps in (4, 8, 32):
            tasks[f"{kind}/T={timesteps}"] = spiking(kind, timesteps)
    seconds: dict[str, list[float]] = {task: [] for task in tasks}
    ratios: dict[str, list[float]] = {task: [] for task in tasks}
    for warm in ("onnxruntime", "torch", "two-phase/T=4", "if/T=4"):
        tasks[warm]()
    for turn in range(rounds):
        for task, work in tasks.items():
            # 32 simulated steps take so long that one round says enough.
            if turn and "T=32" in task and not task.startswith("two-phase"):
                continue
            # Each is timed right after onnxruntime, so that a change of the machine's speed hits both.
            base = timed(tasks["onnxruntime"])
            seconds[task].append(timed(work))
            ratios[task].append(seconds[task][-1] / base)
        say(f"round {turn + 1} of {rounds}")
    figures = {"images": float(count), "rounds": float(rounds)}
    for task, times in seconds.items():
        figures[f"{task}/ratio"] = statistics.median(ratios[task])
        figures[f"{task}/images_per_second"] = count / statistics.median(times)
        say(f"{task}: {figures[f'{task}/ratio']:.2f} x onnxruntime")
    finish(figures)


if __name__ == "__main__":
    main()
