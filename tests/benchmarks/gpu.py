"""Compare a GPU with the CPU: the same answers, how many times as fast, and in how much of its memory.

    python tests/benchmarks/gpu.py [--quick]

A residual network for CIFAR-10 is converted by the recipe quick and evaluated on both, which takes minutes. Where torch
sees no GPU nothing is measured, and no figure printed.
"""

import time
from collections.abc import Callable

import torch
from harness import PREPROCESSING, SHARED, arguments, finish, model_files, say

import snnc
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.ir import Input
from snnc.run import Program, computing_on

RESNET = "cifar10_resnet20"


def seconds(work: Callable[[], object]) -> float:
    """Return the time that some work takes, all that the GPU was asked for included."""
    started = time.monotonic()
    work()
    torch.cuda.synchronize()
    return time.monotonic() - started


def answers(made: Conversion, reading: Reading, device: str) -> torch.Tensor:
    """Return the class that the spiking network answers for each image."""
    dataset = open_dataset(SHARED / "cifar10/test", made.preprocessing, made.snn.ops(Input), reading)
    with computing_on(device):
        program = Program(made.snn, made.schedule)
        (name,) = program.want
        return torch.cat([found[name][0].argmax(1) for found in program.stream(dataset.batches(reading))])


def measured(quick: bool) -> dict[str, float]:
    """Convert and run a network on both devices."""
    calibrating, judging = Reading(limit=64 if quick else 1024), Reading(limit=64 if quick else 2000)
    figures = {}
    made = {}
    spent: dict[str, list[float]] = {"cpu": [], "cuda": []}
    for device, times in spent.items():

        def convert(device: str = device) -> None:
            with computing_on(device):
                data = SHARED / "cifar10/calibration"
                how = {"preprocessing": PREPROCESSING[RESNET], "reading": calibrating, "neuron": "if"}
                made[device], _ = snnc.convert(model_files(RESNET)[0], "quick", data=data, timesteps=8, **how)

        times.append(seconds(convert))
        # The first time, kernels are chosen.
        answers(made["cpu"], Reading(limit=16), device)
        times.append(seconds(lambda device=device: answers(made["cpu"], judging, device)))
        say(f"{device}: {times[0]:.1f} s to convert, {times[1]:.1f} s to run")
    on_cpu, on_gpu = (answers(made["cpu"], judging, device) for device in spent)
    figures["gpu/same-predictions"] = 100 * float((on_cpu == on_gpu).double().mean())
    figures["gpu/converted-there/same-predictions"] = 100 * float(
        (on_cpu == answers(made["cuda"], judging, "cpu")).double().mean()
    )
    for index, what in enumerate(("convert", "run")):
        figures[f"gpu/{what}/speed-ratio"] = spent["cpu"][index] / spent["cuda"][index]
    return figures | {"gpu/gigabytes": torch.cuda.max_memory_allocated() / 1024**3}


def main() -> None:
    given = arguments(__doc__ or "")
    if not torch.cuda.is_available():
        say("not measured: torch sees no GPU here")
        finish({})
        return
    finish(measured(given.quick))


if __name__ == "__main__":
    main()
