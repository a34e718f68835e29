"""Functions of one number that take several nodes of the file, in whatever spelling, recognized by what they compute.

Nodes that together do the same to every number are read as one function of it, which is evaluated on a grid and looked
up among those that have a name. So ``x · sigmoid(x)``, ``x / (1 + exp(−x))`` and what else is the same are one SiLU,
and what only guards against values that are no numbers is nothing at all.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from snnc import ops
from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.expression import Apply, Array, Call, Expression, Operand, UnsupportedError, chain, tensor
from snnc.frontend.operators import operators
from snnc.frontend.operators.activation import unit_clipped
from snnc.frontend.operators.functions import NAMED, rectified_sum, softly_shrunk
from snnc.ir import Op

Function = Callable[[Expression], Expression]

_POINTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu "
    "Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul "
    "Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub "
    "Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
_KINDS = {*_POINTWISE.split()}
# What far from zero is kept from becoming infinite.
_STEEP = {"Exp", "Log", "Sinh", "Cosh"}
# What makes limits of choices; those that say limits themselves are read with what is behind them.
_TELLING = {"Cast", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where"}
# More nodes than the longest spelling has.
_MOST = 24
# Constants of a file are rounded to float32.
_TOLERANCE = 1e-6

# Halves and quarters, on which roundings decide, and others; then what is too far for a steep function.
_NEAR = torch.cat([torch.arange(-96, 97) / 8, torch.linspace(-11.7, 11.9, 60), torch.tensor([-70, -30, 30, 70])])
_FAR = torch.tensor([-1e5, -1e4, -1e3, -150.0, 150.0, 1e3, 1e4, 1e5])
_GRID = torch.cat([_NEAR, _FAR]).double().unsqueeze(0)
_DECADES = torch.logspace(-3, 1, 997)
_BETWEEN = torch.cat([torch.linspace(-7.9, 8.1, 2003), _DECADES, -_DECADES]).double().unsqueeze(0)
_ZERO, _ONE, _LOWEST, _HIGHEST = 96, 104, 0, 192


@dataclass(frozen=True, eq=False)
class Recognized:
    """Nodes that compute a named function of their input."""

    members: tuple[OnnxNode, ...]
    input: str
    function: Function

    def express(self, call: Call) -> Expression:
        """Return the function."""
        return self.function(call.broadcast(0))


def functions(graph: OnnxGraph, taken: Set[int]) -> Iterator[Recognized]:
    """Find named functions of several nodes, none of which is in ``taken`` or in two of them."""
    used = set(taken)
    places = {id(node): place for place, node in enumerate(graph.nodes)}
    seen: set[str] = set()
    for node in graph.nodes:
        for value in node.inputs:
            if node.kind not in _KINDS or value in seen or value not in graph.shapes or value in graph.constants:
                continue
            seen.add(value)
            found = _recognize(graph, value, used, places)
            if found is not None:
                used.update(id(member) for member in found.members)
                yield found


def _recognize(graph: OnnxGraph, start: str, used: Set[int], places: Mapping[int, int]) -> Recognized | None:
    """Return the longest named function of a value."""
    region = _region(graph, start, used, places)
    for last in reversed(region):
        members = _behind(graph, last, start, places)
        if len(members) < 2 or not _is_closed(graph, members):
            continue
        far = not any(node.kind in _STEEP for node in members)
        function = _named(region[last], far, limits=any(node.kind in _TELLING for node in members))
        if function is not None and _agrees(graph, members, start, function):
            return Recognized(tuple(members), start, function)
    return None


def _region(graph: OnnxGraph, start: str, used: Set[int], places: Mapping[int, int]) -> dict[str, Tensor]:
    """Return what the values are on the grid that are functions of a value alone, number by number, in their order."""
    values = {start: _GRID}
    nodes = {places[id(node)]: node for node in graph.consumers.get(start, ())}
    waiting = sorted(nodes)
    while waiting and len(values) <= _MOST:
        place = heapq.heappop(waiting)
        node = nodes[place]
        if id(node) in used or not _is_pointwise(graph, node, values, start):
            continue
        found = _evaluated(graph, node, values)
        if found is None:
            continue
        (output,) = node.outputs
        values[output] = found
        for reader in graph.consumers.get(output, ()):
            if places[id(reader)] not in nodes:
                nodes[places[id(reader)]] = reader
                heapq.heappush(waiting, places[id(reader)])
    del values[start]
    return values


def _is_pointwise(graph: OnnxGraph, node: OnnxNode, values: Mapping[str, Tensor], start: str) -> bool:
    if (
        node.kind not in _KINDS
        or node.domain
        or len(node.outputs) != 1
        or graph.shapes.get(node.outputs[0]) != graph.shapes[start]
    ):
        return False
    constants = [graph.constants.get(value) for value in node.inputs]
    pairs = zip(node.inputs, constants, strict=True)
    return all(not value or value in values or (array is not None and _is_one_number(array)) for value, array in pairs)


def _is_one_number(array: Array) -> bool:
    """Return whether a constant is the same everywhere, as exporters fold zeros in the shape of a value."""
    return array.size == 1 or (array.size > 0 and bool((array == array.reshape(-1)[0]).all()))


def _evaluated(graph: OnnxGraph, node: OnnxNode, values: Mapping[str, Tensor]) -> Tensor | None:
    """Return what a node makes of values on a grid, by its own converter; None where it has an objection."""
    grid = next(iter(values.values()))
    constants = [graph.constants.get(value) for value in node.inputs]
    scalars = tuple(None if array is None else array.reshape(-1)[:1].reshape(()) for array in constants)
    shape = tuple(grid.shape)
    shapes = tuple(
        None if not value else shape if array is None else () for value, array in zip(node.inputs, scalars, strict=True)
    )
    whole = tuple(value in graph.whole for value in node.inputs)
    call = Call(node.kind, graph.opset, node.attributes, shapes, scalars, (shape,), (True,), whole)
    try:
        expression = operators[node.kind](call)
    except (UnsupportedError, ArithmeticError, IndexError, KeyError, TypeError, ValueError):
        # Where the node is read alone this is told.
        return None
    inputs = [values.get(value, grid) for value in node.inputs]
    return None if isinstance(expression, tuple) else computed(expression, inputs)


def computed(expression: Expression, inputs: list[Tensor]) -> Tensor:
    """Return what an expression makes of its operands, of which each is in the shape that it is asked for in."""
    if isinstance(expression, Operand):
        return inputs[expression.index]
    return expression.op(*(computed(argument, inputs) for argument in expression.arguments))


def _agrees(graph: OnnxGraph, members: list[OnnxNode], start: str, function: Function) -> bool:
    """Return whether nodes compute a function between the points of the grid too, where one of theirs may jump."""
    values = {start: _BETWEEN}
    for node in members:
        found = _evaluated(graph, node, values)
        if found is None:
            return False
        values[node.outputs[0]] = found
    expected = computed(function(Operand(0, tuple(_BETWEEN.shape[1:]))), [_BETWEEN])
    return bool(_is_same(values[members[-1].outputs[0]], expected))


def _behind(graph: OnnxGraph, last: str, start: str, places: Mapping[int, int]) -> list[OnnxNode]:
    """Return the nodes on the way from one value to another, in their order."""
    found: dict[int, OnnxNode] = {}
    waiting = [last]
    while waiting:
        value = waiting.pop()
        if value and value != start and value not in graph.constants:
            node = graph.producers[value]
            found[places[id(node)]] = node
            waiting += node.inputs
    return [node for _, node in sorted(found.items(), key=lambda entry: entry[0])]


def _is_closed(graph: OnnxGraph, members: list[OnnxNode]) -> bool:
    """Return whether nobody else reads what is between."""
    own = {id(node) for node in members}
    between = [node.outputs[0] for node in members[:-1]]
    readers = (reader for value in between for reader in graph.consumers.get(value, ()))
    return not {*between} & {*graph.outputs} and all(id(reader) in own for reader in readers)


def _named(found: Tensor, far: bool, *, limits: bool) -> Function | None:
    """Return the named function that has these values on the grid; those that are ``far`` may not count.

    It may be one that ``limits`` a value.
    """
    points = _GRID.shape[1] if far else len(_NEAR)
    found = found[:, :points]
    if not found.isfinite().all():
        return None
    named, known = _table()
    same = _is_same(found, known[:, :points])
    if same.any():
        return named[int(same.byte().argmax())]
    fitted = [*_fitted(found[0]), *((function, False) for function in _limits(found[0]) if limits)]
    for function, jumps in fitted:
        if bool(_is_same(found, computed(function(_X), [_GRID])[:, :points], jumps)):
            return function
    return None


# Near zero, what is beside a value counts: guards of logarithms and quotients are small.
_RELATIVE, _NOTHING = 2e-5, 1e-13


def _is_same(found: Tensor, known: Tensor, jumps: bool = False) -> Tensor:
    """Return whether values are the same but for rounding, which moves where one that ``jumps`` does so."""
    error = (found - known).abs()
    near = error <= _TOLERANCE * known.abs().clamp_min(1.0)
    return (near & (jumps | (error <= _RELATIVE * known.abs() + _NOTHING))).all(1)


_X = Operand(0, tuple(_GRID.shape[1:]))


@cache
def _table() -> tuple[tuple[Function, ...], Tensor]:
    """The functions without parameters, and for each of them its values on the grid."""
    opposite, gate = ops.Affine(tensor(-1.0), None), unit_clipped(1 / 6, 0.5)
    plain: list[Op] = [kind() for kind in NAMED]
    named: list[Function] = [
        lambda x: x,
        rectified_sum,
        _chained(*gate),
        lambda x: Apply(ops.Product(), (x, chain(x, *gate))),
        _chained(opposite, ops.Softplus(), opposite),
        *map(_chained, (ops.Relu(), *plain, ops.Silu(), ops.Gelu(), ops.Gelu(approximate=True), ops.Truncate())),
    ]
    return tuple(named), torch.cat([computed(function(_X), [_GRID]) for function in named])


def _fitted(found: Tensor) -> Iterator[tuple[Function, bool]]:
    """Yield the functions with parameters that have some of these values, and whether spellings of them jump."""
    end = -float(_GRID[0, _LOWEST])
    zero, one, lowest, highest = (float(found[place]) for place in (_ZERO, _ONE, _LOWEST, _HIGHEST))
    if highest == end:
        yield _chained(ops.LeakyRelu(tensor(-lowest / end))), False
    if lowest == 0 and one > 0:
        yield _chained(ops.Relu(), ops.Affine(tensor(one), None)), False
    if 0 < one < 1:
        yield _chained(ops.Silu(_single(math.log(one / (1 - one))))), False
    if one > 0:
        scaled = [] if _single(one) == 1 else [ops.Affine(tensor(one), None)]
        yield _chained(ops.Elu(_single(lowest / math.expm1(-end) / one)), *scaled), False
    if zero > 0:
        steepness = math.log(2) / zero
        scales = ops.Affine(tensor(steepness), None), ops.Affine(tensor(1 / steepness), None)
        yield _chained(scales[0], ops.Softplus(), scales[1]), False
    if 0 < highest < end:
        yield lambda x: softly_shrunk(x, _single(end - highest)), True


def _limits(found: Tensor) -> Iterator[Function]:
    """Yield the limits on one side or both that have some of these values."""
    end = -float(_GRID[0, _LOWEST])
    low, high = float(found[_LOWEST]), float(found[_HIGHEST])
    down = () if low == 0 else (ops.Affine(None, tensor(-low)),)
    up = () if low == 0 else (ops.Affine(None, tensor(low)),)
    if -end < low < high < end:
        yield _chained(*down, ops.ClippedRelu(tensor(high) - tensor(low)), *up)
    elif -end < low < high == end:
        yield _chained(*down, ops.Relu(), *up)
    elif -end == low < high < end:
        mirror = ops.Affine(tensor(-1.0), tensor(high))
        yield _chained(mirror, ops.Relu(), mirror)


def _chained(*operations: Op) -> Function:
    return lambda x: chain(x, *operations)


def _single(number: float) -> float:
    """Return the number of single precision that a file has for one."""
    return float(np.float32(number))
