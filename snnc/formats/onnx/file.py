"""An ONNX file as it comes to be: nodes, constants, functions of its own, and names that nothing else has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, parser

from snnc.ir import Input
from snnc.version import VERSION

Array = NDArray[Any]
Axis = int | str

BATCH = "batch"

# Of the functions that a file brings along, one for every kind of neuron and for what is done with time.
DOMAIN = "snnc"


@dataclass(frozen=True, eq=False)
class Operation:
    """One ONNX operation on what came before and, behind it, on constants, each with a name of its own.

    Where it ``reads`` other values, these are named: ``x0``, ``x1`` the inputs of all, constants, what an earlier
    operation ``makes``, and "" what came before. So many other outputs are ``ignored``, ``passed`` of them in front of
    the one that is not. A ``local`` one is a function of the file. After the constants it reads its ``states``, of
    these shapes without the batch, whose next values are its further outputs, and then what tells it the time.
    """

    kind: str
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    reads: Sequence[str] = ()
    makes: str = ""
    ignored: int = 0
    passed: int = 0
    local: bool = False
    states: Mapping[str, Sequence[int]] = field(default_factory=dict)
    clock: Sequence[str] = ()


@dataclass(frozen=True)
class Place:
    """Where an operation is written: behind inputs of which shapes, to an output of which, those of one sample."""

    before: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]
    opset: int

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return len(self.before)

    @property
    def rank(self) -> int:
        """How many axes the first input has, the batch among them."""
        return 1 + len(self.before[0])


Operations = Sequence[Operation]

_KINDS = {"real": TensorProto.FLOAT, "integer": TensorProto.INT64, "pixel": TensorProto.UINT8}


@dataclass(frozen=True)
class Function:
    """A function of the file, its body in the textual language of ONNX."""

    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    body: str
    about: str
    attributes: Sequence[str] = ()

    def proto(self, opset: int) -> FunctionProto:
        """Return the function as a file holds it."""
        attributes = f"<{', '.join(self.attributes)}>" if self.attributes else ""
        head = f"{self.name} {attributes} ({', '.join(self.inputs)}) => ({', '.join(self.outputs)})"
        text = f'<opset_import: ["": {opset}, "{DOMAIN}": 1], domain: "{DOMAIN}">\n{head} {{\n{self.body}\n}}'
        proto = parser.parse_function(text)
        proto.doc_string = self.about
        return proto


class File:
    """Nodes, constants and named values as they come to be; alive for one export."""

    def __init__(self, names: Iterable[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.values: list[ValueInfoProto] = []
        # The values of states before and after, by the names they have before.
        self.states: dict[str, tuple[ValueInfoProto, ValueInfoProto]] = {}
        self._names = set(names)
        # The constants by kind of numbers, shape and content: copies of a cell share theirs.
        self._kept: dict[tuple[str, tuple[int, ...], str], str] = {}

    def write(self, inputs: Sequence[str], operations: Operations, name: str, owner: str = "") -> None:
        """Write operations one after another, the last of which computes what is called ``name``.

        What else they need is called after ``owner``, which is ``name`` unless given.
        """
        values: Sequence[str] = inputs
        owner = owner or name
        known = {f"x{index}": value for index, value in enumerate(inputs)}
        for operation in operations:
            output = name if operation is operations[-1] else self.named(f"{owner}/{operation.kind.lower()}")
            constants = {part: self.constant(f"{owner}/{part}", array) for part, array in operation.constants.items()}
            known.update(constants)
            ignored = [self.named(f"{owner}/ignored") for _ in range(operation.ignored)]
            passed = operation.passed
            read = [known[part] for part in operation.reads] or [*values, *constants.values()]
            states = [self._state(f"{owner}/{part}", shape) for part, shape in operation.states.items()]
            node = helper.make_node(
                operation.kind,
                [*read, *(before for before, _ in states), *operation.clock],
                [*ignored[:passed], output, *(after for _, after in states), *ignored[passed:]],
                output,
                domain=DOMAIN if operation.local else "",
                **operation.attributes,
            )
            self.nodes.append(node)
            values = (output,)
            known[operation.makes] = known[""] = output

    def entered(self, name: str, op: Input) -> str:
        """Return what an input is called as the real numbers that the network computes with."""
        operations = [] if op.numbers == "real" else [Operation("Cast", attributes={"to": TensorProto.FLOAT})]
        if op.unit is not None:
            unit, most = (floats(number) for number in (op.unit, op.most))
            operations += [
                Operation("Div", {"unit": unit}),
                Operation("Add", {"half": floats(0.5)}),
                Operation("Floor"),
                Operation("Clip", {"least": -most, "most": most}),
                Operation("Mul", {"unit": unit}),
            ]
        if not operations:
            return name
        real = self.named(f"{name}/real")
        self.write([name], operations, real)
        self.shaped(real, [BATCH, *op.shape])
        return real

    def constant(self, wanted: str, array: Array) -> str:
        """Keep an array under a name of its own, and return that, or the name of one that is the same."""
        content = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        if content not in self._kept:
            name = self._kept[content] = self.named(wanted)
            self.constants.append(numpy_helper.from_array(array, name))
        return self._kept[content]

    def shaped(self, name: str, shape: Sequence[Axis]) -> None:
        """State the shape of a value, as nobody sees from outside what a function answers."""
        self.values.append(value(name, shape))

    def named(self, wanted: str) -> str:
        """Return a name that nothing in the file has yet."""
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def reads(self, name: str) -> bool:
        """Return whether some node reads this value."""
        return any(name in node.input for node in self.nodes)

    def model(
        self,
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
        *,
        opset: int,
        functions: Iterable[Function] = (),
        about: str = "",
        properties: Mapping[str, str] | None = None,
    ) -> ModelProto:
        """Return the whole file; of the functions only those that it uses."""
        used = _used(self.nodes, {function.name: function.proto(opset) for function in functions})
        shown = {entry.name for entry in (*inputs, *outputs)}
        values = [entry for entry in self.values if entry.name not in shown]
        graph = helper.make_graph(
            self.nodes, "network", inputs, outputs, self.constants, doc_string=about, value_info=values
        )
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(
            graph,
            opset_imports=[*opsets, *([helper.make_opsetid(DOMAIN, 1)] if used else [])],
            functions=used,
            # The oldest that has this opset, so that the oldest runtimes read it, too.
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="snnc",
            producer_version=VERSION,
        )
        helper.set_model_props(model, dict(properties or {}))
        return model

    def _state(self, wanted: str, shape: Sequence[int]) -> tuple[str, str]:
        before = self.named(wanted)
        after = self.named(f"{before}/next")
        self.states[before] = value(before, [BATCH, *shape]), value(after, [BATCH, *shape])
        return before, after


def value(name: str, shape: Sequence[Axis], kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    """Describe a value of single precision, or of another kind of numbers."""
    return helper.make_tensor_value_info(name, kind, shape)


def entry(name: str, op: Input) -> ValueInfoProto:
    """Describe an input of a network: real numbers, integers or pixels."""
    return value(name, [BATCH, *op.shape], _KINDS[op.numbers])


def floats(number: float) -> Array:
    """Return a number as a constant."""
    return np.array(number, np.float32)


def _used(nodes: Iterable[NodeProto], known: Mapping[str, FunctionProto]) -> list[FunctionProto]:
    """Return the functions that nodes call, directly or not, those that are called before those that call."""
    found: dict[str, FunctionProto] = {}

    def visit(callers: Iterable[NodeProto]) -> None:
        for name in _calls(callers):
            if name not in found:
                visit(known[name].node)
                found[name] = known[name]

    visit(nodes)
    return list(found.values())


def _calls(nodes: Iterable[NodeProto]) -> Iterator[str]:
    for node in nodes:
        if node.domain == DOMAIN:
            yield node.op_type
        for attribute in node.attribute:
            yield from _calls(attribute.g.node)
