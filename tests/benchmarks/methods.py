"""Measure every method, and the label-free default against them, on real networks.

python tests/benchmarks/methods.py [--quick] [--steps N] [SECTION ...]

Sections: pipelined, large, synchronous, casc, tpp, recipes, others, passes; all of them where none is named. Nothing is
chosen on the test images, and no label is used but to count what is right.
"""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import snnc
from snnc import process

process.prepare()

import torch
from harness import PREPROCESSING, SHARED, asked, finish, model_files, outputs, say

from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.neurons import Neuron, neurons
from snnc.neurons.choice import chosen
from snnc.passes import passes
from snnc.recipe import Recipe, pass_name
from snnc.run import ONCE
from snnc.schedule import Schedule

Figures = dict[str, float]

RESNET, NIN, MOBILENET = "cifar10_resnet20", "cifar10_nin", "imagenet_mobilenetv2_100_224"
CALIBRATION = {RESNET: "cifar10/calibration", NIN: "cifar10/calibration", MOBILENET: "coco/images"}
TEST = {RESNET: "cifar10/test", NIN: "cifar10/test", MOBILENET: "imagenet_sample"}
# Images to calibrate on and to judge on; --quick takes few of both.
CALIBRATED, JUDGED = Reading(), Reading()
SEEDS = 3
# The T of the first two sections, and the totals of the third.
TIMESTEPS = (2, 4, 8)
TOTALS = (4, 8, 16)
# The T of the other networks, and of random neurons.
OTHERS = (8, 16)
RANDOM = (2, 4, 8, 16)


def convert(
    name: str, how: Recipe, data: str | None = None, reading: Reading | None = None
) -> tuple[Conversion, float]:
    """Convert and calibrate a network, and time it."""
    started = time.perf_counter()
    made, _ = snnc.convert(
        model_files(name)[0],
        how,
        data=SHARED / (data or CALIBRATION[name]),
        preprocessing=PREPROCESSING[name],
        reading=reading or CALIBRATED,
    )
    return made, time.perf_counter() - started


def judge(
    name: str,
    key: str,
    made: Conversion,
    schedule: Schedule | None = None,
    *,
    repeats: int = 1,
    probe: bool = False,
) -> Figures:
    """Count what a conversion gets right on the test images."""
    schedule = schedule or made.schedule
    result = snnc.evaluate(
        dataclasses.replace(made, schedule=schedule),
        data=SHARED / TEST[name],
        repeats=repeats,
        probe="permutation" if probe else None,
        reading=JUDGED,
    )
    (row,) = result.rows
    say(
        f"{key}: {row.accuracy:.2f} % (trained {result.reference['accuracy']:.2f}), agreement {row.agreement:.2f} %, "
        f"T={row.timesteps} asleep {row.sleep}, {row.total_steps} steps, {result.samples} images"
    )
    assert row.accuracy is not None and row.agreement is not None
    found = {
        f"{key}/top1": row.accuracy,
        f"{key}/agreement": row.agreement,
        f"{key}/total_steps": float(row.total_steps),
        f"{key}/energy_ratio": row.energy.ratio or 0.0,
        f"{name}/reference/top1": result.reference["accuracy"],
        f"{name}/images": float(result.samples),
    }
    if row.accuracy_deviation is not None:
        found[f"{key}/top1_deviation"] = row.accuracy_deviation
    if row.misalignment is not None:
        found[f"{key}/misalignment_points"] = row.misalignment
    return found


def with_neurons(made: Conversion, kind: type[Neuron], timesteps: int) -> Conversion:
    """Put other neurons with the same thresholds in the place of a conversion's."""
    swapped = {
        n: kind.standing_for(op.closed_form(timesteps), Schedule(timesteps)) for n, op in made.snn.ops(Neuron).items()
    }
    return dataclasses.replace(made, snn=made.snn.with_ops(swapped))


def pipelined() -> Figures:
    """Convert with the default recipe and the 1,024 calibration images."""
    figures: Figures = {}
    for timesteps in TIMESTEPS:
        made, seconds = convert(RESNET, recipe.load("default", timesteps=timesteps))
        key = f"{RESNET}/1024/T={timesteps}"
        figures |= judge(RESNET, key, made) | {f"{key}/seconds": seconds}
    return figures


def large() -> Figures:
    """Convert with the default recipe and the 16,384 training images, whose labels are not looked at."""
    figures: Figures = {}
    for timesteps in TIMESTEPS:
        made, seconds = convert(RESNET, recipe.load("default", timesteps=timesteps), "cifar10/train.npz")
        key = f"{RESNET}/16384/T={timesteps}"
        figures |= judge(RESNET, key, made) | {f"{key}/seconds": seconds}
    return figures


# How a number of steps in all is divided: a step of sleep for neurons that take spikes back, whose best share of sleep
# tests/benchmarks/splits.py looks for on training images, and a quarter for those that rehearse.
SPLITS: dict[str, Callable[[int], Schedule]] = {
    "if": Schedule,
    "dual-threshold": lambda total: Schedule(total - 1, 1),
    "burst": Schedule,
    "cif": lambda total: Schedule(total - 1, 1),
    "srp": lambda total: Schedule(total - total // 4, 0, total // 4),
    "cos": lambda total: Schedule(total - total // 4, 0, total // 4),
}


def synchronous() -> Figures:
    """Give neurons that fire at once the same number of steps from image to answer, and the synchronous recipe too."""
    figures: Figures = {}
    for total in TOTALS:
        # By the steps awake and the levels that thresholds and weights are for.
        made_for: dict[tuple[int, int], Conversion] = {}
        for name, split in SPLITS.items():
            schedule = split(total)
            awake = schedule.timesteps
            wanted = awake, chosen(name).levels(awake)
            if wanted not in made_for:
                made_for[wanted], _ = convert(RESNET, recipe.load("quick", timesteps=awake, neuron=name))
            key = f"{RESNET}/synchronous/steps={total}/{name}"
            figures |= judge(RESNET, key, with_neurons(made_for[wanted], neurons[name], awake), schedule)
        made, seconds = convert(RESNET, recipe.load("synchronous", timesteps=total - 1))
        key = f"{RESNET}/synchronous/steps={total}"
        figures |= judge(RESNET, key, made) | {f"{key}/seconds": seconds}
    return figures


def casc() -> Figures:
    """Let consistent neurons sleep until nothing fires, and compare with the quantized network."""
    figures: Figures = {}
    dataset = open_dataset(
        SHARED / TEST[RESNET], PREPROCESSING[RESNET], {"x": (3, 32, 32)}, Reading(limit=JUDGED.limit)
    )
    images = torch.cat([feeds["x"] for feeds in dataset.batches()])
    for timesteps in TIMESTEPS:
        made, _ = convert(RESNET, recipe.load("casc", timesteps=timesteps))
        result = snnc.evaluate(made, data=SHARED / TEST[RESNET], reading=JUDGED)
        key = f"{RESNET}/casc/T={timesteps}"
        figures |= {f"{key}/top1": result.rows[0].accuracy or 0.0, f"{key}/sleep": float(result.rows[0].sleep_used)}
        quantized = made.snn.with_ops({n: op.closed_form(timesteps) for n, op in made.snn.ops(Neuron).items()})
        for precision, dtype in (("", torch.float32), ("_float64", torch.float64)):
            both = ((quantized, ONCE), (made.snn, made.schedule))
            wanted, found = (
                outputs(graph.map_tensors(lambda t, to=dtype: t.to(to)), images.to(dtype), schedule).argmax(1)
                for graph, schedule in both
            )
            figures[f"{key}/agreement{precision}"] = 100 * float((wanted == found).double().mean())
        say(f"{key}: {[(k, v) for k, v in figures.items() if k.startswith(key)]}")
    for precision in ("", "_float64"):
        found = [v for k, v in figures.items() if k.endswith(f"/agreement{precision}")]
        figures[f"{RESNET}/casc/agreement{precision}"] = min(found)
    return figures


def tpp() -> Figures:
    """Compare probabilistic two-phase neurons, IF, and IF with its spikes shuffled, at equal thresholds."""
    figures: Figures = {}
    for timesteps in RANDOM:
        made, _ = convert(RESNET, recipe.load("tpp", timesteps=timesteps))
        key = f"{RESNET}/tpp/T={timesteps}"
        figures |= judge(RESNET, key, made, repeats=SEEDS)
        plain = with_neurons(made, neurons["if"], timesteps)
        figures |= judge(RESNET, f"{RESNET}/if/T={timesteps}", plain, repeats=SEEDS, probe=True)
    return figures


def recipes() -> Figures:
    """Run the recipe of every paper, and local threshold balancing in the place of the default's thresholds."""
    figures: Figures = {}
    for timesteps in (4, 8):
        for name in ("quick", "casc", "tpp", "error-compensation", "residual-noise"):
            made, seconds = convert(RESNET, recipe.load(name, timesteps=timesteps))
            key = f"{RESNET}/{name}/T={timesteps}"
            figures |= judge(RESNET, key, made, repeats=SEEDS if name == "tpp" else 1) | {f"{key}/seconds": seconds}
        temporal = recipe.load(
            "residual-noise", timesteps=timesteps, overrides=["passes.correct-spiking-residual.temporal=true"]
        )
        quick = recipe.load("quick", timesteps=timesteps)
        balanced = [
            passes["balance-thresholds"]() if pass_name(step) == "calibrate-thresholds" else step
            for step in quick.passes
        ]
        for label, how in (
            ("residual-noise-temporal", temporal),
            ("local-threshold-balancing", dataclasses.replace(quick, passes=tuple(balanced))),
        ):
            made, _ = convert(RESNET, how)
            figures |= judge(RESNET, f"{RESNET}/{label}/T={timesteps}", made)
    return figures


def others() -> Figures:
    """Convert other networks without and with training."""
    figures: Figures = {}
    for name in (NIN, MOBILENET):
        for timesteps in OTHERS:
            for how in ("quick", "default"):
                made, seconds = convert(name, recipe.load(how, timesteps=timesteps))
                key = f"{name}/{how}/T={timesteps}"
                figures |= judge(name, key, made) | {f"{key}/seconds": seconds}
    return figures


_ONE_PASS = """
import resource, sys
from harness import PREPROCESSING, SHARED, model_files
from snnc import recipe
from snnc.data.dataset import Reading
made, _ = snnc.convert(
    model_files("{name}")[0], recipe.from_plain({recipe!r}), data=SHARED / "{data}",
    preprocessing=PREPROCESSING["{name}"], reading=Reading(limit={limit}))
print(made.seconds[{last}], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def passes_alone() -> Figures:
    """Run recipes that end after each pass, each in a process of its own, for the pass's time and the peak so far.

    On 256 images: one pass after the other, most of the work is done several times.
    """
    figures: Figures = {}
    whole = recipe.load("synchronous", timesteps=3).passes
    reconstruct = passes["reconstruct-units"]()
    alternatives = {
        **{f"{index}-{pass_name(step)}": whole[: index + 1] for index, step in enumerate(whole)},
        "5-reconstruct-units": (*whole[:5], reconstruct),
        "3-balance-thresholds": (*whole[:3], passes["balance-thresholds"]()),
        "7-correct-spiking-residual": (*whole[:5], whole[6], passes["correct-spiking-residual"]()),
    }
    for key, steps in alternatives.items():
        plain = Recipe("passes", 3, tuple(steps), 1).plain()
        text = _ONE_PASS.format(
            name=RESNET, recipe=plain, data=CALIBRATION[RESNET], limit=CALIBRATED.limit or 256, last=len(steps) - 1
        )
        folder = Path(__file__).parent
        shown = subprocess.run([sys.executable, "-c", text], cwd=folder, check=True, capture_output=True, text=True)
        seconds, megabytes = map(float, shown.stdout.split())
        say(f"{key}: {seconds:.1f} s, {megabytes:.0f} MB")
        figures |= {f"passes/{key}/seconds": seconds, f"passes/{key}/peak_megabytes": megabytes}
    return figures


SECTIONS: dict[str, Callable[[], Figures]] = {
    "pipelined": pipelined,
    "large": large,
    "synchronous": synchronous,
    "casc": casc,
    "tpp": tpp,
    "recipes": recipes,
    "others": others,
    "passes": passes_alone,
}


def main() -> None:
    global CALIBRATED, JUDGED, TIMESTEPS, TOTALS, OTHERS, RANDOM
    given = asked(__doc__ or "", SECTIONS, steps="one T, or total, of all sections but recipes and passes")
    if given.steps:
        TIMESTEPS = TOTALS = OTHERS = RANDOM = (given.steps,)
    if given.quick:
        CALIBRATED, JUDGED = Reading(limit=64), Reading(limit=100)
    figures: Figures = {}
    for name in given.sections:
        figures |= SECTIONS[name]()
    finish(figures)


if __name__ == "__main__":
    main()
