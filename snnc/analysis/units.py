"""What is counted in one unit on a chip: what spikes are worth, and what drives the same membranes.

A spike carries the value of its neuron's threshold, but on a chip it is just a spike: its value is part of the synapse.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis
from snnc.analysis.reach import arriving
from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    MaxPool,
    Mean,
    Nonlinear,
    Pad,
    Resample,
    Routing,
    Weighted,
)
from snnc.rules import Rules

# Of more parts than this each is worth so little that too few of them fit the threshold: weights of a few bits, counted
# in such, would be 0, 1 or 2.
_MOST_PARTS = 1 << 12

# rule(op, shape, inputs): what one spike that comes out is worth, ``[*shape]`` of one sample, float64, by what it is
# worth where it arrives: 0 where no spike can arrive. None where what comes out are no spikes, or spikes of different
# values meet; ``inputs`` are None where that is so of one of them.
worth = Rules[Op, Tensor | None]("what is a spike worth")


def spike_values(graph: Graph) -> dict[str, Tensor | None]:
    """Return for every node what one spike that arrives there is worth, shaped like one sample, float64.

    0 where no spike can arrive; None where the values are no spikes, or spikes of different values meet.
    """
    found: dict[str, Tensor | None] = {}
    for name, node in graph.nodes.items():
        known = [value for before in node.inputs if (value := found[before]) is not None]
        found[name] = worth(node.op, graph.shapes[name], known if len(known) == len(node.inputs) else None)
    return found


@dataclass(frozen=True, eq=False)
class Membrane:
    """What is counted in one unit per channel: a layer of neurons and all that drives it.

    ``layers`` are weighted, ``constants`` shift the current, ``skips`` are spikes that arrive as they are, with their
    values ``[C]`` (0 where none arrives). Of what is averaged on its way, ``parts`` says into how many the mean is
    divided: it arrives as a sum of so many. ``neuron`` is "" for a single layer that no neurons stand behind. ``whole``
    says that there is nothing else, such as a scale, and that no channel takes spikes of several values.
    """

    neuron: str
    layers: tuple[str, ...]
    constants: tuple[str, ...] = ()
    skips: Mapping[str, Tensor] = field(default_factory=dict)
    whole: bool = True
    parts: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called: its neurons or, where there are none, its layer."""
        return self.neuron or self.layers[0]

    def own(self, name: str, unit: Tensor) -> Tensor:
        """Return what a layer, a constant or a skip is counted in, where the membrane is in a ``unit``."""
        return unit * self.parts[name]


def membranes(graph: Graph, values: Mapping[str, Tensor | None] | None = None) -> tuple[Membrane, ...]:
    """Return what shares a unit, in the order of the graph; every weighted layer belongs to exactly one."""
    values = spike_values(graph) if values is None else values
    sources = arriving(graph)
    found: dict[str, Membrane] = {}
    taken: set[str] = set()

    def mixes(layer: str) -> bool:
        """Return whether a layer takes nothing but spikes, and they are not all worth the same in each channel."""
        return input_values(graph, layer, values) is None and sources[graph.nodes[layer].inputs[0]] is not None

    for name in graph.ops(Neuron):
        membrane = _membrane(graph, name, values, mixes)
        taken.update(membrane.layers)
        found[membrane.layers[0] if membrane.layers else name] = membrane
    for name in graph.ops(Weighted):
        if name not in taken:
            found[name] = Membrane("", (name,), whole=not mixes(name), parts={name: 1})
    return tuple(found[name] for name in graph.nodes if name in found)


def input_values(graph: Graph, layer: str, values: Mapping[str, Tensor | None]) -> Tensor | None:
    """Return what a spike is worth in every input channel of a layer, ``[C_in]``, None where it is not just that."""
    spread, axis = values[graph.nodes[layer].inputs[0]], channel_axis(graph, layer)
    return None if spread is None or axis is None else alike_by_channel(spread, axis)


def alike_by_channel(spread: Tensor, axis: int) -> Tensor | None:
    """Return values shaped like one sample as one per channel, zeros left aside; None where they differ in one."""
    flat = spread.movedim(axis - 1, 0).reshape(spread.shape[axis - 1], -1)
    largest = flat.amax(1)
    alike = torch.isclose(flat, largest.unsqueeze(1), rtol=1e-9, atol=0) | (flat == 0)
    return largest if bool(alike.all()) else None


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant current: what is added at every step, ``[steps, ...]``, and the operation that adds another."""

    steps: Tensor
    adding: Callable[[Tensor], Op]


@dataclass(frozen=True, eq=False)
class Drive:
    """The part of an operation in what drives a membrane.

    Its own weights are in the membrane's unit (``weighted``), or it adds up currents that are (``sums``), each of them
    one of so many ``parts``, and perhaps a ``constant``.
    """

    weighted: bool = False
    sums: bool = False
    parts: int = 1
    constant: Constant | None = None


# rule(op, shape): that of the operation itself, whoever reads it; ``shape`` is what it reads, of one sample.
drives = Rules[Op, Drive]("what part has an operation in what drives a membrane")


def _membrane(graph: Graph, neuron: str, values: Mapping[str, Tensor | None], mixes: Callable[[str], bool]) -> Membrane:
    layers: list[str] = []
    constants: list[str] = []
    skips: dict[str, Tensor] = {}
    parts: dict[str, int] = {}
    whole = True
    axis = channel_axis(graph, neuron)
    waiting = [(value, neuron, 1) for value in graph.nodes[neuron].inputs]
    while waiting:
        name, reader, divided = waiting.pop(0)
        node, spikes = graph.nodes[name], values[name]
        own = graph.consumers[name] == (reader,) and name not in graph.outputs
        alike = axis is not None and channel_axis(graph, name) == axis
        value = None if spikes is None or axis is None else alike_by_channel(spikes, axis)
        drive = drives(node.op, graph.shapes[node.inputs[0]] if node.inputs else ())
        # By two ways of different parts it is two things.
        whole = parts.setdefault(name, divided) == divided and whole
        if drive.weighted and own and alike:
            layers.append(name)
            whole = whole and not mixes(name)
        elif value is not None:
            skips[name] = value
        elif drive.sums and own and alike:
            constants += [] if drive.constant is None else [name]
            waiting += [(before, name, divided * drive.parts) for before in node.inputs]
        else:
            whole = False
    return Membrane(neuron, tuple(layers), tuple(constants), skips, whole, parts)


@drives.register(Weighted)
def _weighted(op: Weighted, shape: tuple[int, ...]) -> Drive:
    return Drive(weighted=True)


@drives.register(Add, MaxPool)
def _sum(op: Op, shape: tuple[int, ...]) -> Drive:
    """The largest of a window of currents is one of them."""
    return Drive(sums=True)


@drives.register(AveragePool)
def _average(op: AveragePool, shape: tuple[int, ...]) -> Drive:
    parts, _ = op.parts(shape)
    return Drive(sums=True, parts=parts) if parts <= _MOST_PARTS else _outside(op, shape)


@drives.register(Mean)
def _average_over_axes(op: Mean, shape: tuple[int, ...]) -> Drive:
    return Drive(sums=True, parts=math.prod(shape[axis - 1] for axis in op.axes))


@drives.register(Affine)
def _shift(op: Affine, shape: tuple[int, ...]) -> Drive:
    """What is multiplied leaves the unit."""
    if op.scale is not None:
        return _outside(op, shape)
    if op.shift is None:
        return _sum(op, shape)
    return Drive(sums=True, constant=Constant(op.shift.unsqueeze(0), lambda steps: replace(op, shift=steps[0])))


@drives.register(TemporalBias)
def _moving_shift(op: TemporalBias, shape: tuple[int, ...]) -> Drive:
    return Drive(sums=True, constant=Constant(op.shift, lambda steps: replace(op, shift=steps)))


@drives.register(Input, BatchNorm, Routing, Activation, Neuron, Nonlinear, Resample)
def _outside(op: Op, shape: tuple[int, ...]) -> Drive:
    """Spikes apart, what comes out is counted in no unit, or channels no longer lie where they did."""
    return Drive()


@worth.register(Neuron)
def _threshold(op: Neuron, shape: tuple[int, ...], inputs: Sequence[Tensor] | None) -> Tensor | None:
    """A negative spike with a slope has a value of its own."""
    return op.threshold.double().expand(shape).contiguous() if op.slope is None else None


@worth.register(Input, Weighted, BatchNorm, Activation, Nonlinear, Resample, TemporalBias)
def _no_spikes(op: Op, shape: tuple[int, ...], inputs: Sequence[Tensor] | None) -> None:
    """What comes out is a real number, or a current."""


_Rule = Callable[..., Tensor | None]


def _passing(*kinds: type[Any]) -> Callable[[_Rule], _Rule]:
    """Return a decorator that enters the rule for operations that pass spikes on: called where all have a value."""

    def enter(rule: _Rule) -> _Rule:
        @worth.register(*kinds)
        @functools.wraps(rule)
        def known(op: Op, shape: tuple[int, ...], inputs: Sequence[Tensor] | None) -> Tensor | None:
            return None if inputs is None else rule(op, *(value.unsqueeze(0) for value in inputs))

        return rule

    return enter


@_passing(Routing)
def _moved(op: Routing, *inputs: Tensor) -> Tensor:
    return op(*inputs)[0]


@_passing(Pad)
def _padded(op: Pad, x: Tensor) -> Tensor | None:
    """A border of anything but zeros is no spikes."""
    return op(x)[0] if op.value == 0 else None


@_passing(Add)
def _added(op: Add, *inputs: Tensor) -> Tensor | None:
    if any(value.shape != inputs[0].shape for value in inputs):
        return None
    rows = torch.cat(inputs).flatten(1)
    highest = rows.amax(0)
    return highest.view(inputs[0].shape[1:]) if bool(((rows == 0) | (rows == highest)).all()) else None


@_passing(Affine)
def _scaled(op: Affine, x: Tensor) -> Tensor | None:
    if op.shift is not None:
        return None
    scaled = x[0] if op.scale is None else x[0] * op.scale.double()
    return scaled if bool((scaled >= 0).all()) else None


@_passing(MaxPool)
def _largest(op: MaxPool, x: Tensor) -> Tensor | None:
    return _agreed(op(x), -op(-_without_zeros(x)), 1)


@_passing(AveragePool)
def _averaged(op: AveragePool, x: Tensor) -> Tensor | None:
    around = tuple(padding + excess for padding, excess in zip(op.padding, op.excess, strict=True))
    pool, (parts, _) = MaxPool(op.kernel, op.stride, around, (1,) * len(op.kernel)), op.parts(tuple(x.shape[1:]))
    return _agreed(pool(x), -pool(-_without_zeros(x)), parts) if parts <= _MOST_PARTS else None


@_passing(Mean)
def _mean(op: Mean, x: Tensor) -> Tensor | None:
    highest = x.amax(op.axes, keepdim=op.keep)
    lowest = _without_zeros(x).amin(op.axes, keepdim=op.keep)
    return _agreed(highest, lowest, math.prod(x.shape[axis] for axis in op.axes))


def _agreed(highest: Tensor, lowest: Tensor, count: int) -> Tensor | None:
    """Return what one of so many parts of a window's mean is worth, where all spikes in it are worth the same."""
    return highest[0] / count if bool(((highest == 0) | (highest == lowest)).all()) else None


def _without_zeros(spread: Tensor) -> Tensor:
    return torch.where(spread > 0, spread, torch.inf)
