"""Pools of which onnxruntime makes another length than the shapes that are inferred say, written so that both agree.

Where lengths round up, no window begins behind the input and the padding before it, but before opset 22 the shapes that
are inferred count it. Where padding is to keep the length, onnxruntime pads for windows without holes, whatever holes
they have.
"""

from collections.abc import Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from snnc.frontend.labels import attributes_of, set_attributes
from snnc.frontend.measuring import shapes_of

_POOLS = ("AveragePool", "LpPool", "MaxPool")
_SAME = (b"SAME_LOWER", b"SAME_UPPER")


def agree_on_pool_lengths(pinned: ModelProto, original: ModelProto) -> None:
    """Write such pools anew, in a model whose shapes are known.

    In the original, which the import is compared with, only those whose lengths round up: onnxruntime may refuse it.
    """
    graph = pinned.graph
    for output in [node.output[0] for node in graph.node if node.op_type in _POOLS]:
        node = _producer(graph, output)[1]
        holes = _keeps_length_with_holes(node)
        if not (attributes_of(node).get("ceil_mode", 0) or holes):
            continue
        # The shape behind one pool is known once those in front of it are written anew.
        shapes = shapes_of(pinned)
        lengths = (shapes.get(node.input[0]) or ())[2:]
        if lengths and holes:
            pads = _padding_without_holes(node, lengths)
            cut = [min(width, 0) for width in pads]
            if any(cut):
                node = _padded(graph, output, cut, "cut")
                axes = len(lengths)
                lengths = tuple(n + cut[axis] + cut[axes + axis] for axis, n in enumerate(lengths))
            set_attributes(node, {"pads": [max(width, 0) for width in pads]}, without=["auto_pad"])
        reach = _reach(node, lengths) if lengths and attributes_of(node).get("ceil_mode", 0) else None
        if reach:
            for rewritten in (graph,) if holes else (graph, original.graph):
                _rewrite(rewritten, output, reach)


def _keeps_length_with_holes(node: NodeProto) -> bool:
    given = attributes_of(node)
    return given.get("auto_pad") in _SAME and any(step != 1 for step in given.get("dilations", ()))


def _padding_without_holes(node: NodeProto, lengths: Sequence[int]) -> list[int]:
    """Return the padding, beginnings before ends, that would keep the length if windows had no holes.

    It is negative, and cuts the input, where strides pass over more than windows reach.
    """
    given = attributes_of(node)
    kernel = given["kernel_shape"]
    strides = given.get("strides", [1] * len(kernel))
    begins, ends = [], []
    for n, s, k, d in zip(lengths, strides, kernel, given["dilations"], strict=True):
        total = (-(-n // s) - 1) * s + k - n
        # onnxruntime rounds toward zero, lengths too, and but for averages reads what lies behind an end that is cut.
        begin = int((total + (given["auto_pad"] == b"SAME_LOWER")) / 2)
        room = n + total - (k - 1) * d - 1
        begins.append(begin)
        behind = node.op_type != "AveragePool" and total < 0 and -s < room < 0
        ends.append(total - begin - (room if behind else 0))
    return begins + ends


def _reach(node: NodeProto, lengths: Sequence[int]) -> list[int] | None:
    """Return how far the last window reaches over the padding along each axis, None where none lies in the padding."""
    given = attributes_of(node)
    kernel = given.get("kernel_shape", [])
    axes = len(kernel)
    if axes != len(lengths) or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    pads = given.get("pads", [0] * 2 * axes)
    reach, lies_in_padding = [], False
    for axis, (n, k) in enumerate(zip(lengths, kernel, strict=True)):
        s, d = (given.get(name, [1] * axes)[axis] for name in ("strides", "dilations"))
        room = n + pads[axis] + pads[axes + axis] - (k - 1) * d - 1
        over = -room % s
        beyond = over > 0 and room + over >= n + pads[axis]
        lies_in_padding |= beyond
        reach.append(0 if beyond else over)
    return reach if lies_in_padding else None


def _rewrite(graph: GraphProto, output: str, reach: Sequence[int]) -> None:
    node = _producer(graph, output)[1]
    given = attributes_of(node)
    axes = len(reach)
    pads = list(given.get("pads", [0] * 2 * axes))
    changed = {"ceil_mode": 0}
    over = [0] * axes + list(reach)
    if any(reach) and given.get("count_include_pad", 0):
        # The padding counts, what the window reaches over does not.
        node = _padded(graph, output, pads, "padded")
        pads, changed["count_include_pad"] = [0] * 2 * axes, 0
    set_attributes(node, {**changed, "pads": [own + more for own, more in zip(pads, over, strict=True)]})


def _padded(graph: GraphProto, output: str, pads: Sequence[int], name: str) -> NodeProto:
    """Let the node that computes ``output`` read its input padded, cut where negative; return the node."""
    index, node = _producer(graph, output)
    axes = len(pads) // 2
    padded, widths = f"{output}/{name}", f"{output}/{name}/widths"
    ends = [0, 0, *pads[:axes], 0, 0, *pads[axes:]]
    graph.initializer.append(numpy_helper.from_array(np.array(ends, np.int64), widths))
    padding = helper.make_node("Pad", [node.input[0], widths], [padded], padded)
    node.input[0] = padded
    graph.node.insert(index, padding)
    return _producer(graph, output)[1]


def _producer(graph: GraphProto, output: str) -> tuple[int, NodeProto]:
    return next((index, node) for index, node in enumerate(graph.node) if output in node.output)
