"""Passes: what keeps the function keeps it, what need not be touched is not, and nothing is changed in place."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.analysis.moments import propagate
from snnc.calibration import Calibration
from snnc.errors import PreconditionError, UsageError
from snnc.ir import Graph, Op
from snnc.laws.passes import PREPARE, apply, assert_same_function, it_keeps_its_promises, shared, stages
from snnc.neurons import Neuron, neurons
from snnc.passes import Pass, TrainingPass, passes
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.correct_residual_noise import CorrectResidualNoise
from snnc.passes.fold_batch_norm import FoldBatchNorm
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.passes.treat_max_pool import TreatMaxPool
from snnc.schedule import Schedule
from tests.support import Network, calibration, double, normal, outputs, random_network, relu, uniform

# Every pass with default options, and those whose options make another pass of them; few steps train as many do.
VARIANTS: dict[str, Pass] = {
    **{name: kind(steps=3) if issubclass(kind, TrainingPass) else kind() for name, kind in passes.items()},
    "normalize-activations spike": NormalizeActivations("spike"),
    "treat-max-pool lateral-inhibition": TreatMaxPool("lateral-inhibition"),
    "treat-max-pool average": TreatMaxPool("average"),
    "calibrate-thresholds per layer": CalibrateThresholds(per="layer"),
    "calibrate-thresholds percentile": CalibrateThresholds("percentile"),
    "calibrate-thresholds gaussian": CalibrateThresholds(source="gaussian"),
    "correct-residual-noise bias": CorrectResidualNoise(weights=False),
}


def test_registry_is_filled() -> None:
    assert len(passes) >= 6
    assert {type(step) for step in VARIANTS.values()} == set(passes.values())


def prepared(graph: Graph) -> Graph:
    for step in PREPARE:
        graph = apply(step, graph)
    return graph


# Promises of every pass.


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", VARIANTS)
def test_every_pass_keeps_its_promises(name: str, seed: int) -> None:
    networks, look = stages(seed)
    step = VARIANTS[name]
    for graph in networks.values():
        it_keeps_its_promises(step, graph, look, seed)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pass_with_nothing_to_do_changes_nothing(name: str) -> None:
    net = Network((3, 6, 6))
    net.conv(net.add(ops.AveragePool((2, 2), (2, 2), (0,) * 4, (0,) * 4), net.conv("x", 4)), 5)
    graph = net.graph()
    after = apply(VARIANTS[name], graph, calibration(graph, normal(8, 3, 6, 6)))
    assert shared(graph, after) == set(graph.nodes)
    assert len(after.nodes) == len(graph.nodes)


# Batch normalization.


def folded(net: Network, *results: str) -> Graph:
    graph = net.graph(*results)
    after = apply(FoldBatchNorm(), graph)
    assert not after.ops(ops.BatchNorm)
    assert_same_function(graph, after)
    return after


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_normalization_is_folded_into_a_convolution(groups: int, bias: bool) -> None:
    net = Network((4, 6, 6), seed=groups)
    net.norm(net.conv("x", 8, groups=groups, bias=bias), name="norm")
    after = folded(net)
    assert list(after.nodes) == ["x", "norm"]
    assert isinstance(after.op("norm"), ops.Conv)


def test_normalization_is_folded_into_a_convolution_of_lines() -> None:
    net = Network((4, 9))
    net.norm(net.conv("x", 6), name="norm")
    assert isinstance(folded(net).op("norm"), ops.Conv)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_normalization_is_folded_into_a_transposed_convolution(groups: int, bias: bool) -> None:
    net = Network((4, 5, 5))
    weight, drift = net.random(4, 6 // groups, 3, 3), net.random(6) if bias else None
    net.add(ops.ConvTranspose(weight, drift, (2, 2), (1, 1, 0, 1), (1, 1), (1, 1), groups), "x")
    net.norm(net.nodes[-1].name, name="norm")
    assert isinstance(folded(net).op("norm"), ops.ConvTranspose)


def test_normalization_is_folded_into_a_linear_layer() -> None:
    net = Network((7,))
    net.norm(net.linear("x", 5, bias=False), name="norm")
    assert isinstance(folded(net).op("norm"), ops.Linear)


def test_two_normalizations_in_a_row_are_folded() -> None:
    net = Network((4, 6, 6))
    net.norm(net.norm(net.conv("x", 5)), name="last")
    assert list(folded(net).nodes) == ["x", "last"]


def test_maps_per_channel_are_folded_and_others_are_not() -> None:
    net = Network((4, 6, 6))
    first = net.add(ops.Affine(net.random(5, 1, 1), None), net.conv("x", 5))
    second = net.add(ops.Affine(None, net.random(1)), first)
    third = net.add(ops.Affine(net.random(6, 6), None), second, name="third")
    fourth = net.add(ops.Affine(net.random(6), net.random(5, 1, 1)), net.conv(third, 5), name="fourth")
    after = folded(net, fourth)
    assert list(after.ops(ops.Affine)) == ["third", "fourth"]


def test_normalization_after_anything_else_stays_as_an_affine_map() -> None:
    net = Network((4, 6, 6))
    total = net.norm(net.add(ops.Add(), net.conv("x", 4), "x"), name="after add")
    net.norm(relu(net, net.norm(relu(net, total), name="after relu")), name="last")
    assert list(folded(net).ops(ops.Affine)) == ["after add", "after relu", "last"]


def test_a_convolution_that_others_read_is_not_folded_into() -> None:
    net = Network((4, 6, 6))
    conv = net.conv("x", 4, name="conv")
    total = net.add(ops.Add(), net.norm(conv, name="norm"), conv)
    after = folded(net, total)
    assert isinstance(after.op("norm"), ops.Affine)
    net = Network((4, 6, 6))
    conv = net.conv("x", 4, name="conv")
    after = folded(net, net.norm(conv, name="norm"), conv)
    assert isinstance(after.op("norm"), ops.Affine)


def test_a_map_that_widens_its_input_is_not_folded() -> None:
    net = Network((4, 6, 6))
    net.add(ops.Affine(net.random(5, 1, 1), None), net.conv("x", 1))
    folded(net)


# Max-pooling.

POOL = ops.MaxPool((3, 3), (2, 2), (1, 1, 1, 1), (1, 1))


def moved(net: Network, *results: str) -> Graph:
    graph = net.graph(*results)
    after = apply(TreatMaxPool(), graph)
    assert_same_function(graph, after, 0.0)
    return after


def over_activations(graph: Graph) -> list[str]:
    """The max-pools that read an activation."""
    return [n for n in graph.ops(ops.MaxPool) if isinstance(graph.op(graph.nodes[n].inputs[0]), ops.Activation)]


ACTIVATIONS: dict[str, tuple[Op, bool]] = {
    "relu": (ops.Relu(), True),
    "relu6": (ops.ClippedRelu(torch.tensor(0.7)), True),
    "quantized": (ops.QuantizedRelu(uniform(0.5, 1, 4, 1, 1), 3), True),
    "leaky": (ops.LeakyRelu(torch.tensor(0.1)), True),
    "prelu": (ops.LeakyRelu(uniform(0, 1, 4, 1, 1)), True),
    "prelu falling": (ops.LeakyRelu(torch.tensor([0.1, 0.2, -0.3, 0.4]).view(4, 1, 1)), False),
    "clipped falling": (ops.ClippedRelu(torch.tensor(0.7), torch.tensor([-0.3])), False),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_pooling_moves_before_rising_activations_only(name: str) -> None:
    activation, moves = ACTIVATIONS[name]
    net = Network((3, 8, 8))
    net.add(activation, net.conv("x", 4))
    net.conv(net.add(POOL, name="pool"), 5)
    after = moved(net)
    assert bool(over_activations(after)) != moves
    assert isinstance(after.op("pool"), type(activation) if moves else ops.MaxPool)


def test_an_activation_of_every_position_stays_before_the_pool() -> None:
    net = Network((3, 8, 8))
    net.add(ops.LeakyRelu(uniform(0, 1, 4, 8, 8)), net.conv("x", 4))
    net.add(POOL)
    moved(net)


def test_an_activation_that_others_read_stays_as_well() -> None:
    net = Network((3, 8, 8))
    active = net.add(ops.Relu(), net.conv("x", 4), name="active")
    pool = net.add(POOL, active, name="pool")
    after = moved(net, pool, net.conv(active, 5))
    assert not over_activations(after)
    assert isinstance(after.op("active"), ops.Relu)
    assert after.consumers["active"] == ("conv_4",)


def test_pooling_moves_through_pools_and_concatenations() -> None:
    net = Network((3, 16, 16))
    left, right = relu(net, net.conv("x", 4)), relu(net, net.conv("x", 2))
    joined = net.add(ops.Concat(1), left, net.add(ops.Concat(1), right, left))
    net.conv(net.add(POOL, net.add(POOL, joined)), 3)
    after = moved(net)
    assert not over_activations(after)
    pools = after.ops(ops.MaxPool)
    assert all(isinstance(after.op(after.nodes[n].inputs[0]), ops.MaxPool | ops.Conv) for n in pools)


def test_pooling_stays_behind_what_it_does_not_commute_with() -> None:
    net = Network((3, 8, 8))
    first = net.add(ops.Concat(2), relu(net, net.conv("x", 4)), relu(net, net.conv("x", 4)))
    one = net.add(POOL, first, name="stacked")
    mixed = net.add(ops.Concat(1), relu(net, net.conv("x", 4)), net.conv("x", 4))
    two = net.add(POOL, mixed, name="mixed")
    total = net.add(ops.Add(), relu(net, net.conv("x", 4)), relu(net, net.conv("x", 4)))
    three = net.add(POOL, total, name="sum")
    graph = net.graph(one, two, three)
    assert shared(graph, moved(net, one, two, three)) == set(graph.nodes)


def test_pools_of_plain_values_stay_where_they_are() -> None:
    net = Network((3, 8, 8))
    joined = net.add(ops.Concat(1), net.add(POOL, net.conv("x", 4)), net.add(POOL, net.conv("x", 4)))
    net.add(POOL, joined)
    graph = net.graph()
    assert shared(graph, moved(net)) == set(graph.nodes)


def test_names_that_are_taken_do_not_matter() -> None:
    net = Network((3, 8, 8))
    taken = [net.conv("x", 4, name=name) for name in ("pool_0", "pool_1", "pool_current", "pool_0_current")]
    joined = net.add(ops.Concat(1), relu(net, taken[0]), relu(net, taken[1]))
    pool = net.add(POOL, joined, name="pool")
    moved(net, pool, net.add(ops.Add(), *taken))


def test_averaging_replaces_every_pool_by_one_of_the_same_shape() -> None:
    net = Network((3, 9, 9))
    net.add(POOL, relu(net, net.conv("x", 4)))
    net.add(ops.MaxPool((2, 2), (1, 1), (0, 1, 0, 0), (2, 1)))
    graph = net.graph()
    after = apply(TreatMaxPool("average"), graph)
    assert not after.ops(ops.MaxPool)
    assert after.shapes == graph.shapes
    ones = torch.ones(1, *graph.shapes["relu_2"])
    pool = after.op("maxpool_3")
    torch.testing.assert_close(pool(ones), torch.ones_like(pool(ones)))
    # A third of the first window lies beyond the border.
    counted = apply(TreatMaxPool("average", border="zeros"), graph).op("maxpool_3")
    left = counted(ones)[..., 1:-1, 0]
    torch.testing.assert_close(left, torch.full_like(left, 2 / 3))


# Activations.


def test_activations_become_clipped_without_a_ceiling() -> None:
    net = Network((3, 6, 6))
    net.add(ops.Relu(), net.conv("x", 4), name="relu")
    slope = uniform(0, 1, 4, 1, 1)
    net.add(ops.LeakyRelu(slope), net.conv("relu", 4), name="prelu")
    net.add(ops.ClippedRelu(torch.tensor(6.0)), net.conv("prelu", 4), name="relu6")
    graph = net.graph()
    after = apply(NormalizeActivations(), graph)
    assert_same_function(graph, after, 0.0)
    clipped = after.ops(ops.ClippedRelu)
    assert list(clipped) == ["relu", "prelu", "relu6"]
    assert [float(op.ceiling) for op in clipped.values()] == [torch.inf, torch.inf, 6.0]
    assert clipped["prelu"].slope is slope
    assert clipped["relu6"] is graph.op("relu6")


def quantized_network() -> Network:
    net = Network((3, 6, 6))
    net.add(ops.Relu(), net.conv("x", 4), name="absorbed")
    net.add(ops.QuantizedRelu(torch.tensor(1.0), 4), name="quantized")
    net.add(ops.Relu(), net.conv("quantized", 4), name="plain")
    net.conv("plain", 2)
    return net


@pytest.mark.parametrize("beside", ["keep", "spike"])
def test_a_relu_before_quantized_activations_is_absorbed(beside: str) -> None:
    graph = quantized_network().graph()
    after = apply(NormalizeActivations(beside), graph)  # type: ignore[arg-type]
    assert_same_function(graph, after, 0.0)
    assert "absorbed" not in after.nodes
    assert after.op("quantized") is graph.op("quantized")
    assert isinstance(after.op("plain"), ops.Relu if beside == "keep" else ops.ClippedRelu)


@pytest.mark.parametrize("why", ["slope", "reader", "output"])
def test_a_relu_that_something_else_needs_is_not_absorbed(why: str) -> None:
    net = Network((3, 6, 6))
    active = net.add(ops.Relu(), net.conv("x", 4), name="active")
    slope = torch.tensor(0.5) if why == "slope" else None
    last = net.add(ops.QuantizedRelu(torch.tensor(1.0), 4, slope), active)
    others = [net.conv(active, 2)] if why == "reader" else [active] if why == "output" else []
    graph = net.graph(last, *others)
    after = apply(NormalizeActivations(), graph)
    assert_same_function(graph, after, 0.0)
    assert "active" in after.nodes


# Thresholds.


def activations(ceilings: tuple[float, ...] = (torch.inf,), slope: Tensor | None = None) -> tuple[Graph, Tensor]:
    """One layer of six channels: two that never fire, one that hardly ever does, three that do."""
    net = Network((6, 4, 4))
    shift = torch.tensor([-50.0, -50.0, -3.0, 0.0, 0.5, 2.0]).view(6, 1, 1)
    net.add(ops.Affine(torch.tensor([1.0, 0.0, 1.0, 1.0, 2.0, 0.5]).view(6, 1, 1), shift), "x", name="z")
    ceiling = torch.tensor(ceilings).view(-1, 1, 1) if len(ceilings) > 1 else torch.tensor(ceilings[0])
    net.add(ops.ClippedRelu(ceiling, slope), "z", name="a")
    return net.graph(), normal(64, 6, 4, 4)


def thresholds(step: CalibrateThresholds, graph: Graph, images: Tensor | None, timesteps: int = 4) -> ops.QuantizedRelu:
    look = dataclasses.replace(calibration(graph, images, timesteps), stated=propagate(graph, {}))
    after = apply(step, graph, look)
    op = after.op("a")
    assert isinstance(op, ops.QuantizedRelu)
    assert op.levels == timesteps
    assert torch.isfinite(op.ceiling).all()
    assert (op.ceiling > 0).all()
    assert op.ceiling.dtype == torch.float32
    return op


KINDS = [
    CalibrateThresholds(kind, per, source)  # type: ignore[arg-type]
    for kind in ("mmse", "percentile", "max")
    for per in ("channel", "layer")
    for source in ("images", "gaussian")
]


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("step", KINDS, ids=lambda step: f"{step.kind}-{step.per}-{step.source}")
def test_channels_that_never_fire_get_a_threshold(step: CalibrateThresholds, images: bool) -> None:
    graph, samples = activations()
    op = thresholds(step, graph, samples if images else None)
    assert op.ceiling.numel() == (6 if step.per == "channel" else 1)
    if images and step.source == "images" and step.per == "channel":
        live = op.ceiling.flatten()
        assert live[:2].tolist() == [float(live[2:].median())] * 2


def test_a_layer_that_never_fires_gets_a_threshold() -> None:
    net = Network((3, 4, 4))
    net.add(ops.ClippedRelu(torch.tensor(torch.inf)), net.add(ops.Affine(None, torch.tensor([-99.0]))), name="a")
    thresholds(CalibrateThresholds(), net.graph(), normal(8, 3, 4, 4))


@pytest.mark.parametrize("timesteps", [1, 4, 16])
@pytest.mark.parametrize("slope", [None, torch.tensor(0.2)])
@pytest.mark.parametrize("step", KINDS, ids=lambda step: f"{step.kind}-{step.per}-{step.source}")
def test_no_threshold_is_above_the_ceiling(step: CalibrateThresholds, slope: Tensor | None, timesteps: int) -> None:
    graph, samples = activations((0.6,), slope)
    op = thresholds(step, graph, samples, timesteps)
    assert (op.ceiling <= 0.6 + 1e-6).all()
    assert op.slope is slope
    graph, samples = activations((0.3, 0.5, 0.2, 0.6, 0.1, 0.9), slope)
    if step.per == "channel":
        op = thresholds(step, graph, samples, timesteps)
        assert (op.ceiling <= torch.tensor([0.3, 0.5, 0.2, 0.6, 0.1, 0.9]).view(6, 1, 1) + 1e-6)[2:].all()


def test_thresholds_of_kinds_are_in_order() -> None:
    graph, samples = activations()
    found = [
        thresholds(CalibrateThresholds("percentile", percentile=p), graph, samples) for p in (50, 90, 99, 99.9, 100)
    ]
    rising = torch.stack([op.ceiling.flatten()[3:] for op in found])
    assert (rising.diff(dim=0) >= 0).all()
    largest = thresholds(CalibrateThresholds("max"), graph, samples).ceiling
    assert torch.equal(found[-1].ceiling, largest)
    z = graph.op("z")(samples)
    assert (largest.flatten()[2:] >= z.amax((0, 2, 3))[2:]).all()
    layer = thresholds(CalibrateThresholds("max", per="layer"), graph, samples).ceiling
    assert float(layer) == float(largest.max())


def test_best_threshold_grows_with_the_time_steps() -> None:
    graph, samples = activations()
    found = [
        thresholds(CalibrateThresholds(), graph, samples, timesteps).ceiling.flatten()[3:] for timesteps in (1, 4, 32)
    ]
    assert (found[0] < found[1]).all()
    assert (found[1] < found[2]).all()


@pytest.mark.parametrize("percentile", [0, -1, 100.1])
def test_options_out_of_range_are_refused(percentile: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        CalibrateThresholds(percentile=percentile)
    with pytest.raises(ValueError, match="damping"):
        CorrectResidualNoise(damping=(0.0,))
    with pytest.raises(UsageError, match="unknown neuron 'perceptron' @ neuron"):
        SubstituteNeurons("perceptron")


def test_batch_normalization_stands_in_for_images() -> None:
    trained = random_network(1, relu, norms=True)
    canonical = prepared(trained)
    stated = calibration(trained).stated
    look = Calibration(canonical, None, Schedule(4), calibration(canonical).levels, stated)
    after = CalibrateThresholds()(canonical, look)
    with_images = CalibrateThresholds(source="gaussian")(canonical, calibration(trained, normal(8, 3, 8, 8)))
    for name, op in after.ops(ops.QuantizedRelu).items():
        other = with_images.op(name)
        assert isinstance(other, ops.QuantizedRelu)
        assert torch.equal(op.ceiling, other.ceiling)


# Neurons.


@pytest.mark.parametrize("neuron", neurons)
def test_neurons_take_over_threshold_and_slope(neuron: str) -> None:
    net = Network((3, 6, 6))
    ceiling, slope = uniform(0.5, 2, 4, 1, 1), torch.tensor(0.1)
    net.add(ops.QuantizedRelu(ceiling, 4), net.conv("x", 4), name="plain")
    net.add(ops.QuantizedRelu(ceiling, 4, slope), net.conv("plain", 4), name="sloped")
    after = apply(SubstituteNeurons(neuron), net.graph())
    assert not after.ops(ops.QuantizedRelu)
    plain, sloped = after.ops(Neuron).values()
    assert type(plain) is neurons[neuron]
    torch.testing.assert_close(plain.closed_form(4).ceiling, ceiling, rtol=2e-7, atol=0)
    assert plain.threshold is ceiling or plain.levels(4) != 4
    assert plain.slope is None
    assert type(sloped) is (neurons[neuron] if neurons[neuron].signed else neurons["dual-threshold"])
    assert sloped.slope is slope


def test_neurons_need_thresholds() -> None:
    graph, _ = activations()
    with pytest.raises(PreconditionError, match="no threshold yet @ source of a") as caught:
        SubstituteNeurons().requires(graph)
    assert "calibrate-thresholds" in caught.value.hint


@pytest.mark.parametrize("seed", range(4))
def test_two_phase_neurons_compute_the_quantized_network(seed: int) -> None:
    canonical = prepared(random_network(seed, relu, norms=True))
    images = normal(24, 3, 8, 8, seed=seed)
    quantized = apply(CalibrateThresholds(), canonical, calibration(canonical, images, 4))
    spiking = double(apply(SubstituteNeurons("two-phase"), quantized))
    wanted, found = (
        outputs(graph, images.double(), steps)[0] for graph, steps in ((double(quantized), 1), (spiking, 4))
    )
    torch.testing.assert_close(found, wanted)


# Correction.


def feed_forward(kind: str, seed: int) -> Network:
    net = Network({"line": (3, 16), "dense": (20,)}.get(kind, (3, 8, 8)), seed)
    if kind == "dense":
        value = relu(net, net.linear("x", 32))
        value = relu(net, net.linear(value, 32))
        net.linear(relu(net, net.linear(value, 24)), 6)
        return net
    value = relu(net, net.conv("x", 8))
    if kind == "residual":
        for _ in range(2):
            inner = relu(net, net.conv(value, 8))
            value = relu(net, net.add(ops.Add(), net.conv(inner, 8), value))
        short = net.conv(value, 12, kernel=1, bias=False)
        value = relu(net, net.add(ops.Add(), short, net.conv(relu(net, net.conv(value, 12)), 12)))
    else:
        for _ in range(3):
            value = relu(net, net.conv(value, 8, groups=2 if kind == "grouped" else 1))
    net.linear(net.flat(net.add(ops.AveragePool((4,), (4,), (0, 0), (0, 0)) if kind == "line" else POOL, value)), 6)
    return net


NETWORKS = ("conv", "grouped", "line", "dense", "residual")


def converted(net: Network, images: Tensor, timesteps: int) -> tuple[Graph, Graph, Calibration]:
    canonical = prepared(net.graph())
    look = calibration(canonical, images, timesteps)
    return canonical, apply(CalibrateThresholds(), canonical, look), look


def mean_square(graph: Graph, reference: Graph, images: Tensor) -> float:
    return float((outputs(graph, images)[0] - outputs(reference, images)[0]).square().mean())


@pytest.mark.parametrize("timesteps", [2, 4])
@pytest.mark.parametrize("kind", NETWORKS)
def test_correction_brings_the_output_closer(kind: str, timesteps: int) -> None:
    shape = feed_forward(kind, 0).shape
    # A dense layer sees one position an image.
    images, fresh = normal(1500 if kind == "dense" else 250, *shape, seed=1), normal(100, *shape, seed=2)
    gains = []
    for seed in range(2):
        reference, quantized, look = converted(feed_forward(kind, seed), images, timesteps)
        corrected = apply(CorrectResidualNoise(), quantized, look)
        assert mean_square(corrected, reference, images) < mean_square(quantized, reference, images)
        gains.append(mean_square(corrected, reference, fresh) / mean_square(quantized, reference, fresh))
    assert sum(gains) / len(gains) < 0.97


LAYERS: dict[str, Callable[[Network, str], str]] = {
    "conv": lambda net, value: net.conv(value, 5),
    "grouped": lambda net, value: net.conv(value, 6, groups=2),
    "depthwise": lambda net, value: net.conv(value, 4, groups=4, bias=False),
    "strided": lambda net, value: net.add(
        ops.Conv(net.random(6, 2, 3, 2) * 0.3, net.random(6), (2, 1), (1, 0, 0, 2), (1, 2), 2), value
    ),
    "tokens": lambda net, value: net.linear(net.add(ops.Transpose((0, 2, 3, 1)), value), 5),
    "line": lambda net, value: net.conv(net.add(ops.Reshape((4, 64)), value), 5),
    "transposed": lambda net, value: net.add(
        ops.ConvTranspose(net.random(4, 3, 3, 2) * 0.3, net.random(6), (2, 1), (1, 0, 0, 1), (1, 0), (1, 2), 2), value
    ),
}


@pytest.mark.parametrize(("kind", "refit"), [*((kind, True) for kind in LAYERS), ("strided", False)])
def test_corrected_weights_are_the_least_squares_solution(kind: str, refit: bool) -> None:
    """Undamped, the squared error of the samples solved on has no slope left in any weight or bias of the layer."""
    net = Network((3, 8, 8), seed=6)
    LAYERS[kind](net, relu(net, net.conv("x", 4)))
    images = normal(400, 3, 8, 8)
    reference, quantized, look = converted(net, images, 2)
    corrected = apply(CorrectResidualNoise(damping=(1e-9,), rows=1 << 20, refit=refit), quantized, look)
    assert look.samples is not None
    rest, held_out = look.samples.split()
    assert len(held_out) == 40
    solved_on = look.samples if refit else rest
    images = torch.cat([feeds["x"] for feeds in solved_on.batches()])
    goal = outputs(reference, images)[0]
    last = net.nodes[-1]
    slopes = []
    for graph in (quantized, corrected):
        op = graph.op(last.name).map_tensors(lambda tensor: tensor.clone().requires_grad_())
        x = outputs(Graph(graph.nodes, last.inputs), images)[0]
        (op(x) - goal).square().mean().backward()
        slopes.append(torch.cat([tensor.grad.flatten() for tensor in op.tensors().values() if tensor.grad is not None]))
    assert float(slopes[1].norm()) < 0.05 * float(slopes[0].norm())


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("timesteps", [1, 2, 8])
def test_bias_correction_leaves_no_mean_error(kind: str, timesteps: int) -> None:
    """METHODS, law 10. What is an output of the network is not shifted again for the sake of an activation."""
    net = feed_forward(kind, 3)
    layers = [node.name for node in net.nodes if isinstance(node.op, ops.Weighted)]
    images = normal(96, *net.shape, seed=4) + 0.3
    reference = NormalizeActivations()(net.graph(*layers), calibration(net.graph()))
    look = calibration(reference, images, timesteps)
    quantized = apply(CalibrateThresholds(), reference, look)
    corrected = apply(CorrectResidualNoise(weights=False), quantized, look)

    def errors(graph: Graph) -> list[float]:
        axes = [tuple(i for i in range(goal.ndim) if i != 1) for goal in outputs(reference, images)]
        pairs = zip(outputs(reference, images), outputs(graph, images), axes, strict=True)
        return [float((goal - found).mean(axis).abs().max()) for goal, found, axis in pairs]

    before, after = errors(quantized), errors(corrected)
    assert min(before[1:]) > 1e-3
    assert max(after) < 2e-6


@pytest.mark.parametrize("kind", NETWORKS)
def test_bias_correction_mends_the_mean_of_activations_and_output(kind: str) -> None:
    images = normal(96, *feed_forward(kind, 3).shape, seed=4) + 0.3
    reference, quantized, look = converted(feed_forward(kind, 3), images, 4)
    corrected = apply(CorrectResidualNoise(weights=False), quantized, look)
    assert [name for name in corrected.nodes if name not in quantized.nodes] == []
    watched = list(quantized.ops(ops.QuantizedRelu))
    graphs = [Graph(graph.nodes, (*watched, *graph.outputs)) for graph in (reference, quantized, corrected)]
    goals, before, after = (outputs(graph, images) for graph in graphs)
    for goal, old, new in list(zip(goals, before, after, strict=True))[:-1]:
        axes = tuple(i for i in range(goal.ndim) if i != 1)
        assert float((goal - new).mean(axes).norm()) < 0.8 * float((goal - old).mean(axes).norm())
    torch.testing.assert_close(after[-1].mean(0), goals[-1].mean(0), atol=2e-6, rtol=0)


@pytest.mark.parametrize("weights", [False, True])
def test_without_images_nothing_is_corrected(weights: bool) -> None:
    reference, quantized, _ = converted(feed_forward("conv", 0), normal(32, 3, 8, 8), 4)
    after = apply(CorrectResidualNoise(weights=weights), quantized, calibration(reference, None))
    assert shared(quantized, after) == set(quantized.nodes)


def test_both_halves_can_be_switched_off() -> None:
    images = normal(32, 3, 8, 8)
    _, quantized, look = converted(feed_forward("residual", 0), images, 4)
    after = apply(CorrectResidualNoise(weights=False, bias=False), quantized, look)
    torch.testing.assert_close(outputs(after, images)[0], outputs(quantized, images)[0])


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("count", [1, 3])
def test_fewer_images_than_weights_do_no_harm(kind: str, count: int) -> None:
    shape = feed_forward(kind, 1).shape
    many = normal(200, *shape, seed=1)
    reference, quantized, _ = converted(feed_forward(kind, 1), many, 4)
    corrected = apply(CorrectResidualNoise(), quantized, calibration(reference, many[:count]))
    fresh = normal(100, *shape, seed=2)
    assert mean_square(corrected, reference, fresh) < 6 * mean_square(quantized, reference, fresh)


def test_a_feature_that_is_always_zero_does_no_harm() -> None:
    images = normal(64, 3, 8, 8)
    images[:, 1] = 0
    net = feed_forward("conv", 0)
    reference, quantized, look = converted(net, images, 4)
    corrected = apply(CorrectResidualNoise(), quantized, look)
    assert mean_square(corrected, reference, images) < mean_square(quantized, reference, images)


def test_batch_size_does_not_reach_the_correction() -> None:
    images = normal(50, 3, 8, 8)
    reference, quantized, _ = converted(feed_forward("residual", 0), images, 4)
    found = [CorrectResidualNoise()(quantized, calibration(reference, images, 4, size)) for size in (50, 7, 1)]
    for name, node in found[0].nodes.items():
        for field, tensor in node.op.tensors().items():
            assert all(torch.equal(tensor, other.op(name).tensors()[field]) for other in found[1:])


def spread(net: Network) -> None:
    """A sum of one channel and four."""
    wide = relu(net, net.conv("x", 4))
    narrow = net.conv(wide, 1)
    net.conv(relu(net, net.add(ops.Add(), wide, narrow)), 2)


def same_twice(net: Network) -> None:
    layer = net.conv(relu(net, net.conv("x", 4)), 4)
    net.conv(relu(net, net.add(ops.Add(), layer, layer)), 2)


def shared_layer(net: Network) -> None:
    layer = net.conv(relu(net, net.conv("x", 4)), 4)
    net.add(ops.Add(), net.conv(relu(net, layer), 2), net.conv(layer, 2))


def transposed(net: Network) -> None:
    hidden = relu(net, net.conv("x", 4))
    net.add(ops.ConvTranspose(net.random(4, 3, 3, 3) * 0.3, None, (2, 2), (0,) * 4, (0, 0), (1, 1)), hidden)
    net.conv(relu(net, net.nodes[-1].name), 2)


def strided(net: Network) -> None:
    hidden = relu(net, net.conv("x", 4))
    op = ops.Conv(net.random(6, 2, 3, 2) * 0.3, None, (2, 1), (1, 0, 0, 2), (1, 2), 2)
    net.conv(relu(net, net.add(op, hidden)), 2)


def tokens(net: Network) -> None:
    hidden = net.add(ops.Transpose((0, 2, 3, 1)), relu(net, net.conv("x", 4)))
    net.linear(relu(net, net.linear(hidden, 5)), 3)


def flattened(net: Network) -> None:
    net.linear(relu(net, net.flat(net.conv(relu(net, net.conv("x", 2)), 2))), 3)


def scaled(net: Network) -> None:
    hidden = relu(net, net.conv("x", 4))
    net.conv(relu(net, net.add(ops.Affine(net.random(4, 1, 1), net.random(4, 1, 1)), net.add(POOL, hidden))), 2)


SHAPES: tuple[Callable[[Network], None], ...] = (
    spread,
    same_twice,
    shared_layer,
    transposed,
    strided,
    tokens,
    flattened,
    scaled,
)


@pytest.mark.parametrize("build", SHAPES, ids=lambda build: build.__name__)
def test_correction_helps_whatever_the_shape_of_the_network(build: Callable[[Network], None]) -> None:
    net = Network((3, 6, 6), seed=2)
    build(net)
    images = normal(128, 3, 6, 6)
    reference, quantized, look = converted(net, images, 3)
    corrected = apply(CorrectResidualNoise(), quantized, look)
    assert mean_square(corrected, reference, images) < mean_square(quantized, reference, images)


def test_an_output_is_not_shifted_for_the_sake_of_an_activation() -> None:
    net = Network((3, 6, 6), seed=2)
    first = net.conv(relu(net, net.conv("x", 4)), 4)
    other = net.conv("x", 4)
    total = net.add(ops.Add(), other, first)
    last = net.conv(relu(net, total), 2)
    images = normal(128, 3, 6, 6)
    graph = NormalizeActivations()(net.graph(first, last), calibration(net.graph()))
    look = calibration(graph, images, 2)
    quantized = apply(CalibrateThresholds(), graph, look)
    corrected = apply(CorrectResidualNoise(weights=False), quantized, look)
    wanted, found = outputs(graph, images)[0], outputs(corrected, images)[0]
    assert float((wanted - found).mean((0, 2, 3)).abs().max()) < 2e-6


def test_correction_refuses_a_reference_whose_nodes_compute_something_else() -> None:
    """Folding after thresholds renames layers: value by value, the two networks can no longer be compared."""
    net = Network((4, 6, 6), seed=3)
    net.conv(relu(net, net.norm(net.conv("x", 4))), 2)
    graph = apply(NormalizeActivations(), net.graph())
    look = calibration(graph, normal(32, 4, 6, 6))
    folded_late = apply(FoldBatchNorm(), apply(CalibrateThresholds(), graph, look), look)
    with pytest.raises(PreconditionError) as caught:
        CorrectResidualNoise()(folded_late, look)
    assert caught.value.hint
