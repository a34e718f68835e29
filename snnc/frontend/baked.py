"""A batch above 1 that an exporter wrote into shapes and constants: it is taken out where one sample is looked at."""

import math
from collections.abc import Set

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from snnc.errors import ModelError
from snnc.frontend.expression import Array, Shape
from snnc.frontend.labels import read_values, rewritten, subgraphs
from snnc.frontend.measuring import session_options, shapes_of, start_session
from snnc.frontend.weights import Weights, array_of

# The input of an operation that says which shape comes out, or how often something is repeated.
_TARGETS = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Resize": 3, "Tile": 1}
# What puts constants beside samples, number by number or one after the other.
_BESIDE = {
    *("Add", "And", "Concat", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min"),
    *("Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
}


def take_batch_out(pinned: ModelProto, original: ModelProto, weights: Weights, batch: int, place: str) -> None:
    """Let ``pinned`` speak of one sample where ``original`` speaks of a batch; a wrong guess fails the check.

    Raises ModelError where a constant is another for every sample of the batch.
    """
    graph = pinned.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            held[node.output[0]] = value
    held |= _name_targets(pinned, held.keys(), weights, place)
    named = rewritten(pinned, graph.node, ())
    del named.graph.input[:]
    named.graph.input.extend(original.graph.input)
    shapes = shapes_of(named, by_data=True)
    # Of one sample; None where a target was rewritten since.
    alone: dict[str, Shape | None] | None = None
    computed = {value.name for value in graph.input}
    # Where the batch is merged with what stands before it, how long that is.
    outer: dict[str, int] = {}
    for node in list(graph.node):
        index = _TARGETS.get(node.op_type, len(node.input))
        shape = shapes.get(node.output[0]) or ()
        within = max((outer.get(value, 1) for value in node.input), default=1)
        outer |= dict.fromkeys(node.output, within)
        if index < len(node.input) and node.input[index] in held:
            target = numpy_helper.to_array(held[node.input[index]])
            if node.op_type == "Reshape" and node.input[0] in computed and shape:
                if alone is None:
                    alone = shapes_of(pinned, by_data=True)
                given, single = shapes.get(node.input[0]), alone.get(node.input[0])
                one, outer[node.output[0]] = _unmerged(target, shape, batch, given, single, within)
            else:
                one = _shortened(target, batch)
            if not np.array_equal(one, target):
                _replace(node, index, pinned, numpy_helper.from_array(one, f"{node.output[0]}/target"))
                alone = None
        if computed & {*read_values(node)}:
            computed.update(node.output)
        if node.op_type in _BESIDE and shape[:1] == (batch,):
            for at, name in enumerate(node.input):
                if name in held and len(held[name].dims) == len(shape) and held[name].dims[0] == batch:
                    array = array_of(held[name], weights)
                    if not np.array_equal(array, np.broadcast_to(array[:1], array.shape)):
                        message = f"its constant {name!r} has other numbers for each of {batch} samples"
                        hint = "export the network for a batch of 1"
                        raise ModelError(message, place=place, hint=hint)
                    _replace(node, at, pinned, numpy_helper.from_array(np.array(array[:1]), f"{name}/one"))
                    alone = None


def _name_targets(model: ModelProto, held: Set[str], weights: Weights, place: str) -> dict[str, TensorProto]:
    """Write constants in the place of targets that the file computes from constants; return them by name."""
    graph = model.graph
    known, folded = {"", *held}, []
    for node in graph.node:
        if known >= {*node.input} and not any(subgraphs(node)):
            known.update(node.output)
            folded.append(node)
    made_of = known - {"", *held}
    # Bounds of slices, too: what computes a target from shapes is followed by way of them.
    places = [(node, at) for node in graph.node for at in _bounds(node) if at < len(node.input)]
    reading = [(node, at) for node, at in places if node.input[at] in made_of]
    names = [*dict.fromkeys(node.input[at] for node, at in reading)]
    if not names:
        return {}
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    asking = rewritten(model, folded, ())
    del asking.graph.input[:], asking.graph.output[:]
    asking.graph.output.extend(ValueInfoProto(name=name) for name in names)
    arrays = start_session(asking, options, place, weights).run(names, {})
    made = {name: numpy_helper.from_array(array, f"{name}/target") for name, array in zip(names, arrays, strict=True)}
    graph.initializer.extend(made.values())
    for node, at in reading:
        node.input[at] = made[node.input[at]].name
    return {tensor.name: tensor for tensor in graph.initializer[-len(made) :]}


def _bounds(node: NodeProto) -> range:
    at = _TARGETS.get(node.op_type, len(node.input))
    return range(1, len(node.input)) if node.op_type == "Slice" else range(at, at + 1)


def _shortened(target: Array, batch: int) -> Array:
    """Return a target that begins with the batch as one that begins with 1."""
    counts = target.ndim == 1 and target.size > 0 and target[0] == batch
    return np.concatenate([np.ones_like(target[:1]), target[1:]]) if counts else target


def _unmerged(
    target: Array, shape: Shape, batch: int, given: Shape | None, single: Shape | None, within: int
) -> tuple[Array, int]:
    """Return the target of a reshape for one sample, and the length that stands before the batch in an axis with it.

    ``shape`` is what it makes of ``given``, for a batch; ``single`` is what is given for one sample. The batch may be
    merged with other axes, as are windows and heads of attention: a reshape keeps the order of values, so that the
    lengths before the batch, ``within`` in its own axis, have the same product in what comes out. Where that is not
    known, an axis whose length is left free has the batch where it may, else the first of those that may.
    """
    merged = [axis for axis, length in enumerate(shape) if length and length % batch == 0]
    if not merged or target.shape != (len(shape),):
        return target, within
    free = [axis for axis in merged if target[axis] < 1 and target[0] != batch]
    axis, inside = (free or merged)[0], 1
    differing = [axis for axis, (many, one) in enumerate(zip(given or (), single or (), strict=False)) if many != one]
    if given and len(differing) == 1:
        before = math.prod(given[: differing[0]]) * within
        for holding in merged:
            if math.prod(shape[:holding]) <= before < math.prod(shape[: holding + 1]):
                axis, inside = holding, before // math.prod(shape[:holding])
    one = np.array(target)
    for at, length in enumerate(shape):
        wanted = length // batch if at == axis else length
        # What is left free follows by itself, and so does what is copied from an axis that is as long.
        if one[at] > 0 or (one[at] == 0 and single and single[at : at + 1] != (wanted,)):
            one[at] = wanted
    return one, inside


def _replace(node: NodeProto, at: int, model: ModelProto, tensor: TensorProto) -> None:
    if tensor.name not in {known.name for known in model.graph.initializer}:
        model.graph.initializer.append(tensor)
    node.input[at] = tensor.name
