"""Measure what the exported ONNX files fire in onnxruntime: equal spikes, equal predictions, and the speed.

    python tests/benchmarks/export.py [--quick] [SECTION ...]

Sections are networks, as they are listed with --help; all where none is named. Each is exported for every neuron, and
both engines are run on the same images at T=4 and T=16. ``equal`` is the percentage of spikes that are the same where
the layers before fired the same, in the worst layer; ``together`` that of all spikes where each engine runs the whole
network, and ``same-prediction`` that of the images which are then predicted alike; ``ratio`` is the time of onnxruntime
divided by that of snnc.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnxruntime
import torch
from harness import PREPROCESSING, SHARED, asked, event_frames, finish, model_files, outputs, say
from torch import Tensor

import snnc
from snnc import recipe
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples
from snnc.feeds import Feeds
from snnc.formats.onnx import OnnxFormat
from snnc.formats.verification import verify
from snnc.neurons import neurons
from snnc.neurons.two_phase import TwoPhase
from snnc.schedule import Schedule

NETWORKS = {
    "cifar10_resnet20": "cifar10/test",
    "cifar10_nin": "cifar10/test",
    "imagenet_mobilenetv2_100_224": "imagenet_sample",
    "nmnist_cnn_nir": "",
}
TIMESTEPS = (4, 16)
IMAGES = 64
TIMED = 16


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes, when it has been done before."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def images(name: str, shape: tuple[int, ...], count: int) -> Tensor:
    """Return images of the data that a network was trained for."""
    if not NETWORKS[name]:
        return event_frames()[0][:count]
    dataset = open_dataset(SHARED / NETWORKS[name], PREPROCESSING[name], {"x": shape}, Reading(limit=count))
    return torch.cat([feeds["x"] for feeds in dataset.batches()])


def with_neuron(made: Conversion, kind: str, timesteps: int) -> Conversion:
    """Return the conversion with another neuron, of the same thresholds; none of these networks has a slope."""
    layers = made.snn.ops(TwoPhase).items()
    graph = made.snn.with_ops(
        {n: neurons[kind].standing_for(op.closed_form(timesteps), Schedule(timesteps)) for n, op in layers}
    )
    return replace(made, snn=graph, schedule=Schedule(timesteps))


def main() -> None:
    given = asked(__doc__ or "", NETWORKS)
    quick = given.quick
    count = 2 if quick else IMAGES
    figures: dict[str, float] = {"images": float(count)}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    for name in given.sections:
        path = model_files(name)[0]
        preprocessing = PREPROCESSING.get(name, Preprocessing())
        made, _ = snnc.convert(path, recipe.load("quick"), preprocessing=preprocessing)
        shape = made.snn.shapes[made.snn.inputs[0]]
        samples = images(name, shape, count)
        for kind in neurons:
            for timesteps in TIMESTEPS[:1] if quick else TIMESTEPS:
                conversion = with_neuron(made, kind, timesteps)
                onnx = OnnxFormat()
                written = onnx.write(conversion)
                (engine,) = onnx.engines(written, conversion)
                found = verify(conversion, written, engine, MemorySamples(Feeds({conversion.snn.inputs[0]: samples})))
                session = onnxruntime.InferenceSession(written.data, options, providers=["CPUExecutionProvider"])
                few = samples[: min(count, TIMED)]
                feeds = {session.get_inputs()[0].name: few.numpy()}
                if written.file.timesteps:
                    feeds[written.file.timesteps] = np.array(timesteps, np.int64)
                there = timed(lambda session=session, feeds=feeds: session.run(None, feeds))
                here = timed(lambda c=conversion, few=few: outputs(c.snn, few, c.schedule))
                key = f"{name}/{kind}/T={timesteps}"
                figures[f"{key}/equal"] = min(layer.alone for layer in found.layers)
                figures[f"{key}/together"] = found.together
                figures[f"{key}/same-prediction"] = found.agreement
                figures[f"{key}/output-error"] = found.together_error
                figures[f"{key}/ratio"] = there / here
                say(
                    f"{key}: {figures[f'{key}/equal']:.4f} % equal in the worst layer, "
                    f"{found.together:.4f} % together, {found.agreement:.2f} % of predictions, "
                    f"{there / here:.2f} x snnc"
                )
    for total, part in (("worst-equal-spikes", "equal"), ("worst-same-prediction", "same-prediction")):
        figures[f"onnx/{total}"] = min(value for key, value in figures.items() if key.endswith(f"/{part}"))
    finish(figures)


if __name__ == "__main__":
    main()
