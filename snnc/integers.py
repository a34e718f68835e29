"""A spiking network in whole numbers, as chips have it: weights, biases and thresholds in units of their membrane.

A spike carries the value of its neuron's threshold, but on a chip it is just a spike: its value v is part of the
synapse. What a synapse adds to the membrane of channel c is w·v, and that membrane fires at θ. Both are counted in one
unit s per channel,

    w·v = s·q,   b = s·β,   θ = s·n      with q, β and n whole numbers,

so that the chip holds q, β and n and never learns of s. A layer without neurons behind it (the read-out) has one unit
for all its channels: their sums are compared with one another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, from_channels
from snnc.ir import Graph, Op
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    MaxPool,
    Mean,
    Pad,
    Reshape,
    Slice,
    Take,
    Transpose,
    Weighted,
)

# Weights of more bits than this are not told from real numbers.
MAXIMUM_BITS = 12

# How far from a whole number a quotient of single-precision numbers may be, absolutely and relatively.
_ABSOLUTE, _RELATIVE = 1e-3, 1e-6

# Columns that every candidate for the unit is tried on, and candidates tried at once.
_COLUMNS, _CANDIDATES = 16, 256

_Layer = TypeVar("_Layer", bound=Weighted)


@dataclass(frozen=True, eq=False)
class Membrane:
    """What is counted in one unit per channel: a layer of neurons and all that drives it.

    ``layers`` are weighted, ``constants`` shift the current, ``skips`` are spikes that arrive as they are, with their
    values ``[C]`` (0 where none arrives). ``neuron`` is "" for a single layer that no neurons stand behind. ``whole``
    says that there is nothing else, such as an average of currents, and that no channel takes spikes of several values.
    """

    neuron: str
    layers: tuple[str, ...]
    constants: tuple[str, ...] = ()
    skips: Mapping[str, Tensor] | None = None
    whole: bool = True


@dataclass(frozen=True)
class Widths:
    """The bits, the sign among them, of the whole numbers of one membrane, and what rounding to them costs.

    ``rounding`` is the relative error of the weights that rounding to such numbers leaves on average: that of the layer
    where it is largest. ``skips`` are the weights of spikes that arrive as they are. Of what is not there, 0 bits.
    """

    weights: int
    skips: int
    biases: int
    thresholds: int
    rounding: float


def membranes(graph: Graph, values: Mapping[str, Tensor | None] | None = None) -> tuple[Membrane, ...]:
    """Return what shares a unit, in the order of the graph; every weighted layer belongs to exactly one."""
    values = spike_values(graph) if values is None else values
    found: dict[str, Membrane] = {}
    taken: set[str] = set()
    for name in graph.ops(Neuron):
        membrane = _membrane(graph, name, values)
        taken.update(membrane.layers)
        found[membrane.layers[0] if membrane.layers else name] = membrane
    for name in graph.ops(Weighted):
        if name not in taken:
            found[name] = Membrane("", (name,), whole=not _mixes(graph, name, values))
    return tuple(found[name] for name in graph.nodes if name in found)


def spike_values(graph: Graph) -> dict[str, Tensor | None]:
    """Return for every node what one spike that arrives there is worth, shaped like one sample, float64.

    0 where no spike can arrive; None where the values are no spikes, or spikes of different values meet.
    """
    found: dict[str, Tensor | None] = {}
    for name, node in graph.nodes.items():
        inputs = [found[value] for value in node.inputs]
        known = [value for value in inputs if value is not None]
        if isinstance(node.op, Neuron):
            # A negative spike with a slope has a value of its own.
            signed = node.op.slope is not None
            found[name] = None if signed else node.op.threshold.double().expand(graph.shapes[name]).contiguous()
        elif len(known) < len(inputs) or not inputs:
            found[name] = None
        else:
            found[name] = _routed(node.op, known)
    return found


def input_values(graph: Graph, layer: str, values: Mapping[str, Tensor | None]) -> Tensor | None:
    """Return what a spike is worth in every input channel of a layer, ``[C_in]``, None where it is not just that."""
    spread = values[graph.nodes[layer].inputs[0]]
    return None if spread is None else _by_channel(spread, len(spread.shape) if _is_linear(graph, layer) else 1)


def synapses(layer: Weighted, value: Tensor | None) -> Tensor:
    """Return what a spike through every synapse adds, by output channel, ``[C_out, ...]``, float64.

    ``value`` ``[C_in]`` is what a spike is worth; None where inputs are just numbers.
    """
    weight = _scaled(layer, value)
    if not isinstance(layer, ConvTranspose):
        return weight.flatten(1)
    grouped = weight.view(layer.groups, -1, *weight.shape[1:])
    return grouped.transpose(1, 2).flatten(0, 1).flatten(1)


def with_synapses(layer: _Layer, added: Tensor, value: Tensor | None) -> _Layer:
    """Return the layer with other weights: the inverse of ``synapses``."""
    if isinstance(layer, ConvTranspose):
        grouped = added.view(layer.groups, layer.weight.shape[1], -1, *layer.weight.shape[2:])
        weight = grouped.transpose(1, 2).reshape(layer.weight.shape)
    else:
        weight = added.view(layer.weight.shape)
    plain = replace(layer, weight=weight)
    divided = plain.weight if value is None else _scaled(plain, 1 / _present(value))
    return replace(layer, weight=divided.to(layer.weight.dtype))


def channel_thresholds(graph: Graph, neuron: str) -> Tensor | None:
    """Return the thresholds of a layer of neurons as one per channel, ``[C]``, float64; None where that is no way."""
    op, axis = graph.op(neuron), channel_axis(graph, neuron)
    assert isinstance(op, Neuron)
    return None if axis is None else _by_channel(op.threshold.double().expand(graph.shapes[neuron]), axis)


def channel_constants(graph: Graph, name: str) -> Tensor | None:
    """Return what a constant adds as ``[steps, C]``, float64; None where it differs within a channel."""
    op, axis, shape = graph.op(name), channel_axis(graph, name), graph.shapes[name]
    assert isinstance(op, Affine | TemporalBias) and op.shift is not None
    steps = op.shift if isinstance(op, TemporalBias) else op.shift.unsqueeze(0)
    if axis is None:
        return None
    rows = [_by_channel(step.double().expand(shape), axis) for step in steps]
    known = [row for row in rows if row is not None]
    return torch.stack(known) if len(known) == len(rows) else None


def with_constants(graph: Graph, name: str, rows: Tensor) -> Op:
    """Return a constant with other values ``[steps, C]``: the inverse of ``channel_constants``."""
    op = graph.op(name)
    assert isinstance(op, Affine | TemporalBias) and op.shift is not None
    shaped = torch.stack([from_channels(graph, name, row) for row in rows]).to(op.shift.dtype)
    return replace(op, shift=shaped if isinstance(op, TemporalBias) else shaped[0])


def widths(graph: Graph) -> dict[str, Widths | None]:
    """Return for every membrane, by its neurons or else its layer, how wide its whole numbers are.

    None where it has real numbers, or whole numbers of more than ``MAXIMUM_BITS`` bits.
    """
    values = spike_values(graph)
    found = {}
    for membrane in membranes(graph, values):
        found[membrane.neuron or membrane.layers[0]] = _widths(graph, membrane, values)
    return found


def _widths(graph: Graph, membrane: Membrane, values: Mapping[str, Tensor | None]) -> Widths | None:
    if not membrane.whole:
        return None
    parts = {name: synapses(op, input_values(graph, name, values)) for name, op in _layers(graph, membrane).items()}
    weights, skips = list(parts.values()), [value.unsqueeze(1) for value in (membrane.skips or {}).values()]
    constants = [op.bias.double().unsqueeze(1) for op in _layers(graph, membrane).values() if op.bias is not None]
    for name in membrane.constants:
        rows = channel_constants(graph, name)
        if rows is None:
            return None
        constants.append(rows.T)
    threshold = channel_thresholds(graph, membrane.neuron) if membrane.neuron else None
    if (membrane.neuron and threshold is None) or not weights + skips:
        return None
    if not membrane.neuron:
        weights, constants = ([part.reshape(1, -1) for part in group] for group in (weights, constants))
    fixed = [] if threshold is None else [threshold.unsqueeze(1)]
    driving = weights or skips
    unit = _unit(torch.cat(driving, 1), torch.cat([*skips, *constants, *fixed, driving[0][:, :0]], 1))
    if unit is None:
        return None

    def bits(group: list[Tensor]) -> int:
        largest = max((float((part / unit).abs().max()) for part in group if part.numel()), default=0.0)
        return round(largest).bit_length() + 1 if group else 0

    rounding = max((_rounding(part / unit) for part in weights), default=0.0)
    return Widths(bits(weights), bits(skips), bits(constants), bits(fixed), rounding)


def _unit(driving: Tensor, others: Tensor) -> Tensor | None:
    """Return the largest unit ``[C, 1]`` of which each row of both ``[C, ...]`` is made, None where there is none."""
    largest = driving.abs().amax(1, keepdim=True)
    # What nothing drives can be counted in anything.
    idle = largest == 0
    everything = torch.cat([driving, others], 1) / torch.where(idle, 1.0, largest)
    # Large values tell most: a small one is near a whole number by chance.
    telling = everything.abs().topk(min(_COLUMNS, everything.shape[1]), dim=1).values
    limit = 2 ** (MAXIMUM_BITS - 1)
    found = torch.where(idle.squeeze(1), 1, 0)
    for start in range(1, limit, _CANDIDATES):
        counts = torch.arange(start, min(start + _CANDIDATES, limit), dtype=torch.float64)
        fits = _whole(telling.unsqueeze(2) * counts).all(1)
        for channel in fits.any(1).logical_and(found == 0).nonzero().flatten().tolist():
            for count in counts[fits[channel]].tolist():
                if _whole(everything[channel] * count).all():
                    found[channel] = int(count)
                    break
        if found.all():
            return torch.where(idle, torch.inf, largest / found.unsqueeze(1))
    return None


def _whole(quotients: Tensor) -> Tensor:
    return (quotients - quotients.round()).abs() <= _ABSOLUTE + _RELATIVE * quotients.abs()


def _rounding(counts: Tensor) -> float:
    """Return the relative error (L2) that rounding to these whole numbers leaves on average: 1/12 is its variance."""
    size = float(counts.square().mean())
    return (1 / 12 / size) ** 0.5 if size else 0.0


def _layers(graph: Graph, membrane: Membrane) -> dict[str, Weighted]:
    return {name: op for name in membrane.layers if isinstance(op := graph.op(name), Weighted)}


def _membrane(graph: Graph, neuron: str, values: Mapping[str, Tensor | None]) -> Membrane:
    layers: list[str] = []
    constants: list[str] = []
    skips: dict[str, Tensor] = {}
    whole = True
    axis = channel_axis(graph, neuron)
    waiting = [(value, neuron) for value in graph.nodes[neuron].inputs]
    while waiting:
        name, reader = waiting.pop(0)
        node, spikes = graph.nodes[name], values[name]
        own = graph.consumers[name] == (reader,) and name not in graph.outputs
        alike = channel_axis(graph, name) == axis is not None
        value = None if spikes is None or axis is None else _by_channel(spikes, axis)
        if isinstance(node.op, Weighted) and own and alike:
            layers.append(name)
            whole = whole and not _mixes(graph, name, values)
        elif value is not None:
            skips[name] = value
        elif own and alike and (isinstance(node.op, Add | MaxPool | TemporalBias) or _shifts(node.op)):
            constants += [name] if isinstance(node.op, Affine | TemporalBias) else []
            waiting += [(before, name) for before in node.inputs]
        else:
            whole = False
    return Membrane(neuron, tuple(layers), tuple(constants), skips, whole)


def _mixes(graph: Graph, layer: str, values: Mapping[str, Tensor | None]) -> bool:
    """Return whether a layer takes nothing but spikes, and they are not all worth the same in each channel."""
    return input_values(graph, layer, values) is None and _only_spikes(graph, graph.nodes[layer].inputs[0])


def _only_spikes(graph: Graph, name: str) -> bool:
    node = graph.nodes[name]
    if isinstance(node.op, Neuron):
        return True
    passes_on = bool(node.inputs) and not isinstance(node.op, Weighted | Activation)
    return passes_on and all(_only_spikes(graph, value) for value in node.inputs)


def _shifts(op: Op) -> bool:
    return isinstance(op, Affine) and op.scale is None


def _scaled(layer: Weighted, value: Tensor | None) -> Tensor:
    """Return the weights, each times what a spike of its input channel is worth."""
    weight = layer.weight.double()
    if value is None:
        return weight
    value = _present(value)
    if isinstance(layer, Linear):
        return weight * value
    if isinstance(layer, ConvTranspose):
        return weight * value.view(-1, *(1 for _ in weight.shape[1:]))
    assert isinstance(layer, Conv)
    grouped = weight.view(layer.groups, -1, *weight.shape[1:])
    return (grouped * value.view(layer.groups, 1, -1, *(1 for _ in weight.shape[2:]))).view(weight.shape)


def _present(value: Tensor) -> Tensor:
    """Where no spike can arrive, its value does not matter."""
    return torch.where(value > 0, value, 1.0)


def _is_linear(graph: Graph, layer: str) -> bool:
    return isinstance(graph.op(layer), Linear)


def _by_channel(spread: Tensor, axis: int) -> Tensor | None:
    """Return values shaped like one sample as one per channel, zeros left aside; None where they differ in one."""
    flat = spread.movedim(axis - 1, 0).reshape(spread.shape[axis - 1], -1)
    largest = flat.amax(1)
    alike = torch.isclose(flat, largest.unsqueeze(1), rtol=1e-9, atol=0) | (flat == 0)
    return largest if bool(alike.all()) else None


def _routed(op: Op, inputs: list[Tensor]) -> Tensor | None:
    """Return what spikes are worth behind an operation that passes them on, None where it does not."""
    batched = [value.unsqueeze(0) for value in inputs]
    if isinstance(op, Concat | Slice | Take | Reshape | Transpose):
        return op(*batched)[0]
    if isinstance(op, Pad) and op.value == 0:
        return op(*batched)[0]
    if isinstance(op, Add):
        return _merged(torch.stack(inputs).flatten(1), inputs[0].shape) if _alike(inputs) else None
    if isinstance(op, Affine) and op.shift is None and op.scale is not None:
        scaled = inputs[0] * op.scale.double()
        return scaled if bool((scaled >= 0).all()) else None
    if isinstance(op, MaxPool):
        return _pooled(op, batched[0], 1)
    if isinstance(op, AveragePool) and not any(op.excess):
        pool = MaxPool(op.kernel, op.stride, op.padding, (1,) * len(op.kernel))
        return _pooled(pool, batched[0], torch.Size(op.kernel).numel())
    if isinstance(op, Mean):
        count = torch.Size([batched[0].shape[axis] for axis in op.axes]).numel()
        highest = batched[0].amax(op.axes, keepdim=op.keep)
        lowest = _without_zeros(batched[0]).amin(op.axes, keepdim=op.keep)
        return _agreed(highest, lowest, count)
    return None


def _pooled(pool: MaxPool, spread: Tensor, count: int) -> Tensor | None:
    return _agreed(pool(spread), -pool(-_without_zeros(spread)), count)


def _agreed(highest: Tensor, lowest: Tensor, count: int) -> Tensor | None:
    """Return the share that one spike of a window contributes, where all in it are worth the same."""
    return highest[0] / count if bool(((highest == 0) | (highest == lowest)).all()) else None


def _without_zeros(spread: Tensor) -> Tensor:
    return torch.where(spread > 0, spread, torch.inf)


def _alike(inputs: list[Tensor]) -> bool:
    return all(value.shape == inputs[0].shape for value in inputs)


def _merged(rows: Tensor, shape: torch.Size) -> Tensor | None:
    highest = rows.amax(0)
    return highest.view(shape) if bool(((rows == 0) | (rows == highest)).all()) else None
