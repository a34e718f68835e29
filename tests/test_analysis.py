"""What is known of a graph: channels, moments, what positions see. Values themselves are the oracle."""

import pytest
import torch

from snnc import ops
from snnc.analysis.channels import by_channel, channel_axis, channel_count, from_channels
from snnc.analysis.moments import propagate
from snnc.analysis.patches import patches, positions
from snnc.ir import Graph, Input, Node
from snnc.neurons import neurons
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import Weighted
from tests.support import Network, normal, operations

LAYERS = {name: (op, shapes) for name, (op, shapes) in operations().items() if isinstance(op, Weighted)}

# Weights, whatever their layout.


@pytest.mark.parametrize("name", LAYERS)
def test_a_kernel_can_be_put_back(name: str) -> None:
    op = LAYERS[name][0]
    same = op.with_kernel(op.kernel(), op.bias)
    assert torch.equal(same.weight, op.weight) and same.weight.is_contiguous()
    bias = torch.zeros(op.kernel().shape[:2].numel(), dtype=torch.float64)
    assert op.with_kernel(op.kernel().double(), bias).tensors()["bias"].dtype == op.weight.dtype


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_kernel_times_what_its_positions_see(name: str) -> None:
    op, (shape,) = LAYERS[name]
    x = normal(3, *shape)
    kernel = op.kernel().flatten(2)
    sums = (patches(op, x) @ kernel.transpose(1, 2)).transpose(0, 1).flatten(1)
    graph = Graph.of([Node("x", Input(shape), ()), Node("layer", op, ("x",))], ["layer"])
    axis = channel_axis(graph, "layer")
    assert axis is not None
    bias = 0 if op.bias is None else op.bias
    torch.testing.assert_close(sums + bias, positions(op(x), axis), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_one_number_per_channel_broadcasts_and_comes_back(name: str) -> None:
    op, (shape,) = LAYERS[name]
    graph = Graph.of([Node("x", Input(shape), ()), Node("layer", op, ("x",))], ["layer"])
    numbers = normal(op.kernel().shape[:2].numel())
    shaped = from_channels(graph, "layer", numbers)
    back = by_channel(graph, "layer", shaped)
    assert back is not None and torch.equal(back, numbers)
    uneven = shaped.expand(graph.shapes["layer"]).clone()
    uneven.view(-1)[0] += 1
    assert by_channel(graph, "layer", uneven) is None


# Channels.


def test_means_keep_the_channels_that_they_do_not_average() -> None:
    net = Network((3, 4, 5), seed=0)
    conv = net.conv("x", 6)
    kept = {axes: net.add(ops.Mean(axes), conv) for axes in ((2, 3), (1,))}
    gone = {axes: net.add(ops.Mean(axes, keep=False), conv) for axes in ((2, 3), (2,), (1,))}
    moved = net.add(ops.Transpose((0, 2, 3, 1)), conv)
    last = net.add(ops.Mean((1, 2), keep=False), moved)
    graph = net.graph(*kept.values(), *gone.values(), last)
    assert [channel_axis(graph, name) for name in kept.values()] == [1, 1]
    assert [channel_axis(graph, name) for name in gone.values()] == [1, 1, None]
    assert channel_axis(graph, last) == 1
    assert [channel_count(graph, name) for name in (*gone.values(), last)] == [6, 6, 1, 6]


# Moments.


def test_moments_behind_every_kind_are_those_of_samples() -> None:
    """On values that are independent and normal, as is assumed."""
    net = Network((6, 2, 1), seed=3)
    wide = net.add(ops.Affine(net.random(6, 1, 1), net.random(6, 1, 1)), "x")
    narrow = net.add(ops.Affine(None, net.random(2, 1, 1)), net.add(ops.Slice(1, 0, 2), "x"))
    names = [
        net.add(ops.Concat(2), wide, "x", "x"),
        net.add(ops.Pad((1, 0, 0, 2, 0, 0), 0.7), wide),
        net.add(ops.Take(1, (5, 0, 0)), wide),
        net.add(ops.Concat(1), wide, narrow),
        net.flat(net.add(ops.Transpose((0, 2, 3, 1)), wide)),
    ]
    graph = net.graph(*names)
    moments = propagate(graph, {})
    values = {"x": normal(100_000, 6, 2, 1)}
    for node in list(graph.nodes.values())[1:]:
        values[node.name] = node.op(*(values[value] for value in node.inputs))
    for name in names:
        axis = channel_axis(graph, name)
        assert axis is not None
        flat = values[name].movedim(axis, 0).flatten(1).double()
        torch.testing.assert_close(moments[name].mean, flat.mean(1), rtol=0.02, atol=0.02)
        torch.testing.assert_close(moments[name].variance, flat.var(1), rtol=0.02, atol=0.02)


def test_every_summand_counts_where_their_channels_differ_in_number() -> None:
    net = Network((4, 3, 3), seed=0)
    single = net.conv("x", 1)
    total = net.add(ops.Add(), "x", single)
    moments = propagate(net.graph(total), {})
    torch.testing.assert_close(moments[total].mean, moments["x"].mean + moments[single].mean)
    torch.testing.assert_close(moments[total].variance, moments["x"].variance + moments[single].variance)


def test_a_normalization_states_its_moments_even_where_nobody_collected_them() -> None:
    net = Network((3, 4, 4), seed=0)
    norm = net.norm(net.conv("x", 5))
    op, moments = net.graph(norm).ops(ops.BatchNorm)[norm], propagate(net.graph(norm), {})
    assert torch.equal(moments[norm].mean, op.shift.double())
    assert torch.equal(moments[norm].variance, op.scale.double().square())


@pytest.mark.parametrize("kind", neurons)
def test_neurons_have_the_moments_of_the_rectifier_they_stand_for(kind: str) -> None:
    net = Network((3, 4, 4), seed=0)
    conv = net.conv("x", 5)
    steps = net.add(TemporalBias(torch.stack([torch.ones(5, 1, 1), 2 * torch.ones(5, 1, 1)])), conv)
    relu = net.add(ops.Relu(), net.add(ops.Affine(None, torch.tensor(1.5)), conv))
    spikes = net.add(neurons[kind](torch.tensor(1.0)), steps)
    moments = propagate(net.graph(relu, spikes), {})
    torch.testing.assert_close(moments[spikes].mean, moments[relu].mean)
    torch.testing.assert_close(moments[spikes].variance, moments[relu].variance)
