"""Loops, scans, branches and lists of tensors, written out where the file itself says how often, which and where.

Works on a file whose constants are folded and whose shapes are inferred. What depends on data is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from snnc.frontend.expression import Array, Shape
from snnc.frontend.labels import attributes_of, opset_of, read_values, rewritten
from snnc.frontend.measuring import shape_of, values_of
from snnc.frontend.weights import Weights, array_of

# What is followed, and itself stays until what reads it is written out.
_LISTS = {"SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SplitToSequence", "Identity"}
# A loop of more rounds than these has no end that could be told.
_LONGEST = 10_000


def unrolled(model: ModelProto, weights: Weights) -> ModelProto | None:
    """Return the file with what can be written out, None where nothing can; constants and shapes are not its own.

    ``weights`` are its large constants, which are beside it.
    """
    written = _Writer(model, weights)
    if not written.changed:
        return None
    needed = _needed(written.nodes, [value.name for value in model.graph.output])
    return rewritten(model, needed, written.made)


class _Writer:
    """The nodes of a file as they are written out; lives for one file."""

    def __init__(self, model: ModelProto, weights: Weights) -> None:
        graph = model.graph
        self._weights = weights
        self.nodes: list[NodeProto] = []
        self.made: list[TensorProto] = []
        self.changed = False
        self._opset = opset_of(model)
        self._model = model
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs = {value.name for value in graph.input}
        self._producers = {value: node for node in graph.node for value in node.output if value}
        self._lists: dict[str, list[str]] = {}
        self._shapes = dict(_shapes(graph))
        for node in graph.node:
            self._write(node)

    def _write(self, node: NodeProto) -> None:
        writers = {
            "Loop": self._loop,
            "Scan": self._scan,
            "If": self._branch,
            "SequenceEmpty": self._list,
            "SequenceConstruct": self._list,
            "SequenceInsert": self._insertion,
            "SequenceErase": self._erasure,
            "SplitToSequence": self._split,
            "SequenceAt": self._entry,
            "SequenceLength": self._count,
            "ConcatFromSequence": self._joined,
            "Identity": self._same,
        }
        writer = writers.get(node.op_type) if not node.domain else None
        if writer is None or not writer(node):
            self.nodes.append(node)
        else:
            self.changed = self.changed or node.op_type not in _LISTS

    # Loops and branches: each returns whether it has written the node out.

    def _loop(self, node: NodeProto) -> bool:
        (body,) = (attribute.g for attribute in node.attribute if attribute.name == "body")
        trips, condition, *carried = (*node.input, "", "")[: max(len(node.input), 2)]
        rounds = self._rounds(body, trips, condition, carried)
        states = len(carried)
        stacked = len(body.output) - 1 - states
        if rounds is None or (rounds == 0 and stacked):
            return False
        values = list(carried)
        columns: list[list[str]] = [[] for _ in range(stacked)]
        for index in range(rounds):
            number = self._constant(f"{node.name}/{index}//number", np.array(index, np.int64))
            going = self._constant(f"{node.name}/{index}//going", np.array(True))
            _, *found = self._inlined(node, body, [number, going, *values], f"{index}/")
            values = found[:states]
            for column, value in zip(columns, found[states:], strict=True):
                column.append(self._unsqueezed(value, 0))
        for output, value in zip(
            node.output, [*values, *(self._stacked(column, 0) for column in columns)], strict=False
        ):
            self._call(output, value, node.name)
        return True

    def _scan(self, node: NodeProto) -> bool:
        attributes = attributes_of(node)
        body, count = attributes["body"], attributes["num_scan_inputs"]
        states = len(node.input) - count
        scanned = node.input[states:]
        axes = attributes.get("scan_input_axes", [0] * count)
        ranks = [self._shapes.get(value) for value in scanned]
        if self._opset < 9 or not scanned or any(shape is None for shape in ranks):
            return False
        axes = [axis % len(shape or ()) for axis, shape in zip(axes, ranks, strict=True)]
        length = (ranks[0] or ())[axes[0]]
        if not 0 < length <= _LONGEST:
            return False
        back = attributes.get("scan_input_directions", [0] * count)
        values = list(node.input[:states])
        columns: list[list[str]] = [[] for _ in range(len(body.output) - states)]
        out_axes = attributes.get("scan_output_axes", [0] * len(columns))
        out_back = attributes.get("scan_output_directions", [0] * len(columns))
        for index in range(length):
            entries = []
            for value, axis, reverse in zip(scanned, axes, back, strict=True):
                place = np.array(length - 1 - index if reverse else index, np.int64)
                entry = f"{node.name}/{index}//{value}"
                self.nodes.append(
                    helper.make_node(
                        "Gather", [value, self._constant(f"{entry}/place", place)], [entry], entry, axis=axis
                    )
                )
                entries.append(entry)
            found = self._inlined(node, body, [*values, *entries], f"{index}/")
            values = found[:states]
            for column, value, axis in zip(columns, found[states:], out_axes, strict=True):
                column.append(self._unsqueezed(value, axis))
        results = [
            self._stacked(column[::-1] if reverse else column, axis)
            for column, axis, reverse in zip(columns, out_axes, out_back, strict=True)
        ]
        for output, value in zip(node.output, [*values, *results], strict=False):
            self._call(output, value, node.name)
        return True

    def _branch(self, node: NodeProto) -> bool:
        decided = self._value(node.input[0])
        if decided is None and self._is_setting(node.input[0]):
            return self._both(node)
        if decided is None or decided.size != 1:
            return False
        wanted = "then_branch" if decided.reshape(-1)[0] else "else_branch"
        (body,) = (attribute.g for attribute in node.attribute if attribute.name == wanted)
        for output, value in zip(node.output, self._inlined(node, body, [], "", wanted), strict=True):
            self._call(output, value, node.name)
        return True

    def _is_setting(self, value: str) -> bool:
        """Return whether a value depends on nothing of the sample but inputs of one number, such as a sampling rate."""
        waiting, seen = [value], set()
        while waiting:
            name = waiting.pop()
            if name in seen or name in self._tensors:
                continue
            seen.add(name)
            if name in self._inputs:
                if self._shapes.get(name) not in ((), (1,)):
                    return False
            elif name in self._producers:
                waiting += read_values(self._producers[name])
            else:
                return False
        return True

    def _both(self, node: NodeProto) -> bool:
        """Write both branches, and a choice between what they give, unless that is known to be of other shapes."""
        bodies = {attribute.name: attribute.g for attribute in node.attribute}
        first, second = bodies["then_branch"], bodies["else_branch"]
        shapes = [[shape_of(value) for value in body.output] for body in (first, second)]
        if any(None not in (one, other) and one != other for one, other in zip(*shapes, strict=True)):
            return False
        pairs = zip(
            self._inlined(node, first, [], "then/", "then"),
            self._inlined(node, second, [], "else/", "else"),
            strict=True,
        )
        for output, (one, other) in zip(node.output, pairs, strict=True):
            self.nodes.append(
                helper.make_node("Where", [node.input[0], one, other], [output], f"{node.name}/{output}/choice")
            )
        return True

    def _rounds(self, body: GraphProto, trips: str, condition: str, carried: Sequence[str]) -> int | None:
        """Return how many rounds a loop has, None where that depends on data or has no end that is near."""
        limit, going = self._value(trips), self._value(condition)
        if (trips and limit is None) or (condition and going is None):
            return None
        most = _LONGEST + 1 if limit is None else min(int(limit.reshape(-1)[0]), _LONGEST + 1)
        if going is not None and not going.reshape(-1)[0]:
            return 0
        number, kept, *states = (value.name for value in body.input)
        outputs = [value.name for value in body.output]
        after = dict(zip([kept, *states], outputs, strict=False))
        part = _Part.of(body, after, kept)
        begun = {state: self._value(value) for state, value in zip(states, carried, strict=True)}
        outer = {name: self._value(name) for name in part.outer - {number, kept, *states}}
        values = {name: value for name, value in (begun | outer).items() if name in part.outer}
        if any(value is None for value in values.values()):
            return None
        known = {name: value for name, value in values.items() if value is not None} | {kept: np.array(True)}
        moving = part.outer & {number, *states}
        rounds = 0
        try:
            run = part.evaluator(self._model, [*known, number])
            while rounds < most:
                rounds += 1
                found = run.run(None, known | {number: np.array(rounds - 1, np.int64)})
                known |= {state: np.asarray(value) for state, value in zip(part.states, found, strict=True)}
                if not known[kept].reshape(-1)[0]:
                    break
                if not moving:
                    # It will go on for ever, or as long as it is told to.
                    rounds = max(most, 0)
        except Exception:
            # The evaluator does not know an operation, or cannot run it, in as many ways as there are: nothing tells.
            return None
        return rounds if rounds <= _LONGEST else None

    def _inlined(
        self, node: NodeProto, body: GraphProto, inputs: Sequence[str], place: str, home: str = "body"
    ) -> list[str]:
        """Write the nodes of a body with names of their own; return what its outputs are called.

        The constants of a body are there once, however often it is written: ``home`` tells them from those of another
        body of the node.
        """
        shared = {tensor.name: f"{node.name}/{home}/{tensor.name}" for tensor in body.initializer}
        for tensor in body.initializer:
            if shared[tensor.name] not in self._tensors:
                copied = TensorProto()
                copied.CopyFrom(tensor)
                copied.name = shared[tensor.name]
                self._keep(copied)
        names = shared | dict(zip((value.name for value in body.input), inputs, strict=True))
        made = {value for inner in body.node for value in inner.output if value}
        names |= {value: f"{node.name}/{place}{value}" for value in made}
        for inner in body.node:
            copy = _renamed(inner, names)
            copy.name = f"{node.name}/{place}{inner.name or inner.output[0]}"
            self._write(copy)
        return [names.get(value.name, value.name) for value in body.output]

    # Lists of tensors, known by the names of these.

    def _list(self, node: NodeProto) -> bool:
        self._lists[node.output[0]] = list(node.input)
        return False

    def _same(self, node: NodeProto) -> bool:
        if node.input[0] in self._lists:
            self._lists[node.output[0]] = self._lists[node.input[0]]
        return False

    def _insertion(self, node: NodeProto) -> bool:
        known = self._lists.get(node.input[0])
        place = self._place(node, 2)
        if known is not None and place is not False:
            entries = [*known]
            entries.insert(len(known) if place is None else place, node.input[1])
            self._lists[node.output[0]] = entries
        return False

    def _erasure(self, node: NodeProto) -> bool:
        known = self._lists.get(node.input[0])
        place = self._place(node, 1)
        if known is not None and place is not False:
            entries, at = [*known], -1 if place is None else place
            if not -len(entries) <= at < len(entries):
                return False
            del entries[at]
            self._lists[node.output[0]] = entries
        return False

    def _split(self, node: NodeProto) -> bool:
        shape = self._shapes.get(node.input[0])
        sizes = self._value(node.input[1]) if len(node.input) > 1 and node.input[1] else np.array(1)
        if not shape or sizes is None:
            return False
        attributes = {entry.name: entry.i for entry in node.attribute}
        axis = attributes.get("axis", 0) % len(shape)
        length = shape[axis]
        if sizes.ndim == 0:
            parts = [min(int(sizes), length - start) for start in range(0, length, int(sizes))]
        else:
            parts = sizes.tolist()
        entries = [f"{node.output[0]}/{index}" for index in range(len(parts))]
        self._lists[node.output[0]] = entries
        self._operation("Split", node.input[0], entries, "split", parts, axis=axis)
        if len(node.input) < 2 and not attributes.get("keepdims", 1):
            squeezed = [f"{entry}/squeezed" for entry in entries]
            for entry, short in zip(entries, squeezed, strict=True):
                self._operation("Squeeze", entry, [short], "axes", [axis])
            self._lists[node.output[0]] = squeezed
        return False

    def _entry(self, node: NodeProto) -> bool:
        known = self._lists.get(node.input[0])
        place = self._place(node, 1)
        if known is None or place is None or place is False or not -len(known) <= place < len(known):
            return False
        self._call(node.output[0], known[place], node.name)
        return True

    def _count(self, node: NodeProto) -> bool:
        known = self._lists.get(node.input[0])
        if known is None:
            return False
        self._constant(node.output[0], np.array(len(known), np.int64))
        return True

    def _joined(self, node: NodeProto) -> bool:
        known = self._lists.get(node.input[0])
        if not known:
            return False
        attributes = {entry.name: entry.i for entry in node.attribute}
        axis = attributes["axis"]
        parts = [self._unsqueezed(value, axis) for value in known] if attributes.get("new_axis", 0) else known
        self.nodes.append(helper.make_node("Concat", parts, [node.output[0]], node.name, axis=axis))
        return True

    def _place(self, node: NodeProto, index: int) -> int | bool | None:
        """Return a place in a list, None where it is left out, False where it is computed."""
        if len(node.input) <= index or not node.input[index]:
            return None
        value = self._value(node.input[index])
        return False if value is None else int(value.reshape(-1)[0])

    # What all of them write.

    def _value(self, name: str) -> Array | None:
        """Return a constant, None for what is computed."""
        return array_of(self._tensors[name], self._weights) if name in self._tensors else None

    def _constant(self, name: str, array: Array) -> str:
        self._keep(numpy_helper.from_array(array, name))
        return name

    def _keep(self, tensor: TensorProto) -> None:
        self._tensors[tensor.name] = tensor
        self.made.append(tensor)

    def _call(self, name: str, value: str, owner: str) -> None:
        """Give a value another name."""
        if name:
            self._write(helper.make_node("Identity", [value], [name], f"{owner}/{name}"))

    def _unsqueezed(self, value: str, axis: int) -> str:
        name = f"{value}/row"
        if name not in self._shapes:
            self._shapes[name] = None
            self._operation("Unsqueeze", value, [name], "axes", [axis])
        return name

    def _stacked(self, values: Sequence[str], axis: int) -> str:
        name = f"{values[0]}/all"
        self.nodes.append(helper.make_node("Concat", list(values), [name], name, axis=axis))
        return name

    def _operation(
        self, kind: str, value: str, outputs: Sequence[str], field: str, given: Sequence[int], **attributes: int
    ) -> None:
        """Write an operation whose list of integers was an attribute before opset 13."""
        inputs = [value]
        options: dict[str, Any] = dict(attributes)
        if self._opset >= 13:
            inputs.append(self._constant(f"{outputs[0]}/{field}", np.array(given, np.int64)))
        else:
            options[field] = given
        self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], **options))


@dataclass(frozen=True, eq=False)
class _Part:
    """What of a body tells whether a loop goes on: nodes, the states that they need, what they read from outside.

    ``after`` has what each of the states, the decision first, is behind a round.
    """

    body: GraphProto
    nodes: tuple[NodeProto, ...]
    states: tuple[str, ...]
    after: Mapping[str, str]
    outer: frozenset[str]

    @classmethod
    def of(cls, body: GraphProto, after: Mapping[str, str], decision: str) -> _Part:
        """Find what a decision depends on."""
        producers = {value: node for node in body.node for value in node.output if value}
        constants = {tensor.name for tensor in body.initializer}
        found: set[str] = set()
        states: dict[str, None] = {decision: None}
        outer: set[str] = set()
        waiting, seen = [after[decision]], set()
        while waiting:
            value = waiting.pop()
            if value in seen or value in constants:
                continue
            seen.add(value)
            if value in producers:
                node = producers[value]
                found.add(node.output[0])
                waiting += read_values(node)
            else:
                outer.add(value)
                if value in after and value not in states:
                    states[value] = None
                    waiting.append(after[value])
        nodes = tuple(node for node in body.node if node.output[0] in found)
        return cls(body, nodes, tuple(states), after, frozenset(outer))

    def evaluator(self, model: ModelProto, inputs: Iterable[str]) -> ReferenceEvaluator:
        """Return what computes the states behind a round."""
        entries = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in inputs]
        # The same value may be what several states become.
        nodes = [*self.nodes]
        results = []
        for state in self.states:
            results.append(f"{state}/after")
            nodes.append(helper.make_node("Identity", [self.after[state]], [results[-1]]))
        exits = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in results]
        graph = helper.make_graph(nodes, "decision", entries, exits, self.body.initializer)
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import))


def _needed(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Return the nodes that outputs need: lists of which every entry was found are read no more."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(read_values(node))
    return kept[::-1]


def _renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Return a copy of a node whose values have other names, in its bodies too."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        values[:] = [names.get(value, value) for value in values]
    for attribute in copy.attribute:
        if attribute.HasField("g"):
            inner = attribute.g
            renamed = [_renamed(part, names) for part in inner.node]
            del inner.node[:]
            inner.node.extend(renamed)
            for output in inner.output:
                output.name = names.get(output.name, output.name)
    return copy


def _shapes(graph: GraphProto) -> Iterator[tuple[str, Shape | None]]:
    """Yield the values whose shapes are known."""
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for value in values_of(graph):
        yield value.name, shape_of(value)
