"""Step by step, a network fires the very spikes that it fires in one go."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from snnc import ops
from snnc.errors import ModelError
from snnc.ir import Graph
from snnc.measure.probe import permuted
from snnc.neurons import CausalNeuron, OrderFreeNeuron, neurons
from snnc.run import steps
from snnc.schedule import Schedule
from tests.support import (
    IMAGE,
    Network,
    alternating,
    double,
    exact,
    feeding,
    neuron_instances,
    normal,
    random_network,
    run,
    sloped,
    spiking,
)

CAUSAL = tuple(name for name, kind in neurons.items() if issubclass(kind, CausalNeuron))
INSTANCES = {name: neuron for name, neuron in neuron_instances().items() if isinstance(neuron, CausalNeuron)}
SCHEDULES = (Schedule(1), Schedule(5), Schedule(4, 3), Schedule(4, 0, 3), Schedule(3, 2, 4), Schedule(2, 4, 1))


def identifier(schedule: Schedule) -> str:
    return f"{schedule.rehearsal}+{schedule.timesteps}+{schedule.sleep}"


def taken(snn: Graph, frames: Tensor, schedule: Schedule) -> dict[str, Tensor]:
    """What every node puts out, ``[steps, N, ...]``, for images that may be others at every step."""
    state = steps.start(snn, feeding(snn, frames[0]))
    trains: dict[str, list[Tensor]] = {name: [] for name in snn.nodes}
    for images in frames:
        state, signals = steps.step(snn, schedule, state, feeding(snn, images))
        for name, signal in signals.items():
            trains[name].append(signal)
    assert state.taken == schedule.total
    return {name: torch.stack(train) for name, train in trains.items()}


def assert_the_same(snn: Graph, x: Tensor, schedule: Schedule, *, frames: bool) -> None:
    """In double precision, where sums that are made in another order decide on no spike."""
    images = x[0].expand(schedule.total, *x.shape[1:])
    feed = x[:1]
    if frames:
        images = feed = x[: schedule.total].clone()
        feed[schedule.lit :] = 0
    responses: dict[str, Tensor] = {}
    wanted = run(snn, {"x": feed}, snn.outputs, schedule, trains=True, observe=responses.__setitem__)
    means = run(snn, {"x": feed}, snn.outputs, schedule)
    # Whatever is given in sleep is not seen.
    found = taken(snn, torch.cat([images[: schedule.lit], x[: schedule.sleep]]), schedule)
    for name, response in responses.items():
        assert torch.equal(found[name], response), name
    for name in snn.outputs:
        torch.testing.assert_close(found[name], wanted[name].expand_as(found[name]), rtol=1e-9, atol=1e-9)
        mean = found[name][schedule.rehearsal :].sum(0) / schedule.timesteps
        torch.testing.assert_close(mean, means[name][0], rtol=1e-9, atol=1e-9)
    silent = [name for name, response in responses.items() if not response.any()]
    assert len(silent) < len(responses) if schedule.total == 1 else len(silent) <= len(responses) // 2


@pytest.mark.parametrize(("name", "schedule"), alternating(INSTANCES, SCHEDULES), ids=str)
def test_every_neuron_fires_the_same_spikes(name: str, schedule: Schedule) -> None:
    snn = double(exact(INSTANCES[name], order_asked=True))
    for frames in (False, True):
        assert_the_same(snn, normal(schedule.total, 3, *IMAGE).double(), schedule, frames=frames)


@pytest.mark.parametrize(
    ("given", "activation"),
    alternating(itertools.product([*((kind,) for kind in CAUSAL), CAUSAL], SCHEDULES[1:]), [spiking, sloped]),
    ids=lambda value: value.__name__ if callable(value) else f"{'+'.join(value[0])}-{identifier(value[1])}",
)
def test_random_networks_fire_the_same_spikes(given: tuple[tuple[str, ...], Schedule], activation) -> None:
    kinds, schedule = given
    seed = len(kinds) + schedule.total
    snn = double(random_network(seed, activation(*kinds, seed=seed)))
    for frames in (False, True):
        assert_the_same(snn, normal(schedule.total, 2, 3, 8, 8, seed=seed).double() * 2, schedule, frames=frames)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=identifier)
def test_what_stands_before_the_first_neuron_is_lifted_as_well(schedule: Schedule) -> None:
    net = Network((3, 8, 8))
    image = net.add(ops.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), net.norm("x"))
    fired = net.add(neurons["cif"](torch.tensor(0.4)), net.conv(image, 4))
    net.add(ops.Add(), fired, net.conv(image, 4), name="sum")
    # Whose answer to a sum of steps depends on how many they are.
    net.add(ops.ClippedRelu(torch.tensor(0.6)), "sum", name="y")
    assert_the_same(double(net.graph("y", "sum")), normal(schedule.total, 2, 3, 8, 8).double(), schedule, frames=False)


def test_a_step_writes_to_nothing_that_it_was_given() -> None:
    schedule = Schedule(3, 2, 2)
    snn = random_network(7, sloped(*CAUSAL, seed=7))
    assert snn.ops(ops.MaxPool)
    x = normal(2, 3, 8, 8)
    constants = [t.clone() for node in snn.nodes.values() for t in node.op.tensors().values()]
    state = steps.start(snn, feeding(snn, x))
    history = []
    for _ in range(schedule.total):
        flat = tree_leaves(dict(state.memories))
        history.append((flat, [part.clone() if isinstance(part, Tensor) else part for part in flat]))
        images = x.clone()
        after, signals = steps.step(snn, schedule, state, feeding(snn, images))
        again, repeated = steps.step(snn, schedule, state, feeding(snn, images))
        assert all(torch.equal(signals[name], repeated[name]) for name in signals)
        assert torch.equal(images, x)
        # What was given, what came out and what stays share no memory.
        for tensor in (images, *signals.values(), *tree_leaves(dict(again.memories))):
            if isinstance(tensor, Tensor):
                tensor.fill_(-7)
        state = after
    assert len(history) == schedule.total
    for now, before in history:
        assert all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(now, before, strict=True))
    kept = [t for node in snn.nodes.values() for t in node.op.tensors().values()]
    assert all(map(torch.equal, kept, constants))


@pytest.mark.parametrize("name", [name for name, kind in neurons.items() if issubclass(kind, OrderFreeNeuron)])
def test_neurons_that_gather_first_have_no_step(name: str) -> None:
    snn = exact(neurons[name](torch.tensor(0.7)))
    with pytest.raises(ModelError, match="has no time step: it gathers its whole input first @ asked") as caught:
        steps.start(snn, feeding(snn, normal(1, *IMAGE)))
    assert "synchronous" in caught.value.hint
    probed = permuted(exact(neurons["if"](torch.tensor(0.7))))
    with pytest.raises(ModelError, match="has no time step"):
        steps.start(probed, feeding(probed, normal(1, *IMAGE)))


class _Train(torch.nn.Module):
    """All steps, from the memories before the first."""

    def __init__(self, snn: Graph, schedule: Schedule) -> None:
        super().__init__()
        self.snn, self.schedule = snn, schedule

    def forward(self, images: Tensor, memories: dict[str, steps.OperationMemory]) -> Tensor:
        state, total = steps.State(0, memories), torch.zeros(())
        for t in range(self.schedule.total):
            state, signals = steps.step(self.snn, self.schedule, state, feeding(self.snn, images))
            total = total + (signals["y"] if t >= self.schedule.rehearsal else 0)
        return total / self.schedule.timesteps


@pytest.mark.parametrize("name", CAUSAL)
@torch.no_grad()
def test_steps_can_be_traced(name: str) -> None:
    """Nothing in a step depends on what is in a tensor but other tensors: its trace is right for other images."""
    snn, schedule = exact(neurons[name](torch.tensor(0.7)), order_asked=False), Schedule(2, 1, 1)
    train = _Train(snn, schedule)
    x = normal(2, *IMAGE)
    traced = torch.export.export(train, (x, dict(steps.start(snn, feeding(snn, x)).memories))).module()
    for seed in range(1, 4):
        x = normal(2, *IMAGE, seed=seed) * seed
        found = traced(x, dict(steps.start(snn, feeding(snn, x)).memories))
        wanted = run(snn, {"x": x.unsqueeze(0)}, ["y"], schedule)["y"][0]
        torch.testing.assert_close(found, wanted)
