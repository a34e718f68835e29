"""Networks without neurons as ONNX files of standard operations, which any runtime of ONNX runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

import snnc
from snnc import ops
from snnc.errors import ModelError, UsageError
from snnc.ir import Graph, Input, Node, Op

Array = NDArray[Any]

BATCH = "batch"
OPSETS = range(13, 22)


@dataclass(frozen=True, eq=False)
class Operation:
    """One ONNX operation on what came before and, behind it, on constants, each with a name of its own."""

    kind: str
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where an operation is written: behind how many inputs, of how many axes with the batch, and the opset."""

    inputs: int
    rank: int
    opset: int


Operations = Sequence[Operation]
Writer = Callable[[Any, Place], Operations]
OpKind = TypeVar("OpKind", bound=Op)

# What every operation is written as: steps one after another, the first of which reads the operation's inputs.
writers: dict[type[Op], Writer] = {}


def onnx_model(graph: Graph, *, opset: int = 17) -> ModelProto:
    """Write a network without neurons, in single precision, for batches of any size.

    Nodes, inputs and outputs keep their names, and are read back as the operations they were; one that takes several in
    ONNX, such as a padded pool, may come back as several. Raises UsageError for an opset that is not in ``OPSETS``, and
    ModelError that names the node for an operation that is no function of one sample at one time, as a neuron is none.
    """
    if opset not in OPSETS:
        hint = f"choose one from {OPSETS[0]} to {OPSETS[-1]}"
        raise UsageError(f"ONNX files of opset {opset} are not written", hint=hint)
    computed = [node for node in graph.nodes.values() if not isinstance(node.op, Input)]
    for node in computed:
        if type(node.op) not in writers:
            hint = "export the trained network, or the quantized one from before substitute-neurons"
            raise ModelError(f"ONNX has no operation for {type(node.op).__name__}", place=node.name, hint=hint)
    file = _File(set(graph.nodes))
    for node in computed:
        place = Place(len(node.inputs), 1 + len(graph.shapes[node.inputs[0]]), opset)
        file.write(node, writers[type(node.op)](node.op, place))
    inputs, outputs = ([_value(graph, name) for name in names] for names in (graph.inputs, graph.outputs))
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        helper.make_graph(file.nodes, "network", inputs, outputs, file.constants),
        opset_imports=opsets,
        # The oldest that has this opset, so that the oldest runtimes read it, too.
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="snnc",
        producer_version=snnc.__version__,
    )


class _File:
    """Nodes and constants as they come to be; alive for one export."""

    def __init__(self, names: set[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._names = names

    def write(self, node: Node, steps: Operations) -> None:
        """Write the steps of a node, the last of which has its name and computes its value."""
        values: Sequence[str] = node.inputs
        for step in steps:
            name = node.name if step is steps[-1] else self._named(f"{node.name}/{step.kind.lower()}")
            constants = [self._constant(f"{node.name}/{part}", array) for part, array in step.constants.items()]
            self.nodes.append(helper.make_node(step.kind, [*values, *constants], [name], name, **step.attributes))
            values = (name,)

    def _constant(self, wanted: str, array: Array) -> str:
        name = self._named(wanted)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def _named(self, wanted: str) -> str:
        """Return a name that nothing in the file has yet."""
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name


def _value(graph: Graph, name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *graph.shapes[name]])


def _writes(
    kind: type[OpKind],
) -> Callable[[Callable[[OpKind, Place], Operations]], Callable[[OpKind, Place], Operations]]:
    """Return a decorator that enters the writer of one kind of operation."""

    def enter(writer: Callable[[OpKind, Place], Operations]) -> Callable[[OpKind, Place], Operations]:
        writers[kind] = writer
        return writer

    return enter


@_writes(ops.Conv)
def _conv(op: ops.Conv, place: Place) -> Operations:
    windows = {"strides": op.stride, "pads": op.padding, "dilations": op.dilation}
    return [Operation("Conv", _weights(op), {"kernel_shape": op.weight.shape[2:], "group": op.groups, **windows})]


@_writes(ops.ConvTranspose)
def _conv_transpose(op: ops.ConvTranspose, place: Place) -> Operations:
    windows = {"strides": op.stride, "pads": op.padding, "dilations": op.dilation, "output_padding": op.output_padding}
    return [
        Operation("ConvTranspose", _weights(op), {"kernel_shape": op.weight.shape[2:], "group": op.groups, **windows})
    ]


@_writes(ops.Linear)
def _linear(op: ops.Linear, place: Place) -> Operations:
    if place.rank == 2:
        return [Operation("Gemm", _weights(op), {"transB": 1})]
    product = Operation("MatMul", {"weight": _floats(op.weight.T)})
    return [product] if op.bias is None else [product, _added("bias", op.bias)]


@_writes(ops.BatchNorm)
def _batch_norm(op: ops.BatchNorm, place: Place) -> Operations:
    statistics = {"scale": op.scale, "shift": op.shift, "mean": op.mean, "variance": op.variance}
    constants = {name: _floats(tensor) for name, tensor in statistics.items()}
    return [Operation("BatchNormalization", constants, {"epsilon": op.epsilon})]


@_writes(ops.Affine)
def _affine(op: ops.Affine, place: Place) -> Operations:
    scaled = [] if op.scale is None else [_multiplied("scale", op.scale)]
    shifted = [] if op.shift is None else [_added("shift", op.shift)]
    return scaled + shifted or [Operation("Identity")]


@_writes(ops.Add)
def _add(op: ops.Add, place: Place) -> Operations:
    return [Operation("Add" if place.inputs == 2 else "Sum")]


@_writes(ops.Concat)
def _concat(op: ops.Concat, place: Place) -> Operations:
    return [Operation("Concat", attributes={"axis": op.axis})]


@_writes(ops.Slice)
def _slice(op: ops.Slice, place: Place) -> Operations:
    bounds = {"start": op.start, "stop": op.stop, "axis": op.axis, "step": op.step}
    return [Operation("Slice", {name: _integers(bound) for name, bound in bounds.items()})]


@_writes(ops.Take)
def _take(op: ops.Take, place: Place) -> Operations:
    return [Operation("Gather", {"indices": _integers(*op.indices)}, {"axis": op.axis})]


@_writes(ops.Pad)
def _pad(op: ops.Pad, place: Place) -> Operations:
    return [_padded(op.padding, op.value, place)]


@_writes(ops.Reshape)
def _reshape(op: ops.Reshape, place: Place) -> Operations:
    return [Operation("Reshape", {"shape": _integers(-1, *op.shape)})]


@_writes(ops.Transpose)
def _transpose(op: ops.Transpose, place: Place) -> Operations:
    return [Operation("Transpose", attributes={"perm": op.order})]


@_writes(ops.Mean)
def _mean(op: ops.Mean, place: Place) -> Operations:
    keep = {"keepdims": int(op.keep)}
    if place.opset < 18:
        return [Operation("ReduceMean", attributes={"axes": op.axes, **keep})]
    return [Operation("ReduceMean", {"axes": _integers(*op.axes)}, keep)]


@_writes(ops.AveragePool)
def _average_pool(op: ops.AveragePool, place: Place) -> Operations:
    windows = {"kernel_shape": op.kernel, "strides": op.stride}
    if not any(op.excess):
        return [Operation("AveragePool", attributes={"pads": op.padding, "count_include_pad": 1, **windows})]
    # One ONNX pool counts all of its padding or none of it.
    counted = [_padded(op.padding, 0.0, place)] if any(op.padding) else []
    return [*counted, Operation("AveragePool", attributes={"pads": op.excess, **windows})]


@_writes(ops.MaxPool)
def _max_pool(op: ops.MaxPool, place: Place) -> Operations:
    windows = {"kernel_shape": op.kernel, "strides": op.stride, "dilations": op.dilation}
    # Runtimes demand that a pool's padding be smaller than its kernel, dilated or not.
    if all(pad < size for pad, size in zip(op.padding, (*op.kernel, *op.kernel), strict=True)):
        return [Operation("MaxPool", attributes={"pads": op.padding, **windows})]
    return [_padded(op.padding, float("-inf"), place), Operation("MaxPool", attributes=windows)]


@_writes(ops.Relu)
def _relu(op: ops.Relu, place: Place) -> Operations:
    return [Operation("Relu")]


@_writes(ops.LeakyRelu)
def _leaky_relu(op: ops.LeakyRelu, place: Place) -> Operations:
    return [_bent(op.slope)]


@_writes(ops.ClippedRelu)
def _clipped_relu(op: ops.ClippedRelu, place: Place) -> Operations:
    bent = [] if op.slope is None else [_bent(op.slope)]
    if op.ceiling.isposinf().all():
        return bent or [Operation("Relu")]
    floor = torch.zeros(()) if op.slope is None else -op.ceiling
    if op.ceiling.numel() == 1:
        return [_clipped(floor, op.ceiling), *bent]
    # Clip takes no bounds per channel.
    return [Operation("Max", {"floor": _floats(floor)}), Operation("Min", {"ceiling": _floats(op.ceiling)}), *bent]


@_writes(ops.QuantizedRelu)
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
    weight = {"weight": _floats(op.weight)}
    return weight if op.bias is None else {**weight, "bias": _floats(op.bias)}


def _multiplied(name: str, factor: Tensor) -> Operation:
    return Operation("Mul", {name: _floats(factor)})


def _added(name: str, term: Tensor) -> Operation:
    return Operation("Add", {name: _floats(term)})


def _clipped(floor: Tensor, ceiling: Tensor) -> Operation:
    """Write a limit on either side, each one number."""
    return Operation("Clip", {"floor": _floats(floor.reshape(())), "ceiling": _floats(ceiling.reshape(()))})


def _bent(slope: Tensor) -> Operation:
    """Write the multiplication of negative values by a slope."""
    if slope.numel() == 1:
        return Operation("LeakyRelu", attributes={"alpha": slope.item()})
    return Operation("PRelu", {"slope": _floats(slope)})


def _padded(padding: Sequence[int], value: float, place: Place) -> Operation:
    """Write a border around the last axes."""
    axes = len(padding) // 2
    inner = [0] * (place.rank - axes)
    pads = _integers(*inner, *padding[:axes], *inner, *padding[axes:])
    return Operation("Pad", {"pads": pads, "value": np.array(value, np.float32)})


def _floats(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().float().contiguous().numpy()
    return array


def _integers(*values: int) -> Array:
    return np.array(values, np.int64)
