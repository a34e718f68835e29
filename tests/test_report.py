"""The report, the cost model and the evaluation, on small networks whose figures can be worked out by hand."""

import json
import math
from pathlib import Path

import pytest
import torch

import snnc
from snnc import intervals, recipe, report
from snnc.analysis.latency import latency
from snnc.analysis.reach import connected
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError, UsageError
from snnc.ir import Graph, Input, Node
from snnc.measure.energy import Cost, cost
from snnc.measure.remarks import _on_operations, other_timesteps
from snnc.neurons import neurons
from snnc.ops import Add, AveragePool, BatchNorm, Conv, Linear, MaxPool, Reshape
from snnc.schedule import Schedule
from snnc.tasks.classification import Classification
from tests.support import run

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
PREPROCESSING = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")
FEW = Reading(limit=60)

pytestmark = pytest.mark.usefixtures("counted_shortly")


def neuron(kind: str = "two-phase", threshold: float = 1.0):
    return neurons[kind](torch.tensor([threshold]))


def spiking(kind: str = "two-phase") -> Graph:
    """An image of 1x4x4, 3x3 convolution to 2 channels, neurons, 2x2 average pooling, linear layer to 3 outputs."""
    conv = Conv(torch.full((2, 1, 3, 3), 0.1), None, (1, 1), (1, 1, 1, 1), (1, 1))
    nodes = [
        Node("x", Input((1, 4, 4)), ()),
        Node("conv", conv, ("x",)),
        Node("spikes", neuron(kind), ("conv",)),
        Node("pool", AveragePool((2, 2), (2, 2), (0, 0, 0, 0), (0, 0, 0, 0)), ("spikes",)),
        Node("flat", Reshape((8,)), ("pool",)),
        Node("out", Linear(torch.ones(3, 8), torch.zeros(3)), ("flat",)),
    ]
    return Graph.of(nodes, ["out"])


def test_the_first_layer_multiplies_once_and_the_next_adds_once_per_spike_and_target():
    graph = spiking()
    connections = connected(graph)
    assert connections["conv"].reach is None
    assert connections["conv"].macs == 2 * 4 * 4 * 9
    fan_out = connections["out"].reach
    # Each neuron reaches the 3 outputs, through the one pooling window it belongs to.
    assert fan_out is not None
    assert torch.equal(fan_out["spikes"], torch.full((2, 4, 4), 3.0, dtype=torch.float64))
    spikes = {"spikes": torch.full((2, 4, 4), 5.0, dtype=torch.float64)}
    work = cost(graph, connections, spikes, Schedule(7))
    assert work == Cost(synaptic_operations=32 * 5 * 3, analog_macs=288, neuron_words=2 * 32 * 7)
    assert work.arithmetic == pytest.approx((480 * 0.9 + 288 * 4.6) * 1e-6)


def test_the_fan_out_of_a_convolution_counts_real_targets_only():
    conv = Conv(torch.randn(4, 2, 3, 3), None, (2, 2), (1, 1, 1, 1), (1, 1))
    nodes = [
        Node("x", Input((2, 5, 5)), ()),
        Node("spikes", neuron(), ("x",)),
        Node("conv", conv, ("spikes",)),
    ]
    fan_out = connected(Graph.of(nodes, ["conv"]))["conv"].reach
    assert fan_out is not None
    counted = torch.zeros(2, 5, 5)
    for c in range(2):
        for i in range(5):
            for j in range(5):
                impulse = torch.zeros(1, 2, 5, 5)
                impulse[0, c, i, j] = 1.0
                counted[c, i, j] = (conv(impulse) != 0).sum()
    assert torch.equal(fan_out["spikes"].float(), counted)


def test_a_layer_fed_by_another_layer_without_neurons_between_is_analog():
    linear = Linear(torch.ones(4, 4), None)
    nodes = [
        Node("x", Input((4,)), ()),
        Node("spikes", neuron(), ("x",)),
        Node("first", linear, ("spikes",)),
        Node("sum", Add(), ("first", "spikes")),
        Node("second", linear, ("sum",)),
    ]
    connections = connected(Graph.of(nodes, ["second"]))
    assert connections["first"].reach is not None
    assert connections["second"].reach is None


@pytest.mark.parametrize(("kind", "steps"), [("two-phase", 16), ("if", 8), ("dual-threshold", 8)])
def test_latency_counts_the_waiting_of_neurons_that_gather_first(kind, steps):
    assert latency(spiking(kind), Schedule(8)) == steps
    # Only who fires while it gathers rehearses and sleeps.
    assert latency(spiking(kind), Schedule(8, 4, 2)) == (steps if kind == "two-phase" else steps + 6)


def test_what_the_image_alone_feeds_costs_once_and_what_neurons_fire_on_at_every_step():
    nodes = [
        Node("x", Input((4,)), ()),
        Node("first", Linear(torch.ones(4, 4), None), ("x",)),
        Node("spikes", neuron("cif"), ("first",)),
        Node("second", Linear(torch.ones(4, 4), None), ("spikes",)),
        Node("third", Linear(torch.ones(4, 4), None), ("second",)),
        Node("last", neuron("cif"), ("third",)),
        Node("fourth", Linear(torch.ones(4, 4), None), ("third",)),
    ]
    graph = Graph.of(nodes, ["last", "fourth"])
    connections = connected(graph)
    spikes = {name: torch.full((4,), count, dtype=torch.float64) for name, count in (("spikes", 5.0), ("last", 0.0))}
    schedule = Schedule(7, 3, 2)
    work = cost(graph, connections, spikes, schedule)
    # The first layer works once, the third, fed by what is neither image nor spike, for all 12 steps of the neurons
    # behind it, and the fourth, which is part of the answer, once.
    assert work == Cost(synaptic_operations=4 * 5 * 4, analog_macs=16 + 16 * 12 + 16, neuron_words=2 * 8 * 12)
    # Of frames, the first layer sees another one at each of 2 + 7 steps.
    framed = cost(graph, connections, spikes, schedule, {"x"})
    assert framed.analog_macs - work.analog_macs == 16 * 8


@pytest.mark.parametrize("slope", [None, 0.25])
@pytest.mark.parametrize("kind", neurons)
def test_negative_spikes_are_announced_where_there_are_any(kind, slope):
    if slope is not None and not neurons[kind].signed:
        pytest.skip("has no slope")
    layer = neurons[kind](torch.tensor([1.0]), None if slope is None else torch.tensor([slope]))
    currents = torch.cat([torch.full((4, 1, 8), 1.5), torch.linspace(-4.0, -1.0, 8).expand(4, 1, -1)])
    graph = Graph.of([Node("x", Input((8,)), ()), Node("spikes", layer, ("x",))], ["spikes"])
    codes = [finding.code for finding in _on_operations(graph, connected(graph), Schedule(8))]
    assert ("signed-spikes" in codes) == bool((layer.respond(currents, Schedule(8)) < 0).any())


def test_a_normalization_that_was_not_folded_is_remarked_on_as_what_it_is():
    norm = BatchNorm(*(torch.ones(4) for _ in range(4)), 1e-5)
    nodes = [Node("x", Input((4,)), ()), Node("spikes", neuron("if"), ("x",)), Node("norm", norm, ("spikes",))]
    graph = Graph.of(nodes, ["norm"])
    found = [(finding.code, finding.node) for finding in _on_operations(graph, connected(graph), Schedule(8))]
    assert found == [("unfolded-affine", "norm")]


@pytest.mark.parametrize("kind", neurons)
def test_spikes_are_counted_alike_from_trains_and_from_means(kind):
    graph = spiking(kind)
    x = torch.rand(1, 6, 1, 4, 4) * 3
    seen: dict[bool, torch.Tensor] = {}
    for step_by_step in (False, True):
        found = {}
        run(graph, {"x": x}, ["out"], Schedule(5), trains=step_by_step, observe=found.__setitem__)
        seen[step_by_step] = graph.op("spikes").spikes(found["spikes"], Schedule(5))
    assert torch.equal(seen[False], seen[True])
    assert seen[True].sum() > 0


@pytest.mark.parametrize("kind", neurons)
def test_the_parts_of_an_error_add_up_to_it(kind):
    """Inherited, clipping, quantization and unevenness telescope: checked through the norms on one sample at a time."""
    conversion, built = snnc.convert(
        DIGITS / "model.onnx",
        recipe.load("quick", timesteps=3, neuron=kind),
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
        reading=Reading(limit=24),
    )
    assert conversion.calibrated
    for layer in built.layers:
        parts = (layer.inherited, layer.clipping, layer.quantization, layer.unevenness)
        assert all(part is not None and math.isfinite(part) for part in parts)
        assert layer.error is not None
        assert layer.error <= sum(parts) + 1e-9
        # The largest part minus all the others is what cannot cancel.
        assert layer.error >= 2 * max(parts) - sum(parts) - 1e-9
        # Least of all with neurons that are reset to zero, on thresholds for those that are not.
        assert layer.cosine is not None and 0.4 < layer.cosine <= 1
        if kind == "two-phase":
            # Float32 sums in another order cross a grid point now and then.
            assert layer.unevenness < 1e-2
    first = built.layers[0]
    assert first.isolated_error == pytest.approx(first.error, rel=1e-4)


def test_consistent_neurons_that_sleep_have_no_unevenness():
    uneven = {}
    for sleep in (0, 24):
        _, built = snnc.convert(
            DIGITS / "model.onnx",
            recipe.load("casc", timesteps=4, sleep=sleep),
            data=DIGITS / "calibration",
            preprocessing=PREPROCESSING,
            reading=Reading(limit=20),
        )
        uneven[sleep] = max(layer.unevenness for layer in built.layers)
        summary = built.summary
        assert (summary.timesteps, summary.sleep, summary.rehearsal) == (4, sleep, 0)
        assert summary.total_steps == summary.steps_per_answer == 4 + sleep
    # Float32 sums in another order cross a grid point now and then.
    assert uneven[24] < 1e-2 < uneven[0]


@pytest.mark.parametrize("kind", ["two-phase", "two-phase-probabilistic"])
def test_the_report_is_the_same_every_time_and_is_plain_json(kind):
    texts = []
    for _ in range(2):
        _, built = snnc.convert(
            DIGITS / "model.onnx",
            recipe.load("quick", timesteps=4, neuron=kind),
            data=DIGITS / "calibration",
            preprocessing=PREPROCESSING,
            reading=FEW,
        )
        texts.append(report.to_json(built))
    assert texts[0] == texts[1]
    data = json.loads(texts[0])
    assert data["schema_version"] == report.SCHEMA_VERSION
    assert list(data) == sorted(data)
    assert data["summary"]["total_steps"] == 20
    assert data["provenance"]["calibration"]["images"] == 60


def test_an_uncalibrated_report_says_so_and_measures_nothing():
    conversion, built = snnc.convert(DIGITS / "model.onnx", recipe.load("quick"))
    assert not conversion.calibrated
    assert [finding.code for finding in built.findings if finding.severity == "warning"] == ["uncalibrated"]
    assert all(layer.error is None and layer.threshold_minimum > 0 for layer in built.layers)


def test_evaluation_at_several_steps_equals_one_at_a_time_whatever_the_batch():
    conversion, _ = snnc.convert(
        DIGITS / "model.onnx",
        recipe.load("quick", timesteps=4),
        data=DIGITS / "calibration",
        preprocessing=PREPROCESSING,
    )
    together = snnc.evaluate(conversion, data=DIGITS / "test", timesteps=[2, 4], reading=Reading(limit=160))
    other = Reading(limit=160, batch_size=33, workers=1)
    apart = [snnc.evaluate(conversion, data=DIGITS / "test", timesteps=[t], reading=other) for t in (2, 4)]
    assert together.rows == tuple(result.rows[0] for result in apart)
    assert together.reference["accuracy"] == pytest.approx(98.75)
    assert together.rows[1].accuracy is not None and together.rows[1].accuracy > 97
    assert [finding.message[-3:] for finding in together.findings if finding.code == "other-timesteps"] == ["T=2"]
    assert len(together.findings) == 1
    assert other_timesteps(8, [1, 2]).message.endswith("for T=8, evaluated at T=1, 2")
    row = together.rows[1]
    assert row.drop == pytest.approx(together.reference["accuracy"] - row.accuracy)
    assert row.drop_interval is not None and row.drop_interval[0] <= row.drop <= row.drop_interval[1]


def test_calibrating_an_uncalibrated_file_equals_converting_with_data():
    wanted = recipe.load("quick", timesteps=4)
    plain, _ = snnc.convert(DIGITS / "model.onnx", wanted, preprocessing=PREPROCESSING)
    data = DIGITS / "calibration"
    later, _ = snnc.calibrate(plain, wanted, data=data, reading=FEW)
    at_once, _ = snnc.convert(DIGITS / "model.onnx", wanted, data=data, preprocessing=PREPROCESSING, reading=FEW)
    assert later.provenance == at_once.provenance
    x = torch.randn(1, 8, 1, 8, 8)
    results = [run(c.snn, {c.snn.inputs[0]: x}, c.snn.outputs, Schedule(4)) for c in (later, at_once)]
    assert all(torch.equal(a, b) for a, b in zip(results[0].values(), results[1].values(), strict=True))


def test_steps_below_one_are_refused():
    conversion, _ = snnc.convert(DIGITS / "model.onnx", recipe.load("quick"), preprocessing=PREPROCESSING)
    with pytest.raises(UsageError):
        snnc.evaluate(conversion, data=DIGITS / "test", timesteps=[0])


def test_intervals_hold_their_level():
    """Of many simulated evaluations, about 95 % of the paired intervals hold the true drop."""
    generator = torch.Generator().manual_seed(0)
    truth, held = 0.03 - 0.01, 0
    for _ in range(400):
        draws = torch.rand(500, generator=generator)
        lost, won = int((draws < 0.03).sum()), int(((draws >= 0.03) & (draws < 0.04)).sum())
        low, high = intervals.paired(lost, won, 500)
        held += low <= 100 * truth <= high
    assert 0.92 <= held / 400 <= 0.985


def test_the_fan_out_through_uneven_pooling_counts_every_neuron_once():
    pool = AveragePool((2, 2), (2, 2), (0, 0, 0, 0), (0, 0, 1, 1))
    nodes = [
        Node("x", Input((1, 3, 3)), ()),
        Node("spikes", neuron(), ("x",)),
        Node("pool", pool, ("spikes",)),
        Node("flat", Reshape((4,)), ("pool",)),
        Node("out", Linear(torch.ones(5, 4), None), ("flat",)),
    ]
    fan_out = connected(Graph.of(nodes, ["out"]))["out"].reach
    assert fan_out is not None
    assert torch.equal(fan_out["spikes"], torch.full((1, 3, 3), 5.0, dtype=torch.float64))


def test_a_dilated_max_pool_has_a_fan_out():
    nodes = [
        Node("x", Input((1, 6, 6)), ()),
        Node("spikes", neuron("if"), ("x",)),
        Node("pool", MaxPool((2, 2), (1, 1), (0, 0, 0, 0), (2, 2)), ("spikes",)),
        Node("flat", Reshape((16,)), ("pool",)),
        Node("out", Linear(torch.ones(3, 16), None), ("flat",)),
    ]
    fan_out = connected(Graph.of(nodes, ["out"]))["out"].reach
    assert fan_out is not None
    # Each of 16 windows passes one spike of its four neurons, to 3 targets.
    assert fan_out["spikes"].sum() == pytest.approx(16 * 3)


def test_a_single_output_is_a_decision():
    assert torch.equal(Classification().answers([torch.tensor([[-0.5], [0.5]])]), torch.tensor([0, 1]))
    assert torch.equal(Classification().answers([torch.tensor([[0.1, 0.9], [0.9, 0.1]])]), torch.tensor([1, 0]))


@pytest.mark.parametrize("slope", [0.25, -0.25])
@pytest.mark.parametrize("kind", ["two-phase", "dual-threshold"])
def test_negative_spikes_are_counted_whatever_they_weigh(kind, slope):
    layer = neurons[kind](torch.tensor([1.0]), torch.tensor([slope]))
    graph = Graph.of([Node("x", Input((3,)), ()), Node("spikes", layer, ("x",))], ["spikes"])
    found = {}
    run(graph, {"x": torch.tensor([[[-1.0, 0.5, -0.25]]])}, ["spikes"], Schedule(8), observe=found.__setitem__)
    assert layer.spikes(found["spikes"], Schedule(8)).tolist() == [[8.0, 4.0, 2.0]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_in_which_nothing_spikes_is_found_out(tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    torch.onnx.export(model, (torch.zeros(1, 1, 8, 8),), tmp_path / "m.onnx", dynamo=False)
    _, built = snnc.convert(tmp_path / "m.onnx", recipe.load("quick"))
    assert "nothing-spikes" in [finding.code for finding in built.findings]


def test_average_pooling_in_the_place_of_max_pooling_is_measured_as_a_change():
    wanted = recipe.load("quick", overrides=["passes.treat-max-pool.method=average"])
    _, built = snnc.convert(DIGITS / "model.onnx", wanted, data=DIGITS / "calibration", preprocessing=PREPROCESSING)
    assert built.layers[-1].error is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantized_networks_at_other_steps_are_corrected_for_them(tmp_path):
    torch.manual_seed(0)

    class Quantized(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
            self.out = torch.nn.Linear(512, 10)

        def forward(self, x):
            y = torch.clip(self.conv(x) / 2.0, 0, 1)
            return self.out((torch.round(y * 7) / 7 * 2.0).flatten(1))

    path = tmp_path / "m.onnx"
    torch.onnx.export(Quantized().eval(), (torch.zeros(1, 1, 8, 8),), path, dynamo=False)
    errors = {}
    for correct in ("true", "false"):
        overrides = [f"passes.correct-residual-noise.{option}={correct}" for option in ("weights", "bias")]
        _, built = snnc.convert(
            path,
            recipe.load("quick", timesteps=2, overrides=overrides),
            data=DIGITS / "calibration",
            preprocessing=PREPROCESSING,
        )
        errors[correct] = built.summary.output_error
        assert "levels-differ" in [finding.code for finding in built.findings]
    assert errors["true"] < errors["false"]


def test_the_disk_filling_up_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(DataError) as caught:
        snnc.convert(
            DIGITS / "model.onnx", recipe.load("quick"), data=DIGITS / "calibration", preprocessing=PREPROCESSING
        )
    assert "TMPDIR" in caught.value.hint
