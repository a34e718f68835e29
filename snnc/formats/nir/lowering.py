"""From a spiking network to what NIR can say: neurons, each fed by a sum of chains of weights, pools and flattenings.

Everything between neurons is affine. A value there is a sum of terms, each a chain of links from one source, a neuron
or the image; an operation on the sum is that operation on every term, its bias on the first. So additions end up at the
neurons, concatenations and slices become weights, and what scales (the values of spikes, averages, normalizations)
wanders along a chain into the next weights. All of that is exact, in double precision until it is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, final

import torch
from torch import Tensor

from snnc import ops
from snnc.analysis.channels import from_channels
from snnc.errors import ModelError
from snnc.formats.nir.links import (
    Flattening,
    Kernel,
    Link,
    Matrix,
    SumPool,
    composed,
    shape_behind,
    sums_windows,
    undilated,
    ungrouped,
)
from snnc.formats.nir.profiles import Profile
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.base import kind_of
from snnc.neurons.dual_threshold import DualThreshold
from snnc.neurons.integrate_and_fire import IntegrateAndFire
from snnc.neurons.integrate_and_fire_to_zero import IntegrateAndFireToZero
from snnc.neurons.offset_spikes import OffsetSpikes
from snnc.neurons.residual_potential import ResidualPotential
from snnc.neurons.temporal_bias import TemporalBias
from snnc.neurons.tracking import Tracking
from snnc.rules import Rules, UnansweredError
from snnc.schedule import Schedule

_RECIPE = "use the recipe nir: snnc calibrate --recipe nir"
# How near to a whole number, relatively, single precision keeps what is one.
_NEAR = 1e-6
# The most axes that NIR has convolutions for: channels, height and width.
_MAPS = 3
_SHAPES = "NIR passes on images [C, H, W] through convolutions and pools, and flat values behind Flatten"


@final
@dataclass(frozen=True, eq=False)
class Term:
    """A chain from a source; ``scale``, of as many axes as ``shape``, is yet to be multiplied by (None: nothing)."""

    source: str
    shape: tuple[int, ...]
    links: tuple[Link, ...] = ()
    scale: Tensor | None = None


@final
@dataclass(frozen=True, eq=False)
class SpikingLayer:
    """A layer of neurons, the sum of chains it is fed by, and what it fires at; its spikes are worth 1."""

    name: str
    place: str
    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    threshold: Tensor


@final
@dataclass(frozen=True, eq=False)
class Lowered:
    """A network in terms of NIR. ``zero`` says that neurons are reset to zero, not by their threshold."""

    input: str
    shape: tuple[int, ...]
    layers: tuple[SpikingLayer, ...]
    output: Term
    zero: bool


def lowered(
    graph: Graph, schedule: Schedule, profile: Profile, *, refuse: Callable[[ModelError], object] | None = None
) -> Lowered:
    """Return a spiking network in terms of NIR; raises ModelError that names what NIR cannot say, and a way round.

    ``refuse`` is told all of these errors in place of raising the first; what is returned after one is no network.
    """
    refuse = refuse or _raise
    for steps, what in ((schedule.sleep, "sleep"), (schedule.rehearsal, "rehearsal")):
        if steps:
            refuse(ModelError(f"NIR has no {what}, and the schedule has {steps} steps of it", hint=_RECIPE))
    if schedule.shares:
        refuse(ModelError("NIR has no biases that change from step to step, as shares of the image do", hint=_RECIPE))
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        hint = "export a network with one input and one output"
        refuse(ModelError(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs", hint=hint))
    graph = graph.without_dead()
    firing = _firing(graph, refuse)
    values: dict[str, tuple[Term, ...]] = {}
    layers = []
    for node in graph.nodes.values():
        shape = graph.shapes[node.name]
        try:
            if node.name in firing:
                threshold, unit = firing[node.name].threshold, graph.ops(Neuron)[node.name].unit
                scale, own = _measured(threshold, unit, profile, schedule.total)
                scale = scale.reshape(_aligned(scale, shape))
                terms = tuple(_whole(_weighted(term, scale, node)) for term in values[node.inputs[0]])
                layers.append(SpikingLayer(node.name, node.place, shape, terms, own.expand(shape)))
            values[node.name] = _terms(graph, node, values)
        except ModelError as error:
            refuse(error)
            # What is behind is looked at as if this were said.
            values[node.name] = (Term(node.name, shape),)
    output = graph.nodes[graph.outputs[0]]
    read_out = values[output.name]
    if len(read_out) > 1:
        hint = "put a layer with weights behind it"
        refuse(_refused(output, "the output is a sum, and sums are read at neurons only", hint))
    zero = any(found.zero for found in firing.values())
    last = _weighted(read_out[0], None, output)
    return Lowered(graph.inputs[0], graph.shapes[graph.inputs[0]], tuple(layers), last, zero)


def _measured(threshold: Tensor, unit: Tensor | None, profile: Profile, steps: int) -> tuple[Tensor, Tensor]:
    """Return what currents are multiplied by and what their sums fire at: whole numbers where they are that."""
    if unit is not None and profile.whole:
        return 1 / unit.double(), (threshold / unit).round()
    one = torch.ones(()).double()
    if unit is not None:
        # A little less: sums of whole numbers lie at a threshold, from which they are off by rounding. What the resets
        # leave adds up to less than half a unit.
        one -= (unit / threshold).min() / (2 * (steps + 1))
    return (1 / threshold, one) if profile.unit_thresholds else (torch.ones_like(threshold), threshold)


def _whole(term: Term) -> Term:
    """Return a term with weights that are whole numbers but for rounding as whole numbers, which sums keep exact."""
    return replace(term, links=tuple(_rounded(link) for link in term.links))


def _rounded(link: Link) -> Link:
    if not isinstance(link, Kernel | Matrix):
        return link
    near = ((part - part.round()).abs() <= _NEAR * part.abs().clamp(min=1) for part in (link.weight, link.bias))
    if not all(bool(part.all()) for part in near):
        return link
    return replace(link, weight=link.weight.round(), bias=link.bias.round())


def _raise(error: ModelError) -> NoReturn:
    raise error


def _refused(node: Node, message: str, hint: str = _RECIPE) -> ModelError:
    return ModelError(message, place=node.place, hint=hint)


@final
@dataclass(frozen=True, eq=False)
class Firing:
    """What NIR has to know of a neuron: what its membrane fires at, float64, and whether it is ``zero`` afterward."""

    threshold: Tensor
    zero: bool


# rule(op, node); raises ModelError that names the node.
firings = Rules[Neuron, Firing]("how NIR says what a neuron does")

firings.refuse(
    CausalNeuron,
    why="nobody has said what NIR calls this neuron",
    hint=f"{_RECIPE}, or register its rule beside it: snnc.formats.nir.lowering.firings",
)


@firings.register(IntegrateAndFire, OffsetSpikes, ResidualPotential)
def _by_subtraction(op: Neuron, node: Node) -> Firing:
    """Without rehearsal, all of these are integrate and fire."""
    return Firing(op.threshold.double(), zero=False)


@firings.register(IntegrateAndFireToZero)
def _to_zero(op: IntegrateAndFireToZero, node: Node) -> Firing:
    return Firing(op.threshold.double() * op.firing.double(), zero=True)


@firings.register(Tracking)
def _graded(op: Tracking, node: Node) -> Firing:
    if op.largest_change(1) > 1:
        found = f"{kind_of(op)} neurons send up to {op.largest_change(1)} levels at once"
        raise _refused(node, f"NIR has spikes, and no events that carry a number: {found}")
    if op.takes_back or op.stated_levels is not None:
        return _signed(op, node)
    return _by_subtraction(op, node)


@firings.register(DualThreshold)
def _signed(op: Neuron, node: Node) -> NoReturn:
    hint = _RECIPE if op.slope is None else f"{_RECIPE} on a network with ReLU only"
    raise _refused(node, f"NIR has no spikes with a sign, which {kind_of(op)} neurons emit", hint)


@firings.register(OrderFreeNeuron)
def _gathering(op: OrderFreeNeuron, node: Node) -> NoReturn:
    raise _refused(node, f"NIR has no neuron that gathers its input before it fires, as {kind_of(op)} does")


def _firing(graph: Graph, refuse: Callable[[ModelError], object]) -> dict[str, Firing]:
    """Return how all neurons fire; refuses those that NIR does not have, or not in one file."""
    found: dict[str, Firing] = {}
    for node in graph.nodes.values():
        if not isinstance(node.op, Neuron):
            continue
        try:
            found[node.name] = firings(node.op, node)
        except UnansweredError as refusal:
            refuse(refusal.at(node.place))
        except ModelError as error:
            refuse(error)
        else:
            if node.op.membrane_bits is not None:
                hint = "leave out --membrane-bits, or export integers, c, onnx or torch"
                refuse(_refused(node, "NIR has no membranes that saturate, and these do", hint))
            # Half a unit is none where all that arrives is whole numbers of them.
            start, least = node.op.potential * node.op.threshold, 0 if node.op.unit is None else 0.75 * node.op.unit
            if (start.abs() > least).any():
                hint = f"let them start at zero: {_RECIPE}, or the pass start-at-rest behind substitute-neurons"
                refuse(_refused(node, "NIR has no initial potentials, and these neurons have", hint))
        if len({firing.zero for firing in found.values()}) > 1:
            refuse(_refused(node, "a file has one kind of reset, and this network has two"))
    return found


def _aligned(tensor: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a tensor that broadcasts against a sample, with as many axes as the sample."""
    if tensor.ndim > len(shape):
        return tuple(tensor.shape[tensor.ndim - len(shape) :])
    return (1,) * (len(shape) - tensor.ndim) + tuple(tensor.shape)


# rule(op, graph, node, inputs): what an operation makes of the terms of its inputs.
lowerings = Rules[Op, tuple[Term, ...]]("how NIR says what an operation does")

lowerings.refuse(
    ops.MaxPool,
    why="NIR has no max-pooling",
    hint=f"average instead, and train again if that costs too much: {_RECIPE}, "
    "or --set passes.treat-max-pool.method=average",
)
lowerings.refuse(ops.ConvTranspose, why="NIR has no transposed convolution", hint="upsample outside, or not at all")
lowerings.refuse(
    ops.Nonlinear,
    why="NIR has no function of values that are no spikes",
    hint="export onnx or torch, which have",
)
lowerings.refuse(
    ops.Resample, why="NIR has no weighted sums between positions", hint="export onnx or torch, which have"
)
lowerings.refuse(
    ops.Transpose,
    why="NIR has no other order of axes",
    hint="keep channels first, or put Flatten behind images only",
)
lowerings.refuse(
    TemporalBias,
    why="NIR has no bias that changes from step to step",
    hint="calibrate again with --set passes.PASS.temporal=false, of correct-spiking-residual or distill",
)
lowerings.refuse(
    ops.Activation,
    why="NIR has no activation that does not spike",
    hint="set passes.normalize-activations.beside-quantized=spike",
)


def _terms(graph: Graph, node: Node, values: Mapping[str, tuple[Term, ...]]) -> tuple[Term, ...]:
    try:
        return lowerings(node.op, graph, node, [values[value] for value in node.inputs])
    except UnansweredError as refusal:
        raise refusal.at(node.place) from None


@lowerings.register(Input)
def _input(op: Input, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    return (Term(node.name, op.shape),)


@lowerings.register(Neuron)
def _neuron(op: Neuron, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    """Its spikes, each worth its threshold."""
    shape, value = graph.shapes[node.name], op.threshold.double()
    return (Term(node.name, shape, (), value.reshape(_aligned(value, shape))),)


@lowerings.register(ops.Conv)
def _conv(op: ops.Conv, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    axes = op.weight.ndim - 2
    weight = undilated(ungrouped(op.kernel().double()), op.dilation)
    bias = torch.zeros(len(weight)).double() if op.bias is None else op.bias.double()
    kernel = Kernel(weight, bias, op.stride, op.padding[:axes], op.padding[axes:])
    return _applied(kernel, node, inputs[0])


@lowerings.register(ops.Linear)
def _linear(op: ops.Linear, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    if len(graph.shapes[node.name]) != 1:
        raise _refused(node, "NIR has no product with the last of several axes", _SHAPES)
    bias = torch.zeros(len(op.weight)).double() if op.bias is None else op.bias.double()
    return _applied(Matrix(op.weight.double(), bias), node, inputs[0])


@lowerings.register(ops.BatchNorm)
def _batch_norm(op: ops.BatchNorm, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    scale, shift = (from_channels(graph, node.name, factor) for factor in op.factors())
    return _affine(ops.Affine(scale, shift), graph, node, inputs)


@lowerings.register(ops.Affine)
def _affine(op: ops.Affine, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    shape = graph.shapes[node.name]
    if graph.shapes[node.inputs[0]] != shape:
        raise _refused(node, "NIR has nothing that broadcasts", _SHAPES)
    terms = inputs[0] if op.scale is None else tuple(_scaled(term, op.scale.double(), node) for term in inputs[0])
    if op.shift is None:
        return terms
    shift = op.shift.double().reshape(_aligned(op.shift, shape))
    return (_shifted(terms[0], shift, node), *terms[1:])


@lowerings.register(ops.Add)
def _add(op: ops.Add, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    if any(graph.shapes[value] != graph.shapes[node.name] for value in node.inputs):
        raise _refused(node, "NIR has nothing that broadcasts", _SHAPES)
    return tuple(term for terms in inputs for term in terms)


@lowerings.register(ops.Concat)
def _concat(op: ops.Concat, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    _check_channels(op.axis, node, "concatenation")
    channels = graph.shapes[node.name][0]
    found: list[Term] = []
    start = 0
    for value, terms in zip(node.inputs, inputs, strict=True):
        width = graph.shapes[value][0]
        route = torch.zeros(channels, width).double()
        route[start : start + width] = torch.eye(width)
        found += (_routed(term, route, node) for term in terms)
        start += width
    return tuple(found)


@lowerings.register(ops.Slice)
def _slice(op: ops.Slice, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    size = graph.shapes[node.inputs[0]][op.axis - 1]
    kept = range(size)[op.start : op.stop : op.step]
    if op.axis == 1:
        route = torch.eye(size).double()[list(kept)]
        return tuple(_routed(term, route, node) for term in inputs[0])
    shape = graph.shapes[node.inputs[0]]
    axes = len(shape) - 1
    # A kernel whose only weight is where the first entry is, and that is long enough to end at the last one.
    sizes, strides, places = [1] * axes, [1] * axes, [0] * axes
    axis = op.axis - 2
    strides[axis], places[axis] = op.step, op.start
    sizes[axis] = max(op.start + 1, size - op.step * len(kept) + 1)
    weight = torch.zeros(shape[0], shape[0], *sizes).double()
    weight.flatten(2)[..., places[axis]] = torch.eye(shape[0]).double()
    blank = (0,) * axes
    kernel = Kernel(weight, torch.zeros(shape[0]).double(), tuple(strides), blank, blank, routing=True)
    return tuple(_carried(term, kernel, node) for term in inputs[0])


@lowerings.register(ops.Take)
def _take(op: ops.Take, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    _check_channels(op.axis, node, "gathering")
    route = torch.eye(graph.shapes[node.inputs[0]][0]).double()[list(op.indices)]
    return tuple(_routed(term, route, node) for term in inputs[0])


@lowerings.register(ops.Pad)
def _pad(op: ops.Pad, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    if op.value and any(op.padding):
        raise _refused(node, f"NIR pads with zeros, not with {op.value:g}", "pad with zeros")
    shape = graph.shapes[node.inputs[0]]
    rank = len(op.padding) // 2
    begin, end = ((0,) * (len(shape) - rank) + part for part in (op.padding[:rank], op.padding[rank:]))
    terms = inputs[0]
    if begin[0] or end[0]:
        route = torch.zeros(begin[0] + shape[0] + end[0], shape[0]).double()
        route[begin[0] : begin[0] + shape[0]] = torch.eye(shape[0])
        terms = tuple(_routed(term, route, node) for term in terms)
    if not any((*begin[1:], *end[1:])):
        return terms
    channels, ones = begin[0] + shape[0] + end[0], (1,) * (len(shape) - 1)
    weight = torch.eye(channels).double().reshape(channels, channels, *ones)
    kernel = Kernel(weight, torch.zeros(channels).double(), ones, begin[1:], end[1:], routing=True)
    return tuple(_carried(term, kernel, node) for term in terms)


@lowerings.register(ops.Reshape)
def _reshape(op: ops.Reshape, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    before = graph.shapes[node.inputs[0]]
    if op.shape == before:
        return inputs[0]
    if len(graph.shapes[node.name]) != 1:
        raise _refused(node, f"NIR flattens, and has no other shape to make of {before}", _SHAPES)
    return tuple(_flattened(term) for term in inputs[0])


@lowerings.register(ops.Mean)
def _mean(op: ops.Mean, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]) -> tuple[Term, ...]:
    shape = graph.shapes[node.inputs[0]]
    if tuple(sorted(op.axes)) != tuple(range(2, len(shape) + 1)):
        raise _refused(node, "NIR has no mean over axes other than all spatial ones", _SHAPES)
    window, blank = shape[1:], (0,) * (2 * len(shape[1:]))
    terms = _pooled(ops.AveragePool(window, window, blank, blank), node, inputs[0])
    return terms if op.keep else tuple(_flattened(term) for term in terms)


@lowerings.register(ops.AveragePool)
def _average_pool(
    op: ops.AveragePool, graph: Graph, node: Node, inputs: Sequence[tuple[Term, ...]]
) -> tuple[Term, ...]:
    return _pooled(op, node, inputs[0])


def _pooled(op: ops.AveragePool, node: Node, terms: Sequence[Term]) -> tuple[Term, ...]:
    if any(op.excess):
        hint = "count the padding (of max-pools: --set passes.treat-max-pool.border=zeros), or pad by nothing"
        raise _refused(node, "NIR has no average that leaves its padding out", hint)
    axes, share = len(op.kernel), torch.tensor(1 / math.prod(op.kernel)).double()
    if axes == 2 and not any(op.padding):
        pooled = (_pooled_sum(term, SumPool(op.kernel, op.stride), node) for term in terms)
    else:
        # Importers leave out the padding of pools, and have none over one axis.
        channels = terms[0].shape[0]
        weight = torch.eye(channels).double().reshape(channels, channels, *(1,) * axes) * torch.ones(op.kernel).double()
        blank = torch.zeros(channels).double()
        kernel = Kernel(weight, blank, op.stride, op.padding[:axes], op.padding[axes:], routing=True)
        pooled = (_carried(term, kernel, node) for term in terms)
    return tuple(_scaled(term, share, node) for term in pooled)


def _check_channels(axis: int, node: Node, what: str) -> None:
    if axis != 1:
        raise _refused(node, f"NIR has no {what} along axis {axis}, only channels can be put into weights", _SHAPES)


def _applied(layer: Kernel | Matrix, node: Node, terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms behind a layer, whose bias comes but once."""
    unbiased = replace(layer, bias=torch.zeros_like(layer.bias))
    return tuple(_behind(term, unbiased if index else layer, node) for index, term in enumerate(terms))


def _behind(term: Term, layer: Kernel | Matrix, node: Node) -> Term:
    if len(term.shape) != (1 if isinstance(layer, Matrix) else layer.weight.ndim - 1) or len(term.shape) > _MAPS:
        raise _refused(node, f"NIR has no such layer behind a value of shape {term.shape}", _SHAPES)
    if term.scale is not None:
        factors = _factors(term.scale, term.shape, node)
        weight = layer.weight * factors.reshape(1, -1, *(1,) * (layer.weight.ndim - 2))
        layer = replace(layer, weight=weight)
    shape = shape_behind(term.shape, layer)
    last = term.links[-1] if term.links else None
    joined = composed(last, layer) if isinstance(last, Kernel) and isinstance(layer, Kernel) else None
    links = (*term.links, layer) if joined is None else (*term.links[:-1], joined)
    return Term(term.source, shape, links)


def _routed(term: Term, route: Tensor, node: Node) -> Term:
    """Return a term behind a matrix ``[out, in]`` of zeros and ones over its channels, each taken from one at most."""
    return _carried(term, _channels(route, term), node)


def _channels(route: Tensor, term: Term) -> Kernel | Matrix:
    """Return a matrix over the channels of a term as a layer."""
    zeros, blank = torch.zeros(len(route)).double(), (0,) * (len(term.shape) - 1)
    if len(term.shape) == 1:
        return Matrix(route, zeros)
    ones = (1,) * len(blank)
    return Kernel(route.reshape(*route.shape, *ones), zeros, ones, blank, blank, routing=True)


def _carried(term: Term, layer: Kernel | Matrix, node: Node) -> Term:
    """Return a term behind what moves values or adds them up; what it is yet to be multiplied by goes along.

    Every value is of one channel: in weights that are multiplied twice, whole numbers would be rounded.
    """
    moved = _behind(replace(term, scale=None), layer, node)
    if term.scale is None:
        return moved
    taken = layer.weight.reshape(*layer.weight.shape[:2], -1).amax(2)
    scale = torch.where(taken.any(1), taken @ _factors(term.scale, term.shape, node), 1)
    return replace(moved, scale=scale.reshape(-1, *(1 for _ in moved.shape[1:])))


def _pooled_sum(term: Term, pool: SumPool, node: Node) -> Term:
    if term.scale is not None:
        _factors(term.scale, term.shape, node)
    if len(term.shape) != _MAPS:
        raise _refused(node, f"NIR has no such pool of values of shape {term.shape}", _SHAPES)
    return Term(term.source, shape_behind(term.shape, pool), (*term.links, pool), term.scale)


def _flattened(term: Term) -> Term:
    if len(term.shape) == 1:
        return term
    flat = (math.prod(term.shape),)
    scale = None if term.scale is None else term.scale.expand(term.shape).reshape(flat)
    return Term(term.source, flat, (*term.links, Flattening(term.shape)), scale)


def _scaled(term: Term, scale: Tensor, node: Node) -> Term:
    """Multiply: the weights before, where there are any, or what is yet to be multiplied by.

    What sums of windows are made of is multiplied, and not they: sums of whole numbers stay sums of such.
    """
    scale = scale.reshape(_aligned(scale, term.shape))
    at = next((at for at in reversed(range(len(term.links))) if not sums_windows(term.links[at])), -1)
    last = term.links[at] if at >= 0 else None
    if term.scale is None and isinstance(last, Kernel | Matrix):
        factors = _factors(scale, term.shape, node)
        weight = last.weight * factors.reshape(-1, *(1,) * (last.weight.ndim - 1))
        scaled = replace(last, weight=weight, bias=last.bias * factors)
        return replace(term, links=(*term.links[:at], scaled, *term.links[at + 1 :]))
    return replace(term, scale=scale if term.scale is None else term.scale * scale)


def _shifted(term: Term, shift: Tensor, node: Node) -> Term:
    term = _weighted(term, None, node)
    last = term.links[-1]
    assert isinstance(last, Kernel | Matrix)
    moved = replace(last, bias=last.bias + _factors(shift, term.shape, node))
    return replace(term, links=(*term.links[:-1], moved))


def _weighted(term: Term, scale: Tensor | None, node: Node) -> Term:
    """Return a term that ends in weights of its own, with all its scales in them."""
    if scale is not None:
        term = _scaled(term, scale, node)
    if term.scale is not None or not term.links or not isinstance(term.links[-1], Kernel | Matrix):
        term = _behind(term, _channels(torch.eye(term.shape[0]).double(), term), node)
    return term


def _factors(constant: Tensor, shape: tuple[int, ...], node: Node) -> Tensor:
    """Return a constant as one number per channel; raises ModelError where it differs within a channel."""
    flat = constant.expand(shape).reshape(shape[0], -1)
    if not bool((flat == flat[:, :1]).all()):
        hint = "one number per channel: calibrate again with per: channel or per: layer"
        raise _refused(node, "NIR has no scales or constants that differ from place to place", hint)
    return flat[:, 0]
