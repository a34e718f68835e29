"""What an operation of the file costs."""

import math
import re
from collections.abc import Mapping, Sequence

from snnc.frontend.canonical import OnnxNode
from snnc.frontend.expression import Shape

# Where convolutions and matrix products have their factors.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "DeformConv": 1, "FusedConv": 1, "NhwcConv": 1, "QLinearConv": 3}
_PRODUCTS = {"FusedMatMul", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "TransposeMatMul"}
_GEMMS = {"FusedGemm", "Gemm", "GemmFloat8", "QGemm"}
_RECURRENT = {"GRU", "LSTM", "RNN"}


def macs(node: OnnxNode, shapes: Mapping[str, Shape]) -> int:
    """Return the multiply-accumulates of one sample; 0 where nothing is multiplied or a shape is not known."""
    inputs = [shapes.get(value) if value else None for value in node.inputs]
    output = shapes.get(next(filter(None, node.outputs), ""))
    try:
        return _macs(node, inputs, output)
    except (IndexError, TypeError, ValueError):
        # A shape is missing, or is none that the operation could have.
        return 0


def _macs(node: OnnxNode, inputs: Sequence[Shape | None], output: Shape | None) -> int:
    kind = node.kind
    if kind in _CONVOLUTIONS:
        return _size(output) * _size(_shape(inputs[_CONVOLUTIONS[kind]])[1:])
    if kind == "ConvTranspose":
        return _size(inputs[0]) * _size(_shape(inputs[1])[1:])
    if kind in _PRODUCTS:
        return _size(output) * (_shape(inputs[0]) or (1,))[-1]
    if kind == "MatMulNBits":
        return _size(output) * int(node.attributes["K"])
    if kind in _GEMMS:
        return _size(output) * _shape(inputs[0])[0 if node.attributes.get("transA", 0) else 1]
    if kind in _RECURRENT:
        # [positions, rows, I] with [directions, gates · H, I] and [directions, gates · H, H]
        return _size(_shape(inputs[0])[:2]) * (_size(inputs[1]) + _size(inputs[2]))
    if kind == "Einsum":
        return _contracted(str(_text(node.attributes["equation"])), [_shape(shape) for shape in inputs])
    if kind in ("Attention", "MultiHeadAttention"):
        return _attention(node, [shape for shape in inputs if shape is not None], _shape(output))
    return 0


def _attention(node: OnnxNode, inputs: Sequence[Shape], output: Shape) -> int:
    """Return the work of scores and of what they weigh, and of the projections where the operation has them inside."""
    if node.domain and node.kind == "Attention":
        tokens, weight = inputs[0], inputs[1]
        positions = tokens[-2]
        return _size(tokens) * weight[-1] + 2 * _size(output) * positions
    keys = inputs[1][-2]
    return (_size(inputs[0]) + _size(output)) * keys


def _contracted(equation: str, shapes: Sequence[Shape]) -> int:
    """Return the length of all axes of an Einsum together, each counted once; 0 where nothing is multiplied."""
    if len(shapes) < 2:
        return 0
    lengths: dict[str, int] = {}
    for term, shape in zip(equation.replace(" ", "").split("->")[0].split(","), shapes, strict=True):
        letters = re.findall(r"\.\.\.|.", term)
        spread = len(shape) - sum(letter != "..." for letter in letters)
        names = [name for letter in letters for name in (_spread(spread) if letter == "..." else [letter])]
        for name, length in zip(names, shape, strict=True):
            lengths[name] = max(lengths.get(name, 1), length)
    return math.prod(lengths.values())


def _spread(axes: int) -> list[str]:
    """Name the axes that dots stand for, counted from the last."""
    return [f"...{axis}" for axis in reversed(range(axes))]


def _shape(shape: Shape | None) -> Shape:
    if shape is None:
        raise ValueError("not known")
    return shape


def _size(shape: Shape | None) -> int:
    return math.prod(_shape(shape))


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
