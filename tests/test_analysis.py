"""What is known of a graph: channels, moments, kinds of values, reach, work. Values themselves are the oracle."""

import pytest
import torch

from snnc import ops
from snnc.analysis.channels import by_channel, channel_axis, channel_count, from_channels
from snnc.analysis.moments import propagate
from snnc.analysis.patches import patches, positions
from snnc.analysis.reach import connected, passage
from snnc.analysis.values import Kind, value_kind, value_kinds
from snnc.analysis.work import Work, work
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import neurons
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import Weighted
from tests.support import Network, naming, normal, operations

OPERATIONS = operations()
LAYERS = {name: (op, shapes) for name, (op, shapes) in OPERATIONS.items() if isinstance(op, Weighted)}

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
    rows = torch.arange(op(x).numel() // kernel.shape[:2].numel()).flip(0)[::2]
    sums = (patches(op, x, rows) @ kernel.transpose(1, 2)).transpose(0, 1).flatten(1)
    graph = Graph.of([Node("x", Input(shape), ()), Node("layer", op, ("x",))], ["layer"])
    axis = channel_axis(graph, "layer")
    assert axis is not None
    bias = 0 if op.bias is None else op.bias
    torch.testing.assert_close(sums + bias, positions(op(x), axis, rows), rtol=1e-4, atol=1e-4)


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


def test_channels_are_followed_down_a_long_chain() -> None:
    chain = [Node(f"{at + 1}", ops.Relu(), (f"{at}",)) for at in range(3000)]
    graph = Graph.of([Node("0", Input((3, 4)), ()), *chain], ["3000"])
    assert channel_axis(graph, "3000") == 1


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


# Kinds of values.


def test_what_is_affine_keeps_spikes_currents_and_the_rest_lifts_them() -> None:
    for name, (op, shapes) in OPERATIONS.items():
        with naming(name):
            for kind in Kind:
                found = value_kind(op, [kind for _ in shapes])
                assert (found == Kind.CONSTANT) == (kind == Kind.CONSTANT)
                # Of a window of spikes, one passes.
                passes = isinstance(op, ops.MaxPool) and kind == Kind.SPIKES
                lifts = kind != Kind.CONSTANT and not op.linear and not passes
                assert (found == Kind.LIFTED) == (kind == Kind.LIFTED or lifts)
                assert found >= kind


def test_every_value_of_a_network_has_its_kind() -> None:
    net = Network((3, 4, 4), seed=0)
    spikes = neurons["if"](torch.tensor(1.0))
    expected = {"x": Kind.CONSTANT}

    def add(kind: Kind, op: Op, *values: str) -> str:
        name = net.add(op, *values)
        expected[name] = kind
        return name

    def conv(kind: Kind, value: str) -> str:
        expected[name := net.conv(value, 3)] = kind
        return name

    image = add(Kind.CONSTANT, ops.Relu(), conv(Kind.CONSTANT, "x"))
    first = add(Kind.SPIKES, spikes, image)
    pooled = add(Kind.SPIKES, ops.AveragePool((2, 2), (1, 1), (0, 0, 1, 1), (0, 0, 0, 0)), first)
    current = conv(Kind.CURRENT, pooled)
    add(Kind.CURRENT, ops.Add(), first, current)
    add(Kind.SPIKES, ops.Add(), first, pooled)
    add(Kind.CURRENT, ops.Concat(1), first, "x")
    biased = add(Kind.CURRENT, TemporalBias(torch.ones(2, 3, 1, 1)), image)
    lifted = add(Kind.LIFTED, ops.MaxPool((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)), current)
    conv(Kind.LIFTED, add(Kind.LIFTED, ops.Add(), lifted, biased))
    add(Kind.SPIKES, spikes, lifted)
    assert value_kinds(net.graph()) == expected


# Reach and work.


@pytest.mark.parametrize("name", [name for name in OPERATIONS if passage(OPERATIONS[name][0]) is not None])
def test_a_spike_reaches_all_that_depends_on_it(name: str) -> None:
    op, shapes = OPERATIONS[name]
    inputs = [Node(f"x{i}", Input(shape), ()) for i, shape in enumerate(shapes)]
    spikes = [Node(f"spikes{i}", neurons["if"](torch.tensor(1.0)), (node.name,)) for i, node in enumerate(inputs)]
    between = Node("between", op, tuple(node.name for node in spikes))
    size = op(*(torch.zeros(1, *shape) for shape in shapes)).numel()
    flat, layer = Node("flat", ops.Reshape((size,)), ("between",)), ops.Linear(normal(2, size), None)
    found = connected(Graph.of([*inputs, *spikes, between, flat, Node("layer", layer, ("flat",))], ["layer"]))["layer"]
    assert found.reach is not None and found.macs == 2 * size
    if isinstance(op, ops.MaxPool):
        # One spike of a window passes, whichever it is; a border takes its share and lets nothing pass.
        assert 0 < float(found.reach["spikes0"].sum()) <= 2 * size + 1e-3
        return
    blank = [torch.zeros(1, *shape) for shape in shapes]
    for index, shape in enumerate(shapes):
        impulses = torch.eye(torch.Size(shape).numel()).view(-1, *shape)
        given = [impulses if other == index else zeros for other, zeros in enumerate(blank)]
        given = [tensor.expand(len(impulses), *tensor.shape[1:]) for tensor in given]
        moved = (op(*given) - op(*blank)).flatten(1) != 0
        assert torch.equal(found.reach[f"spikes{index}"].flatten(), 2 * moved.sum(1).double())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_without_borders_the_work_is_all_connections(transposed: bool, groups: int) -> None:
    net = Network((4, 5, 6), seed=0)
    spikes = net.add(neurons["if"](torch.tensor(1.0)), "x")
    weight, ones, zeros = net.random(4, 4 // groups, 2, 3), (1, 1), (0, 0, 0, 0)
    layer: ops.Weighted = ops.Conv(weight, None, (1, 2), zeros, ones, groups)
    if transposed:
        layer = ops.ConvTranspose(weight, None, (1, 2), zeros, (0, 0), ones, groups)
    found = connected(net.graph(net.add(layer, spikes, name="layer")))["layer"]
    assert found.reach is not None
    assert found.macs == float(found.reach[spikes].sum())


def test_what_normalizes_spikes_leaves_them_spikes() -> None:
    net = Network((3, 4, 4), seed=0)
    spikes = net.add(neurons["if"](torch.tensor(1.0)), "x")
    plain, normalized = net.conv(spikes, 5), net.conv(net.norm(spikes), 5)
    found = connected(net.graph(plain, normalized))
    reach = [found[name].reach for name in (plain, normalized)]
    assert reach[0] is not None and reach[1] is not None
    assert torch.equal(reach[0][spikes], reach[1][spikes])


def test_work_is_counted_for_all_that_computes() -> None:
    for name, (op, shapes) in OPERATIONS.items():
        with naming(name):
            after = tuple(op(*(torch.zeros(1, *shape) for shape in shapes)).shape[1:])
            found = work(op, shapes, after)
            assert (found == Work()) == isinstance(op, ops.Embedding | ops.Gathered | ops.Routing)
            if isinstance(op, ops.Add):
                assert found == Work(additions=2 * torch.Size(after).numel())
