"""Training without labels: straight-through gradients, networks with parameters, and the passes that use them."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snnc import ops
from snnc.calibration import Calibration
from snnc.data.samples import MemorySamples
from snnc.errors import PreconditionError
from snnc.feeds import Feeds
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron, neurons
from snnc.neurons.burst import Burst
from snnc.neurons.temporal_bias import TemporalBias
from snnc.passes import Pass
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.distill import Distill
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.reconstruct_units import ReconstructUnits
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.rules import RefusedError
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.training.activations import clipped as clipped_activation
from snnc.training.activations import consistent, quantized
from snnc.training.augmentation import flipped_and_shifted
from snnc.training.network import TrainableNetwork
from snnc.training.units import Unit, units
from tests.support import Network, double, in_memory, normal, random_network, relu, run, spiking, uniform

# Gradients of quantized activations (METHODS, law 7).

HALF = ops.HALF.double()


def gradients(
    z: Tensor, ceiling: Tensor, levels: int, slope: Tensor | None = None, value: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What the activation returns, and its gradients to z and to the ceiling, every output counting once."""
    z, ceiling = z.clone().requires_grad_(), ceiling.clone().requires_grad_()
    answer = quantized(z, ceiling, levels, HALF, slope, value)
    answer.sum().backward()
    assert z.grad is not None and ceiling.grad is not None
    return answer.detach(), z.grad, ceiling.grad


def test_gradients_at_the_edges_are_those_of_the_table() -> None:
    z = torch.tensor([-9.0, -0.1, 0.0, 0.5, 1.7, 2.0, 2.1, 9.0]).double()
    ceiling = torch.full_like(z, 2.0)
    answer, to_input, to_ceiling = gradients(z, ceiling, 4)
    assert answer.tolist() == [0, 0, 0, 0.5, 1.5, 2, 2, 2]
    assert to_input.tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    torch.testing.assert_close(to_ceiling, torch.tensor([0, 0, 0, 0, (1.5 - 1.7) / 2, 1, 1, 1]).double())


def test_gradients_with_a_slope_continue_below_zero() -> None:
    z = torch.tensor([-9.0, -2.0, -1.7, -0.1, 0.0, 0.5, 1.7, 2.0, 9.0]).double()
    ceiling, slope = torch.full_like(z, 2.0), torch.tensor(0.25).double()
    answer, to_input, to_ceiling = gradients(z, ceiling, 4, slope)
    torch.testing.assert_close(answer, ops.QuantizedRelu(ceiling, 4, slope, HALF)(z))
    # At 0 it is that of LeakyReLU there: the slope.
    assert to_input.tolist() == [0, 0, 0.25, 0.25, 0.25, 1, 1, 0, 0]
    inside = [0.25 * (-1.5 + 1.7) / 2, 0.25 * 0.1 / 2, 0, 0, (1.5 - 1.7) / 2]
    torch.testing.assert_close(to_ceiling, torch.tensor([-0.25, -0.25, *inside, 1, 1]).double())


@pytest.mark.parametrize("slope", [None, uniform(0.05, 0.4, 3, 1, 1).double()])
def test_gradients_of_shared_thresholds_are_summed(slope: Tensor | None) -> None:
    z, weights = normal(5, 3, 4, 2).double() * 2, normal(5, 3, 4, 2, seed=1).double()
    per_channel = uniform(0.5, 2, 3, 1, 1).double()
    _, to_input, single = gradients(z, per_channel.expand(5, 3, 4, 2), 3, slope)
    for ceiling, wanted in (
        (per_channel, (single * weights).sum((0, 2, 3)).view(3, 1, 1)),
        (per_channel[:1, 0, 0], None),
        (per_channel[0, 0, 0], None),
    ):
        if wanted is None:
            wanted = (gradients(z, ceiling.expand(z.shape), 3, slope)[2] * weights).sum().expand(ceiling.shape)
        inputs = z.clone().requires_grad_(), ceiling.clone().requires_grad_()
        (quantized(*inputs, 3, HALF, slope) * weights).sum().backward()
        assert inputs[1].grad is not None and inputs[0].grad is not None
        torch.testing.assert_close(inputs[1].grad, wanted)
        if ceiling is per_channel:
            torch.testing.assert_close(inputs[0].grad, to_input * weights)


def clipped(z: Tensor, ceiling: Tensor, slope: Tensor | None) -> Tensor:
    return ops.ClippedRelu(ceiling, slope)(z)


def slope_of(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    return (function(at + 1e-6) - function(at - 1e-6)) / 2e-6


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("slope", [None, torch.tensor(0.3).double()])
@pytest.mark.parametrize("levels", [1, 4])
def test_gradients_are_finite_differences_with_the_rounding_error_held(
    levels: int, slope: Tensor | None, answered: bool
) -> None:
    """Straight-through: rounding counts as the addition of an error, e levels of the ceiling, that does not change.

    So the answer a stands for clip(z, 0, θ) + θ·e. To z, that has the gradient of the clipped activation. To θ, it has
    e = (a − z)/θ inside, and at a saturated value, which has no error, 1 above and 0 below. A level k held in place of
    its error would give k/L instead, as if z could not leave it.
    """
    ceiling = torch.full((400,), 1.3).double()
    z = uniform(-3, 3, 400).double()
    # What neurons answer may be off by levels, but is silent or saturated where the input is far beyond the edges.
    value = ops.QuantizedRelu(ceiling, levels, slope, HALF)(z)
    if answered:
        inside = (z.abs() < ceiling) & ((z > 0) | torch.tensor(slope is not None))
        value = torch.where(inside, value + 0.2, value)
    edges = torch.stack([z.abs(), (z - ceiling).abs(), (z + ceiling).abs()])
    clear = (edges > 1e-3).all(0)
    error = (value - clipped(z, ceiling, slope)) / ceiling
    answer, to_input, to_ceiling = gradients(z, ceiling, levels, slope, value if answered else None)
    assert torch.equal(answer, value)
    torch.testing.assert_close(to_input[clear], slope_of(lambda x: clipped(x, ceiling, slope), z)[clear])
    held = slope_of(lambda c: clipped(z, c, slope) + c * error, ceiling)
    torch.testing.assert_close(to_ceiling[clear], held[clear])
    level_held = value / ceiling
    assert not torch.allclose(to_ceiling[clear], level_held[clear])


@pytest.mark.parametrize("slope", [None, torch.tensor(0.3).double()])
def test_on_the_average_gradients_are_those_of_the_staircase_itself(slope: Tensor | None) -> None:
    """Over evenly spread inputs the staircase has a derivative that can be seen without any surrogate."""
    z = torch.linspace(-3, 3, 1_000_001).double()
    ceiling = torch.tensor(1.3).double()
    _, to_input, to_ceiling = gradients(z, ceiling, 4, slope)

    def mean(shift: float, grown: float) -> float:
        return float(ops.QuantizedRelu(ceiling + grown, 4, slope, HALF)(z + shift).mean())

    assert float(to_input.mean()) == pytest.approx((mean(0.01, 0) - mean(-0.01, 0)) / 0.02, rel=1e-3)
    assert float(to_ceiling) / len(z) == pytest.approx((mean(0, 0.01) - mean(0, -0.01)) / 0.02, rel=1e-3)


@pytest.mark.parametrize("slope", [None, torch.tensor(0.3).double()])
def test_gradients_of_a_learned_clip_are_those_of_the_table(slope: Tensor | None) -> None:
    z = torch.tensor([-9.0, -2.0, -0.1, 0.0, 0.5, 1.7, 2.0, 2.1]).double().requires_grad_()
    ceiling = torch.full_like(z, 2.0).detach().requires_grad_()
    answer = clipped_activation(z, ceiling, slope)
    torch.testing.assert_close(answer, clipped(z, ceiling, slope))
    answer.sum().backward()
    assert z.grad is not None and ceiling.grad is not None
    factor = 0 if slope is None else float(slope)
    assert z.grad.tolist() == [0, 0, factor, factor, 1, 1, 0, 0]
    assert ceiling.grad.tolist() == [-factor, -factor, 0, 0, 0, 0, 1, 1]


def test_between_the_edges_gradients_of_a_learned_clip_are_finite_differences() -> None:
    z = uniform(-3, 3, 400).double()
    for ceiling in (1.3, 0.4):
        clear = (z.abs() > 1e-3) & ((z - ceiling).abs() > 1e-3)
        at, top = z.clone().requires_grad_(), torch.full_like(z, ceiling).requires_grad_()
        clipped_activation(at, top).sum().backward()
        assert at.grad is not None and top.grad is not None
        fixed = top.detach()
        wanted = slope_of(lambda x, top=fixed: clipped(x, top, None), z)
        torch.testing.assert_close(at.grad[clear], wanted[clear])
        wanted = slope_of(lambda top: clipped(z, top, None), top.detach())
        torch.testing.assert_close(top.grad[clear], wanted[clear])


@pytest.mark.parametrize("ceiling", [1.0, 2.5])
def test_gradients_of_cqrelu_are_clipped_in_units_of_its_range(ceiling: float) -> None:
    z = (torch.tensor([-0.1, 0.0, 0.3, 0.99, 1.0, 1.1]).double() * ceiling).requires_grad_()
    answer = consistent(z, torch.tensor(ceiling).double(), 4, torch.tensor(0.0).double())
    assert answer.tolist() == [0, 0, 0.25 * ceiling, 0.75 * ceiling, ceiling, ceiling], "rounded down"
    arriving = torch.tensor([7.0, -7.0, 0.2, 0.4, -0.3, 7.0]).double()
    answer.backward(arriving)
    assert z.grad is not None
    edge = 1 / ceiling
    wanted = [0, max(-edge, -7), min(0.2, edge), min(0.4, edge), -0.3, 0]
    assert z.grad.tolist() == pytest.approx(wanted)


# Networks with parameters.


def quantized_activation(net: Network, value: str) -> str:
    """Quantized activations of 3 levels, thresholds per channel or, of lines, per layer."""
    shape = net.shapes[value]
    ceiling = 0.4 + net.random(*(shape[0], *(1 for _ in shape[1:]))).abs() if len(shape) > 1 else torch.tensor([0.8])
    return net.add(ops.QuantizedRelu(ceiling, 3), value)


def biased(net: Network, value: str) -> str:
    """Neurons with a bias for every step before them."""
    shift = net.random(3, *net.shapes[value]) * 0.2
    return spiking("if")(net, net.add(TemporalBias(shift), value))


NETWORKS: dict[str, tuple[Callable[[Network, str], str], Schedule]] = {
    "quantized": (quantized_activation, Schedule(3)),
    "two-phase": (spiking("two-phase"), Schedule(4)),
    "if": (spiking("if"), Schedule(4)),
    "dual-threshold": (spiking("dual-threshold"), Schedule(4)),
    "dual-threshold asleep": (spiking("dual-threshold"), Schedule(4, sleep=2)),
    "cif asleep": (spiking("cif"), Schedule(3, sleep=4)),
    "cos rehearsing": (spiking("cos"), Schedule(4, rehearsal=3)),
    "burst": (spiking("burst"), Schedule(3)),
    "mixed": (spiking("two-phase", "if"), Schedule(4)),
    "temporal bias": (biased, Schedule(4, sleep=1)),
}


def trained_kinds(graph: Graph) -> list[str]:
    return list(graph.ops((ops.Weighted, ops.QuantizedRelu, Neuron)))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_in_training_are_those_of_the_run(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several chunks, so that they have to be put together again.
    monkeypatch.setattr("snnc.run.program._CHUNK_ELEMENTS", 1 << 13)
    activation, schedule = NETWORKS[name]
    graph = double(random_network(seed, activation))
    x = normal(9, 3, 8, 8, seed=seed).double()
    wanted = run(graph, {"x": x.unsqueeze(0)}, graph.nodes, schedule)
    for trained in ([], trained_kinds(graph)):
        network = TrainableNetwork(graph, schedule, trained)
        found = network(Feeds({"x": x}), graph.nodes)
        assert set(found) == set(graph.nodes)
        for node, value in found.items():
            torch.testing.assert_close(value.detach(), wanted[node][0], msg=lambda text, node=node: f"{node}: {text}")
    assert wanted[graph.outputs[0]].abs().max() > 0


def two_inputs() -> Graph:
    """A network whose second input, of another shape, is added behind the first activation."""
    net = Network((3, 6, 6))
    net.nodes.append(Node("side", Input((4,)), ()))
    net.shapes["side"] = (4,)
    image = net.flat(net.add(ops.Mean((2, 3)), relu(net, net.conv("x", 6))))
    total = relu(net, net.add(ops.Add(), net.linear(image, 24), net.linear("side", 24)))
    net.linear(relu(net, net.linear(total, 24)), 3)
    return net.graph()


def quantized_by(look: Calibration) -> Graph:
    return CalibrateThresholds()(NormalizeActivations()(look.reference, look), look)


def samples_of_two(count: int = 60) -> Feeds:
    return Feeds({"x": normal(count, 3, 6, 6, seed=1), "side": 2 * normal(count, 4, seed=2)})


@pytest.mark.parametrize("over_time", [[], ["side"]])
@pytest.mark.parametrize("sleep", [0, 2])
def test_values_in_training_are_those_of_the_run_of_several_inputs(over_time: list[str], sleep: int) -> None:
    trained, feeds, schedule = two_inputs(), samples_of_two(), Schedule(4, sleep)
    look = Calibration(trained, MemorySamples(feeds), schedule, dict.fromkeys(trained.nodes, 4), {})
    snn = double(SubstituteNeurons("if")(quantized_by(look), look))
    if over_time:
        feeds = Feeds({"x": feeds["x"], "side": 2 * normal(4, 60, 4, seed=3)}, over_time)
    feeds = feeds.to(torch.float64)
    wanted = Program(snn, schedule, want=snn.nodes)(feeds)
    found = TrainableNetwork(snn, schedule, trained_kinds(snn))(feeds, snn.nodes)
    for node, value in found.items():
        torch.testing.assert_close(value.detach(), wanted[node][0], msg=lambda text, node=node: f"{node}: {text}")


@pytest.mark.parametrize("name", ["reconstruct-units", "distill"])
def test_networks_of_several_inputs_are_trained(name: str) -> None:
    trained, feeds = two_inputs(), samples_of_two(100)
    first = units(trained)[0]
    assert isinstance(trained.op(first.entry), ops.Add), "a cut that the second input crosses"
    look = Calibration(trained, MemorySamples(feeds, 16), Schedule(3), dict.fromkeys(trained.nodes, 3), {})
    graph = quantized_by(look)
    after = dataclasses.replace(TRAININGS[name], batch_size=32)(graph, look)  # type: ignore[call-arg]
    (output,) = trained.outputs
    goal, before, now = (Program(network)(feeds)[output] for network in (trained, graph, after))
    assert (now - goal).square().sum() < 0.95 * (before - goal).square().sum()


def test_what_cannot_be_trained_is_refused_and_so_is_a_missing_input() -> None:
    graph = random_network(0, NETWORKS["quantized"][0])
    with pytest.raises(RefusedError, match="nothing in it to train"):
        TrainableNetwork(graph, Schedule(4), ["x"])
    with pytest.raises(RefusedError, match="not given"):
        TrainableNetwork(graph, Schedule(4), [])(Feeds({}), graph.outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_untrained_network_comes_back_as_it_was(name: str) -> None:
    graph = random_network(3, NETWORKS[name][0])
    after = TrainableNetwork(graph, NETWORKS[name][1], trained_kinds(graph)).graph()
    assert (after.inputs, after.outputs, list(after.nodes)) == (graph.inputs, graph.outputs, list(graph.nodes))
    for node, (old, new) in after.changes(graph).items():
        assert type(old) is type(new) and old is not None and new is not None
        assert isinstance(old, ops.Weighted | ops.QuantizedRelu | Neuron), f"{node} is not trained, but not shared"
        for field, tensor in new.tensors().items():
            kept = old.tensors().get(field)
            if kept is None:
                # A layer without a bias has got one to train.
                assert field == "bias" and not tensor.any()
            elif field in ("threshold", "ceiling"):
                torch.testing.assert_close(tensor, kept, rtol=1e-6, atol=0)
            else:
                assert torch.equal(tensor, kept)
    nothing = TrainableNetwork(graph, NETWORKS[name][1], []).graph()
    assert all(nothing.nodes[node] is graph.nodes[node] for node in graph.nodes)


@pytest.mark.parametrize("name", ["quantized", "if", "two-phase"])
def test_thresholds_stay_positive_whatever_the_step(name: str) -> None:
    graph = random_network(0, NETWORKS[name][0])
    for step in (-1e6, -200.0, 200.0, 1e6):
        network = TrainableNetwork(graph, NETWORKS[name][1], trained_kinds(graph))
        before = {node: log.detach().exp() for node, log in network.thresholds.items()}
        for log in network.thresholds.values():
            log.data += step
        after = network.graph()
        for node, old in before.items():
            tensors = after.op(node).tensors()
            threshold = tensors.get("threshold", tensors.get("ceiling"))
            assert threshold is not None
            assert bool((threshold > 0).all()) and bool(threshold.isfinite().all())
            assert bool(((threshold > old) == (step > 0)).all())
        assert bool(network(Feeds({"x": normal(3, 3, 8, 8)}), graph.outputs)[graph.outputs[0]].isfinite().all())


def test_every_parameter_learns() -> None:
    for seed in range(3):
        for name in ("quantized", "cif asleep"):
            graph = random_network(seed, NETWORKS[name][0])
            network = TrainableNetwork(graph, NETWORKS[name][1], trained_kinds(graph))
            network(Feeds({"x": normal(16, 3, 8, 8)}), graph.outputs)[graph.outputs[0]].square().sum().backward()
            for parameter in (*network.weights, *network.thresholds.values()):
                assert parameter.grad is not None and parameter.grad.any()


@pytest.mark.parametrize("shape", [(4, 5, 5), (4, 7)])
def test_batch_normalization_learns_as_that_of_torch(shape: tuple[int, ...]) -> None:
    net = Network(shape)
    name = net.norm(net.conv("x", 6))
    graph = net.graph()
    layer = net.nodes[-2].name
    network = TrainableNetwork(graph, Schedule(1), [layer, name])
    norm = graph.op(name)
    assert isinstance(norm, ops.BatchNorm)
    theirs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(6, norm.epsilon)
    theirs.load_state_dict(
        {"weight": norm.scale, "bias": norm.shift, "running_mean": norm.mean, "running_var": norm.variance},
        strict=False,
    )
    parameters = [network.layers[layer].weight, network.norms[name].scale, network.norms[name].shift]
    weight, *_ = (tensor.detach().clone().requires_grad_() for tensor in parameters)
    for seed in range(3):
        x = normal(8, *shape, seed=seed)
        found = network(Feeds({"x": x}), [name])[name]
        wanted = theirs(dataclasses.replace(graph.op(layer), weight=weight)(x))  # type: ignore[type-var]
        torch.testing.assert_close(found, wanted)
        gradients = torch.autograd.grad((found**3).sum(), parameters)
        their_gradients = torch.autograd.grad((wanted**3).sum(), [weight, theirs.weight, theirs.bias])
        for one, other in zip(gradients, their_gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    learned = network.graph().op(name)
    assert isinstance(learned, ops.BatchNorm)
    torch.testing.assert_close(learned.mean, theirs.running_mean)
    torch.testing.assert_close(learned.variance, theirs.running_var)
    network.eval()
    theirs.eval()
    x = normal(8, *shape, seed=9)
    torch.testing.assert_close(
        network(Feeds({"x": x}), [name])[name], run(network.graph(), {"x": x[None]}, [name])[name][0]
    )
    assert graph.op(name) is norm, "the graph it was made of stays as it was"


def test_the_state_of_a_network_is_all_there_is_to_it() -> None:
    graph = random_network(2, quantized_activation)
    first, second = (TrainableNetwork(graph, Schedule(3), trained_kinds(graph)) for _ in range(2))
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 0.05 * normal(*parameter.shape)
    assert not same(first.graph(), second.graph())
    second.load_state_dict(first.state_dict())
    assert same(first.graph(), second.graph())


def test_a_burst_neuron_learns_up_to_what_it_can_answer() -> None:
    weight, z = torch.eye(3), torch.tensor([[0.5, 1.5, 2.5]])
    nodes = [
        Node("x", Input((3,)), ()),
        Node("z", ops.Linear(weight, None), ("x",)),
        Node("a", Burst(torch.tensor([1.0]), max_event=2), ("z",)),
    ]
    network = TrainableNetwork(Graph.of(nodes, ["a"]), Schedule(4), ["z", "a"])
    network(Feeds({"x": z}), ["a"])["a"].sum().backward()
    assert network.layers["z"].bias is not None
    assert network.layers["z"].bias.grad is not None
    assert network.layers["z"].bias.grad.tolist() == [1, 1, 0]


# Units.


def layers_of(graph: Graph, unit: Unit) -> list[str]:
    return [name for name in unit.nodes if isinstance(graph.op(name), ops.Weighted)]


def test_a_chain_has_a_unit_for_every_layer() -> None:
    net = Network((3, 6, 6))
    first = relu(net, net.conv("x", 4, name="first"))
    second = relu(net, net.conv(first, 4, name="second"))
    last = net.linear(net.flat(second), 5, name="last")
    found = units(net.graph())
    assert [(unit.entry, unit.exit, unit.activation) for unit in found] == [
        ("x", first, first),
        (first, second, second),
        (second, last, None),
    ]
    assert [layers_of(net.graph(), unit) for unit in found] == [["first"], ["second"], ["last"]]


def test_a_residual_block_is_one_unit() -> None:
    net = Network((3, 6, 6))
    entry = relu(net, net.conv("x", 4))
    inner = relu(net, net.conv(entry, 4, name="one"))
    total = net.add(ops.Add(), net.conv(inner, 4, name="two"), net.conv(entry, 4, kernel=1, name="short"))
    out = relu(net, total)
    net.linear(net.flat(out), 5)
    block = units(net.graph())[1]
    assert (block.entry, block.exit, block.activation) == (entry, out, out)
    assert set(layers_of(net.graph(), block)) == {"one", "two", "short"}
    assert inner in block.nodes and entry not in block.nodes


def test_branches_that_are_joined_are_in_one_unit() -> None:
    net = Network((3, 6, 6))
    entry = relu(net, net.conv("x", 4))
    left, right = (relu(net, net.conv(entry, 2, name=name)) for name in ("left", "right"))
    out = relu(net, net.conv(net.add(ops.Concat(1), left, right), 4, name="after"))
    found = units(net.graph())
    assert [unit.exit for unit in found] == [entry, out]
    assert layers_of(net.graph(), found[1]) == ["left", "right", "after"]


def test_what_is_before_the_first_layer_belongs_to_its_unit() -> None:
    net = Network((3, 6, 6))
    net.add(ops.Pad((0, 1, 1, 0, 1, 1)), net.add(ops.Affine(torch.tensor([0.5]), torch.tensor([0.1])), "x"))
    out = relu(net, net.conv(net.nodes[-1].name, 4))
    (unit,) = units(net.graph())
    assert (unit.entry, unit.exit) == ("x", out)
    assert unit.nodes == tuple(net.graph().nodes)[1:]


def test_an_activation_without_a_layer_belongs_to_the_next_unit() -> None:
    net = Network((3, 6, 6))
    first = relu(net, net.conv("x", 4))
    again = relu(net, net.add(ops.Affine(None, torch.tensor([-0.2])), first))
    out = relu(net, net.conv(again, 4, name="second"))
    net.add(ops.Mean((2, 3)))
    found = units(net.graph())
    assert [unit.exit for unit in found] == [first, out], "the mean at the end holds nothing to train"
    assert again in found[1].nodes


def test_where_two_outputs_part_units_end() -> None:
    net = Network((3, 6, 6))
    trunk = relu(net, net.conv("x", 4))
    heads = [net.linear(net.flat(trunk), 5), net.linear(net.flat(relu(net, net.conv(trunk, 2))), 3)]
    found = units(net.graph(*heads))
    assert [unit.exit for unit in found] == [trunk]


@pytest.mark.parametrize("seed", range(8))
def test_every_layer_is_in_one_unit_and_units_hang_together(seed: int) -> None:
    graph = random_network(seed, relu, norms=True)
    found = units(graph)
    assert len(found) >= 3
    inside = [name for unit in found for name in unit.nodes]
    assert len(inside) == len(set(inside))
    assert set(graph.ops(ops.Weighted)) <= set(inside)
    assert [unit.entry for unit in found] == ["x", *(unit.exit for unit in found[:-1])]
    assert found[-1].exit == graph.outputs[0]
    values = run(graph, {"x": normal(1, 2, 3, 8, 8)}, graph.nodes)
    for unit in found:
        assert graph.ancestors([unit.exit], stop=[unit.entry]) <= {unit.entry, *unit.nodes}
        alone = run(graph, {unit.entry: values[unit.entry]}, [unit.exit])[unit.exit]
        assert torch.equal(alone, values[unit.exit])
        assert unit.activation == (unit.exit if isinstance(graph.op(unit.exit), ops.Relu) else None)


# Augmentation.


@pytest.mark.parametrize(("height", "width"), [(16, 24), (8, 8), (5, 9), (3, 3)])
def test_augmented_images_are_mirrored_flipped_and_shifted(height: int, width: int) -> None:
    images = normal(40, 2, height, width)
    kept = images.clone()
    found = flipped_and_shifted(images, torch.Generator().manual_seed(1))
    assert torch.equal(images, kept)
    assert found.shape == images.shape
    down, right = height // 8, width // 8
    seen = set()
    for before, after in zip(images, found, strict=True):
        matches = []
        for flip in (False, True):
            image = before.flip(2) if flip else before
            rows = mirrored(height, down)
            columns = mirrored(width, right)
            for top in range(2 * down + 1):
                for left in range(2 * right + 1):
                    moved = image[:, rows[top : top + height]][:, :, columns[left : left + width]]
                    if torch.equal(moved, after):
                        matches.append((flip, top, left))
        assert len(matches) == 1, "no such image"
        seen |= set(matches)
    possible = 2 * (2 * down + 1) * (2 * right + 1)
    assert {flip for flip, _, _ in seen} == {False, True}
    assert {top for _, top, _ in seen} == set(range(2 * down + 1))
    assert {left for _, _, left in seen} == set(range(2 * right + 1))
    assert len(seen) > min(possible, 30) / 2


def mirrored(side: int, margin: int) -> list[int]:
    """The indices of a line with ``margin`` more at both ends, mirrored at its first and last pixel."""
    return [abs(i) if i < side else 2 * (side - 1) - i for i in range(-margin, side + margin)]


def test_augmentation_repeats_with_the_seed_only() -> None:
    images = normal(20, 3, 16, 16)
    first, again, other = (flipped_and_shifted(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shape", [(4, 7), (4, 3, 9)])
def test_samples_that_are_no_images_are_not_augmented(shape: tuple[int, ...]) -> None:
    samples = normal(*shape)
    assert flipped_and_shifted(samples, torch.Generator()) is samples


# The passes.


def small(net: Network) -> Graph:
    """A residual network of images [2, 6, 6]."""
    first = relu(net, net.conv("x", 6))
    block = relu(net, net.add(ops.Add(), net.conv(relu(net, net.conv(first, 6)), 6), first))
    pooled = net.add(ops.AveragePool((2, 2), (2, 2), (0,) * 4, (0,) * 4), block)
    net.linear(relu(net, net.linear(net.flat(pooled), 12)), 4)
    return net.graph()


SHAPE = (2, 6, 6)


def converted(seed: int = 0, count: int = 120) -> tuple[Graph, Graph, Calibration]:
    """The trained network, the quantized one with thresholds that are too high, and images to train on."""
    trained = NormalizeActivations()(small(Network(SHAPE, seed)), look_at(small(Network(SHAPE, seed)), None))
    look = look_at(trained, normal(count, *SHAPE, seed=seed))
    return trained, CalibrateThresholds("max")(trained, look), look


def look_at(graph: Graph, images: Tensor | None, size: int = 16) -> Calibration:
    return Calibration(
        graph,
        None if images is None else in_memory(graph, images, size),
        Schedule(3),
        dict.fromkeys(graph.nodes, 3),
        {},
    )


def images_of(look: Calibration) -> Tensor:
    assert look.samples is not None
    return torch.cat([feeds["x"] for feeds in look.samples.batches()])


def error(graph: Graph, reference: Graph, images: Tensor, schedule: Schedule) -> float:
    (found,) = run(graph, {"x": images.unsqueeze(0)}, graph.outputs, schedule).values()
    (wanted,) = run(reference, {"x": images.unsqueeze(0)}, graph.outputs).values()
    return float((found - wanted).square().sum() / wanted.square().sum())


def same(one: Graph, other: Graph) -> bool:
    tensors = [[t for node in graph.nodes.values() for t in node.op.tensors().values()] for graph in (one, other)]
    return len(tensors[0]) == len(tensors[1]) and all(map(torch.equal, *tensors))


RECONSTRUCT = ReconstructUnits(steps=40, batch_size=32, learning_rate=0.02)
DISTILL = Distill(epochs=10, batch_size=32, learning_rate=0.05)
TRAININGS: dict[str, Pass] = {"reconstruct-units": RECONSTRUCT, "distill": DISTILL}


@pytest.mark.parametrize("name", TRAININGS)
def test_training_brings_the_output_closer(name: str) -> None:
    trained, graph, look = converted()
    after = TRAININGS[name](graph, look)
    before, now = (error(g, trained, images_of(look), Schedule(1)) for g in (graph, after))
    assert now < 0.85 * before


@pytest.mark.parametrize("name", TRAININGS)
def test_training_repeats_with_the_seed_whatever_the_reader_delivers(name: str) -> None:
    _, graph, look = converted()
    short: Pass = (
        dataclasses.replace(RECONSTRUCT, steps=3)
        if name == "reconstruct-units"
        else dataclasses.replace(DISTILL, steps=5)
    )
    first = short(graph, look)
    assert not same(first, graph)
    assert same(first, short(graph, look))
    for size in (7, 120):
        assert same(first, short(graph, look_at(look.reference, images_of(look), size=size)))
    other = dataclasses.replace(short, seed=1)  # type: ignore[call-arg]
    assert not same(first, other(graph, look))


@pytest.mark.parametrize("name", TRAININGS)
def test_without_images_nothing_is_trained(name: str) -> None:
    trained, graph, look = converted()
    assert TRAININGS[name](graph, look.without_samples()) is graph
    assert TRAININGS[name](trained, look) is trained, "there is nothing quantized in it"


@pytest.mark.parametrize("name", TRAININGS)
def test_training_that_diverges_says_so(name: str) -> None:
    _, graph, look = converted()
    huge = dataclasses.replace(TRAININGS[name], learning_rate=1e30)  # type: ignore[call-arg]
    with pytest.raises(PreconditionError, match="did not converge") as caught:
        huge(graph, look)
    assert "learning-rate" in caught.value.hint


def test_too_high_a_rate_of_distillation_is_lowered() -> None:
    trained, graph, look = converted(count=40)
    held = images_of(look)[torch.randperm(40, generator=torch.Generator().manual_seed(0))[:4]]
    before, *after = (
        error(each, trained, held, Schedule(1))
        for each in (
            graph,
            *(Distill(epochs=10, batch_size=16, learning_rate=rate)(graph, look) for rate in (0.06, 3.84)),
        )
    )
    assert max(after) < before
    # A rate that no attempt makes low enough: silent neurons are a finite error.
    silent = SubstituteNeurons("if")(graph, look)
    assert Distill(epochs=2, learning_rate=1e30)(silent, look) is silent


def test_distillation_never_ends_worse_on_what_it_holds_out() -> None:
    """The best state seen is returned, and the first one counts."""
    trained, graph, look = converted(count=40)
    # The pass draws first which images to hold out.
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    held = images_of(look)[order[:4]]
    helped = dataclasses.replace(DISTILL, batch_size=16)(graph, look)
    before, after = (error(g, trained, held, Schedule(1)) for g in (graph, helped))
    assert after < before
    spoil = Distill(epochs=5, batch_size=16, learning_rate=100.0)
    fine = CalibrateThresholds()(trained, dataclasses.replace(look, levels=dict.fromkeys(trained.nodes, 32)))
    assert spoil(fine, look) is fine
    # Where nothing can be held out, the last state is returned, however bad it is.
    few = look_at(trained, images_of(look)[:19])
    assert error(spoil(fine, few), trained, held, Schedule(1)) > 10 * error(fine, trained, held, Schedule(1))


@pytest.mark.parametrize("option", ["features", "augment"])
def test_options_of_distillation_change_it(option: str) -> None:
    _, graph, look = converted(count=16)
    plain = Distill(epochs=2, batch_size=8)
    assert not same(plain(graph, look), dataclasses.replace(plain, **{option: False})(graph, look))


def test_reconstruction_of_thresholds_leaves_weights_alone() -> None:
    trained, graph, look = converted()
    after = dataclasses.replace(RECONSTRUCT, weights=False)(graph, look)
    changed = after.changes(graph)
    assert set(changed) == set(graph.ops(ops.QuantizedRelu))
    before, now = (error(g, trained, images_of(look), Schedule(1)) for g in (graph, after))
    assert now < before


def test_reconstruction_comes_before_the_neurons() -> None:
    _, graph, look = converted()
    with pytest.raises(PreconditionError) as caught:
        ReconstructUnits().requires(SubstituteNeurons()(graph, look))
    assert "before substitute-neurons" in caught.value.hint
    ReconstructUnits().requires(graph)


@pytest.mark.parametrize(("neuron", "sleep", "epochs"), [("cif", 2, 40), ("if", 0, 20)])
def test_neurons_are_distilled_on_their_own_spikes(neuron: str, sleep: int, epochs: int) -> None:
    trained, graph, look = converted(count=60)
    look = dataclasses.replace(look, schedule=Schedule(3, sleep))
    snn = SubstituteNeurons(neuron)(graph, look)
    after = dataclasses.replace(DISTILL, epochs=epochs, batch_size=16)(snn, look)
    assert {type(op) for op in after.ops(Neuron).values()} == {neurons[neuron]}
    before, now = (error(g, trained, images_of(look), look.schedule) for g in (snn, after))
    assert now < 0.8 * before


@pytest.mark.parametrize("kind", [Distill, ReconstructUnits])
def test_options_out_of_range_are_refused(kind: type[Pass]) -> None:
    for options in ({"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("inf")}):
        with pytest.raises(ValueError, match=r"start at 1|learning rate"):
            kind(**options)
