"""Whole numbers: what quantize-weights promises can be read from the network alone."""

import dataclasses
import functools
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from torch import Tensor

import snnc
from snnc import ops
from snnc.actions.check_vectors import check_vectors
from snnc.actions.export import export
from snnc.analysis.integers import channel_thresholds, in_reals, saturating, synapses, widths, with_synapses
from snnc.analysis.units import input_values, membranes, spike_values
from snnc.artifact import load_conversion, save_conversion
from snnc.data.dataset import Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import MemorySamples
from snnc.errors import DataError, ModelError, PreconditionError, UsageError
from snnc.feeds import Feeds
from snnc.formats.c.engine import NoCompiler
from snnc.formats.format import formats
from snnc.formats.integers import interpreter
from snnc.formats.verification import verify
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron, neurons
from snnc.neurons.base import retimed, stretched
from snnc.neurons.choice import chosen
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.ops import ConvTranspose, Weighted
from snnc.passes.quantize_weights import QuantizeWeights
from snnc.pipeline import apply_recipe
from snnc.recipe import load as load_recipe
from snnc.recipe import override, pass_name, shipped
from snnc.report import build
from snnc.run import Program
from snnc.schedule import Schedule
from tests.support import Network, calibration, in_memory, normal, outputs, random_network, relu, spiking, uniform
from tests.test_export_spiking_onnx import conversion

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
MEAN = Preprocessing(mean=(0.31,), std=(0.38,), channels="gray")

pytestmark = pytest.mark.usefixtures("counted_shortly")


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
            unit = rounded.op(membrane.neuron).unit.flatten()[channel].double()
            # Half of what a current is counted in is on top, so that no sum of whole numbers lies at a threshold.
            start = threshold * potentials[channel] - unit / 2
            others = torch.stack([threshold, start, *(bias.double() for bias in biases)])
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
    errors, x = dict.fromkeys((3, 5, 8), 0.0), images(1)
    for graph in map(spiking_network, range(4)):
        (plain,) = outputs(graph, x, 8)
        for bits in errors:
            (other,) = outputs(QuantizeWeights(bits=bits)(graph, calibration(graph, images())), x, 8)
            errors[bits] += float((other - plain).norm() / plain.norm())
    assert errors[3] > errors[5] > errors[8]


def test_the_bias_takes_up_the_mean_change() -> None:
    net = Network((3, 8, 8))
    hidden = neuron(net, net.conv("x", 6, name="before"))
    net.conv(hidden, 5, name="layer")
    graph, x = net.graph(), images()
    # One unit for biases that is too fine to matter.
    made = [QuantizeWeights(bits=3, bias=b, correct=False)(graph, calibration(graph, x, 8)) for b in (True, False)]
    z, with_bias, without = (outputs(each, x, 8)[0].movedim(1, 0).flatten(1).mean(1) for each in (graph, *made))
    assert float((with_bias - z).norm()) < 0.7 * float((without - z).norm())


def test_weights_that_are_rounded_later_make_up_for_the_others() -> None:
    net = Network((3, 8, 8))
    net.linear(net.flat(neuron(net, net.conv("x", 6, name="layer"))), 5)
    graph, x = net.graph(), normal(24, 3, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    made = [QuantizeWeights(bits=4, correct=c, bias=False)(graph, calibration(graph, x)) for c in (True, False)]
    assert all(width is not None and width.weights <= 4 for width in widths(made[0]).values())
    z, corrected, nearest = (each.op("layer")(x) for each in (graph, *made))
    assert float((corrected - z).norm()) < 0.85 * float((nearest - z).norm())


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


def test_what_stands_beside_real_numbers_is_rounded_all_the_same() -> None:
    net = Network((3, 8, 8))
    scaled = net.add(ops.Affine(net.random(4, 1, 1).abs(), None), net.conv("x", 4))
    neuron(net, net.add(ops.Add(), scaled, net.conv("x", 4, name="beside")))
    rounded = quantized(net.graph())
    assert [membrane.whole for membrane in membranes(rounded) if membrane.neuron] == [False]
    assert rounded.op("beside").unit is not None
    assert not torch.equal(rounded.op("beside").weight, net.graph().op("beside").weight)


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
        ({"input_bits": 0}, "inputs have from 2"),
        ({"skip_bits": 0}, "at least as many"),
        ({"images": 0}, "start at 1"),
    ],
)
def test_impossible_widths_are_refused(options: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        QuantizeWeights(**options)


def test_layers_may_have_widths_of_their_own() -> None:
    graph = pooled("if")
    first, last = next(iter(graph.ops(Neuron))), membranes(graph)[-1].name
    found = widths(QuantizeWeights(bits=4, layers={first: 8, last: 2})(graph, calibration(graph, images_of(graph))))
    assert [width.weights for width in found.values() if width is not None] == [8, 4, 4, 4, 2]
    with pytest.raises(PreconditionError, match="unknown layer 'firs'"):
        QuantizeWeights(layers={"firs": 8}).requires(graph)
    with pytest.raises(ValueError, match="from 2 to"):
        QuantizeWeights(layers={first: 1})


def test_the_pass_waits_for_the_neurons() -> None:
    early = load_recipe("quick").passes[:-2]
    how = dataclasses.replace(load_recipe("quick"), passes=(*early, QuantizeWeights()))
    with pytest.raises(PreconditionError, match="not yet"):
        apply_recipe(random_network(0, relu), how, in_memory(random_network(0, relu), images()))


@pytest.mark.parametrize("name", shipped())
def test_weight_bits_appends_the_pass_or_sets_its_option(name: str) -> None:
    plain = load_recipe(name)
    once = load_recipe(name, weight_bits=6)
    assert once.passes == (*plain.passes, QuantizeWeights(bits=6))
    twice = override(once, weight_bits=4, overrides=["passes.quantize-weights.skip-bits=9"])
    assert twice.passes == (*plain.passes, QuantizeWeights(bits=4, skip_bits=9))
    assert [pass_name(step) for step in twice.passes].count("quantize-weights") == 1


def test_weight_bits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="quantize-weights"):
        load_recipe("quick", weight_bits=1)


@pytest.fixture(scope="module")
def digits():
    """The accuracy on the digits by the bits of the weights, and one of the conversions."""

    def converted(bits: int | None):
        how = load_recipe("quick", timesteps=8, weight_bits=bits)
        data, few = DIGITS / "calibration", Reading(limit=40)
        made, _ = snnc.convert(DIGITS / "model.onnx", how, data=data, preprocessing=MEAN, reading=few)
        (row,) = snnc.evaluate(made, data=DIGITS / "test", reading=Reading(limit=120)).rows
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


def pooled(*kinds: str) -> Graph:
    """A block around an average that no power of two divides, a maximum, and spikes that skip a layer."""
    net = Network((3, 9, 9))
    choose = itertools.cycle(kinds)

    def fire(value: str) -> str:
        threshold = 0.3 + net.random(net.shapes[value][0], 1, 1).abs()
        how = chosen(next(choose), place="neuron")
        return net.add(how.standing_for(ops.QuantizedRelu(threshold * 3, 3), Schedule(3)), value)

    first = fire(net.conv("x", 4))
    block = fire(net.add(ops.Add(), net.conv(first, 4), first))
    largest = net.add(ops.MaxPool((2, 2), (2, 2), (1,) * 4, (1, 1)), fire(net.conv(block, 5)))
    mean = net.add(ops.AveragePool((3, 3), (1, 1), (0,) * 4, (0,) * 4), fire(net.conv(largest, 6)))
    net.linear(net.flat(mean), 5)
    return net.graph()


def averaged() -> Graph:
    """Averages of spikes in windows that the border cuts, of currents with a constant and a skip, and over axes."""
    net = Network((3, 8, 8))
    cut = ops.AveragePool((3, 3), (2, 2), (0,) * 4, (0, 0, 1, 1))
    spikes = neuron(net, net.conv("x", 6))
    currents = net.conv(net.add(cut, spikes), 6)
    shifted = net.add(ops.Affine(None, net.random(6, 1, 1)), currents)
    skipped = net.add(ops.AveragePool((2, 2), (2, 2), (0,) * 4, (0,) * 4), spikes)
    inner = neuron(net, net.add(cut, net.add(ops.Add(), shifted, skipped)))
    net.linear(net.flat(neuron(net, net.add(ops.Mean((2, 3)), net.conv(inner, 6)))), 5)
    return net.graph()


@pytest.mark.parametrize("behind", [False, True])
def test_averages_of_too_many_parts_stay_real_and_keep_the_bits_of_weights(behind: bool) -> None:
    net = Network((3, 8, 8))
    cut = ops.AveragePool((7, 7), (1, 1), (0,) * 4, (3,) * 4)
    value = neuron(net, net.conv("x", 6))
    value = net.add(cut, net.conv(value, 6)) if behind else net.conv(net.add(cut, value), 6)
    net.linear(net.flat(neuron(net, value)), 5)
    graph = net.graph()
    rounded = QuantizeWeights(bits=8)(graph, calibration(graph, images_of(graph)))
    found = widths(rounded)
    assert None in found.values() and {width.weights for width in found.values() if width is not None} == {8}
    for before, after in zip(graph.ops(Weighted).values(), rounded.ops(Weighted).values(), strict=True):
        assert (after.weight - before.weight).norm() < 0.05 * before.weight.norm()


def test_averages_are_sums_of_parts() -> None:
    graph = averaged()
    rounded = QuantizeWeights(bits=5)(graph, calibration(graph, images_of(graph)))
    first, second, third, _ = membranes(rounded)
    assert first.whole and second.whole and third.whole
    assert {second.parts[name] for name in (*second.layers, *second.constants, *second.skips)} == {36}
    assert [third.parts[name] for name in third.layers] == [4] and {*first.parts.values()} == {1}
    samples = MemorySamples(Feeds({"x": images_of(graph, seed=1)}))
    # Programs of torch take their time to be made, step by step.
    for name, timesteps in (("integers", 2), ("onnx", 2), ("torch", 1), ("c", 2)):
        made = conversion(rounded, Schedule(timesteps))
        written = formats[name]().write(made)
        for engine in formats[name]().engines(written, made):
            match = verify(made, written, engine, samples)
            assert isinstance(engine, NoCompiler) or (match.equal, match.together) == (100, 100), name
            assert match.output_error is None or match.output_error < 1e-5


@pytest.mark.parametrize(
    ("kinds", "schedule", "bits", "engines"),
    [
        (("if",), Schedule(5), 8, ("onnx", "c", "integers")),
        (("if",), Schedule(3, rehearsal=2), 4, ("onnx", "c", "integers")),
        (("cif", "graded"), Schedule(3, 3), 4, ("onnx", "c", "integers")),
        (("graded(levels=6,max-event=2,first-event=4)",), Schedule(2, 3), 8, ("c", "integers")),
        (("graded(levels=5,max-event=2)", "if"), Schedule(3, 2, rehearsal=2), 8, ("c", "integers")),
        (("dual-threshold", "if"), Schedule(4), 8, ("onnx", "c")),
        (("two-phase",), Schedule(7), 8, ("onnx", "torch", "integers")),
        (("two-phase", "radix"), Schedule(7), 4, ("onnx",)),
    ],
    ids=str,
)
def test_engines_fire_the_same_spikes(
    kinds: tuple[str, ...], schedule: Schedule, bits: int, engines: tuple[str, ...]
) -> None:
    graph = pooled(*kinds)
    made = conversion(QuantizeWeights(bits=bits)(graph, calibration(graph, images_of(graph))), schedule)
    assert all(width is not None for width in widths(made.snn).values())
    samples = MemorySamples(Feeds({"x": images_of(made.snn, seed=1)}))
    for name in engines:
        form = formats[name]()
        written = form.write(made)
        for engine in form.engines(written, made):
            match = verify(made, written, engine, samples)
            if isinstance(engine, NoCompiler):
                continue
            assert (match.equal, match.together) == (100, 100), (name, match.worst_layer)
            assert match.output_error is not None and match.output_error < 1e-5


@pytest.mark.parametrize(
    ("kinds", "schedule", "engines"),
    [
        (("if",), Schedule(6), ("integers", "c", "onnx")),
        (("if",), Schedule(3, rehearsal=2), ("integers", "c")),
        (("cif", "if"), Schedule(4, 3), ("integers", "c", "onnx")),
        (("graded(levels=6,max-event=2,first-event=4,rest=1)",), Schedule(2, 3), ("integers", "c", "onnx")),
    ],
    ids=str,
)
def test_saturating_membranes_lose_the_same_everywhere(
    kinds: tuple[str, ...], schedule: Schedule, engines: tuple[str, ...]
) -> None:
    graph = pooled(*kinds)
    x = 6 * images_of(graph)
    made = conversion(QuantizeWeights(bits=4, input_bits=3, membrane_bits=5)(graph, calibration(graph, x)), schedule)
    wide = dataclasses.replace(made, snn=saturating(made.snn, None))
    narrow, all_hold = ([w for w in widths(c.snn, schedule).values() if w.thresholds] for c in (made, wide))
    assert all(width.membranes == 5 for width in narrow)
    assert all(width.membranes > 5 and width.thresholds <= 5 for width in all_hold)
    samples = MemorySamples(Feeds({"x": 6 * images_of(graph, seed=1)}))
    for name in engines:
        written = formats[name]().write(made)
        for engine in formats[name]().engines(written, made):
            match = verify(made, written, engine, samples)
            assert isinstance(engine, NoCompiler) or (match.equal, match.together) == (100, 100), name
            # Something is lost: where all is held, spikes are others.
            assert name != "integers" or verify(wide, written, engine, samples).together < 100


@pytest.mark.parametrize(
    ("kind", "bits", "complaint", "hint"),
    [
        ("if", 4, "needs membranes of", "--membrane-bits"),
        ("if", 1, "from 2 to 24", "--membrane-bits"),
        ("dual-threshold", 16, "do not saturate", "--neuron if"),
        ("two-phase", 16, "do not saturate", "--neuron if"),
    ],
)
def test_membranes_that_cannot_be_are_refused_by_name(kind: str, bits: int, complaint: str, hint: str) -> None:
    graph = quantized(pooled(kind))
    with pytest.raises(ModelError, match=complaint) as caught:
        saturating(graph, bits)
    assert caught.value.place and hint in caught.value.hint


def test_real_numbers_saturate_nowhere_and_nir_has_no_such_membranes() -> None:
    with pytest.raises(ModelError, match="real numbers"):
        saturating(pooled("if"), 16)
    with pytest.raises(UsageError, match="--membrane-bits"):
        load_recipe("quick", membrane_bits=16)
    assert load_recipe("quick", weight_bits=6, membrane_bits=16).passes[-1].membrane_bits == 16
    with pytest.raises(ModelError, match="saturate"):
        formats["nir"]().check(conversion(saturating(quantized(pooled("if")), 20), Schedule(3)))
    retimed_once = retimed(saturating(quantized(pooled("graded")), 20), Schedule(4), Schedule(5))
    assert all(op.membrane_bits is None for op in retimed_once.ops(Neuron).values())


def test_vectors_of_an_export_whose_membranes_saturate_are_those_of_the_network(tmp_path: Path) -> None:
    graph = pooled("if")
    x = 6 * images_of(graph)
    made = conversion(QuantizeWeights(bits=4, input_bits=3)(graph, calibration(graph, x)), Schedule(4))
    exported = export(made, "integers", vectors=3, membrane_bits=8)
    (tmp_path / "v.safetensors").write_bytes(exported.vectors)
    found = check_vectors(made, tmp_path / "v.safetensors")
    assert found.found.equal, found.sentence
    other = dataclasses.replace(made, schedule=Schedule(5))
    with pytest.raises(DataError, match="another network"):
        check_vectors(other, tmp_path / "v.safetensors")


def images_of(graph: Graph, seed: int = 7) -> Tensor:
    return normal(24, *graph.shapes["x"], seed=seed)


def test_what_arrives_is_rounded_to_whole_numbers_and_never_lies_at_a_threshold() -> None:
    graph = pooled("if")
    rounded = QuantizeWeights(bits=4)(graph, calibration(graph, images_of(graph)))
    seen = []

    def through(node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        if isinstance(node.op, Neuron):
            potential = node.op.potentials(stretched(inputs[0], Schedule(4)), Schedule(4)) / node.op.unit
            torch.testing.assert_close(
                potential - potential.floor(), torch.full_like(potential, 0.5), atol=1e-2, rtol=0
            )
            seen.append(node.name)
        return compute(*inputs)

    feeds = Feeds({"x": images_of(graph, seed=2)})
    Program(rounded, Schedule(4), trains=True)(feeds, through=through)
    assert seen == list(rounded.ops(Neuron))


def test_what_enters_is_a_whole_number_of_a_power_of_two() -> None:
    graph = pooled("if")
    x = images_of(graph) * 3
    (entry,) = QuantizeWeights(input_bits=6)(graph, calibration(graph, x)).ops(Input).values()
    assert entry.most == 31 and math.log2(entry.unit) == round(math.log2(entry.unit))
    assert x.abs().max() / 2 < entry.most * entry.unit and entry.most * entry.unit >= x.abs().max()
    assert float((entry.entered(x) - x).abs().max()) <= entry.unit / 2
    assert float(entry.entered(x * 100).abs().max()) == entry.most * entry.unit


def test_other_time_steps_or_weights_are_no_whole_numbers_any_more() -> None:
    graph = pooled("graded")
    rounded = QuantizeWeights()(graph, calibration(graph))
    after = retimed(rounded, Schedule(4), Schedule(5))
    assert all(op.unit is None for op in after.ops(Neuron).values())
    (name, *_) = rounded.ops(Weighted)
    layer = rounded.op(name)
    assert layer.with_kernel(layer.kernel() * 1.1, layer.bias).unit is None
    assert all(width is None for width in widths(in_reals(rounded)).values())


@pytest.mark.parametrize("graph", [pooled("if"), averaged()], ids=["pooled", "averaged"])
def test_no_sum_and_no_potential_is_wider_than_its_bound(graph: Graph) -> None:
    schedule = Schedule(6)
    rounded = QuantizeWeights(bits=5)(graph, calibration(graph, images_of(graph)))
    bounds = widths(rounded, schedule)
    seen: dict[str, tuple[float, float]] = {}

    def through(node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        if isinstance(node.op, Neuron):
            currents = stretched(inputs[0], schedule)
            potentials = node.op.potentials(currents, schedule)
            seen[node.name] = tuple(float((part / node.op.unit).abs().max()) for part in (currents, potentials))
        return compute(*inputs)

    # The largest image that may enter, of all signs.
    feeds = Feeds({"x": normal(32, *graph.shapes["x"], seed=3).sign() * 1e6})
    Program(rounded, schedule, trains=True)(feeds, through=through)
    for name, (current, potential) in seen.items():
        assert current < 2 ** (bounds[name].sums - 1) and potential < 2 ** (bounds[name].membranes - 1)
    first = next(iter(seen))
    assert seen[first][0] > 2 ** (bounds[first].sums - 1) / 8


@pytest.mark.parametrize(("profile", "least"), [("portable", 100), ("if", 100), ("unit", 99.9)])
def test_nir_holds_whole_numbers(profile: str, least: float) -> None:
    pytest.importorskip("nir")
    net = Network((3, 8, 8))
    rest = torch.tensor(0.0)
    value = "x"
    padded = ops.AveragePool((3, 3), (1, 1), (1,) * 4, (0,) * 4)
    halved = ops.AveragePool((2, 2), (2, 2), (0,) * 4, (0,) * 4)
    for spikes, currents in (((), ()), ((padded,), ()), ((), (halved, padded))):
        value = functools.reduce(lambda before, pool: net.add(pool, before), spikes, value)
        value = functools.reduce(lambda before, pool: net.add(pool, before), currents, net.conv(value, 6))
        value = net.add(IntegrateAndFire(0.3 + net.random(6, 1, 1).abs(), potential=rest), value)
    net.linear(net.flat(net.add(ops.AveragePool((4, 4), (4, 4), (0,) * 4, (0,) * 4), value)), 5)
    graph = net.graph()
    made = conversion(QuantizeWeights(bits=4)(graph, calibration(graph, images_of(graph))), Schedule(8))
    form = formats["nir"](profile=profile)
    written = form.write(made)
    engine = next(form.engines(written, made))
    match = verify(made, written, engine, MemorySamples(Feeds({"x": images_of(graph, seed=1)})))
    assert match.verdict == "passed" and match.together is not None and match.together >= least
    whole = [node for node in written.file.front.graph.nodes.values() if type(node).__name__ == "IF"]
    thresholds = np.concatenate([node.v_threshold.ravel() for node in whole])
    assert bool((thresholds == thresholds.round()).all()) == (profile != "unit")


def test_nir_keeps_spikes_that_skip_layers_whole_whatever_moves_them() -> None:
    pytest.importorskip("nir")
    net = Network((3, 8, 8))
    rest = torch.tensor(0.0)

    def at_rest(value: str) -> str:
        return net.add(IntegrateAndFire(0.3 + net.random(net.shapes[value][0], 1, 1).abs(), potential=rest), value)

    first = at_rest(net.conv("x", 4))
    strided = net.add(ops.Slice(3, 0, 8, 2), net.add(ops.Slice(2, 1, 8, 2), first))
    widened = net.add(ops.Pad((1, 0, 0, 1, 0, 0)), net.add(ops.Take(1, (2, 0, 1, 3)), strided))
    second = at_rest(net.add(ops.Add(), net.conv(first, 6, stride=2), widened))
    net.linear(net.flat(second), 5)
    graph = net.graph()
    made = conversion(QuantizeWeights(bits=4)(graph, calibration(graph, images_of(graph))), Schedule(8))
    form = formats["nir"]()
    written = form.write(made)
    nodes = written.file.front.graph.nodes.values()
    whole = [node.weight for node in nodes if hasattr(node, "weight")][:-1]
    assert len(whole) >= 3 and all(bool((weight == weight.round()).all()) for weight in whole)
    engine = next(form.engines(written, made))
    match = verify(made, written, engine, MemorySamples(Feeds({"x": images_of(graph, seed=1)})))
    assert (match.verdict, match.together) == ("passed", 100)


def test_files_of_integers_hold_whole_numbers_alone_twice(digits) -> None:
    written = formats["integers"]().write(digits[8][0])
    arrays = load(written.data)
    assert all(array.dtype.kind == "i" for name, array in arrays.items() if not name.endswith(".unit"))
    assert max(array.nbytes // array.size for name, array in arrays.items() if name.endswith(".weight")) == 1
    with np.load(io.BytesIO(written.beside[".npz"])) as archive:
        network = json.loads(str(archive["network"]))
        assert set(archive) == {*arrays, "network"}
        assert all(np.array_equal(archive[name], array) for name, array in arrays.items())
    header = json.loads(written.data[8 : 8 + int.from_bytes(written.data[:8], "little")])
    assert json.loads(header["__metadata__"]["network"]) == network
    assert network["schedule"]["timesteps"] == 8
    assert all(bits["weights"] <= 8 < bits["sums"] for bits in network["bits"].values())
    assert sum(bits["membranes"] > 0 for bits in network["bits"].values()) == len(network["layers"])


def test_the_interpreter_is_short_and_of_numpy_alone() -> None:
    text = Path(interpreter.__file__).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    assert re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE) == ["typing", "numpy"]


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (lambda: pooled("if"), UsageError, "real weights @ --format"),
        (lambda: quantized(pooled("dual-threshold")), ModelError, "nobody has said what this neuron counts"),
        (
            lambda: quantized(pooled("graded(levels=4,max-event=1,first-event=2)", "refine")),
            ModelError,
            "several units",
        ),
        (lambda: in_part(quantized(pooled("if"))), ModelError, "real numbers drive it"),
    ],
    ids=["floats", "neuron", "units", "part"],
)
def test_what_is_no_whole_number_is_refused_by_name(made, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        formats["integers"]().check(conversion(made(), Schedule(3)))
    said = f"{caught.value} {caught.value.hint}"
    assert (words in said and "convert with" in said) or "export" in said


def quantized(graph: Graph) -> Graph:
    return QuantizeWeights()(graph, calibration(graph))


def in_part(graph: Graph) -> Graph:
    """The network with one layer in real numbers."""
    name = [*graph.ops(Weighted)][1]
    return graph.with_ops({name: graph.op(name).with_kernel(graph.op(name).kernel() * 1.01, None)})
