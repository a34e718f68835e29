"""Passes for targets that have no initial potential, or another reset."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import snnc
from snnc import ops, recipe
from snnc.artifact import load_conversion
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.errors import PreconditionError, UsageError
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, neurons
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.integrate_and_fire_to_zero import IntegrateAndFireToZero
from snnc.passes.calibrate_hard_reset import CalibrateHardReset
from snnc.passes.start_at_rest import StartAtRest
from snnc.recipe import pass_name
from snnc.schedule import Schedule
from tests.support import Network, calibration, double, normal, random_network, relu, run, spiking, uniform

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")


def outputs(graph: Graph, x: Tensor, timesteps: int) -> Tensor:
    (output,) = graph.outputs
    return run(graph, {"x": x.unsqueeze(0)}, [output], Schedule(timesteps))[output][0]


@pytest.mark.parametrize("timesteps", [1, 4, 9])
@pytest.mark.parametrize("place", ["bias", "sum", "twice"])
def test_a_constant_current_is_counted_the_same_from_rest(place: str, timesteps: int) -> None:
    net = Network((3, 6, 6))
    value = net.conv("x", 4, bias=place != "sum")
    if place == "sum":
        value = net.add(ops.Add(), value, net.conv("x", 4))
    if place == "twice":
        # Whose bias another reads as well cannot be changed.
        value = net.add(ops.Affine(torch.tensor(2.0), None), value)
    threshold = uniform(0.3, 2, 4, 1, 1)
    net.add(IntegrateAndFire(threshold, potential=uniform(0, 0.9, 4, 1, 1, seed=3)), value)
    graph = double(net.graph())
    rested = StartAtRest()(graph, calibration(graph, timesteps=timesteps))
    assert all(not neuron.potential.any() for neuron in rested.ops(CausalNeuron).values())
    x = normal(16, 3, 6, 6).double()
    wanted, found = outputs(graph, x, timesteps), outputs(rested, x, timesteps)
    assert wanted.any()
    # What is on the edge of one more spike may round either way.
    assert (wanted == found).double().mean() > 0.999
    assert not torch.equal(outputs(graph.with_ops(rested.ops(CausalNeuron)), x, timesteps), wanted)


def test_neurons_at_rest_and_those_that_gather_first_stay_as_they_are() -> None:
    graph = random_network(3, spiking("two-phase"))
    assert StartAtRest()(graph, calibration(graph)).changes(graph) == {}
    rested = StartAtRest()(random_network(3, spiking("if")), calibration(graph))
    assert StartAtRest()(rested, calibration(graph)).changes(rested) == {}


def trained_and_hard() -> tuple[Graph, Graph]:
    """A network, and the same with neurons that are reset to zero, at thresholds right for constant currents."""
    net = Network((3, 8, 8), seed=5)
    value = relu(net, net.conv("x", 6))
    value = relu(net, net.conv(value, 8))
    net.linear(relu(net, net.linear(net.flat(value), 16)), 5)
    graph = net.graph()
    x = normal(64, 3, 8, 8)
    found = run(graph, {"x": x.unsqueeze(0)}, graph.ops(ops.Relu))
    kind = neurons["if-zero"]
    thresholds = {name: signal[0].flatten().quantile(0.999) for name, signal in found.items()}
    return graph, graph.with_ops({name: kind(threshold) for name, threshold in thresholds.items()})


@pytest.mark.parametrize("timesteps", [4, 16])
def test_calibrating_for_a_hard_reset_brings_every_layer_nearer(timesteps: int) -> None:
    trained, hard = trained_and_hard()
    x, schedule = normal(64, 3, 8, 8), Schedule(timesteps)
    after = CalibrateHardReset()(hard, calibration(trained, x, timesteps))
    names = list(hard.ops(IntegrateAndFireToZero))
    goal = run(trained, {"x": x.unsqueeze(0)}, names)
    errors = []
    for graph in (hard, after):
        found = run(graph, {"x": x.unsqueeze(0)}, names, schedule)
        errors.append([float((found[n] - goal[n]).norm() / goal[n].norm()) for n in names])
    assert all(new < 0.9 * old for old, new in zip(*errors, strict=True))
    assert {name: op for name, op in after.nodes.items() if name not in names} == {
        name: op for name, op in hard.nodes.items() if name not in names
    }
    # A spike stands for more than the threshold: what is above it is lost.
    assert all((op.firing < 1).double().mean() > 0.8 for op in after.ops(IntegrateAndFireToZero).values())


def test_without_images_or_without_such_neurons_nothing_changes() -> None:
    trained, hard = trained_and_hard()
    assert CalibrateHardReset()(hard, calibration(trained)) is hard
    assert CalibrateHardReset()(trained, calibration(trained, normal(8, 3, 8, 8))) is trained


def test_a_channel_that_never_fires_keeps_its_threshold() -> None:
    net = Network((2,))
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    relu(net, net.add(ops.Linear(weight, None), "x"))
    trained = net.graph()
    (name,) = trained.ops(ops.Relu)
    hard = trained.with_ops({name: neurons["if-zero"](torch.tensor([0.7]))})
    after = CalibrateHardReset()(hard, calibration(trained, uniform(0, 1, 32, 2)))
    neuron = after.ops(IntegrateAndFireToZero)[name]
    torch.testing.assert_close(neuron.threshold[1], torch.tensor(0.7))
    torch.testing.assert_close(neuron.firing[1], torch.tensor(1.0))


def test_a_network_of_another_form_is_refused() -> None:
    _, hard = trained_and_hard()
    with pytest.raises(PreconditionError, match="no such activation"):
        CalibrateHardReset()(hard, calibration(hard, normal(8, 3, 8, 8)))


def test_the_recipe_for_a_hard_reset_ends_in_its_calibration() -> None:
    made = recipe.reset_to_zero(recipe.load("synchronous", timesteps=6))
    names = [pass_name(step) for step in made.passes]
    assert names[-3:] == ["substitute-neurons", "calibrate-hard-reset", "correct-spiking-residual"]
    assert made.passes[-3].neuron == "if-zero"  # type: ignore[attr-defined]
    assert made.schedule == Schedule(6)
    assert recipe.reset_to_zero(made) == made
    assert recipe.from_plain(made.plain()) == made
    with pytest.raises(UsageError, match="no neurons"):
        recipe.reset_to_zero(recipe.from_plain({"passes": ["fold-batch-norm"]}))


def test_calibrated_for_a_hard_reset_digits_are_read_almost_as_well() -> None:
    how = recipe.reset_to_zero(recipe.load("nir", timesteps=16))
    reading = Reading(limit=100)
    made, _ = snnc.convert(
        DIGITS / "model.onnx", how, data=DIGITS / "calibration", preprocessing=PREPROCESSING, reading=reading
    )
    (row,) = snnc.evaluate(made, data=DIGITS / "test", reading=Reading(limit=200)).rows
    assert row.drop is not None and row.drop < 2
    assert all(isinstance(neuron, IntegrateAndFireToZero) for neuron in made.snn.ops(CausalNeuron).values())


@pytest.mark.usefixtures("trained_shortly")
def test_calibrate_takes_the_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnc.cli import main

    monkeypatch.chdir(tmp_path)
    flags = ["--mean", "0.31", "--std", "0.38", "--channels", "gray", "-q"]
    data = ["--data", str(DIGITS / "calibration"), "--limit", "64"]
    assert main(["convert", str(DIGITS / "model.onnx"), "-o", "a.snn", *flags]) == 0
    assert main(["calibrate", "a.snn", "--reset", "zero", "--timesteps", "4", *data, "-q"]) == 0
    made = load_conversion(Path("a.snn"))
    assert made.snn.ops(IntegrateAndFireToZero)
    assert made.schedule == Schedule(4)
