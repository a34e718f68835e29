"""What is done to a file before it is canonicalized: floats, the batch, the input shape, the ends of classifiers."""

from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper

from snnc.findings import Finding
from snnc.frontend.batchwise import sequences_first
from snnc.frontend.endings import without_endings
from snnc.frontend.expression import InputShapes, Shape
from snnc.frontend.inputs import FileInput, inputs_of
from snnc.frontend.labels import labels, subgraphs
from snnc.frontend.weights import Weights, in_single_precision, is_outside

_SPELLED_OUT = "ai.onnx"
_FLOATS = {TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}

# The input of an operation that says which shape comes out.
_TARGETS = {"Expand": 1, "Reshape": 1, "Resize": 3}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network in single precision. ``pinned`` takes one sample, ``original`` as many as the file says.

    ``weights`` are the large constants of both.
    """

    pinned: ModelProto
    original: ModelProto
    weights: Weights
    batch: int
    inputs: tuple[FileInput, ...]
    findings: tuple[Finding, ...]


def prepare_model(model: ModelProto, weights: Weights, input_shapes: InputShapes, place: str) -> Prepared:
    """Give every node a name of its own, make every float a float32, drop the ends of classifiers, pin the batch to 1.

    Raises ModelError where an input takes no numbers, or one of another or unknown shape.
    """
    original = ModelProto()
    original.CopyFrom(model)
    # onnxruntime keeps the names of the nodes that it leaves in place: so these are found again.
    for node, label in zip(original.graph.node, labels(original.graph), strict=True):
        node.name = label
    _in_one_spelling(original)
    _in_single_precision(original.graph)
    narrowed = in_single_precision(original.graph, weights)
    sequences_first(original.graph)
    findings = without_endings(original.graph)
    # Shapes that the exporter noted down for another batch would mislead whoever infers them.
    del original.graph.value_info[:]
    batch, inputs = inputs_of(original.graph, input_shapes, place)
    for output in original.graph.output:
        if output.HasField("type"):
            output.type.tensor_type.ClearField("shape")
    pinned = ModelProto()
    pinned.CopyFrom(original)
    values = {given.name: given for given in inputs}
    for graph, length in ((original.graph, batch), (pinned.graph, 1)):
        for value in graph.input:
            if value.name in values:
                _set_shape(value, values[value.name].with_batch(length))
    if batch > 1:
        _unbake(pinned.graph, batch)
    return Prepared(pinned, original, narrowed, batch, inputs, findings)


def _in_one_spelling(model: ModelProto) -> None:
    """Let the domain of ONNX's own operations be called "" wherever it is spelled out."""
    for imports in (model.opset_import, *(function.opset_import for function in model.functions)):
        for entry in imports:
            entry.domain = "" if entry.domain == _SPELLED_OUT else entry.domain
    graphs = [model.graph.node, *(function.node for function in model.functions)]
    while graphs:
        for node in graphs.pop():
            node.domain = "" if node.domain == _SPELLED_OUT else node.domain
            graphs += (inside.node for inside in subgraphs(node))


def _in_single_precision(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _narrow(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _narrow(attribute.t)
            if attribute.HasField("g"):
                _in_single_precision(attribute.g)
            if attribute.name in ("to", "dtype") and attribute.i in _FLOATS:
                attribute.i = TensorProto.FLOAT


def _narrow(tensor: TensorProto) -> None:
    if tensor.data_type in _FLOATS and not is_outside(tensor):
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _set_shape(value: ValueInfoProto, shape: Shape) -> None:
    value.type.tensor_type.shape.Clear()
    for length in shape:
        value.type.tensor_type.shape.dim.add().dim_value = length


def _unbake(graph: GraphProto, batch: int) -> None:
    """Replace a batch above 1 that the exporter wrote into shapes; a wrong guess fails the check at the door."""
    targets = {
        node.input[_TARGETS[node.op_type]]
        for node in graph.node
        if node.op_type in _TARGETS and len(node.input) > _TARGETS[node.op_type]
    }
    constants = [tensor for tensor in graph.initializer if tensor.name in targets]
    constants += [
        attribute.t
        for node in graph.node
        if node.op_type == "Constant" and node.output[0] in targets
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    for tensor in constants:
        target = np.array(numpy_helper.to_array(tensor))
        if target.ndim == 1 and target.size and target[0] == batch:
            target[0] = 1
            tensor.CopyFrom(numpy_helper.from_array(target, tensor.name))
