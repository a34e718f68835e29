"""What a converter is given, one ONNX node, and what it returns, expressions in our operations.

The file is read with its batch pinned to 1, as a function of one sample, and that function is then applied to every
sample of a free batch. A value of the file whose first axis has length 1 is stored without that axis, any other value
whole; so a reshape that merges the batch with another axis, as in ShuffleNet, is one on the sample like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnc import ops
from snnc.ir import Op

Shape = tuple[int, ...]
Array = NDArray[Any]

# The shape of one sample where a file does not say it: of its only input, or by the names of its inputs.
InputShapes = Shape | Mapping[str, Shape] | None


class UnsupportedError(Exception):
    """This node cannot be expressed in our operations: why, and what to do about it."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Operand:
    """An input of the ONNX node by its position, seen as samples of ``shape``."""

    index: int
    shape: Shape


@dataclass(frozen=True, eq=False)
class Apply:
    """One of our operations on the values of expressions, which may have a name within its layer."""

    op: Op
    arguments: tuple[Expression, ...]
    name: str = ""


Expression = Operand | Apply
Converter = Callable[["Call"], "Expression | tuple[Expression, ...]"]


def chain(value: Expression, *operations: Op) -> Expression:
    """Apply one-input operations one after another."""
    for op in operations:
        value = Apply(op, (value,))
    return value


def stored_shape(shape: Shape) -> Shape:
    """Return the sample shape under which a value of the file with this shape is kept."""
    return shape[1:] if shape[:1] == (1,) else shape


def tensor(array: Array | float) -> Tensor:
    """Return the array as a float32 tensor of its own memory."""
    return torch.from_numpy(np.array(array, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Call:
    """One ONNX node as its converter sees it. Shapes include the batch axis, which is pinned to 1.

    Of every input either the shape is known and the constant None (it is computed), or the constant is there too;
    an optional input that is left out has neither. ``whole`` says of which inputs the numbers are integers or bits;
    ``domain`` is "" of what ONNX itself defines. An output that is left out is not ``read``.
    """

    kind: str
    opset: int
    attributes: Mapping[str, Any]
    shapes: tuple[Shape | None, ...]
    constants: tuple[Array | None, ...]
    outputs: tuple[Shape, ...]
    read: tuple[bool, ...]
    whole: tuple[bool, ...] = ()
    domain: str = ""

    @property
    def output(self) -> Shape:
        """The shape of the first output."""
        return self.outputs[0]

    def shape(self, index: int = 0) -> Shape:
        """Return the shape of an input."""
        shape = self.shapes[index] if index < len(self.shapes) else None
        if shape is None:
            raise UnsupportedError("an input is missing", "check the file with onnx.checker")
        return shape

    def number(self, name: str, default: float) -> float:
        """Return a numeric attribute."""
        return float(self.attributes.get(name, default))

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.attributes.get(name, default))

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Return an attribute that is a list of integers."""
        return tuple(int(value) for value in self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a string."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def given(self, index: int) -> Array | None:
        """Return an optional constant input, None where left out; raises UnsupportedError where it is computed."""
        if index >= len(self.shapes) or self.shapes[index] is None:
            return None
        return self.constant(index, "one of its parameters")

    def constant(self, index: int, what: str = "its weight") -> Array:
        """Return a constant input; raises UnsupportedError where the network computes it."""
        array = self.constants[index] if index < len(self.constants) else None
        if array is None:
            raise UnsupportedError(
                f"{what} is computed by the network", "only constants of the file can become synapses"
            )
        return array

    def has(self, index: int) -> bool:
        """Return whether an optional input is there, constant or computed."""
        return index < len(self.shapes) and self.shapes[index] is not None

    def listed(self, name: str, index: int, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """Return a list of integers that older opsets give as an attribute and newer ones as an input."""
        if name in self.attributes:
            return self.integers(name)
        array = self.given(index)
        if array is None:
            if default is None:
                raise UnsupportedError(f"{name!r} is missing", "check the file with onnx.checker")
            return tuple(default)
        return tuple(int(value) for value in array.reshape(-1))

    def computed(self) -> tuple[int, ...]:
        """Return the positions of the inputs that the network computes."""
        pairs = enumerate(zip(self.shapes, self.constants, strict=True))
        return tuple(index for index, (shape, array) in pairs if shape is not None and array is None)

    def axis(self, axis: int, index: int = 0) -> int:
        """Return an axis of an input counted from the first."""
        rank = len(self.shape(index))
        if not -rank <= axis < rank:
            raise UnsupportedError(f"axis {axis} does not exist", "check the file with onnx.checker")
        return axis % rank

    def framed(self, axes: Sequence[int], index: int = 0) -> tuple[Operand, int]:
        """Return an input and what to add to the axes of the file to have ours, for work along ``axes``.

        Where the first axis is the batch and is left alone that is 0; else the whole value is the sample.
        """
        shape = self.shape(index)
        if shape[:1] == (1,) and 0 not in axes:
            return Operand(index, shape[1:]), 0
        return Operand(index, shape), 1

    def settled(self, value: Expression, output: int = 0) -> Expression:
        """Return the value in the shape under which this output is kept."""
        return Apply(ops.Reshape(stored_shape(self.outputs[output])), (value,))

    def framed_result(self, value: Expression, offset: int, output: int = 0) -> Expression:
        """Return what was computed along axes offset by ``offset`` in the shape under which it is kept."""
        drops = offset == 1 and self.outputs[output][:1] == (1,)
        return self.settled(value, output) if drops else value

    def broadcast(self, index: int) -> Operand:
        """Return an input ready to be broadcast against the others to the first output."""
        shape = self.shape(index)
        padded = (1,) * (len(self.output) - len(shape)) + shape
        return Operand(index, padded[1:] if self.output[:1] == (1,) else padded)

    def operand(self, index: int, instead: Array | None = None) -> Expression:
        """Return an input ready to be broadcast, be it a constant (or another ``instead``), for what takes several."""
        array = self.constants[index] if instead is None else instead
        if array is None:
            return self.broadcast(index)
        # A network has no source but its inputs.
        source = self.broadcast(self.computed()[0])
        return Apply(ops.Affine(tensor(0.0), self.broadcast_constant(array)), (source,))

    def broadcast_constant(self, array: Array) -> Tensor:
        """Return a constant as a tensor that broadcasts against one sample of the first output."""
        if array.ndim == len(self.output) and self.output[:1] == (1,):
            array = array.reshape(array.shape[1:])
        return tensor(array)


def shown(shape: Sequence[int]) -> str:
    """Return a shape as messages write it."""
    return "x".join(str(length) for length in shape) or "scalar"
