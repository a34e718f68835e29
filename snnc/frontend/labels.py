"""The nodes of a file: what they are called, where names may be missing or shared, what they read, and other ones."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.inliner import inline_local_functions

from snnc.text import foreign


def labels(graph: GraphProto) -> tuple[str, ...]:
    """Return a name for every node of a graph, in order, that no other node has, and that only shows what it says.

    It is the node's own name, or that of the first value it computes where its name is empty, is that of another node
    too (in a branch or loop inside, for instance), or is that of a value that another node computes.
    """
    found: dict[str, None] = {}
    for name in map(foreign, _own_labels(graph)):
        while name in found:
            name += "_"
        found[name] = None
    return tuple(found)


def _own_labels(graph: GraphProto) -> tuple[str, ...]:
    computed = [next(filter(None, node.output), "") for node in graph.node]
    names = Counter(_names(graph))
    owner = {value: index for index, node in enumerate(graph.node) for value in node.output}
    return tuple(
        node.name if names[node.name] == 1 and owner.get(node.name, index) == index else computed[index]
        for index, node in enumerate(graph.node)
    )


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the values of a node's attributes, by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def set_attributes(node: NodeProto, made: Mapping[str, Any], without: Sequence[str] = ()) -> None:
    """Give a node attributes in the place of others."""
    kept = [attribute for attribute in node.attribute if attribute.name not in {*made, *without}]
    held = [*kept, *(helper.make_attribute(name, value) for name, value in made.items())]
    del node.attribute[:]
    node.attribute.extend(held)


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operations in a model, 0 where it has none."""
    return next((entry.version for entry in model.opset_import if not entry.domain), 0)


def read_values(node: NodeProto) -> Iterator[str]:
    """Yield the values that a node reads, those that the graphs inside it take from outside included."""
    yield from filter(None, node.input)
    for inside in subgraphs(node):
        own = {value.name for entries in (inside.input, inside.initializer) for value in entries}
        own |= {value for part in inside.node for value in part.output}
        for part in inside.node:
            yield from (value for value in read_values(part) if value not in own)
        yield from (value.name for value in inside.output if value.name not in own)


def constants_of(graph: GraphProto) -> set[str]:
    """Return the values that depend on no input."""
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if constants.issuperset(read_values(node)):
            constants.update(node.output)
    return constants


def written_out(model: ModelProto) -> ModelProto:
    """Return a model with the functions of its own opset written out, their nodes named behind the node that calls."""
    model = _with_defaults(model)
    written = inline_local_functions(model)
    kept = {(function.domain, function.name, function.overload) for function in written.functions}
    functions = {(function.domain, function.name, function.overload): function for function in model.functions}
    inside = {key: function.node for key, function in functions.items() if key not in kept}

    def names(nodes: Iterable[NodeProto], caller: str) -> Iterator[str]:
        for node in nodes:
            name = caller + (node.name or next(filter(None, node.output), ""))
            called = inside.get((node.domain, node.op_type, node.overload))
            if called is not None:
                yield from names(called, f"{name}/")
            else:
                yield name if caller else node.name

    for node, name in zip(written.graph.node, names(model.graph.node, ""), strict=True):
        node.name = name
    return written


def _with_defaults(model: ModelProto) -> ModelProto:
    """Return a model whose calls of functions say every attribute that has a default, which onnx forgets.

    What is called without an attribute that has none is another function, in which nothing is said by that.
    """
    if not any(function.attribute or function.attribute_proto for function in model.functions):
        return model
    saying = ModelProto()
    saying.CopyFrom(model)
    known = {(function.domain, function.name, function.overload): function for function in saying.functions}
    waiting: list[GraphProto | FunctionProto] = [saying.graph]
    looked_at = set[tuple[str, str, str]]()
    while waiting:
        for node in waiting.pop().node:
            waiting += subgraphs(node)
            function = known.get((node.domain, node.op_type, node.overload))
            if function is None:
                continue
            said = {attribute.name for attribute in node.attribute}
            node.attribute.extend(attribute for attribute in function.attribute_proto if attribute.name not in said)
            missing = sorted({*function.attribute} - said)
            node.op_type += "".join(f"/without {name}" for name in missing)
            key = node.domain, node.op_type, node.overload
            if key not in known:
                known[key] = saying.functions.add()
                known[key].CopyFrom(function)
                known[key].name = node.op_type
                for name in missing:
                    known[key].attribute.remove(name)
                _leave_out(known[key], {*missing})
            if key not in looked_at:
                looked_at.add(key)
                waiting.append(known[key])
    return saying


def _leave_out(body: GraphProto | FunctionProto, names: Set[str]) -> None:
    """Let nothing within a function refer to these attributes of it."""
    for node in body.node:
        kept = [attribute for attribute in node.attribute if attribute.ref_attr_name not in names]
        del node.attribute[:]
        node.attribute.extend(kept)
        for inside in subgraphs(node):
            _leave_out(inside, names)


def bodies(model: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """Yield all that holds nodes: the network, its functions, and the branches and bodies of loops inside them."""
    waiting: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += (inside for node in body.node for inside in subgraphs(node))


def ordered(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Return nodes in topological order, keeping theirs where it is one; those that wait for themselves are last."""
    producers = {value: place for place, node in enumerate(nodes) for value in node.output if value}
    needed = [{producers[value] for value in read_values(node) if value in producers} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for place, before in enumerate(needed):
        for producer in before:
            readers[producer].append(place)
    missing = [len(before) for before in needed]
    ready = [place for place, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers[order[-1]]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    return [nodes[place] for place in order + [place for place, count in enumerate(missing) if count]]


def rewritten(model: ModelProto, nodes: Iterable[NodeProto], made: Iterable[TensorProto]) -> ModelProto:
    """Return a model with other nodes, and with constants that these were ``made``; shapes are no longer known."""
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(made)
    return result


def _names(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.name:
            yield node.name
        for inside in subgraphs(node):
            yield from _names(inside)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs inside a node: branches, and bodies of loops."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g
