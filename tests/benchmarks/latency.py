"""Answer in one step and in two: graded events, refined guesses and single signed spikes, without any training.

Calibrated on 1,024 unlabelled images, judged on all test images; steps are all from image to answer. Beside each stands
a network of quantized activations of as many levels, with the same weights and ceilings.

python tests/benchmarks/latency.py [--quick] [PART ...]
"""

import argparse
from dataclasses import dataclass, replace

from harness import PREPROCESSING, SHARED, finish, model_files, say

import snnc
from snnc import recipe
from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.neurons import Neuron
from snnc.run import ONCE

NAME = "cifar10_resnet20"


@dataclass(frozen=True)
class Setting:
    """What to convert for: the key that the figures have, the neuron, and what the image is on for."""

    key: str
    neuron: str
    timesteps: int = 1
    sleep: int = 0
    shares: tuple[float, ...] = ()


PARTS = {
    "graded": [
        Setting("graded/quick/levels=15/steps=1", "graded(levels=15)"),
        Setting("graded/quick/levels=7/steps=1", "graded(levels=7)"),
    ],
    "refine": [
        Setting("refine/quick/max-event=3/steps=2", "refine(levels=15, max-event=3, units=[2, 1], rest=6)", 1, sleep=1)
    ],
    "signed": [
        Setting("signed/quick/steps=1", "graded(levels=2, max-event=1, rest=1)"),
        Setting("signed/quick/steps=2", "graded(levels=3, max-event=1, rest=1)", 2, shares=(0.75, 0.25)),
    ],
}


def converted(setting: Setting, reading: Reading) -> Conversion:
    made, _ = snnc.convert(
        model_files(NAME)[0],
        recipe.load(
            "quick",
            timesteps=setting.timesteps,
            sleep=setting.sleep,
            shares=setting.shares,
            neuron=setting.neuron,
        ),
        data=SHARED / "cifar10/calibration",
        preprocessing=PREPROCESSING[NAME],
        reading=reading,
    )
    return made


def judged(setting: Setting, made: Conversion, reading: Reading) -> dict[str, float]:
    timesteps = made.schedule.timesteps
    forms = {name: neuron.closed_form(timesteps) for name, neuron in made.snn.ops(Neuron).items()}
    quantized = replace(made, snn=made.snn.with_ops(forms), schedule=ONCE)
    (row,), (peer,) = (
        snnc.evaluate(one, data=SHARED / "cifar10/test", reading=reading).rows for one in (made, quantized)
    )
    assert f"steps={latency(made.snn, made.schedule)}" in setting.key
    key = f"resnet20/{setting.key}"
    figures = {
        f"{key}/top1": row.accuracy,
        f"{key}/agreement": row.agreement,
        f"{key}/events": row.spikes,
        f"{key}/quantized/top1": peer.accuracy,
        "resnet20/ann/top1": row.accuracy + row.drop,
    }
    say(str(figures))
    return {name: round(value, 2) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, to see that it runs")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless given")
    given = parser.parse_args()
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}: {', '.join(PARTS)}")
    reading = Reading(limit=100 if given.quick else None)
    figures: dict[str, float] = {}
    for part in given.parts or PARTS:
        for setting in PARTS[part]:
            figures |= judged(setting, converted(setting, reading), reading)
    finish(figures)


if __name__ == "__main__":
    main()
