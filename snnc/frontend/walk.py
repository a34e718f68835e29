"""The walk over a canonical file that every reading takes: one verdict per node, and the graph where all are fine."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace

from torch import Tensor

from snnc import ops
from snnc.frontend.canonical import OnnxGraph, OnnxNode
from snnc.frontend.cost import macs
from snnc.frontend.expression import (
    Array,
    Call,
    Converter,
    Expression,
    Operand,
    Shape,
    UnsupportedError,
    stored_shape,
)
from snnc.frontend.functions import functions
from snnc.frontend.lookups import lookups
from snnc.frontend.operators import operators
from snnc.frontend.operators.linear import matrix_product_with_bias
from snnc.frontend.quantization import staircases
from snnc.frontend.reasons import foreign, reason
from snnc.frontend.rectifiers import rectifiers
from snnc.frontend.statistics import statistics
from snnc.ir import Graph, Input, Node, Op
from snnc.text import identifier

FOLDED = "folded away"
LEFT_OUT = "left out"
UNROLLED = "unrolled into what is in it"
BEHIND = "not known: it is behind what cannot become spiking"

_COUNTED = "export the network up to here, and do what is behind it outside"

# Whose operations are what their names say: ONNX's own, and onnxruntime's.
_KNOWN = {"", "com.microsoft"}

# Text names at most this many operations.
_NAMED = 3

# Passes and formats add to names, and lines that have one are read by people.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Verdict:
    """What becomes of one operation of the file; ``problem`` is "" where it is supported.

    ``name`` is its name, or that of its value where it has none of its own. ``becomes`` names what it is turned into,
    or says "folded away", "left out", "unrolled" or that it cannot be known, or is "" where there is a problem.
    ``into`` names the operations that do its part besides their own, empty where it does so itself. ``macs`` are the
    multiply-accumulates of one sample, ``share`` what fraction of the whole network's they are. ``position`` is its
    place among the nodes of the file, None for what onnxruntime put there.
    """

    name: str
    operation: str
    becomes: str
    macs: int
    share: float
    problem: str = ""
    hint: str = ""
    into: tuple[str, ...] = ()
    position: int | None = None

    @property
    def text(self) -> str:
        """The verdict in words."""
        if self.problem:
            return f"cannot spike: {self.problem}; {self.hint}"
        if not self.into:
            return self.becomes
        others = f" and {len(self.into) - _NAMED} more" if len(self.into) > _NAMED else ""
        place = ", ".join(self.into[:_NAMED]) + others
        return f"folded into {place}" if self.becomes == FOLDED else f"part of the {self.becomes} at {place}"


@dataclass(frozen=True, eq=False)
class Walked:
    """The result of a walk: one verdict per canonical node, and the graph where no verdict has a problem.

    ``values`` has, by the nodes of the graph, what the file calls the value that a node computes, where it has it.
    """

    verdicts: tuple[Verdict, ...]
    graph: Graph | None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Layer:
    """Nodes that become one expression: those read ``inputs``, the last one's name and outputs are kept."""

    members: tuple[OnnxNode, ...]
    inputs: tuple[str, ...]
    express: Converter

    @property
    def last(self) -> OnnxNode:
        return self.members[-1]


@dataclass(frozen=True)
class _Stored:
    """Where a value of the file is: the node of ours that computes it as samples of ``shape``."""

    node: str
    shape: Shape


def walk(file: OnnxGraph, inputs: Mapping[str, Input]) -> Walked:
    """Express every node of a file that reads ``inputs``."""
    total = max(sum(macs(node, file.shapes) for node in file.nodes), 1)
    builder = _Builder(file.constants.keys())
    for name, op in inputs.items():
        builder.enter(name, op)
    verdicts: dict[int, Verdict] = {}
    for layer in _layers(file):
        becomes, problem, hint = _try(builder, file, layer)
        for node in layer.members:
            cost = macs(node, file.shapes)
            into = () if node is layer.last or problem else (layer.last.label,)
            verdicts[id(node)] = Verdict(node.label, node.kind, becomes, cost, cost / total, problem, hint, into)
    ordered = tuple(verdicts[id(node)] for node in file.nodes)
    if any(verdict.problem or verdict.becomes == BEHIND for verdict in ordered):
        return Walked(ordered, None)
    return Walked(ordered, builder.graph(file.outputs), builder.values())


def _try(builder: "_Builder", file: OnnxGraph, layer: _Layer) -> tuple[str, str, str]:
    """Build a layer; return what it becomes, or the problem and a hint."""
    if layer.express is _never:
        # What is refused for good is, whatever its shapes are.
        return "", *reason(layer.last.kind, foreign(layer.last.domain))
    results = [value for value in layer.last.outputs if _is_read(file, value)]
    if not all(value in file.shapes for value in layer.inputs if value):
        return BEHIND, "", ""
    try:
        if not all(value in file.shapes for value in results):
            raise UnsupportedError("its output has a shape that depends on data", _COUNTED)
        repeated = any(value in file.constants and len(file.consumers[value]) > 1 for value in layer.inputs)
        return builder.build(layer, _call(file, layer), repeated=repeated), "", ""
    except UnsupportedError as error:
        return "", error.reason, error.hint
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
        # What the converters expect of a node the file may not keep; this is the door, where it is said politely.
        problem = f"its parameters make no sense ({type(error).__name__}: {error})"
        return "", problem, "check the file with onnx.checker"


def _call(file: OnnxGraph, layer: _Layer) -> Call:
    return Call(
        kind=layer.last.kind,
        opset=file.opset,
        attributes=layer.members[0].attributes,
        shapes=tuple(file.shapes[value] if value else None for value in layer.inputs),
        constants=tuple(file.constants.get(value) for value in layer.inputs),
        outputs=tuple(file.shapes.get(value, ()) for value in layer.last.outputs),
        read=tuple(_is_read(file, value) for value in layer.last.outputs),
        whole=tuple(value in file.whole for value in layer.inputs),
        domain=layer.last.domain,
    )


def _is_read(file: OnnxGraph, value: str) -> bool:
    return value != "" and (value in file.outputs or value in file.consumers)


def _layers(file: OnnxGraph) -> Iterator[_Layer]:
    """Group the nodes into layers, in the order of their last nodes."""
    groups = list(_biased_products(file))
    # No node is in two groups: what is grouped is taken.
    for find in (statistics, lookups, staircases, functions, rectifiers):
        taken = {id(node) for group in groups for node in group.members}
        groups += [_Layer(found.members, (found.input,), found.express) for found in find(file, taken)]
    grouped = {id(node): group for group in groups for node in group.members}
    for node in file.nodes:
        group = grouped.get(id(node))
        if group is None:
            yield _Layer((node,), node.inputs, _converter(node))
        elif node is group.last:
            yield group


def _converter(node: OnnxNode) -> Converter:
    name = node.kind if node.domain in _KNOWN else f"{node.domain}.{node.kind}"
    if name not in operators:
        return _never
    return operators[name]


def _never(call: Call) -> Expression:
    raise UnsupportedError(*reason(call.kind, foreign(call.domain)))


def _biased_products(file: OnnxGraph) -> Iterator[_Layer]:
    """Find products with a constant matrix of which alone a constant bias is the sequel."""
    for node in file.nodes:
        if node.kind != "MatMul" or node.inputs[0] in file.constants or node.inputs[1] not in file.constants:
            continue
        following = file.only_consumer(node.outputs[0])
        if following is None or following.kind != "Add":
            continue
        (other,) = (value for value in following.inputs if value != node.outputs[0])
        weight, bias = file.constants[node.inputs[1]], file.constants.get(other)
        same = file.shapes.get(node.outputs[0]) == file.shapes.get(following.outputs[0])
        if bias is not None and same and weight.ndim == 2 and bias.shape[-1:] == weight.shape[1:] == (bias.size,):
            yield _Layer((node, following), node.inputs, _with_bias(bias))


def _with_bias(bias: Array) -> Callable[[Call], Expression]:
    return lambda call: matrix_product_with_bias(call, bias)


class _Builder:
    """Our nodes as they come to be; the one mutable thing in the front end, alive for one walk."""

    def __init__(self, constants: Set[str]) -> None:
        self._constants = constants
        self._nodes: dict[str, Node] = {}
        # How often each name was wanted.
        self._names: dict[str, int] = {}
        self._values: dict[str, _Stored] = {}
        # The tensors that layers may share.
        self._contents: dict[tuple[bytes, Shape], Tensor] = {}

    def enter(self, value: str, op: Input) -> None:
        """Make one of the network's inputs."""
        name = self._named(value)
        self._nodes[name] = Node(name, op, (), (value,))
        self._values[value] = _Stored(name, op.shape)

    def build(self, layer: _Layer, call: Call, *, repeated: bool) -> str:
        """Make the nodes of a layer; return what it becomes. Raises UnsupportedError before anything is made.

        Where its constants are ``repeated``, read by other layers too, tensors of the same content become one.
        """
        expressed = layer.express(call)
        expressions = expressed if isinstance(expressed, tuple) else (expressed,)
        used: list[Op] = []
        made: dict[int, str] = {}
        for index, (output, expression) in enumerate(zip(layer.last.outputs, expressions, strict=False)):
            if not call.read[index]:
                continue
            label = layer.last.label if len(expressions) == 1 else f"{layer.last.label}_{index}"
            node = self._emit(expression, layer, label, used, made)
            self._values[output] = _Stored(node, stored_shape(call.outputs[index]))
        if repeated:
            # What was refused before has no node.
            self._share(name for name in made.values() if name)
        return ", ".join(dict.fromkeys(type(op).__name__ for op in used)) or FOLDED

    def graph(self, outputs: tuple[str, ...]) -> Graph:
        """Return the graph of what the outputs need."""
        names = [self._values[value].node for value in outputs]
        called = dict(zip(names, outputs, strict=True))
        nodes = (replace(node, output=called.get(name, "")) for name, node in self._nodes.items())
        return Graph.of(nodes, names).without_dead()

    def values(self) -> dict[str, str]:
        """Return by our nodes the values of the file that they compute; the first of several that are the same."""
        return {at.node: value for value, at in reversed(self._values.items())}

    def _emit(self, root: Expression, layer: _Layer, label: str, used: list[Op], made: dict[int, str]) -> str:
        """Make the nodes of an expression, the outermost called after ``label``; return that one's name.

        An expression that is a part of several is made once: ``made`` has its name. Recurrent layers nest thousands, so
        what waits for its arguments, with a name already, is on a stack of our own.
        """
        waiting: list[tuple[Expression, str, str]] = [(root, label, "")]
        while waiting:
            expression, label, name = waiting.pop()
            if id(expression) in made:
                continue
            simple = _without_detour(expression)
            if isinstance(simple, Operand):
                made[id(expression)] = self._read(simple, layer, label, used)
            elif name:
                arguments = tuple(made[id(part)] for part in simple.arguments)
                made[id(expression)] = self._make(name, simple.op, arguments, layer, used)
            else:
                name = self._named(f"{layer.last.label}_{simple.name}" if simple.name else label)
                waiting.append((expression, label, name))
                waiting += [(part, f"{name}_{_suffix(part)}", "") for part in reversed(simple.arguments)]
        return made[id(root)]

    def _share(self, names: Iterable[str]) -> None:
        """Let nodes have the tensors of the same content that others were made with."""
        found: dict[int, Tensor] = {}

        def shared(tensor: Tensor) -> Tensor:
            if id(tensor) not in found:
                content = hashlib.sha256(tensor.numpy().tobytes()).digest(), tuple(tensor.shape)
                found[id(tensor)] = self._contents.setdefault(content, tensor)
            return found[id(tensor)]

        for name in names:
            node = self._nodes[name]
            self._nodes[name] = replace(node, op=node.op.map_tensors(shared))

    def _read(self, operand: Operand, layer: _Layer, label: str, used: list[Op]) -> str:
        """Return the node that has an input in the shape wanted, which may be a new one."""
        value = layer.inputs[operand.index]
        # What refused operations compute is nowhere, and what reads it is judged all the same.
        at = self._values.get(value, _Stored("", operand.shape))
        if value in self._constants:
            raise UnsupportedError("a constant stands where an activation is expected", "compute it before the export")
        if at.shape == operand.shape:
            return at.node
        return self._make(self._named(label), ops.Reshape(operand.shape), (at.node,), layer, used)

    def _make(self, name: str, op: Op, arguments: tuple[str, ...], layer: _Layer, used: list[Op]) -> str:
        used.append(op)
        self._nodes[name] = Node(name, op, arguments, tuple(member.label for member in layer.members))
        return name

    def _named(self, wanted: str) -> str:
        """Return an identifier made of a name of the file, unique in the graph."""
        plain = identifier(wanted)[:_LONGEST_NAME]
        name = plain
        while name in self._names:
            self._names[plain] += 1
            name = f"{plain}_{self._names[plain]}"
        self._names[name] = 1
        return name


def _without_detour(expression: Expression) -> Expression:
    """Read a reshape of a reshaped input as one reshape."""
    if isinstance(expression, Operand) or not isinstance(expression.op, ops.Reshape):
        return expression
    if isinstance(expression.arguments[0], Operand):
        return Operand(expression.arguments[0].index, expression.op.shape)
    return expression


def _suffix(expression: Expression) -> str:
    return "reshape" if isinstance(expression, Operand) else type(expression.op).__name__.lower()
