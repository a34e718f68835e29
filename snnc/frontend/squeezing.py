"""Squeezes that name no axis: they mean all but the batch, which has length 1 where one sample is looked at."""

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from snnc.frontend.labels import opset_of
from snnc.frontend.measuring import shapes_of

# Since when the axes are an input.
_AXES_ARE_AN_INPUT = 13


def name_squeezed_axes(model: ModelProto, several: ModelProto) -> None:
    """Write down which axes go; ``several`` is the model for more than one sample."""
    silent = [node for node in model.graph.node if node.op_type == "Squeeze" and _is_silent(node)]
    if not silent:
        return
    shapes = shapes_of(several)
    opset = opset_of(model)
    for node in silent:
        axes = [axis for axis, length in enumerate(shapes.get(node.input[0]) or ()) if length == 1]
        if axes and opset < _AXES_ARE_AN_INPUT:
            node.attribute.append(helper.make_attribute("axes", axes))
        elif axes:
            name = f"{node.output[0]}/axes"
            model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
            del node.input[1:]
            node.input.append(name)


def _is_silent(node: NodeProto) -> bool:
    return not node.attribute and not any(node.input[1:])
