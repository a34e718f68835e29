"""onnxruntime's canonical form of a model, as plain data: constants folded, shapes known, idioms gone."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor

from snnc.files import temporary_folder
from snnc.frontend.bounds import check_sizes
from snnc.frontend.dequantization import dequantized
from snnc.frontend.expression import Array, Shape
from snnc.frontend.labels import attributes_of, opset_of, ordered
from snnc.frontend.measuring import INTEGERS, measured, session_options, shape_of, start_session, values_of
from snnc.frontend.merged import apart
from snnc.frontend.unrolling import unrolled
from snnc.frontend.weights import KINDS, LEAST, Weights, array_of, is_outside

# Fusions that would hide a layer from our passes, or that merge the batch with other axes; the last two split the
# pairs of quantization and dequantization apart.
_LEFT_TO_US = [
    "ConvBNFusion",
    "ConvMulFusion",
    "MatMul_BatchNormalization_Fusion",
    "MatMulAddFusion",
    "EnsureUniqueDQForNodeUnit",
    "QDQPropagationTransformer",
]

# What onnxruntime has among the operations of ONNX, though it is none, or none any more.
_OF_ITS_OWN = {"Affine", "ImageScaler", "ParametricSoftplus", "ScaledTanh", "SimplifiedLayerNormalization"}

# Functions that onnxruntime would write out, and operations of its own with the same inputs and output that stand in
# for them meanwhile.
_HELD = {"GroupNormalization": "InstanceNormalization"}

# What has to fit on a disk that is not full.
_ROOM = 1 << 20

# What is constant as soon as shapes are.
_OF_SHAPES = {"Shape", "Size"}


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One operation of the canonical file. An optional input or output that is left out is called "".

    ``domain`` is "" of what ONNX itself defines.
    """

    name: str
    kind: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""

    @property
    def label(self) -> str:
        """What messages call it: its name, or that of its value where it has none."""
        return self.name or self.outputs[0]


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """A canonical file: nodes in topological order, constants, and the shapes of values that are known.

    ``whole`` are the values whose numbers are integers or bits.
    """

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    outputs: tuple[str, ...]
    opset: int
    whole: frozenset[str] = frozenset()

    @cached_property
    def producers(self) -> Mapping[str, OnnxNode]:
        """The node that computes each value."""
        return {value: node for node in self.nodes for value in node.outputs if value}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[OnnxNode, ...]]:
        """The nodes that read each value, once per reading."""
        readers: dict[str, list[OnnxNode]] = {}
        for node in self.nodes:
            for value in node.inputs:
                readers.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in readers.items()}

    def only_consumer(self, value: str) -> OnnxNode | None:
        """Return the node that alone reads a value, None where several do or the value leaves the network."""
        readers = self.consumers.get(value, ())
        return readers[0] if len(readers) == 1 and value not in self.outputs else None


def canonical(pinned: ModelProto, weights: Weights, place: str) -> OnnxGraph:
    """Return the canonical form of a model with pinned shapes; raises ModelError where onnxruntime refuses it.

    Operations that onnxruntime does not know are kept, with whatever shapes the file says they have.
    """
    known, foreign = _cut(_held(apart(pinned)))
    optimized, weights = _folded(known, weights, place)
    real = dequantized(optimized, weights)
    if real is not None:
        optimized, weights = _folded(real, weights, place)
    # What is written out may tell how often what is inside it, or behind, is done.
    while (written := unrolled(optimized, weights)) is not None:
        check_sizes(written, place)
        optimized, weights = _folded(written, weights, place)
    return _parsed(optimized, weights, pinned, foreign, measured(optimized, weights, place))


def _folded(model: ModelProto, weights: Weights, place: str) -> tuple[ModelProto, Weights]:
    """Return what onnxruntime makes of a model, with the shapes that can be inferred, and its large constants."""
    optimized, weights = _optimized(model, weights, place)
    constants = {"", *(tensor.name for tensor in optimized.graph.initializer)}
    if any(_is_foldable(node, constants) for node in optimized.graph.node):
        # What was written out of a function is folded only when it is read again.
        optimized, weights = _optimized(optimized, weights, place)
    return onnx.shape_inference.infer_shapes(optimized), weights


def _optimized(model: ModelProto, weights: Weights, place: str) -> tuple[ModelProto, Weights]:
    """Return what onnxruntime makes of a model, and its large constants; those that it left alone are the same."""
    with temporary_folder() as folder:
        path, beside = folder / "canonical.onnx", folder / "canonical.bin"
        options = session_options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
        options.optimized_model_filepath = str(path)
        for key, value in (
            ("session.disable_quant_qdq", "1"),
            ("session.optimized_model_external_initializers_file_name", beside.name),
            ("session.optimized_model_external_initializers_min_size_in_bytes", str(LEAST)),
        ):
            options.add_session_config_entry(key, value)
        try:
            start_session(model, options, place, weights, disabled_optimizers=_LEFT_TO_US)
            optimized = onnx.load(path, load_external_data=False)
        except Exception:
            # Whether the disk is full, onnxruntime does not tell.
            (folder / "room").write_bytes(bytes(_ROOM))
            raise
        found = {}
        for tensor in optimized.graph.initializer:
            if is_outside(tensor) and tensor.data_type not in KINDS:
                load_external_data_for_tensor(tensor, str(folder))
                tensor.data_location = TensorProto.DEFAULT
            elif is_outside(tensor):
                offset = int(ExternalDataInfo(tensor).offset or 0)
                kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
                array = np.memmap(beside, kind, "r", offset, tuple(tensor.dims))
                own = weights.get(tensor.name)
                same = own is not None and own.shape == array.shape and np.array_equal(own, array)
                found[tensor.name] = own if own is not None and same else np.array(array)
    return optimized, found


def _is_foldable(node: NodeProto, constants: Set[str]) -> bool:
    """Return whether a node computes from constants or from shapes alone what is no dequantized weight."""
    if node.op_type in _OF_SHAPES:
        return True
    return bool(node.input) and node.op_type != "DequantizeLinear" and constants >= {*node.input}


def _held(model: ModelProto) -> ModelProto:
    """Return the model with operations of onnxruntime in the place of functions that it would write out."""
    if not any(node.op_type in _HELD for node in model.graph.node):
        return model
    held = ModelProto()
    held.CopyFrom(model)
    for number, node in enumerate(held.graph.node):
        if node.op_type in _HELD:
            node.op_type = _HELD[node.op_type]
            del node.attribute[:]
            # Of two that read the same, onnxruntime would keep one.
            node.attribute.append(helper.make_attribute("epsilon", 1.0 + number))
    return held


def _cut(model: ModelProto) -> tuple[ModelProto, list[NodeProto]]:
    """Take out the nodes that onnxruntime cannot know: what they read becomes output, what they compute input."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    functions = {(function.domain, function.name) for function in model.functions}
    foreign = [node for node in model.graph.node if not _known(node, versions, functions)]
    if not foreign:
        return model, []
    known = ModelProto()
    known.CopyFrom(model)
    graph = known.graph
    gone = {node.output[0] for node in foreign}
    kept = [node for node in graph.node if node.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(kept)
    computed = {value for node in kept for value in node.output}
    outputs = {value.name for value in graph.output}
    for node in foreign:
        graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output if name)
        lost = [name for name in node.input if name in computed and name not in outputs]
        graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in lost)
        outputs.update(lost)
    return known, foreign


def _known(node: NodeProto, versions: Mapping[str, int], functions: set[tuple[str, str]]) -> bool:
    if (node.domain, node.op_type) in functions or node.domain.startswith("com.microsoft"):
        return True
    if node.domain == "" and node.op_type in _OF_ITS_OWN:
        return True
    return bool(onnx.defs.has(node.op_type, node.domain)) and node.domain in versions


def _parsed(
    model: ModelProto, weights: Weights, pinned: ModelProto, foreign: list[NodeProto], found: Mapping[str, Array]
) -> OnnxGraph:
    """Return a canonical file as plain data; ``found`` are arrays of the shapes that its own shapes leave out."""
    graph = model.graph
    constants = {tensor.name: array_of(tensor, weights) for tensor in graph.initializer}
    shapes: dict[str, Shape] = {name: tuple(array.shape) for name, array in {**constants, **found}.items()}
    whole = {name for name, array in {**constants, **found}.items() if array.dtype.kind in "iub"}
    for value in values_of(graph):
        if value.type.tensor_type.elem_type in INTEGERS:
            whole.add(value.name)
        shape = shape_of(value)
        if shape is not None:
            shapes.setdefault(value.name, shape)
    nodes = []
    held = {node.name: node for node in pinned.graph.node if node.op_type in _HELD}
    replaced = _replaced(model, pinned)
    for node in ordered([*graph.node, *foreign]):
        parsed = _parsed_node(node, replaced)
        if parsed.name in held:
            parsed = replace(parsed, kind=held[node.name].op_type, attributes=attributes_of(held[node.name]))
        weight = _identity(parsed, shapes) if parsed.kind == "EyeLike" else _dequantized(parsed, constants)
        if weight is None:
            nodes.append(_without_empty_parts(parsed, shapes))
        else:
            constants[parsed.outputs[0]] = weight
            shapes[parsed.outputs[0]] = tuple(weight.shape)
    opset = opset_of(model)
    outputs = tuple(value.name for value in pinned.graph.output)
    return OnnxGraph(_read(nodes, outputs), constants, shapes, outputs, opset, frozenset(whole))


def _replaced(model: ModelProto, pinned: ModelProto) -> Mapping[str, str]:
    """Return the names of the nodes that a node of onnxruntime's stands for, by the values that both compute."""
    left = {node.name for node in model.graph.node}
    gone = {value: node.name for node in pinned.graph.node if node.name not in left for value in node.output}
    known = {node.name for node in pinned.graph.node}
    made = (node for node in model.graph.node if node.name not in known)
    return {node.output[0]: gone[node.output[0]] for node in made if node.output[0] in gone}


def _parsed_node(node: NodeProto, replaced: Mapping[str, str]) -> OnnxNode:
    name = replaced.get(node.output[0], node.name)
    return OnnxNode(name, node.op_type, attributes_of(node), tuple(node.input), tuple(node.output), node.domain)


def _without_empty_parts(node: OnnxNode, shapes: Mapping[str, Shape]) -> OnnxNode:
    """Return a concatenation without what adds nothing to it, as what is turned by no place is cut and put together."""
    if node.kind != "Concat":
        return node
    kept = tuple(name for name in node.inputs if 0 not in shapes.get(name, ()))
    return replace(node, inputs=kept) if kept else node


def _read(nodes: Sequence[OnnxNode], outputs: Sequence[str]) -> tuple[OnnxNode, ...]:
    """Return the nodes of which something is read."""
    read, kept = {*outputs}, []
    for node in reversed(nodes):
        if read & {*node.outputs} - {""}:
            read |= {*node.inputs}
            kept.append(node)
    return tuple(reversed(kept))


def _identity(node: OnnxNode, shapes: Mapping[str, Shape]) -> Array | None:
    """Return the ones along a diagonal that are as large as a value of known shape, None where that is not known."""
    if node.inputs[0] not in shapes:
        return None
    rows, columns = shapes[node.inputs[0]]
    return np.eye(rows, columns, node.attributes.get("k", 0), np.float32)


def _dequantized(node: OnnxNode, constants: Mapping[str, Array]) -> Array | None:
    """Return the value of a dequantized constant, None for any other node."""
    if node.kind != "DequantizeLinear" or any(name and name not in constants for name in node.inputs):
        return None
    if node.attributes.get("block_size", 0):
        return None
    values, scale, *rest = (constants[name] for name in node.inputs if name)
    zero = rest[0] if rest else np.zeros((), values.dtype)
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[node.attributes.get("axis", 1)] = scale.size
    steps = values.astype(np.int32) - zero.astype(np.int32).reshape(shape if zero.size > 1 else ())
    factors = scale.reshape(shape if scale.size > 1 else ())
    weight: Array = steps.astype(np.float32) * factors.astype(np.float32)
    return weight
