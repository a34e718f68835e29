"""Measure accuracy on real networks and images: parity of the import, and the default recipe at few time steps.

python tests/benchmarks/accuracy.py [--quick]
"""

import dataclasses
import tempfile
from pathlib import Path

import torch
from harness import PREPROCESSING, SHARED, arguments, event_frames, finish, model_files, oracle, outputs, read, say

import snnc
from snnc import artifact, recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.neurons import neurons
from snnc.neurons.two_phase import TwoPhase
from snnc.run import ONCE
from snnc.schedule import Schedule

SHAPES = {
    "cifar10_resnet20": (3, 32, 32),
    "cifar10_nin": (3, 32, 32),
    "imagenet_mobilenetv2_100_224": (3, 224, 224),
    "nmnist_cnn_nir": (2, 34, 34),
    "mnist_resnet10_uniform3bit": (1, 28, 28),
}
TEST = {
    "cifar10_resnet20": "cifar10/test",
    "cifar10_nin": "cifar10/test",
    "imagenet_mobilenetv2_100_224": "imagenet_sample",
    "mnist_resnet10_uniform3bit": "mnist/test",
}
# Images of another data set stand in for calibration images of ImageNet: none of the 400 test images is used.
CALIBRATION = {
    "cifar10_resnet20": "cifar10/calibration",
    "cifar10_nin": "cifar10/calibration",
    "imagenet_mobilenetv2_100_224": "coco/images",
    "mnist_resnet10_uniform3bit": "mnist/calibration",
}


def parity(count: int) -> dict[str, float]:
    """Compare the import with onnxruntime on real images, as relative L2 error."""
    figures = {}
    for name, shape in SHAPES.items():
        if name == "nmnist_cnn_nir":
            images = event_frames()[0][:count]
        else:
            limit = min(count, 32) if shape[1] > 100 else count
            dataset = open_dataset(SHARED / TEST[name], PREPROCESSING[name], {"x": shape}, Reading(limit=limit))
            images = torch.cat([feeds["x"] for feeds in dataset.batches()])
        files = model_files(name)
        for path in files:
            expected = oracle(path if path.suffix == ".onnx" else files[0], images)
            error = float((outputs(read(path, shape), images) - expected).norm() / expected.norm())
            spelling = path.name.removeprefix(name).strip("_.") or path.suffix
            figures[f"parity/{name}/{spelling}"] = error
            say(f"parity {path.name}: {error:.1e}")
    return {**figures, "parity/worst": max(figures.values())}


def converted(name: str, timesteps: int, reading: Reading, neuron: str = "two-phase") -> Conversion:
    """Convert and calibrate with the default recipe."""
    made, _ = snnc.convert(
        model_files(name)[0],
        recipe.load("quick", timesteps=timesteps, neuron=neuron),
        data=SHARED / CALIBRATION[name],
        preprocessing=PREPROCESSING[name],
        input_shape=None,
        reading=reading,
    )
    return made


def score(name: str, label: str, conversion: Conversion, reading: Reading) -> dict[str, float]:
    """Evaluate a conversion at its own number of time steps."""
    result = snnc.evaluate(conversion, data=SHARED / TEST[name], reading=reading)
    (row,) = result.rows
    key = f"{name}/{label}/T={row.timesteps}"
    say(f"{key}: {row.accuracy:.2f} % of {result.samples} images, agreement {row.agreement:.2f} %")
    assert row.accuracy is not None and row.drop is not None and row.agreement is not None
    return {
        f"{key}/top1": row.accuracy,
        f"{key}/drop": row.drop,
        f"{key}/agreement": row.agreement,
        f"{key}/total_steps": row.total_steps,
        f"{key}/energy_ratio": row.energy.ratio or 0.0,
        f"{name}/reference/top1": result.reference["accuracy"],
        f"{name}/images": result.samples,
    }


def exact_agreement(conversion: Conversion, name: str, reading: Reading) -> float:
    """Return the share of equal predictions of both networks in double precision, in percent."""
    assert conversion.reference is not None
    dataset = open_dataset(SHARED / TEST[name], PREPROCESSING[name], {"x": SHAPES[name]}, Reading(limit=reading.limit))
    images = torch.cat([feeds["x"] for feeds in dataset.batches()]).double()
    both = ((conversion.reference, ONCE), (conversion.snn, conversion.schedule))
    trained, spiking = (
        outputs(graph.map_tensors(lambda t: t.double()), images, schedule).argmax(1) for graph, schedule in both
    )
    return 100 * float((trained == spiking).double().mean())


def reproducible(quick: bool) -> dict[str, float]:
    """Convert with other batch sizes and other numbers of workers: 1 where all files are equal."""
    contents = set()
    for reading in (Reading(), Reading(), Reading(batch_size=7, workers=1), Reading(batch_size=250, workers=3)):
        limited = Reading(reading.batch_size, reading.workers, 64 if quick else None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.snn"
            artifact.save_conversion(converted("cifar10_resnet20", 4, limited), path)
            contents.add(path.read_bytes())
    return {"reproducible/same_bytes": float(len(contents) == 1)}


def main() -> None:
    quick = arguments(__doc__ or "").quick
    few = Reading(limit=100) if quick else Reading()
    figures = parity(16 if quick else 256)
    for timesteps in (2, 4, 8):
        made = converted("cifar10_resnet20", timesteps, few)
        for neuron, kind in neurons.items():
            # The closed form that thresholds and corrections are worked out on is the same for all of them.
            swapped = {
                n: kind.standing_for(op.closed_form(timesteps), Schedule(timesteps))
                for n, op in made.snn.ops(TwoPhase).items()
            }
            figures |= score("cifar10_resnet20", neuron, dataclasses.replace(made, snn=made.snn.with_ops(swapped)), few)
    free, _ = snnc.convert(
        model_files("cifar10_resnet20")[0],
        recipe.load("quick", timesteps=32),
        preprocessing=PREPROCESSING["cifar10_resnet20"],
    )
    figures |= score("cifar10_resnet20", "data-free", free, few)
    figures |= score("cifar10_nin", "two-phase", converted("cifar10_nin", 8, few), few)
    made = converted("mnist_resnet10_uniform3bit", 7, few)
    figures |= score("mnist_resnet10_uniform3bit", "two-phase", made, few)
    exact = exact_agreement(made, "mnist_resnet10_uniform3bit", few)
    figures["mnist_resnet10_uniform3bit/two-phase/T=7/agreement_float64"] = exact
    for timesteps in (16, 32):
        made = converted("imagenet_mobilenetv2_100_224", timesteps, few)
        figures |= score("imagenet_mobilenetv2_100_224", "two-phase", made, few)
    finish(figures | reproducible(quick))


if __name__ == "__main__":
    main()
