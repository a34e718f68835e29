"""Training through the steps: values of the spikes, gradients of what each spike does to later ones."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import snnc
from snnc import ops, recipe
from snnc.artifact import load_conversion, save_conversion
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.feeds import Feeds, Signals
from snnc.formats.onnx.spiking import OnnxFormat
from snnc.formats.verification import verify
from snnc.ir import Graph, Node, Op
from snnc.laws.networks import Network, calibration, in_memory, random_network, relu
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.choice import chosen
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import Weighted
from snnc.passes.biases import with_temporal_biases
from snnc.passes.choose_shares import ChooseShares
from snnc.passes.correct_spiking_residual import CorrectSpikingResidual
from snnc.passes.distill import Distill
from snnc.pipeline import apply_recipe
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.training.network import TrainableNetwork
from snnc.training.through_time import Moving, has_few_steps, response
from tests.support import neuron_instances, normal, outputs
from tests.test_export_spiking_onnx import conversion, fed

GRAY = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
CAUSAL = {name: neuron for name, neuron in neuron_instances().items() if isinstance(neuron, CausalNeuron)}
SCHEDULES = [Schedule(3), Schedule(2, 2), Schedule(2, 1, shares=(0.75, 0.25))]

pytestmark = pytest.mark.usefixtures("counted_shortly")


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
    answers, gradients = by_parameter(snn, schedule, through=through)
    return answers, [*gradients.values()]


def by_parameter(snn: Graph, schedule: Schedule, *, through: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    network = TrainableNetwork(snn, schedule, snn.ops((Weighted, Neuron, TemporalBias)), through_steps=through)
    (output,) = snn.outputs
    answers = network(Feeds({snn.inputs[0]: normal(6, 3, 8, 8, seed=7)}), [output])[output]
    loss = (answers * normal(*answers.shape, seed=3)).sum()
    names, parameters = zip(*network.named_parameters(), strict=True)
    return answers.detach(), dict(
        zip(names, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True)
    )


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


TRAINED_BIASES = Distill(steps=3, batch_size=12, gradients="steps", temporal=True)
EVERY_KIND = ["cif", "if", "graded(levels=15)", "refine(levels=7, max-event=3, units=[2, 1])"]


@pytest.mark.parametrize("neuron", EVERY_KIND)
def test_biases_of_all_steps_that_are_zero_change_nothing(neuron: str) -> None:
    snn, schedule = few(2, neuron, 3, 1)
    biased = with_temporal_biases(snn, 3)
    assert [biased.nodes[name].inputs[0] for name in biased.ops(Neuron)] == [*biased.ops(TemporalBias)]
    assert with_temporal_biases(biased, 3).nodes == biased.nodes
    for shown in (schedule, Schedule(3, shares=(0.5, 0.3, 0.2))):
        found, wanted = (
            Program(graph, shown, want=snn.nodes, stepwise=snn.nodes)(Feeds({"x": normal(6, 3, 8, 8)}))
            for graph in (biased, snn)
        )
        assert all(torch.equal(found[name], wanted[name]) for name in snn.nodes)
    outlined = TRAINED_BIASES.outlined(snn, calibration(snn, timesteps=3))
    assert len(outlined.ops(TemporalBias)) == len(snn.ops(Neuron))


@pytest.mark.parametrize("neuron", EVERY_KIND)
def test_a_bias_of_every_step_is_a_share_of_that_of_the_layer(neuron: str) -> None:
    snn, schedule = few(1, neuron, 3, 1)
    biased = with_temporal_biases(snn, 3)
    shifts = {name: 0.1 * normal(*op.shift.shape) for name, op in biased.ops(TemporalBias).items()}
    biased = biased.with_ops({name: TemporalBias(shift) for name, shift in shifts.items()})
    values, found = by_parameter(biased, schedule)
    (wanted,) = Program(biased, schedule)(Feeds({"x": normal(6, 3, 8, 8, seed=7)})).values()
    assert torch.allclose(values, wanted[0], atol=1e-5)
    compared = 0
    for name, node in biased.nodes.items():
        layer = node.inputs[0] if isinstance(node.op, TemporalBias) else ""
        if layer in biased.ops(Weighted) and len(biased.consumers[layer]) == 1:
            steps, whole = found[f"{name}:shift"].flatten(1), found[f"{layer}:bias"]
            assert torch.allclose(steps.sum(0), whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
            if neuron == "graded(levels=15)":
                assert torch.allclose(steps, whole / 3, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
            compared += bool(whole.any())
    assert compared


@pytest.mark.parametrize("there", [False, True])
def test_biases_of_steps_are_trained_and_kept(tmp_path: Path, there: bool) -> None:
    graph = random_network(2, relu)
    how = recipe.load("quick", timesteps=3, neuron="cif")
    how = dataclasses.replace(
        how, passes=(*how.passes[:-1], CorrectSpikingResidual(temporal=there, rounds=1), TRAINED_BIASES)
    )
    passed = apply_recipe(graph, how, in_memory(graph, normal(40, 3, 8, 8)))
    biases = passed.snn.ops(TemporalBias)
    assert len(biases) == len(passed.snn.ops(CausalNeuron))
    assert all(op.shift.shape[0] == 3 and op.shift.any() for op in biases.values())
    made = conversion(passed.snn, how.schedule)
    save_conversion(made, tmp_path / "m.snn")
    kept = load_conversion(tmp_path / "m.snn").snn.ops(TemporalBias)
    assert all(torch.equal(kept[name].shift, op.shift) for name, op in biases.items())
    written = OnnxFormat().write(made)
    for engine in OnnxFormat().engines(written, made):
        found = verify(made, written, engine, fed(passed.snn, normal(5, 3, 8, 8)))
        assert (found.verdict, found.equal) == ("passed", 100)


def test_biases_of_steps_need_gradients_that_go_through_these() -> None:
    with pytest.raises(ValueError, match="gradients: steps"):
        Distill(temporal=True)
    snn, _ = few(1, "two-phase", 2)
    assert TRAINED_BIASES.outlined(snn, calibration(snn, timesteps=2)) is snn
    assert TRAINED_BIASES.outlined(few(1, "if", 1)[0], calibration(snn, timesteps=1)).ops(TemporalBias) == {}


def shared(snn: Graph, schedule: Schedule, logs: Tensor) -> TrainableNetwork:
    network = TrainableNetwork(snn, schedule, [], through_steps=True, shares=True)
    assert network.shares is not None
    network.shares.data += logs
    return network


def squared(fires: Op) -> Graph:
    """A network with biases and with what is lifted by temporal differences."""
    net = Network((3, 6, 6))
    value = net.add(fires, net.conv("x", 4))
    value = net.add(fires, net.conv(net.add(ops.Product(), value, value), 4))
    value = net.add(ops.Add(), value, net.conv("x", 4))
    net.linear(net.flat(net.add(fires, net.conv(value, 4))), 3)
    return net.graph()


def test_gradients_to_shares_are_those_of_differences() -> None:
    # What changes from step to step and is no staircase.
    graph = squared(TemporalBias(0.3 * normal(3, 4, 1, 1))).map_tensors(lambda tensor: tensor.double())
    x, schedule = Feeds({"x": normal(2, 3, 6, 6).double()}), Schedule(3, 1)
    logs = torch.tensor([0.7, 0.0, -0.4]).double().requires_grad_()

    def shown(at: Tensor) -> Schedule:
        return dataclasses.replace(schedule, shares=tuple(at.detach().softmax(0).tolist()))

    def weighed(signals: Signals) -> Tensor:
        found = (signals[name] for name in graph.nodes if name != "x")
        return torch.stack([(signal * normal(*signal.shape, seed=3).double()).sum() for signal in found]).sum()

    def run(at: Schedule) -> Program:
        return Program(graph, at, want=graph.nodes, trains=True)

    moving = Moving(logs, schedule.sleep)

    def through(node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        compute, inputs = moving.computing(node.op, compute, inputs)
        return compute(*inputs)

    loss = weighed(run(shown(logs)).with_gradients(x.signals(schedule), through))
    assert float(loss.detach()) == pytest.approx(float(weighed(run(shown(logs))(x))))
    (gradient,) = torch.autograd.grad(loss, [logs])
    for t in range(3):
        step = 1e-5 * torch.eye(3).double()[t]
        above, below = (float(weighed(run(shown(logs.detach() + sign * step))(x))) for sign in (1, -1))
        assert float(gradient[t]) == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("neuron", ["cif", "if", "graded(levels=15)"])
def test_shares_in_training_are_those_of_the_run(neuron: str) -> None:
    schedule = Schedule(3, 1)
    snn = squared(made(neuron))
    network = shared(snn, schedule, torch.tensor([0.7, 0.0, -0.4]))
    assert network.schedule.shares == pytest.approx((0.5466, 0.2714, 0.1820), abs=1e-4)
    x = Feeds({"x": normal(5, 3, 6, 6)})
    wanted = Program(snn, network.schedule, want=snn.nodes)(x)
    assert network.shares is not None
    found = network(x, [*snn.nodes])
    for name in snn.nodes:
        assert torch.allclose(found[name], wanted[name][0], atol=1e-5)
    loss = sum((found[name] * normal(*found[name].shape, seed=3)).sum() for name in snn.outputs)
    assert isinstance(loss, Tensor)
    (gradient,) = torch.autograd.grad(loss, [network.shares])
    # Who has caught up in the end counts what came in all, whatever the order.
    assert bool(gradient.abs().max() < 1e-4) == (neuron == "graded(levels=15)")


def test_shares_are_chosen_that_lose_less() -> None:
    graph = random_network(2, relu)
    samples = in_memory(graph, normal(60, 3, 8, 8))
    how = recipe.load("quick", timesteps=2, neuron="graded(levels=3, max-event=1, rest=1)")
    how = dataclasses.replace(how, passes=(*how.passes[:-1], ChooseShares(steps=20, batch_size=18)))
    passed = apply_recipe(graph, how, samples)
    chosen_shares = passed.recipe.shares
    assert sum(chosen_shares) == pytest.approx(1) and chosen_shares[0] > 0.5
    x = Feeds({"x": normal(100, 3, 8, 8, seed=5)})
    (wanted,) = Program(graph)(x).values()
    lost = [
        float((next(iter(Program(passed.snn, schedule)(x).values())) - wanted).square().sum())
        for schedule in (how.schedule, passed.recipe.schedule)
    ]
    assert lost[1] < 0.9 * lost[0]
    assert apply_recipe(graph, passed.recipe, samples).recipe == passed.recipe


def test_shares_that_are_stated_or_mean_nothing_stay() -> None:
    snn, _ = few(1, "cif", 2)
    look = calibration(random_network(1, relu), normal(40, 3, 8, 8), 2)
    step = ChooseShares(steps=1)
    stated = Schedule(2, shares=(0.75, 0.25))
    assert step.shares(snn, dataclasses.replace(look, schedule=stated)) == (0.75, 0.25)
    assert step.shares(snn, look.without_samples()) == ()
    for schedule in (Schedule(1, 2), Schedule(9), Schedule(2, 0, 1)):
        assert step.shares(snn, dataclasses.replace(look, schedule=schedule)) == ()
        assert step.runs(40, schedule) == 0
    assert step.runs(40, stated) == 0 < step.runs(2, Schedule(2)) < step.runs(40, Schedule(2))
    assert step.shares(few(1, "two-phase", 2)[0], look) == ()
    assert step(snn, look) is snn


def test_the_shares_that_were_chosen_are_in_the_file(tmp_path: Path) -> None:
    how = recipe.load("quick", timesteps=2, neuron="graded(levels=3, max-event=1, rest=1)")
    how = dataclasses.replace(how, passes=(*how.passes[:-1], ChooseShares(steps=5)))
    reading = Reading(limit=60)
    made, _ = snnc.convert(DIGITS / "model.onnx", how, data=DIGITS / "calibration", preprocessing=GRAY, reading=reading)
    assert made.schedule.shares and [*made.schedule.shares] == made.provenance.recipe["shares"]
    save_conversion(made, tmp_path / "m.snn")
    assert load_conversion(tmp_path / "m.snn").schedule == made.schedule


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
