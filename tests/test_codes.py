"""Codes: neurons that stand for a value of either sign, where weights would multiply what is no spike (METHODS 6.3)."""

import dataclasses

import pytest
import torch
from torch import Tensor

from snnc import ops
from snnc.analysis.channels import channel_axis
from snnc.analysis.reach import connected
from snnc.analysis.values import Kind, value_kinds
from snnc.calibration import Histogram
from snnc.data.samples import MemorySamples
from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.laws.networks import Network, calibration, random_network, relu
from snnc.laws.samples import normal, uniform
from snnc.measure.blame import blame
from snnc.measure.layers import compare_layers
from snnc.neurons import CausalNeuron, Neuron, neurons
from snnc.neurons.base import mean_signal
from snnc.neurons.choice import chosen
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.correct_residual_noise import CorrectResidualNoise
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.place_neurons import PlaceNeurons
from snnc.passes.start_at_rest import StartAtRest
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.schedule import Schedule
from snnc.tasks.task import seeming
from tests.support import feeding, outputs

SIGNED = [name for name, kind in neurons.items() if kind.signed]
CAUSAL = [name for name in SIGNED if issubclass(neurons[name], CausalNeuron)]
# Those with levels of their own are asked in test_graded.
A_LEVEL_A_STEP = [name for name in SIGNED if chosen(name).levels(8) == 8]


def code(kind: str, above: Tensor, below: Tensor) -> Neuron:
    return neurons[kind](above.double(), (below / above).double(), coding=True)


def psi(z: Tensor, above: Tensor, below: Tensor, timesteps: int) -> Tensor:
    """The closed form, value by value: S(k)/T, k = clip(⌊T·z/θ + ½⌋, −T, T), θ that of the side of z."""
    theta = torch.where(z >= 0, above, below)
    return theta * (timesteps * z / theta + 0.5).floor().clamp(-timesteps, timesteps) / timesteps


def test_some_neurons_have_both_signs() -> None:
    assert CAUSAL
    assert set(CAUSAL) < set(SIGNED) < set(neurons)


@pytest.mark.parametrize("timesteps", [1, 3, 8])
def test_the_closed_form_is_brute_force(timesteps: int) -> None:
    above, below = uniform(0.3, 2, 5, 1).double(), uniform(0.3, 2, 5, 1, seed=1).double()
    z = normal(4, 5, 200).double() * 2
    coded = ops.Coding(above, timesteps, below / above)
    torch.testing.assert_close(coded(z), psi(z, above, below, timesteps))
    even = ops.Coding(above, timesteps, torch.ones(()))
    off_the_steps = ((timesteps * z / above) % 1 - 0.5).abs() > 1e-6
    assert torch.allclose(even(-z)[off_the_steps], -even(z)[off_the_steps])
    assert not torch.allclose(coded(-z), -coded(z))


@pytest.mark.parametrize("kind", A_LEVEL_A_STEP)
def test_a_constant_value_is_coded_as_the_closed_form_says(kind: str) -> None:
    above, below = torch.tensor(0.7), torch.tensor(1.9)
    neuron = code(kind, above, below)
    z = torch.linspace(-2.5, 2.5, 401).double().unsqueeze(0)
    mean = mean_signal(neuron.respond(z.unsqueeze(0), Schedule(8)), Schedule(8))[0]
    if neuron.random:
        assert ((mean - psi(z, above, below, 8)).abs() <= torch.where(z >= 0, above, below) / 8 * 1.001).all()
    else:
        inside = ((8 * z / torch.where(z >= 0, above, below)) % 1 - 0.5).abs() > 1e-2
        torch.testing.assert_close(mean[inside], psi(z, above, below, 8)[inside])
    torch.testing.assert_close(torch.stack([-mean.min(), mean.max()]), torch.stack([below, above]).double())


@pytest.mark.parametrize("kind", CAUSAL)
def test_asleep_until_silent_it_has_rounded_all_that_came(kind: str) -> None:
    """In any order, on both sides: n is the total input on the steps of its side (METHODS 6.3, law 4)."""
    above, below = torch.tensor(0.8), torch.tensor(1.7)
    neuron = code(kind, above, below)
    currents = torch.cat([normal(6, 1, 300).double() * 0.6, torch.zeros(60, 1, 300).double()])
    total = currents.sum(0)
    theta = torch.where(total >= 0, above, below)
    wanted = theta * (total / theta + 0.5).floor().clamp(-6, 6)
    off_the_steps = ((total / theta) % 1 - 0.5).abs() > 2e-3
    choose = torch.Generator().manual_seed(0)
    for _ in range(3):
        order = torch.cat([torch.randperm(6, generator=choose), torch.arange(6, 66)])
        told = neuron.respond(currents[order], Schedule(6, sleep=60)).sum(0)
        torch.testing.assert_close(told[off_the_steps], wanted[off_the_steps].double())


@pytest.mark.parametrize("kind", sorted({*A_LEVEL_A_STEP, "graded"} & {*CAUSAL}))
def test_what_it_has_not_sent_stays_below_half_a_level(kind: str) -> None:
    above, below = torch.tensor(0.8), torch.tensor(1.1)
    neuron = code(kind, above, below)
    currents = (torch.rand(40, 1, 500, generator=torch.Generator().manual_seed(1)).double() * 2 - 1) * 0.8
    left = (currents - neuron.respond(currents, Schedule(40))).cumsum(0)
    assert left.abs().max() <= 0.501 * below


def test_each_side_has_the_threshold_of_the_least_error() -> None:
    """Two-sided MMSE is brute force on either side, and never worse than one threshold for both (law 9)."""
    values = torch.cat([normal(4000, 1) * 0.3, -(normal(4000, 1, seed=1).abs() * 1.5)])
    counts = Histogram.of(values, 1)
    levels, infinite = 4, torch.tensor([torch.inf])
    above, below = (side.mmse(levels, infinite) for side in (counts, counts.mirrored()))

    def error(high: Tensor | float, low: Tensor | float) -> float:
        z = values.double()
        return float((psi(z, torch.tensor(float(high)), torch.tensor(float(low)), levels) - z).square().mean())

    found = error(above, below)
    for grid in torch.linspace(0.05, 6, 240):
        assert found <= error(grid, below) * 1.01
        assert found <= error(above, grid) * 1.01
    one = counts.mmse(levels, infinite, torch.tensor([1.0]))
    assert found <= error(one, one)


def tokens() -> Graph:
    """Linear layers that read currents, a product and a softmax, on two sides of a sum that carries currents."""
    net = Network((6, 8))
    seen = net.add(ops.Relu(), net.linear("x", 8), name="seen")
    first = net.linear(seen, 8, name="embedded")
    query, key, value = (net.linear(first, 8, name=name) for name in ("query", "key", "value"))
    turned = net.add(ops.Transpose((0, 2, 1)), key)
    weights = net.add(ops.Softmax(2), net.add(ops.MatMul(), query, turned), name="weights")
    mixed = net.add(ops.MatMul(), weights, value, name="mixed")
    trunk = net.add(ops.Add(), first, net.linear(mixed, 8, name="projected"), name="trunk")
    hidden = net.add(ops.Relu(), net.linear(trunk, 16, name="widened"), name="hidden")
    out = net.add(ops.Add(), trunk, net.linear(hidden, 8, name="narrowed"), name="left")
    return net.graph(net.linear(out, 3, name="read"))


def test_what_weights_read_is_coded_once_and_nothing_else() -> None:
    graph = NormalizeActivations()(tokens(), calibration(tokens()))
    placed = PlaceNeurons()(graph, calibration(graph))
    codes = {placed.nodes[name].inputs[0] for name in placed.ops(ops.ClippedCoding)}
    assert codes == {"embedded", "mixed", "trunk", "left"}
    assert len({placed.nodes[name].inputs for name in ("query", "key", "value")}) == 1
    assert placed.nodes["trunk"].inputs == graph.nodes["trunk"].inputs
    given = calibration(placed, normal(8, 6, 8))
    snn = SubstituteNeurons()(CalibrateThresholds()(placed, given), given)
    kinds = value_kinds(snn)
    read = {value: kinds[value] for name in snn.ops(ops.Weighted) for value in snn.nodes[name].inputs}
    assert {value for value, kind in read.items() if kind is not Kind.SPIKES} == {"x"}
    x = normal(5, 6, 8)
    assert torch.equal(outputs(graph, x)[0], outputs(placed, x)[0])


def test_placed_twice_is_placed_once_and_nothing_to_place_is_the_same_network() -> None:
    graph = NormalizeActivations()(tokens(), calibration(tokens()))
    once = PlaceNeurons()(graph, calibration(graph))
    assert PlaceNeurons()(once, calibration(once)) is once
    for seed in range(4):
        rectified = NormalizeActivations()(random_network(seed, relu), calibration(random_network(seed, relu)))
        assert PlaceNeurons()(rectified, calibration(rectified)) is rectified
    assert PlaceNeurons(where="none")(graph, calibration(graph)) is graph


def test_layers_may_go_on_multiplying() -> None:
    graph = NormalizeActivations()(tokens(), calibration(tokens()))
    placed = PlaceNeurons(keep=("query", "read"))(graph, calibration(graph))
    assert placed.nodes["query"].inputs == ("embedded",)
    assert placed.nodes["key"].inputs == ("embedded_code",)
    assert placed.nodes["read"].inputs == ("left",)
    only = PlaceNeurons(where=("narrowed", "read"))(graph, calibration(graph))
    assert {only.nodes[name].inputs[0] for name in only.ops(ops.ClippedCoding)} == {"left"}
    first = next(iter(graph.ops(ops.Weighted)))
    asked = PlaceNeurons(where=(first,))(graph, calibration(graph))
    assert asked.nodes[first].inputs == ("x_code",)
    with pytest.raises(PreconditionError, match="unknown layer 'red'"):
        PlaceNeurons(keep=("red",)).requires(graph)


def test_a_level_is_worth_something_of_its_own_where_readers_sum() -> None:
    """Behind split heads the producer has forgotten its channels; the reader has not."""
    net = Network((6, 8))
    heads = net.add(ops.Reshape((6, 2, 4)), net.linear("x", 8, name="made"))
    moved = net.add(ops.Sigmoid(), heads, name="moved")
    merged = net.add(ops.Reshape((6, 8)), moved, name="merged")
    graph = net.graph(net.linear(merged, 3, name="read"))
    placed = PlaceNeurons()(graph, calibration(graph))
    given = calibration(placed, normal(32, 6, 8) * torch.arange(1, 9))
    assert channel_axis(placed, "merged_code") == 2
    coded = CalibrateThresholds()(placed, given).ops(ops.Coding)["merged_code"]
    assert coded.ceiling.shape == (1, 8)
    # What never comes out below zero has there what it has above.
    assert torch.equal(coded.slope, torch.ones(1, 8))


@pytest.mark.parametrize("neuron", ["two-phase", "if", "cif", "dual-threshold"])
def test_codes_become_neurons_of_both_signs_and_come_near(neuron: str) -> None:
    graph = NormalizeActivations()(tokens(), calibration(tokens()))
    placed = PlaceNeurons()(graph, calibration(graph))
    given = calibration(placed, normal(64, 6, 8), timesteps=32)
    coded = CalibrateThresholds()(placed, given)
    snn = SubstituteNeurons(neuron)(coded, given)
    for name in coded.ops(ops.Coding):
        found = snn.ops(Neuron)[name]
        assert found.coding
        assert type(found).signed
    x = normal(16, 6, 8, seed=3)
    wanted, reached = (outputs(one, x, 32)[0] for one in (graph, snn))
    assert (reached - wanted).norm() < 0.2 * wanted.norm()


def test_weights_change_only_where_samples_held_out_say_so() -> None:
    """What fine codes lose on few samples is noise, and the weights stay; what coarse ones lose on many is mended."""
    net = Network((24,))
    seen = net.add(ops.Relu(), net.linear("x", 24))
    trained = net.graph(net.linear(net.linear(seen, 24), 8, name="read"))
    graph = NormalizeActivations()(trained, calibration(trained))
    placed = PlaceNeurons()(graph, calibration(graph))
    for count, timesteps, kept in ((40, 64, True), (4000, 1, False)):
        given = calibration(placed, normal(count, 24), timesteps=timesteps)
        coded = CalibrateThresholds()(placed, given)
        corrected = CorrectResidualNoise(damping=(1e-9,))(coded, given)
        before, after = (one.ops(ops.Weighted)["read"].weight for one in (coded, corrected))
        assert torch.equal(before, after) == kept


def test_codes_are_measured_and_blamed_as_layers_are() -> None:
    """Every part of an error telescopes over both signs, and whoever spoils a code is charged with it."""
    graph = NormalizeActivations()(tokens(), calibration(tokens()))
    placed = PlaceNeurons()(graph, calibration(graph))
    given = calibration(placed, normal(64, 6, 8), timesteps=8)
    snn, schedule = SubstituteNeurons()(CalibrateThresholds()(placed, given), given), Schedule(8)
    task, x = seeming(snn.output_shapes, ()), normal(32, 6, 8, seed=3)
    measured = compare_layers(placed, snn, MemorySamples(feeding(snn, x)), schedule, connected(snn), task)
    codes = {layer.name: layer for layer in measured.layers if snn.ops(Neuron)[layer.name].coding}
    assert set(codes) == {"embedded_code", "mixed_code", "trunk_code", "left_code"}
    for layer in codes.values():
        parts = [layer.inherited or 0.0, layer.clipping or 0.0, layer.quantization or 0.0, layer.unevenness or 0.0]
        assert layer.error is not None and 0 < layer.error <= sum(parts) + 1e-6
        assert parts[-1] < 1e-2
        assert layer.spikes
    far = code("two-phase", torch.tensor(200.0), torch.tensor(200.0)).map_tensors(Tensor.float)
    spoiled = snn.with_ops({"trunk_code": far})
    charges = blame(placed, spoiled, MemorySamples(feeding(spoiled, x)), None, schedule, task)
    assert {charge.name for charge in charges} == {*snn.ops(Neuron), *snn.outputs}
    assert max(charges, key=lambda charge: charge.points).name == "trunk_code"
    wanted, reached = (outputs(one, x, schedule.timesteps)[0] for one in (graph, spoiled))
    answers = [task.answers([found]) for found in (wanted, reached)]
    lost = float((task.losses(answers[1], answers[0]) - task.losses(answers[0], answers[0])).sum())
    assert sum(charge.samples for charge in charges) == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_code_starts_where_its_potential_says(kind: str) -> None:
    """Its closed form has the same start, and what moves it is no silent nothing."""
    above, below = torch.tensor(1.0), torch.tensor(1.0)
    for potential in (0.1, 0.5, 0.9):
        neuron = dataclasses.replace(code(kind, above, below), potential=torch.tensor(potential).double())
        z = torch.linspace(-0.95, 0.95, 57).double().unsqueeze(0)
        mean = mean_signal(neuron.respond(z.unsqueeze(0), Schedule(8, sleep=8)), Schedule(8, sleep=8))[0]
        inside = ((8 * z + potential) % 1 - 0.5).abs() < 0.49
        torch.testing.assert_close(mean[inside], neuron.closed_form(8)(z)[inside])


def test_a_value_that_is_coded_already_is_coded_once() -> None:
    graph = NormalizeActivations()(tokens(), calibration(tokens()))
    first = PlaceNeurons(where=("query",))(graph, calibration(graph))
    second = PlaceNeurons(where=("key",))(first, calibration(first))
    assert second.nodes["query"].inputs == second.nodes["key"].inputs == ("embedded_code",)
    assert len(second.ops(ops.ClippedCoding)) == 1


def test_a_start_of_codes_is_no_bias_of_a_layer_whose_channels_lie_elsewhere() -> None:
    """Six features of four tokens, coded for a reader that sums over the tokens."""
    net = Network((4, 6))
    value = net.linear(net.linear("x", 5, name="a"), 6, name="b")
    weight = net.random(3, 4, 1)
    net.add(ops.Conv(weight, None, (1,), (0, 0), (1,)), value)
    graph = net.graph()
    coded = PlaceNeurons(where=("b", "conv_3"))(graph, calibration(graph))
    given = calibration(coded, normal(16, 4, 6))
    snn = SubstituteNeurons("cif")(CalibrateThresholds()(coded, given), given)
    rested = StartAtRest()(snn, given)
    assert rested.op("b") is snn.op("b")
    assert outputs(rested, normal(3, 4, 6), 4)[0].isfinite().all()
