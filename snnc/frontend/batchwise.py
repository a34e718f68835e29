"""Recurrent layers that take the batch before the sequence, written as others: onnxruntime runs no such layer."""

from onnx import GraphProto, NodeProto, helper

_KINDS = {"RNN", "GRU", "LSTM"}
_SWAP = (1, 0, 2)
# [positions, directions, batch, numbers] of the output that has every position.
_OUTPUTS = ((2, 0, 1, 3), _SWAP, _SWAP)
# The sequence and the states before it.
_INPUTS = (0, 5, 6)


def sequences_first(graph: GraphProto) -> None:
    """Put transposes around every recurrent layer of layout 1, which becomes one of layout 0."""
    nodes = [part for node in graph.node for part in _parts(node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _parts(node: NodeProto) -> list[NodeProto]:
    layout = next((attribute for attribute in node.attribute if attribute.name == "layout"), None)
    if node.op_type not in _KINDS or layout is None or not layout.i:
        return [node]
    before, after = [], []
    for index in _INPUTS:
        if index < len(node.input) and node.input[index]:
            turned = f"{node.name}/input_{index}"
            before.append(helper.make_node("Transpose", [node.input[index]], [turned], turned, perm=_SWAP))
            node.input[index] = turned
    for index, order in enumerate(_OUTPUTS[: len(node.output)]):
        if node.output[index]:
            turned = f"{node.name}/output_{index}"
            after.append(helper.make_node("Transpose", [turned], [node.output[index]], turned, perm=order))
            node.output[index] = turned
    layout.i = 0
    return [*before, node, *after]
