"""What an operation of the file costs."""

import math
from collections.abc import Mapping

from snnc.frontend.canonical import OnnxNode
from snnc.frontend.expression import Shape


def macs(node: OnnxNode, shapes: Mapping[str, Shape]) -> int:
    """Return the multiply-accumulates of one sample; 0 where nothing is multiplied or a shape is not known."""
    known = [shapes.get(value) for value in (*node.inputs[:2], *[value for value in node.outputs if value][:1])]
    if len(known) != 3 or any(shape is None for shape in known):
        return 0
    first, second, output = (shape or () for shape in known)
    if node.kind == "Conv":
        return math.prod(output) * math.prod(second[1:])
    if node.kind == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    if node.kind == "MatMul":
        return math.prod(output) * (first[-1] if first else 1)
    if node.kind in ("RNN", "GRU", "LSTM"):
        # [positions, rows, I] with [directions, gates · H, I] and [directions, gates · H, H]
        recurrence = shapes.get(node.inputs[2], (0, 0, 0))
        return math.prod(first[:2]) * (math.prod(second) + math.prod(recurrence))
    if node.kind == "Gemm":
        return math.prod(output) * first[0 if node.attributes.get("transA", 0) else 1]
    return 0
