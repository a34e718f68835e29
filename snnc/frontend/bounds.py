"""How large a file's values are, worked out before anything computes them: a few bytes can ask for any amount."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from snnc.errors import ModelError, SnncError
from snnc.frontend.expression import Shape, shown
from snnc.frontend.labels import subgraphs
from snnc.frontend.measuring import shape_of, values_of
from snnc.frontend.weights import Weights, put_back
from snnc.process import is_out_of_memory, memory
from snnc.text import number

# Networks of many thousand operations exist; these are of no network.
_NODES, _NESTED, _AXIS = 200_000, 64, (1 << 31) - 1
# A value, what it is computed from and both once more are in memory at once: in the file and in the graph made of it.
_COPIES = 4
# How many multiply-accumulates are done for one sample: at most, of constants alone, and comparisons of a pool.
_WORK, _CONSTANT_WORK, _POOL_WORK = 2e12, 2e10, 2e10
# What a step of a recurrent layer takes besides, however small it is.
_STEP = 1_000
# Attributes that say how much room a window takes.
_WINDOWS = {"pads", "dilations", "strides", "kernel_shape", "output_padding", "output_shape"}


def check_nodes(model: ModelProto, place: str) -> None:
    """Raise ModelError where a file holds more operations, or values, than a network has, functions written out."""
    functions = {(function.domain, function.name): function.node for function in model.functions}
    counts: dict[tuple[str, str], int] = {}

    def counted(nodes: Iterable[NodeProto], calls: tuple[tuple[str, str], ...], depth: int) -> int:
        if depth > _NESTED:
            raise ModelError("graphs inside graphs without end", place=place, hint="export the network without them")
        total = 0
        for node in nodes:
            total += max(1, len(node.output)) + sum(
                counted(inside.node, calls, depth + 1) for inside in subgraphs(node)
            )
            called = node.domain, node.op_type
            if called in calls:
                raise ModelError("a function of it calls itself", place=place, hint="check the file with onnx.checker")
            if called in functions:
                if called not in counts:
                    counts[called] = counted(functions[called], (*calls, called), depth + 1)
                total += counts[called]
        return total

    total = counted(model.graph.node, (), 0)
    if total > _NODES:
        hint = "export the network without functions that call one another"
        raise ModelError(f"{total:,} operations or values, where {_NODES:,} are allowed", place=place, hint=hint)


def check_sizes(model: ModelProto, place: str) -> None:
    """Raise ModelError where a value of a file would not fit into the memory that may be used, nor all of them."""
    for node in _nodes(model.graph):
        for attribute in node.attribute:
            odd = [value for value in attribute.ints if abs(value) > _AXIS] if attribute.name in _WINDOWS else []
            if odd:
                message = f"{attribute.name} of {odd[0]} in {node.name or node.op_type}"
                raise ModelError(message, place=place, hint="check how the network was exported")
    # Shapes that are computed follow values, of which there must not be too many.
    for values in (False, True):
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=values)
        except Exception:
            # Whatever it cannot say, who reads the file will.
            inferred = model
        _check_values(inferred, place)


def _check_values(model: ModelProto, place: str) -> None:
    """Raise ModelError as ``check_sizes`` does, as far as shapes are known."""
    shapes = {value.name: (shape, _bytes(value.type.tensor_type.elem_type)) for value, shape in _known(model.graph)}
    shapes |= {tensor.name: (tuple(tensor.dims), _bytes(tensor.data_type)) for tensor in model.graph.initializer}
    allowed, whole, work = memory(), 0, 0.0
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        made = sum(_size(shapes, name) for name in node.output)
        whole += made
        needed = _COPIES * (made + sum(_size(shapes, name) for name in {*node.input}) + _padded(node, shapes))
        if max(needed, whole) > allowed:
            shape = next((shapes[name][0] for name in node.output if name in shapes), ())
            what = f"{node.name or node.op_type} ({node.op_type}) makes {shown(shape)} values"
            raise too_large(max(needed, whole), what, place)
        done, most = _work(node, shapes), _POOL_WORK if node.op_type.endswith("Pool") else _WORK
        if constants >= {*node.input} - {""}:
            constants |= {*node.output}
            most = _CONSTANT_WORK
        work += done
        if max(work, done * _WORK / most) > _WORK:
            what = f"{node.name or node.op_type} ({node.op_type}) takes {number(done)} operations"
            raise _beyond(f"{what}, more than any network", place)


@contextlib.contextmanager
def blamed(model: ModelProto, weights: Weights, place: str) -> Iterator[None]:
    """Blame a file for what goes wrong where it needs too much memory, or where ONNX's own checker refuses it, too."""
    try:
        yield
    except SnncError as error:
        if is_out_of_memory(error):
            raise _beyond("it needs more memory than is allowed", place) from error
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise _beyond("it needs more memory than is allowed", place) from error
        try:
            onnx.checker.check_model(put_back(model, weights))
        except onnx.checker.ValidationError as refused:
            reason = next(iter(str(refused).splitlines()), "")
            raise ModelError(f"not a valid network: {reason}", place=place, hint="export it again") from error
        raise


def too_large(needed: float, what: str, place: str) -> ModelError:
    """Return the error of what would need more memory than may be used."""
    message = f"{what}: {number(needed / (1 << 30))} GiB of memory would be needed"
    allowed = number(memory() / (1 << 30))
    return _beyond(message, place, f"{allowed} GiB are allowed: give more with --memory, or a smaller network")


def _beyond(message: str, place: str, hint: str = "give more with --memory, or a smaller network") -> ModelError:
    return ModelError(message, place=place, hint=hint)


def _work(node: NodeProto, shapes: Mapping[str, tuple[Shape, int]]) -> float:
    """Return how many multiply-accumulates, or comparisons of a pool, a node does."""
    made = math.prod(shapes.get(node.output[0], ((0,), 0))[0])
    known = [shapes.get(name, ((), 0))[0] for name in node.input]
    if node.op_type in ("MatMul", "Gemm") and known and known[0]:
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return float(made * known[0][0 if transposed else -1])
    if node.op_type in ("Conv", "ConvTranspose") and len(known) > 1 and known[1]:
        # Of a transposed one every input value, of the other every output value, meets a kernel.
        reached = made if node.op_type == "Conv" else math.prod(known[0])
        return float(reached * math.prod(known[1][1:]))
    if node.op_type in ("LSTM", "GRU", "RNN") and len(known) > 2 and known[0]:
        return float(known[0][0] * (_STEP + sum(map(math.prod, known[1:3]))))
    if node.op_type.endswith("Pool"):
        sides = next((attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"), ())
        return float(made * math.prod(sides))
    return 0.0


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inside in subgraphs(node):
            yield from _nodes(inside)


def _known(graph: GraphProto) -> Iterator[tuple[onnx.ValueInfoProto, Shape]]:
    for value in values_of(graph):
        shape = shape_of(value)
        if shape is not None:
            yield value, shape


def _bytes(kind: int) -> int:
    try:
        return max(1, int(helper.tensor_dtype_to_np_dtype(kind).itemsize))
    except (KeyError, ValueError, TypeError):
        return 4


def _size(shapes: Mapping[str, tuple[Shape, int]], name: str) -> int:
    shape, size = shapes.get(name, ((), 0))
    return math.prod((size, *(max(length, 0) for length in shape)))


def _padded(node: NodeProto, shapes: Mapping[str, tuple[Shape, int]]) -> int:
    """Return how many bytes the first input takes with what is padded around it."""
    pads = next((attribute.ints for attribute in node.attribute if attribute.name == "pads"), ())
    shape, size = shapes.get(node.input[0], ((), 0)) if node.input else ((), 0)
    count = len(pads) // 2
    if not count or len(shape) < count:
        return 0
    ends = [pads[axis] + pads[axis + count] for axis in range(count)]
    wide = [length + max(end, 0) for length, end in zip(shape[-count:], ends, strict=True)]
    return math.prod((size, *shape[:-count], *wide))
