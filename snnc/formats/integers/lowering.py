"""From a spiking network of quantized weights to whole numbers: what every node makes of those before it.

Spikes are counted, whatever they are worth here, and currents in units of the membrane that they arrive at; the unit of
an output is told beside it. What moves numbers, or adds up those of windows, is a list of places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnc import ops
from snnc.analysis.channels import from_channels
from snnc.analysis.integers import Counts, counts, moved_inputs, widths
from snnc.analysis.units import Membrane, membranes, spike_values, worth
from snnc.errors import ModelError
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.temporal_bias import TemporalBias
from snnc.neurons.tracking import Tracking
from snnc.neurons.two_phase import TwoPhase
from snnc.rules import RefusedError, Rules, UnansweredError
from snnc.schedule import Schedule

Array = NDArray[Any]

# The bits of whole numbers that double precision tells apart.
_WIDEST = 54

_NEURONS = "convert with --neuron if, cif, graded or two-phase"


@final
@dataclass(frozen=True, eq=False)
class Step:
    """What a node makes of those before it: a kind that the interpreter knows, what it says, and its arrays."""

    kind: str
    says: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class Place:
    """A node and what is known of it: ``whole`` are the numbers of the membrane that it is part of, if any."""

    graph: Graph
    schedule: Schedule
    node: Node
    whole: Counts | None

    @property
    def before(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of what it reads."""
        return tuple(self.graph.shapes[value] for value in self.node.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what it makes."""
        return self.graph.shapes[self.node.name]

    @property
    def numbers(self) -> Counts:
        """The numbers of its membrane, of which there are some."""
        assert self.whole is not None and self.whole.fraction is not None
        return self.whole

    def by_channel(self, name: str, row: Tensor) -> Tensor:
        """Return numbers by channel in the shape that broadcasts against one sample of a node."""
        return from_channels(self.graph, name, row)


# rule(op, place): the steps one after another, the first of which reads what the operation reads.
lowerings = Rules[Op, Sequence[Step]]("what whole numbers does an operation compute with")

# rule(op, place): that of a layer of neurons.
firings = Rules[Neuron, Step]("what does a neuron count")

lowerings.refuse(
    ops.BatchNorm,
    ops.ConvTranspose,
    ops.Activation,
    ops.Nonlinear,
    ops.Resample,
    why="whole numbers have no such operation",
    hint="export onnx, torch or c, which have",
)
firings.refuse(CausalNeuron, OrderFreeNeuron, why="nobody has said what this neuron counts", hint=_NEURONS)


@lowerings.register(Input)
def _input(op: Input, place: Place) -> Sequence[Step]:
    return [Step("input", {"unit": op.unit or 1.0, "most": op.most or (op.below or 256) - 1, "shape": [*op.shape]})]


@lowerings.register(ops.Conv)
def _conv(op: ops.Conv, place: Place) -> Sequence[Step]:
    if len(place.shape) != op.weight.ndim - 1:
        raise RefusedError("whole numbers have no convolution over several samples", hint="export onnx, torch or c")
    says = {"stride": op.stride, "padding": op.padding, "dilation": op.dilation, "groups": op.groups}
    return _weighted("convolution", op, place, says)


@lowerings.register(ops.Linear)
def _linear(op: ops.Linear, place: Place) -> Sequence[Step]:
    return _weighted("linear", op, place, {})


def _weighted(kind: str, op: ops.Weighted, place: Place, says: Mapping[str, Any]) -> Sequence[Step]:
    name, whole = place.node.name, place.numbers
    source = place.graph.ops(Input).get(moved_inputs(place.graph).get(place.node.inputs[0], ""))
    shift = _shift((1.0 if source is None else source.unit or 1.0), whole)
    weight = whole.weights[name].view(op.kernel().shape)
    layer = Step(kind, {**says, "shift": shift}, {"weight": op.with_kernel(weight, None).weight})
    if name not in whole.biases:
        return [layer]
    return [layer, _biased(place, whole.biases[name].unsqueeze(0))]


def _shift(unit: float, whole: Counts) -> int:
    """Return how far what is counted in a part of the unit is shifted to be counted in that of the membrane."""
    assert whole.fraction is not None
    return round(math.log2(unit / whole.fraction))


def _biased(place: Place, rows: Tensor) -> Step:
    """Return the addition of rows ``[steps, C]``, each at its step."""
    shaped = torch.stack([place.by_channel(place.node.name, row) for row in rows])
    return Step("bias", {}, {"bias": shaped * 2 ** _shift(1.0, place.numbers)})


@lowerings.register(ops.Affine, TemporalBias)
def _constant(op: ops.Affine | TemporalBias, place: Place) -> Sequence[Step]:
    """Add what is constant; a scale is part of what spikes are worth."""
    known = place.whole.constants.get(place.node.name) if place.whole is not None else None
    return [Step("add")] if known is None else [_biased(place, known)]


@lowerings.register(ops.Add)
def _add(op: ops.Add, place: Place) -> Sequence[Step]:
    if any(shape != place.shape for shape in place.before):
        raise RefusedError("whole numbers have nothing that broadcasts", hint="export onnx, torch or c")
    return [Step("add")]


@lowerings.register(ops.Routing)
def _routing(op: ops.Routing, place: Place) -> Sequence[Step]:
    return [_places(op(*_numbered(place)).unsqueeze(-1), place)]


@lowerings.register(ops.Mean)
def _mean(op: ops.Mean, place: Place) -> Sequence[Step]:
    (numbered,) = _numbered(place)
    axes = [axis % numbered.ndim for axis in op.axes]
    last = numbered.permute([axis for axis in range(numbered.ndim) if axis not in axes] + axes)
    return [_places(last.flatten(numbered.ndim - len(axes)), place)]


@lowerings.register(ops.AveragePool)
def _average(op: ops.AveragePool, place: Place) -> Sequence[Step]:
    _, parts = op.parts(place.before[0])
    scale = Step("scale", {}, {"weight": parts.expand(place.shape)})
    return [_places(_seen(op, (1,) * len(op.kernel), place), place), *([scale] if any(op.excess) else [])]


@lowerings.register(ops.MaxPool)
def _largest(op: ops.MaxPool, place: Place) -> Sequence[Step]:
    return [replace(_places(_seen(op, op.dilation, place), place), kind="max")]


def _numbered(place: Place) -> list[Tensor]:
    """Return what a node reads with every number in the place of itself, counted from 1, one after another."""
    sizes = [math.prod(shape) for shape in place.before]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [
        torch.arange(start + 1, start + size + 1).double().view(1, *shape)
        for start, size, shape in zip(starts, sizes, place.before, strict=True)
    ]


def _seen(op: ops.AveragePool | ops.MaxPool, dilation: Sequence[int], place: Place) -> Tensor:
    """Return the places that every window sees, ``[1, ..., taps]``."""
    (numbered,) = _numbered(place)
    axes = len(op.kernel)
    around = op.padding
    if isinstance(op, ops.AveragePool):
        around = tuple(padding + excess for padding, excess in zip(op.padding, op.excess, strict=True))
    pads = [(0, 0)] * (numbered.ndim - axes) + [*zip(around[:axes], around[axes:], strict=True)]
    spans = [(side - 1) * step + 1 for side, step in zip(op.kernel, dilation, strict=True)]
    seen: Any = np.lib.stride_tricks.sliding_window_view(np.pad(numbered.numpy(), pads), spans, tuple(range(-axes, 0)))
    steps = *op.stride, *dilation
    return torch.from_numpy(seen[(..., *(slice(None, None, step) for step in steps))].copy()).flatten(-axes)


def _places(numbered: Tensor, place: Place) -> Step:
    """Return the sum of numbers from the places ``[1, ..., taps]``; none is behind the last."""
    behind = sum(math.prod(shape) for shape in place.before)
    index = numbered.flatten(0, -2) - 1
    return Step("sum", {"shape": [*place.shape]}, {"index": torch.where(index < 0, behind, index)})


@lowerings.register(Neuron)
def _neuron(op: Neuron, place: Place) -> Sequence[Step]:
    return [firings(op, place)]


def _held(op: Neuron, place: Place) -> dict[str, Tensor]:
    """Return the thresholds, and what membranes start with, in units."""
    unit, name = op.unit, place.node.name
    assert unit is not None and place.numbers.thresholds is not None
    threshold = place.by_channel(name, place.numbers.thresholds) * 2 ** _shift(1.0, place.numbers)
    return {"threshold": threshold, "start": (op.potential * op.threshold / unit).floor().expand(threshold.shape)}


def _holds(op: Neuron) -> list[int]:
    """Return the least and the most that a membrane holds: of one that does not saturate, more than can come."""
    most = 1 << (op.membrane_bits or _WIDEST) - 1
    return [-most, most - 1]


def _plain(op: Neuron) -> None:
    if op.slope is not None:
        raise RefusedError("what is below zero weighs no whole number", hint="train with ReLU")


@firings.register(IntegrateAndFire)
def _integrate_and_fire(op: IntegrateAndFire, place: Place) -> Step:
    says = {"least": 0, "first": 1, "largest": 1, "counts": False, "highest": None, "rest": 0}
    return Step("neuron", {**says, "holds": _holds(op)}, _held(op, place))


@firings.register(Tracking)
def _tracking(op: Tracking, place: Place) -> Step:
    _plain(op)
    if op.coarse_steps:
        raise RefusedError("an event of several units is no whole number of thresholds", hint=_NEURONS)
    says = {
        "least": -op.max_event if op.takes_back else 0,
        "first": op.first_event,
        "largest": op.max_event,
        "counts": True,
        "highest": op.stated_levels,
        "rest": op.rest,
        "holds": _holds(op),
    }
    held = _held(op, place)
    return Step("neuron", says, {**held, "start": held["start"] - op.rest * held["threshold"]})


@firings.register(TwoPhase)
def _two_phase(op: TwoPhase, place: Place) -> Step:
    _plain(op)
    return Step("gather", {}, _held(op, place))


@final
@dataclass(frozen=True, eq=False)
class Integers:
    """A network as the interpreter reads it: what is said of it, and its arrays of whole numbers."""

    network: Mapping[str, Any]
    arrays: Mapping[str, Array]


@final
class Counted:
    """A network of quantized weights and, node by node, what it is in whole numbers.

    ``units`` say what one of what comes out of a node is worth, where that is known, and ``errors`` all that stands
    against whole numbers but operations that have none.
    """

    def __init__(self, graph: Graph, schedule: Schedule) -> None:
        self.graph, self.schedule = graph.without_dead(), schedule
        self.values = spike_values(self.graph)
        self.errors: list[ModelError] = []
        self._wholes: dict[str, Counts | None] = {}
        self._scaled: dict[tuple[str, str], Tensor] = {}
        if schedule.shares:
            hint = "convert without --shares and choose-shares"
            self.errors.append(ModelError("shares of an image are no whole numbers", place="schedule", hint=hint))
        for membrane in membranes(self.graph, self.values):
            self._count(membrane)
        self.units: dict[str, Tensor] = {}
        for node in self.graph.nodes.values():
            self._measure(node)
        for name in dict.fromkeys(self.graph.outputs):
            if not self.errors and name not in self.units:
                hint = "put a layer with weights behind it"
                place = self.graph.nodes[name].place
                self.errors.append(ModelError("the output is counted in no unit", place=place, hint=hint))

    def real(self, name: str) -> bool:
        """Return whether a node drives a membrane, or is one, of real numbers."""
        return name in self._wholes and self._wholes[name] is None

    def steps(self, node: Node) -> Sequence[Step]:
        """Return a node in whole numbers; raises UnansweredError where it has none."""
        return lowerings(node.op, Place(self.graph, self.schedule, node, self._wholes.get(node.name)))

    def inputs(self, node: Node) -> Iterator[tuple[str, str, Tensor | None]]:
        """Yield what a node reads; of spikes that skip a layer, the neurons behind, and how often each counts there."""
        behind = self._behind(node)
        for value in node.inputs:
            count = self._scaled.get((value, behind))
            if count is None or (node.name != behind and self.values[node.name] is not None):
                yield value, "", None
            else:
                yield value, behind, from_channels(self.graph, value, count)

    def _count(self, membrane: Membrane) -> None:
        whole = counts(self.graph, membrane, self.values)
        unit = None if not membrane.neuron else self.graph.ops(Neuron)[membrane.neuron].unit
        if whole is None or whole.fraction is None or (membrane.neuron and unit is None):
            hint = "real-weights in the report says what to change; export onnx, torch or c, which have real numbers"
            place = self.graph.nodes[membrane.name].place
            self.errors.append(ModelError("real numbers drive it", place=place, hint=hint))
            whole = None
        self._wholes |= dict.fromkeys((membrane.neuron, *membrane.layers, *membrane.constants), whole)
        if whole is not None:
            shift = 2 ** _shift(1.0, whole)
            self._scaled |= {(name, membrane.neuron): count * shift for name, count in whole.skips.items()}

    def _behind(self, node: Node) -> str:
        """Return the layer of neurons that an operation leads to, and nothing else; "" where there is none."""
        while not isinstance(node.op, Neuron):
            readers = self.graph.consumers[node.name]
            if len(readers) != 1 or isinstance(node.op, ops.Weighted):
                return ""
            node = self.graph.nodes[readers[0]]
        return node.name

    def _measure(self, node: Node) -> None:
        """Find out what one of what comes out is worth."""
        value, shape, whole = self.values[node.name], self.graph.shapes[node.name], self._wholes.get(node.name)
        if value is not None:
            self.units[node.name] = value
        elif isinstance(node.op, ops.Weighted) and whole is not None and node.op.unit is not None:
            unit = node.op.unit.double() * (whole.fraction or 1.0)
            self.units[node.name] = from_channels(self.graph, node.name, unit).expand(shape)
        elif not isinstance(node.op, Input) and all(name in self.units for name in node.inputs):
            found = None
            try:
                found = worth(node.op, shape, [self.units[name] for name in node.inputs])
            except UnansweredError:
                return
            if found is not None:
                self.units[node.name] = found


def lowered(graph: Graph, schedule: Schedule) -> tuple[Integers, tuple[ModelError, ...]]:
    """Return a network in whole numbers, and all that stands against it, of which nothing may be for it to be one."""
    counted = Counted(graph, schedule)
    writer = _Writer(counted)
    errors = [*counted.errors]
    for node in counted.graph.nodes.values():
        try:
            writer.write(node)
        except UnansweredError as refusal:
            errors.append(refusal.at(node.place))
    return Integers({} if errors else writer.network(), writer.arrays), tuple(errors)


@final
class _Writer:
    """A network as it comes to be; alive for one export."""

    def __init__(self, counted: Counted) -> None:
        self.arrays: dict[str, Array] = {}
        self._counted = counted
        self._nodes: list[dict[str, Any]] = []

    def write(self, node: Node) -> None:
        """Write a node; raises UnansweredError for what is no whole number, or not counted in whole ones."""
        if self._counted.real(node.name):
            return
        steps = self._counted.steps(node)
        inputs = [*self._inputs(node)]
        for index, step in enumerate(steps):
            last = index == len(steps) - 1
            name = node.name if last else f"{node.name}/{step.kind}"
            self._add(name, step, inputs)
            inputs = [name]

    def network(self) -> dict[str, Any]:
        """Return what is said of the network."""
        graph, schedule = self._counted.graph, asdict(self._counted.schedule)
        outputs = [*dict.fromkeys(graph.outputs)]
        for name in outputs:
            self.arrays[f"{name}.unit"] = self._counted.units[name].numpy()
        found = widths(graph, self._counted.schedule)
        return {
            "schedule": {key: schedule[key] for key in ("timesteps", "sleep", "rehearsal")},
            "nodes": self._nodes,
            "layers": [*graph.ops(Neuron)],
            "outputs": outputs,
            "bits": {name: _bits(asdict(width)) for name, width in found.items() if width is not None},
        }

    def _add(self, name: str, step: Step, inputs: Sequence[str]) -> None:
        for part, tensor in step.arrays.items():
            self.arrays[f"{name}.{part}"] = _narrowed(tensor)
        says = {"name": name, "kind": step.kind, "inputs": [*inputs], **step.says, "arrays": [*step.arrays]}
        self._nodes.append(says)

    def _inputs(self, node: Node) -> Iterator[str]:
        """Yield what a node reads; spikes that skip a layer are counted in the unit of where they arrive."""
        for value, behind, count in self._counted.inputs(node):
            if count is None:
                yield value
                continue
            name = f"{value}/into {behind}"
            if not any(known["name"] == name for known in self._nodes):
                self._add(name, Step("scale", {}, {"weight": count}), [value])
            yield name


def _bits(width: dict[str, Any]) -> dict[str, int]:
    return {name: bits for name, bits in width.items() if name != "rounding"}


def _narrowed(tensor: Tensor) -> Array:
    """Return whole numbers in as few bytes as hold them all."""
    largest = int(tensor.abs().max()) if tensor.numel() else 0
    kinds = (np.int8, np.int16, np.int32, np.int64)
    kind = next(kind for kind in kinds if largest <= np.iinfo(kind).max)
    array: Array = tensor.detach().cpu().double().round().numpy().astype(kind)
    return np.ascontiguousarray(array)
