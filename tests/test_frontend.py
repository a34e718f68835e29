"""The front door on whole networks: every exporter, real files, bad files, and what the survey says."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from snnc import ops
from snnc.errors import DataError, ModelError, VerificationError
from snnc.frontend import open_model, read_model
from snnc.frontend.canonical import OnnxNode
from snnc.frontend.cost import macs
from snnc.ir import Graph
from tests.frontend_files import WITHIN, array, computed, integers, one, parity, run, save

MODELS = Path(__file__).parents[1] / ".." / "shared" / "data" / "models"

pytestmark = pytest.mark.usefixtures("torchscript_here")


def exported(model: nn.Module, shape: tuple[int, ...], path: Path, how: str) -> tuple[int, ...] | None:
    """Write the network in one of the spellings; return the input shape that reading it needs."""
    model = model.eval()
    x = torch.zeros(2, *shape)
    with warnings.catch_warnings():
        # torch deprecates TorchScript and its older exporter.
        warnings.simplefilter("ignore")
        if how == "legacy":
            names = {"input_names": ["input"], "dynamic_axes": {"input": {0: "N"}}}
            torch.onnx.export(model, (x,), path, dynamo=False, **names)
        elif how == "pinned":
            torch.onnx.export(model, (x[:1],), path, dynamo=False, input_names=["input"])
        else:
            scripted = torch.jit.trace(model, x) if how == "traced" else torch.jit.script(model)
            torch.jit.save(scripted, path)
            return shape
    return None


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.shortcut = nn.Conv2d(3, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)) + self.shortcut(x))
        return self.fc(y.mean((2, 3)))


class Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.conv(x))
        y = F.dropout(y, 0.5, self.training)
        return self.fc(y.view(y.size(0), -1))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        a, b = x.chunk(2, 1)
        y = torch.cat((F.leaky_relu(self.conv(torch.cat((b, a), 1)), 0.2), x), 1)
        y = y.view(n, 2, c, h, w).transpose(1, 2).reshape(n, 2 * c, h, w)
        return F.interpolate(F.max_pool2d(y, 2), scale_factor=2.0)


class Merged(nn.Module):
    """The channel shuffle of Yolo-FastestV2, which merges the batch with the channels."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        y = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
        return F.relu(y[0]) + y[1]


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm1d(4)
        self.fc = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.prelu(self.norm(self.up(F.relu(self.conv(x)))), torch.full((4,), 0.3))
        return self.fc(F.pad(y, (-1, 1)).flip(1)).softmax(-1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 8, 8)),
    "views": (Views, (3, 8, 8)),
    "shuffle": (Shuffle, (4, 6, 6)),
    "sequence": (Sequence, (4, 10)),
    "mlp": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 3, bias=False)), (3, 4, 4)),
    "pools": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.Hardtanh(0.0, 2.0),
            nn.AvgPool2d(3, 2, 1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.ReflectionPad2d(1),
            nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
            nn.PixelShuffle(2),
            nn.AdaptiveAvgPool2d(1),
        ),
        (3, 12, 12),
    ),
}


def randomized(model: nn.Module) -> nn.Module:
    """Give the network reproducible weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_var.abs_().add_(0.2)
    return model.eval()


@pytest.mark.parametrize("how", ["legacy", "pinned", "traced", "scripted"])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_older_exporter(network: str, how: str, tmp_path: Path) -> None:
    make, shape = NETWORKS[network]
    model = randomized(make())
    path = tmp_path / "model"
    graph = read_model(path, exported(model, shape, path, how)).graph
    for batch in (1, 3):
        x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = model(x)
            (computed,) = run(graph, x)
        if network == "sequence":
            computed = computed.softmax(-1)
        torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-5)
    assert graph.shapes[graph.outputs[0]] == tuple(expected.shape[1:])


class Together(nn.Module):
    """Networks side by side, each with an input and an output of its own."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(member(x) for member, x in zip(self.members, inputs, strict=True))


def test_the_newer_exporter(tmp_path: Path) -> None:
    """All networks at once: it takes longer to begin than to write one."""
    networks = {**NETWORKS, "merged": (Merged, (6, 4, 5))}
    shapes = [shape for _, shape in networks.values()]
    model = Together([randomized(make()) for make, _ in networks.values()]).eval()
    path, batch = tmp_path / "model", {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        # It warns about itself.
        warnings.simplefilter("ignore")
        examples = tuple(torch.zeros(2, *shape) for shape in shapes)
        torch.onnx.export(
            model, examples, path, dynamo=True, dynamic_shapes=(tuple(batch for _ in shapes),), verbose=False
        )
    graph = read_model(path).graph
    assert len(graph.outputs) == len(networks)
    for count in (1, 3):
        generator = torch.Generator().manual_seed(count)
        inputs = [torch.randn(count, *shape, generator=generator) for shape in shapes]
        values = computed(graph, dict(zip(graph.inputs, inputs, strict=True)))
        for name, output, member, x in zip(networks, graph.outputs, model.members, inputs, strict=True):
            with torch.no_grad():
                # The merged one does this right for a batch of one only.
                expected = torch.cat([member(sample) for sample in x.split(1)])
            found = values[output].softmax(-1) if name == "sequence" else values[output]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=lambda text: f"{name}: {text}")  # noqa: B023
            assert graph.shapes[output] == tuple(expected.shape[1:]), name


@pytest.mark.parametrize("how", ["legacy", "pinned", "traced"])
def test_batch_merged_with_channels(how: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    graph = read_model(path, exported(Merged(), (6, 4, 5), path, how)).graph
    x = torch.randn(3, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    # The network itself does this right for a batch of one only.
    expected = torch.cat([Merged()(sample) for sample in x.split(1)])
    torch.testing.assert_close(run(graph, x)[0], expected)


def test_batch_norm_stays_visible(tmp_path: Path) -> None:
    for how in ("traced", "scripted"):
        path = tmp_path / how
        shape = exported(randomized(Residual()), (3, 8, 8), path, how)
        assert len(read_model(path, shape).graph.ops(ops.BatchNorm)) == 1


REAL = [
    ("cifar10_resnet20", ".onnx"),
    ("cifar10_resnet20", "_default.onnx"),
    ("cifar10_resnet20", ".pt"),
    ("cifar10_nin", ".onnx"),
    ("cifar10_nin", "_default.onnx"),
    ("cifar10_nin", ".pt"),
    ("imagenet_mobilenetv2_100_224", "_default.onnx"),
    ("imagenet_mobilenetv2_100_224", ".pt"),
    ("nmnist_cnn_nir", ".onnx"),
    ("nmnist_cnn_nir", "_default.onnx"),
    ("nmnist_cnn_nir", ".pt"),
    ("mnist_resnet10_uniform3bit", ".onnx"),
    ("mnist_resnet10_uniform3bit", "_default.onnx"),
    ("mnist_resnet10_uniform3bit", ".pt"),
    ("coco_yolofastestv2", ".onnx"),
    ("coco_yolofastestv2", "_default.onnx"),
    ("coco_yolofastestv2", ".pt"),
    ("vnncomp_cifar10_vit_pgd_2_3_16", ".onnx"),
]


def real(name: str) -> Path:
    path = MODELS / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside the repository")
    return path


def oracle(path: Path, x: Tensor) -> np.ndarray:
    """Run the file on samples one by one, with onnxruntime or TorchScript."""
    if path.suffix == ".pt":
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            module = torch.jit.load(path)
            return torch.cat([module(sample) for sample in x.split(1)]).numpy()
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample.numpy()})[0] for sample in x.split(1)])


@pytest.mark.parametrize(("name", "spelling"), REAL)
def test_real_network(name: str, spelling: str) -> None:
    path = real(name + spelling)
    shape = tuple(json.loads((MODELS / "manifest.json").read_text())[name]["input"])
    model = read_model(path, shape if path.suffix == ".pt" else None)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    expected = oracle(path, x)
    (computed,) = run(model.graph, x)
    assert tuple(computed.shape) == expected.shape
    assert np.linalg.norm(computed.numpy() - expected) < 1e-4 * np.linalg.norm(expected)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", node) for node in model.graph.nodes)


def test_quantized_network_keeps_its_levels() -> None:
    graph = read_model(real("mnist_resnet10_uniform3bit.onnx")).graph
    assert [op.levels for op in graph.ops(ops.QuantizedRelu).values()] == [7] * 11
    assert not graph.ops(ops.Affine)


def test_transformer_is_read_with_its_attention() -> None:
    graph = read_model(real("vnncomp_cifar10_vit_pgd_2_3_16.onnx")).graph
    kinds = [type(node.op) for node in graph.nodes.values()]
    assert (kinds.count(ops.MatMul), kinds.count(ops.Softmax)) == (4, 2)


CLASSIFIER = [one("Gemm", ["x", "w"], ["g"]), one("Relu", ["g"], ["r"])]


@pytest.mark.parametrize("ending", ["Softmax", "LogSoftmax", "Sigmoid", "ArgMax"])
def test_a_closing_softmax_is_left_out(ending: str, tmp_path: Path) -> None:
    code = "post-processing-removed" if ending == "ArgMax" else "output-softmax-removed"
    attributes = {} if ending == "Sigmoid" else {"axis": 1}
    nodes = [*CLASSIFIER, one(ending, ["r"], ["p"], **attributes), one("Identity", ["p"])]
    kind = TensorProto.INT64 if ending == "ArgMax" else TensorProto.FLOAT
    path = save(tmp_path / "m.onnx", nodes, (4,), {"w": array(4, 3)})
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = kind
    onnx.save(model, path)
    read = read_model(path)
    assert [(finding.code, finding.severity) for finding in read.findings] == [(code, "info")]
    assert isinstance(read.graph.op(read.graph.outputs[0]), ops.Relu)
    assert [(verdict.operation, verdict.becomes) for verdict in open_model(path).survey.verdicts] == [
        ("Gemm", "Linear"),
        ("Relu", "Relu"),
        (ending, "left out"),
        ("Identity", "left out"),
    ]


def test_a_softmax_inside_is_not_left_out(tmp_path: Path) -> None:
    nodes = [*CLASSIFIER, one("Softmax", ["r"], ["p"], axis=1), one("Relu", ["p"])]
    model = parity(save(tmp_path / "m.onnx", nodes, (4,), {"w": array(4, 3)}), (4,))
    assert len(model.graph.ops(ops.Softmax)) == 1
    assert not model.findings


def test_names_are_identifiers_and_sources_are_kept(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="/0/block.1/Relu"),
        helper.make_node("Neg", ["a"], ["b"], name="/0/block_1/Relu"),
        helper.make_node("Clip", ["b", "l", "h"], ["v/1"]),
        helper.make_node("Split", ["v/1"], ["c", "y"], name="split", axis=1, num_outputs=2),
        helper.make_node("Relu", ["c"], ["z"], name="Σ"),
    ]
    bounds = {"l": np.float32(-1), "h": np.float32(1)}
    graph = read_model(save(tmp_path / "m.onnx", nodes, (4, 2), bounds, ["y", "z"], 18)).graph
    assert {name: node.source for name, node in graph.nodes.items()} == {
        "x": ("x",),
        "node_0_block_1_Relu": ("/0/block.1/Relu",),
        "node_0_block_1_Relu_2": ("/0/block_1/Relu",),
        "v_1_clippedrelu_affine": ("v/1",),
        "v_1_clippedrelu": ("v/1",),
        "v_1": ("v/1",),
        "split_0": ("split",),
        "split_1": ("split",),
        "node": ("Σ",),
    }
    assert graph.outputs == ("split_1", "node")


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model"
    exported(randomized(Shuffle()), (4, 6, 6), path, "legacy")
    first, second = read_model(path), read_model(path)
    assert list(first.graph.nodes) == list(second.graph.nodes)
    assert first.sha256 == second.sha256


def tensors(graph: Graph) -> Iterator[Tensor]:
    for node in graph.nodes.values():
        yield from node.op.tensors().values()


def test_tensors_are_single_precision_and_own_their_memory(tmp_path: Path) -> None:
    path = tmp_path / "model"
    exported(randomized(Residual()), (3, 8, 8), path, "legacy")
    found = list(tensors(read_model(path).graph))
    assert found
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in found)


def test_survey_of_a_fine_network(tmp_path: Path) -> None:
    path = tmp_path / "model"
    exported(randomized(Views()), (3, 8, 8), path, "legacy")
    seen = open_model(path).survey
    assert (seen.input_shapes, seen.output_shapes) == ({"input": (3, 8, 8)}, ((5,),))
    assert seen.producer.startswith("pytorch")
    assert seen.opset >= 11
    assert seen.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    becomes = {verdict.operation: verdict.becomes for verdict in seen.verdicts}
    assert becomes["Conv"] == "Conv"
    assert becomes["Clip"] == "ClippedRelu"
    assert becomes["Gemm"] == "Linear"
    assert seen.macs == 8 * 4 * 4 * 27 + 128 * 5
    assert sum(verdict.share for verdict in seen.verdicts) == pytest.approx(1)
    assert not seen.problems


def test_survey_lists_what_was_folded_away(tmp_path: Path) -> None:
    nodes = [
        one("Shape", ["x"], ["s"]),
        one("Gather", ["s", "zero"], ["n"]),
        one("Concat", ["n", "rest"], ["t"], axis=0),
        one("Relu", ["x"], ["r"]),
        one("Reshape", ["r", "t"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, (4, 2), {"zero": integers(0), "rest": integers(-1)})
    seen = [(verdict.operation, verdict.becomes) for verdict in open_model(path).survey.verdicts]
    assert [kind for kind, _ in seen] == ["Shape", "Gather", "Concat", "Relu", "Reshape"]
    assert [becomes for _, becomes in seen] == ["folded away"] * 3 + ["Relu", "Reshape"]
    parity(path, (4, 2))


def test_all_problems_are_listed_at_once_a_line_for_each_function(tmp_path: Path) -> None:
    nodes = [
        one("Conv", ["x", "w"], ["a"]),
        *(one("RandomNormalLike", ["a"], [f"b{number}"]) for number in range(5)),
        one("Sum", ["a", "b0", "b1", "b2", "b3", "b4"], ["c"]),
        helper.make_node("Fancy", ["c"], ["d"], name="the/fancy", domain="com.example"),
        one("Conv", ["d", "w"], ["e"]),
        one("Bernoulli", ["c"], ["f"]),
        one("NonZero", ["f"], ["n"]),
        one("Cast", ["n"], ["m"], to=TensorProto.FLOAT),
        one("MatMul", ["k", "m"], ["g"]),
    ]
    constants = {"w": array(3, 3, 3, 3), "k": array(2, 4)}
    path = save(tmp_path / "m.onnx", nodes, (3, 8, 8), constants, ["e", "g"], opset=18)
    seen = open_model(path).survey
    assert [refusal.operation for refusal in seen.refusals] == ["RandomNormalLike", "Fancy", "Bernoulli", "NonZero"]
    assert [len(refusal.names) for refusal in seen.refusals] == [5, 1, 1, 1]
    assert all(verdict.problem and verdict.hint and not verdict.becomes for verdict in seen.problems)
    behind = [verdict.name for verdict in seen.verdicts if "behind" in verdict.becomes]
    assert behind == ["the/Conv/e", "the/Cast/m", "the/MatMul/g"]
    message = r"8 of 13 operations cannot become spiking \(0.0 % of the MACs\), and 3 behind them cannot be judged yet"
    with pytest.raises(ModelError, match=message) as caught:
        read_model(path)
    random, fancy, bernoulli, nonzero = caught.value.details
    names = ", ".join(f"the/RandomNormalLike/b{number}" for number in range(3))
    assert random.startswith(f"RandomNormalLike, 5 times ({names} and 2 more): it draws at random; export ")
    assert fancy.startswith("the/fancy (Fancy): a custom operation of 'com.example'")
    assert bernoulli.startswith("the/Bernoulli/f (Bernoulli): it draws at random")
    assert "depends on the data" in nonzero
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("within", WITHIN.values(), ids=WITHIN)
@pytest.mark.parametrize("kind", ["Bernoulli", "MaxUnpool", "RandomNormalLike"])
def test_what_is_within_a_function_or_a_branch_is_refused_for_what_it_is(
    kind: str, within: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Its reason is its own, and its share of the work is counted once, however many results there are."""
    inputs = ["p", "i"] if kind == "MaxUnpool" else ["a"]
    nodes = [
        one("Conv", ["x", "w"], ["a"]),
        one("MaxPool", ["a"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        one("Transpose", ["p"], ["t"]),
        one(kind, inputs, ["u"], **({"kernel_shape": [2, 2], "strides": [2, 2]} if kind == "MaxUnpool" else {})),
        one("Cast", ["u"], ["c"], to=TensorProto.FLOAT),
    ]
    path = save(tmp_path / "m.onnx", nodes, (3, 8, 8), {"w": array(3, 3, 3, 3)}, ["t", "c"])
    plain = open_model(path).survey.problems
    found = open_model(within(path)).survey.problems
    assert {(verdict.problem, verdict.hint) for verdict in found} <= {(v.problem, v.hint) for v in plain}
    assert found and sum(verdict.share for verdict in found) <= 1


@pytest.mark.parametrize(
    ("node", "inputs", "constants", "work"),
    [
        (one("LSTM", ["x", "w", "r"], ["y"], hidden_size=3), (5, 2, 4), {"w": (1, 12, 4), "r": (1, 12, 3)}, 10 * 84),
        (one("Einsum", ["x", "w"], equation="...id,dj->...ij"), (2, 5, 4), {"w": (4, 3)}, 2 * 5 * 4 * 3),
        (one("MatMul", ["x", "w"]), (5, 4), {"w": (4, 3)}, 60),
    ],
)
def test_what_multiplies_has_its_share_of_the_work(
    node: onnx.NodeProto, inputs: tuple[int, ...], constants: dict[str, tuple[int, ...]], work: int
) -> None:
    shapes = {"x": inputs, "y": (5, 2, 3) if node.op_type == "LSTM" else (*inputs[:-1], 3), **constants}
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert macs(OnnxNode("n", node.op_type, attributes, tuple(node.input), tuple(node.output)), shapes) == work


def bad_files() -> dict[str, Callable[[Path], object]]:
    def truncated(path: Path) -> None:
        save(path, CLASSIFIER, (4,), {"w": array(4, 3)}, ["r"])
        path.write_bytes(path.read_bytes()[:-40])

    def truncated_script(path: Path) -> None:
        exported(Residual(), (3, 8, 8), path, "traced")
        path.write_bytes(path.read_bytes()[:2000])

    def external(path: Path) -> None:
        save(path, CLASSIFIER, (4,), {"w": array(4, 300)}, ["r"])
        model = onnx.load(path)
        onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="weights.bin")
        (path.parent / "weights.bin").unlink()

    def external_short(path: Path) -> None:
        external(path)
        (path.parent / "weights.bin").write_bytes(b"12")

    def external_elsewhere(path: Path) -> None:
        external(path)
        model = onnx.load(path, load_external_data=False)
        model.graph.initializer[0].external_data[0].value = "../weights.bin"
        path.write_bytes(model.SerializeToString())

    def constant_output(path: Path) -> None:
        nodes = [one("Relu", ["x"], ["y"]), one("Relu", ["c"], ["z"])]
        save(path, nodes, (4,), {"c": array(4)}, ["y", "z"])

    def open_shape(path: Path) -> None:
        save(path, [one("Relu")], (3, "height", "width"), {})  # type: ignore[arg-type]

    return {
        "not an ONNX model": lambda path: path.write_bytes(b"these are not the bytes of a network" * 9),
        "it holds no network": lambda path: path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString()),
        "not a": truncated,
        "not a TorchScript file": truncated_script,
        "'weights.bin' is missing": external,
        "external data cannot be read": external_short,
        "lies elsewhere": external_elsewhere,
        "'z' does not depend on its input": constant_output,
        r"input shape 3x\?x\? is not fixed": open_shape,
        "weights or a pickled module": lambda path: torch.save(Residual().state_dict(), path),
        "stores no input shape": lambda path: exported(Residual(), (3, 8, 8), path, "traced"),
        "not a valid network": lambda path: save(path, [one("Add", ["x", "nowhere"])], (4,), {}),
    }


@pytest.mark.parametrize("message", bad_files())
def test_bad_file(message: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    bad_files()[message](path)
    for read in (read_model, open_model):
        with pytest.raises(ModelError, match=message) as caught:
            read(path)
        assert caught.value.hint
        assert caught.value.place == str(path)
        assert "\n" not in caught.value.line


@pytest.mark.parametrize("length", [1, 20, 100, 1000, 4000])
def test_any_truncation_is_one_error(length: int, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", CLASSIFIER, (4,), {"w": array(4, 300)}, ["r"])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert caught.value.hint


def test_infinite_networks_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Add", ["x", "c"])], (4,), {"c": np.full(4, np.inf, np.float32)})
    with pytest.raises(ModelError, match="infinities or NaN"):
        read_model(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_model(tmp_path / "nothing.onnx")
    with pytest.raises(DataError):
        read_model(tmp_path)


def test_wrong_input_shape(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Relu")], (3, 8, 8), {})
    with pytest.raises(ModelError, match="the network takes 3x8x8, not 1x8x8"):
        read_model(path, (1, 8, 8))
    script = tmp_path / "m.pt"
    exported(Residual(), (3, 8, 8), script, "traced")
    with pytest.raises(ModelError, match="does not run on an input of 1x8x8") as caught:
        read_model(script, (1, 8, 8))
    assert "--input-shape" in caught.value.hint


def test_input_shape_fills_what_the_file_leaves_open(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("GlobalAveragePool")], (3, "height", "width"), {})  # type: ignore[arg-type]
    model = read_model(path, (3, 5, 6))
    assert model.graph.shapes[model.graph.inputs[0]] == (3, 5, 6)


def test_external_data_counts_in_the_digest(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", CLASSIFIER, (4,), {"w": array(4, 300)}, ["r"])
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    expected = hashlib.sha256(path.read_bytes() + (tmp_path / "weights.bin").read_bytes()).hexdigest()
    model = read_model(path)
    assert model.sha256 == expected
    (linear,) = model.graph.ops(ops.Linear).values()
    assert linear.weight.shape == (300, 4)


def test_stale_shapes_of_the_exporter_are_ignored(tmp_path: Path) -> None:
    nodes = [one("Relu", ["x"], ["r"]), one("Flatten", ["r"])]
    path = save(tmp_path / "m.onnx", nodes, (3, 4), {}, batch=7)
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [7, 3, 4]))
    onnx.save(model, path)
    assert read_model(path).graph.shapes["the_Flatten_y"] == (12,)


def test_a_difference_from_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m.onnx", [one("LeakyRelu", alpha=0.5)], (4,), {})
    monkeypatch.setattr(ops.LeakyRelu, "__call__", lambda self, x: x)
    with pytest.raises(VerificationError, match="relative error") as caught:
        read_model(path)
    assert caught.value.exit_code == 6


def test_unused_initializers_do_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Relu")], (4,), {"unused": array(3)})
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(integers(1, 2), "more"))
    onnx.save(model, path)
    assert list(read_model(path).graph.nodes) == ["x", "the_Relu_y"]
