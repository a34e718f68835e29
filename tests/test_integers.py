"""Whole numbers: what quantize-weights promises can be read from the network alone."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import snnc
from snnc import ops
from snnc.analysis.integers import channel_thresholds, synapses, widths, with_synapses
from snnc.analysis.units import input_values, membranes, spike_values
from snnc.artifact import load_conversion, save_conversion
from snnc.data.preprocessing import Preprocessing
from snnc.errors import PreconditionError, UsageError
from snnc.ir import Graph
from snnc.neurons import Neuron, neurons
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.ops import ConvTranspose, Weighted
from snnc.passes.quantize_weights import QuantizeWeights
from snnc.pipeline import apply_recipe
from snnc.recipe import load, override, pass_name, shipped
from snnc.report import build
from tests.support import Network, calibration, in_memory, normal, outputs, random_network, relu, spiking, uniform

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
MEAN = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")


def images(seed: int = 7) -> Tensor:
    return normal(24, 3, 8, 8, seed=seed)


def spiking_network(seed: int) -> Graph:
    return random_network(seed, spiking("if", "two-phase"))


def residual() -> Graph:
    """A block whose spikes skip two layers, by way of a slice and a pad, and a read-out behind a pool."""
    net = Network((3, 8, 8))
    first = neuron(net, net.conv("x", 4))
    inner = neuron(net, net.conv(first, 6))
    short = net.add(ops.Pad((1, 0, 0, 1, 0, 0)), first)
    second = neuron(net, net.add(ops.Add(), net.conv(inner, 6), short))
    third = neuron(net, net.add(ops.Add(), net.conv(second, 6), second))
    net.linear(net.flat(net.add(ops.AveragePool((4, 4), (4, 4), (0,) * 4, (0,) * 4), third)), 5)
    return net.graph()


def neuron(net: Network, value: str) -> str:
    return net.add(IntegrateAndFire(0.3 + net.random(net.shapes[value][0], 1, 1).abs()), value)


def whole(weights: Tensor, others: Tensor, bits: int) -> bool:
    """Whether there is one unit of which all are multiples, the weights at most 2^(bits - 1) - 1: by brute force."""
    both, largest = torch.cat([weights, others]), float(weights.abs().max())
    counts = [both * (count / largest) for count in range(1, 2 ** (bits - 1))]
    return any(bool(((quotients - quotients.round()).abs() < 2e-2).all()) for quotients in counts)


@pytest.mark.parametrize("bits", [8, 6, 4, 2])
@pytest.mark.parametrize("seed", range(4))
def test_every_weight_and_threshold_is_whole_in_the_unit_of_its_channel(seed: int, bits: int) -> None:
    graph = spiking_network(seed)
    rounded = QuantizeWeights(bits=bits)(graph, calibration(graph, images()))
    values = spike_values(rounded)
    looked = 0
    # The brute force below takes its time: a few channels of every layer will do.
    for membrane in membranes(rounded):
        if not membrane.whole or not membrane.neuron or membrane.skips:
            continue
        parts = [synapses(rounded.op(name), input_values(rounded, name, values)) for name in membrane.layers]
        thresholds = channel_thresholds(rounded, membrane.neuron)
        potentials = rounded.op(membrane.neuron).potential.flatten().double()
        for channel, threshold in enumerate(thresholds[:3]):
            row = torch.cat([part[channel] for part in parts])
            if not row.any():
                continue
            biases = [op.bias[channel] for name in membrane.layers if (op := rounded.op(name)).bias is not None]
            others = torch.stack([threshold, threshold * potentials[channel], *(bias.double() for bias in biases)])
            assert whole(row, others, bits)
            assert not whole(row + 1e-2 * row.abs().max() * normal(len(row)), others, bits)
            looked += 1
    assert looked > 5


@pytest.mark.parametrize("make", [*(lambda s=s: spiking_network(s) for s in range(4)), residual])
def test_the_widths_are_those_asked_for(make) -> None:
    graph = make()
    rounded = QuantizeWeights(bits=5, threshold_bits=14, bias_bits=12, skip_bits=10)(
        graph, calibration(graph, images())
    )
    found = widths(rounded)
    assert {name for name, width in widths(graph).items() if width is not None} == set()
    whole = {name: width for name, width in found.items() if width is not None}
    assert {membrane.neuron or membrane.layers[0] for membrane in membranes(graph) if membrane.whole} == set(whole)
    for width in whole.values():
        assert 2 <= width.weights <= 5
        assert width.thresholds <= 14 and width.biases <= 12 and width.skips <= 10
    assert max(width.weights for width in whole.values()) == 5


def test_spikes_that_skip_a_layer_stay_as_they_are_and_thresholds_move_little() -> None:
    graph = residual()
    rounded = QuantizeWeights(bits=6)(graph, calibration(graph, images()))
    assert all(width is not None for width in widths(rounded).values())
    assert sum(bool(membrane.skips) for membrane in membranes(rounded)) == 2
    assert list(rounded.nodes) == list(graph.nodes)
    for name, op in rounded.ops(Neuron).items():
        old = graph.op(name)
        assert float(((op.threshold - old.threshold) / old.threshold).abs().max()) < 0.05


def test_a_threshold_far_below_what_skips_is_raised_to_one_unit() -> None:
    net = Network((2, 4, 4))
    strong = net.add(IntegrateAndFire(torch.full((3, 1, 1), 5.0)), net.conv("x", 3))
    net.add(IntegrateAndFire(torch.full((3, 1, 1), 1e-3)), net.add(ops.Add(), net.conv(strong, 3), strong), name="weak")
    net.conv("weak", 2)
    graph = net.graph()
    rounded = QuantizeWeights(bits=8)(graph, calibration(graph))
    assert all(width is not None and width.skips <= 8 for width in widths(rounded).values())
    torch.testing.assert_close(rounded.op("weak").threshold, torch.full((3, 1, 1), 5.0 / 127))


def test_more_bits_cost_less() -> None:
    def error(bits: int, seed: int) -> float:
        graph, x = spiking_network(seed), images(1)
        rounded = QuantizeWeights(bits=bits)(graph, calibration(graph, images()))
        (plain,), (other,) = outputs(graph, x, 32), outputs(rounded, x, 32)
        return float((other - plain).norm() / plain.norm())

    errors = [sum(error(bits, seed) for seed in range(4)) for bits in (3, 5, 8)]
    assert errors[0] > errors[1] > errors[2]


def test_the_bias_takes_up_the_mean_change() -> None:
    net = Network((3, 8, 8))
    hidden = neuron(net, net.conv("x", 6, name="before"))
    net.conv(hidden, 5, name="layer")
    graph, x = net.graph(), images()
    # One unit for biases that is too fine to matter.
    made = [QuantizeWeights(bits=3, bias=b)(graph, calibration(graph, x, 8)) for b in (True, False)]
    z, with_bias, without = (outputs(each, x, 8)[0].movedim(1, 0).flatten(1).mean(1) for each in (graph, *made))
    assert float((with_bias - z).norm()) < 0.7 * float((without - z).norm())


def test_without_images_weights_are_rounded_all_the_same() -> None:
    graph = spiking_network(2)
    rounded = QuantizeWeights()(graph, calibration(graph))
    assert all(width is not None and width.weights <= 8 for width in widths(rounded).values())


def test_what_is_no_sum_of_equal_spikes_is_said_to_be_real() -> None:
    net = Network((3, 8, 8))
    left, right = neuron(net, net.conv("x", 4)), neuron(net, net.conv("x", 4))
    both = net.add(ops.Add(), left, right)
    last = neuron(net, net.conv(both, 4, name="behind"))
    slope = net.add(neurons["dual-threshold"](torch.tensor(0.5), torch.tensor(0.1)), net.conv(last, 4))
    net.conv(slope, 2, name="leaky")
    graph = net.graph()
    values = spike_values(graph)
    assert values[both] is None and values[slope] is None and values[left] is not None
    for name in ("behind", "leaky"):
        assert input_values(graph, name, values) is None
    found = widths(QuantizeWeights()(graph, calibration(graph)))
    assert {name for name, width in found.items() if width is None} == {last, "leaky"}


def test_what_neither_scales_nor_shifts_changes_no_unit() -> None:
    net = Network((3, 8, 8))
    same = net.add(ops.Affine(None, None), net.conv("x", 4, name="layer"))
    behind = net.add(ops.Affine(None, None), neuron(net, same))
    net.conv(behind, 2, name="read-out")
    graph = net.graph()
    values = spike_values(graph)
    assert torch.equal(values[behind], values[graph.nodes[behind].inputs[0]])
    (first, last) = membranes(graph)
    assert (first.layers, first.constants, first.whole) == (("layer",), (), True) and last.layers == ("read-out",)


@pytest.mark.parametrize("value", [None, uniform(0.2, 2, 6)])
@pytest.mark.parametrize(
    "layer",
    [
        ops.Conv(normal(4, 3, 3, 3), None, (1, 1), (1,) * 4, (1, 1), 2),
        ops.Linear(normal(5, 6), None),
        ConvTranspose(normal(6, 2, 3, 3), None, (2, 2), (1,) * 4, (0, 0), (1, 1), 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_synapses_can_be_put_back(layer: Weighted, value: Tensor | None) -> None:
    again = with_synapses(layer, synapses(layer, value), value)
    torch.testing.assert_close(again.weight, layer.weight)
    # Row c drives channel c, and no other.
    probe = torch.zeros_like(synapses(layer, value))
    probe[1] = 1
    shape = (1, 6, 4, 4) if not isinstance(layer, ops.Linear) else (1, 6)
    reached = with_synapses(layer, probe, value)(torch.ones(shape))
    assert reached.movedim(1, 0).flatten(1).abs().sum(1).nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"bits": 1}, "from 2 to"),
        ({"bits": 40}, "from 2 to"),
        ({"bits": 8, "threshold_bits": 4}, "at least as many"),
        ({"images": 0}, "start at 1"),
    ],
)
def test_impossible_widths_are_refused(options: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        QuantizeWeights(**options)


def test_the_pass_waits_for_the_neurons() -> None:
    early = load("quick").passes[:-1]
    how = dataclasses.replace(load("quick"), passes=(*early, QuantizeWeights()))
    with pytest.raises(PreconditionError, match="not yet"):
        apply_recipe(random_network(0, relu), how, in_memory(random_network(0, relu), images()))


@pytest.mark.parametrize("name", shipped())
def test_weight_bits_appends_the_pass_or_sets_its_option(name: str) -> None:
    plain = load(name)
    once = load(name, weight_bits=6)
    assert once.passes == (*plain.passes, QuantizeWeights(bits=6))
    twice = override(once, weight_bits=4, overrides=["passes.quantize-weights.skip-bits=9"])
    assert twice.passes == (*plain.passes, QuantizeWeights(bits=4, skip_bits=9))
    assert [pass_name(step) for step in twice.passes].count("quantize-weights") == 1


def test_weight_bits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="quantize-weights"):
        load("quick", weight_bits=1)


@pytest.fixture(scope="module")
def digits():
    """The accuracy on the digits by the bits of the weights, and one of the conversions."""

    def converted(bits: int | None):
        how = load("quick", timesteps=8, weight_bits=bits)
        made, _ = snnc.convert(DIGITS / "model.onnx", how, data=DIGITS / "calibration", preprocessing=MEAN)
        (row,) = snnc.evaluate(made, data=DIGITS / "test").rows
        return made, row.accuracy

    return {bits: converted(bits) for bits in (None, 8, 6, 4)}


def test_the_price_on_digits_is_small(digits) -> None:
    plain = digits[None][1]
    assert plain - digits[8][1] <= 1.0
    assert plain - digits[6][1] <= 2.0
    assert plain - digits[4][1] <= 5.0


def test_a_saved_network_proves_its_integers(digits, tmp_path: Path) -> None:
    made, _ = digits[8]
    path = tmp_path / "digits.snn"
    save_conversion(made, path)
    found = widths(load_conversion(path).snn)
    assert found and all(width is not None and width.weights <= 8 for width in found.values())


def test_the_report_states_the_price(digits) -> None:
    (finding,) = [f for f in digits[4][0].findings if f.code == "quantized-weights"]
    assert "weights of 4 bits" in finding.message
    assert not [f for f in digits[None][0].findings if f.code in ("quantized-weights", "real-weights")]
    assert not [f for f in build(digits[8][0]).findings if f.code == "real-weights"]
