"""What every stateless operation is in C: calls of functions, one after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from snnc import ops
from snnc.formats.c.language import Array, along, constants, integers
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons.base import Timed
from snnc.ops.normalization import TINY
from snnc.rules import RefusedError, Rules, UnansweredError

# Axes that one function walks over.
_MOST_AXES = 8

_THREE = 3

# To so few maps no event is listed.
_MAPS = 4


@final
@dataclass(frozen=True)
class Place:
    """Where an operation stands: behind inputs of which shapes, to an output of which, those of one sample.

    ``sends`` says that what comes in are events or sums of such, many of them nothing, and ``kind`` of which type the
    output is. Of whole numbers a mean is a sum: what is counted is a part.
    """

    before: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]
    sends: bool = False
    kind: str = "float"

    @property
    def whole(self) -> bool:
        """Whether numbers are whole."""
        return self.kind != "float"

    def constants(self, values: Tensor | Array) -> Array:
        """Return constants, of whole numbers in the smallest type that holds them."""
        return constants(values, "" if self.whole else self.kind)

    @property
    def size(self) -> int:
        """How many numbers come out."""
        return math.prod(self.after)


@final
@dataclass(frozen=True)
class Part:
    """Numbers of an input, by its number, or of the output (None), from ``start`` on."""

    of: int | None
    start: int = 0


@final
@dataclass(frozen=True, eq=False)
class Record:
    """A constant of a type of the file, made of whole numbers and lists of them."""

    kind: str
    fields: tuple[int | tuple[int, ...], ...]


Argument = Part | Array | Record | int | float | None


@final
@dataclass(frozen=True, eq=False)
class FunctionCall:
    """A call of a function; arrays are constants with a name of their own, ``parts`` says which of them is which.

    One ``by_events`` gives the same, and is faster where few of the inputs are more than nothing.
    """

    function: str
    arguments: tuple[Argument, ...]
    parts: tuple[str, ...] = ()
    by_events: str = ""


@final
@dataclass(frozen=True, eq=False)
class Calls:
    """The calls of an operation; none where the output is the input, number by number.

    One that works ``in_place`` may be given its first input as its output.
    """

    calls: tuple[FunctionCall, ...]
    in_place: bool = False


X, Y = Part(0), Part(None)

kernels = Rules[Op, Calls]("what C computes an operation")

kernels.refuse(
    Input,
    why="an input of a network is an argument of the function, and no operation in it",
    hint="hand it over",
)
kernels.refuse(
    Timed,
    why="what works over time is no single call in C",
    hint="snnc export --format c writes neurons, each of them as functions",
)
kernels.refuse(
    ops.Activation,
    why="nobody has written in C what neurons do not stand for",
    hint="convert with a recipe that puts neurons in its place, or export with --format onnx --step",
)
kernels.refuse(
    ops.Embedding,
    ops.Nonlinear,
    ops.Pool,
    ops.Resample,
    ops.Routing,
    ops.Weighted,
    why="nobody has written this operation in C",
    hint="export with --format onnx --step, or register what it is beside it: snnc.formats.c.operations.kernels",
)


def spelled(graph: Graph, node: Node, *, sends: bool = False, kind: str = "float") -> Calls:
    """Return what a node of a network is in C; raises ModelError that names it where that is nothing."""
    place = Place(tuple(graph.shapes[value] for value in node.inputs), graph.shapes[node.name], sends, kind)
    try:
        return kernels(node.op, place)
    except UnansweredError as refusal:
        raise refusal.at(node.name) from None


@kernels.register(ops.Conv)
def _conv(op: ops.Conv, place: Place) -> Calls:
    kernel = op.kernel()
    window = _window(place, op.weight.shape[2:], op.stride, op.padding, op.dilation, channels=kernel.shape[:3])
    # What a listed event costs is shared by the maps that it goes to.
    shared = place.sends and kernel.shape[1] >= _MAPS
    return _weighted("convolve", window, op, place, "convolve_events" if shared else "")


@kernels.register(ops.ConvTranspose)
def _conv_transpose(op: ops.ConvTranspose, place: Place) -> Calls:
    kernel = op.kernel()
    window = _window(place, op.weight.shape[2:], op.stride, op.padding, op.dilation, channels=kernel.shape[:3])
    return _weighted("convolve_back", window, op, place)


def _weighted(function: str, window: Record, op: ops.Weighted, place: Place, by_events: str = "") -> Calls:
    bias = None if op.bias is None else constants(op.bias, place.kind)
    arguments = window, X, place.constants(op.weight), bias, Y
    return Calls((FunctionCall(function, arguments, ("window", "weight", "bias"), by_events),))


@kernels.register(ops.Linear)
def _linear(op: ops.Linear, place: Place) -> Calls:
    out, inputs = op.weight.shape
    weight = place.constants(op.weight.T if place.sends else op.weight)
    bias = None if op.bias is None else constants(op.bias, place.kind)
    # Input by input nothing is lost where all are there: sums wait for one another less.
    function = "connect_events" if place.sends else "connect"
    call = FunctionCall(function, (X, weight, bias, Y, place.size // out, inputs, out), ("weight", "bias"))
    return Calls((call,))


@kernels.register(ops.BatchNorm)
def _batch_norm(op: ops.BatchNorm, place: Place) -> Calls:
    shape = (-1, *(1 for _ in place.after[op.axis :]))
    factor, offset = (part.reshape(shape) for part in op.factors())
    return _affine(ops.Affine(factor, offset), place)


@kernels.register(ops.Affine)
def _affine(op: ops.Affine, place: Place) -> Calls:
    calls = _widened(place)
    for function, part, tensor in (("multiply_each", "scale", op.scale), ("add_each", "shift", op.shift)):
        if tensor is not None:
            calls.append(_each_with(function, part, Y if calls else X, tensor, place))
    return Calls(tuple(calls), in_place=place.before == (place.after,))


def _each_with(function: str, part: str, read: Part, tensor: Tensor, place: Place) -> FunctionCall:
    """Return the call of a function that takes numbers along a pattern."""
    found = along([tensor], place.after)
    array = place.constants(found.values[0])
    return FunctionCall(function, (read, Y, array, place.size, found.inner, found.count), (part,))


@kernels.register(ops.Add)
def _add(op: ops.Add, place: Place) -> Calls:
    if all(shape == place.after for shape in place.before):
        sums = (
            FunctionCall("add", (Part(0) if n == 1 else Y, Part(n), Y, place.size)) for n in range(1, len(place.before))
        )
        return Calls(tuple(sums), in_place=True)
    spread = enumerate(_spread(shape, place.after) for shape in place.before)
    return Calls(tuple(_moved(Part(n), Y, place.after, steps, adds=n > 0) for n, steps in spread))


@kernels.register(ops.Product)
def _product(op: ops.Product, place: Place) -> Calls:
    spread = [_spread(shape, place.after) for shape in place.before]
    moved = _moved(X, Y, place.after, spread[0])
    return Calls((moved, _moved(Part(1), Y, place.after, spread[1], multiplies=True)))


@kernels.register(ops.Relu)
def _relu(op: ops.Relu, place: Place) -> Calls:
    return _rectified(place, None, None)


@kernels.register(ops.LeakyRelu)
def _leaky_relu(op: ops.LeakyRelu, place: Place) -> Calls:
    return _rectified(place, None, op.slope)


@kernels.register(ops.ClippedRelu)
def _clipped_relu(op: ops.ClippedRelu, place: Place) -> Calls:
    return _rectified(place, op.ceiling, op.slope)


def _rectified(place: Place, ceiling: Tensor | None, slope: Tensor | None) -> Calls:
    found = along([part for part in (ceiling, slope) if part is not None], place.after)
    arrays = iter(found.values)
    given = [None if part is None else place.constants(next(arrays)) for part in (ceiling, slope)]
    calls = _widened(place)
    read = Y if calls else X
    call = FunctionCall("rectify", (read, Y, *given, place.size, found.inner, found.count), ("ceiling", "slope"))
    return Calls((*calls, call), in_place=not calls)


def _widened(place: Place) -> list[FunctionCall]:
    """Return the call that repeats an input along axes that constants make longer; none where they make none."""
    (before,) = place.before
    return [] if before == place.after else [_moved(X, Y, place.after, _spread(before, place.after))]


@kernels.register(ops.Softmax)
def _softmax(op: ops.Softmax, place: Place) -> Calls:
    return Calls((FunctionCall("softmax", (X, Y, *_along_axes(place, [op.axis]))),), in_place=True)


@kernels.register(ops.RootMeanSquareNorm)
def _normalized(op: ops.RootMeanSquareNorm, place: Place) -> Calls:
    around = _along_axes(place, op.axes)
    call = FunctionCall("normalize", (X, Y, *around, float(op.epsilon), max(op.floor, TINY)))
    return Calls((call,), in_place=True)


def _along_axes(place: Place, axes: Sequence[int]) -> tuple[int, int, int]:
    """Return how many numbers there are before axes that stand beside one another, along them, and behind."""
    rank = len(place.after) + 1
    first, last = min(axis % rank for axis in axes) - 1, max(axis % rank for axis in axes)
    if last - first != len(axes):
        raise RefusedError("C normalizes along axes beside one another", hint="export with --format onnx --step")
    shape = place.after
    return math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])


@kernels.register(ops.MatMul)
def _multiplied(op: ops.MatMul, place: Place) -> Calls:
    outer = [math.prod(shape[:-2]) for shape in place.before]
    sets = math.prod(place.after[:-2])
    # Of each factor there is one for all, or one for each.
    if min(map(len, place.before)) < 2 or any(number not in (1, sets) for number in outer):
        raise RefusedError("C multiplies matrices one by one, or all by one", hint="export with --format onnx --step")
    (rows, inputs), (_, out) = (shape[-2:] for shape in place.before)
    steps = [0 if number == 1 else size for number, size in zip(outer, (rows * inputs, inputs * out), strict=True)]
    return Calls((FunctionCall("multiply_matrices", (X, Part(1), Y, sets, *steps, rows, inputs, out)),))


@kernels.register(ops.Sigmoid)
def _sigmoid(op: ops.Sigmoid, place: Place) -> Calls:
    return Calls((FunctionCall("sigmoid", (X, Y, 1.0, 0, place.size)),), in_place=True)


@kernels.register(ops.Silu)
def _silu(op: ops.Silu, place: Place) -> Calls:
    return Calls((FunctionCall("sigmoid", (X, Y, float(op.steepness), 1, place.size)),), in_place=True)


@kernels.register(ops.Tanh)
def _tanh(op: ops.Tanh, place: Place) -> Calls:
    return Calls((FunctionCall("hyperbolic", (X, Y, place.size)),), in_place=True)


@kernels.register(ops.Gelu)
def _gelu(op: ops.Gelu, place: Place) -> Calls:
    return Calls((FunctionCall("gaussian", (X, Y, int(op.approximate), place.size)),), in_place=True)


@kernels.register(ops.Concat)
def _concat(op: ops.Concat, place: Place) -> Calls:
    calls, start = [], 0
    steps = _steps(place.after)
    for number, shape in enumerate(place.before):
        calls.append(_moved(Part(number), Part(None, start), shape, _steps(shape), steps))
        start += shape[op.axis - 1] * steps[op.axis - 1]
    return Calls(tuple(calls))


@kernels.register(ops.Slice)
def _slice(op: ops.Slice, place: Place) -> Calls:
    steps = [*_steps(place.before[0])]
    start = op.start * steps[op.axis - 1]
    steps[op.axis - 1] *= op.step
    return Calls((_moved(Part(0, start), Y, place.after, steps),))


@kernels.register(ops.Take)
def _take(op: ops.Take, place: Place) -> Calls:
    before, axis = place.before[0], op.axis - 1
    sides = math.prod(before[:axis]), before[axis], len(op.indices), math.prod(before[axis + 1 :])
    return Calls((FunctionCall("take", (X, Y, integers(*op.indices), *sides), ("places",)),))


@kernels.register(ops.Pad)
def _pad(op: ops.Pad, place: Place) -> Calls:
    (before,) = place.before
    axes = len(op.padding) // 2
    begins = (*(0 for _ in before[axes:]), *op.padding[:axes])
    # What is cut off at an end is not moved.
    firsts = [max(-begin, 0) for begin in begins]
    lows = [max(begin, 0) for begin in begins]
    highs = [min(size + begin, made) for size, begin, made in zip(before, begins, place.after, strict=True)]
    lengths = [high - low for low, high in zip(lows, highs, strict=True)]
    start, to = (sum(map(int.__mul__, at, _steps(shape))) for at, shape in ((firsts, before), (lows, place.after)))
    border = FunctionCall("fill", (Y, float(op.value) if op.value else 0, place.size))
    if min(lengths, default=1) <= 0:
        return Calls((border,))
    return Calls((border, _moved(Part(0, start), Part(None, to), lengths, _steps(before), _steps(place.after))))


@kernels.register(ops.Reshape)
def _reshape(op: ops.Reshape, place: Place) -> Calls:
    return Calls((), in_place=True)


@kernels.register(ops.Transpose)
def _transpose(op: ops.Transpose, place: Place) -> Calls:
    steps = _steps(place.before[0])
    return Calls((_moved(X, Y, place.after, [steps[axis - 1] for axis in op.order[1:]]),))


@kernels.register(ops.Mean)
def _mean(op: ops.Mean, place: Place) -> Calls:
    (before,) = place.before
    reduced = {axis - 1 for axis in op.axes}
    kept = [1 if axis in reduced else length for axis, length in enumerate(before)]
    to = [0 if axis in reduced else step for axis, step in enumerate(_steps(kept))]
    number = math.prod(before) // max(math.prod(kept), 1)
    summed = FunctionCall("fill", (Y, 0, place.size)), _moved(X, Y, before, _steps(before), to, adds=True)
    return Calls((*summed, *_divided(number, place)))


def _divided(number: int, place: Place) -> Sequence[FunctionCall]:
    return () if place.whole else (FunctionCall("divide", (Y, Y, float(number), place.size)),)


@kernels.register(ops.AveragePool)
def _average_pool(op: ops.AveragePool, place: Place) -> Calls:
    axes = len(op.kernel)
    around = tuple(padding + excess for padding, excess in zip(op.padding, op.excess, strict=True))
    window = _window(place, op.kernel, op.stride, around, (1,) * axes)
    calls = [FunctionCall("pool", (window, X, Y, 0), ("window",)), *_divided(math.prod(op.kernel), place)]
    if any(op.excess):
        # At the border fewer values count.
        together, parts = op.parts(place.before[0])
        function, share = ("multiply_each", parts) if place.whole else ("divide_each", together / parts)
        shares = share.float() if place.whole else (share / math.prod(op.kernel)).float()
        calls.append(_each_with(function, "counted", Y, shares, place))
    return Calls(tuple(calls))


@kernels.register(ops.MaxPool)
def _max_pool(op: ops.MaxPool, place: Place) -> Calls:
    window = _window(place, op.kernel, op.stride, op.padding, op.dilation)
    return Calls((FunctionCall("pool", (window, X, Y, 1), ("window",)),))


def _window(
    place: Place,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    channels: Sequence[int] = (),
) -> Record:
    """Return where a kernel lies: over maps of three axes, the first of them of length 1 where there are fewer.

    ``channels`` are the groups, and of each the channels out and in; without them every map is by itself.
    """
    axes, before, after = len(kernel), place.before[0], place.after
    outer = math.prod(before[: -axes - bool(channels)])
    groups, out, inputs = channels or (1, 1, 1)

    def three(sides: Sequence[int], other: int) -> tuple[int, ...]:
        return (*(other for _ in range(_THREE - axes)), *sides)

    sides = three(before[-axes:], 1), three(after[-axes:], 1), three(kernel, 1), three(stride, 1)
    return Record("window", (outer, groups, inputs, out, *sides, three(padding[:axes], 0), three(dilation, 1)))


def _steps(shape: Sequence[int]) -> list[int]:
    """Return how far apart numbers are in memory that are next to one another, axis by axis."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _spread(shape: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return the steps of a shape that broadcasts against another."""
    aligned = (*(1 for _ in after[len(shape) :]), *shape)
    return [0 if length == 1 else step for length, step in zip(aligned, _steps(aligned), strict=True)]


def _moved(
    source: Part,
    target: Part,
    lengths: Sequence[int],
    steps: Sequence[int],
    to: Sequence[int] | None = None,
    *,
    adds: bool = False,
    multiplies: bool = False,
) -> FunctionCall:
    """Return a call that moves, adds or multiplies by numbers of which there are ``lengths`` along each axis."""
    axes: list[tuple[int, int, int]] = []
    for length, step, target_step in zip(lengths, steps, to or _steps(lengths), strict=True):
        # Two axes that are walked over as one are one.
        if axes and axes[-1][1:] == (step * length, target_step * length):
            axes[-1] = (axes[-1][0] * length, step, target_step)
        elif length != 1:
            axes.append((length, step, target_step))
    axes = axes or [(1, 1, 1)]
    if len(axes) > _MOST_AXES:
        raise RefusedError(f"C moves numbers along {_MOST_AXES} axes at most", hint="export with --format onnx --step")
    columns = (tuple(row[column] for row in axes) for column in range(3))
    route = Record("route", (len(axes), *((*column, *(0,) * (_MOST_AXES - len(axes))) for column in columns)))
    return FunctionCall("move", (route, source, target, int(adds), int(multiplies)), ("route",))
