"""Execution: what may be computed faster gives what is computed step by step."""

import itertools
from collections.abc import Mapping
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.feeds import Feeds, laid_out, rechunk
from snnc.ir import Graph, Input, Node
from snnc.measure.probe import permuted
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron, neurons
from snnc.neurons.base import summed
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.run import Program, program
from snnc.run.program import with_layout
from snnc.schedule import Schedule
from tests.support import (
    Network,
    alternating,
    double,
    naming,
    neuron_instances,
    normal,
    operations,
    random_network,
    relu,
    run,
    spiking,
    stepped,
    stream,
    uniform,
)

Value = TypeVar("Value")

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

    result = run(graph, {"x": x.unsqueeze(0)}, graph.outputs, Schedule(timesteps), trains=step_by_step, observe=observe)
    assert set(found) == set(graph.ops(Neuron))
    return found | {"output": result[graph.outputs[0]].mean(0)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trained_network_is_run_as_it_is_called(seed: int) -> None:
    graph = with_layout(random_network(seed, relu, norms=True))
    x = laid_out(normal(5, 3, 8, 8, seed=seed))
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


@pytest.mark.parametrize("second", neurons)
def test_neurons_of_two_kinds_in_a_row_see_trains_where_they_need_them(second: str) -> None:
    for first in neurons:
        with naming(first):
            net = Network((3, 6, 6), seed=5)
            spiking(first)(net, net.conv("x", 4))
            net.add(ops.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))
            spiking(second)(net, net.conv(net.nodes[-1].name, 4))
            graph = double(net.graph())
            x = normal(3, 3, 6, 6).double()
            trains: dict[str, Tensor] = {}
            result = run(graph, {"x": x.unsqueeze(0)}, graph.outputs, Schedule(7), observe=trains.__setitem__)
            (one, early), (two, late) = graph.ops(Neuron).items()
            # The whole thing by hand; what is random is drawn in the order of the layers.
            draws = torch.Generator().manual_seed(0)
            wanted = early.respond(graph.op("conv_1")(x).unsqueeze(0), Schedule(7), draws)
            pool, conv = (graph.op(name) for name in list(graph.nodes)[3:5])
            sums = wanted.cumsum(0)
            pooled = torch.stack([pool(total) for total in sums]).diff(
                dim=0, prepend=torch.zeros(1, 3, 4, 3, 3).double()
            )
            wanted_late = late.respond(torch.stack([conv(step) for step in pooled]), Schedule(7), draws)
            torch.testing.assert_close(result[two].mean(0), wanted_late.mean(0))
            torch.testing.assert_close(trains[one].mean(0), wanted.mean(0))
            if not isinstance(late, OrderFreeNeuron):
                torch.testing.assert_close(trains[one], wanted)
                torch.testing.assert_close(trains[two].mean(0), wanted_late.mean(0))


def test_values_without_numbers_are_computed_as_well() -> None:
    graph = Graph.of([Node("x", Input((0, 4)), ()), Node("y", ops.Relu(), ("x",))], ["y"])
    program = Program(graph, Schedule(4))
    assert program.chunk >= 1
    (result,) = program.stream([Feeds({"x": torch.zeros(3, 0, 4)})])
    assert result["y"].shape == (1, 3, 0, 4)


@pytest.mark.parametrize(
    ("kinds", "batch"),
    alternating([*((kind,) for kind in neurons), ("dual-threshold", "two-phase")], [1, 3, 7, 64]),
    ids=str,
)
def test_results_do_not_depend_on_chunks(kinds: tuple[str, ...], batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_network(1, spiking(*kinds))
    images = normal(20, 3, 8, 8)
    largest = max(torch.Size(shape).numel() for shape in graph.shapes.values())
    # Chunks of six images and, for causal neurons, of one.
    monkeypatch.setattr(program, "_CHUNK_ELEMENTS", 6 * largest)
    signals = list(stream(graph, images.split(batch), graph.outputs, Schedule(4)))
    sizes = [signal[graph.outputs[0]].shape[1] for signal in signals]
    size = Program(graph, Schedule(4)).chunk
    assert sizes == [min(size, 20 - start) for start in range(0, 20, size)]
    streamed = torch.cat([signal[graph.outputs[0]] for signal in signals], 1)
    baseline = torch.cat([s[graph.outputs[0]] for s in stream(graph, [images], graph.outputs, Schedule(4))], 1)
    assert torch.equal(streamed, baseline)
    if not any(neurons[kind].random for kind in kinds):
        # Of random neurons each chunk takes its draws after the chunk before: the whole at once draws others.
        whole = run(graph, {"x": images.unsqueeze(0)}, graph.outputs, Schedule(4))[graph.outputs[0]]
        torch.testing.assert_close(streamed, whole)


@pytest.mark.parametrize("dimensions", range(2, 7))
def test_sums_are_laid_out_in_memory_as_what_they_are_of(dimensions: int) -> None:
    # In every order of the axes that a layer could have in memory.
    for order in itertools.permutations(range(1, dimensions)):
        lying = torch.randint(9, [3, *(4, 2, 3, 2, 5)[: dimensions - 1]]).float()
        train = lying.permute(0, *order)
        total = summed(train)
        assert torch.equal(total[0], train[0] + train[1] + train[2])
        assert total[0].stride() == torch.empty_like(train[0]).stride()
        assert summed(train, torch.float64).dtype == torch.float64


@pytest.mark.parametrize("sizes", [[1] * 10, [10], [3, 0, 7], [4, 4, 2], [9, 1]])
@pytest.mark.parametrize("size", [1, 3, 5, 10, 11])
def test_rechunking_keeps_samples_and_order(sizes: list[int], size: int) -> None:
    values = torch.arange(10.0)
    chunks = [feeds["x"] for feeds in rechunk((Feeds({"x": part}) for part in values.split(sizes)), size)]
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
    torch.testing.assert_close(signals["last"][0], graph.op("last")(fed[0]))
    assert torch.equal(signals["relu_2"], fed)
    with pytest.raises(ValueError, match="not fed"):
        run(graph, {"last": normal(1, 2, 5, 6, 6)}, ["first"])


def test_what_nobody_wants_is_not_computed() -> None:
    net = Network((3, 6, 6))
    value = spiking("if")(net, net.conv("x", 4, name="a"))
    other = spiking("if")(net, net.conv("x", 4, name="b"))
    graph = net.graph(value, other)
    seen: list[str] = []
    found = run(
        graph, {"x": normal(1, 2, 3, 6, 6)}, [value], Schedule(3), observe=lambda name, signal: seen.append(name)
    )
    assert seen == [value]
    assert list(found) == [value]


def test_wanted_signals_are_means_unless_every_step_is_kept() -> None:
    for name, neuron in neuron_instances().items():
        with naming(name):
            graph = Graph.of([Node("x", Input((4, 7, 6)), ()), Node("s", neuron, ("x",))], ["s"])
            feeds = {"x": normal(1, 2, 4, 7, 6)}
            mean, train = (
                run(graph, feeds, ["s"], Schedule(5), trains=step_by_step)["s"] for step_by_step in (False, True)
            )
            assert mean.shape == (1, 2, 4, 7, 6)
            assert train.shape == (5, 2, 4, 7, 6)
            torch.testing.assert_close(mean[0], train.mean(0))
            assert torch.equal(train, neuron.respond(feeds["x"], Schedule(5)))


def test_wanting_more_values_changes_none() -> None:
    # Of neurons that are not random: with more layers to compute, the others' draws are others.
    graph = random_network(3, spiking(*(name for name, kind in neurons.items() if not kind.random)))
    feeds = {"x": normal(1, 2, 3, 8, 8)}
    everything = run(graph, feeds, graph.nodes, Schedule(5))
    for name in graph.nodes:
        torch.testing.assert_close(run(graph, feeds, [name], Schedule(5))[name].mean(0), everything[name].mean(0))


@pytest.mark.parametrize("seed", SEEDS)
def test_running_changes_neither_graph_nor_feeds(seed: int) -> None:
    graph = random_network(seed, spiking(*neurons, seed=seed))
    x = normal(1, 2, 3, 8, 8)
    given = x.clone(), {(n, f): t.clone() for n, node in graph.nodes.items() for f, t in node.op.tensors().items()}
    first = run(graph, {"x": x}, graph.outputs, Schedule(5))
    assert torch.equal(first[graph.outputs[0]], run(graph, {"x": x}, graph.outputs, Schedule(5))[graph.outputs[0]])
    assert torch.equal(x, given[0])
    for (name, field), tensor in given[1].items():
        assert torch.equal(graph.op(name).tensors()[field], tensor)


# Sleep and rehearsal.

SCHEDULES = (Schedule(4), Schedule(4, 3), Schedule(4, 0, 2), Schedule(4, 3, 2), Schedule(1, 2, 1), Schedule(1, 0, 3))


def answer(graph: Graph, feeds: dict[str, Tensor], schedule: Schedule) -> Tensor:
    """The steps of the only output, after checking that its mean is their sum over the steps awake."""
    train = run(graph, feeds, graph.outputs, schedule, trains=True)[graph.outputs[0]]
    assert len(train) == schedule.total
    mean = run(graph, feeds, graph.outputs, schedule)[graph.outputs[0]]
    torch.testing.assert_close(mean, train[schedule.rehearsal :].sum(0, keepdim=True) / schedule.timesteps)
    return train


def parts(signal: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor, Tensor]:
    """The steps of a signal in which the network rehearses, is awake and sleeps."""
    return signal[: schedule.rehearsal], signal[schedule.rehearsal : schedule.lit], signal[schedule.lit :]


def paired(members: Mapping[str, Value], schedule: Schedule) -> dict[str, Value]:
    """Those of all members that this schedule is tried on."""
    return {name: members[name] for name, own in alternating(members, SCHEDULES) if own == schedule}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_operations_lose_their_constant_in_sleep_and_start_again_after_a_rehearsal(schedule: Schedule) -> None:
    for name, (op, shapes) in paired(operations(), schedule).items():
        with naming(name):
            op = op.map_tensors(lambda tensor: tensor.double())
            signals = [normal(schedule.total, 2, *shape, seed=seed).double() for seed, shape in enumerate(shapes)]
            names = [f"x{index}" for index in range(len(shapes))]
            nodes = [Node(value, Input(shape), ()) for value, shape in zip(names, shapes, strict=True)]
            kept = [signal.clone() for signal in signals]
            found = answer(
                Graph.of([*nodes, Node("y", op, tuple(names))], ["y"]), dict(zip(names, signals, strict=True)), schedule
            )
            assert all(map(torch.equal, signals, kept))
            if op.linear:
                wanted = torch.stack([op(*step) for step in zip(*signals, strict=True)])
                wanted[schedule.lit :] -= op(*(torch.zeros_like(signal[0]) for signal in signals))
                torch.testing.assert_close(found, wanted)
            before, _, _ = parts(found, schedule)
            rehearsed = [signal[: schedule.rehearsal] for signal in signals]
            for t, total in enumerate(before.cumsum(0), 1):
                torch.testing.assert_close(total / t, op(*(signal[:t].sum(0) / t for signal in rehearsed)))
            for t, total in enumerate(found[schedule.rehearsal :].cumsum(0), 1):
                steps = min(t, schedule.timesteps)
                sums = [signal[schedule.rehearsal :][:t].sum(0) for signal in signals]
                torch.testing.assert_close(total / steps, op(*(value / steps for value in sums)))


def test_a_constant_is_on_as_long_as_the_image() -> None:
    """A sum of the image, which is always the same, and of spikes."""
    net = Network((4, 7, 6))
    conv = net.conv("x", 4, name="conv")
    spikes = spiking("cif")(net, net.conv(spiking("if")(net, "x"), 4))
    net.add(ops.Add(), conv, spikes)
    graph = double(net.graph())
    schedule = Schedule(3, 4, 2)
    x = normal(1, 2, 4, 7, 6).double()
    total = answer(graph, {"x": x}, schedule)
    spikes = run(graph, {"x": x}, [spikes], schedule, trains=True)[spikes]
    assert spikes[schedule.lit :].any()
    torch.testing.assert_close(total[: schedule.lit], graph.op("conv")(x[0]) + spikes[: schedule.lit])
    torch.testing.assert_close(total[schedule.lit :], spikes[schedule.lit :])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("padding", [0, 1])
def test_max_pooling_inhibits_in_sleep_too_and_forgets_the_rehearsal(padding: int, schedule: Schedule) -> None:
    pool = ops.MaxPool((3, 3), (2, 2), (padding,) * 4, (1, 1))
    spikes = (normal(schedule.total, 3, 4, 7, 7).double() * 0.8).round()
    graph = Graph.of([Node("x", Input((4, 7, 7)), ()), Node("y", pool, ("x",))], ["y"])
    found = answer(graph, {"x": spikes}, schedule)
    for part in (slice(0, schedule.rehearsal), slice(schedule.rehearsal, None)):
        for total, given in zip(found[part].cumsum(0), spikes[part].cumsum(0), strict=True):
            torch.testing.assert_close(total, pool(given))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_only_what_comes_after_the_rehearsal_counts(schedule: Schedule) -> None:
    for name, member in paired(neuron_instances(), schedule).items():
        with naming(name):
            neuron = member.map_tensors(lambda tensor: tensor.double())
            currents = normal(schedule.total, 2, 4, 7, 6).double()
            graph = Graph.of([Node("x", Input((4, 7, 6)), ()), Node("s", neuron, ("x",))], ["s"])
            rehearsal, awake, asleep = parts(answer(graph, {"x": currents}, schedule), schedule)
            if isinstance(neuron, OrderFreeNeuron):
                mean = currents[schedule.rehearsal :].sum(0, keepdim=True) / schedule.timesteps
                assert not rehearsal.any()
                assert not asleep.any()
                torch.testing.assert_close(awake, neuron.respond(mean, Schedule(schedule.timesteps)))
                continue
            assert isinstance(neuron, CausalNeuron)
            # A neuron cannot know yet that the rehearsal will end.
            first = neuron.respond(currents[: schedule.lit], Schedule(schedule.lit))
            assert torch.equal(rehearsal, first[: schedule.rehearsal])
            if type(neuron).rehearsed is CausalNeuron.rehearsed:
                again = neuron.respond(currents[schedule.rehearsal :], Schedule(schedule.timesteps, schedule.sleep))
                assert torch.equal(torch.cat([awake, asleep]), again)


@pytest.mark.parametrize(
    "kinds", [("if",), ("two-phase",), ("cif", "dual-threshold", "burst", "two-phase")], ids="+".join
)
@pytest.mark.parametrize("seed", SEEDS)
def test_who_learns_nothing_answers_as_without_a_rehearsal(seed: int, kinds: tuple[str, ...]) -> None:
    graph = double(random_network(seed, spiking(*kinds, seed=seed)))
    feeds = {"x": normal(1, 3, 3, 8, 8, seed=seed).double()}
    want = [*graph.ops(Neuron), *graph.outputs]
    for sleep in (0, 3):
        plain, rehearsed = (run(graph, feeds, want, Schedule(4, sleep, steps)) for steps in (0, 3))
        for name in want:
            torch.testing.assert_close(plain[name], rehearsed[name])


@pytest.mark.parametrize("kind", ["srp", "cos"])
def test_who_learns_something_answers_otherwise(kind: str) -> None:
    graph = random_network(1, spiking(kind))
    feeds = {"x": normal(1, 3, 3, 8, 8)}
    plain, rehearsed = (run(graph, feeds, graph.outputs, Schedule(4, 0, steps)) for steps in (0, 4))
    assert not torch.equal(plain[graph.outputs[0]], rehearsed[graph.outputs[0]])


@pytest.mark.parametrize("name", [n for n, neuron in neuron_instances().items() if isinstance(neuron, CausalNeuron)])
def test_stopping_early_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = neuron_instances()[name]
    assert isinstance(neuron, CausalNeuron)
    kind, steps = type(neuron), []
    advance = kind.advance

    def counting(self: CausalNeuron, state: object, x: Tensor, awake: bool, value: Tensor) -> object:
        steps.append(awake)
        return advance(self, state, x, awake, value)

    monkeypatch.setattr(kind, "advance", counting)
    stopped = 0
    for schedule in (Schedule(5, 60), Schedule(5, 60, 4), Schedule(1, 80, 1), Schedule(5, 2, 4)):
        currents = normal(schedule.total, 2, 4, 7, 6) + 0.5
        # Silence, then more to come, then nothing for the rest.
        currents[schedule.lit :] = 0
        paused = currents.clone()
        paused[schedule.lit + 40 : schedule.lit + 43] = 2.0
        for given in (currents, paused):
            wanted = stepped(neuron, given, schedule)
            del steps[:]
            assert torch.equal(neuron.respond(given, schedule), wanted)
            stopped += len(steps) < schedule.total
            if schedule.sleep > 43 and given is paused:
                assert wanted[schedule.lit + 40 :].any()
                assert not wanted[schedule.lit + 39].any(), "there is no silence to stop in"
    # Two steps of sleep are too few, but for neurons that have nothing left to fire after their reset to zero.
    assert stopped >= 6, "it never stops early"


# The permutation probe.


def alone(neuron: Neuron) -> Graph:
    return Graph.of([Node("x", Input((4, 7, 6)), ()), Node("s", neuron, ("x",))], ["s"])


def shuffled(graph: Graph, x: Tensor, schedule: Schedule, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return run(permuted(graph), {"x": x}, ["s"], schedule, trains=True, generator=draws)["s"]


@pytest.mark.parametrize("name", [n for n, neuron in neuron_instances().items() if isinstance(neuron, CausalNeuron)])
def test_the_probe_keeps_counts_and_changes_the_order(name: str) -> None:
    neuron, schedule = neuron_instances()[name], Schedule(8, 4, 2)
    graph = alone(neuron)
    x = uniform(-0.5, 1.0, 1, 3, 4, 7, 6)
    plain = run(graph, {"x": x}, ["s"], schedule, trains=True)["s"]
    found = shuffled(graph, x, schedule, 1)
    told = [neuron.sent(train, schedule) for train in (plain, found)]
    (first, before, asleep), (other_first, after, other_asleep) = (parts(train, schedule) for train in told)
    assert torch.equal(first, other_first)
    assert torch.equal(asleep, other_asleep)
    torch.testing.assert_close(before.sort(0).values, after.sort(0).values)
    assert (before != after).float().mean() > 0.1
    assert torch.equal(found, shuffled(graph, x, schedule, 1))
    assert not torch.equal(found, shuffled(graph, x, schedule, 2))
    # Spikes are counted as the neuron counts them.
    probe = permuted(graph).op("s")
    assert isinstance(probe, Neuron)
    assert torch.equal(probe.spikes(found, schedule), neuron.spikes(plain, schedule))


def test_the_probe_shuffles_every_neuron_on_its_own_and_evenly() -> None:
    timesteps, samples = 8, 400
    graph = alone(IntegrateAndFire(torch.tensor([1.0])))
    # Each fires once, at the fourth step.
    x = torch.full((1, samples, 4, 7, 6), 0.125)
    found = shuffled(graph, x, Schedule(timesteps), 0)
    assert torch.equal(found.sum(0), torch.ones(samples, 4, 7, 6))
    shares = found.flatten(1).mean(1)
    # Five standard deviations of the share of one step among this many neurons.
    assert ((shares - 1 / 8).abs() <= 5 * (1 / 8 * 7 / 8 / found[0].numel()) ** 0.5).all(), shares
    together = float((found[:, 0] * found[:, 1]).sum(0).mean())
    assert together < 0.25, "neurons share their order"


def test_the_probe_leaves_neurons_alone_that_gather_first() -> None:
    graph = random_network(2, spiking(*ORDER_FREE))
    probed = permuted(graph)
    assert all(probed.nodes[name] is node for name, node in graph.nodes.items())


def test_the_probe_runs_as_the_network_does() -> None:
    shared = torch.get_rng_state()
    graph = random_network(1, spiking(*neurons, seed=3))
    probed = permuted(graph)
    assert probed.shapes == graph.shapes
    assert Program(probed, Schedule(64)).chunk == Program(graph, Schedule(64)).chunk < Program(graph, Schedule(4)).chunk
    images = normal(12, 3, 8, 8)
    results = []
    for batch in (5, 12):
        signals = stream(probed, images.split(batch), graph.outputs, Schedule(4))
        results.append(torch.cat([signal[graph.outputs[0]] for signal in signals], 1))
    assert torch.equal(*results)
    plain = torch.cat([s[graph.outputs[0]] for s in stream(graph, [images], graph.outputs, Schedule(4))], 1)
    assert not torch.equal(results[0], plain)
    assert torch.equal(torch.get_rng_state(), shared), "draws from what the whole process shares"
    precise = double(probed)
    assert {precise.op(name).neuron.threshold.dtype for name in graph.ops(CausalNeuron)} == {torch.float64}


def test_activations_in_blocks_are_those_of_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few numbers fit, and where what an activation is compared with makes its values more."""
    x = normal(5, 1, 6)
    for op in (ops.ClippedRelu(torch.tensor([[0.5], [1.0]])), neurons["two-phase"](torch.tensor([[0.2], [0.4]]))):
        nodes = {"x": Node("x", Input((1, 6)), ()), "y": Node("y", op, ("x",))}
        whole = Program(Graph(nodes, ("y",)), Schedule(4))(Feeds({"x": x}))["y"]
        monkeypatch.setattr(program, "_BLOCK_ELEMENTS", 12)
        parts = Program(Graph(nodes, ("y",)), Schedule(4))(Feeds({"x": x}))["y"]
        monkeypatch.undo()
        assert parts.shape == (1, 5, 2, 6) and torch.equal(whole, parts)


@pytest.mark.parametrize("name", [name for name, (op, _) in operations().items() if isinstance(op, ops.Activation)])
def test_all_activations_have_slopes(name: str) -> None:
    op, (shape,) = operations()[name]
    z = normal(3, *shape).requires_grad_()
    (slope,) = torch.autograd.grad(op(z).sum(), z)
    assert bool(slope.isfinite().all())
    if isinstance(op, ops.LeakyRelu):
        assert torch.equal(slope, torch.where(z > 0, torch.ones(()), op.slope.expand_as(z)))
