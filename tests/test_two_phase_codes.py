"""METHODS, law 20: two-phase neurons tell the same count in every code."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import snnc
from snnc.cli import main
from snnc.ir import Graph
from snnc.laws.networks import Network, calibration, relu
from snnc.laws.samples import normal
from snnc.neurons import Neuron, neurons
from snnc.neurons.counting import Counting
from snnc.neurons.first_spike import FirstSpike
from snnc.neurons.radix import Radix
from snnc.neurons.two_phase import TwoPhase
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.normalize_activations import NormalizeActivations
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.schedule import Schedule
from tests.support import outputs
from tests.test_report import DIGITS

CODES = [name for name, kind in neurons.items() if issubclass(kind, Counting)]


def test_there_are_codes() -> None:
    assert {"two-phase", "radix", "first-spike"} <= set(CODES)


@pytest.mark.parametrize("timesteps", [1, 2, 3, 5, 8, 18])
@pytest.mark.parametrize("name", CODES)
def test_every_count_is_told_whole(name: str, timesteps: int) -> None:
    """Σ value·s = Θ·n/L for every count, in at most T spikes; the first spike is the only one."""
    kind = neurons[name]
    assert issubclass(kind, Counting)
    neuron = kind(torch.tensor([0.5]).double())
    levels = min(neuron.levels(timesteps), 5000)
    counts = torch.arange(levels + 1).double()
    current = (counts * neuron.threshold / timesteps).view(1, 1, -1)
    schedule = Schedule(timesteps)
    train = neuron.respond(current, schedule)
    assert torch.equal(train.sum(0)[0], counts * neuron.threshold)
    fired = neuron.fired(train, schedule)
    assert torch.equal(fired.sum(0)[0], counts)
    events = (fired != 0).sum(0)[0]
    assert events.max() <= timesteps
    assert torch.equal(events, neuron.events(counts).long())
    assert torch.equal(neuron.spikes(train.mean(0, keepdim=True), schedule)[0].long(), events)
    for step in range(1, timesteps + 1):
        sizes = fired[step - 1].abs().unique()
        assert set(sizes.tolist()) <= {0.0, float(neuron.weight(step, timesteps))}
    if name == "first-spike":
        assert torch.equal(events, (counts > 0).long())
    if name == "radix":
        assert events.tolist() == [int(count).bit_count() for count in counts.tolist()]


@pytest.mark.parametrize("slope", [None, torch.tensor([0.25])])
def test_codes_of_as_many_levels_answer_alike(slope: Tensor | None) -> None:
    """first-spike(T) is even(T), and radix(T) is even(2^T − 1)."""
    z = normal(64, 3, 5, 5).double()
    ceiling = torch.tensor([1.3]).double()
    slope = None if slope is None else slope.double()
    for timesteps in (1, 2, 4, 8):
        even, first = (kind(ceiling, slope) for kind in (TwoPhase, FirstSpike))
        assert torch.equal(even.mean_response(z, Schedule(timesteps)), first.mean_response(z, Schedule(timesteps)))
        levels = (1 << timesteps) - 1
        radix = Radix(ceiling * timesteps / levels, slope)
        assert radix.levels(timesteps) == levels
        wanted = even.mean_response(z, Schedule(levels))
        torch.testing.assert_close(radix.mean_response(z, Schedule(timesteps)), wanted)


def _trained() -> Graph:
    net = Network((3, 6, 6), seed=3)
    value = relu(net, net.conv("x", 4))
    value = relu(net, net.conv(value, 4))
    trained = net.graph(net.linear(net.flat(value), 3))
    return NormalizeActivations()(trained, calibration(trained))


def _spiking(graph: Graph, neuron: str, timesteps: int) -> Graph:
    levels = neurons[neuron](torch.tensor([1.0])).levels(timesteps)
    given = calibration(graph, normal(48, 3, 6, 6), timesteps)
    given = dataclasses.replace(given, levels=dict.fromkeys(given.levels, levels))
    return SubstituteNeurons(neuron)(CalibrateThresholds()(graph, given), given)


def test_networks_of_codes_with_as_many_levels_answer_alike() -> None:
    graph, x = _trained(), normal(16, 3, 6, 6, seed=1)
    for neuron, timesteps, even in (("radix", 3, 7), ("first-spike", 5, 5)):
        found, wanted = _spiking(graph, neuron, timesteps), _spiking(graph, "two-phase", even)
        torch.testing.assert_close(outputs(found, x, timesteps)[0], outputs(wanted, x, even)[0])


@pytest.mark.parametrize("neuron", ["radix", "first-spike"])
def test_a_converted_network_tells_its_levels_and_is_exported(neuron: str, tmp_path: Path) -> None:
    """From the command line: 15 levels in four steps, or four of one spike each; onnxruntime and torch agree."""
    images, made = tmp_path / "x.npy", tmp_path / "model.snn"
    np.save(images, normal(32, 1, 8, 8).numpy())
    given = ["--data", str(images), "--recipe", "quick", "--neuron", neuron, "--timesteps", "4", "--output", str(made)]
    assert main(["convert", str(DIGITS / "model.onnx"), *given, "--quiet"]) == 0
    conversion = snnc.load(made).conversion
    assert {op.levels(4) for op in conversion.snn.ops(Neuron).values()} == {15 if neuron == "radix" else 4}
    for form in ("onnx", "torch"):
        file = str(tmp_path / f"model.{form}")
        given = ["--format", form, "--output", file, "--verify", "--data", str(images), "--quiet"]
        assert main(["export", str(made), *given]) == 0
    assert main(["export", str(made), "--format", "nir", "--output", str(tmp_path / "model.nir"), "--quiet"]) == 3
