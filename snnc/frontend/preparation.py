"""What is done to a file before it is canonicalized: floats, the batch, the input shape, the ends of classifiers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from snnc.findings import Finding
from snnc.frontend.baked import take_batch_out
from snnc.frontend.batchwise import sequences_first
from snnc.frontend.endings import without_endings
from snnc.frontend.expression import InputShapes, Shape, shown
from snnc.frontend.inputs import FileInput, counts_samples, inputs_of, not_read
from snnc.frontend.labels import attributes_of, bodies, labels, ordered, read_values, set_attributes
from snnc.frontend.pool_lengths import agree_on_pool_lengths
from snnc.frontend.squeezing import name_squeezed_axes
from snnc.frontend.training_mode import normalize_weights, refuse_training_mode
from snnc.frontend.weights import Weights, in_single_precision, is_outside, tensors_of

_SPELLED_OUT = "ai.onnx"
# The version of the format since which constants need not be inputs.
_FREE_CONSTANTS = 4
# The length of a batch that is free, which an axis of no other length has.
_ANY = 0
_FLOATS = {TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network in single precision. ``pinned`` takes one sample, ``original`` as many as the file says.

    ``free`` takes any number, None where the file says one. ``weights`` are the large constants of all.
    """

    pinned: ModelProto
    original: ModelProto
    free: ModelProto | None
    weights: Weights
    batch: int
    inputs: tuple[FileInput, ...]
    findings: tuple[Finding, ...]


def prepare_model(model: ModelProto, weights: Weights, input_shapes: InputShapes, place: str) -> Prepared:
    """Give every node a name of its own, make every float a float32, drop the ends of classifiers, pin the batch to 1.

    Raises ModelError where an input takes no numbers, or one of another or unknown shape, and where the file was
    exported in training mode.
    """
    original = ModelProto()
    original.CopyFrom(model)
    # onnxruntime keeps the names of the nodes that it leaves in place: so these are found again.
    for node, label in zip(original.graph.node, labels(original.graph), strict=True):
        node.name = label
    _in_order(original)
    _settle_inputs(original)
    _in_one_spelling(original)
    _sizes_of_shapes(original)
    _name_outputs(original)
    _pad_with_holes(original)
    normalize_weights(original)
    refuse_training_mode(original, place)
    _in_single_precision(original)
    narrowed = in_single_precision(original.graph, weights)
    sequences_first(original.graph)
    findings = (*without_endings(original), *map(not_read, _without_unread(original.graph)))
    # Shapes that the exporter noted down for another batch would mislead whoever infers them.
    del original.graph.value_info[:]
    said, inputs = inputs_of(original.graph, input_shapes, place)
    for output in original.graph.output:
        if output.HasField("type"):
            output.type.tensor_type.ClearField("shape")
    if said != 1:
        # A batch that is free is another than 1 for whoever tells axes by their lengths.
        name_squeezed_axes(original, _taking(original, inputs, said or 2))
    pinned, original = _taking(original, inputs, 1), _taking(original, inputs, max(said, 1))
    if said > 1 and not counts_samples(original, pinned, inputs[0]):
        inputs = tuple(given.without_batch(said) for given in inputs)
        findings = (*findings, _no_batch(inputs[0]))
        said, pinned = 1, _taking(original, inputs, 1)
    if said > 1:
        take_batch_out(pinned, original, narrowed, said, place)
    agree_on_pool_lengths(pinned, original)
    free = None if said else _taking(original, inputs, _ANY)
    return Prepared(pinned, original, free, narrowed, max(said, 1), inputs, findings)


def _without_unread(graph: GraphProto) -> list[str]:
    """Take out the nodes that no output depends on, and the inputs that no node reads; return what these are called."""
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read & {*node.output}:
            read.update(read_values(node))
            kept.append(NodeProto.FromString(node.SerializeToString()))
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))
    unread = [value for value in graph.input if value.name not in read]
    for value in unread:
        graph.input.remove(value)
    return [value.name for value in unread]


def _taking(model: ModelProto, inputs: Sequence[FileInput], batch: int) -> ModelProto:
    """Return a model for a batch of that length, or of any."""
    taking = ModelProto()
    taking.CopyFrom(model)
    values = {given.name: given for given in inputs}
    for value in taking.graph.input:
        if value.name in values:
            _set_shape(value, values[value.name].with_batch(batch))
    return taking


def _settle_inputs(model: ModelProto) -> None:
    """Let inputs that have a value be constants, as they are in files of old, and nothing else can be given there."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    model.ir_version = max(model.ir_version, _FREE_CONSTANTS)
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _in_one_spelling(model: ModelProto) -> None:
    """Let the domain of ONNX's own operations be called "" wherever it is spelled out."""
    for imports in (model.opset_import, *(function.opset_import for function in model.functions)):
        for entry in imports:
            entry.domain = "" if entry.domain == _SPELLED_OUT else entry.domain
    for node in (node for body in bodies(model) for node in body.node):
        node.domain = "" if node.domain == _SPELLED_OUT else node.domain


def _sizes_of_shapes(model: ModelProto) -> None:
    """Let sizes be products of shapes, which onnxruntime folds where it leaves sizes alone."""
    for body in bodies(model):
        for node in body.node:
            if node.op_type == "Size" and not node.domain:
                shape = helper.make_node("Shape", node.input, [f"{node.output[0]}/shape"], f"{node.name}/shape")
                product = helper.make_node("ReduceProd", shape.output, node.output, node.name, keepdims=0)
                place = [*body.node].index(node)
                node.CopyFrom(product)
                body.node.insert(place, shape)


def _name_outputs(model: ModelProto) -> None:
    """Name the parts of splits that have no names: onnxruntime ends with the program where it looks for one."""
    for body in bodies(model):
        for node in body.node:
            if node.op_type == "Split" and not all(node.output):
                given = next(filter(None, node.output), node.name)
                node.output[:] = [name or f"{given}/part{part}" for part, name in enumerate(node.output)]


def _pad_with_holes(model: ModelProto) -> None:
    """State the padding that keeps the length where windows of a convolution have holes: onnxruntime knows it not."""
    for body in bodies(model):
        for node in body.node:
            given = attributes_of(node)
            kernel, dilation = given.get("kernel_shape", ()), given.get("dilations", ())
            same = node.op_type == "Conv" and given.get("auto_pad") in (b"SAME_LOWER", b"SAME_UPPER")
            # What strides pass over depends on the length.
            if same and kernel and any(step != 1 for step in dilation) and set(given.get("strides", ())) <= {1}:
                totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
                halves, rests = [total // 2 for total in totals], [total - total // 2 for total in totals]
                pads = halves + rests if given["auto_pad"] == b"SAME_UPPER" else rests + halves
                set_attributes(node, {"pads": pads}, without=["auto_pad"])


def _in_order(model: ModelProto) -> None:
    for body in bodies(model):
        nodes = ordered(body.node)
        if any(one is not other for one, other in zip(nodes, body.node, strict=True)):
            held = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del body.node[:]
            body.node.extend(held)


def _in_single_precision(model: ModelProto) -> None:
    for body in bodies(model):
        values = (*body.input, *body.output, *body.value_info) if isinstance(body, GraphProto) else body.value_info
        for value in values:
            if value.type.tensor_type.elem_type in _FLOATS:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for attribute in (attribute for node in body.node for attribute in node.attribute):
            if attribute.name in ("to", "dtype") and attribute.i in _FLOATS:
                attribute.i = TensorProto.FLOAT
    for tensor in tensors_of(model):
        _narrow(tensor)


def _narrow(tensor: TensorProto) -> None:
    if tensor.data_type in _FLOATS and not is_outside(tensor):
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _no_batch(given: FileInput) -> Finding:
    return Finding(
        code="no-batch-axis",
        severity="info",
        node=given.name,
        message=f"its input {given.name!r} has no batch axis: it takes one sample of {shown(given.dimensions)}",
        hint="give data of that shape; where the first axis is a batch, export the network for a batch of 1",
    )


def _set_shape(value: ValueInfoProto, shape: Shape) -> None:
    value.type.tensor_type.shape.Clear()
    for length in shape:
        axis = value.type.tensor_type.shape.dim.add()
        if length != _ANY:
            axis.dim_value = length
