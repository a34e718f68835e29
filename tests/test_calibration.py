"""Statistics that do not depend on how the samples came, and the thresholds they give."""

import math

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.analysis.channels import channel_axis, per_channel
from snnc.analysis.moments import propagate, stated_moments
from snnc.calibration import Calibration, Histogram
from snnc.calibration.calibration import sensitivities
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.run import Program
from tests.support import Network, alternating, calibration, in_memory, normal, random_network, relu, uniform

LEVELS = (1, 2, 3, 4, 8, 16, 32)


def skewed(name: str, count: int = 4000) -> Tensor:
    z = normal(count, seed=11).double()
    match name:
        case "normal":
            return z
        case "exponential":
            return uniform(1e-6, 1, count).double().log() * -0.7
        case "log-normal":
            return (1.3 * z).exp() * 0.1
        case "rare":
            return z - 1.8
        case "uniform":
            return uniform(-0.2, 5.0, count).double()
        case "two humps":
            return torch.where(uniform(0, 1, count) < 0.9, z * 0.1 + 0.3, z * 0.5 + 6)
        case "outlier":
            return torch.cat([z[:-3], torch.tensor([40.0, 55.0, 60.0]).double()])
        case _:
            return torch.full((count,), 1.7).double()


SHAPES = ("normal", "exponential", "log-normal", "rare", "uniform", "two humps", "outlier", "constant")


def error(z: Tensor, thresholds: Tensor, levels: int, ceiling: float, slope: float = 0.0) -> Tensor:
    """The mean squared error of every threshold, by its definition."""
    found = []
    magnitude = torch.cat([z[z > 0], z[z < 0].abs()])
    weight = torch.cat([torch.ones(int((z > 0).sum())), torch.full((int((z < 0).sum()),), slope**2)]).double()
    target = magnitude.clamp(max=ceiling)
    for part in thresholds.double().split(100):
        theta = part.unsqueeze(1)
        reached = theta * torch.floor(magnitude * levels / theta + 0.5).clamp(max=levels) / levels
        found.append(((reached - target).square() * weight).sum(1) / len(z))
    return torch.cat(found)


def best(z: Tensor, levels: int, ceiling: float = math.inf, slope: float = 0.0) -> float:
    top = float(z.abs().clamp(max=ceiling).max())
    grid = torch.logspace(math.log10(top * 0.01), math.log10(top * 1.5), 800).double()
    return float(error(z, grid, levels, ceiling, slope).min())


def mmse(z: Tensor, levels: int, ceiling: float = math.inf, slope: float | None = None) -> Tensor:
    counts = Histogram.of(z.unsqueeze(1), 1)
    return counts.mmse(levels, torch.tensor([ceiling]), None if slope is None else torch.tensor([slope]))


@pytest.mark.parametrize("levels", [1, 8, 40])
def test_channels_have_the_same_thresholds_alone(levels: int) -> None:
    """However many are looked up at once."""
    counts = Histogram.of(normal(30, 90, 20) * uniform(0.01, 9, 90, 1), 1)
    ceilings = uniform(0.5, 5, 90)
    together = counts.mmse(levels, ceilings)
    for channel in (0, 40, 89):
        part = slice(channel, channel + 1)
        alone = Histogram(counts.counts[part], counts.total[part])
        assert torch.equal(alone.mmse(levels, ceilings[part]), together[part])


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("name", SHAPES)
def test_mmse_threshold_is_the_brute_force_minimum(name: str, levels: int) -> None:
    z = skewed(name)
    reached = float(error(z, mmse(z, levels), levels, math.inf))
    # What lies within one bin is taken for its center.
    rounding = 1e-4 * float(z.square().mean()) if name == "constant" else 0.0
    assert reached <= 1.02 * best(z, levels) + rounding


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("ceiling", [0.3, 1.0, 6.0])
@pytest.mark.parametrize("slope", [None, 0.25])
def test_mmse_threshold_knows_ceiling_and_slope(levels: int, ceiling: float, slope: float | None) -> None:
    z = skewed("normal") * 2 - 0.5
    reached = float(error(z, mmse(z, levels, ceiling, slope), levels, ceiling, slope or 0.0))
    assert reached <= 1.02 * best(z, levels, ceiling, slope or 0.0)


def test_a_wrong_threshold_fails_the_brute_force_test() -> None:
    z = skewed("normal")
    for levels in (1, 4, 16):
        assert float(error(z, 1.2 * mmse(z, levels), levels, math.inf)) > 1.05 * best(z, levels)


@pytest.mark.parametrize(
    ("moments", "levels"), alternating([(0.0, 1.0), (-0.5, 0.5), (2.0, 0.7), (0.3, 4.0)], LEVELS), ids=str
)
def test_gaussian_form_is_the_sampled_one(moments: tuple[float, float], levels: int) -> None:
    mean, deviation = moments
    counts = Histogram.gaussian(torch.tensor([mean]), torch.tensor([deviation]))
    # Samples at equal steps of probability: the distribution itself.
    z = mean + deviation * torch.special.ndtri((torch.arange(20_000).double() + 0.5) / 20_000)
    sampled = Histogram.of(z.unsqueeze(1), 1)
    stated = float(error(z, counts.mmse(levels, torch.tensor([torch.inf])), levels, math.inf))
    assert stated <= 1.02 * best(z, levels)
    torch.testing.assert_close(counts.percentile(99.0), sampled.percentile(99.0), rtol=0.02, atol=0.0)


# Law 9.


def test_counts_that_are_never_large_take_half_the_memory() -> None:
    values = normal(50, 300, seed=4)
    wanted, small = Histogram.of(values, 1), Histogram.empty(300, most=50)
    for part in values.split(20):
        small.count(part, 1)
    assert small.positive.dtype == torch.int32 and wanted.positive.dtype == torch.int64
    assert all(map(torch.equal, everything(wanted), everything(small)))


def everything(counts: Histogram) -> list[Tensor]:
    ceiling = torch.full((len(counts.total),), 2.5)
    slope = torch.full((len(counts.total),), 0.1)
    pooled = counts.pooled()
    return [
        counts.maximum(),
        *(counts.percentile(percent) for percent in (50.0, 99.0, 99.9, 100.0)),
        *(counts.mmse(levels, ceiling) for levels in (1, 4, 16)),
        counts.mmse(4, ceiling, slope),
        pooled.percentile(99.9),
        pooled.mmse(4, ceiling[:1]),
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split_order_and_merge_change_no_threshold(seed: int, axis: int) -> None:
    values = normal(60, 5, 3, 4, seed=seed) * torch.logspace(-6, 3, 5).view(1, 5, 1, 1)
    values[values.abs() < 1e-7] = 0
    wanted = everything(Histogram.of(values, axis))
    generator = torch.Generator().manual_seed(seed)
    shuffled = values[torch.randperm(60, generator=generator)]
    cuts = torch.randint(1, 60, (6,), generator=generator).unique()
    left, *others = (Histogram.of(piece, axis) for piece in shuffled.tensor_split(cuts))
    for piece in others:
        left += piece
    pieces = [Histogram.of(piece, axis) for piece in shuffled.tensor_split(cuts)]
    while len(pieces) > 1:
        first, second, *pieces = pieces
        second += first
        pieces.append(second)
    for merged in (left, *pieces):
        assert all(map(torch.equal, everything(merged), wanted))


@pytest.mark.parametrize("seed", [1])
def test_batch_size_changes_no_threshold(seed: int) -> None:
    graph = random_network(seed, relu, norms=True)
    images = normal(300, 3, 8, 8, seed=seed)
    names = list(graph.ops(ops.Weighted))
    found = [calibration(graph, images, size=size).histograms(graph, names) for size in (300, 64, 7)]
    for name in names:
        wanted = everything(found[0][name])
        for other in found[1:]:
            assert all(map(torch.equal, everything(other[name]), wanted)), name


def test_histograms_count_every_value_of_every_channel() -> None:
    graph = random_network(0, relu)
    images = normal(10, 3, 8, 8)
    found = calibration(graph, images).histograms(graph, graph.ops(ops.Relu))
    for name, counts in found.items():
        axis = channel_axis(graph, name)
        size = torch.Size(graph.shapes[name]).numel()
        channels = graph.shapes[name][axis - 1] if axis else 1
        assert counts.total.tolist() == [10 * size // channels] * channels


def test_without_images_the_statistics_are_those_that_batch_normalization_states() -> None:
    net = Network((3, 8, 8), seed=1)
    norm = net.norm(net.conv("x", 6), name="norm")
    active = net.add(ops.Relu(), norm)
    graph = net.graph()
    stated = stated_moments(graph)
    op = graph.op(norm)
    assert isinstance(op, ops.BatchNorm)
    assert torch.equal(stated[norm].mean, op.shift.double())
    assert torch.equal(stated[norm].variance, op.scale.double().square())
    counts = calibration(graph).histograms(graph, [active])[active]
    median = counts.percentile(50.0)
    torch.testing.assert_close(median, op.shift.double().clamp(min=0), rtol=0.03, atol=0.03)


def test_data_free_moments_are_those_of_samples() -> None:
    """On weights and independent inputs, where the independence that is assumed holds."""
    net = Network((8, 1, 1), seed=2)
    first = net.conv("x", 6, kernel=1)
    active = net.add(ops.Relu(), first)
    left, right = net.conv("x", 6, kernel=1), net.add(ops.Affine(net.random(6, 1, 1), net.random(6, 1, 1)), first)
    joined = net.add(ops.Concat(1), left, active)
    taken = net.add(ops.Slice(1, 1, 9, 2), joined)
    names = [first, active, left, right, joined, taken]
    graph = net.graph(*names)
    moments = propagate(graph, {})
    values = {"x": normal(200_000, 8, 1, 1)}
    for node in list(graph.nodes.values())[1:]:
        values[node.name] = node.op(*(values[value] for value in node.inputs))
    for name in names:
        flat = values[name].flatten(1).double()
        torch.testing.assert_close(moments[name].mean, flat.mean(0), rtol=0.02, atol=0.02)
        torch.testing.assert_close(moments[name].variance, flat.var(0), rtol=0.02, atol=0.02)


# Edges.


def test_percentile_is_monotone_and_reaches_the_maximum() -> None:
    z = torch.stack([skewed(name) for name in SHAPES], 1)
    counts = Histogram.of(z, 1)
    percents = [1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]
    found = torch.stack([counts.percentile(percent) for percent in percents])
    assert (found.diff(dim=0) >= 0).all()
    assert torch.equal(found[-1], counts.maximum())
    largest = z.amax(0)
    assert (counts.maximum() >= largest).all()
    assert (counts.maximum() <= largest * (1 + 1 / 64)).all()


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.0, 99.9])
def test_percentile_is_exceeded_by_no_more_than_the_rest(percent: float) -> None:
    z = torch.stack([skewed(name) for name in SHAPES], 1).float()
    found = Histogram.of(z, 1).percentile(percent)
    assert ((z > found).double().mean(0) <= 1 - percent / 100 + 1e-9).all()
    # It is no larger than it has to be, up to the width of a bin.
    above = (z > found * (1 - 2 / 64)).double().mean(0)
    assert ((above > 1 - percent / 100) | (found == 0)).all()


def test_channels_without_a_positive_value_have_the_threshold_zero() -> None:
    z = torch.stack([torch.zeros(50), -normal(50).abs(), normal(50).abs() + 0.1], 1)
    counts = Histogram.of(z, 1)
    for found in (counts.maximum(), counts.percentile(99.9), counts.mmse(4, torch.full((3,), torch.inf))):
        assert found[:2].tolist() == [0, 0]
        assert found[2] > 0


def test_extreme_values_are_counted_in_the_outermost_bins() -> None:
    z = torch.tensor([1e-30, 1e30, -1e-30, -1e30, 0.0]).unsqueeze(1)
    counts = Histogram.of(z, 1)
    assert counts.total.tolist() == [5]
    assert (int(counts.positive.sum()), int(counts.negative.sum())) == (2, 2)
    assert torch.isfinite(counts.maximum()).all()


# Channels.


def test_channel_axis_follows_the_operations() -> None:
    net = Network((3, 4, 5), seed=0)
    conv = net.conv("x", 6)
    moved = net.add(ops.Transpose((0, 2, 3, 1)), conv)
    dense = net.linear(moved, 7)
    back = net.add(ops.Transpose((0, 3, 1, 2)), dense)
    flat = net.flat(back)
    read = net.linear(flat, 2)
    mixed = net.add(ops.Reshape((4, 35)), back)
    graph = net.graph(read, mixed)
    assert [channel_axis(graph, n) for n in ("x", conv, moved, dense, back, flat, read)] == [1, 1, 3, 3, 1, 1, 1]
    assert channel_axis(graph, mixed) is None


def test_per_channel_broadcasts_along_the_axis() -> None:
    values = normal(5)
    for axis, shape in ((1, (5, 2, 3)), (2, (2, 5, 3)), (3, (2, 3, 5))):
        full = per_channel(values, shape, axis).expand(shape)
        assert torch.equal(full.movedim(axis - 1, 0).flatten(1)[:, 0], values)


# Samples.


def test_samples_are_read_again_and_again() -> None:
    graph: Graph = random_network(0, relu)
    look = Calibration(graph, in_memory(graph, normal(9, 3, 8, 8), 4), 4, {}, {})
    first, second = (look.histograms(graph, graph.outputs)[graph.outputs[0]] for _ in range(2))
    assert torch.equal(first.positive, second.positive)
    assert look.without_samples().samples is None


def test_weights_count_what_the_outputs_move_with() -> None:
    net = Network((4,))
    hidden = relu(net, net.linear("x", 6))
    net.linear(hidden, 3, name="last")
    graph = net.graph()
    x = normal(5, 4, seed=1)
    found = sensitivities(graph, Feeds({"x": x}), [hidden])[hidden]
    # The outputs are linear in the hidden values: slopes are signs times weights, over the size of the outputs.
    weight = graph.op("last").weight
    size = Program(graph)(Feeds({"x": x}))["last"][0].norm()
    signs = torch.randint(2, (5, 3), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    wanted = (signs @ weight / size).square()
    assert torch.allclose(found, wanted + 1e-6 * wanted.mean(), rtol=1e-4)


def test_weighed_counts_are_those_of_values_that_come_as_often() -> None:
    values = normal(40, 3, seed=2)
    often = torch.randint(0, 4, (40, 3), generator=torch.Generator().manual_seed(1))
    weighed = Histogram.of(values, 1, often.double())
    ceiling = torch.full((1,), torch.inf)
    for channel in range(3):
        repeated = values[:, channel].repeat_interleave(often[:, channel]).unsqueeze(1)
        alone = Histogram.of(repeated, 1)
        assert torch.equal(weighed.positive[channel], alone.positive[0].double())
        part = Histogram(weighed.counts[[channel]], weighed.total[[channel]])
        assert torch.allclose(part.mmse(4, ceiling), alone.mmse(4, ceiling))


def test_thresholds_can_follow_what_the_outputs_move_with() -> None:
    net = Network((4,))
    hidden = relu(net, net.linear("x", 6))
    net.linear(hidden, 3, name="last")
    graph = net.graph()
    made = {
        weigh: CalibrateThresholds(per="layer", weigh=weigh)(
            NormalizeActivations()(graph, calibration(graph)), calibration(graph, normal(64, 4, seed=3))
        )
        for weigh in ("alike", "outputs")
    }
    ceilings = {weigh: float(made[weigh].op(hidden).ceiling.max()) for weigh in made}
    assert ceilings["alike"] != ceilings["outputs"]
    with pytest.raises(ValueError, match="weigh: outputs is of kind: mmse"):
        CalibrateThresholds(kind="max", weigh="outputs")
