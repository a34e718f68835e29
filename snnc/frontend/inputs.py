"""What a file takes: the shape of every input, which of its axes is the batch, and what numbers are given there."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, shape_inference
from torch import Tensor

from snnc.errors import ModelError
from snnc.findings import Finding
from snnc.frontend.canonical import OnnxGraph
from snnc.frontend.expression import Array, InputShapes, Shape, shown, stored_shape
from snnc.frontend.measuring import INTEGERS, shape_of
from snnc.ir import Input

_COLORS = (1, 3, 4)
_RGB = 3
# What an axis that counts samples is called.
_COUNTS = re.compile(r"(n|b|bs|.*batch.*)$", re.IGNORECASE)
_FLAG = "as in --input-shape 3,32,32"

# What looks integers up, and the axis of its list; what leaves them what they are.
_LISTS = {"Gather": "axis", "GatherElements": "axis"}
_MOVING = {
    *("Cast", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Reshape"),
    *("Round", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


@dataclass(frozen=True, eq=False)
class FileInput:
    """An input of the file, which takes ``dimensions`` with a batch of 1, of an element type of ONNX.

    ``batch`` is the axis that counts samples, None where there is none and every sample has an input of its own.
    """

    name: str
    dimensions: Shape
    batch: int | None
    kind: int

    @property
    def shape(self) -> Shape:
        """The shape of one sample as our graph has it."""
        return stored_shape(self.dimensions)

    @property
    def numbers(self) -> Literal["real", "pixel", "integer"]:
        """What numbers it takes: bytes of the shape of an image are pixels."""
        if self.kind == TensorProto.FLOAT:
            return "real"
        image = self.kind == TensorProto.UINT8 and len(self.shape) == 3
        return "pixel" if image and {self.shape[0], self.shape[-1]} & {*_COLORS} else "integer"

    def with_batch(self, length: int) -> Shape:
        """Return the dimensions with a batch of that length."""
        return tuple(length if axis == self.batch else own for axis, own in enumerate(self.dimensions))

    def without_batch(self, length: int) -> "FileInput":
        """Return what it is if the axis of that length is one of every sample."""
        return replace(self, dimensions=self.with_batch(length), batch=None)

    def array(self, samples: Tensor) -> Array:
        """Return samples ``[N, ...]`` as the file takes them: one, or as many as its batch has."""
        kind = helper.tensor_dtype_to_np_dtype(self.kind)
        if self.batch is None or len(samples) == 1:
            return samples[0].reshape(self.dimensions).numpy().astype(kind)
        parts = samples.reshape(len(samples), *self.dimensions)
        return np.concatenate([part.numpy() for part in parts], self.batch).astype(kind)


def inputs_of(graph: GraphProto, wanted: InputShapes, place: str) -> tuple[int, tuple[FileInput, ...]]:
    """Return the batch that the file says, 0 where it is free, and its inputs.

    The batch is the first axis of the first input, and every axis of the same name, length (above 1) or, in front,
    without a length; of an input whose first axis is fixed, the one that is named batch. Raises ModelError where an
    input takes no numbers, or its shape is not known or another than ``wanted``.
    """
    values = [*graph.input]
    if not values:
        raise ModelError("it has no input", place=place, hint="export the network with its input")
    shapes = _shapes_by_input(values, wanted, place)
    dimensions = [_declared(value) for value in values]
    first = _batch_axis(dimensions[0])
    symbol, length = dimensions[0][first] if dimensions[0] else ("", 0)
    inputs = []
    for number, (value, declared) in enumerate(zip(values, dimensions, strict=True)):
        kind = _kind(value, place)
        given = shapes.get(value.name)
        if not declared and (given is not None or not value.type.tensor_type.HasField("shape")):
            # All that is known of it is what the user says.
            declared = [("", 0)] * (1 + len(given or (0,)))
            axis: int | None = 0
        elif given is not None and _is_whole(declared, given):
            axis = None
        else:
            axis = first if number == 0 and declared else _same_batch(declared, symbol, length)
        inputs.append(FileInput(value.name, _filled(value.name, declared, axis, given, len(values), place), axis, kind))
    return length, tuple(inputs)


def counts_samples(several: ModelProto, one: ModelProto, given: FileInput) -> bool:
    """Return whether the first axis of an input counts samples: outputs have it too, or are so many times as large.

    ``several`` is the network for as many samples as the file says, ``one`` for one. Of a row of numbers and of the
    colors of an image, outputs may have as many by chance.
    """
    rank = len(given.dimensions)
    if rank == 1:
        return False
    shapes, ones = _output_shapes(several), _output_shapes(one)
    batch = next(shape_of(value) or () for value in several.graph.input if value.name == given.name)[given.batch or 0]
    for shape, alone in zip(shapes, ones, strict=True):
        if shape is None or (alone is not None and math.prod(shape) == batch * math.prod(alone)):
            return True
        if shape[:1] == (batch,) and not (rank == 3 and batch == _RGB):
            return True
    return False


def _output_shapes(model: ModelProto) -> list[Shape | None]:
    return [shape_of(output) for output in shape_inference.infer_shapes(model).graph.output]


def _is_whole(declared: list[tuple[str, int]], given: Shape) -> bool:
    """Return whether a shape is that of an input whole, the first axis included, which is then none of a batch."""
    if len(given) != len(declared) or declared[0][1] < 2:
        return False
    return all(own in (0, length) for (_, own), length in zip(declared, given, strict=True))


def not_read(name: str) -> Finding:
    """Return the finding on an input that changes no output."""
    return Finding(
        code="input-not-read",
        severity="info",
        node=name,
        message=f"its input {name!r} changes no output and was left out",
        hint="no data is needed for it; where it should matter, look at how the network was exported",
    )


def input_ops(inputs: Sequence[FileInput], graph: OnnxGraph) -> dict[str, Input]:
    """Return what our graph takes for every input that the canonical file reads."""
    read = [given for given in inputs if given.name in graph.consumers or given.name in graph.outputs]
    return {given.name: Input(given.shape, given.numbers, _below(given, graph)) for given in read}


def _below(given: FileInput, graph: OnnxGraph) -> int:
    """Return the length of the shortest list of the file that integers of an input are places in, 0 without one."""
    if given.numbers != "integer" or given.kind == TensorProto.BOOL:
        return 0
    lengths, seen, waiting = [], {given.name}, [given.name]
    while waiting:
        value = waiting.pop()
        for node in graph.consumers.get(value, ()):
            shape = graph.shapes.get(node.inputs[0], ())
            if node.kind in _LISTS and node.inputs[1] == value:
                axis = node.attributes.get(_LISTS[node.kind], 0)
                lengths += [shape[axis]] if -len(shape) <= axis < len(shape) else []
            elif node.kind == "OneHot" and node.inputs[0] == value and node.inputs[1] in graph.constants:
                lengths.append(int(graph.constants[node.inputs[1]].reshape(-1)[0]))
            elif node.kind == "Equal":
                lengths += _counted(graph.constants.get(node.inputs[node.inputs[0] == value]))
            elif node.kind in _MOVING:
                waiting += {*node.outputs} - seen
                seen |= {*node.outputs}
    return min(lengths, default=0)


def _counted(compared: Array | None) -> list[int]:
    """Return how many integers are told apart by comparing with each, where a constant holds 0 up to one of them."""
    if compared is None or compared.size < 2 or not np.array_equal(compared.reshape(-1), np.arange(compared.size)):
        return []
    return [compared.size]


def _declared(value: ValueInfoProto) -> list[tuple[str, int]]:
    """Return the name of every axis ("" where it has none) and its length, 0 where it is free."""
    dimensions = value.type.tensor_type.shape.dim
    return [(axis.dim_param, max(axis.dim_value, 0)) for axis in dimensions]


def _batch_axis(declared: list[tuple[str, int]]) -> int:
    """Return the axis that counts samples: the first, unless another one alone is free and named so."""
    named = [axis for axis, (name, length) in enumerate(declared) if not length and _COUNTS.match(name)]
    return named[0] if len(named) == 1 else 0


def _same_batch(declared: list[tuple[str, int]], symbol: str, length: int) -> int | None:
    """Return the axis of another input that counts the samples, too."""
    for axis, (name, own) in enumerate(declared):
        if not own and (name == symbol if symbol else axis == 0):
            return axis
    free_in_front = bool(declared) and not declared[0][1]
    if free_in_front or (declared and declared[0][1] == length and length > 0):
        return 0
    return None


def _kind(value: ValueInfoProto, place: str) -> int:
    kind = value.type.tensor_type.elem_type
    if value.type.HasField("tensor_type") and kind in {TensorProto.FLOAT, *INTEGERS}:
        return int(kind)
    tensor = value.type.HasField("tensor_type")
    kinds = {number: name.lower() for name, number in TensorProto.DataType.items()}
    name = kinds.get(kind, f"type {kind}") if tensor else "a list, a map or nothing at all"
    what = {"string": "text", "undefined": "a type that the file does not say"}.get(name, name)
    hint = "export the network from the first numbers on"
    raise ModelError(f"its input {value.name!r} takes {what}, no numbers", place=place, hint=hint)


def _shapes_by_input(values: Sequence[ValueInfoProto], wanted: InputShapes, place: str) -> Mapping[str, Shape]:
    names = [value.name for value in values]
    if wanted is None:
        return {}
    if isinstance(wanted, Mapping):
        unknown = [name for name in wanted if name not in names]
        if unknown:
            hint = f"its inputs: {', '.join(names)}"
            raise ModelError(f"the network has no input {unknown[0]!r}", place=place, hint=hint)
        return wanted
    if len(names) > 1:
        hint = f"say of which, as in --input-shape {names[0]}={','.join(map(str, wanted))}"
        raise ModelError(f"one input shape for {len(names)} inputs ({', '.join(names)})", place=place, hint=hint)
    return {names[0]: wanted}


def _filled(
    name: str, declared: list[tuple[str, int]], batch: int | None, given: Shape | None, inputs: int, place: str
) -> Shape:
    """Return the dimensions with a batch of 1 and what is free as given."""
    rest = [length for axis, (_, length) in enumerate(declared) if axis != batch]
    takes = "x".join(str(length) if length else "?" for length in rest) or "a scalar"
    which = "" if inputs == 1 else f" of its input {name!r}"
    if given is None:
        if not all(rest):
            flag = _FLAG if inputs == 1 else f"as in --input-shape {name}={','.join(str(n or 16) for n in rest)}"
            hint = f"give the shape of one sample without the batch, {flag}"
            raise ModelError(f"the input shape {takes}{which} is not fixed in the file", place=place, hint=hint)
        given = tuple(rest)
    fits = len(given) == len(rest) and all(own in (0, other) for own, other in zip(rest, given, strict=True))
    if not fits or not all(length > 0 for length in given):
        hint = "leave --input-shape out, or give the shape of one sample without the batch"
        raise ModelError(f"the network takes {takes}, not {shown(given)}{which}", place=place, hint=hint)
    return given if batch is None else (*given[:batch], 1, *given[batch:])
