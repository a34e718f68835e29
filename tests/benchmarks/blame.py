"""Ask which layers the loss of cifar10_resnet20 comes from, on two draws of images, and on planted culprits.

python tests/benchmarks/blame.py [--quick]

Test images; recipe quick, integrate and fire at T=4, which loses much. Ratios of time are to one plain evaluation of
the same images.
"""

import dataclasses
import time

import snnc
from snnc import process

process.prepare()

from harness import PREPROCESSING, SHARED, arguments, finish, model_files, say

from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.figure import Blame, Row
from snnc.neurons import Neuron

NAME = "cifar10_resnet20"
# A threshold so many times too high silences its layer.
TOO_HIGH = 1000.0


def measured(made: Conversion, images: int, seed: int = 0, *, blamed: bool = True) -> tuple[Row, float]:
    """Evaluate on so many test images; the time in seconds."""
    started = time.perf_counter()
    reading = Reading(limit=images, seed=seed)
    (row,) = snnc.evaluate(made, data=SHARED / "cifar10/test", blamed=1024 if blamed else 0, reading=reading).rows
    return row, time.perf_counter() - started


def worst(row: Row) -> Blame:
    """Return the layer with the largest charge."""
    assert row.blame is not None
    return max(row.blame, key=lambda blame: blame.points)


def main() -> None:
    images = 128 if arguments(__doc__ or "").quick else 1024
    made, _ = snnc.convert(
        model_files(NAME)[0],
        recipe.load("quick", timesteps=4, neuron="if"),
        data=SHARED / "cifar10/calibration",
        preprocessing=PREPROCESSING[NAME],
        reading=Reading(limit=256),
    )
    _, plain = measured(made, images, blamed=False)
    rows = []
    for seed in (0, 1):
        row, seconds = measured(made, images, seed)
        rows.append(row)
        first = worst(row)
        say(f"seed {seed}: {row.drop:.2f} points, {first.name} {first.points:.2f} {first.interval}, {seconds:.0f} s")
    figures = {"images": float(images), "drop": rows[0].drop or 0.0, "time_ratio": (seconds - plain) / plain}
    assert rows[0].blame is not None and rows[1].blame is not None
    layers = len(rows[0].blame)
    figures |= {"layers": float(layers), "runs_per_image": float(layers + 1), "subsets": 2.0**layers}
    figures["charged"] = sum(blame.points for blame in rows[0].blame)
    # Two draws of images and of orders: of such pairs of intervals most have to overlap.
    pairs = zip(rows[0].blame, rows[1].blame, strict=True)
    spans = [(one.interval, other.interval) for one, other in pairs if one.interval and other.interval]
    figures["overlapping_intervals"] = 100 * sum(a[0] <= b[1] and b[0] <= a[1] for a, b in spans) / len(spans)
    names = list(made.snn.ops(Neuron))
    found = 0
    planted = names[1::6]
    for name in planted:
        neuron = made.snn.ops(Neuron)[name]
        silent = made.snn.with_ops({name: dataclasses.replace(neuron, threshold=neuron.threshold * TOO_HIGH)})
        row, _ = measured(dataclasses.replace(made, snn=silent), min(images, 256))
        found += worst(row).name == name
        say(f"planted {name}: found {worst(row).name}, {worst(row).points:.1f} of {row.drop:.1f} points")
    figures |= {"planted": float(len(planted)), "planted_found": float(found)}
    finish(figures)


if __name__ == "__main__":
    main()
