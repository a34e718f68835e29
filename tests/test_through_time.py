"""Training through the steps: values of the spikes, gradients of what each spike does to later ones."""

import dataclasses

import pytest
import torch
from torch import Tensor

from snnc import recipe
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.laws.networks import in_memory, random_network, relu
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.choice import chosen
from snnc.ops import Weighted
from snnc.passes.distill import Distill
from snnc.pipeline import apply_recipe
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.training.network import TrainableNetwork
from snnc.training.through_time import has_few_steps, response
from tests.support import neuron_instances, normal, outputs

CAUSAL = {name: neuron for name, neuron in neuron_instances().items() if isinstance(neuron, CausalNeuron)}
SCHEDULES = [Schedule(3), Schedule(2, 2), Schedule(2, 1, shares=(0.75, 0.25))]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", CAUSAL)
def test_the_values_are_those_of_the_spikes(name: str, schedule: Schedule) -> None:
    neuron = CAUSAL[name]
    for currents in (normal(1, 3, 4, 7, 6), normal(schedule.total, 3, 4, 7, 6)):
        found = response(neuron, schedule, currents, neuron.threshold)
        assert torch.allclose(found, neuron.respond(currents, schedule), atol=1e-5)


def moved(neuron: Neuron, schedule: Schedule, currents: list[float]) -> tuple[Tensor, Tensor]:
    """By how much each count, step by step, moves with the current of each step ``[count, current]``, and with θ."""
    assert isinstance(neuron, CausalNeuron)
    given = torch.tensor(currents).view(-1, 1, 1).requires_grad_()
    threshold = neuron.threshold.clone().requires_grad_()
    counts = response(neuron, schedule, given, threshold).cumsum(0).flatten()
    rows = [torch.autograd.grad(count, (given, threshold), retain_graph=True) for count in counts]
    return torch.stack([row[0].flatten() for row in rows]), torch.stack([row[1] for row in rows]).flatten()


def made(text: str, threshold: float = 1.0) -> Neuron:
    choice = chosen(text)
    return choice.kind(torch.tensor(threshold), **choice.options)


def test_who_has_caught_up_moves_with_all_that_came() -> None:
    by_current, by_threshold = moved(made("graded(levels=15)"), Schedule(3), [2.7, -1.5, 3.1])
    assert torch.equal(by_current, torch.ones(3, 3).tril())
    # What is counted less what came, in units of θ: the rounding.
    assert torch.allclose(by_threshold, torch.tensor([3 - 2.7, 1 - 1.2, 4 - 4.3]), atol=1e-5)


def test_who_is_behind_moves_with_the_step_before() -> None:
    # Of 2.7 a single spike a step counts 1, 2 and, where nothing more comes, 3: only then it has caught up.
    by_current, _ = moved(made("graded(levels=15, max-event=1)"), Schedule(3), [2.7, 0.0, 0.0])
    assert torch.equal(by_current, torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 1, 1]]))
    # A spike that cannot be taken back: what is gone again moves nothing.
    by_current, _ = moved(made("if"), Schedule(2), [0.8, -1.5])
    assert torch.equal(by_current, torch.tensor([[1.0, 0], [1, 0]]))


def test_who_is_full_moves_with_its_threshold_alone() -> None:
    by_current, by_threshold = moved(made("graded(levels=3)"), Schedule(2), [9.0, 1.0])
    assert not by_current.any()
    assert torch.equal(by_threshold, torch.tensor([3.0, 3.0]))


def few(seed: int, neuron: str, timesteps: int, sleep: int = 0) -> tuple[Graph, Schedule]:
    graph = random_network(seed, relu)
    how = recipe.load("quick", timesteps=timesteps, sleep=sleep, neuron=neuron)
    return apply_recipe(graph, how, in_memory(graph, normal(40, 3, 8, 8))).snn, how.schedule


def differentiated(snn: Graph, schedule: Schedule, *, through: bool = True) -> tuple[Tensor, list[Tensor]]:
    network = TrainableNetwork(snn, schedule, snn.ops((Weighted, Neuron)), through_steps=through)
    (output,) = snn.outputs
    answers = network(Feeds({snn.inputs[0]: normal(6, 3, 8, 8, seed=7)}), [output])[output]
    loss = (answers * normal(*answers.shape, seed=3)).sum()
    return answers.detach(), [*torch.autograd.grad(loss, [*network.parameters()], materialize_grads=True)]


@pytest.mark.parametrize("seed", range(3))
def test_where_all_follow_at_once_the_gradients_are_those_of_the_means(seed: int) -> None:
    snn, schedule = few(seed, "graded(levels=15)", 2)
    assert has_few_steps(snn, schedule)
    values, gradients = differentiated(snn, schedule)
    wanted, means = differentiated(snn, schedule, through=False)
    assert torch.allclose(values, wanted, atol=1e-5)
    for found, mean in zip(gradients, means, strict=True):
        assert torch.allclose(found, mean, rtol=1e-3, atol=1e-4 * float(mean.abs().max()))


@pytest.mark.parametrize(
    "neuron", ["cif", "if", "dual-threshold", "burst", "refine(levels=7, max-event=3, units=[2, 1])"]
)
def test_a_network_has_the_values_of_its_spikes(neuron: str) -> None:
    snn, schedule = few(2, neuron, 2, 1)
    values, gradients = differentiated(snn, schedule)
    (wanted,) = Program(snn, schedule)(Feeds({snn.inputs[0]: normal(6, 3, 8, 8, seed=7)})).values()
    assert torch.allclose(values, wanted[0], atol=1e-5)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients) and any(g.any() for g in gradients)


def test_few_steps_are_few_and_of_neurons_that_fire_at_each() -> None:
    snn, _ = few(1, "cif", 2)
    assert has_few_steps(snn, Schedule(4, 4)) and not has_few_steps(snn, Schedule(5, 4))
    assert not has_few_steps(snn, Schedule(1)) and not has_few_steps(snn, Schedule(2, 0, 2))
    assert not has_few_steps(few(1, "two-phase", 2)[0], Schedule(2))
    assert not has_few_steps(random_network(1, relu), Schedule(2))


@pytest.mark.parametrize("gradients", ["means", "steps"])
def test_distillation_lessens_what_lagging_loses(gradients: str) -> None:
    graph = random_network(2, relu)
    samples = in_memory(graph, normal(60, 3, 8, 8))
    neuron = "graded(levels=3, max-event=1, rest=1)"
    before = recipe.load("quick", timesteps=2, neuron=neuron)
    # Without what corrects by the same trains, behind neurons.
    before = dataclasses.replace(before, passes=before.passes[:-1])
    distill = Distill(epochs=10, batch_size=18, gradients=gradients)  # type: ignore[arg-type]
    x = normal(100, 3, 8, 8, seed=5)
    (wanted,) = outputs(graph, x)
    lost = []
    for how in (before, dataclasses.replace(before, passes=(*before.passes, distill))):
        (found,) = outputs(apply_recipe(graph, how, samples).snn, x, 2)
        lost.append(float((found - wanted).square().sum() / wanted.square().sum()))
    assert lost[1] < 0.9 * lost[0]
