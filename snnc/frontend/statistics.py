"""Normalizations and softmaxes that the file writes out in many nodes, recognized by what they compute.

Nodes that together are a function of one value are run on random numbers, whatever they are, and compared with

    κ · v / √max(mean(v²) + ε, floor) + β,  v = u or u − mean(u)

which layer, root-mean-square and group normalization are, and the division by a Euclidean norm (ε or floor may be 0),
and with softmax, its logarithm, and the logarithm of a sum of exponentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from snnc import ops
from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.expression import Array, Call, Expression, chain
from snnc.frontend.operators.normalization import normalized

_REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"}
_PARTS = {
    *_REDUCTIONS,
    *("Add", "Sub", "Mul", "Div", "Sum", "Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Neg", "Abs", "Max", "Clip"),
    *("Identity", "Cast", "Expand", "Reshape", "Squeeze", "Unsqueeze"),
}
_MOST_PARTS = 20
# Of functions in double precision.
_TOLERANCE = 1e-6
# A term under a root that is less than this of what it is beside is none.
_NOTHING = 1e-30
_ROUNDED = 1e-9
_FAINT, _FAINTEST = 1e-5, 1e-20

Axes = tuple[int, ...]
Function = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class _Norm:
    """``scale · v / √max(mean(v²) + epsilon, floor) + shift``; v is centered or not."""

    centers: bool
    epsilon: float
    floor: float
    scale: Array
    shift: Array

    def __call__(self, u: Array, axes: Axes) -> Array:
        v = u - u.mean(axes, keepdims=True) if self.centers else u
        square = np.square(v).mean(axes, keepdims=True) + self.epsilon
        result: Array = self.scale * v / np.sqrt(np.maximum(square, self.floor)) + self.shift
        return result

    def express(self, call: Call, value: Expression, axes: Axes) -> Expression:
        value = normalized(value, axes, self.epsilon, centers=self.centers, floor=self.floor)
        scale = None if np.all(self.scale == 1) else call.broadcast_constant(self.scale)
        shift = call.broadcast_constant(self.shift) if self.shift.any() else None
        return value if scale is None and shift is None else chain(value, ops.Affine(scale, shift))


@dataclass(frozen=True, eq=False)
class _Softmax:
    kind: type[ops.Softmax] | type[ops.LogSoftmax]

    def __call__(self, u: Array, axes: Axes) -> Array:
        raised = u - _log_sum_exp(u, axes)
        return raised if self.kind is ops.LogSoftmax else np.exp(raised)

    def express(self, call: Call, value: Expression, axes: Axes) -> Expression:
        return chain(value, self.kind(*axes))


@dataclass(frozen=True, eq=False)
class _LogSumExp:
    keeps: bool

    def __call__(self, u: Array, axes: Axes) -> Array:
        total = _log_sum_exp(u, axes)
        return total if self.keeps else total.squeeze(axes)

    def express(self, call: Call, value: Expression, axes: Axes) -> Expression:
        return chain(value, ops.LogSumExp(axes, self.keeps))


@dataclass(frozen=True, eq=False)
class Statistic:
    """Nodes that compute a form of their input along some axes."""

    members: tuple[OnnxNode, ...]
    input: str
    form: _Norm | _Softmax | _LogSumExp
    axes: Axes

    @property
    def statistics(self) -> int:
        """How many of the nodes look at several numbers at once."""
        return sum(member.kind in _REDUCTIONS for member in self.members)

    def express(self, call: Call) -> Expression:
        """Return the form in our operations."""
        operand, offset = call.framed(self.axes)
        value = self.form.express(call, operand, tuple(axis + offset for axis in self.axes))
        return call.framed_result(value, offset)


def statistics(graph: OnnxGraph, taken: Set[int]) -> Iterator[Statistic]:
    """Find normalizations and softmaxes of several nodes, none of which is in ``taken`` or in two of them."""
    used = set(taken)
    order = {id(node): index for index, node in enumerate(graph.nodes)}
    for node in reversed(graph.nodes):
        if id(node) in used or not _may_end(graph, node):
            continue
        cones = _cones(graph, node, order, used)
        every = [_recognized(graph, value, members) for value, members in cones]
        # All of its statistics, and nothing in front of them.
        found = max((one for one in every if one is not None), key=lambda one: one.statistics, default=None)
        if found is not None:
            used.update(id(member) for member in found.members)
            yield found


def _may_end(graph: OnnxGraph, node: OnnxNode) -> bool:
    computed = {value for value in node.inputs if value and value not in graph.constants}
    return node.kind == "Log" or (node.kind in ("Add", "Sub", "Mul", "Div") and len(computed) == 2)


def _cones(
    graph: OnnxGraph, last: OnnxNode, order: dict[int, int], used: Set[int]
) -> Iterator[tuple[str, tuple[OnnxNode, ...]]]:
    """Yield, from the smallest on, nodes up to ``last`` that are a function of one value, and that value.

    What they compute is read by nobody else.
    """
    members = {id(last): last}
    open_values = {value for value in last.inputs if value and value not in graph.constants}
    while len(members) <= _MOST_PARTS:
        if len(open_values) == 1 and any(member.kind in _REDUCTIONS for member in members.values()):
            inner = [member for member in members.values() if member is not last]
            if all(_is_inside(graph, member, members) for member in inner):
                (value,) = open_values
                yield value, tuple(sorted(members.values(), key=lambda member: order[id(member)]))
        producers = [graph.producers[value] for value in open_values if value in graph.producers]
        if len(producers) < len(open_values) - 1 or not producers:
            return
        # The last of them: what it computes is needed for nothing that is not among the members.
        producer = max(producers, key=lambda node: order[id(node)])
        if producer.kind not in _PARTS or id(producer) in used:
            return
        members[id(producer)] = producer
        open_values -= set(producer.outputs)
        open_values |= {value for value in producer.inputs if value and value not in graph.constants}


def _is_inside(graph: OnnxGraph, node: OnnxNode, members: dict[int, OnnxNode]) -> bool:
    (value, *_) = node.outputs
    return value not in graph.outputs and all(id(reader) in members for reader in graph.consumers.get(value, ()))


def _recognized(graph: OnnxGraph, value: str, members: tuple[OnnxNode, ...]) -> Statistic | None:
    shape = graph.shapes.get(value)
    if not shape:
        return None
    spans = {_axes(graph, member, len(shape)) for member in members if member.kind in _REDUCTIONS}
    if len(spans) != 1 or None in spans:
        return None
    (axes,) = spans
    assert axes is not None
    # What makes no sense or is no number is told of where the nodes are read alone.
    with np.errstate(all="ignore"):
        try:
            form = _form(_function(graph, value, members), _smaller(graph, members, shape, axes), axes)
        except Exception:
            return None
    return None if form is None else Statistic(members, value, form, axes)


def _axes(graph: OnnxGraph, node: OnnxNode, rank: int) -> Axes | None:
    given = node.attributes.get("axes")
    if given is None and len(node.inputs) > 1 and node.inputs[1]:
        given = graph.constants.get(node.inputs[1])
        if given is None:
            return None
    axes = range(rank) if given is None or not len(given) else (int(axis) % rank for axis in given)
    return tuple(sorted(axes))


def _smaller(graph: OnnxGraph, members: tuple[OnnxNode, ...], shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """Return the shape with length 2 at most along axes along which the nodes do the same everywhere."""
    if any(member.kind in ("Expand", "Reshape") for member in members):
        return shape
    names = {name for member in members for name in member.inputs if name in graph.constants}
    factors = [graph.constants[name] for name in names if graph.constants[name].dtype.kind == "f"]
    behind = [{axis - array.ndim for axis, length in enumerate(array.shape) if length > 1} for array in factors]
    needed = {*axes, *(axis + len(shape) for places in behind for axis in places)}
    return tuple(length if axis in needed else min(length, 2) for axis, length in enumerate(shape))


def _function(graph: OnnxGraph, value: str, members: tuple[OnnxNode, ...]) -> Function:
    """Return what the nodes compute of a value, in double precision."""
    names = dict.fromkeys(name for member in members for name in member.inputs if name in graph.constants)
    constants = [numpy_helper.from_array(_doubled(graph.constants[name]), name) for name in names]
    (result, *_) = members[-1].outputs
    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in (value, result)]
    inner = helper.make_graph([_written(member) for member in members], "function", ends[:1], ends[1:], constants)
    opset = helper.make_opsetid("", graph.opset)
    evaluator = ReferenceEvaluator(helper.make_model(inner, opset_imports=[opset]))

    def function(u: Array) -> Array:
        (found,) = evaluator.run(None, {value: u})
        return np.asarray(found)

    return function


def _written(node: OnnxNode) -> NodeProto:
    attributes = dict(node.attributes)
    if node.kind == "Cast":
        attributes["to"] = TensorProto.DOUBLE
    return helper.make_node(node.kind, node.inputs, node.outputs, **attributes)


def _doubled(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _form(function: Function, shape: tuple[int, ...], axes: Axes) -> _Norm | _Softmax | _LogSumExp | None:
    """Return the form that a function of values of this shape is, None where it is none."""
    random = np.random.default_rng(0)
    u, fresh = random.standard_normal((2, *shape))
    y, wanted = function(u), function(fresh)
    candidates: list[_Norm | _Softmax | _LogSumExp] = [_LogSumExp(True), _LogSumExp(False)]
    if len(axes) == 1:
        candidates += [_Softmax(ops.Softmax), _Softmax(ops.LogSoftmax)]
    if y.shape == u.shape:
        norms = (_norm(function, u, y, axes, centers) for centers in (False, True))
        candidates += [norm for norm in norms if norm is not None]
    for form in candidates:
        if all(_is_same(form(x, axes), value) for x, value in ((u, y), (fresh, wanted))):
            return form
    return None


def _norm(function: Function, u: Array, y: Array, axes: Axes, centers: bool) -> _Norm | None:
    """Return the only norm that the function may be."""
    shift = _common((y + function(-u)) / 2)
    v = u - u.mean(axes, keepdims=True) if centers else u
    square = np.square(v).mean(axes, keepdims=True)

    def divisor(scale: float) -> Array:
        """Return the square of what it divides by, for ``scale · u``, over that of the factor in front."""
        quotient: Array = np.square(scale * v / (function(scale * u) - shift))
        return quotient

    # What is faint beside the shift would be rounded away.
    faint = _FAINT if shift.any() else _FAINTEST
    usual, least = divisor(1.0), divisor(faint)
    sign = np.sign((y - shift) / v)
    constant = (least - faint**2 * usual) / (1 - faint**2)
    constant = np.where((constant < _NOTHING * usual) | (constant < _ROUNDED * least), 0.0, constant)
    slope = (usual - constant) / square
    # Both terms alike: a sum has both of them, a maximum one.
    between = float(np.sqrt(np.median(constant / slope) / np.median(square)))
    added = not constant.any() or _is_same(divisor(between), between**2 * slope * square + constant)
    slope = slope if added else usual / square
    size = float(np.median(constant / slope))
    epsilon, floor = (size, 0.0) if added else (0.0, size)
    return _Norm(centers, epsilon, floor, _common(sign / np.sqrt(slope)), shift)


def _common(values: Array) -> Array:
    """Return values with length 1 along every axis along which they are the same, rounding errors left out."""
    values = np.where(np.abs(values - np.round(values)) < 1e-9, np.round(values), values)
    for axis in range(values.ndim):
        first = values.take([0], axis)
        values = first if np.allclose(values, first, rtol=1e-8, atol=1e-9) else values
    return values


def _log_sum_exp(u: Array, axes: Axes) -> Array:
    top = u.max(axes, keepdims=True)
    total: Array = np.log(np.exp(u - top).sum(axes, keepdims=True)) + top
    return total


def _is_same(ours: Array, theirs: Array) -> bool:
    if ours.shape != theirs.shape or not np.isfinite(theirs).all():
        return False
    return bool(np.abs(ours - theirs).max() <= _TOLERANCE * np.abs(theirs).max())
