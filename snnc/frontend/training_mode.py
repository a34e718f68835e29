"""Operations that a file has in training mode, in which they draw at random or look at a whole batch: it is refused."""

from collections import Counter
from collections.abc import Iterator, Set

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from snnc.errors import ModelError
from snnc.frontend.labels import bodies, constants_of, opset_of, read_values
from snnc.frontend.measuring import shapes_of

# Since when an operation is told by an input or by an attribute which mode it is in.
_DROPOUT_BY_INPUT = 12
_STATISTICS_BY_ATTRIBUTE = 14
# What a batch normalization adds to variances where it does not say it.
_EPSILON = 1e-5


def refuse_training_mode(model: ModelProto, place: str) -> None:
    """Raise ModelError where a file was exported for training."""
    opset = opset_of(model)
    found: Counter[str] = Counter()
    for body in bodies(model):
        on = set(_switched_on(body))
        found.update(node.op_type for node in body.node if not node.domain and _trains(node, opset, on))
    if found:
        what = " and ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        hint = "call model.eval() before the export"
        raise ModelError(f"it was exported in training mode ({what})", place=place, hint=hint)


def normalize_weights(model: ModelProto) -> None:
    """Let what normalizes weights by their own statistics, as layers that standardize theirs do, be no training.

    Of constants of one sample, with places to each channel, it is a normalization of every channel by itself.
    """
    graph = model.graph
    opset = opset_of(model)
    constants = constants_of(graph)
    found = [node for node in graph.node if _trains(node, opset, set()) and constants.issuperset(node.input)]
    if not found:
        return
    shapes = shapes_of(model)
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    read = {value for node in graph.node for value in read_values(node)} | {output.name for output in graph.output}
    for node in found:
        shape = shapes.get(node.input[0]) or ()
        if shape[:1] == (1,) and len(shape) > 2 and not read & {*node.output[1:]}:
            epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), _EPSILON)
            kind = "InstanceNormalization"
            node.CopyFrom(helper.make_node(kind, node.input[:3], node.output[:1], node.name, epsilon=epsilon))


def _switched_on(body: GraphProto | FunctionProto) -> Iterator[str]:
    """Yield the values that are a constant and true."""
    if isinstance(body, GraphProto):
        yield from (tensor.name for tensor in body.initializer if _is_true(tensor))
    for node in body.node:
        if node.op_type == "Constant" and any(_is_true(attribute.t) for attribute in node.attribute):
            yield node.output[0]


def _is_true(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.BOOL and bool(numpy_helper.to_array(tensor).all())


def _trains(node: NodeProto, opset: int, on: Set[str]) -> bool:
    if node.op_type == "Dropout":
        return opset >= _DROPOUT_BY_INPUT and len(node.input) > 2 and node.input[2] in on
    if node.op_type == "BatchNormalization":
        if opset < _STATISTICS_BY_ATTRIBUTE:
            return any(node.output[1:])
        return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
    return False
