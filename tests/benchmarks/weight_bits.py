"""Round the weights of cifar10_resnet20 to 8, 6 and 4 bits, and measure what that costs.

python tests/benchmarks/weight_bits.py [--quick]

Recipe quick at T=8; test images. ``unchanged`` is the share of predictions that rounding leaves as they were.
"""

import torch
from harness import PREPROCESSING, SHARED, arguments, finish, model_files, outputs, say

import snnc
from snnc import pipeline, recipe
from snnc.analysis.integers import widths
from snnc.data.dataset import Reading, open_dataset

NAME = "cifar10_resnet20"

# Bits, and options of quantize-weights.
CASES: tuple[tuple[int | None, tuple[str, ...]], ...] = (
    (None, ()),
    (8, ()),
    (8, ("skip-bits=16",)),
    (8, ("bias=false",)),
    (6, ()),
    (4, ()),
    (4, ("bias=false",)),
)


def main() -> None:
    quick = arguments(__doc__ or "").quick
    reading = Reading(limit=100 if quick else 1000)
    how = PREPROCESSING[NAME]
    trained = pipeline.read_trained(model_files(NAME)[0])
    inputs = trained.graph.input_shapes
    (entry,) = inputs
    test = open_dataset(SHARED / "cifar10/test", how, inputs, reading)
    images = torch.cat([feeds[entry] for feeds in test.batches()])
    few = Reading(limit=100 if quick else None)
    calibration = open_dataset(SHARED / "cifar10/calibration", how, inputs, few)
    # All cases begin alike: what comes before rounding is done once.
    memory = pipeline.Memory()
    figures: dict[str, float] = {"images": float(len(images))}
    floating: torch.Tensor | None = None
    for bits, changes in CASES:
        overrides = [f"passes.quantize-weights.{change}" for change in changes]
        asked = recipe.load("quick", timesteps=8, weight_bits=bits, overrides=overrides)
        made, _ = pipeline.make(trained, asked, calibration, how, few, memory=memory)
        (row,) = snnc.evaluate(made, data=SHARED / "cifar10/test", reading=reading).rows
        logits = outputs(made.snn, images, made.schedule)
        floating = logits if floating is None else floating
        label = "float32" if bits is None else " ".join((f"{bits} bits", *changes))
        found = [width for width in widths(made.snn).values() if width is not None]
        assert row.accuracy is not None and row.drop is not None and row.agreement is not None
        figures |= {
            f"{label}/top1": row.accuracy,
            f"{label}/drop": row.drop,
            f"{label}/agreement": row.agreement,
            f"{label}/output_error": float((logits - floating).norm() / floating.norm()),
            f"{label}/unchanged": 100 * float((logits.argmax(1) == floating.argmax(1)).double().mean()),
            f"{label}/membranes_in_integers": float(len(found)),
            f"{label}/skip_bits": float(max((width.skips for width in found), default=32)),
            f"{label}/threshold_bits": float(max((width.thresholds for width in found), default=32)),
            f"{label}/bias_bits": float(max((width.biases for width in found), default=32)),
        }
        say(f"{label}: {row.accuracy:.1f} %, {figures[f'{label}/unchanged']:.1f} % unchanged")
    finish(figures)


if __name__ == "__main__":
    main()
