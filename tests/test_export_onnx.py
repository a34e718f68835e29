"""Networks as ONNX files: onnxruntime computes what the graph computes, and reading the file gives the graph back."""

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto
from torch import Tensor

from snnc import ops
from snnc.errors import ModelError, UsageError
from snnc.formats.onnx import BATCH, OPSETS, onnx_model, writers
from snnc.formats.onnx.operations import FAMILIES
from snnc.frontend import read_model
from snnc.ir import Graph, Input, Node, Op
from snnc.ir import operations as registered
from snnc.neurons import neurons
from snnc.neurons.base import Timed
from snnc.passes import Pass
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.fold_batch_norm import FoldBatchNorm
from snnc.passes.normalize_activations import NormalizeActivations
from tests.support import (
    Network,
    calibration,
    double,
    naming,
    normal,
    operations,
    outputs,
    random_network,
    relu,
    run,
    uniform,
)

MODELS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "models"
IMAGE, LINE = (4, 7, 6), (4, 9)
CHANNELS = uniform(0.3, 2, 4, 1, 1)
SLOPES = uniform(0.05, 0.4, 4, 1, 1)
HALF_OPEN = torch.tensor([0.5, torch.inf, 1, torch.inf]).reshape(4, 1, 1)

# What the operations of every test have not: other spellings, other ranks, other potentials.
FURTHER: dict[str, tuple[Op, tuple[tuple[int, ...], ...]]] = {
    "Conv plain": (ops.Conv(normal(3, 4, 1, 1), None, (1, 1), (0, 0, 0, 0), (1, 1)), (IMAGE,)),
    "ConvTranspose 1d": (ops.ConvTranspose(normal(4, 3, 4), None, (3,), (1, 0), (1,), (1,)), (LINE,)),
    "Linear flat": (ops.Linear(normal(5, 9), normal(5)), ((9,),)),
    "Linear flat without bias": (ops.Linear(normal(5, 9), None), ((9,),)),
    "Linear without bias": (ops.Linear(normal(5, 9), None), (LINE,)),
    "BatchNorm flat": (ops.BatchNorm(*uniform(0.5, 2, 4, 9), 1e-3), ((9,),)),
    "Affine shift": (ops.Affine(None, normal(4, 1, 1)), (IMAGE,)),
    "Add two": (ops.Add(), (IMAGE, (4, 1, 1))),
    "Concat last": (ops.Concat(3), (IMAGE, (4, 7, 2), IMAGE)),
    "Pad last": (ops.Pad((1, 2), -0.5), (IMAGE,)),
    "Reshape flat": (ops.Reshape((168,)), (IMAGE,)),
    "Mean kept": (ops.Mean((2, 3)), (IMAGE,)),
    "Mean of channels": (ops.Mean((1,), keep=False), (IMAGE,)),
    "AveragePool plain": (ops.AveragePool((2, 2), (2, 2), (0, 0, 0, 0), (0, 0, 0, 0)), (IMAGE,)),
    "AveragePool padded": (ops.AveragePool((3, 2), (2, 1), (1, 0, 2, 1), (0, 0, 0, 0)), (IMAGE,)),
    "AveragePool excess": (ops.AveragePool((3, 2), (2, 2), (0, 0, 0, 0), (1, 0, 1, 1)), (IMAGE,)),
    "AveragePool 1d": (ops.AveragePool((3,), (2,), (1, 2), (0, 1)), (LINE,)),
    "MaxPool wide": (ops.MaxPool((2, 2), (1, 1), (2, 0, 2, 0), (3, 1)), (IMAGE,)),
    "LeakyRelu per layer": (ops.LeakyRelu(torch.tensor(0.2)), (IMAGE,)),
    "ClippedRelu per layer": (ops.ClippedRelu(torch.tensor([0.8])), (IMAGE,)),
    "ClippedRelu half open": (ops.ClippedRelu(HALF_OPEN), (IMAGE,)),
    "ClippedRelu slope per channel": (ops.ClippedRelu(CHANNELS, torch.tensor(0.1)), (IMAGE,)),
    "ClippedRelu slope half open": (ops.ClippedRelu(HALF_OPEN, SLOPES), (IMAGE,)),
    "ClippedRelu slope infinite": (ops.ClippedRelu(torch.tensor(torch.inf), SLOPES), (IMAGE,)),
    "QuantizedRelu per layer": (ops.QuantizedRelu(torch.tensor([1.7]), 4), (IMAGE,)),
    "QuantizedRelu one level": (ops.QuantizedRelu(CHANNELS, 1), (IMAGE,)),
    "QuantizedRelu many levels": (ops.QuantizedRelu(CHANNELS, 200), (IMAGE,)),
    "QuantizedRelu unit steps": (ops.QuantizedRelu(torch.tensor(3.0), 3, None, torch.tensor(0.25)), (IMAGE,)),
    "QuantizedRelu unit": (ops.QuantizedRelu(torch.tensor(1.0), 1), (IMAGE,)),
    "QuantizedRelu from zero": (ops.QuantizedRelu(CHANNELS, 4, None, torch.tensor(0.0)), (IMAGE,)),
    "QuantizedRelu from anywhere": (ops.QuantizedRelu(CHANNELS, 4, None, uniform(0, 0.99, 4, 1, 1)), (IMAGE,)),
    "QuantizedRelu from below": (ops.QuantizedRelu(CHANNELS, 4, None, torch.tensor(-0.7)), (IMAGE,)),
    "QuantizedRelu from above": (ops.QuantizedRelu(CHANNELS, 4, None, uniform(-2, 2, 4, 1, 1)), (IMAGE,)),
    "QuantizedRelu slope per layer": (ops.QuantizedRelu(torch.tensor(1.3), 4, torch.tensor(0.2)), (IMAGE,)),
    "QuantizedRelu slope from zero": (ops.QuantizedRelu(CHANNELS, 4, SLOPES, torch.tensor(0.0)), (IMAGE,)),
    "QuantizedRelu slope from anywhere": (ops.QuantizedRelu(CHANNELS, 4, SLOPES, uniform(0, 0.9, 4, 1, 1)), (IMAGE,)),
}
CASES = {**operations(), **FURTHER}

# What reads back as operations other than that which was written, or with other fields, and computes the same.
READ_AS: dict[str, list[type[Op]]] = {
    # Files know rectifiers: a code is one around which values are shifted, or of values that were bent before.
    "ClippedCoding": [ops.Affine, ops.Relu, ops.Affine, ops.Affine, ops.Relu, ops.Affine],
    "ClippedCoding infinite": [],
    "Coding": [ops.LeakyRelu, ops.QuantizedRelu],
    "Resample": [ops.Take, ops.Affine, ops.Take, ops.Affine, ops.Add],
    "Resample many": [ops.Transpose, ops.Linear, ops.Transpose],
    # Only one of the shapes around it is another one.
    **{
        f"{kind.__name__} windows": [kind]
        for kind in (ops.Conv, ops.ConvTranspose, ops.BatchNorm, ops.AveragePool, ops.MaxPool)
    },
    "Affine": [ops.Affine, ops.Affine],
    "Pad last": [ops.Pad],
    "AveragePool": [ops.Pad, ops.AveragePool],
    "AveragePool 1d": [ops.Pad, ops.AveragePool],
    "MaxPool wide": [ops.Pad, ops.MaxPool],
    "ClippedRelu infinite": [ops.Relu],
    "Power root": [ops.Power],
    "Remainder floored": [ops.Remainder, ops.Affine, ops.Remainder],
    "ClippedRelu slope infinite": [ops.LeakyRelu],
    # A neuron starts from zero on and below its threshold: what else there is becomes a bias.
    "QuantizedRelu from below": [ops.Affine, ops.QuantizedRelu],
    "QuantizedRelu from above": [ops.Affine, ops.QuantizedRelu],
}


def single(name: str) -> Graph:
    op, shapes = CASES[name]
    entries = [Node(f"x{index}", Input(shape), ()) for index, shape in enumerate(shapes)]
    return Graph.of([*entries, Node("y", op, tuple(entry.name for entry in entries))], ["y"])


def computed(graph: Graph, samples: list[Tensor]) -> list[Tensor]:
    values = dict(zip(graph.inputs, samples, strict=True))
    for name, node in graph.nodes.items():
        if node.inputs:
            values[name] = node.op(*(values[value] for value in node.inputs))
    return [values[name] for name in graph.outputs]


def answered(model: ModelProto, samples: list[Tensor]) -> list[Tensor]:
    """What onnxruntime computes, with all that it optimizes by itself."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {value.name: x.numpy() for value, x in zip(session.get_inputs(), samples, strict=True)}
    return [torch.from_numpy(value) for value in session.run(None, feeds)]


def samples(graph: Graph, batch: int) -> list[Tensor]:
    return [normal(batch, *op.shape, seed=seed) * 2 for seed, op in enumerate(graph.ops(Input).values())]


def checked(graph: Graph, opset: int = 17) -> ModelProto:
    """The file, valid and with the outputs of the shapes that it says."""
    model = onnx_model(graph, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    return model


def read(graph: Graph, folder: Path) -> Graph:
    path = folder / "model.onnx"
    path.write_bytes(onnx_model(graph).SerializeToString())
    return read_model(path).graph


def assert_computes_alike(graph: Graph, batches: tuple[int, ...] = (1, 3), opset: int = 17) -> None:
    """Every node of the file computes, from what the file computed before it, what the node of the graph does.

    Where numbers cross the steps of a quantization is thus of no consequence for those behind.
    """
    whole = Graph(graph.nodes, tuple(graph.nodes))
    model, plain = checked(whole, opset), checked(graph, opset)
    for batch in batches:
        given = samples(graph, batch)
        values = dict(zip(whole.outputs, answered(model, given), strict=True))
        for name, node in graph.nodes.items():
            if not node.inputs:
                continue
            wanted = node.op(*(values[value] for value in node.inputs))
            exact = isinstance(node.op, ops.QuantizedRelu)
            tolerance = 0 if exact else 1e-5 * max(float(wanted.abs().max()), 1)
            torch.testing.assert_close(values[name], wanted, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
        for name, value in zip(graph.outputs, answered(plain, given), strict=True):
            assert value.shape == (batch, *graph.shapes[name])


def differences(ours: Op, theirs: Op) -> list[str]:
    """The fields of an operation that are not what they were, but for the rounding of single precision."""
    if type(ours) is not type(theirs):
        return [f"{type(ours).__name__} became {type(theirs).__name__}"]
    if isinstance(ours, ops.Slice) and isinstance(theirs, ops.Slice):
        # Where the last step ends beyond the last entry is of no consequence.
        slices = [(op.axis, range(op.start, op.stop, op.step)) for op in (ours, theirs)]
        return [] if slices[0] == slices[1] else [f"{slices[0]} became {slices[1]}"]
    found = []
    for field in dataclasses.fields(ours):  # type: ignore[arg-type]
        old, new = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(old, Tensor) and isinstance(new, Tensor):
            close = torch.allclose(old, new, rtol=2e-7, atol=1e-7)
            if isinstance(ours, ops.QuantizedRelu) and field.name == "ceiling":
                # What decides on which step a value lies, and what a step is worth, is exact.
                pairs = (ours.levels / old, ours.levels / new), (old / ours.levels, new / ours.levels)
                close = all(torch.equal(*torch.broadcast_tensors(*pair)) for pair in pairs)
            same = close and torch.broadcast_shapes(old.shape, new.shape)
        elif isinstance(old, float):
            same = abs(old - new) <= 1e-6 * abs(old)
        else:
            same = old == new
        found += [] if same is not False else [f"{type(ours).__name__}.{field.name} was {old}, is {new}"]
    return found


def assert_same_graph(before: Graph, after: Graph) -> None:
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert set(after.nodes) == set(before.nodes)
    for name, node in after.nodes.items():
        assert node.inputs == before.nodes[name].inputs, name
        assert not differences(before.op(name), node.op), name


# One operation.


def test_every_stateless_operation_has_a_writer() -> None:
    stateless = {kind for kind in registered.values() if not issubclass(kind, Timed)}
    assert len(stateless) >= 20
    assert set(writers) - {*FAMILIES} == stateless | {Timed}
    assert {type(op) for op, _ in CASES.values()} == stateless - {Input}


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_computes_the_operation(name: str) -> None:
    for opset in (13, 17, 18, 21):
        with naming(opset):
            graph = single(name)
            if name.startswith("GridSample") and opset < 16:
                with pytest.raises(ModelError, match=f"opset {opset} of ONNX"):
                    onnx_model(graph, opset=opset)
                continue
            assert_computes_alike(graph, opset=opset)


# Left out where a network ends with it.
ENDINGS = ("ArgMax", "Ranked", "RankedPlaces", "LogSoftmax", "Sigmoid", "Softmax")


@pytest.mark.parametrize("name", [n for n, (_, shapes) in CASES.items() if len(shapes) == 1 and n not in ENDINGS])
def test_the_operation_is_read_back(name: str, tmp_path: Path) -> None:
    graph = single(name)
    after = read(graph, tmp_path)
    kinds = [type(node.op) for node in after.nodes.values() if node.inputs]
    assert kinds == READ_AS.get(name, [type(graph.op("y"))])
    assert all(output.startswith("y") for output in after.outputs) == bool(kinds)
    if name not in READ_AS:
        assert after.outputs == ("y",)
        assert_same_graph(graph, after)
    for batch in (1, 3):
        given = samples(graph, batch)
        torch.testing.assert_close(computed(after, given), computed(graph, given), rtol=1e-5, atol=1e-5)


# Whole networks.


def activations(kind: str, seed: int) -> Callable[[Network, str], str]:
    """Activations for ``random_network`` per channel or per layer, with slopes and at any potential."""
    choose = random.Random(seed)

    def add(net: Network, value: str) -> str:
        channels = (net.shapes[value][0], *(1 for _ in net.shapes[value][1:]))
        ceiling = 0.3 + net.random(*channels).abs()
        ceiling = ceiling if choose.random() < 0.7 else ceiling.mean()
        slope = torch.rand(channels, generator=torch.Generator().manual_seed(seed)) if choose.random() < 0.3 else None
        potential = choose.choice([torch.tensor(0.5), torch.tensor(0.0), uniform(0, 0.99, *channels)])
        if kind == "clipped":
            return net.add(ops.ClippedRelu(ceiling, slope), value)
        return net.add(ops.QuantizedRelu(ceiling, choose.randint(1, 9), slope, potential), value)

    return relu if kind == "relu" else add


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["relu", "clipped", "quantized"])
def test_networks_return(kind: str, seed: int, tmp_path: Path) -> None:
    graph = random_network(seed, activations(kind, seed), norms=True)
    assert_computes_alike(graph)
    after = read(graph, tmp_path)
    # onnxruntime merges pads into what follows them.
    kept = [{n: op for n, op in g.ops(Op).items() if not isinstance(op, ops.Pad)} for g in (graph, after)]
    assert set(kept[0]) == set(kept[1])
    for name, op in kept[0].items():
        assert type(kept[1][name]) is type(op)
        assert not isinstance(op, ops.Activation | ops.BatchNorm) or not differences(op, kept[1][name])
    if not graph.ops(ops.Pad):
        assert_same_graph(graph, after)
    for batch in (1, 3):
        x = samples(graph, batch)[0].double()
        (wanted,), (found,) = outputs(double(graph), x), outputs(double(after), x)
        assert float((found - wanted).norm()) <= 1e-5 * float(wanted.norm())


REAL = [
    "cifar10_resnet20",
    "cifar10_resnet20_default",
    "cifar10_nin",
    "mnist_resnet10_uniform3bit",
    "coco_yolofastestv2",
    "imagenet_mobilenetv2_100_224_default",
    "nmnist_cnn_nir",
]


def real(name: str) -> Path:
    path = MODELS / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{name} is not beside the repository")
    return path


@pytest.mark.parametrize("name", REAL)
def test_real_networks_return(name: str, tmp_path: Path) -> None:
    graph = read_model(real(name)).graph
    assert_computes_alike(graph, batches=(3,))
    after = read(graph, tmp_path)
    assert_same_graph(graph, after)
    # Written from the same operations, the file is the same.
    assert_same_graph(after, read(after, tmp_path))


@pytest.mark.parametrize("per", ["channel", "layer"])
@pytest.mark.parametrize("folded", [False, True])
def test_a_real_network_returns_quantized(folded: bool, per: str, tmp_path: Path) -> None:
    graph = read_model(real("cifar10_resnet20")).graph
    steps: list[Pass] = [NormalizeActivations(), CalibrateThresholds(source="gaussian", per=per)]  # type: ignore[arg-type]
    look = calibration(graph)
    for step in [FoldBatchNorm(), *steps] if folded else steps:
        graph = step(graph, dataclasses.replace(look, reference=graph))
    assert bool(graph.ops(ops.BatchNorm)) != folded
    assert Counter(type(op) for op in graph.ops(ops.Activation).values()) == {ops.QuantizedRelu: 19}
    assert_computes_alike(graph, batches=(3,))
    after = read(graph, tmp_path)
    assert_same_graph(graph, after)
    x = samples(graph, 3)[0].double()
    (wanted,), (found,) = outputs(double(graph), x), outputs(double(after), x)
    assert float((found - wanted).norm()) <= 1e-5 * float(wanted.norm())


# The file.


def test_the_batch_is_named_and_names_stay() -> None:
    net = Network(IMAGE)
    net.add(ops.QuantizedRelu(CHANNELS, 4), name="first")
    net.add(ops.Affine(torch.tensor(2.0), CHANNELS), name="second")
    model = checked(net.graph("second", "first"))
    for values, names in ((model.graph.input, ["x"]), (model.graph.output, ["second", "first"])):
        assert [value.name for value in values] == names
        for value in values:
            assert value.type.tensor_type.shape.dim[0].dim_param == BATCH
            assert tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)[1:] == IMAGE
    assert {"first", "second"} < {node.name for node in model.graph.node}
    assert {node.domain for node in model.graph.node} == {""}
    assert model.SerializeToString() == checked(net.graph("second", "first")).SerializeToString()


def test_inputs_may_be_outputs_and_outputs_inside() -> None:
    net = Network(IMAGE)
    net.add(ops.Relu(), name="a")
    net.add(ops.Relu(), name="b")
    assert_computes_alike(net.graph("x", "b", "a"))


def test_names_that_look_like_ours_stay_apart() -> None:
    net = Network(IMAGE)
    for name in ("y/steps", "y/mul", "y", "y/mul_2"):
        net.add(ops.QuantizedRelu(CHANNELS, 4), name=name)
    assert_computes_alike(net.graph())


def test_an_affine_map_of_nothing_is_one() -> None:
    net = Network(IMAGE)
    net.add(ops.Affine(None, None))
    net.add(ops.Relu())
    assert_computes_alike(net.graph())


def test_double_precision_becomes_single() -> None:
    graph = random_network(0, relu, norms=True)
    assert onnx_model(double(graph)).SerializeToString() == onnx_model(graph).SerializeToString()


@pytest.mark.parametrize("kind", neurons)
def test_neurons_are_refused_by_name(kind: str) -> None:
    net = Network(IMAGE)
    net.add(ops.Relu())
    net.add(neurons[kind](torch.tensor(1.0)), name="culprit")
    with pytest.raises(ModelError, match="culprit") as caught:
        onnx_model(net.graph())
    assert "\n" not in caught.value.line


@pytest.mark.parametrize("opset", [OPSETS[0] - 1, OPSETS[-1] + 1])
def test_other_opsets_are_refused(opset: int) -> None:
    with pytest.raises(UsageError, match=re.escape(f"opset {opset}")):
        onnx_model(single("Relu"), opset=opset)


@pytest.mark.parametrize("levels", [1, 2, 3, 5, 7, 9, 15, 16])
def test_thresholds_come_back_exactly(levels: int, tmp_path: Path) -> None:
    """Else values on a step could end up on another one."""
    ceiling = 0.1 + 5 * torch.rand(300, 1, 1, generator=torch.Generator().manual_seed(levels))
    net = Network((300, 2, 2))
    name = net.add(ops.QuantizedRelu(ceiling, levels), "x")
    (tmp_path / "m.onnx").write_bytes(onnx_model(net.graph()).SerializeToString())
    read = read_model(tmp_path / "m.onnx").graph.op(name)
    assert isinstance(read, ops.QuantizedRelu)
    assert torch.equal(levels / read.ceiling, levels / ceiling)
    assert torch.equal(read.ceiling / levels, ceiling / levels)


@pytest.mark.parametrize("bias", [None, 0.0, 0.3])
@pytest.mark.parametrize("shape", [(6,), (4, 6)])
@pytest.mark.parametrize("potential", [0.0, 0.5])
def test_a_layer_and_its_activation_are_read_apart(
    bias: float | None, shape: tuple[int, ...], potential: float, tmp_path: Path
) -> None:
    for index, activation in enumerate(
        (
            ops.ClippedRelu(torch.tensor([6.0])),
            ops.ClippedRelu(torch.arange(1.0, 6.0)),
            ops.QuantizedRelu(torch.tensor([4.0]), 4, None, torch.tensor(potential)),
            ops.QuantizedRelu(torch.arange(1.0, 6.0), 3, None, torch.tensor(potential)),
        )
    ):
        net = Network(shape)
        weight = net.random(5, 6)
        net.add(activation, net.add(ops.Linear(weight, None if bias is None else torch.full((5,), bias)), "x"))
        graph = net.graph()
        file = tmp_path / f"{index}.onnx"
        file.write_bytes(onnx_model(graph).SerializeToString())
        read = read_model(file).graph
        kinds = [type(node.op) for node in read.nodes.values()]
        assert [kind for kind in kinds if kind is not ops.Affine] == [Input, ops.Linear, type(activation)]
        x = normal(50, *shape)
        (wanted,), (found,) = (run(g, {g.inputs[0]: x[None]}, g.outputs).values() for g in (graph, read))
        far = (wanted - found).abs() > 1e-5
        assert float(far.float().mean()) < 0.01
