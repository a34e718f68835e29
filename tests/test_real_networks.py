"""Real networks and real images, end to end. The longer measurements are in tests/benchmarks."""

from pathlib import Path

import pytest
import torch

import snnc
from snnc import artifact, recipe
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.neurons import neurons
from snnc.pipeline import make, read_trained
from snnc.run import ONCE
from snnc.schedule import Schedule
from tests.support import run, stream

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
CIFAR = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
NIN = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
MNIST = Preprocessing(mean=(0.131,), std=(0.308,), channels="gray")

pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason="the real networks and images are not here"),
    pytest.mark.usefixtures("counted_shortly"),
]


def converted(name, timesteps, preprocessing, data, limit, neuron="two-phase"):
    """The network alone: a report takes as long, and other tests here ask for it."""
    trained, reading = read_trained(SHARED / "models" / f"{name}.onnx"), Reading(limit=limit)
    dataset = open_dataset(SHARED / data, preprocessing, trained.graph.input_shapes, reading)
    made, _ = make(trained, recipe.load("quick", timesteps=timesteps, neuron=neuron), dataset, preprocessing, reading)
    return made


def accuracy(conversion, data, limit):
    result = snnc.evaluate(conversion, data=SHARED / data, reading=Reading(limit=limit))
    return result.rows[0]


@pytest.mark.parametrize(("timesteps", "least"), [(2, 60.0), (4, 80.0)])
def test_resnet20_at_few_steps(timesteps, least):
    # 24 of the calibration and 60 of the test images, hence some points below what the benchmark shows.
    made = converted("cifar10_resnet20", timesteps, CIFAR, "cifar10/calibration", 24)
    row = accuracy(made, "cifar10/test", 60)
    assert row.accuracy >= least
    assert row.total_steps == 20 * timesteps


def test_without_images_many_steps_still_work():
    made, _ = snnc.convert(
        SHARED / "models" / "cifar10_resnet20.onnx", recipe.load("quick", timesteps=64), preprocessing=CIFAR
    )
    assert accuracy(made, "cifar10/test", 40).accuracy >= 80


def test_max_pools_are_exact():
    """At many steps a network with max-pools comes to its trained self, whatever the neuron."""
    made = converted("cifar10_nin", 32, NIN, "cifar10/calibration", 8)
    dataset = open_dataset(SHARED / "cifar10/test", NIN, {"x": (3, 32, 32)}, Reading(limit=12))
    images = torch.cat([feeds["x"] for feeds in dataset.batches()])
    trained = _predictions(made.reference, images, ONCE)
    assert (_predictions(made.snn, images, Schedule(32)) == trained).float().mean() >= 0.95
    causal = {name: neurons["dual-threshold"](op.threshold) for name, op in made.snn.ops(neurons["two-phase"]).items()}
    # Step by step, of fewer.
    few = _predictions(made.snn.with_ops(causal), images[:3], Schedule(32))
    assert (few == trained[:3]).float().mean() >= 0.8


def test_activations_quantized_in_the_file_convert_without_loss():
    made = converted("mnist_resnet10_uniform3bit", 7, MNIST, "mnist/calibration", 32)
    dataset = open_dataset(SHARED / "mnist/test", MNIST, {"x": (1, 28, 28)})
    images = torch.cat([feeds["x"] for feeds in dataset.batches()]).double()
    reference, snn = (graph.map_tensors(lambda t: t.double()) for graph in (made.reference, made.snn))
    assert torch.equal(_predictions(snn, images, Schedule(7)), _predictions(reference, images, ONCE))


def test_sums_of_spikes_give_what_steps_give():
    """The fast path of two-phase neurons on a real network: exactly the step-by-step simulation in double precision."""
    made = converted("cifar10_resnet20", 4, CIFAR, "cifar10/calibration", 8)
    dataset = open_dataset(SHARED / "cifar10/test", CIFAR, {"x": (3, 32, 32)}, Reading(limit=3))
    images = torch.cat([feeds["x"] for feeds in dataset.batches()]).double().unsqueeze(0)
    snn = made.snn.map_tensors(lambda t: t.double())
    layers = list(snn.ops(neurons["two-phase"]))
    fast = run(snn, {snn.inputs[0]: images}, layers, Schedule(4))
    slow = run(snn, {snn.inputs[0]: images}, layers, Schedule(4), trains=True)
    for name in layers:
        steps = slow[name].mean(0) / snn.op(name).threshold * 4
        assert torch.equal((fast[name][0] / snn.op(name).threshold * 4).round(), steps.round()), name


def test_neither_threads_nor_batch_size_nor_workers_change_a_byte(tmp_path):
    contents, before = set(), torch.get_num_threads()
    for threads, reading in ((1, Reading(batch_size=8, limit=12)), (3, Reading(batch_size=5, workers=3, limit=12))):
        torch.set_num_threads(threads)
        made, _ = snnc.convert(
            SHARED / "models" / "cifar10_resnet20.onnx",
            recipe.load("default", timesteps=4, overrides=["passes.distill.steps=2"]),
            data=SHARED / "cifar10/calibration",
            preprocessing=CIFAR,
            reading=reading,
        )
        artifact.save_conversion(made, tmp_path / "model.snn")
        contents.add((tmp_path / "model.snn").read_bytes())
    torch.set_num_threads(before)
    assert len(contents) == 1


def test_enough_sleep_gives_the_quantized_network_exactly():
    made, _ = snnc.convert(
        SHARED / "models" / "cifar10_resnet20.onnx",
        recipe.load("casc", timesteps=3),
        data=SHARED / "cifar10/calibration",
        preprocessing=CIFAR,
        reading=Reading(limit=8),
    )
    dataset = open_dataset(SHARED / "cifar10/test", CIFAR, {"x": (3, 32, 32)}, Reading(limit=2))
    images = torch.cat([feeds["x"] for feeds in dataset.batches()]).double().unsqueeze(0)
    snn = made.snn.map_tensors(lambda t: t.double())
    quantized = snn.with_ops({name: op.closed_form(3) for name, op in snn.ops(neurons["cif"]).items()})
    feeds, (output,) = {snn.inputs[0]: images}, snn.outputs
    wanted = run(quantized, feeds, [output])[output]
    torch.testing.assert_close(run(snn, feeds, [output], made.schedule)[output], wanted)
    assert (run(snn, feeds, [output], Schedule(3))[output] - wanted).abs().max() > 1e-3


def test_a_vision_transformer_is_converted_and_answers_as_trained():
    made, _ = snnc.convert(
        SHARED / "models" / "vnncomp_cifar10_vit_pgd_2_3_16.onnx",
        recipe.load("quick", timesteps=16),
        data=SHARED / "cifar10/calibration",
        preprocessing=CIFAR,
        reading=Reading(limit=64),
    )
    assert made.reference is not None
    dataset = open_dataset(SHARED / "cifar10/test", CIFAR, {"input": (3, 32, 32)}, Reading(limit=64))
    images = torch.cat([feeds["input"] for feeds in dataset.batches()])
    spiking = _predictions(made.snn, images, made.schedule)
    trained = _predictions(made.reference, images, ONCE)
    assert (spiking == trained).float().mean() > 0.8


def _predictions(graph, images, schedule):
    (output,) = graph.outputs
    return torch.cat([signals[output][0].argmax(1) for signals in stream(graph, [images], [output], schedule)])
