"""The laws of spiking neurons and of their execution, over every registered member."""

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron, neurons
from snnc.neurons.dual_threshold import DualThreshold
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.run import run
from tests.support import neuron_instances, normal, operations, uniform

CAUSAL = [name for name, kind in neurons.items() if issubclass(kind, CausalNeuron)]
ORDER_FREE = [name for name, kind in neurons.items() if issubclass(kind, OrderFreeNeuron)]
# Neurons whose count is not the quantized ReLU of a constant input, with the reason; none is yet.
NO_CLOSED_FORM: dict[str, str] = {}
TIMESTEPS = (1, 2, 3, 4, 7, 32)


def test_registry_is_filled() -> None:
    assert CAUSAL
    assert ORDER_FREE
    assert {"if", "dual-threshold", "two-phase"} <= set(neurons)


def closed_form(z: Tensor, threshold: Tensor, timesteps: int) -> Tensor:
    """The spike count that METHODS writes T·φ_T(z)/θ."""
    return torch.floor(timesteps * z / threshold + 0.5).clamp(0, timesteps)


def off_grid(z: Tensor, threshold: Tensor, timesteps: int) -> Tensor:
    """Where T·z/θ + 1/2 is far enough from a whole number for rounding not to matter."""
    level = timesteps * z / threshold + 0.5
    return (level - level.round()).abs() > 1e-6


@pytest.mark.parametrize("timesteps", TIMESTEPS)
@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("name", sorted(set(neurons) - set(NO_CLOSED_FORM)))
def test_constant_input_gives_the_closed_form(name: str, per: str, timesteps: int) -> None:
    threshold = uniform(0.2, 3.0, *((1,) if per == "layer" else (6, 1, 1)), seed=timesteps).double()
    z = uniform(-1.0, 4.0, 32, 6, 5, 5, seed=timesteps + 100).double()
    assert (z < 0).any()
    assert ((z > 0) & (z < threshold)).any()
    assert (z > threshold).any()
    train = neurons[name](threshold).respond(z.unsqueeze(0), timesteps)
    assert train.shape == (timesteps, *z.shape)
    count = train.sum(0) / threshold
    clear = off_grid(z, threshold, timesteps)
    assert clear.float().mean() > 0.999
    torch.testing.assert_close(count[clear], closed_form(z, threshold, timesteps)[clear])


@pytest.mark.parametrize("name", neurons)
def test_spikes_are_whole_multiples_of_the_threshold(name: str) -> None:
    threshold = uniform(0.2, 3.0, 6, 1, 1).double()
    train = neurons[name](threshold).respond(normal(9, 8, 6, 5, 5).double(), 9)
    count = train / threshold
    torch.testing.assert_close(count, count.round())
    assert count.abs().max() == 1
    assert (count.cumsum(0).round() >= 0).all()


@pytest.mark.parametrize("name", ORDER_FREE)
def test_order_of_the_input_does_not_matter_to_order_free_neurons(name: str) -> None:
    timesteps = 8
    # Sums of these are exact, in any order.
    currents = (normal(timesteps, 16, 6, 5, 5).double() * 8).round() / 8
    threshold = uniform(0.5, 3.0, 6, 1, 1).double()
    neuron = neurons[name](threshold)
    wanted = closed_form(currents.mean(0), threshold, timesteps)
    noticed = False
    for seed in range(4):
        order = torch.rand(currents.shape, generator=torch.Generator().manual_seed(seed)).argsort(0)
        shuffled = currents.gather(0, order)
        count = neuron.respond(shuffled, timesteps).sum(0) / threshold
        clear = off_grid(currents.mean(0), threshold, timesteps)
        torch.testing.assert_close(count[clear], wanted[clear])
        assert torch.equal(neuron.respond(shuffled, timesteps), neuron.respond(currents, timesteps))
        fired = IntegrateAndFire(threshold).respond(shuffled, timesteps).sum(0) / threshold
        noticed |= bool((fired.round() != wanted).any())
    assert noticed, "a neuron that does depend on the order passes this test"


@pytest.mark.parametrize("name", ORDER_FREE)
@pytest.mark.parametrize("sloped", [False, True])
@pytest.mark.parametrize("timesteps", TIMESTEPS)
def test_mean_response_is_the_mean_of_the_response(name: str, sloped: bool, timesteps: int) -> None:
    if sloped and not neurons[name].signed:
        pytest.skip("has no slope")
    slope = uniform(0.01, 0.5, 6, 1, 1).double() if sloped else None
    neuron = neurons[name](uniform(0.2, 2.0, 6, 1, 1).double(), slope)
    z = normal(16, 6, 5, 5).double()
    assert isinstance(neuron, OrderFreeNeuron)
    torch.testing.assert_close(neuron.mean_response(z, timesteps), neuron.respond(z.unsqueeze(0), timesteps).mean(0))


@pytest.mark.parametrize("timesteps", TIMESTEPS)
@pytest.mark.parametrize("sloped", [False, True])
def test_quantized_relu_is_what_the_two_phase_neuron_answers(timesteps: int, sloped: bool) -> None:
    z, threshold = normal(64, 6, 5, 5) * 2, uniform(0.2, 2.0, 6, 1, 1)
    slope = uniform(0.01, 0.5, 6, 1, 1) if sloped else None
    quantized = ops.QuantizedRelu(threshold, timesteps, slope)(z)
    torch.testing.assert_close(
        neurons["two-phase"](threshold, slope).respond(z.unsqueeze(0), timesteps).mean(0), quantized
    )


def test_integrate_and_fire_conserves_charge() -> None:
    currents, threshold = trains(12, seed=5)
    neuron = IntegrateAndFire(threshold)
    membrane = neuron.initial(currents[0])
    emitted = torch.zeros_like(currents[0])
    for t, x in enumerate(currents, 1):
        membrane, value = neuron.step(membrane, x)
        emitted = emitted + value
        torch.testing.assert_close(membrane + emitted, currents[:t].sum(0) + threshold / 2)
    assert (membrane < 0).any()


# The dual-threshold neuron.


def trains(timesteps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uneven currents, first with more and then with less than their mean, and thresholds."""
    threshold = uniform(0.5, 2.0, 6, 1, 1, seed=seed).double()
    drift = torch.linspace(1.0, -0.9, timesteps).double().view(-1, 1, 1, 1, 1)
    return normal(timesteps, 16, 6, 5, 5, seed=seed).double() * 0.5 + drift, threshold


@pytest.mark.parametrize("negative", [1e-3, 0.3, 1.0])
def test_dual_threshold_conserves_charge_and_counts_above_zero(negative: float) -> None:
    currents, threshold = trains(12, seed=3)
    neuron = DualThreshold(threshold, None, negative)
    state = neuron.initial(currents[0])
    total = torch.zeros_like(currents[0])
    for x in currents:
        state, value = neuron.step(state, x)
        total = total + x
        assert (state.spikes >= 0).all()
        assert (value / threshold).abs().max() <= 1
        torch.testing.assert_close(state.membrane + threshold * state.spikes, total + threshold / 2)


def test_dual_threshold_takes_back_what_fired_too_often() -> None:
    timesteps, rest = 12, 24
    currents, threshold = trains(timesteps, seed=4)
    padded = torch.cat([currents, torch.zeros(rest, *currents.shape[1:]).double()])
    total = currents.sum(0)
    wanted = torch.floor(total / threshold + 0.5).clamp(min=0)
    # Within θ_neg of a grid point either answer is right.
    level = total / threshold + 0.5
    clear = (level - level.round()).abs() > 2e-3
    dual = DualThreshold(threshold).respond(padded, timesteps + rest).sum(0) / threshold
    torch.testing.assert_close(dual[clear], wanted[clear])
    plain = IntegrateAndFire(threshold).respond(padded, timesteps + rest).sum(0) / threshold
    assert (plain[clear].round() > wanted[clear]).float().mean() > 0.05, "these trains do not fire too often"


@pytest.mark.parametrize("timesteps", [1, 5, 16])
def test_dual_threshold_with_a_slope_follows_negative_input(timesteps: int) -> None:
    threshold, slope = uniform(0.5, 2.0, 6, 1, 1).double(), uniform(0.01, 0.5, 6, 1, 1).double()
    z = -threshold * uniform(0.0, 1.0, 16, 6, 5, 5).double()
    value = DualThreshold(threshold, slope).respond(z.unsqueeze(0), timesteps).sum(0)
    assert ((value - slope * z * timesteps).abs() <= 0.502 * slope * threshold).all()
    assert (value < 0).any()


@pytest.mark.parametrize("name", CAUSAL)
def test_cumulative_output_is_the_value_of_the_count(name: str) -> None:
    if not neurons[name].signed:
        pytest.skip("its value is its count times the threshold, tested above")
    threshold, slope = uniform(0.5, 2.0, 6, 1, 1).double(), uniform(0.01, 0.5, 6, 1, 1).double()
    neuron = neurons[name](threshold, slope)
    assert isinstance(neuron, CausalNeuron)
    currents = normal(20, 8, 6, 5, 5).double()
    state = neuron.initial(currents[0])
    total = torch.zeros_like(currents[0])
    for x in currents:
        state, value = neuron.step(state, x)
        total = total + value
        torch.testing.assert_close(total, neuron.value(state.spikes))
    assert (state.spikes < 0).any()
    assert (state.spikes > 0).any()


# Stateless operations over time.


def cumulative(op: Op, signals: list[Tensor]) -> list[Tensor]:
    """The running sums of what ``run`` answers, step by step, to trains fed to the inputs of an operation."""
    names = [f"x{index}" for index in range(len(signals))]
    nodes = [Node(name, Input(tuple(s.shape[2:])), ()) for name, s in zip(names, signals, strict=True)]
    graph = Graph.of([*nodes, Node("y", op, tuple(names))], ["y"])
    feeds = dict(zip(names, signals, strict=True))
    return list(run(graph, feeds, ["y"], len(signals[0]), step_by_step=True)["y"].cumsum(0))


POOLS = {
    "overlapping": ops.MaxPool((3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    "padded": ops.MaxPool((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    "uneven": ops.MaxPool((2, 3), (2, 1), (1, 0, 0, 2), (1, 1)),
    "dilated": ops.MaxPool((2, 2), (1, 2), (0, 0, 0, 0), (2, 3)),
    "line": ops.MaxPool((3,), (2,), (1, 1), (1,)),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_lateral_inhibition(name: str) -> None:
    pool = POOLS[name]
    shape = (4, 8) if name == "line" else (4, 8, 9)
    spikes = (normal(10, 3, *shape).double() * 0.8).round()
    assert (spikes < 0).any()
    for t, total in enumerate(cumulative(pool, [spikes]), 1):
        torch.testing.assert_close(total, pool(spikes[:t].sum(0)))
    stepwise = torch.stack([pool(step) for step in spikes]).sum(0)
    assert not torch.allclose(stepwise, pool(spikes.sum(0))), "pooling step by step passes this test"


@pytest.mark.parametrize("name", operations())
def test_mean_output_is_the_operation_of_the_mean_input(name: str) -> None:
    op, shapes = operations()[name]
    op = op.map_tensors(lambda tensor: tensor.double())
    signals = [normal(6, 2, *shape, seed=seed).double() for seed, shape in enumerate(shapes)]
    for t, total in enumerate(cumulative(op, signals), 1):
        torch.testing.assert_close(total / t, op(*(signal.cumsum(0)[t - 1] / t for signal in signals)))
    stepwise = torch.stack([op(*step) for step in zip(*signals, strict=True)]).mean(0)
    commutes = torch.allclose(stepwise, op(*(signal.mean(0) for signal in signals)))
    assert commutes == op.linear or name == "ClippedRelu infinite", "the flag `linear` is wrong"


@pytest.mark.parametrize("name", operations())
def test_operations_change_no_input_and_no_constant(name: str) -> None:
    op, shapes = operations()[name]
    inputs = [normal(3, *shape) for shape in shapes]
    kept = [x.clone() for x in inputs], {field: tensor.clone() for field, tensor in op.tensors().items()}
    first = op(*inputs)
    assert torch.equal(first, op(*inputs))
    assert all(map(torch.equal, inputs, kept[0]))
    assert all(torch.equal(tensor, kept[1][field]) for field, tensor in op.tensors().items())


# Neurons are pure.


def parts(state: object) -> list[Tensor]:
    found = [state] if isinstance(state, Tensor) else list(state)  # type: ignore[call-overload]
    assert all(isinstance(part, Tensor) for part in found)
    return found


@pytest.mark.parametrize("name", [n for n, neuron in neuron_instances().items() if isinstance(neuron, CausalNeuron)])
def test_a_step_changes_neither_state_nor_input(name: str) -> None:
    neuron = neuron_instances()[name]
    assert isinstance(neuron, CausalNeuron)
    currents = normal(6, 3, 4, 7, 6)
    history: list[tuple[list[Tensor], list[Tensor]]] = []
    given = currents.clone(), neuron.threshold.clone()
    state = neuron.initial(currents[0])
    train = []
    for x in currents:
        history.append((parts(state), [part.clone() for part in parts(state)]))
        after, spikes = neuron.step(state, x)
        kept = spikes.clone()
        again, same = neuron.step(state, x)
        assert torch.equal(spikes, same)
        assert torch.equal(spikes, kept)
        assert all(map(torch.equal, parts(after), parts(again)))
        state = after
        train.append(spikes)
    for now, before in history:
        assert all(map(torch.equal, now, before))
    assert torch.equal(currents, given[0])
    assert torch.equal(neuron.threshold, given[1])
    assert torch.equal(torch.stack(train), neuron.respond(currents, 6))


@pytest.mark.parametrize("name", neuron_instances())
def test_a_response_changes_no_input_and_repeats(name: str) -> None:
    neuron: Neuron = neuron_instances()[name]
    currents = normal(6, 3, 4, 7, 6)
    kept = currents.clone()
    first = neuron.respond(currents, 6)
    assert torch.equal(first, neuron.respond(currents, 6))
    assert torch.equal(currents, kept)


@pytest.mark.parametrize("name", neuron_instances())
def test_a_constant_current_may_be_given_once(name: str) -> None:
    neuron: Neuron = neuron_instances()[name]
    current = normal(1, 3, 4, 7, 6).double()
    neuron = neuron.map_tensors(lambda tensor: tensor.double())
    torch.testing.assert_close(neuron.respond(current, 5), neuron.respond(current.expand(5, -1, -1, -1, -1), 5))


@pytest.mark.parametrize("name", neuron_instances())
def test_samples_do_not_see_each_other(name: str) -> None:
    neuron: Neuron = neuron_instances()[name]
    currents = normal(6, 3, 4, 7, 6)
    alone = torch.cat([neuron.respond(currents[:, [n]], 6) for n in range(3)], 1)
    assert torch.equal(alone, neuron.respond(currents, 6))
