"""Fit: every limit is kept or not kept exactly at its value, and every edit does what it says."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch

from snnc import cli, ops
from snnc.actions.inspect import inspect
from snnc.analysis.integers import widths
from snnc.artifact import load_conversion, save_conversion
from snnc.errors import UsageError
from snnc.formats.c import CFormat
from snnc.hardware import Fit, Misfit, Target, fit, load_target, target_names
from snnc.hardware.fit import Situation, _held
from snnc.hardware.network import CountedNetwork
from snnc.hardware.target import (
    Ability,
    Capacities,
    Capacity,
    Citation,
    Core,
    Cores,
    Demand,
    Maximum,
    Models,
    Permitted,
    target_from_plain,
)
from snnc.ir import Graph
from snnc.neurons import Neuron, neurons
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.temporal_bias import TemporalBias
from snnc.passes.quantize_weights import QuantizeWeights
from snnc.schedule import Schedule
from tests.support import Network, calibration, normal
from tests.test_export_spiking_onnx import conversion

SOURCE = (Citation("A data sheet", "https://example.org", "1"),)
DIGITS = Path(__file__).parent.parent / "examples" / "digits"
DATA = ("--data", DIGITS / "calibration", "--mean", "0.31", "--std", "0.38", "--channels", "gray")


def spike(net: Network, value: str, kind: str = "if") -> str:
    return net.add(
        neurons[kind](0.3 + net.random(net.shapes[value][0], *(1 for _ in net.shapes[value][1:])).abs()), value
    )


def plain(kind: str = "if", side: int = 8, pool: ops.Op | None = None) -> Graph:
    """Two convolutions, a pool, and a read-out that takes maps of any size."""
    net = Network((2, side, side))
    hidden = spike(net, net.conv("x", 6, kernel=5, stride=2, name="first"), kind)
    hidden = spike(net, net.conv(hidden, 12, name="second"), kind)
    net.add(pool or ops.Mean((2, 3), keep=False), hidden, name="pool")
    net.linear("pool" if pool is None else net.flat("pool"), 5, name="read-out")
    return net.graph()


def joined() -> Graph:
    """A shortcut, a concatenation, a grouped and a dilated convolution, and an oblong kernel."""
    net = Network((2, 8, 8))
    hidden = spike(net, net.conv("x", 4, name="first"))
    inner = spike(net, net.add(ops.Add(), net.conv(hidden, 4, groups=2, name="grouped"), hidden, name="sum"))
    both = net.add(ops.Concat(1), hidden, inner, name="both")
    kernel = ops.Conv(normal(4, 8, 1, 3), None, (1, 1), (0, 2, 0, 2), (1, 2))
    net.linear(net.flat(spike(net, net.add(kernel, both, name="dilated"))), 3)
    return net.graph()


def against(graph: Graph, timesteps: int = 4, **limits: Capacity) -> tuple[Misfit, ...]:
    return taken(graph, timesteps, **limits).misfits


def taken(graph: Graph, timesteps: int = 4, **limits: Capacity) -> Fit:
    return fit(graph, Schedule(timesteps), Target("toy", "Toy", {}, Capacities(**limits)))


def most(number: int) -> Maximum:
    return Maximum(SOURCE, number, "things")


def rounded(graph: Graph, **options: int) -> Graph:
    return QuantizeWeights(**options)(graph, calibration(graph))


# What the network ``plain`` needs, counted by hand.
NEEDS = {
    "neurons": 6 * 16 + 12 * 16,
    "synapses": 6 * 2 * 25 + 12 * 6 * 9 + 5 * 12,
    "memory": (6 * 2 * 25 + 12 * 6 * 9 + 5 * 12) * 4,
    "inputs": 2 * 64,
    "outputs": 5,
    "fan-in": max(2 * 25, 6 * 9, 12),
    "fan-out": 9 * 12,
    "destinations": 1,
    "input-size": 8,
    "output-size": 4,
    "channels": 12,
    "dense-inputs": 12,
    "global-pooling": 4,
    "weight-bits": 32,
    "levels": 4,
    "event-size": 1,
}


@pytest.mark.parametrize("limit", NEEDS)
def test_a_maximum_is_kept_at_its_value_and_not_below(limit: str) -> None:
    graph, field = plain(), limit.replace("-", "_")
    assert against(graph, **{field: most(NEEDS[limit])}) == ()
    found = against(graph, **{field: most(NEEDS[limit] - 1)})
    assert found and {misfit.limit for misfit in found} == {limit}
    assert all(misfit.needed == NEEDS[limit] and misfit.excess == 1 for misfit in found)
    assert all(misfit.sources == SOURCE and misfit.edit for misfit in found)


@pytest.mark.parametrize("limit", NEEDS)
def test_what_is_taken_of_a_maximum_is_told_at_the_layer_that_takes_most(limit: str) -> None:
    graph, field = plain(), limit.replace("-", "_")
    (use,) = taken(graph, **{field: most(2 * NEEDS[limit])}).uses
    assert (use.limit, use.taken, use.share) == (limit, NEEDS[limit], 0.5)
    (misfit, *_) = taken(graph, **{field: most(NEEDS[limit] - 1)}).misfits
    assert not use.layer or use.layer in graph.nodes
    assert (misfit.layer == "") == (use.layer == "")


def test_every_maximum_has_been_tried() -> None:
    fields = {field.name for field in dataclasses.fields(Capacities) if "Maximum" in str(field.type)}
    rest = {"bias_bits", "threshold_bits", "first_weight_bits"}
    assert fields == {limit.replace("-", "_") for limit in NEEDS} | rest


@pytest.mark.parametrize("part", ["weights", "biases", "thresholds"])
def test_widths_are_held_against_their_own_limits(part: str) -> None:
    graph = rounded(plain(), bits=6)
    needed = max(getattr(width, part) for width in widths(graph).values())
    field = {"weights": "weight_bits", "biases": "bias_bits", "thresholds": "threshold_bits"}[part]
    assert against(graph, **{field: most(needed)}) == ()
    (misfit, *_) = against(graph, **{field: most(needed - 1)})
    assert misfit.needed == needed and str(needed - 1) in misfit.edit


def test_first_layers_may_have_widths_of_their_own() -> None:
    graph = rounded(plain(), bits=6)
    found = against(graph, weight_bits=most(4), first_weight_bits=most(8))
    assert {misfit.layer for misfit in found} == {"second", "read-out"}


@pytest.mark.parametrize(
    ("limits", "layer", "edit"),
    [
        ({"kernel": Permitted(SOURCE, (1, 3), "positions")}, "first", "train with 3x3 kernels"),
        (
            {"first_kernel": Permitted(SOURCE, (7,), "positions"), "kernel": Permitted(SOURCE, (3,), "")},
            "first",
            "7x7 kernels",
        ),
        ({"stride": Permitted(SOURCE, (1,), "positions")}, "first", "a stride of 1"),
        ({"input_channels": Permitted(SOURCE, (1, 3), "channels")}, "x", "images of 1 channels"),
        ({"pooling": Permitted(SOURCE, (1, 2), "positions")}, "pool", "pool by 2, then by 2"),
        ({"pooling": Permitted(SOURCE, (3,), "positions")}, "pool", "train with pooling by 3"),
        ({"analog_input": Ability(SOURCE, False)}, "first", "send its spikes"),
        ({"neuron_models": Models(SOURCE, ("burst", "two-phase"))}, "", "--neuron burst"),
    ],
)
def test_what_is_no_number_is_told_too(limits: dict[str, Capacity], layer: str, edit: str) -> None:
    found = against(plain(), **limits)
    assert found and edit in found[0].edit
    assert not layer or {misfit.layer for misfit in found} == {layer}


@pytest.mark.parametrize(
    ("limits", "layer", "edit"),
    [
        ({"groups": Ability(SOURCE, False)}, "grouped", "one group"),
        ({"dilation": Ability(SOURCE, False)}, "dilated", "1x5 kernels with zeros between"),
        ({"square_kernels": Demand(SOURCE, True)}, "dilated", "3x3 kernels"),
        ({"additions": Ability(SOURCE, False)}, "sum", "without shortcuts"),
        ({"concatenations": Ability(SOURCE, False)}, "both", "without branches"),
        ({"destinations": most(1)}, "if", "at most 1 layers"),
    ],
)
def test_forms_that_do_not_exist_are_told(limits: dict[str, Capacity], layer: str, edit: str) -> None:
    (misfit,) = against(joined(), **limits)
    assert edit in misfit.edit and (layer == "if" or misfit.layer == layer)


@pytest.mark.parametrize("limits", [{name: Ability(SOURCE, True)} for name in ("groups", "dilation", "additions")])
def test_what_is_supported_is_no_misfit(limits: dict[str, Capacity]) -> None:
    assert against(joined(), **limits) == ()


def test_max_and_average_pools_are_told_apart() -> None:
    window = ((2, 2), (2, 2), (0,) * 4)
    no = Ability(SOURCE, False)
    for pool, limit in (
        (ops.MaxPool(*window, (1, 1)), "max-pooling"),
        (ops.AveragePool(*window, (0,) * 4), "average-pooling"),
    ):
        (misfit,) = against(plain(pool=pool), max_pooling=no, average_pooling=no)
        assert (misfit.layer, misfit.limit) == ("pool", limit)


FORMS: dict[str, tuple[ops.Op, str]] = {
    "activation": (ops.Relu(), "an activation that does not spike"),
    "leaky": (ops.LeakyRelu(torch.tensor(0.1)), "an activation that does not spike"),
    "normalization": (ops.BatchNorm(*(torch.ones(6) for _ in range(4)), 1e-5), "a normalization"),
    "moving bias": (TemporalBias(torch.ones(4, 6, 1, 1)), "a bias that changes"),
    "shifted spikes": (ops.Affine(None, torch.ones(6, 1, 1)), "a scale or shift"),
    "border": (ops.Pad((1,) * 4, 0.5), "a border of 0.5"),
    "scaled spikes": (ops.Affine(torch.full((6, 1, 1), 0.5), None), ""),
    "zeros": (ops.Pad((1,) * 4), ""),
    "slice": (ops.Slice(2, 0, 3), ""),
    "gathered": (ops.Take(1, (5, 4, 3, 2, 1, 0)), ""),
    "transposed": (ops.Transpose((0, 1, 3, 2)), ""),
    "reshaped": (ops.Reshape((6, 2, 8)), ""),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_no_rule_allows_does_not_fit(name: str) -> None:
    form, complaint = FORMS[name]
    net = Network((2, 8, 8))
    hidden = net.add(form, spike(net, net.conv("x", 6, kernel=5, stride=2)), name="form")
    net.linear(net.flat(spike(net, net.conv(hidden, 4))), 3)
    found = against(net.graph())
    assert [misfit.layer for misfit in found] == ["form"] * bool(complaint)
    for misfit in found:
        assert (misfit.limit, misfit.excess) == ("operations", None) and misfit.edit
        assert complaint in str(misfit.needed)


def test_windows_over_three_axes_fit_where_connections_are_synapses_of_their_own() -> None:
    net = Network((2, 4, 4, 4))
    hidden = spike(net, net.add(ops.Conv(normal(3, 2, 2, 2, 2), None, (1,) * 3, (0,) * 6, (1,) * 3), "x", name="conv"))
    pool = net.add(ops.AveragePool((2, 2, 2), (1, 1, 1), (0,) * 6, (0,) * 6), hidden, name="pool")
    net.linear(net.flat(pool), 3)
    found = against(net.graph())
    assert [(misfit.layer, misfit.limit) for misfit in found] == [("conv", "operations"), ("pool", "operations")]
    assert against(net.graph(), shared_kernels=Ability(SOURCE, False)) == ()


def test_frames_beside_one_another_share_a_kernel() -> None:
    net = Network((5, 2, 4, 4))
    hidden = spike(net, net.add(ops.Conv(normal(3, 2, 2, 2), None, (1, 1), (0,) * 4, (1, 1)), "x", name="conv"))
    net.linear(net.flat(hidden), 3)
    assert against(net.graph()) == ()
    layer = CountedNetwork(net.graph()).layers["conv"]
    assert (layer.before, layer.after, layer.neurons) == ((2, 4, 4), (3, 3, 3), 5 * 3 * 9)


@pytest.mark.parametrize("form", [ops.Relu(), ops.Affine(torch.tensor(0.5), torch.tensor(0.1)), ops.Pad((1,) * 4, 0.5)])
def test_what_is_done_to_the_input_is_done_before_the_chip(form: ops.Op) -> None:
    net = Network((2, 8, 8))
    net.linear(net.flat(spike(net, net.conv(net.add(form, "x"), 4))), 3)
    assert against(net.graph()) == ()


@pytest.mark.parametrize("scale", [None, torch.full((4, 1, 1), 2.0)])
def test_a_shift_of_currents_is_a_bias_and_a_scale_of_them_does_not_fit(scale: torch.Tensor | None) -> None:
    net = Network((2, 8, 8))
    hidden = spike(net, net.conv("x", 4))
    both = net.add(ops.Add(), net.conv(hidden, 4), net.conv(hidden, 4))
    net.linear(net.flat(spike(net, net.add(ops.Affine(scale, torch.ones(4, 1, 1)), both, name="shift"))), 3)
    assert [misfit.layer for misfit in against(net.graph())] == ([] if scale is None else ["shift"])


def test_an_operation_without_a_rule_does_not_fit() -> None:
    @dataclasses.dataclass(frozen=True, eq=False)
    class Forgotten(ops.Op):
        def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
            return inputs[0]

    (misfit,) = _held(Forgotten(), Situation("own", CountedNetwork(plain()), Schedule(4), Capacities()))
    assert misfit.layer == "own" and misfit.limit == "operations" and "Forgotten" in str(misfit.needed) and misfit.edit


def test_a_grouped_transposed_convolution_keeps_the_weights_of_its_groups_only() -> None:
    net = Network((4, 5, 5))
    hidden = spike(net, net.conv("x", 4))
    layer = ops.ConvTranspose(normal(4, 2, 3, 3), None, (1, 1), (1,) * 4, (0, 0), (1, 1), 2)
    net.linear(net.flat(spike(net, net.add(layer, hidden, name="wide"))), 3)
    # Words: 4/2·2^(4 + 2).
    (misfit,) = against(net.graph(), cores=cores((2, 9999, 9999), (1, 127, 9999)), groups=Ability(SOURCE, True))
    assert (misfit.layer, misfit.limit) == ("", "cores")
    assert against(net.graph(), cores=cores((2, 9999, 9999), (1, 128, 9999))) == ()


def test_a_map_that_was_flattened_before_its_neurons_is_a_map_all_the_same() -> None:
    net = Network((2, 4, 4))
    net.linear(net.add(IntegrateAndFire(torch.tensor(0.5)), net.flat(net.conv("x", 6)), name="spikes"), 5, name="dense")
    assert CountedNetwork(net.graph()).layers["dense"].before == (6, 4, 4)


def test_negative_spikes_and_waiting_neurons_have_an_edit_that_the_target_takes() -> None:
    limits = {"signed_spikes": Ability(SOURCE, False), "neuron_models": Models(SOURCE, ("if",))}
    cif = against(plain("cif"), **limits)
    assert {misfit.limit for misfit in cif} == {"signed-spikes", "neuron-models"}
    waiting = against(plain("two-phase"), **limits)
    assert {misfit.limit for misfit in waiting} == {"neuron-models"}
    assert all("--neuron if" in misfit.edit for misfit in (*cif, *waiting))
    assert against(plain("if"), **limits) == ()
    leaky = plain().with_ops(
        {n: neurons["dual-threshold"](op.threshold, torch.tensor(0.1)) for n, op in spiking(plain()).items()}
    )
    assert {m.edit for m in against(leaky, signed_spikes=limits["signed_spikes"])} == {"train with ReLU"}


def spiking(graph: Graph) -> dict[str, Neuron]:
    return graph.ops(Neuron)


def test_bursts_count_as_many_levels_as_they_have() -> None:
    graph = plain().with_ops({n: neurons["burst"](op.threshold, max_event=3) for n, op in spiking(plain()).items()})
    assert against(graph, levels=most(12)) == ()
    assert {misfit.needed for misfit in against(graph, levels=most(11))} == {12}
    assert {misfit.edit for misfit in against(graph, levels=most(11))} == {"--timesteps 3"}
    assert {misfit.edit for misfit in against(graph, levels=most(2))} == {"take neurons with fewer levels in one step"}


def graded(**options: int) -> Graph:
    made = {name: neurons["graded"](op.threshold, **options) for name, op in spiking(plain()).items()}
    return plain().with_ops(made)


def test_events_are_no_larger_than_the_chip_takes() -> None:
    limits = load_target("akida").limits
    held = {"event_size": limits.event_size, "levels": limits.levels, "signed_spikes": limits.signed_spikes}
    assert against(graded(top=15), 1, **held, neuron_models=limits.neuron_models) == ()
    large = against(graded(top=31), 1, **held)
    assert {(misfit.limit, misfit.needed, misfit.allowed) for misfit in large} == {
        ("levels", 31, 15),
        ("event-size", 31, 15),
    }
    assert {misfit.edit for misfit in large} == {"--levels 15", "--levels 15 --max-event 15"}
    # Over several steps, and from rest, events have a sign.
    for options, timesteps in (({"top": 15}, 2), ({"top": 2, "event": 1, "rest": 1}, 1)):
        found = against(graded(**options), timesteps, **held)
        assert {misfit.limit for misfit in found} == {"signed-spikes"}
        assert all(misfit.edit.startswith("--timesteps 1, no sleep") for misfit in found)
    assert against(graded(top=15, takes_back=False), 2, **held) == ()
    once = load_target("xylo").limits.event_size
    burst = plain().with_ops({n: neurons["burst"](op.threshold, max_event=32) for n, op in spiking(plain()).items()})
    assert {misfit.excess for misfit in against(burst, event_size=once)} == {1}
    assert {misfit.edit for misfit in against(burst, event_size=most(1))} == {
        "--neuron if: spikes that carry no number"
    }
    wide = load_target("loihi2").limits
    assert against(graded(top=255), 4, event_size=wide.event_size, signed_spikes=wide.signed_spikes) == ()


@pytest.mark.parametrize("allowed", [250, 150, 60])
def test_the_smaller_input_is_the_largest_that_fits(allowed: int) -> None:
    (misfit,) = against(plain(), neurons=most(allowed))
    channels, side, other = map(int, misfit.edit.removeprefix("an input of ").removesuffix(" would fit").split("x"))
    assert channels == 2 and side == other < 8

    def needed(size: int) -> int:
        return sum(CountedNetwork(plain(side=size)).neurons.values())

    assert needed(side) <= allowed < needed(side + 1)


def test_where_the_input_cannot_shrink_the_channels_do() -> None:
    pool = ops.AveragePool((2, 2), (2, 2), (0,) * 4, (0,) * 4)
    (misfit,) = against(plain(pool=pool), neurons=most(NEEDS["neurons"] // 2))
    assert misfit.edit == "train with 50 % of the channels"


@pytest.mark.parametrize("allowed", [40, 20, 10, 9])
def test_so_many_groups_bring_the_fan_in_down(allowed: int) -> None:
    found = {misfit.layer: misfit for misfit in against(plain(), fan_in=most(allowed))}
    groups = int(found["second"].edit.removeprefix("split the layer into ").removesuffix(" groups"))
    assert 6 % groups == 0 and 54 // groups <= allowed
    assert all(54 // fewer > allowed for fewer in range(1, groups) if 6 % fewer == 0)


def test_dense_synapses_are_counted_where_kernels_are_not_shared() -> None:
    graph = plain()
    dense = sum(layer.connections for layer in CountedNetwork(graph).layers.values())
    # Every connection that is not padding: ones through the network count them.
    one = {
        n: dataclasses.replace(op, weight=torch.ones_like(op.weight), bias=None)
        for n, op in graph.ops(ops.Conv).items()
    }
    by_hand = float(one["second"](torch.ones(1, 6, 4, 4)).sum()) + 5 * 12 * 16
    by_hand += 6 * 16 * 2 * 25  # A layer that the image feeds multiplies with the padding, too.
    assert dense == by_hand
    unshared = {"shared_kernels": Ability(SOURCE, False)}
    assert against(graph, synapses=most(dense), **unshared) == ()
    assert against(graph, synapses=most(dense - 1), **unshared)


def cores(*each: tuple[int, int, int]) -> Cores:
    return Cores(SOURCE, tuple(Core(*one) for one in each), "layers")


def test_layers_and_cores_are_matched() -> None:
    graph = plain()
    # Words: 2·2^(5 + 3), 6·2^(4 + 4), 12·2^(0 + 3).
    words, sums = [512, 1536, 96], [96, 192, 5]
    exact = [(1, w, n) for w, n in zip(words, sums, strict=True)]
    assert against(graph, cores=cores(*exact)) == ()
    (few,) = against(graph, cores=cores((2, 9999, 9999)))
    assert (few.needed, few.allowed) == (3, 2)
    assert against(graph, cores=cores((1, 9999, 9999), (2, 600, 100))) == ()
    # Each has a core, but two want the same.
    (clash,) = against(graph, cores=cores((1, 9999, 9999), (1, 600, 9), (1, 100, 100)))
    assert (clash.layer, clash.needed, clash.allowed) == ("", 3, 2)
    (large,) = against(graph, cores=cores((3, 1000, 9999)))
    assert (large.layer, large.needed, large.allowed) == ("second", 1536, 1000)
    assert large.edit == "split the layer into 2 groups"
    (wide,) = against(graph, cores=cores((3, 9999, 150)))
    assert (wide.layer, wide.needed, wide.allowed) == ("second", 192, 150)
    assert wide.edit.startswith("an input of 2x")


def test_each_core_says_what_is_in_it_and_layers_without_one_are_told() -> None:
    graph = plain()
    held = taken(graph, cores=cores((1, 512, 96), (1, 3072, 384), (2, 192, 10))).cores
    assert [core.core for core in held] == [1, 2, 3, 4]
    assert sorted(core.layer for core in held) == ["", "first", "read-out", "second"]
    (second,) = (core for core in held if core.layer == "second")
    assert (second.core, second.weights / second.most_weights, second.neurons / second.most_neurons) == (2, 0.5, 0.5)
    without = taken(graph, cores=cores((3, 1000, 9999))).cores
    (none,) = (core for core in without if not core.core)
    assert (none.layer, none.weights, none.most_weights) == ("second", 1536, 1000)
    # What each core holds says what the chip does.
    limits = Capacities(cores=cores((1, 512, 96)))
    assert not {"neurons", "synapses", "memory", "cores"} & {*limits.unknown} and "memory" in Capacities().unknown


def test_skips_that_are_too_wide_can_be_laid_side_by_side() -> None:
    graph = rounded(joined(), bits=6, skip_bits=16)
    skips = max(width.skips for width in widths(graph).values())
    assert skips > 6
    (misfit,) = against(graph, weight_bits=most(6))
    assert misfit.needed == skips and f"{math.ceil((2 ** (skips - 1) - 1) / 31)} synapses" in misfit.edit
    assert against(rounded(joined(), bits=6, skip_bits=6), weight_bits=most(6)) == ()


@pytest.mark.parametrize("name", target_names())
def test_a_network_of_floats_fits_no_target(name: str) -> None:
    found = fit(plain(), Schedule(4), load_target(name)).misfits
    assert any(misfit.limit.endswith("weight-bits") and misfit.needed == 32 for misfit in found)


def test_a_network_made_for_it_fits() -> None:
    assert fit(rounded(plain()), Schedule(4), load_target("loihi2")).misfits == ()
    assert fit(rounded(plain()), Schedule(4), load_target("spinnaker2")).misfits == ()
    pool = ops.AveragePool((2, 2), (2, 2), (0,) * 4, (0,) * 4)
    (misfit,) = fit(rounded(plain(pool=pool), bias_bits=8), Schedule(4), load_target("speck")).misfits
    assert misfit.limit == "analog-input"


@pytest.mark.parametrize("name", target_names())
def test_targets_cite_their_sources(name: str) -> None:
    target = load_target(name)
    limits = [
        limit for field in dataclasses.fields(Capacities) if (limit := getattr(target.limits, field.name)) is not None
    ]
    assert target.name == name and target.title and limits
    cited = {source.document for limit in limits for source in limit.sources}
    if target.event_energy is not None:
        assert target.event_energy.picojoules > 0 and target.event_energy.of
        cited |= {source.document for source in target.event_energy.sources}
    assert cited == {document.document for document in target.documents.values()}
    assert all(source.section for limit in limits for source in limit.sources)
    unknown = {limit.replace("-", "_") for limit in target.limits.unknown}
    assert all(getattr(target.limits, limit) is None for limit in unknown)
    assert target.limits.weight_bits is not None


def test_there_are_five_targets() -> None:
    assert target_names() == ["akida", "loihi2", "speck", "spinnaker2", "xylo"]


GOOD = {
    "name": "toy",
    "title": "Toy",
    "documents": {"sheet": {"document": "A data sheet", "url": "https://example.org"}},
    "limits": {
        "fan-in": {
            "most": 3,
            "unit": "inputs",
            "sources": [{"document": "A data sheet", "url": "https://example.org", "section": "1"}],
        }
    },
}


def changed(path: str, value: object) -> dict:
    data = json.loads(json.dumps(GOOD))
    place = data
    *parents, last = path.split("/")
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("limits/fan-inn", {}, "unknown option 'fan-inn'"),
        ("limits/fan-in/most", "many", "fan-in"),
        ("limits/fan-in/least", 1, "unknown option 'least'"),
        ("limits/fan-in/sources", [], "fan-in"),
        ("limits/fan-in/sources", None, "fan-in"),
        ("limits/fan-in/sources/0/section", None, r"sources\[0\]"),
        ("limits/fan-in/sources/0/document", "Another", "no document is called 'Another'"),
        ("limits", None, "expected a mapping"),
        ("documents/sheet/url", "hearsay", "documents.sheet"),
        ("owner", "me", "unknown option 'owner'"),
    ],
)
def test_target_files_are_read_strictly(path: str, value: object, complaint: str) -> None:
    assert target_from_plain(GOOD, place="toy.yaml").limits.fan_in == Maximum(SOURCE, 3, "inputs")
    with pytest.raises(UsageError, match=complaint):
        target_from_plain(changed(path, value), place="toy.yaml")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits in whole numbers."""
    path = tmp_path_factory.mktemp("hardware") / "digits.snn"
    flags = ("--recipe", "quick", "--weight-bits", "8", "--quiet")
    assert cli.main([str(part) for part in ("convert", DIGITS / "model.onnx", "-o", path, *DATA, *flags)]) == 0
    return path


def inspected(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["inspect", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_inspect_succeeds_where_the_network_fits(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = inspected(capsys, converted, "--target", "loihi2")
    assert (code, err) == (0, "")
    assert "fits, as far as is known: Intel Loihi 2" in out and "not checked" in out


def test_inspect_fails_with_a_table_where_it_does_not(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = inspected(capsys, converted, "--target", "xylo")
    assert code == 4
    assert "nearest change" in out and "split" in out and "https://rockpool.ai" in out
    assert err.startswith("error: does not fit SynSense Xylo Audio 2") and len(err.splitlines()) == 2


def test_inspect_gives_the_data_as_json(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = inspected(capsys, converted, "--target", "xylo", "--json")
    data = json.loads(out)
    assert code == 4 and data["target"] == "xylo" and data["fits"] is False
    first = data["misfits"][0]
    assert first["excess"] == first["needed"] - first["allowed"] and first["sources"][0]["url"].startswith("https://")
    code, out, _ = inspected(capsys, converted, "--target", "loihi2", "--json")
    assert code == 0 and json.loads(out)["misfits"] == []


def test_inspect_refuses_what_has_no_fit(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = inspected(capsys, converted, "--target", "lohii2")
    assert code == 2 and "did you mean 'loihi2'?" in err
    code, _, err = inspected(capsys, DIGITS / "model.onnx", "--target", "loihi2")
    assert code == 2 and "convert it first" in err


def test_inspect_tells_how_full_a_chip_is(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = inspected(capsys, converted, "--target", "speck")
    assert re.search(r"^ +9 +- +0 +16,384", out, re.MULTILINE) and "full %" in out
    assert "neurons, synapses" not in out
    _, out, _ = inspected(capsys, converted, "--target", "loihi2")
    assert "23.6 pJ" in out and "driven by events" in out and "with a clock" in out
    assert re.search(r"^neurons +network +2,112 +1,048,576 +0.2", out, re.MULTILINE)


def test_a_microcontroller_is_what_flags_say(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = inspected(capsys, converted, "--target", "generic-mcu")
    assert code == 3 and "no time step" in err
    report, converted = tmp_path / "r.json", tmp_path / "small.snn"
    net = Network((2, 8, 8))
    net.linear(net.flat(spike(net, net.conv("x", 6))), 5)
    save_conversion(conversion(net.graph(), Schedule(4)), converted)
    mcu = ("--target", "generic-mcu", "--report", report)
    code, out, _ = inspected(capsys, converted, *mcu, "--flash", "65536", "--ram", "65536", "--macs", "1e6", "--json")
    data = json.loads(out)
    assert code == 0 and data["fits"] and data["files"] == [str(report)]
    flash, ram = (use["taken"] for use in data["uses"] if not use["layer"])
    written = CFormat().write(load_conversion(converted)).file
    assert flash == written.constants + written.code and ram == written.state + written.scratch
    assert data["seconds"] == pytest.approx((written.macs + 4 * written.numbers) / 1e6)
    told = json.loads(report.read_text())["resources"]
    assert told["target"] == "generic-mcu" and told["seconds"] == pytest.approx(data["seconds"])
    assert cli.main(["report", str(report), "--html", str(tmp_path / "r.html")]) == 0
    assert "On the chip" in (tmp_path / "r.html").read_text()
    code, out, err = inspected(capsys, converted, *mcu, "--ram", "1000")
    assert code == 4 and re.search(r"^network +RAM +\d", out, re.MULTILINE) and "takes most" in err
    for arguments, words in (
        (("--target", "loihi2", "--ram", "9"), "what loihi2 has is known @ --ram"),
        (("--ram", "9"), "--ram without --target"),
        (("--report", report), "--report without --target"),
        ((*mcu, "--macs", "0"), "more than 0"),
        ((*mcu, "--flash", "-1"), "numbers of bytes"),
    ):
        code, _, err = inspected(capsys, converted, *arguments)
        assert code == 2 and words in err and len(err.splitlines()) == 2, err
    with pytest.raises(UsageError, match="numbers of bytes"):
        inspect(converted).fit_room(flash=-1)
