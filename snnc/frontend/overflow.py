"""Sums of integers that overflow in onnxruntime on processors without instructions for them, written so that none does.

There, products of unsigned values and signed weights are added in pairs, in 16 bits. Of unsigned weights they are not.
"""

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from snnc.frontend.weights import Weights, array_of

# Which inputs of an operation are: the zero point of its values, its weights, and the zero point of these.
_PLACES = {
    "QLinearConv": (2, 3, 5),
    "QLinearMatMul": (2, 3, 5),
    "QGemm": (2, 3, 5),
    "ConvInteger": (2, 1, 3),
    "MatMulInteger": (2, 1, 3),
    "MatMulIntegerToFloat": (4, 1, 5),
}
_HALF = 128


def without_overflow(model: ModelProto, weights: Weights) -> ModelProto:
    """Return a file whose signed weights are unsigned beside unsigned values; it computes the same, but for overflows.

    ``weights`` are its large constants, which are beside it.
    """
    if not any(node.op_type in _PLACES for node in model.graph.node):
        return model
    changed = ModelProto()
    changed.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    unsigned = {name for name, tensor in constants.items() if tensor.data_type == TensorProto.UINT8}
    unsigned |= {node.output[2] for node in changed.graph.node if node.op_type == "DynamicQuantizeLinear"}
    for number, node in enumerate(changed.graph.node):
        values, kernel, zero = _PLACES.get(node.op_type, (0, 0, 0))
        if not kernel or len(node.input) <= values or node.input[values] not in unsigned:
            continue
        signed, origin = constants.get(node.input[kernel]), "".join(node.input[zero : zero + 1])
        if signed is None or signed.data_type != TensorProto.INT8 or (origin and origin not in constants):
            continue
        shifted = np.zeros((), np.int8) if not origin else array_of(constants[origin], weights)
        for place, array in ((kernel, array_of(signed, weights)), (zero, shifted)):
            name = f"{number}/unsigned/{place}"
            moved = (array.astype(np.int16) + _HALF).astype(np.uint8)
            changed.graph.initializer.append(numpy_helper.from_array(moved, name))
            node.input.extend([""] * (place + 1 - len(node.input)))
            node.input[place] = name
    return changed
