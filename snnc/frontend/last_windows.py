"""Pools whose lengths round up, written as ones that round down where their last window would lie in the padding.

No window begins behind the input and the padding before it, but before opset 22 the shapes that are inferred count it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper, shape_inference

from snnc.frontend.measuring import shape_of, values_of

_POOLS = ("AveragePool", "LpPool", "MaxPool")


def without_windows_in_padding(pinned: ModelProto, others: Sequence[ModelProto]) -> None:
    """Write such pools anew, in a model whose shapes are known and likewise in others of the same nodes."""
    for node in list(pinned.graph.node):
        if node.op_type not in _POOLS or not _attributes(node).get("ceil_mode", 0):
            continue
        # The shape behind one pool is known once those in front of it are written anew.
        shapes = {value.name: shape_of(value) for value in values_of(shape_inference.infer_shapes(pinned).graph)}
        shape = shapes.get(node.input[0])
        reach = shape and _reach(node, shape[2:])
        if reach:
            for model in (pinned, *others):
                _rewrite(model.graph, node.output[0], reach)


def _reach(node: NodeProto, lengths: Sequence[int]) -> list[int] | None:
    """Return how far the last window reaches over the padding along each axis, None where none lies in the padding."""
    given = _attributes(node)
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
    index, node = next((index, node) for index, node in enumerate(graph.node) if output in node.output)
    given = _attributes(node)
    axes = len(reach)
    pads = list(given.get("pads", [0] * 2 * axes))
    changed = {"ceil_mode": 0}
    over = [0] * axes + list(reach)
    if any(reach) and given.get("count_include_pad", 0):
        # The padding counts, what the window reaches over does not.
        padded, widths = f"{output}/padded", f"{output}/widths"
        ends = [0, 0, *pads[:axes], 0, 0, *pads[axes:]]
        graph.initializer.append(numpy_helper.from_array(np.array(ends, np.int64), widths))
        padding = helper.make_node("Pad", [node.input[0], widths], [padded], padded)
        node.input[0] = padded
        graph.node.insert(index, padding)
        node = graph.node[index + 1]
        pads, changed["count_include_pad"] = [0] * 2 * axes, 0
    kept = [attribute for attribute in node.attribute if attribute.name not in ("pads", *changed)]
    made = {**changed, "pads": [own + more for own, more in zip(pads, over, strict=True)]}
    held = [*kept, *(helper.make_attribute(name, value) for name, value in made.items())]
    del node.attribute[:]
    node.attribute.extend(held)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
