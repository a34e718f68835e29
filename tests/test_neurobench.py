"""NeuroBench's figures, held to its definitions and, where it is installed, to its package."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnc
from snnc import ops
from snnc.conversion import Conversion
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.measure.neurobench import NeuroBench, measure
from snnc.module import NeuronModule, SpikingNetwork
from snnc.neurons import CausalNeuron, Neuron, neurons
from snnc.neurons.base import stretched
from snnc.report import build, completed
from snnc.report.data import parsed, plain
from snnc.report.faces.markdown import markdown
from snnc.report.faces.page import page
from snnc.schedule import Schedule
from tests.support import PROVENANCE, Network, normal, random_network, spiking, uniform

SAMPLES = 6


def network(*, potential: float = 0.0, threshold: float = 0.5) -> Graph:
    """A residual network of IF neurons that no current overwhelms, with average pooling and weights that are zero."""

    def fire(value: str, level: float, name: str) -> None:
        net.add(neurons["if"](torch.tensor(level), potential=torch.tensor(potential)), value, name=name)

    def convolve(value: str, name: str, seed: int, padding: int = 1) -> str:
        weight = normal(4, net.shapes[value][0], 3, 3, seed=seed) * 0.04
        weight[weight.abs() < 0.01] = 0
        bias = normal(4, seed=seed) * 0.05 if value == "x" else None
        return net.add(ops.Conv(weight, bias, (1, 1), (padding,) * 4, (1, 1)), value, name=name)

    net = Network((2, 7, 7))
    fire(convolve("x", "first", 1), threshold, "early")
    fire(convolve("early", "second", 2), threshold, "late")
    fire(convolve(net.add(ops.Add(), "early", "late", name="sum"), "third", 3, 0), 2 * threshold, "last")
    pooled = net.add(ops.AveragePool((5, 5), (5, 5), (0,) * 4, (0,) * 4), "last", name="pool")
    net.add(ops.Linear(normal(3, 4, seed=4), None), net.add(ops.Reshape((4,)), pooled, name="flat"), name="y")
    return net.graph()


def measured(snn: Graph, schedule: Schedule, images: Tensor, *, frames: bool = False) -> NeuroBench:
    feeds = Feeds({"x": images}, ["x"] if frames else [])
    return measure(snn, schedule, MemorySamples(feeds, 4))


def trains(snn: Graph, schedule: Schedule, images: Tensor, *, frames: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes into and comes out of every node at every step, ``[steps, N, ...]``."""
    conversion = Conversion(None, snn, schedule, (), (), (), Preprocessing(), PROVENANCE)
    module, seen = SpikingNetwork(conversion), {}
    for name, child in module.named_children():

        def see(_: Any, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            seen[name] = stretched(inputs[0], schedule), stretched(output, schedule)

        child.register_forward_hook(see)
    module.respond(Feeds({"x": images}, ["x"] if frames else []))
    return seen


def pairs(op: ops.Conv | ops.Linear, values: Tensor) -> float:
    """How many inputs and weights meet that are not zero."""
    binary = op.with_kernel((op.kernel() != 0).float(), None)
    return float(binary((values != 0).float()).sum(dtype=torch.float64))


# Its definitions.


@pytest.mark.parametrize("schedule", [Schedule(4), Schedule(3, 2, 2)], ids=str)
@pytest.mark.parametrize("name", neurons)
def test_operations_are_pairs_that_are_not_zero_at_every_step(name: str, schedule: Schedule) -> None:
    snn = random_network(3, spiking(name, seed=3))
    images = normal(SAMPLES, 3, 8, 8)
    found = measured(snn, schedule, images)
    seen, layers = trains(snn, schedule, images), snn.ops((ops.Conv, ops.Linear))
    gathering = not snn.ops(CausalNeuron)
    window = slice(schedule.rehearsal, schedule.lit) if gathering else slice(None)
    steps = schedule.timesteps if gathering else schedule.total
    assert len(layers) > 2
    effective = dense = 0.0
    for layer, op in layers.items():
        values = seen[layer][0][window]
        # Differences of what is added up are zero but for a rounding error.
        values = torch.where(values.abs() < 1e-5, 0, values)
        effective += sum(pairs(op, step) for step in values)
        full = op.with_kernel(torch.ones_like(op.kernel()), None)
        dense += sum(float(full(torch.ones_like(step)).sum(dtype=torch.float64)) for step in values)
    operations = found.synaptic_operations
    assert operations.effective_macs + operations.effective_acs == pytest.approx(effective / SAMPLES, rel=1e-9)
    assert operations.dense == dense / SAMPLES
    assert 0 < effective < dense
    outputs = [seen[layer][1][window] for layer in snn.ops((Neuron, ops.Relu))]
    silent, neurons_in_all = sum(int((out == 0).sum()) for out in outputs), sum(out.numel() for out in outputs)
    assert found.activation_sparsity == pytest.approx(silent / neurons_in_all)
    assert found.ours.membrane_updates == steps * sum(math.prod(snn.shapes[layer]) for layer in snn.ops(Neuron))


def test_accumulations_are_those_of_ones() -> None:
    """Sums and averages of spikes, several spikes in one step, and those that weigh a share are none."""
    schedule, images = Schedule(4), normal(SAMPLES, 2, 7, 7)
    snn = network(potential=0.5, threshold=0.05)
    seen = trains(snn, schedule, images)
    convolutions, found = snn.ops(ops.Conv), measured(snn, schedule, images).synaptic_operations
    spikes = pairs(convolutions["second"], seen["second"][0].flatten(0, 1))
    both = [step for step in seen["third"][0] if (step == 0.1).any()]
    assert both, "no sum of two spikes"
    added = spikes + sum(pairs(convolutions["third"], step) for step in seen["third"][0] if not (step == 0.1).any())
    assert found.effective_acs * SAMPLES == pytest.approx(added)
    multiplied = 4 * pairs(convolutions["first"], images) + sum(pairs(convolutions["third"], step) for step in both)
    averages = pairs(snn.ops(ops.Linear)["y"], seen["y"][0].flatten(0, 1))
    assert found.effective_macs * SAMPLES == pytest.approx(multiplied + averages)
    bursts = snn.with_ops({"early": neurons["burst"](torch.tensor(0.05))})
    assert (trains(bursts, schedule, images)["second"][0] > 0.06).flatten(1).any(1).all(), "no bursts at every step"
    assert measured(bursts, schedule, images).synaptic_operations.effective_acs == 0


def test_frames_of_ones_are_spikes_and_others_are_not() -> None:
    net = Network((2, 7, 7))
    net.conv("x", 4, name="y")
    snn, schedule = net.graph(), Schedule(2)
    first = snn.ops(ops.Conv)["y"]
    frames = (normal(2, SAMPLES, 2, 7, 7) > 0.5).float()
    events = measured(snn, schedule, frames, frames=True).synaptic_operations
    frames[1] *= 3
    counts = measured(snn, schedule, frames, frames=True).synaptic_operations
    assert events.effective_macs == 0
    assert counts.effective_macs == pytest.approx(pairs(first, frames[1]) / SAMPLES)
    assert events.effective_acs == pytest.approx(counts.effective_acs + counts.effective_macs)


def test_a_spike_is_taken_up_by_the_weights_behind() -> None:
    """Wherever a layer's spikes are moved to, scaled, or the largest of a window, they count as ones."""
    net = Network((4, 8, 8))
    fired = net.add(neurons["cif"](uniform(0.3, 1, 4, 1, 1)), "x")
    halved = net.add(ops.Affine(torch.tensor(0.5), None), net.add(ops.Pad((0, 1, 1, 0, 1, 1), 0.0), fired))
    pooled = net.add(ops.MaxPool((3, 3), (2, 2), (0, 0, 0, 0), (1, 1)), halved)
    net.conv(pooled, 3, name="y")
    found = measured(net.graph(), Schedule(5), uniform(0, 1, SAMPLES, 4, 8, 8)).synaptic_operations
    assert found.effective_macs == 0
    assert found.effective_acs > 0


@pytest.mark.parametrize("name", neurons)
def test_potentials_change_with_what_comes_in_and_what_goes_out(name: str) -> None:
    """Step by step at each neuron; those that gather take in the whole input before they fire."""
    net = Network((3,))
    net.add(neurons[name](torch.tensor(0.5)), "x", name="y")
    snn, schedule = net.graph(), Schedule(4)
    frames = torch.zeros(4, SAMPLES, 3)
    frames[1] = 0.3
    found = measured(snn, schedule, frames, frames=True)
    fired = int((trains(snn, schedule, frames, frames=True)["y"][1] != 0).sum())
    if isinstance(snn.op("y"), CausalNeuron):
        # Some integrate exactly what a spike takes away.
        assert found.membrane_updates * SAMPLES <= 3 * SAMPLES + 3 * SAMPLES + fired
        assert found.membrane_updates >= 6
    else:
        assert found.membrane_updates * SAMPLES == 3 * SAMPLES + 3 * SAMPLES + fired
    assert measured(snn, schedule, frames * 0, frames=True).membrane_updates >= 3


def test_what_is_fixed_is_counted_once() -> None:
    snn = network()
    tensors = [tensor for node in snn.nodes.values() for tensor in node.op.tensors().values()]
    found = measured(snn, Schedule(2), normal(SAMPLES, 2, 7, 7))
    contents = {(tensor.shape, tensor.numpy().tobytes()) for tensor in tensors}
    assert found.footprint == sum(len(content) for _, content in contents) < 4 * sum(map(torch.numel, tensors))
    weights = torch.cat([op.weight.flatten() for op in snn.ops((ops.Conv, ops.Linear)).values()])
    assert found.connection_sparsity == round(float((weights == 0).double().mean()), 4) > 0.05
    bare = Network((3,))
    bare.add(ops.Reshape((3, 1)), "x", name="y")
    nothing = measured(bare.graph(), Schedule(2), normal(SAMPLES, 3))
    assert nothing.connection_sparsity is nothing.activation_sparsity is nothing.ours.activation_sparsity is None
    assert nothing.synaptic_operations.dense == nothing.membrane_updates == nothing.footprint == 0


def test_a_large_network_is_shown_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    images = normal(SAMPLES, 2, 7, 7)
    whole = measured(network(), Schedule(4), images)
    assert whole.samples == SAMPLES
    monkeypatch.setattr("snnc.measure.neurobench._WORK", 3 * 4 * whole.ours.reference_macs)
    part = measured(network(), Schedule(4), images)
    assert part.samples == 3
    assert part == measured(network(), Schedule(4), images[[0, 2, 5]])
    monkeypatch.setattr("snnc.measure.neurobench._WORK", 0)
    assert measured(network(), Schedule(4), images).samples == 1


# Its package.


class Rebuilt(nn.Module):
    """The network above as its users would write it, in layers of torch and of snnTorch."""

    def __init__(self, snn: Graph, fire: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second, self.third = (self._convolution(snn, name) for name in ("first", "second", "third"))
        self.early, self.late, self.last = fire(), fire(), fire()
        self.pool = nn.AvgPool2d(5)
        linear = snn.ops(ops.Linear)["y"]
        self.y = nn.Linear(4, 3, bias=False)
        self.y.weight.data = linear.weight * snn.ops(Neuron)["last"].threshold

    def _convolution(self, snn: Graph, name: str) -> nn.Conv2d:
        """Weights take up what a spike carries, and the threshold behind becomes 1."""
        op, (after,) = snn.ops(ops.Conv)[name], snn.consumers[name]
        layer = nn.Conv2d(op.weight.shape[1], 4, 3, padding=op.padding[0], bias=op.bias is not None)
        carried = 1 if name == "first" else snn.ops(Neuron)["early"].threshold
        threshold = snn.ops(Neuron)[after].threshold
        layer.weight.data = op.weight * (carried / threshold)
        if op.bias is not None and layer.bias is not None:
            layer.bias.data = op.bias / threshold
        return layer

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        early = self.early(self.first(x))
        late = self.late(self.second(early))
        last = self.last(self.third(early + late))
        return self.y(self.pool(last).flatten(1)), None


def benchmarked(model: Any, data: Tensor) -> dict[str, Any]:
    """What the package measures on samples in one batch."""
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates, SynapticOperations
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(data, torch.zeros(len(data))), batch_size=len(data))
    counted = [ActivationSparsity, MembraneUpdates, SynapticOperations]
    found: dict[str, Any] = Benchmark(model, loader, [], [], [[Footprint, ConnectionSparsity], counted]).run(quiet=True)
    return found


@pytest.mark.parametrize("over_time", [False, True])
def test_its_package_measures_the_same_on_a_rebuild(over_time: bool) -> None:
    pytest.importorskip("neurobench", reason="needs neurobench and snntorch")
    import snntorch
    from neurobench.models import SNNTorchModel

    def fire() -> nn.Module:
        return snntorch.Leaky(beta=1.0, threshold=1.0, init_hidden=True, reset_delay=False)

    snn, schedule = network(), Schedule(8)
    images = uniform(0, 1, SAMPLES, 2, 7, 7)
    frames = (images > uniform(0, 1, 8, SAMPLES, 2, 7, 7, seed=1)).float()
    frames[::2] *= 1.2
    given = frames if over_time else images
    found = measured(snn, schedule, given, frames=over_time)
    currents = [trains(snn, schedule, given, frames=over_time)[layer][0].max() for layer in snn.ops(Neuron)]
    assert max(currents) < 0.5, "their neurons are others where more is left than a threshold"
    shown = frames.movedim(0, 1) if over_time else images.unsqueeze(1).expand(-1, 8, -1, -1, -1)
    with torch.no_grad():
        theirs = benchmarked(SNNTorchModel(Rebuilt(snn, fire)), shown)
    operations = theirs["SynapticOperations"]
    assert found.synaptic_operations.effective_macs == pytest.approx(operations["Effective_MACs"])
    assert found.synaptic_operations.effective_acs == pytest.approx(operations["Effective_ACs"])
    assert 0 < operations["Effective_MACs"] < operations["Effective_ACs"] + operations["Effective_MACs"]
    assert found.synaptic_operations.dense == operations["Dense"]
    assert found.activation_sparsity == pytest.approx(theirs["ActivationSparsity"])
    assert 0.3 < theirs["ActivationSparsity"] < 0.99
    assert found.membrane_updates == theirs["MembraneUpdates"] < found.ours.membrane_updates
    assert found.connection_sparsity == theirs["ConnectionSparsity"]


@pytest.mark.parametrize("name", ["cif", "if", "dual-threshold"])
def test_its_package_measures_the_same_on_what_snnc_loads(name: str) -> None:
    """All of one sample's steps, which it counts as multiplied: spikes carry their thresholds there."""
    pytest.importorskip("neurobench", reason="needs neurobench and snntorch")
    from neurobench.models import NeuroBenchModel

    class Stepped(NeuroBenchModel):  # type: ignore[misc]
        def __init__(self, network: SpikingNetwork) -> None:
            super().__init__()
            self.network = network
            self.add_activation_module(NeuronModule)

        def __call__(self, batch: Tensor) -> Tensor:
            state = self.network.start(batch)
            for _ in range(state.schedule.total):
                state, output = self.network.step(state, batch)
            assert isinstance(output, Tensor)
            return output

        def __net__(self) -> nn.Module:
            return self.network

    snn, schedule = network(potential=0.5, threshold=0.05), Schedule(4, 1, 2)
    kinds = {layer: neurons[name](neuron.threshold) for layer, neuron in snn.ops(Neuron).items()}
    # As it is read from its file.
    snn, images = snn.with_ops(kinds).shared(), normal(SAMPLES, 2, 7, 7)
    conversion = Conversion(None, snn, schedule, (), (), (), Preprocessing(), PROVENANCE)
    theirs, found = benchmarked(Stepped(SpikingNetwork(conversion)), images), measured(snn, schedule, images)
    operations, ours = theirs["SynapticOperations"], found.synaptic_operations
    together = ours.effective_macs + ours.effective_acs
    assert operations["Effective_MACs"] + operations["Effective_ACs"] == pytest.approx(together)
    assert operations["Dense"] == ours.dense
    assert theirs["ActivationSparsity"] == pytest.approx(found.activation_sparsity)
    assert theirs["ConnectionSparsity"] == found.connection_sparsity
    assert theirs["Footprint"] == found.footprint


# Where it is told.


def test_whatever_is_run_on_images_tells_them(tmp_path: Path) -> None:
    digits = Path(__file__).parent.parent / "examples" / "digits"
    how = {"preprocessing": Preprocessing(mean=(0.31,), std=(0.38,), channels="gray"), "reading": Reading(limit=9)}
    conversion, report = snnc.convert(digits / "model.onnx", data=digits / "calibration", **how)
    converted = plain(report)["neurobench"]
    assert (converted["samples"], converted["timesteps"]) == (9, conversion.schedule.timesteps)
    evaluation = snnc.evaluate(conversion, data=digits / "test", timesteps=(2, 4), **how)
    assert evaluation.neurobench is not None
    assert evaluation.neurobench.timesteps == 2
    told = completed(conversion, tmp_path / "report.json", evaluation=evaluation)
    assert plain(told)["neurobench"] == plain(told)["evaluation"]["neurobench"] != converted
    for face in (markdown, page):
        assert "membrane updates" in face(told)
    # A network is as large as the one that is read from its file.
    snnc.save(conversion, tmp_path / "model.snn")
    again = snnc.evaluate(tmp_path / "model.snn", data=digits / "test", timesteps=2, **how).neurobench
    assert again is not None and again.footprint == evaluation.neurobench.footprint == converted["footprint"]
    _, empty = snnc.convert(digits / "model.onnx", preprocessing=how["preprocessing"])
    assert "neurobench" not in plain(empty)
    assert "membrane updates" not in page(empty)


def test_a_report_has_them_and_reads_them_again() -> None:
    snn, schedule = network(), Schedule(4)
    conversion = Conversion(None, snn, schedule, (), (), (), Preprocessing(), PROVENANCE)
    found = measured(snn, schedule, normal(SAMPLES, 2, 7, 7))
    report = build(conversion, None, found)
    data = plain(report)
    assert data["neurobench"]["synaptic_operations"]["dense"] == found.synaptic_operations.dense
    assert {*data["neurobench"]} == {field.name for field in dataclasses.fields(NeuroBench)}
    assert plain(parsed(data, "here")) == data
    assert "neurobench" not in plain(build(conversion))
