"""Find how a number of steps is best divided between waking and sleep, and by which neuron, on training images.

python tests/benchmarks/splits.py [--quick] [--steps N]

Thresholds and weights are those of the quick recipe on the calibration images; what is printed is the agreement with
the trained network, in %, on training images that the calibration has not seen.
"""

import snnc
from snnc import process

process.prepare()

import argparse
import dataclasses

import torch
from harness import PREPROCESSING, SHARED, finish, model_files, say

from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.neurons import Neuron, neurons
from snnc.schedule import Schedule

NAME = "cifar10_resnet20"
KINDS = ("if", "dual-threshold", "cif")
POTENTIALS = (0.0, 0.25, 0.5, 0.75)
# Steps in all, and how many of them asleep are tried.
TOTALS = {4: (0, 1, 2), 8: (0, 1, 2, 3), 16: (0, 1, 2, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, to see that it runs")
    parser.add_argument("--steps", type=int, choices=TOTALS, help="one number of steps in all")
    given = parser.parse_args()
    calibrated, judged = (Reading(limit=64), Reading(limit=100)) if given.quick else (Reading(), Reading(limit=1000))
    figures: dict[str, float] = {}
    totals = {given.steps: TOTALS[given.steps]} if given.steps else TOTALS
    for total, sleeps in totals.items():
        best: dict[str, tuple[float, int]] = {}
        made = {}
        for sleep in sleeps:
            awake = total - sleep
            made[sleep], _ = snnc.convert(
                model_files(NAME)[0],
                recipe.load("quick", timesteps=awake),
                data=SHARED / "cifar10/calibration",
                preprocessing=PREPROCESSING[NAME],
                reading=calibrated,
            )
            for kind in KINDS:
                found = agreement(made[sleep], kind, Schedule(awake, sleep), 0.5, judged)
                figures[f"steps={total}/{kind}/asleep={sleep}/agreement"] = found
                say(f"{total} steps, {sleep} of them asleep, {kind}: {found:.1f} %")
                best[kind] = max(best.get(kind, (0.0, 0)), (found, -sleep))
        for kind, (_, negative) in best.items():
            for potential in POTENTIALS:
                schedule = Schedule(total + negative, -negative)
                found = agreement(made[-negative], kind, schedule, potential, judged)
                figures[f"steps={total}/{kind}/asleep={-negative}/potential={potential}/agreement"] = found
                say(f"{total} steps, {-negative} of them asleep, {kind} from {potential}: {found:.1f} %")
    finish(figures)


def agreement(made: Conversion, kind: str, schedule: Schedule, potential: float, reading: Reading) -> float:
    """Return the percentage of predictions as the trained network's."""
    swapped = {
        name: dataclasses.replace(
            neurons[kind].standing_for(op.closed_form(schedule.timesteps), schedule), potential=torch.tensor(potential)
        )
        for name, op in made.snn.ops(Neuron).items()
    }
    other = dataclasses.replace(made, snn=made.snn.with_ops(swapped), schedule=schedule)
    result = snnc.evaluate(other, data=SHARED / "cifar10/train.npz", reading=reading)
    assert result.rows[0].agreement is not None
    return result.rows[0].agreement


if __name__ == "__main__":
    main()
