"""What every stateless operation is written as: standard operations of ONNX, one after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from snnc import ops
from snnc.formats.onnx.file import Array, Operation, Operations, Place
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons.base import Timed
from snnc.ops.normalization import TINY
from snnc.rules import RefusedError, Rules, UnansweredError

# rule(op, place): steps one after another, the first of which reads the operation's inputs.
writers = Rules[Op, Operations]("what standard operations of ONNX write an operation")

# A plane has two axes; this opset calls the ways to sample one otherwise than those before.
_PLANE, _RENAMED = 2, 20

# Of powers below it, no value that networks have is too large for single precision.
_HIGH = 5

# What a member of a family is, its family does not say.
FAMILIES = (ops.Activation, ops.Nonlinear, ops.Pool, ops.Routing, ops.Weighted)

writers.refuse(
    Input,
    why="an input of a network is an input of the file, and no operation in it",
    hint="feed it under its name",
)
writers.refuse(
    Timed,
    why="ONNX has no operation for what works over time",
    hint="snnc export --format onnx writes a network with neurons, each of them as a function",
)
writers.refuse(
    *FAMILIES,
    why="nobody has written this operation for ONNX",
    hint="export another format, or register what it is written as beside it: snnc.formats.onnx.operations.writers",
)


def spelled(graph: Graph, node: Node, opset: int) -> Operations:
    """Return what a node of a network is written as; raises ModelError that names it where that is nothing."""
    place = Place(tuple(graph.shapes[value] for value in node.inputs), graph.shapes[node.name], opset)
    try:
        return writers(node.op, place)
    except UnansweredError as refusal:
        raise refusal.at(node.name) from None


@writers.register(ops.Conv)
def _conv(op: ops.Conv, place: Place) -> Operations:
    windows = {"strides": op.stride, "pads": op.padding, "dilations": op.dilation}
    kernel = op.weight.shape[2:]
    attributes = {"kernel_shape": kernel, "group": op.groups, **windows}
    return _batched(place, len(kernel), [Operation("Conv", _weights(op), attributes)])


@writers.register(ops.ConvTranspose)
def _conv_transpose(op: ops.ConvTranspose, place: Place) -> Operations:
    windows = {"strides": op.stride, "pads": op.padding, "dilations": op.dilation, "output_padding": op.output_padding}
    kernel = op.weight.shape[2:]
    attributes = {"kernel_shape": kernel, "group": op.groups, **windows}
    return _batched(place, len(kernel), [Operation("ConvTranspose", _weights(op), attributes)])


@writers.register(ops.Linear)
def _linear(op: ops.Linear, place: Place) -> Operations:
    if place.rank == 2:
        return [Operation("Gemm", _weights(op), {"transB": 1})]
    product = Operation("MatMul", {"weight": floated(op.weight.T)})
    return [product] if op.bias is None else [product, _added("bias", op.bias)]


@writers.register(ops.BatchNorm)
def _batch_norm(op: ops.BatchNorm, place: Place) -> Operations:
    statistics = {"scale": op.scale, "shift": op.shift, "mean": op.mean, "variance": op.variance}
    constants = {name: floated(tensor) for name, tensor in statistics.items()}
    channels = len(place.before[0]) - op.axis
    return _batched(place, channels, [Operation("BatchNormalization", constants, {"epsilon": op.epsilon})])


@writers.register(ops.Affine)
def _affine(op: ops.Affine, place: Place) -> Operations:
    scaled = [] if op.scale is None else [_multiplied("scale", op.scale)]
    shifted = [] if op.shift is None else [_added("shift", op.shift)]
    return scaled + shifted or [Operation("Identity")]


@writers.register(ops.Add)
def _add(op: ops.Add, place: Place) -> Operations:
    return [Operation("Add" if place.inputs == 2 else "Sum")]


@writers.register(ops.Concat)
def _concat(op: ops.Concat, place: Place) -> Operations:
    return [Operation("Concat", attributes={"axis": op.axis})]


@writers.register(ops.Slice)
def _slice(op: ops.Slice, place: Place) -> Operations:
    bounds = {"start": op.start, "stop": op.stop, "axis": op.axis, "step": op.step}
    return [Operation("Slice", {name: _integers(bound) for name, bound in bounds.items()})]


@writers.register(ops.Take)
def _take(op: ops.Take, place: Place) -> Operations:
    return [Operation("Gather", {"indices": _integers(*op.indices)}, {"axis": op.axis})]


@writers.register(ops.Pad)
def _pad(op: ops.Pad, place: Place) -> Operations:
    return [_padded(op.padding, op.value, place.rank)]


@writers.register(ops.Reshape)
def _reshape(op: ops.Reshape, place: Place) -> Operations:
    return [Operation("Reshape", {"shape": _integers(-1, *op.shape)})]


@writers.register(ops.Transpose)
def _transpose(op: ops.Transpose, place: Place) -> Operations:
    return [Operation("Transpose", attributes={"perm": op.order})]


@writers.register(ops.Mean)
def _mean(op: ops.Mean, place: Place) -> Operations:
    return [_reduced("ReduceMean", op.axes, op.keep, place)]


@writers.register(ops.AveragePool)
def _average_pool(op: ops.AveragePool, place: Place) -> Operations:
    windows = {"kernel_shape": op.kernel, "strides": op.stride}
    axes = len(op.kernel)
    if not any(op.excess):
        pool = Operation("AveragePool", attributes={"pads": op.padding, "count_include_pad": 1, **windows})
        return _batched(place, axes, [pool])
    # One ONNX pool counts all of its padding or none of it.
    counted = [_padded(op.padding, 0.0, axes + 2)] if any(op.padding) else []
    return _batched(place, axes, [*counted, Operation("AveragePool", attributes={"pads": op.excess, **windows})])


@writers.register(ops.MaxPool)
def _max_pool(op: ops.MaxPool, place: Place) -> Operations:
    windows = {"kernel_shape": op.kernel, "strides": op.stride, "dilations": op.dilation}
    # Runtimes demand that a pool's padding be smaller than its kernel, dilated or not.
    axes = len(op.kernel)
    if all(pad < size for pad, size in zip(op.padding, (*op.kernel, *op.kernel), strict=True)):
        return _batched(place, axes, [Operation("MaxPool", attributes={"pads": op.padding, **windows})])
    border = _padded(op.padding, float("-inf"), axes + 2)
    return _batched(place, axes, [border, Operation("MaxPool", attributes=windows)])


@writers.register(ops.MatMul)
def _product(op: ops.MatMul, place: Place) -> Operations:
    return [Operation("MatMul")]


@writers.register(ops.Product)
def _each_product(op: ops.Product, place: Place) -> Operations:
    return [Operation("Mul")]


@writers.register(ops.GridSample)
def _grid_sample(op: ops.GridSample, place: Place) -> Operations:
    first = 20 if place.before[1][-1] > _PLANE else 16
    if place.opset < first:
        raise RefusedError(
            f"opset {place.opset} of ONNX reads no maps at computed places", hint=f"write opset {first} or newer"
        )
    names = {} if place.opset >= _RENAMED else {"linear": "bilinear", "cubic": "bicubic"}
    options = {
        "mode": names.get(op.mode, op.mode),
        "padding_mode": op.padding,
        "align_corners": int(op.corners),
    }
    before, grid = place.before
    axes = grid[-1]
    if len(before) == axes + 1:
        return [Operation("GridSample", attributes=options)]
    shapes = (before[-axes - 1 :], grid[-axes - 1 :])
    maps, places = (
        Operation("Reshape", {f"shape{i}": _integers(-1, *shape)}, reads=(f"x{i}", f"shape{i}"), makes=f"folded{i}")
        for i, shape in enumerate(shapes)
    )
    sampled = Operation("GridSample", attributes=options, reads=("folded0", "folded1"))
    return [maps, places, sampled, Operation("Reshape", {"unfolded": _integers(-1, *place.after)})]


@writers.register(ops.Resample)
def _resample(op: ops.Resample, place: Place) -> Operations:
    """The sum of entries that are gathered, each of them multiplied by its weights, or a product with a matrix."""
    if op.dense:
        order = [*range(place.rank)]
        order[op.axis], order[-1] = order[-1], order[op.axis]
        matrix = op.matrix(place.before[0][op.axis - 1]).T
        swap, back = (Operation("Transpose", attributes={"perm": order}) for _ in range(2))
        return [swap, Operation("MatMul", {"matrix": floated(matrix)}), back]
    along = (-1, *(1 for _ in range(place.rank - op.axis - 1)))
    written: list[Operation] = []
    for index, (places, weights) in enumerate(zip(op.places.T, op.weights.T, strict=True)):
        at, part = f"places{index}", f"part{index}"
        taken = {at: places.long().numpy()}
        written += [
            Operation("Gather", taken, {"axis": op.axis}, reads=("x0", at)),
            Operation("Mul", {"weights": floated(weights.view(along))}, makes=part),
        ]
    parts = tuple(f"part{index}" for index in range(len(op.places.T)))
    return [*written, Operation("Sum", reads=parts)] if len(parts) > 1 else written


@writers.register(
    ops.Acos,
    ops.Acosh,
    ops.Asin,
    ops.Asinh,
    ops.Atan,
    ops.Atanh,
    ops.Cos,
    ops.Cosh,
    ops.Erf,
    ops.Exp,
    ops.Log,
    ops.Round,
    ops.Sigmoid,
    ops.Sign,
    ops.Sin,
    ops.Sinh,
    ops.Softplus,
    ops.Softsign,
    ops.Sqrt,
    ops.Tan,
    ops.Tanh,
)
def _function(op: ops.Function, place: Place) -> Operations:
    """ONNX has one of the same name, which has to be kept in its domain."""
    low, high = (torch.tensor(bound) for bound in op.domain)
    named = Operation(type(op).__name__)
    return [named] if low.isinf() and high.isinf() else [_clipped(low, high), named]


@writers.register(ops.Mish)
def _mish(op: ops.Mish, place: Place) -> Operations:
    return [Operation("Softplus"), Operation("Tanh"), _times_input()]


@writers.register(ops.Silu)
def _silu(op: ops.Silu, place: Place) -> Operations:
    steep = [] if op.steepness == 1 else [_multiplied("steepness", torch.tensor(op.steepness))]
    return [*steep, Operation("Sigmoid"), _times_input()]


@writers.register(ops.Gelu)
def _gelu(op: ops.Gelu, place: Place) -> Operations:
    """As onnxruntime fuses it; an operation of its own is younger than the oldest opset."""
    one, half = _added("one", torch.ones(())), _multiplied("half", torch.tensor(0.5))
    if not op.approximate:
        width = Operation("Div", {"width": floated(torch.tensor(2.0).sqrt())})
        return [width, Operation("Erf"), one, _times_input(), half]
    factor, bend = math.sqrt(2 / math.pi), 0.044715
    return [
        Operation("Mul", reads=("x0", "x0")),
        _multiplied("bend", torch.tensor(factor * bend)),
        _added("factor", torch.tensor(factor)),
        _times_input(),
        Operation("Tanh"),
        one,
        _times_input(),
        half,
    ]


@writers.register(ops.Elu)
def _elu(op: ops.Elu, place: Place) -> Operations:
    return [Operation("Elu", attributes={"alpha": op.scale})]


@writers.register(ops.Shrink)
def _shrink(op: ops.Shrink, place: Place) -> Operations:
    return [Operation("Shrink", attributes={"lambd": op.limit, "bias": op.shift})]


@writers.register(ops.ThresholdedRelu)
def _thresholded_relu(op: ops.ThresholdedRelu, place: Place) -> Operations:
    return [Operation("ThresholdedRelu", attributes={"alpha": op.limit})]


@writers.register(ops.Power)
def _power(op: ops.Power, place: Place) -> Operations:
    written = Operation("Pow", {"exponent": floated(op.exponent)}, makes="plain")
    whole = bool(((op.exponent >= 0) & (op.exponent == op.exponent.round()) & (op.exponent < _HIGH)).all())
    return [written] if whole else _finite(written)


@writers.register(ops.Exponentiation)
def _exponentiation(op: ops.Exponentiation, place: Place) -> Operations:
    return _finite(Operation("Pow", makes="plain"))


@writers.register(ops.Quotient)
def _quotient(op: ops.Quotient, place: Place) -> Operations:
    return _finite(Operation("Div", makes="plain"))


@writers.register(ops.Remainder)
def _remainder(op: ops.Remainder, place: Place) -> Operations:
    """ONNX has the one that has the sign of what is divided."""
    rest = [Operation("Mod", {"divisor": floated(op.divisor)}, {"fmod": 1}, makes="plain")]
    if op.floored:
        raised = Operation("Add", reads=("plain", "divisor"), makes="raised")
        rest += [raised, Operation("Mod", attributes={"fmod": 1}, reads=("raised", "divisor"), makes="plain")]
    return rest if bool((op.divisor != 0).all()) else [*rest[:-1], *_finite(rest[-1])]


@writers.register(ops.Floor, ops.Ceil)
def _rounded(op: ops.Floor | ops.Ceil, place: Place) -> Operations:
    return [
        Operation("Abs"),
        _multiplied("rounding", torch.tensor(ops.ROUNDING)),
        replace(_clipped(torch.tensor(0.0), torch.tensor(ops.LARGEST_ROUNDING)), makes="slack"),
        Operation("Add" if isinstance(op, ops.Floor) else "Sub", reads=("x0", "slack")),
        Operation(type(op).__name__),
    ]


@writers.register(ops.Truncate)
def _truncate(op: ops.Truncate, place: Place) -> Operations:
    largest = torch.tensor(ops.LARGEST_ROUNDING)
    return [
        _multiplied("rounding", torch.tensor(ops.ROUNDING)),
        _clipped(-largest, largest),
        Operation("Add", reads=("x0", "")),
        Operation("Cast", attributes={"to": TensorProto.INT64}),
        Operation("Cast", attributes={"to": TensorProto.FLOAT}),
    ]


@writers.register(ops.Greater)
def _greater(op: ops.Greater, place: Place) -> Operations:
    return [
        Operation("Abs", reads=("x0",), makes="first"),
        Operation("Abs", reads=("x1",), makes="second"),
        Operation("Max", reads=("first", "second")),
        _multiplied("rounding", torch.tensor(ops.ROUNDING)),
        replace(_clipped(torch.tensor(0.0), torch.tensor(ops.LARGEST_ROUNDING)), makes="slack"),
        Operation("Sub", reads=("x0", "x1"), makes="excess"),
        Operation("Greater", reads=("excess", "slack")),
        Operation("Cast", attributes={"to": TensorProto.FLOAT}),
    ]


@writers.register(ops.Where)
def _where(op: ops.Where, place: Place) -> Operations:
    return [
        Operation("Greater", {"half": floated(torch.tensor(0.5))}, reads=("x0", "half"), makes="choice"),
        Operation("Where", reads=("choice", "x1", "x2")),
    ]


@writers.register(ops.Softmax, ops.LogSoftmax)
def _softmax(op: ops.Softmax | ops.LogSoftmax, place: Place) -> Operations:
    return [Operation(type(op).__name__, attributes={"axis": op.axis})]


@writers.register(ops.RootMeanSquareNorm)
def _root_mean_square_norm(op: ops.RootMeanSquareNorm, place: Place) -> Operations:
    floor = np.array(max(op.floor, TINY), np.float32)
    return [
        Operation("Mul", reads=("x0", "x0")),
        _reduced("ReduceMean", op.axes, True, place),
        *([Operation("Add", {"epsilon": np.array(op.epsilon, np.float32)})] if op.epsilon else []),
        *([Operation("Max", {"floor": floor})] if op.epsilon < floor else []),
        Operation("Sqrt", makes="root"),
        Operation("Div", reads=("x0", "root")),
    ]


@writers.register(ops.LocalResponseNorm)
def _local_response_norm(op: ops.LocalResponseNorm, place: Place) -> Operations:
    return [Operation("LRN", attributes={name: getattr(op, name) for name in ("size", "alpha", "beta", "bias")})]


@writers.register(ops.EuclideanNorm)
def _euclidean_norm(op: ops.EuclideanNorm, place: Place) -> Operations:
    return [_reduced("ReduceL2", op.axes, op.keep, place)]


@writers.register(ops.LogSumExp)
def _log_sum_exp(op: ops.LogSumExp, place: Place) -> Operations:
    return [_reduced("ReduceLogSumExp", op.axes, op.keep, place)]


@writers.register(ops.TotalProduct)
def _total_product(op: ops.TotalProduct, place: Place) -> Operations:
    return [_reduced("ReduceProd", op.axes, op.keep, place)]


@writers.register(ops.Ranked)
def _ranked(op: ops.Ranked, place: Place) -> Operations:
    return [Operation("TopK", {"count": _integers(op.count)}, {"axis": op.axis}, ignored=1)]


@writers.register(ops.RankedPlaces)
def _ranked_places(op: ops.RankedPlaces, place: Place) -> Operations:
    found = Operation("TopK", {"count": _integers(op.count)}, {"axis": op.axis}, ignored=1, passed=1)
    return [found, Operation("Cast", attributes={"to": TensorProto.FLOAT})]


@writers.register(ops.Gathered)
def _gathered(op: ops.Gathered, place: Place) -> Operations:
    return [
        Operation("Round", reads=("x1",)),
        Operation("Cast", attributes={"to": TensorProto.INT64}, makes="places"),
        Operation("GatherElements", attributes={"axis": op.axis}, reads=("x0", "places")),
    ]


@writers.register(ops.ArgMax)
def _arg_max(op: ops.ArgMax, place: Place) -> Operations:
    found = Operation("ArgMax", attributes={"axis": op.axes[0], "keepdims": int(op.keep)})
    return [found, Operation("Cast", attributes={"to": TensorProto.FLOAT})]


@writers.register(ops.Embedding)
def _embedding(op: ops.Embedding, place: Place) -> Operations:
    return [
        Operation("Round"),
        Operation("Cast", attributes={"to": TensorProto.INT64}, makes="rows"),
        Operation("Gather", {"table": floated(op.table)}, reads=("table", "rows")),
    ]


@writers.register(ops.Relu)
def _relu(op: ops.Relu, place: Place) -> Operations:
    return [Operation("Relu")]


@writers.register(ops.LeakyRelu)
def _leaky_relu(op: ops.LeakyRelu, place: Place) -> Operations:
    return [_bent(op.slope)]


@writers.register(ops.ClippedRelu)
def _clipped_relu(op: ops.ClippedRelu, place: Place) -> Operations:
    bent = [] if op.slope is None else [_bent(op.slope)]
    if op.ceiling.isposinf().all():
        return bent or [Operation("Relu")]
    floor = torch.zeros(()) if op.slope is None else -op.ceiling
    if op.ceiling.numel() == 1:
        return [_clipped(floor, op.ceiling), *bent]
    # Clip takes no bounds per channel.
    return [Operation("Max", {"floor": floated(floor)}), Operation("Min", {"ceiling": floated(op.ceiling)}), *bent]


@writers.register(ops.ClippedCoding)
def _clipped_coding(op: ops.ClippedCoding, place: Place) -> Operations:
    if op.ceiling.isposinf().all():
        return [Operation("Identity")]
    bounds = {"floor": floated(-op.slope * op.ceiling)}, {"ceiling": floated(op.ceiling)}
    return [Operation("Max", bounds[0]), Operation("Min", bounds[1])]


@writers.register(ops.Coding)
def _coding(op: ops.Coding, place: Place) -> Operations:
    return [
        _bent(1 / op.slope),
        *_quantized_relu(ops.QuantizedRelu(op.ceiling, op.levels, op.slope, op.potential), place),
    ]


@writers.register(ops.QuantizedRelu)
def _quantized_relu(op: ops.QuantizedRelu, place: Place) -> Operations:
    highest = torch.tensor(op.levels)
    return [
        _multiplied("steps", op.levels / op.ceiling),
        *([_added("potential", op.potential)] if op.potential.any() else []),
        Operation("Floor"),
        _clipped(torch.zeros(()) if op.slope is None else -highest, highest),
        *([] if op.slope is None else [_bent(op.slope)]),
        _multiplied("step", op.ceiling / op.levels),
    ]


def _weights(op: ops.Weighted) -> dict[str, Array]:
    weight = {"weight": floated(op.weight)}
    return weight if op.bias is None else {**weight, "bias": floated(op.bias)}


def _reduced(kind: str, axes: Sequence[int], keep: bool, place: Place) -> Operation:
    """Write a reduction, whose axes are an attribute before opset 18."""
    kept = {"keepdims": int(keep)}
    if place.opset < 18:
        return Operation(kind, attributes={"axes": axes, **kept})
    return Operation(kind, {"axes": _integers(*axes)}, kept)


def _multiplied(name: str, factor: Tensor) -> Operation:
    return Operation("Mul", {name: floated(factor)})


def _added(name: str, term: Tensor) -> Operation:
    return Operation("Add", {name: floated(term)})


def _clipped(floor: Tensor, ceiling: Tensor) -> Operation:
    """Write a limit on either side, each one number."""
    return Operation("Clip", {"floor": floated(floor.reshape(())), "ceiling": floated(ceiling.reshape(()))})


def _bent(slope: Tensor) -> Operation:
    """Write the multiplication of negative values by a slope."""
    if slope.numel() == 1:
        return Operation("LeakyRelu", attributes={"alpha": slope.item()})
    return Operation("PRelu", {"slope": floated(slope)})


def _batched(place: Place, axes: int, operations: Operations) -> Operations:
    """Write what ONNX has for ``[N, C, *space]`` of ``axes`` spatial axes, where there may be more of the batch."""
    (before,) = place.before
    if len(before) == axes + 1:
        return operations
    folded = Operation("Reshape", {"folded": _integers(-1, *before[-axes - 1 :])})
    return [folded, *operations, Operation("Reshape", {"unfolded": _integers(-1, *place.after)})]


def _times_input() -> Operation:
    """Write the product of what came before and of the input."""
    return Operation("Mul", reads=("x0", ""))


def _finite(operation: Operation) -> Operations:
    """Write an operation and, behind what it makes that is ``plain``, a zero for what is too large, or no number."""
    return [
        operation,
        Operation("Abs", reads=("plain",)),
        Operation("LessOrEqual", {"largest": floated(torch.tensor(ops.LARGEST))}, makes="kept"),
        Operation("Where", {"zero": floated(torch.zeros(()))}, reads=("kept", "plain", "zero")),
    ]


def _padded(padding: Sequence[int], value: float, rank: int) -> Operation:
    """Write a border around the last axes."""
    axes = len(padding) // 2
    inner = [0] * (rank - axes)
    pads = _integers(*inner, *padding[:axes], *inner, *padding[axes:])
    return Operation("Pad", {"pads": pads, "value": np.array(value, np.float32)})


def floated(tensor: Tensor) -> Array:
    """Return a tensor as a constant, in single precision."""
    array: Array = tensor.detach().cpu().float().contiguous().numpy()
    return array


def _integers(*values: int) -> Array:
    return np.array(values, np.int64)
