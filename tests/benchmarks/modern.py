"""Measure what networks of today become: trained ones, as people have them, on real data.

python tests/benchmarks/modern.py [--quick] [SECTION ...]

Sections: datafree; all of them where none is named. Nothing is chosen on what is measured on.
"""

import argparse
from collections.abc import Callable

import snnc
from snnc import process

process.prepare()

from harness import PREPROCESSING, SHARED, finish, say

from snnc import recipe
from snnc.data.dataset import Reading

Figures = dict[str, float]

# Images to judge on; --quick takes few.
JUDGED = Reading()


def datafree() -> Figures:
    """Convert without any data what the default exporter of torch writes, batch normalization folded away."""
    figures: Figures = {}
    for name, timesteps in (("resnet20", 32), ("nin", 32), ("resnet20", 8)):
        network = f"cifar10_{name}"
        made, _ = snnc.convert(
            SHARED / "models" / f"{network}_default.onnx",
            recipe.load("default", timesteps=timesteps),
            preprocessing=PREPROCESSING[network],
        )
        result = snnc.evaluate(made, data=SHARED / "cifar10/test", reading=JUDGED)
        (row,) = result.rows
        key = f"datafree/{name}_default/T={timesteps}"
        assert row.accuracy is not None and row.drop is not None and row.agreement is not None
        figures |= {f"{key}/top1": row.accuracy, f"{key}/drop": row.drop, f"{key}/agreement": row.agreement}
        say(f"{key}: {row.accuracy:.2f} % of {result.samples} images, {row.drop:.2f} points lost")
    return figures


SECTIONS: dict[str, Callable[[], Figures]] = {"datafree": datafree}


def main() -> None:
    global JUDGED
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to see that it runs")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    given = parser.parse_args()
    unknown = set(given.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {sorted(unknown)[0]!r}; there are: {', '.join(SECTIONS)}")
    if given.quick:
        JUDGED = Reading(limit=100)
    figures: Figures = {}
    for name in given.sections or SECTIONS:
        figures |= SECTIONS[name]()
    finish(figures)


if __name__ == "__main__":
    main()
