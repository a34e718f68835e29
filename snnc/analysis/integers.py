"""A spiking network in whole numbers, as chips have it: weights, biases and thresholds in units of their membrane.

A spike carries the value of its neuron's threshold, but on a chip it is just a spike: its value v is part of the
synapse. What a synapse adds to the membrane of channel c is w·v, and that membrane fires at θ. Both are counted in one
unit s per channel,

    w·v = s·q,   b = s·β,   θ = s·n      with q, β and n whole numbers,

so that the chip holds q, β and n and never learns of s. A layer without neurons behind it (the read-out) has one unit
for all its channels: their sums are compared with one another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, from_channels
from snnc.analysis.units import Constant, Membrane, alike_by_channel, drives, input_values, membranes, spike_values
from snnc.ir import Graph, Op
from snnc.neurons import Neuron
from snnc.ops import Weighted

# Weights of more bits than this are not told from real numbers.
MAXIMUM_BITS = 12

# How far from a whole number a quotient of single-precision numbers may be, absolutely and relatively.
_ABSOLUTE, _RELATIVE = 1e-3, 1e-6

# Columns that every candidate for the unit is tried on, and candidates tried at once.
_COLUMNS, _CANDIDATES = 16, 256

_Layer = TypeVar("_Layer", bound=Weighted)


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
    constant = drives(graph.op(name)).constant
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
