"""What is done to a file before it is canonicalized: floats, the batch, the input shape, the ends of classifiers."""

from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper

from snnc.errors import ModelError
from snnc.findings import Finding
from snnc.frontend.batchwise import sequences_first
from snnc.frontend.expression import Shape, shown
from snnc.frontend.labels import labels

_FLOATS = {TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
_ENDINGS = {"Softmax", "LogSoftmax", "Sigmoid", "ArgMax"}

# The input of an operation that says which shape comes out.
_TARGETS = {"Expand": 1, "Reshape": 1, "Resize": 3}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network of one float32 input. ``pinned`` takes one sample, ``original`` as many as the file says."""

    pinned: ModelProto
    original: ModelProto
    batch: int
    input: str
    shape: Shape
    findings: tuple[Finding, ...]


def prepare_model(model: ModelProto, input_shape: Shape | None, place: str) -> Prepared:
    """Give every node a name of its own, make every float a float32, drop the ends of classifiers, pin the batch to 1.

    Raises ModelError where the network has not exactly one input of floats, or one of another or unknown shape.
    """
    original = ModelProto()
    original.CopyFrom(model)
    # onnxruntime keeps the names of the nodes that it leaves in place: so these are found again.
    for node, label in zip(original.graph.node, labels(original.graph), strict=True):
        node.name = label
    _in_single_precision(original.graph)
    sequences_first(original.graph)
    findings = _without_endings(original.graph)
    # Shapes that the exporter noted down for another batch would mislead whoever infers them.
    del original.graph.value_info[:]
    network_input = _only_input(original.graph, place)
    batch, shape = _sample_shape(network_input, input_shape, place)
    _set_shape(network_input, (batch, *shape))
    for output in original.graph.output:
        output.type.tensor_type.ClearField("shape")
    pinned = ModelProto()
    pinned.CopyFrom(original)
    _set_shape(_only_input(pinned.graph, place), (1, *shape))
    if batch > 1:
        _unbake(pinned.graph, batch)
    return Prepared(pinned, original, batch, network_input.name, shape, findings)


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
    if tensor.data_type in _FLOATS:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _without_endings(graph: GraphProto) -> tuple[Finding, ...]:
    """Let the network end before a closing softmax and its like, whose order of outputs is that of their inputs."""
    findings = []
    for output in graph.output:
        while True:
            producers = [node for node in graph.node if output.name in node.output]
            read = any(output.name in node.input for node in graph.node)
            if read or not producers or producers[0].op_type not in {*_ENDINGS, "Identity"}:
                break
            (node, *_) = producers
            if node.input[0] in {value.name for value in graph.output}:
                break
            graph.node.remove(node)
            output.name = node.input[0]
            output.type.tensor_type.elem_type = TensorProto.FLOAT
            if node.op_type in _ENDINGS:
                findings.append(_ending_removed(node.op_type, node.name))
    return tuple(findings)


def _ending_removed(kind: str, name: str) -> Finding:
    return Finding(
        code="output-softmax-removed",
        severity="info",
        node=name,
        message=f"the closing {kind} was left out: outputs are the values before it",
        hint="the largest output stays the largest; apply it to the outputs where probabilities are needed",
    )


def _only_input(graph: GraphProto, place: str) -> ValueInfoProto:
    constants = {tensor.name for tensor in graph.initializer}
    inputs: list[ValueInfoProto] = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        hint = "export the network with one input, or one network per input"
        raise ModelError(f"one input is needed, the network has {len(inputs)} ({names})", place=place, hint=hint)
    if inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(inputs[0].type.tensor_type.elem_type).lower()
        hint = "export the network from the first floating-point value on"
        raise ModelError(f"its input {inputs[0].name!r} is of type {kind}, not of floats", place=place, hint=hint)
    return inputs[0]


def _sample_shape(value: ValueInfoProto, wanted: Shape | None, place: str) -> tuple[int, Shape]:
    """Return the batch that the file says (1 where it is free) and the shape of one sample."""
    declared = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    known = value.type.tensor_type.HasField("shape") and len(declared) > 0
    if not known:
        declared = [0] * (len(wanted) + 1 if wanted is not None else 0)
    shape = tuple(declared[1:])
    if wanted is None:
        if not known or not all(length > 0 for length in shape):
            said = "x".join(str(length) if length > 0 else "?" for length in shape) or "?"
            hint = "give the shape of one sample without the batch, as in --input-shape 3,32,32"
            raise ModelError(f"the input shape {said} is not fixed in the file", place=place, hint=hint)
        return max(declared[0], 1), shape
    fits = len(shape) == len(wanted) and all(ours in (0, theirs) for ours, theirs in zip(shape, wanted, strict=True))
    if not fits or not all(length > 0 for length in wanted):
        takes = "x".join(str(length) if length > 0 else "?" for length in shape) or "a scalar"
        hint = "leave --input-shape out, or give the shape of one sample without the batch"
        raise ModelError(f"the network takes {takes}, not {shown(wanted)}", place=place, hint=hint)
    return max(declared[0], 1), wanted


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
