"""Without data: what stands in for it, what is worked out on that, and what is not."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Generator, Tensor

from snnc import artifact, ops, recipe
from snnc.analysis.moments import moments_known
from snnc.calibration import synthetic
from snnc.calibration.synthetic import SyntheticSamples, leaves
from snnc.conversion import Conversion, Origin
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Samples
from snnc.errors import DataError, PreconditionError
from snnc.ir import Graph, Input, Node
from snnc.measure.summary import examine
from snnc.neurons import Neuron
from snnc.passes.balance_thresholds import BalanceThresholds
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.correct_residual_noise import CorrectResidualNoise
from snnc.passes.distill import Distill
from snnc.passes.fold_batch_norm import FoldBatchNorm
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.reconstruct_units import ReconstructUnits
from snnc.pipeline import Trained, apply_recipe, make, outline
from snnc.recipe import Recipe
from snnc.run import Program
from tests.support import Network, calibration, feeding, in_memory, normal, random_network, relu

CENTERED = Preprocessing(mean=(0.5,), std=(0.25,))


def few(graph: Graph, how: Preprocessing = CENTERED, seed: int = 0, count: int = 6) -> SyntheticSamples:
    return SyntheticSamples(graph, how, seed, count)


def drawn(samples: Samples) -> dict[str, Tensor]:
    batches = [*samples.batches()]
    return {name: torch.cat([feeds[name] for feeds in batches]) for name in batches[0]}


def converted(graph: Graph, how: Recipe | None = None, seed: int = 0) -> Conversion:
    trained = Trained(graph, Origin("model.onnx", "0" * 64), ())
    return make(trained, how or recipe.load("quick", timesteps=4), None, CENTERED, Reading(seed=seed))[0]


def spoken() -> Graph:
    """A network that reads ids and a mask beside them, and one row of numbers."""
    net = Network((5,))
    nodes = [
        Node("ids", Input((5,), "integer", 7), ()),
        Node("mask", Input((5,), "integer"), ()),
        Node("sum", ops.Add(), ("x", "ids", "mask")),
        Node("layer", ops.Linear(net.random(4, 5), None), ("sum",)),
        Node("relu", ops.Relu(), ("layer",)),
    ]
    return Graph.of([*net.nodes, *nodes], ["relu"])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_SAMPLES", 6)


class Unread(Samples):
    """Samples that nobody may look at."""

    def __len__(self) -> int:
        raise AssertionError("looked at")

    def batches(self) -> None:  # type: ignore[override]
        raise AssertionError("looked at")

    def chosen(self, numbers: Sequence[int]) -> Samples:
        raise AssertionError("looked at")


# What is drawn.


def test_leaves_have_the_spectrum_of_photographs() -> None:
    """Power falls about with the square of the frequency; that of white noise would not fall at all."""
    drawn = leaves(24, 64, 64, 1, Generator().manual_seed(0))[..., 0].double()
    assert drawn.min() >= 0 and drawn.max() <= 1
    power = torch.fft.fft2(drawn - drawn.mean((1, 2), keepdim=True)).abs().square().mean(0)
    along = torch.fft.fftfreq(64, dtype=torch.float64) * 64
    radius = (along[:, None].square() + along.square()).sqrt()
    means = [float(power[(radius >= low) & (radius < 2 * low)].mean()) for low in (2, 4, 8, 16)]
    exponent = math.log(means[0] / means[-1]) / math.log(8)
    assert 1.5 < exponent < 3


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 40, 1), (9, 33, 4)])
def test_leaves_cover_any_size(shape: tuple[int, int, int]) -> None:
    first, again, other = (leaves(3, *shape, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (3, *shape)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.isfinite().all()


@pytest.mark.parametrize("seed", range(3))
def test_evidence_excites_the_output_that_was_drawn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_network(seed, relu)
    with_evidence = few(graph)
    goals = with_evidence._begun[1][:, None]
    monkeypatch.setattr(synthetic, "_STEPS", 0)
    chances = []
    for samples in (few(graph), with_evidence):
        monkeypatch.setattr(synthetic, "_STEPS", 8 if samples is with_evidence else 0)
        images = drawn(samples)["x"]
        assert images.shape == (6, 3, 8, 8) and images.min() >= -2 and images.max() <= 2
        (logits,) = Program(graph)(feeding(graph, images)).values()
        chances.append(logits[0].log_softmax(1).gather(1, goals))
    assert (chances[1] > chances[0]).all()


def test_without_classes_one_output_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network((3, 8, 8))
    net.conv("x", 4)
    graph = net.graph()
    samples = few(graph)
    goals = samples._begun[1][:, None]
    monkeypatch.setattr(synthetic, "_STEPS", 0)
    still = drawn(few(graph))["x"]
    monkeypatch.setattr(synthetic, "_STEPS", 8)
    sizes = [
        Program(graph)(feeding(graph, images))[graph.outputs[0]][0].flatten(1).gather(1, goals).abs()
        for images in (still, drawn(samples)["x"])
    ]
    assert (sizes[1] > sizes[0]).all()


def test_levels_are_no_obstacle_to_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network((3, 8, 8))
    quantized = net.add(ops.QuantizedRelu(torch.tensor(2.0), 3), net.conv("x", 4))
    net.linear(net.flat(quantized), 5)
    graph = net.graph()
    found = drawn(few(graph))["x"]
    monkeypatch.setattr(synthetic, "_STEPS", 0)
    assert not torch.equal(found, drawn(few(graph))["x"])


@pytest.mark.parametrize(
    ("shape", "numbers", "how", "kind", "low", "high"),
    [
        ((3, 8, 9), "real", Preprocessing(), "standardized images", -2.0, 2.4445),
        ((8, 9, 1), "real", Preprocessing(mean=(0.5,), layout="nhwc"), "images", -0.5, 0.5),
        ((3, 8, 9), "real", Preprocessing(mean=(0.0,)), "images", 0.0, 1.0),
        ((3, 8, 9), "real", Preprocessing(scale=1.0), "images", 0.0, 255.0),
        ((3, 8, 9), "pixel", Preprocessing(), "images", 0.0, 255.0),
    ],
)
def test_images_are_in_the_range_that_the_network_takes(
    shape: tuple[int, ...], numbers: Literal["real", "pixel"], how: Preprocessing, kind: str, low: float, high: float
) -> None:
    graph = Graph.of([Node("x", Input(shape, numbers), ()), Node("relu", ops.Relu(), ("x",))], ["relu"])
    samples = few(graph, how, count=40)
    assert samples.kinds is None
    images = drawn(samples)["x"]
    assert samples.kinds == {"x": kind}
    assert low <= float(images.min()) < low + 0.1 * (high - low)
    assert high >= float(images.max()) > high - 0.1 * (high - low)


def test_other_inputs_are_noise_ids_and_masks() -> None:
    samples = few(spoken(), count=50)
    found = drawn(samples)
    assert samples.kinds == {"x": "noise", "ids": "ids", "mask": "masks"}
    assert {*found["ids"].flatten().tolist()} == {*range(7)}
    assert (found["mask"] == 1).all()
    assert float(found["x"].std()) == pytest.approx(1, abs=0.3)


def test_noise_is_smooth_along_the_last_axes() -> None:
    values = synthetic._noise(60, (2, 400), Generator().manual_seed(0))
    assert float(values.std()) == pytest.approx(1, abs=0.15)
    beside = (values[..., 1:] * values[..., :-1]).mean((1, 2)) / values.square().mean((1, 2))
    assert beside.min() < 0.2 and beside.max() > 0.9


def test_large_networks_are_shown_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_network(0, relu)
    assert len(SyntheticSamples(graph, CENTERED)) == 6
    monkeypatch.setattr(synthetic, "_WORK", 5 * synthetic._work(graph))
    assert len(SyntheticSamples(graph, CENTERED)) == 5
    monkeypatch.setattr(synthetic, "_WORK", 1)
    assert len(SyntheticSamples(graph, CENTERED)) == synthetic._FEWEST


def test_preprocessing_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="mean has 2 values"):
        drawn(few(random_network(0, relu), Preprocessing(mean=(0.1, 0.2))))


# What is worked out on it.


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for seed in (0, 0, 1):
        artifact.save_conversion(converted(random_network(2, relu), seed=seed), tmp_path / "model.snn")
        contents.append((tmp_path / "model.snn").read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("name", ["default", "casc", "nir"])
def test_other_synthetic_input_changes_thresholds_and_biases_only(name: str) -> None:
    graph = random_network(2, relu)
    how = recipe.load(name, timesteps=4)
    first, second = (converted(graph, how, seed).snn for seed in (0, 1))
    assert list(first.nodes) == list(second.nodes)
    changed = set()
    for node in first.nodes.values():
        other = second.op(node.name).tensors()
        for field, tensor in node.op.tensors().items():
            if not torch.equal(tensor, other[field]):
                changed.add((isinstance(node.op, Neuron), field))
    assert (True, "threshold") in changed
    assert changed <= {(True, "threshold"), (True, "potential"), (False, "bias"), (False, "shift")}
    trained = {n: op.weight for n, op in graph.ops(ops.Weighted).items()}
    assert all(torch.equal(op.weight, trained[n]) for n, op in first.ops(ops.Weighted).items())


def test_where_batch_normalization_states_moments_nothing_stands_in() -> None:
    """What is converted is the same, to the bit, as from the moments alone."""
    graph = random_network(1, relu, norms=True)
    assert moments_known(graph)
    how = recipe.load("default", timesteps=4)
    found = apply_recipe(graph, how, None, stand_in=Unread())
    conversion = converted(graph, how)
    assert conversion.provenance.stand_in is None
    wanted, look = graph, calibration(graph)
    for step in how.passes:
        wanted = step(wanted, look)
    for snn in (found.snn, conversion.snn):
        assert snn.nodes.keys() == wanted.nodes.keys()
        for name, node in snn.nodes.items():
            for field, tensor in node.op.tensors().items():
                assert torch.equal(tensor, wanted.op(name).tensors()[field])


def test_moments_are_no_fallback_where_nothing_is_stated() -> None:
    graph = random_network(1, relu, norms=True)
    folded = FoldBatchNorm()(graph, calibration(graph))
    assert not moments_known(folded)
    canonical = NormalizeActivations()(folded, calibration(folded))
    for step in (CalibrateThresholds(), CalibrateThresholds(source="gaussian"), BalanceThresholds()):
        with pytest.raises(PreconditionError, match="no batch normalization states"):
            step(canonical, calibration(canonical))
    with pytest.raises(PreconditionError, match="no batch normalization states"):
        CalibrateThresholds(source="gaussian")(canonical, calibration(canonical, normal(4, 3, 8, 8)))


def test_what_does_not_follow_from_moments_is_shown_synthetic_samples() -> None:
    net = Network((3, 8, 8))
    gate = net.add(ops.Sigmoid(), net.norm(net.conv("x", 4)))
    net.add(ops.Relu(), net.conv(gate, 4))
    graph = net.graph()
    assert not moments_known(graph)
    stand_in = converted(graph).provenance.stand_in
    assert stand_in is not None and stand_in.samples == 6 and stand_in.kinds == {"x": "images"}


def test_samples_come_first() -> None:
    graph = random_network(2, relu)
    apply_recipe(graph, recipe.load("quick", timesteps=4), in_memory(graph, normal(8, 3, 8, 8)), stand_in=Unread())


@pytest.mark.parametrize("step", [Distill(epochs=1), ReconstructUnits(steps=1)], ids=lambda step: type(step).__name__)
def test_nothing_is_trained_on_it(step: Distill | ReconstructUnits) -> None:
    canonical = NormalizeActivations()(random_network(2, relu), calibration(random_network(2, relu)))
    look = dataclasses.replace(calibration(canonical), stand_in=few(canonical))
    quantized = CalibrateThresholds()(canonical, look)
    assert step(quantized, look) is quantized
    corrected = CorrectResidualNoise()(quantized, look)
    biases = CorrectResidualNoise(weights=False)(quantized, dataclasses.replace(look, samples=look.stand_in))
    for name, op in biases.ops(ops.Weighted).items():
        found = corrected.ops(ops.Weighted)[name]
        assert op.bias is not None and found.bias is not None
        assert torch.equal(found.weight, op.weight) and torch.equal(found.bias, op.bias)


@pytest.mark.parametrize("name", ["quick", "tpp", "nir", "residual-noise"])
def test_an_outline_reads_nothing_and_has_all_operations(name: str) -> None:
    for graph in (random_network(3, relu), random_network(3, relu, norms=True), spoken()):
        how = recipe.load(name, timesteps=4)
        kinds = [(name, type(node.op)) for name, node in outline(graph, how).nodes.items()]
        assert kinds == [(name, type(node.op)) for name, node in converted(graph, how).snn.nodes.items()]


# What is said of it.


def test_the_message_says_which_of_the_two() -> None:
    said = []
    for graph in (random_network(1, relu, norms=True), random_network(1, relu), spoken()):
        (finding,) = [f for f in examine(converted(graph)).findings if f.code == "uncalibrated"]
        assert "snnc calibrate --data" in finding.hint
        said.append(finding.message)
    assert "batch-norm statistics" in said[0]
    assert "synthetic input (6 samples of images), weights were not corrected" in said[1]
    assert "6 samples of noise, ids, masks" in said[2] and "poor stand-in" in said[2]
