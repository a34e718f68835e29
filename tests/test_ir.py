"""Graphs: what cannot be built, and what sharing means."""

import dataclasses
import math

import pytest
import torch

from snnc import ops
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from tests.support import Network, naming, neuron_instances, normal, operations, random_network, relu


def chain() -> Graph:
    nodes = [Node("x", Input((2,)), ()), Node("a", ops.Relu(), ("x",)), Node("b", ops.Relu(), ("a",))]
    return Graph.of([*nodes, Node("c", ops.Add(), ("a", "b"))], ["c"])


X = Node("x", Input((2,)), ())


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        ([X, Node("a", ops.Relu(), ("y",))], ["a"], "'a' uses 'y' before it is computed"),
        ([Node("a", ops.Relu(), ("x",)), X], ["a"], "'a' uses 'x' before it is computed"),
        ([X, Node("a", ops.Relu(), ("a",))], ["a"], "'a' uses 'a' before it is computed"),
        ([X, X], ["x"], "two nodes are called 'x'"),
        ([X], [], "a graph needs an output"),
        ([X], ["y"], "output 'y' is not computed"),
    ],
)
def test_an_invalid_graph_cannot_be_built(nodes: list[Node], outputs: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph.of(nodes, outputs)


def test_a_node_is_filed_under_its_own_name() -> None:
    with pytest.raises(ValueError, match="'x' is filed under 'y'"):
        Graph({"y": X}, ("y",))


def test_a_graph_cannot_be_changed() -> None:
    nodes = {"x": X}
    graph = Graph(nodes, ("x",))
    nodes["y"] = X
    assert list(graph.nodes) == ["x"]
    with pytest.raises(TypeError):
        graph.nodes["y"] = X  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.outputs = ()  # type: ignore[misc]


def members() -> dict[str, Op]:
    return {name: op for name, (op, _) in operations().items()} | dict(neuron_instances()) | {"Input": Input((1,))}


def test_operations_are_final_and_frozen() -> None:
    for name, op in members().items():
        with naming(name):
            assert type(op).__final__  # type: ignore[attr-defined]
            assert not type(op).__subclasses__()
            with pytest.raises(dataclasses.FrozenInstanceError):
                op.anything = 1  # type: ignore[attr-defined]
            assert type(op).__doc__


def test_map_tensors_reaches_every_tensor_and_nothing_else() -> None:
    for name, op in members().items():
        with naming(name):
            mapped = op.map_tensors(lambda tensor: tensor.double())
            assert (mapped is op) == (not op.tensors())
            for field in dataclasses.fields(op):  # type: ignore[arg-type]
                old, new = getattr(op, field.name), getattr(mapped, field.name)
                if isinstance(old, torch.Tensor):
                    assert new.dtype == torch.float64
                    assert old.dtype == torch.float32
                    assert torch.equal(new, old.double())
                else:
                    assert new == old


def test_tensors_of_the_same_content_are_one_and_others_stay_apart() -> None:
    weight = normal(3, 3)
    weights = weight, weight.clone(), weight + 1, weight.double()
    layers = [Node(f"y{at}", ops.Linear(each, torch.zeros(3)), ("x",)) for at, each in enumerate(weights)]
    graph = Graph.of([Node("x", Input((3,)), ()), *layers], [node.name for node in layers])
    shared = graph.shared()
    first, same, *others = (op.weight for op in shared.ops(ops.Linear).values())
    assert first is same and all(other is not first for other in others)
    assert len({id(op.bias) for op in shared.ops(ops.Linear).values()}) == 1
    assert not shared.shared().changes(shared)
    assert all(
        torch.equal(tensor, shared.op(name).tensors()[field])
        for name, node in graph.nodes.items()
        for field, tensor in node.op.tensors().items()
    )


def test_shapes_are_those_of_real_samples() -> None:
    for name, (op, shapes) in operations().items():
        with naming(name):
            inputs = [Node(f"x{i}", Input(shape), ()) for i, shape in enumerate(shapes)]
            graph = Graph.of([*inputs, Node("y", op, tuple(n.name for n in inputs))], ["y"])
            assert graph.shapes["y"] == tuple(op(*(normal(5, *shape) for shape in shapes)).shape[1:])
            assert graph.inputs == tuple(n.name for n in inputs)


def test_the_size_is_worked_out_without_computing() -> None:
    images = {kind: (neuron, ((4, 7, 6),)) for kind, neuron in neuron_instances().items()}
    for name, op in members().items():
        with naming(name):
            _, shapes = (operations() | images).get(name, (op, ()))
            inputs = [Node(f"x{i}", Input(shape), ()) for i, shape in enumerate(shapes)]
            graph = Graph.of([*inputs, Node("y", op, tuple(n.name for n in inputs))], ["y"])
            assert graph.size() == sum(math.prod(shape) for shape in graph.shapes.values())


def test_the_size_of_what_would_never_fit_is_known() -> None:
    nodes = [Node("x", Input((1 << 40,)), ()), Node("y", ops.Pad((1 << 30, 0)), ("x",))]
    assert Graph.of(nodes, ["y"]).size() == (1 << 41) + (1 << 30)
    with pytest.raises(ValueError, match="node 'y' does not fit"):
        Graph.of([nodes[0], Node("y", ops.Transpose((0, 2, 1)), ("x",))], ["y"]).size()
    with pytest.raises(ValueError, match="node 'x' does not fit"):
        Graph.of([Node("x", Input((1 << 62, 1 << 62)), ())], ["x"]).size()


@pytest.mark.parametrize(
    "bad",
    [
        ops.Linear(torch.zeros(3, 5), None),
        ops.BatchNorm(*torch.ones(4, 3), 1e-5),
        ops.Affine(torch.zeros(3), None),
        ops.LeakyRelu(torch.zeros(3)),
        ops.QuantizedRelu(torch.ones(3), 4),
    ],
    ids=lambda op: type(op).__name__,
)
def test_shapes_name_the_node_that_does_not_fit(bad: Op) -> None:
    graph = Graph.of([X, Node("bad", bad, ("x",))], ["bad"])
    for shapes in (lambda: graph.shapes, graph.size):
        with pytest.raises(ValueError, match="node 'bad' does not fit its inputs"):
            shapes()


def test_with_ops_shares_what_it_does_not_replace() -> None:
    graph = chain()
    changed = graph.with_ops({"b": ops.LeakyRelu(torch.tensor(0.1))})
    assert all(changed.nodes[name] is graph.nodes[name] for name in ("x", "a", "c"))
    assert list(changed.changes(graph)) == ["b"]
    assert changed.nodes["b"].inputs == ("a",)
    assert not graph.changes(graph)
    assert not graph.with_ops({}).changes(graph)
    with pytest.raises(ValueError, match="no node is called 'z'"):
        graph.with_ops({"z": ops.Relu()})


def test_without_wires_readers_and_outputs_to_the_input() -> None:
    graph = chain().without("b")
    assert list(graph.nodes) == ["x", "a", "c"]
    assert graph.nodes["c"].inputs == ("a", "a")
    assert graph.changes(chain())["b"][1] is None
    last = Graph.of([X, Node("a", ops.Relu(), ("x",))], ["a"]).without("a")
    assert last.outputs == ("x",)
    with pytest.raises(ValueError, match="unpack"):
        chain().without("c")


@pytest.mark.parametrize("seed", range(4))
def test_consumers_and_ancestors_agree_with_the_edges(seed: int) -> None:
    graph = random_network(seed, relu)
    for name in graph.nodes:
        assert graph.consumers[name] == tuple(n for n, node in graph.nodes.items() if name in node.inputs)
        above = graph.ancestors([name])
        assert name in above
        assert all(set(graph.nodes[a].inputs) <= above for a in above)
        assert graph.ancestors([name], stop=[name]) == {name}


def test_dead_nodes_go_and_inputs_stay() -> None:
    net = Network((3, 4, 4))
    net.conv("x", 2, name="dead")
    net.conv("x", 2, name="live")
    graph = net.graph("live").without_dead()
    assert list(graph.nodes) == ["x", "live"]
    assert list(net.graph("x").without_dead().nodes) == ["x"]


def test_ops_are_found_by_kind_in_order() -> None:
    graph = random_network(0, relu)
    assert list(graph.ops(ops.Weighted)) == [n for n, node in graph.nodes.items() if isinstance(node.op, ops.Weighted)]
    assert not graph.ops(Neuron)
    assert set(graph.ops((Input, ops.Relu))) == {"x", *graph.ops(ops.Relu)}
