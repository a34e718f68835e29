"""Networks without neurons as files of standard operations, which any runtime of ONNX runs."""

from collections.abc import Mapping

from onnx import ModelProto

from snnc.errors import UsageError
from snnc.formats.onnx.file import BATCH, File, entry, value
from snnc.formats.onnx.operations import spelled
from snnc.ir import Graph, Input

OPSETS = range(13, 22)


def onnx_model(graph: Graph, *, opset: int = 17, properties: Mapping[str, str] | None = None) -> ModelProto:
    """Write a network without neurons, in single precision, for batches of any size.

    Nodes, inputs and outputs keep their names, and are read back as the operations they were; one that takes several in
    ONNX, such as a padded pool, may come back as several. Raises UsageError for an opset that is not in ``OPSETS``, and
    ModelError that names the node for an operation that is no function of one sample at one time, as a neuron is none.
    """
    if opset not in OPSETS:
        hint = f"choose one from {OPSETS[0]} to {OPSETS[-1]}"
        raise UsageError(f"ONNX files of opset {opset} are not written", hint=hint)
    file = File(graph.nodes)
    entries = graph.ops(Input)
    real = {name: file.entered(name, op) for name, op in entries.items()}
    for node in graph.nodes.values():
        if not isinstance(node.op, Input):
            file.write([real.get(value, value) for value in node.inputs], spelled(graph, node, opset), node.name)
    inputs = [entry(name, op) for name, op in entries.items()]
    outputs = [value(name, [BATCH, *graph.shapes[name]]) for name in graph.outputs]
    return file.model(inputs, outputs, opset=opset, properties=properties)
