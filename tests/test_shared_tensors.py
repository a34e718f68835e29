"""Tensors that several nodes share, as the copies of a recurrent cell do: kept once wherever networks are kept."""

import io
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from snnc import ops
from snnc.artifact import load_conversion, save_conversion
from snnc.feeds import Feeds
from snnc.formats.onnx import onnx_model
from snnc.formats.torch import TorchProgram, torch_file
from snnc.ir import Graph, Input, Node
from snnc.module import SpikingNetwork
from snnc.neurons import neurons
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.training.network import TrainableNetwork
from snnc.training.optimization import minimize
from tests.support import normal
from tests.test_export_spiking_onnx import conversion

COPIES = 6
SIZE = 24


def recurrent() -> Graph:
    """A cell whose copies share weights, each before a neuron of its own."""
    weight, bias = normal(SIZE, SIZE) / SIZE**0.5, normal(SIZE)
    nodes = [Node("x", Input((SIZE,)), ())]
    for index in range(COPIES):
        value = nodes[-1].name
        nodes.append(Node(f"cell{index}", ops.Linear(weight, bias), (value,)))
        nodes.append(Node(f"fires{index}", neurons["if"](torch.tensor([0.5 + index / 10])), (f"cell{index}",)))
    return Graph.of(nodes, [nodes[-1].name])


def weights(graph: Graph) -> list[Tensor]:
    """The weights, each once."""
    return list({id(op.weight): op.weight for op in graph.ops(ops.Linear).values()}.values())


def test_a_file_gives_back_one_tensor(tmp_path: Path) -> None:
    path = tmp_path / "model.snn"
    save_conversion(conversion(recurrent(), Schedule(4)), path)
    assert len(weights(load_conversion(path).snn)) == 1


def test_tensors_are_mapped_once() -> None:
    doubled = recurrent().map_tensors(lambda tensor: tensor.double())
    assert len(weights(doubled)) == 1
    assert weights(doubled)[0].dtype == torch.double


def test_tensors_that_stay_leave_their_operations() -> None:
    graph = recurrent()
    assert not graph.map_tensors(lambda tensor: tensor).changes(graph)


def test_a_module_keeps_one_buffer() -> None:
    graph = recurrent()
    module = SpikingNetwork(conversion(graph, Schedule(4)))
    assert [name for name in module.state_dict() if name.endswith(":weight")] == ["cell0:weight"]
    x = normal(3, SIZE)
    wanted = Program(graph, Schedule(4))(Feeds({"x": x}))[graph.outputs[0]][0]
    torch.testing.assert_close(module(x), wanted)
    torch.testing.assert_close(module.double()(x.double()).float(), wanted)


def test_an_onnx_file_has_one_constant() -> None:
    graph = recurrent().with_ops({f"fires{index}": ops.Relu() for index in range(COPIES)})
    model = onnx_model(graph)
    assert len([tensor for tensor in model.graph.initializer if [*tensor.dims] == [SIZE, SIZE]]) == 1


def test_a_program_of_torch_has_one_buffer() -> None:
    snn, schedule = recurrent(), Schedule(2)
    data = torch_file(conversion(snn, schedule))
    program = TorchProgram(data, snn, schedule)
    x = normal(3, SIZE)
    (answer,) = program.answer(Feeds({"x": x}))[0].values()
    torch.testing.assert_close(answer, Program(snn, schedule)(Feeds({"x": x}))[snn.outputs[0]][0])
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert sum(entry.file_size == 4 * SIZE * SIZE for entry in file.infolist()) == 1


def test_shared_weights_are_trained_together() -> None:
    graph = recurrent()
    network = TrainableNetwork(graph, Schedule(4), graph.ops(ops.Linear))
    assert len(network.weights) == 2
    x, goal = Feeds({"x": normal(8, SIZE)}), normal(8, SIZE).relu()

    def loss(batch: Tensor) -> Tensor:
        return (network(x, graph.outputs)[graph.outputs[0]] - goal)[batch].square().mean()

    minimize(network, torch.clone, loss, iter([torch.arange(8)] * 3), steps=3, learning_rate=0.01, place="here")
    after = network.graph()
    assert len(weights(after)) == 1
    assert not torch.equal(weights(after)[0], weights(graph)[0])
