"""Post-processing at the end of a network, which chooses among its outputs or keeps their order: it is cut off."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto

from snnc.findings import Finding
from snnc.frontend.labels import constants_of, opset_of, read_values, subgraphs
from snnc.frontend.measuring import inferred, values_of

# They keep the order of values: what was the largest still is.
_ORDERLY = {"LogSoftmax", "Sigmoid", "Softmax"}
# The version of operations since which a softmax is along one axis, not along all from that on.
_ONE_AXIS = 13
_MOVING = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_CHOOSING = {"ArgMax", "ArgMin", "Hardmax", "LabelEncoder", "NonMaxSuppression", "NonZero", "TopK", "Unique", "ZipMap"}
# They choose where the network computes what they choose by; Loops where they hold what chooses.
_CHOOSING_BY = {"Compress": 1, "If": 0}
# Answers to questions, which nothing but what chooses reads.
_DECIDING = {
    *("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"),
}
_SIZES = {"Shape", "Size"}
# What a trained network is made of, where it reads constants.
_TRAINED = {
    *("Conv", "ConvInteger", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger", "QGemm"),
    *("QLinearConv", "QLinearMatMul", "RNN"),
}
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def without_endings(model: ModelProto) -> tuple[Finding, ...]:
    """Let the network end before its post-processing, and before a closing softmax and its like.

    What was read there is an output then; two outputs that have become the same are one.
    """
    graph = model.graph
    opset = opset_of(model)
    kinds = {value.name: value.type.tensor_type for value in values_of(inferred(model))}
    shapes = {name: kind.shape for name, kind in kinds.items() if kind.HasField("shape")}
    findings: list[Finding] = []
    _write_out_lists(graph)
    given = [output.name for output in graph.output]
    chosen = _choice(graph)
    lost = {value for node in chosen for value in node.output}
    frontier = list(_frontier(graph, chosen, lost))
    if frontier or not lost.issuperset(given):
        first = next((number for number, name in enumerate(given) if name in lost), 0)
        outputs = [ValueInfoProto(name=value) for value in frontier]
        _set_outputs(graph, [o for o in [*graph.output[:first], *outputs, *graph.output[first:]] if o.name not in lost])
        _set_nodes(graph, [node for node in graph.node if not lost & {*node.output}])
        findings += _post_processing(chosen)
    for output in graph.output:
        # The values and their softmax, where the file gives out both, stay two.
        twins = {*given} if output.name in given else set()
        findings += _without_orderly(graph, output, twins, shapes, opset)
    unique = {output.name: output for output in reversed(graph.output)}
    _set_outputs(graph, [unique[name] for name in dict.fromkeys(output.name for output in graph.output)])
    return tuple(findings)


def _write_out_lists(graph: GraphProto) -> None:
    """Let the members of a list be outputs where the list is one."""
    lists = {node.output[0]: node for node in graph.node if node.op_type == "SequenceConstruct"}
    if lists.keys() & {output.name for output in graph.output}:
        members = [
            [ValueInfoProto(name=name) for name in lists[output.name].input] if output.name in lists else [output]
            for output in graph.output
        ]
        _set_outputs(graph, [output for some in members for output in some])


def _choice(graph: GraphProto) -> list[NodeProto]:
    """Return what chooses among what the trained network computes, and all that is behind it or decides for it."""
    constants = constants_of(graph)
    inputs = {value.name for value in graph.input} - constants
    data = _reached(graph.node, inputs, _SIZES)
    trained = _reached(graph.node, {v for node in graph.node if _is_trained(node, constants) for v in node.output})
    needed: set[str] = set()
    for node in reversed(graph.node):
        if _is_trained(node, constants) or needed & {*node.output}:
            needed.update(read_values(node))
    read = {value for node in graph.node for value in read_values(node)} | {output.name for output in graph.output}
    ends = {output.name for output in graph.output}
    starts = {
        value
        for node in graph.node
        if _chooses(node, data)
        and not _ranks(node, read, ends)
        and trained & {*read_values(node)}
        and not _is_trained(node, constants)
        for value in node.output
        if not needed & {*node.output}
    }
    lost = _reached(graph.node, starts)
    outputs = {output.name for output in graph.output}
    if not lost & outputs:
        return []
    readers: dict[str, set[str]] = {}
    for node in reversed(graph.node):
        read_by = [readers.get(value, set()) for value in node.output]
        decides = node.op_type in _DECIDING or (node.op_type == "Cast" and not _is_float_cast(node))
        if decides and any(read_by) and all(read <= lost for read in read_by) and not outputs & {*node.output}:
            lost.update(node.output)
        for value in read_values(node):
            readers.setdefault(value, set()).update(node.output)
    return [node for node in graph.node if lost & {*node.output}]


def _ranks(node: NodeProto, read: Set[str], outputs: Set[str]) -> bool:
    """Return whether a node gives nothing but the largest values, for others to compute on."""
    return node.op_type == "TopK" and node.output[0] not in outputs and not read & {*node.output[1:]}


def _frontier(graph: GraphProto, chosen: Sequence[NodeProto], lost: Set[str]) -> Iterator[str]:
    """Yield what the nodes read of the network and it does not give out already; of what only differs in shape, one."""
    constants = constants_of(graph)
    data = _reached(graph.node, {value.name for value in graph.input} - constants, _SIZES)
    producers = {value: node for node in graph.node for value in node.output}

    def root(value: str) -> str:
        while value in producers and producers[value].op_type in _MOVING:
            value = producers[value].input[0]
        return value

    seen = {root(output.name) for output in graph.output if output.name not in lost}
    # What only decides about a branch is no value of the network's.
    conditions = {node.input[0] for node in chosen if node.op_type == "If"}
    for node in reversed(chosen):
        if node.op_type in _DECIDING and conditions & {*node.output}:
            conditions.update(node.input)
    choosing = [node for node in chosen if not conditions & {*node.output}]
    for value in dict.fromkeys(value for node in choosing for value in read_values(node) if value not in conditions):
        if value in data and value in producers and value not in lost and root(value) not in seen:
            seen.add(root(value))
            yield value


def _without_orderly(
    graph: GraphProto, output: ValueInfoProto, twins: Set[str], shapes: Mapping[str, TensorShapeProto], opset: int
) -> list[Finding]:
    """Cut off what only keeps the order of an output, also where what moves values about stands behind it."""
    nodes = [*graph.node]
    others = {entry.name for entry in graph.output if entry is not output}
    readings = Counter(value for node in nodes for value in node.input)
    producers = {value: number for number, node in reversed([*enumerate(nodes)]) for value in node.output}
    removed: list[int] = []
    findings: list[Finding] = []

    def row() -> list[int]:
        """Return the nodes from the output back to what keeps its order, or to an Identity; none without such."""
        found: list[int] = []
        value = output.name
        # The axis of the batch, None where it is not known.
        batch: int | None = 0
        while value in producers and value not in others and readings[value] == (1 if found else 0):
            found.append(producers[value])
            node = nodes[producers[value]]
            if (node.op_type in _ORDERLY and not _mixes_samples(node, batch, shapes, opset)) or (
                node.op_type == "Identity" and len(found) == 1
            ):
                return found
            if node.op_type not in _MOVING or (node.op_type == "Cast" and not _is_float_cast(node)):
                return []
            batch = _moved_from(node, batch, shapes)
            value = node.input[0]
        return []

    while numbers := row():
        end = nodes[numbers[-1]]
        if end.input[0] in twins:
            break
        if len(numbers) == 1:
            output.name = end.input[0]
            output.ClearField("type")
        else:
            reader = nodes[numbers[-2]]
            readings.subtract([reader.input[0]])
            reader.input[0] = end.input[0]
            readings.update([end.input[0]])
        readings.subtract(end.input)
        for value in end.output:
            del producers[value]
        removed.append(numbers[-1])
        if end.op_type in _ORDERLY:
            findings.append(_ending_removed(end.op_type, end.name))
    for number in sorted(removed, reverse=True):
        del graph.node[number]
    return findings


def _moved_from(node: NodeProto, batch: int | None, shapes: Mapping[str, TensorShapeProto]) -> int | None:
    """Return which axis of a moving node's input is that axis of its output; None where it is not known."""
    given, moved = shapes.get(node.input[0]), shapes.get(node.output[0])
    if node.op_type in ("Cast", "Identity") or batch is None:
        return batch
    if node.op_type == "Transpose":
        order = next(([*attribute.ints] for attribute in node.attribute if attribute.name == "perm"), None)
        if order is None and given is not None:
            order = [*reversed(range(len(given.dim)))]
        return order[batch] if order and batch < len(order) else None
    # Values keep their order: the first axis stays first, unless one of length 1 is put in front of it, or taken away.
    before, behind = ([axis.dim_value == 1 for axis in shape.dim][:1] if shape else [] for shape in (given, moved))
    return batch if batch == 0 and (True in before) == (True in behind) else None


def _mixes_samples(node: NodeProto, batch: int | None, shapes: Mapping[str, TensorShapeProto], opset: int) -> bool:
    """Return whether a softmax may be along the axis of the batch."""
    if node.op_type == "Sigmoid":
        return False
    preset = -1 if opset >= _ONE_AXIS else 1
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), preset)
    shape = shapes.get(node.input[0])
    if shape is not None and len(shape.dim) == 1 and shape.dim[0].HasField("dim_value"):
        # The classes of the only sample: a batch has an axis of its own.
        return False
    if axis < 0 and shape is not None:
        axis += len(shape.dim)
    if batch is None or axis < 0:
        # The last of axes is that of the batch only where something turned them.
        return axis != -1 or batch != 0
    return axis == batch if opset >= _ONE_AXIS else axis <= batch


def _chooses(node: NodeProto, data: Set[str]) -> bool:
    if node.op_type in _CHOOSING_BY:
        return node.input[_CHOOSING_BY[node.op_type]] in data
    inside = (part for graph in subgraphs(node) for part in graph.node)
    return node.op_type in _CHOOSING or any(part.op_type in _CHOOSING for part in inside)


def _is_trained(node: NodeProto, constants: Set[str]) -> bool:
    if node.op_type in _TRAINED and constants & {*node.input}:
        return True
    return any(_is_trained(part, constants | constants_of(graph)) for graph in subgraphs(node) for part in graph.node)


def _is_float_cast(node: NodeProto) -> bool:
    return any(attribute.name == "to" and attribute.i in _FLOATS for attribute in node.attribute)


def _reached(nodes: Iterable[NodeProto], start: Set[str], but: Set[str] = frozenset()) -> set[str]:
    """Return values and all that is computed from them, not by way of the operations that are left out."""
    found = {*start}
    for node in nodes:
        if node.op_type not in but and found & {*read_values(node)}:
            found.update(filter(None, node.output))
    return found


def _set_outputs(graph: GraphProto, outputs: Sequence[ValueInfoProto]) -> None:
    held = [ValueInfoProto.FromString(output.SerializeToString()) for output in outputs]
    del graph.output[:]
    graph.output.extend(held)


def _set_nodes(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    held = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(held)


def _ending_removed(kind: str, name: str) -> Finding:
    return Finding(
        code="output-softmax-removed",
        severity="info",
        node=name,
        message=f"the closing {kind} was left out: outputs are the values before it",
        hint="the largest output stays the largest; apply it to the outputs where probabilities are needed",
    )


def _post_processing(chosen: Sequence[NodeProto]) -> Iterator[Finding]:
    for first in [node for node in chosen if node.op_type not in _DECIDING][:1]:
        more = f" and {len(chosen) - 1} operations around it were" if len(chosen) > 1 else " was"
        yield Finding(
            code="post-processing-removed",
            severity="info",
            node=first.name,
            message=f"the closing {first.op_type}{more} left out: outputs are the values that it chooses from",
            hint="do it outside, on the outputs",
        )
