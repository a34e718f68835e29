"""Execution: what may be computed faster gives what is computed step by step."""

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron, OrderFreeNeuron, neurons
from snnc.run import chunk_size, run, simulation, stream
from snnc.run.simulation import rechunk
from tests.support import Network, double, neuron_instances, normal, random_network, relu, spiking

SEEDS = range(8)
ORDER_FREE = [name for name, kind in neurons.items() if issubclass(kind, OrderFreeNeuron)]


def counts(graph: Graph, x: Tensor, timesteps: int, step_by_step: bool) -> dict[str, Tensor]:
    """The mean output of every neuron in whole spikes, and of the network."""
    found: dict[str, Tensor] = {}

    def observe(name: str, signal: Tensor) -> None:
        op = graph.op(name)
        assert isinstance(op, Neuron)
        assert len(signal) in (1, timesteps)
        found[name] = (signal.mean(0) * timesteps / op.threshold).round()

    result = run(graph, {"x": x.unsqueeze(0)}, graph.outputs, timesteps, step_by_step=step_by_step, observe=observe)
    assert set(found) == set(graph.ops(Neuron))
    return found | {"output": result[graph.outputs[0]].mean(0)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trained_network_is_run_as_it_is_called(seed: int) -> None:
    graph = random_network(seed, relu, norms=True)
    x = normal(5, 3, 8, 8, seed=seed)
    values = {"x": x}
    for node in graph.nodes.values():
        if node.inputs:
            values[node.name] = node.op(*(values[value] for value in node.inputs))
    signals = run(graph, {"x": x.unsqueeze(0)}, graph.nodes)
    for name, value in values.items():
        assert torch.equal(signals[name], value.unsqueeze(0))


@pytest.mark.parametrize("kinds", [(kind,) for kind in ORDER_FREE] + [tuple(neurons)], ids="+".join)
@pytest.mark.parametrize("seed", SEEDS)
def test_means_alone_give_the_same_counts_as_every_step(seed: int, kinds: tuple[str, ...]) -> None:
    graph = double(random_network(seed, spiking(*kinds, seed=seed)))
    x = normal(4, 3, 8, 8, seed=seed).double()
    fast, slow = (counts(graph, x, 6, step_by_step) for step_by_step in (False, True))
    for name in graph.ops(Neuron):
        assert torch.equal(fast[name], slow[name]), name
    torch.testing.assert_close(fast["output"], slow["output"])
    assert any(count.any() for name, count in fast.items())


@pytest.mark.parametrize("kind", ORDER_FREE)
def test_means_alone_hardly_ever_round_otherwise_in_single_precision(kind: str) -> None:
    differing = total = 0
    for seed in SEEDS:
        graph = random_network(seed, spiking(kind, seed=seed))
        x = normal(16, 3, 8, 8, seed=seed)
        fast, slow = (counts(graph, x, 8, step_by_step) for step_by_step in (False, True))
        for name in graph.ops(Neuron):
            differing += int((fast[name] != slow[name]).sum())
            total += fast[name].numel()
    assert total > 100_000
    assert differing <= total * 1e-5


@pytest.mark.parametrize("first", neurons)
@pytest.mark.parametrize("second", neurons)
def test_neurons_of_two_kinds_in_a_row_see_trains_where_they_need_them(first: str, second: str) -> None:
    net = Network((3, 6, 6), seed=5)
    spiking(first)(net, net.conv("x", 4))
    net.add(ops.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))
    spiking(second)(net, net.conv(net.nodes[-1].name, 4))
    graph = double(net.graph())
    x = normal(3, 3, 6, 6).double()
    trains: dict[str, Tensor] = {}
    result = run(graph, {"x": x.unsqueeze(0)}, graph.outputs, 7, observe=trains.__setitem__)
    (one, early), (two, late) = graph.ops(Neuron).items()
    # The whole thing by hand.
    wanted = early.respond(graph.op("conv_1")(x).unsqueeze(0), 7)
    pool, conv = (graph.op(name) for name in list(graph.nodes)[3:5])
    sums = wanted.cumsum(0)
    pooled = torch.stack([pool(total) for total in sums]).diff(dim=0, prepend=torch.zeros(1, 3, 4, 3, 3).double())
    wanted_late = late.respond(torch.stack([conv(step) for step in pooled]), 7)
    torch.testing.assert_close(result[two].mean(0), wanted_late.mean(0))
    torch.testing.assert_close(trains[one].mean(0), wanted.mean(0))
    if not isinstance(late, OrderFreeNeuron):
        torch.testing.assert_close(trains[one], wanted)
        torch.testing.assert_close(trains[two].mean(0), wanted_late.mean(0))


@pytest.mark.parametrize("kinds", [("two-phase",), ("if",), ("dual-threshold", "two-phase")], ids="+".join)
@pytest.mark.parametrize("batch", [1, 3, 7, 64])
def test_results_do_not_depend_on_chunks(kinds: tuple[str, ...], batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_network(1, spiking(*kinds))
    images = normal(20, 3, 8, 8)
    largest = max(torch.Size(shape).numel() for shape in graph.shapes.values())
    # Chunks of six images and, for causal neurons, of one.
    monkeypatch.setattr(simulation, "_CHUNK_ELEMENTS", 6 * largest)
    signals = list(stream(graph, images.split(batch), graph.outputs, 4))
    sizes = [signal[graph.outputs[0]].shape[1] for signal in signals]
    size = chunk_size(graph, 4)
    assert sizes == [min(size, 20 - start) for start in range(0, 20, size)]
    streamed = torch.cat([signal[graph.outputs[0]] for signal in signals], 1)
    baseline = torch.cat([s[graph.outputs[0]] for s in stream(graph, [images], graph.outputs, 4)], 1)
    assert torch.equal(streamed, baseline)
    whole = run(graph, {"x": images.unsqueeze(0)}, graph.outputs, 4)[graph.outputs[0]]
    torch.testing.assert_close(streamed, whole)


@pytest.mark.parametrize("sizes", [[1] * 10, [10], [3, 0, 7], [4, 4, 2], [9, 1]])
@pytest.mark.parametrize("size", [1, 3, 5, 10, 11])
def test_rechunking_keeps_samples_and_order(sizes: list[int], size: int) -> None:
    values = torch.arange(10.0)
    chunks = list(rechunk(values.split(sizes), size))
    assert torch.equal(torch.cat(chunks), values)
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= size


def test_feeds_stop_the_computation() -> None:
    net = Network((3, 6, 6))
    first = net.conv("x", 4, name="first")
    net.conv(relu(net, first), 5, name="last")
    graph = net.graph()
    fed = normal(1, 2, 4, 6, 6)
    signals = run(graph, {"relu_2": fed}, ["last", "relu_2"])
    assert torch.equal(signals["last"][0], graph.op("last")(fed[0]))
    assert torch.equal(signals["relu_2"], fed)
    with pytest.raises(ValueError, match="not fed"):
        run(graph, {"last": normal(1, 2, 5, 6, 6)}, ["first"])


def test_what_nobody_wants_is_not_computed() -> None:
    net = Network((3, 6, 6))
    value = spiking("if")(net, net.conv("x", 4, name="a"))
    other = spiking("if")(net, net.conv("x", 4, name="b"))
    graph = net.graph(value, other)
    seen: list[str] = []
    found = run(graph, {"x": normal(1, 2, 3, 6, 6)}, [value], 3, observe=lambda name, signal: seen.append(name))
    assert seen == [value]
    assert list(found) == [value]


@pytest.mark.parametrize("name", neuron_instances())
def test_wanted_signals_are_means_unless_every_step_is_kept(name: str) -> None:
    neuron = neuron_instances()[name]
    graph = Graph.of([Node("x", Input((4, 7, 6)), ()), Node("s", neuron, ("x",))], ["s"])
    feeds = {"x": normal(1, 2, 4, 7, 6)}
    mean, train = (run(graph, feeds, ["s"], 5, step_by_step=step_by_step)["s"] for step_by_step in (False, True))
    assert mean.shape == (1, 2, 4, 7, 6)
    assert train.shape == (5, 2, 4, 7, 6)
    torch.testing.assert_close(mean[0], train.mean(0))
    assert torch.equal(train, neuron.respond(feeds["x"], 5))


def test_wanting_more_values_changes_none() -> None:
    graph = random_network(3, spiking("if", "two-phase"))
    feeds = {"x": normal(1, 2, 3, 8, 8)}
    everything = run(graph, feeds, graph.nodes, 5)
    for name in graph.nodes:
        torch.testing.assert_close(run(graph, feeds, [name], 5)[name].mean(0), everything[name].mean(0))


@pytest.mark.parametrize("seed", SEEDS)
def test_running_changes_neither_graph_nor_feeds(seed: int) -> None:
    graph = random_network(seed, spiking(*neurons, seed=seed))
    x = normal(1, 2, 3, 8, 8)
    given = x.clone(), {(n, f): t.clone() for n, node in graph.nodes.items() for f, t in node.op.tensors().items()}
    first = run(graph, {"x": x}, graph.outputs, 5)
    assert torch.equal(first[graph.outputs[0]], run(graph, {"x": x}, graph.outputs, 5)[graph.outputs[0]])
    assert torch.equal(x, given[0])
    for (name, field), tensor in given[1].items():
        assert torch.equal(graph.op(name).tensors()[field], tensor)
