"""Operations on integers, written as operations on the real numbers that their integers stand for.

A value that is quantized is followed by the real one that it stands for, with its scale and its zero point. What is
quantized by constants is rounded behind, by a pair of ``QuantizeLinear`` and ``DequantizeLinear``; what is quantized by
the range of the sample at hand is not rounded: its scale is 1, and its zero point 0. Weights are dequantized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from snnc.frontend.expression import Array
from snnc.frontend.labels import rewritten
from snnc.frontend.measuring import shape_of, values_of
from snnc.frontend.weights import Weights, array_of

# What only moves values, or takes the largest: of integers what it is of the numbers that they stand for.
_MOVING = {
    *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Reshape"),
    *("Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}
# Operations of onnxruntime on one quantized value, and what they are of the number that it stands for.
_OF_ONE = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
# What onnxruntime's operations say of themselves, and those of ONNX do not.
_OF_ITS_OWN = {"channels_last", "opset"}
_OF_TWO = {"QLinearAdd": "Add", "QLinearMatMul": "MatMul", "QLinearMul": "Mul"}
# What rounds by the range of the sample at hand.
BY_RANGE = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
_KINDS = {
    *("QuantizeLinear", "DequantizeLinear", "NhwcMaxPool", "QLinearConv", "QGemm", "QLinearConcat"),
    *("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"),
    *BY_RANGE,
    *_OF_ONE,
    *_OF_TWO,
}


def dequantized(model: ModelProto, weights: Weights) -> ModelProto | None:
    """Return the file with its operations on integers in real numbers, None where there are none.

    ``weights`` are its large constants, which are beside it. Where scales, zero points or weights are computed it is
    left as it is.
    """
    if not any(node.op_type in _KINDS for node in model.graph.node):
        return None
    written = _Writer(model, weights)
    if not written.changed:
        return None
    result = rewritten(model, written.nodes, written.made)
    for output in result.graph.output:
        if output.name in written.shown:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
    return result


@dataclass(frozen=True, eq=False)
class _Quantized:
    """The real value that integers stand for, ``scale · (integer − zero)``; both broadcast against it."""

    real: str
    scale: Array
    zero: Array

    def is_like(self, scale: Array, zero: Array) -> bool:
        """Whether another scale and zero point are the same."""
        return np.array_equal(self.scale, scale) and np.array_equal(self.zero, zero)


_ONE, _ZERO = np.ones((), np.float32), np.zeros((), np.float32)


class _ComputedError(Exception):
    """A parameter of a quantization is computed: the operation stays as it is."""


class _Writer:
    """The nodes of a file as they are written anew; lives for one file."""

    def __init__(self, model: ModelProto, weights: Weights) -> None:
        graph = model.graph
        self._weights = weights
        self.nodes: list[NodeProto] = []
        self.made: list[TensorProto] = []
        self.shown: set[str] = set()
        self.changed = False
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        for value in values_of(graph):
            shape = shape_of(value)
            if shape is not None:
                self._ranks[value.name] = len(shape)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self._known: dict[str, _Quantized] = {}
        # What stays quantized, in front of its inverse.
        self._paired: set[str] = set()
        for node in graph.node:
            self._write(node)
        for name in self._outputs & set(self._known):
            self._codes(name)
            self.shown.add(name)

    def _write(self, node: NodeProto) -> None:
        writers: dict[str, Callable[[NodeProto], bool]] = {
            "QuantizeLinear": self._quantize,
            "DequantizeLinear": self._dequantize,
            "DynamicQuantizeLinear": self._by_range,
            "DynamicQuantizeMatMul": self._product_by_range,
            "DynamicQuantizeLSTM": self._recurrent,
            "MatMulIntegerToFloat": self._product_to_float,
            "ConvInteger": self._of_integers,
            "MatMulInteger": self._of_integers,
            "QLinearConv": self._convolution,
            "QGemm": self._gemm,
            "QLinearConcat": self._concatenation,
            "NhwcMaxPool": self._pool,
            "Cast": self._cast,
            "Pad": self._pad,
            **dict.fromkeys(_OF_ONE, self._of_one),
            **dict.fromkeys(_OF_TWO, self._of_two),
            **dict.fromkeys(_MOVING, self._moved),
        }
        before = len(self.nodes), len(self.made)
        try:
            written = node.op_type in writers and writers[node.op_type](node)
        except _ComputedError:
            written = False
            del self.nodes[before[0] :], self.made[before[1] :]
        if not written:
            for name in node.input:
                self._codes(name)
            self.nodes.append(node)
        else:
            self.changed = True

    # Each returns whether it wrote the node.

    def _quantize(self, node: NodeProto) -> bool:
        scale, zero = self._parameters(node, node.input[0])
        readers = self._readers.get(node.output[0], ())
        plain = all(
            reader.op_type == "DequantizeLinear" and self._is_back(node, reader) for reader in readers
        ) and not self._outputs & {node.output[0]}
        if plain:
            self._paired.add(node.output[0])
            return False
        real, integers = f"{node.output[0]}/real", f"{node.output[0]}/integers"
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.output[0] = integers
        self.nodes.append(copy)
        self.nodes.append(helper.make_node("DequantizeLinear", [integers, *node.input[1:]], [real], real))
        self.nodes[-1].attribute.extend(entry for entry in node.attribute if entry.name == "axis")
        self._known[node.output[0]] = _Quantized(real, scale, zero)
        return True

    def _is_back(self, node: NodeProto, reader: NodeProto) -> bool:
        try:
            return all(
                np.array_equal(ours, theirs)
                for ours, theirs in zip(
                    self._parameters(node, node.input[0]), self._parameters(reader, node.input[0]), strict=True
                )
            )
        except _ComputedError:
            return False

    def _dequantize(self, node: NodeProto) -> bool:
        name = node.input[0]
        if name in self._tensors or self._option(node, "block_size", 0):
            return False
        scale, zero = self._parameters(node, name)
        if name in self._known:
            self._operation("Identity", [self._as(name, scale, zero)], node.output[0], node.name)
            return True
        if name in self._paired:
            return False
        value = self._operation("Cast", [name], f"{name}/number", to=TensorProto.FLOAT)
        steps = self._operation("Sub", [value, self._constant(f"{node.name}/zero", zero)], f"{name}/steps")
        self._operation("Mul", [steps, self._constant(f"{node.name}/scale", scale)], node.output[0], node.name)
        return True

    def _by_range(self, node: NodeProto) -> bool:
        self._known[node.output[0]] = _Quantized(node.input[0], _ONE, _ZERO)
        self._keep(node.output[1], np.array(1, np.float32))
        self._keep(node.output[2], np.array(0, np.uint8))
        return True

    def _product_by_range(self, node: NodeProto) -> bool:
        value, weight, scale, *rest = node.input
        zero, bias = (*rest, "", "")[:2]
        self._biased(node, value, self._weight(weight, scale, zero, -1), bias)
        return True

    def _product_to_float(self, node: NodeProto) -> bool:
        first, second, scale, factor, *rest = node.input
        zero, other, bias = (*rest, "", "", "")[:3]
        value = self._as(first, self._array(scale), self._array(zero, _ZERO))
        self._biased(node, value, self._weight(second, factor, other, -1), bias)
        return True

    def _biased(self, node: NodeProto, value: str, weight: str, bias: str) -> None:
        if not bias:
            self._operation("MatMul", [value, weight], node.output[0], node.name)
            return
        product = self._operation("MatMul", [value, weight], f"{node.name}/product")
        self._operation("Add", [product, bias], node.output[0], node.name)

    def _recurrent(self, node: NodeProto) -> bool:
        inputs = [*node.input]
        sources = [*inputs[:8], *[""] * (8 - len(inputs[:8]))]
        for index, scale in ((1, 8), (2, 10)):
            weight = self._array(inputs[index]).astype(np.float32)
            factors, zeros = self._array(inputs[scale]), self._array(inputs[scale + 1])
            along = (len(weight), 1, -1) if factors.ndim == 2 else (len(weight), 1, 1)
            whole = (weight - zeros.astype(np.float32).reshape(along)) * factors.reshape(along)
            sources[index] = self._constant(f"{node.name}/{index}", whole.swapaxes(1, 2))
        while not sources[-1]:
            sources.pop()
        layer = helper.make_node("LSTM", sources, list(node.output), node.name)
        layer.attribute.extend(node.attribute)
        self.nodes.append(layer)
        return True

    def _of_integers(self, node: NodeProto) -> bool:
        first, second, *rest = node.input
        zero, other = (*rest, "", "")[:2]
        origin = _float(self._array(zero, _ZERO))
        value = self._as(first, _ONE, _column(origin) if node.op_type == "MatMulInteger" else origin)
        if second in self._tensors:
            weight = self._weight(second, "", other, 0 if node.op_type == "ConvInteger" else -1)
        else:
            weight = self._as(second, _ONE, _float(self._array(other, _ZERO)))
        real = f"{node.output[0]}/real"
        kind = node.op_type.removesuffix("Integer")
        self.nodes.append(helper.make_node(kind, [value, weight], [real], node.name))
        self.nodes[-1].attribute.extend(node.attribute)
        self._known[node.output[0]] = _Quantized(real, _ONE, _ZERO)
        return True

    def _convolution(self, node: NodeProto) -> bool:
        value, scale, zero, weight, factor, other, *behind = node.input
        inputs = [self._as(value, self._array(scale), self._array(zero)), self._weight(weight, factor, other, 0)]
        if len(behind) > 2 and behind[2]:
            bias = self._array(behind[2]).astype(np.float32) * self._array(scale) * self._array(factor)
            inputs.append(self._constant(f"{node.name}/bias", bias))
        self._rounded("Conv", inputs, node, behind[0], behind[1])
        return True

    def _gemm(self, node: NodeProto) -> bool:
        value, scale, zero, weight, factor, other, bias, *behind = (*node.input, "")[: max(len(node.input), 7)]
        alpha = next((entry.f for entry in node.attribute if entry.name == "alpha"), 1.0)
        along = 0 if self._option(node, "transB", 0) else -1
        inputs = [self._as(value, self._array(scale), self._array(zero)), self._weight(weight, factor, other, along)]
        if bias:
            numbers = self._array(bias).astype(np.float32) * self._array(scale) * self._array(factor) * alpha
            inputs.append(self._constant(f"{node.name}/bias", np.asarray(numbers, np.float32)))
        if behind and behind[0]:
            self._rounded("Gemm", inputs, node, *behind[:2])
            return True
        layer = helper.make_node("Gemm", inputs, list(node.output), node.name)
        layer.attribute.extend(node.attribute)
        self.nodes.append(layer)
        return True

    def _of_one(self, node: NodeProto) -> bool:
        value, scale, zero, factor, *rest = node.input
        inputs = [self._as(value, self._array(scale), self._array(zero, _ZERO))]
        self._rounded(_OF_ONE[node.op_type], inputs, node, factor, (*rest, "")[0])
        return True

    def _of_two(self, node: NodeProto) -> bool:
        inputs = []
        for value, scale, zero in (node.input[:3], node.input[3:6]):
            if value in self._tensors:
                inputs.append(self._weight(value, scale, zero, -1))
            else:
                inputs.append(self._as(value, self._array(scale), self._array(zero, _ZERO)))
        self._rounded(_OF_TWO[node.op_type], inputs, node, node.input[6], (*node.input[7:], "")[0])
        return True

    def _concatenation(self, node: NodeProto) -> bool:
        scale, zero, *parts = node.input
        inputs = []
        for value, factor, other in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            if value in self._tensors:
                inputs.append(self._weight(value, factor, other, -1))
            else:
                inputs.append(self._as(value, self._array(factor), self._array(other)))
        self._rounded("Concat", inputs, node, scale, zero)
        return True

    def _cast(self, node: NodeProto) -> bool:
        if node.input[0] not in self._known:
            return False
        self._operation("Identity", [self._as(node.input[0], _ONE, _ZERO)], node.output[0], node.name)
        return True

    def _moved(self, node: NodeProto) -> bool:
        first = self._known.get(node.input[0])
        if first is None or first.scale.size > 1 or first.zero.size > 1:
            return False
        several = node.op_type == "Concat"
        if several and not all(name in self._known for name in node.input):
            return False
        copy = NodeProto()
        copy.CopyFrom(node)
        for index in range(len(node.input) if several else 1):
            copy.input[index] = self._as(node.input[index], first.scale, first.zero)
        for index, name in enumerate(node.output):
            if name:
                copy.output[index] = f"{name}/real"
                self._known[name] = _Quantized(copy.output[index], first.scale, first.zero)
        self.nodes.append(copy)
        return True

    def _pool(self, node: NodeProto) -> bool:
        first = self._known.get(node.input[0])
        if first is None or first.scale.size > 1 or first.zero.size > 1:
            return False
        real = f"{node.output[0]}/real"
        self._channels_last("MaxPool", [first.real], real, node)
        self._known[node.output[0]] = _Quantized(real, first.scale, first.zero)
        return True

    def _pad(self, node: NodeProto) -> bool:
        first = self._known.get(node.input[0])
        if first is None or first.scale.size > 1 or len(node.input) < 2:
            return False
        given = self._array(node.input[2]) if len(node.input) > 2 and node.input[2] else _ZERO
        border = (given.astype(np.float32) - first.zero) * first.scale
        real = f"{node.output[0]}/real"
        copy = NodeProto()
        copy.CopyFrom(node)
        inputs = [first.real, node.input[1], self._constant(f"{node.name}/border", border), *node.input[3:]]
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        copy.output.append(real)
        self.nodes.append(copy)
        self._known[node.output[0]] = _Quantized(real, first.scale, first.zero)
        return True

    # What all of them ask and write.

    def _rounded(self, kind: str, inputs: Sequence[str], node: NodeProto, scale: str, zero: str) -> None:
        """Write an operation on real numbers, and behind it the rounding to the integers of the file."""
        output = node.output[0]
        exact, integers, real = f"{output}/exact", f"{output}/integers", f"{output}/real"
        parameters = [scale, zero] if zero else [scale]
        if self._option(node, "channels_last", 0):
            self._channels_last(kind, inputs, exact, node)
        else:
            self._layer(kind, inputs, exact, node)
        self.nodes.append(helper.make_node("QuantizeLinear", [exact, *parameters], [integers], integers))
        self.nodes.append(helper.make_node("DequantizeLinear", [integers, *parameters], [real], real))
        factor, origin = self._array(scale), self._array(zero, _ZERO)
        self._known[output] = _Quantized(real, _float(factor), _float(origin))

    def _channels_last(self, kind: str, inputs: Sequence[str], output: str, node: NodeProto) -> None:
        """Write an operation whose first input, and output, have the channels last."""
        sides = next((entry.ints for entry in node.attribute if entry.name == "kernel_shape"), ())
        rank = len(sides) + 2 if sides else self._ranks.get(node.input[0])
        if rank is None:
            raise _ComputedError
        turned, found = f"{output}/turned", f"{output}/found"
        self._operation("Transpose", inputs[:1], turned, perm=[0, rank - 1, *range(1, rank - 1)])
        self._layer(kind, [turned, *inputs[1:]], found, node)
        self._operation("Transpose", [found], output, perm=[0, *range(2, rank), 1])

    def _layer(self, kind: str, inputs: Sequence[str], output: str, node: NodeProto) -> None:
        """Write an operation in the place of a node, with the attributes of it that both have."""
        layer = helper.make_node(kind, list(inputs), [output], node.name)
        layer.attribute.extend(entry for entry in node.attribute if entry.name not in _OF_ITS_OWN)
        self.nodes.append(layer)

    def _as(self, name: str, scale: Array, zero: Array) -> str:
        """Return the real value that the integers stand for by this scale and zero point."""
        if name not in self._known:
            number = self._operation("Cast", [name], f"{name}/number_{len(self.nodes)}", to=TensorProto.FLOAT)
            known = _Quantized(number, _ONE, _ZERO)
        else:
            known = self._known[name]
        scale, zero = _float(scale), _float(zero)
        if known.is_like(scale, zero):
            return known.real
        # scale · (real / its scale + its zero − zero)
        label = f"{known.real}/again_{len(self.nodes)}"
        factor, shift = scale / known.scale, scale * (known.zero - zero)
        value = self._operation("Mul", [known.real, self._constant(f"{label}/scale", factor)], label)
        if not np.any(shift):
            return value
        return self._operation("Add", [value, self._constant(f"{label}/shift", shift)], f"{label}/shifted")

    def _codes(self, name: str) -> None:
        """Let a value be the integers themselves, as numbers, for what asks for them."""
        if name in self._known:
            self._operation("Identity", [self._as(name, _ONE, _ZERO)], name, f"{name}/codes")
            del self._known[name]

    def _parameters(self, node: NodeProto, value: str) -> tuple[Array, Array]:
        """Return a node's scale and zero point as numbers that broadcast against its input."""
        if self._option(node, "block_size", 0):
            raise _ComputedError
        scale = self._array(node.input[1])
        zero = self._array(node.input[2] if len(node.input) > 2 else "", _ZERO)
        if scale.size == 1:
            return _float(scale).reshape(()), _float(zero).reshape(())
        if value not in self._ranks:
            raise _ComputedError
        rank = self._ranks[value]
        along = [1] * rank
        along[self._option(node, "axis", 1) % rank] = scale.size
        return _float(scale).reshape(along), _float(zero).reshape(along if zero.size > 1 else ())

    def _weight(self, name: str, scale: str, zero: str, axis: int) -> str:
        """Return constant weights as real numbers; scales are along an axis."""
        integers = self._array(name)
        factor = _float(self._array(scale, _ONE))
        origin = _float(self._array(zero, _ZERO))
        along = [1] * integers.ndim
        along[axis] = -1
        numbers = integers.astype(np.float32) - (origin.reshape(along) if origin.ndim == 1 else origin)
        return self._constant(f"{name}/real", numbers * (factor.reshape(along) if factor.ndim == 1 else factor))

    def _array(self, name: str, otherwise: Array | None = None) -> Array:
        """Return a constant, or what it is where it is left out."""
        if name in self._tensors:
            return array_of(self._tensors[name], self._weights)
        if name or otherwise is None:
            raise _ComputedError
        return otherwise

    def _constant(self, name: str, array: Array) -> str:
        """Keep an array of numbers under a name of its own."""
        unique, count = name, 1
        while unique in self._tensors:
            count += 1
            unique = f"{name}_{count}"
        self._keep(unique, np.asarray(array, np.float32))
        return unique

    def _keep(self, name: str, array: Array) -> None:
        self._tensors[name] = numpy_helper.from_array(array, name)
        self.made.append(self._tensors[name])

    def _operation(self, kind: str, inputs: Sequence[str], output: str, name: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name or output, **attributes))
        return output

    @staticmethod
    def _option(node: NodeProto, name: str, otherwise: int) -> int:
        return next((entry.i for entry in node.attribute if entry.name == name), otherwise)


def _float(array: Array) -> Array:
    return np.asarray(array, np.float32)


def _column(array: Array) -> Array:
    """Return zero points of rows so that they broadcast against a matrix."""
    return array[:, None] if array.ndim == 1 and array.size > 1 else array
