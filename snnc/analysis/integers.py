"""A spiking network in whole numbers, as chips have it: weights, biases and thresholds in units of their membrane.

A spike carries the value of its neuron's threshold, but on a chip it is just a spike: its value v is part of the
synapse. What a synapse adds to the membrane of channel c is w·v, and that membrane fires at θ. Both are counted in one
unit s per channel,

    w·v = s·q,   b = s·β,   θ = s·n      with q, β and n whole numbers,

so that the chip holds q, β and n and never learns of s. A layer without neurons behind it (the read-out) has one unit
for all its channels: their sums are compared with one another.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_rows, from_channels
from snnc.analysis.units import Constant, Membrane, alike_by_channel, drives, input_values, membranes, spike_values
from snnc.errors import ModelError
from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.ops import MaxPool, Pad, Routing, Weighted
from snnc.schedule import Schedule

# The most bits of a weight, the sign included.
MAXIMUM_BITS = 12

# How far from a whole number a quotient of single-precision numbers may be, absolutely and relatively.
_ABSOLUTE, _RELATIVE = 1e-3, 1e-6

_Layer = TypeVar("_Layer", bound=Weighted)


@dataclass(frozen=True)
class Widths:
    """The bits, the sign among them, of the whole numbers of one membrane, and what rounding to them costs.

    ``rounding`` is the relative error of the weights that rounding to such numbers leaves on average: that of the layer
    where it is largest. ``skips`` are the weights of spikes that arrive as they are. Of what is not there, 0 bits.
    ``sums`` are bounds of what arrives at one step, from the weights and the largest events, and ``membranes`` those of
    the potential at any step, unless it saturates: no samples can make them larger.
    """

    weights: int
    skips: int
    biases: int
    thresholds: int
    rounding: float
    sums: int = 0
    membranes: int = 0


@dataclass(frozen=True, eq=False)
class Counts:
    """The whole numbers of one membrane, float64, by the layer, the constant or the source of spikes that they are of.

    ``unit`` is what they are counted in, ``[C]``; ``weights`` are ``[C, ...]``, ``biases`` and ``skips`` ``[C]``,
    ``constants`` ``[steps, C]``. ``thresholds`` ``[C]`` are None where no neurons stand behind. A unit of the membrane
    is ``fraction`` of the unit: less than 1 where an image comes in whole numbers of such a part, None where it comes
    in real numbers.
    """

    unit: Tensor
    weights: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]
    skips: Mapping[str, Tensor]
    thresholds: Tensor | None
    fraction: float | None


def synapses(layer: Weighted, value: Tensor | None) -> Tensor:
    """Return what a spike through every synapse adds, by output channel, ``[C_out, ...]``, float64.

    ``value`` ``[C_in]`` is what a spike is worth; None where inputs are just numbers.
    """
    kernel = layer.kernel().double()
    added = kernel if value is None else kernel * _along_inputs(_present(value), kernel)
    return added.flatten(0, 1).flatten(1)


def with_synapses(layer: _Layer, added: Tensor, value: Tensor | None) -> _Layer:
    """Return the layer with other weights: the inverse of ``synapses``."""
    kernel = added.view(layer.kernel().shape)
    divided = kernel if value is None else kernel * _along_inputs(1 / _present(value), kernel)
    return layer.with_kernel(divided, layer.bias)


def in_events(layer: Weighted, squares: Tensor, value: Tensor | None) -> Tensor:
    """Return products of what every two weights see, ``[groups, K, K]``, in events, whose ``value`` is ``[C_in]``."""
    if value is None:
        return squares
    kernel = layer.kernel()[:, :1].double()
    worth = (torch.ones_like(kernel) * _along_inputs(_present(value), kernel)).flatten(1)
    return squares / worth.unsqueeze(1) / worth.unsqueeze(2)


def channel_thresholds(graph: Graph, neuron: str) -> Tensor | None:
    """Return the thresholds of a layer of neurons as one per channel, ``[C]``, float64; None where that is no way."""
    axis = channel_axis(graph, neuron)
    threshold = graph.ops(Neuron)[neuron].threshold.double().expand(graph.shapes[neuron])
    return None if axis is None else alike_by_channel(threshold, axis)


def channel_constants(graph: Graph, name: str) -> Tensor | None:
    """Return what a constant adds as ``[steps, C]``, float64; None where it differs within a channel."""
    axis, shape = channel_axis(graph, name), graph.shapes[name]
    if axis is None:
        return None
    rows = [alike_by_channel(step.double().expand(shape), axis) for step in _constant(graph, name).steps]
    known = [row for row in rows if row is not None]
    return torch.stack(known) if len(known) == len(rows) else None


def with_constants(graph: Graph, name: str, rows: Tensor) -> Op:
    """Return a constant with other values ``[steps, C]``: the inverse of ``channel_constants``."""
    constant = _constant(graph, name)
    shaped = torch.stack([from_channels(graph, name, row) for row in rows])
    return constant.adding(shaped.to(constant.steps.dtype))


def _constant(graph: Graph, name: str) -> Constant:
    node = graph.nodes[name]
    constant = drives(node.op, graph.shapes[node.inputs[0]]).constant
    if constant is None:
        raise ValueError(f"{name} adds no constant")
    return constant


def _along_inputs(values: Tensor, kernel: Tensor) -> Tensor:
    """Return one number per input channel, ``[C_in]``, in the shape that broadcasts against a kernel."""
    groups, _, inputs, *window = kernel.shape
    return values.view(groups, 1, inputs, *(1 for _ in window))


def _present(value: Tensor) -> Tensor:
    """Where no spike can arrive, its value does not matter."""
    return torch.where(value > 0, value, 1.0)


def in_reals(graph: Graph) -> Graph:
    """Return the graph without units: its weights, biases and thresholds are then real numbers like any other."""
    layers = {name: replace(op, unit=None) for name, op in graph.ops(Weighted).items() if op.unit is not None}
    return graph.with_ops({**layers, **{name: op.in_reals() for name, op in graph.ops(Neuron).items()}})


def saturating(graph: Graph, bits: int | None) -> Graph:
    """Return the graph with membranes of so many bits, or with such as hold all that can come (None).

    Raises ModelError that names a neuron whose membrane cannot be that.
    """
    changed = {}
    for name, op in graph.ops(Neuron).items():
        try:
            changed[name] = replace(op, membrane_bits=bits)
        except ValueError as error:
            hint = "give more --membrane-bits, or fewer --weight-bits or passes.quantize-weights.input-bits"
            if not op.saturates or op.slope is not None:
                hint = "convert with --neuron if, cif or graded, or leave out --membrane-bits"
            elif op.unit is None:
                hint = "convert with --weight-bits 8, and see real-weights in the report, or leave out --membrane-bits"
            raise ModelError(str(error), place=graph.nodes[name].place, hint=hint) from None
    return graph.with_ops(changed)


def moved_inputs(graph: Graph) -> dict[str, str]:
    """Return for every value that is an input of the network, moved about and with zeros between, which input it is."""
    found: dict[str, str] = {}
    for name, node in graph.nodes.items():
        op = node.op
        if isinstance(op, Input):
            found[name] = name
        elif isinstance(op, MaxPool | Routing) and not (isinstance(op, Pad) and op.value):
            sources = {found.get(value, "") for value in node.inputs}
            if len(sources) == 1 and "" not in sources:
                found[name] = sources.pop()
    return found


def input_fraction(graph: Graph, layers: Iterable[str], values: Mapping[str, Tensor | None]) -> float | None:
    """Return which part of a weight's unit one unit of what layers take in adds to their sums: 1 for spikes.

    It is a power of two, at most 1; None where a layer takes in real numbers.
    """
    moved, fraction = moved_inputs(graph), 1.0
    for name in layers:
        value = graph.nodes[name].inputs[0]
        if input_values(graph, name, values) is None:
            op = graph.ops(Input).get(moved.get(value, ""))
            if op is None or (op.unit is None and op.numbers == "real"):
                return None
            fraction = min(fraction, op.unit or 1.0)
    return fraction


def counts(graph: Graph, membrane: Membrane, values: Mapping[str, Tensor | None]) -> Counts | None:
    """Return the whole numbers of a membrane; None where it has real numbers."""
    layers = _layers(graph, membrane)
    threshold = channel_thresholds(graph, membrane.neuron) if membrane.neuron else None
    rows = {name: channel_constants(graph, name) for name in membrane.constants}
    constants = {name: row for name, row in rows.items() if row is not None}
    unit = _unit(graph, membrane, layers)
    if not membrane.whole or unit is None or len(constants) < len(rows) or (membrane.neuron and threshold is None):
        return None
    units = {name: membrane.own(name, unit) for name in (*layers, *constants, *membrane.skips)}
    groups = (
        {name: (synapses(op, input_values(graph, name, values)).T / units[name]).T for name, op in layers.items()},
        {name: op.bias.double() / units[name] for name, op in layers.items() if op.bias is not None},
        {name: row / units[name] for name, row in constants.items()},
        {name: value / units[name] for name, value in membrane.skips.items()},
        {} if threshold is None else {"": threshold / unit},
    )
    if not all(bool(_whole(part).all()) for group in groups for part in group.values()):
        return None
    weights, biases, shifts, skips, fixed = ({n: part.round() for n, part in group.items()} for group in groups)
    return Counts(unit, weights, biases, shifts, skips, fixed.get(""), input_fraction(graph, layers, values))


def _unit(graph: Graph, membrane: Membrane, layers: Mapping[str, Weighted]) -> Tensor | None:
    """Return what the weights of a membrane are counted in, ``[C]``; where there are none, what arrives."""
    if layers:
        units = [None if op.unit is None else op.unit.double() / membrane.parts[name] for name, op in layers.items()]
        return None if any(unit is None for unit in units) else units[0]
    neuron, axis = graph.ops(Neuron)[membrane.neuron], channel_axis(graph, membrane.neuron)
    if neuron.unit is None or axis is None:
        return None
    return alike_by_channel(neuron.unit.double().expand(graph.shapes[membrane.neuron]), axis)


def widths(graph: Graph, schedule: Schedule | None = None) -> dict[str, Widths | None]:
    """Return for every membrane, by its neurons or else its layer, how wide its whole numbers are.

    None where it has real numbers. Those of membranes are told where a ``schedule`` says for how long they add up.
    """
    values = spike_values(graph)
    events = largest_events(graph, values)
    found: dict[str, Widths | None] = {}
    for membrane in membranes(graph, values):
        counted = counts(graph, membrane, values)
        name = membrane.name
        found[name] = None if counted is None else _widths(graph, membrane, counted, events, schedule)
    return found


def largest_events(graph: Graph, values: Mapping[str, Tensor | None]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the fewest and the most events that may arrive at once, by value, each shaped like one sample.

    An event is worth what a spike is there or, of an input of the network that is whole numbers, the unit.
    """
    moved, found = moved_inputs(graph), dict[str, tuple[Tensor, Tensor]]()
    reach: dict[str, tuple[Tensor, Tensor]] = {}
    for name, node in graph.nodes.items():
        op, shape = node.op, graph.shapes[name]
        if isinstance(op, Input):
            most = float(op.most or (op.below or 256) - 1)
            reach[name] = torch.full(shape, -most if op.unit else 0.0).double(), torch.full(shape, most).double()
        elif isinstance(op, Neuron):
            full = op.threshold.double().expand(shape)
            # What rests arrives with the first event.
            most = op.largest_event + op.rest
            reach[name] = (-full if op.takes_back else 0 * full) * op.largest_event, full * most
        elif name in moved or values[name] is not None:
            low, high = (op(*(reach[value][side].unsqueeze(0) for value in node.inputs))[0] for side in (0, 1))
            # The largest of sums so far falls as far as any of them.
            reach[name] = -op(-reach[node.inputs[0]][0][None])[0] if isinstance(op, MaxPool) else low, high
        else:
            continue
        value = values[name]
        found[name] = reach[name] if value is None else tuple(side / _present(value) for side in reach[name])  # type: ignore[assignment]
    return found


def _widths(
    graph: Graph,
    membrane: Membrane,
    found: Counts,
    events: Mapping[str, tuple[Tensor, Tensor]],
    schedule: Schedule | None,
) -> Widths:
    width = Widths(
        _bits(found.weights.values()),
        _bits(found.skips.values()),
        _bits([*found.biases.values(), *found.constants.values()]),
        _bits([] if found.thresholds is None else [found.thresholds]),
        max((_rounding(part) for part in found.weights.values()), default=0.0),
    )
    if found.fraction is None:
        return width
    arriving = _arriving(graph, found, events)
    sides = [torch.stack([low, high]) * membrane.parts[name] for name, low, high in arriving]
    sums = torch.stack(sides).sum(0) / found.fraction
    width = replace(width, sums=_bits(sums))
    neuron = graph.ops(Neuron).get(membrane.neuron)
    if neuron is None or schedule is None or found.thresholds is None:
        return width
    threshold = found.thresholds / found.fraction
    start = (float(neuron.potential.abs().max()) + neuron.rest) * threshold
    # Who fires as often as it can takes away its threshold each time; whose count is bounded does not.
    fires = isinstance(neuron, IntegrateAndFire)
    grows = (sums[1] - threshold).clamp(min=0) * (schedule.total - 1) if fires else sums[1] * (schedule.total - 1)
    highest = torch.maximum(start, threshold) + sums[1] + grows
    bits = _bits([highest, sums[0] * schedule.total - start])
    return replace(width, membranes=min(bits, neuron.membrane_bits or bits))


def _arriving(
    graph: Graph, found: Counts, events: Mapping[str, tuple[Tensor, Tensor]]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield of whom, and the least and the most that arrives at one step, by channel, in units of its own."""
    layers = graph.ops(Weighted)
    for name, part in found.weights.items():
        kernel = part.view(layers[name].kernel().shape)
        value = graph.nodes[name].inputs[0]
        axis = channel_axis(graph, name)
        assert axis is not None
        sides = [_by_inputs(side, axis, kernel) for side in events[value]]
        op = graph.ops(Input).get(moved_inputs(graph).get(value, ""))
        products = torch.stack([kernel * side * (1.0 if op is None else op.unit or 1.0) for side in sides])
        low, high = products.amin(0), products.amax(0)
        yield name, low.flatten(0, 1).flatten(1).sum(1), high.flatten(0, 1).flatten(1).sum(1)
    for name, count in found.skips.items():
        axis = channel_axis(graph, name)
        assert axis is not None
        low, high = (channel_rows(side.unsqueeze(0), axis) for side in events[name])
        yield name, count * low.amin(1), count * high.amax(1)
    biases = {name: bias.unsqueeze(0) for name, bias in found.biases.items()}
    for name, row in (*biases.items(), *found.constants.items()):
        yield name, row.amin(0), row.amax(0)


def _by_inputs(side: Tensor, axis: int, kernel: Tensor) -> Tensor:
    """Return bounds shaped like one sample as one for each input of a kernel: that which is farthest from 0."""
    rows = channel_rows(side.unsqueeze(0), axis)
    return _along_inputs(rows.gather(1, rows.abs().argmax(1, keepdim=True)).squeeze(1), kernel)


def _bits(group: Iterable[Tensor]) -> int:
    """Return how many bits hold the largest of some whole numbers and the sign; 0 where there is none."""
    sizes = [float(part.abs().max()) for part in group if part.numel()]
    return round(max(sizes)).bit_length() + 1 if sizes else 0


def _whole(quotients: Tensor) -> Tensor:
    return (quotients - quotients.round()).abs() <= _ABSOLUTE + _RELATIVE * quotients.abs()


def _rounding(counts: Tensor) -> float:
    """Return the relative error (L2) that rounding to these whole numbers leaves on average: 1/12 is its variance."""
    size = float(counts.square().mean())
    return (1 / 12 / size) ** 0.5 if size else 0.0


def _layers(graph: Graph, membrane: Membrane) -> dict[str, Weighted]:
    return {name: op for name in membrane.layers if isinstance(op := graph.op(name), Weighted)}
