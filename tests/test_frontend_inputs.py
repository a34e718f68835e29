"""Several inputs, integers, states and masks; onnxruntime is the oracle."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from snnc.errors import ModelError
from snnc.frontend import Model, open_model, read_model
from snnc.frontend.check import computed
from snnc.ir import Input
from tests.frontend_files import array, integers, one

FLOAT, INT64, BOOL, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    constants: Mapping[str, np.ndarray] = {},
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> Path:
    """Write a network of several inputs, by name: what they are of, and their dimensions."""
    taken = [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()]
    results = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "network", taken, results, held)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


def agrees(path: Path, **given: np.ndarray) -> Model:
    """Read the file; compare two samples with onnxruntime, each ``[2, *dimensions]`` as the file takes one."""
    model = read_model(path)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    runs = [
        session.run(None, {name: np.asarray(values[sample]) for name, values in given.items()}) for sample in range(2)
    ]
    samples = {
        name: torch.from_numpy(given[model.graph.nodes[name].place]).float().reshape(2, *model.graph.shapes[name])
        for name in model.graph.inputs
    }
    values = computed(model.graph, samples)
    for name, *theirs in zip(model.graph.outputs, *runs, strict=True):
        expected = np.stack([run.reshape(model.graph.shapes[name]) for run in theirs])
        np.testing.assert_allclose(values[name].numpy(), expected, rtol=1e-5, atol=1e-5)
    return model


def test_two_inputs_keep_their_names_and_shapes(tmp_path: Path) -> None:
    nodes = [
        one("Gemm", ["left.1", "a"], ["l"]),
        one("Gemm", ["right", "b"], ["r"]),
        one("Mul", ["l", "r"], ["p"]),
        one("MatMul", ["p", "c"]),
    ]
    constants = {"a": array(4, 3), "b": array(5, 3), "c": array(3, 2)}
    path = write(tmp_path / "m.onnx", nodes, {"left.1": (FLOAT, ["N", 4]), "right": (FLOAT, ["N", 5])}, constants)
    graph = agrees(path, **{"left.1": array(2, 1, 4), "right": array(2, 1, 5)}).graph
    assert graph.input_shapes == {"left_1": (4,), "right": (5,)}
    assert open_model(path).survey.input_shapes == {"left.1": (4,), "right": (5,)}


def test_a_state_whose_batch_is_not_in_front_is_a_sample_whole(tmp_path: Path) -> None:
    nodes = [
        one("Slice", ["state", "zero", "one", "zero"], ["s"]),
        one("Squeeze", ["s", "zero"], ["h"]),
        one("Add", ["x", "h"], ["a"]),
        one("Relu", ["a"], ["r"]),
        one("Unsqueeze", ["r", "zero"], ["u"]),
        one("Add", ["state", "u"], ["next"]),
        one("MatMul", ["r", "w"]),
    ]
    constants = {"zero": integers(0), "one": integers(1), "w": array(4, 3)}
    inputs = {"x": (FLOAT, ["batch", 4]), "state": (FLOAT, [2, "batch", 4])}
    path = write(tmp_path / "m.onnx", nodes, inputs, constants, ["y", "next"])
    graph = agrees(path, x=array(2, 1, 4), state=array(2, 2, 1, 4)).graph
    assert graph.input_shapes == {"x": (4,), "state": (2, 1, 4)}
    assert graph.output_shapes == ((3,), (2, 1, 4))


def test_what_every_sample_has_of_its_own_needs_no_batch(tmp_path: Path) -> None:
    nodes = [one("MatMul", ["edges", "x"], ["m"]), one("Relu", ["m"], ["r"]), one("MatMul", ["r", "w"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["N", 5, 4]), "edges": (FLOAT, [5, 5])}, {"w": array(4, 2)})
    assert agrees(path, x=array(2, 1, 5, 4), edges=array(2, 5, 5)).graph.input_shapes["edges"] == (5, 5)


@pytest.mark.parametrize(("first", "second"), [(3, "N"), (3, "batch_size"), ("T", "N")])
def test_a_batch_may_stand_behind_another_axis(first: int | str, second: str, tmp_path: Path) -> None:
    nodes = [one("Transpose", ["x"], ["t"], perm=[1, 0, 2]), one("Flatten", ["t"], ["f"]), one("MatMul", ["f", "w"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [first, second, 4])}, {"w": array(12, 2)})
    if first == "T":
        with pytest.raises(ModelError, match=r"the input shape \?x4 is not fixed"):
            read_model(path)
    graph = read_model(path, (3, 4)).graph
    assert (graph.input_shapes, graph.output_shapes) == ({"x": (3, 1, 4)}, ((2,),))


def test_a_batch_in_the_file_is_that_of_every_input(tmp_path: Path) -> None:
    nodes = [one("Add", ["x", "z"], ["a"]), one("Reshape", ["a", "s"], ["f"]), one("MatMul", ["f", "w"])]
    constants = {"s": integers(4, 6), "w": array(6, 2)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [4, 2, 3]), "z": (FLOAT, [4, 2, 3])}, constants)
    graph = read_model(path).graph
    assert graph.input_shapes == {"x": (2, 3), "z": (2, 3)}
    assert graph.output_shapes == ((2,),)


def test_masks_and_whole_numbers_are_numbers(tmp_path: Path) -> None:
    nodes = [
        one("Cast", ["mask"], ["m"], to=FLOAT),
        one("Cast", ["hours"], ["l"], to=INT64),
        one("Cast", ["l"], ["h"], to=FLOAT),
        one("Mul", ["x", "m"], ["p"]),
        one("Add", ["p", "h"], ["s"]),
        one("MatMul", ["s", "w"]),
    ]
    inputs = {"x": (FLOAT, ["N", 4]), "mask": (BOOL, ["N", 4]), "hours": (TensorProto.INT32, ["N", 4])}
    path = write(tmp_path / "m.onnx", nodes, inputs, {"w": array(4, 3)})
    hours = np.arange(8, dtype=np.int32).reshape(2, 1, 4)
    graph = agrees(path, x=array(2, 1, 4), mask=array(2, 1, 4) > 0, hours=hours).graph
    assert [op.numbers for op in graph.ops(Input).values()] == ["real", "integer", "integer"]


@pytest.mark.parametrize(("dims", "numbers"), [([3, 4, 5], "pixel"), ([4, 5, 1], "pixel"), ([7], "integer")])
def test_bytes_in_the_shape_of_an_image_are_pixels(dims: list[int], numbers: str, tmp_path: Path) -> None:
    nodes = [
        one("Cast", ["x"], ["f"], to=FLOAT),
        one("Mul", ["f", "s"], ["g"]),
        one("Flatten", ["g"], ["h"]),
        one("MatMul", ["h", "w"]),
    ]
    constants = {"s": np.float32(1 / 255), "w": array(int(np.prod(dims)), 2)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (UINT8, ["N", *dims])}, constants)
    x = np.random.default_rng(0).integers(0, 256, (2, 1, *dims)).astype(np.uint8)
    (op,) = agrees(path, x=x).graph.ops(Input).values()
    assert op.numbers == numbers
    drawn = op.drawn(3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, drawn.round()) and drawn.max() <= 255


def test_integers_compared_with_all_of_a_range_are_drawn_from_it(tmp_path: Path) -> None:
    nodes = [
        one("Unsqueeze", ["ids", "last"], ["i"]),
        one("Equal", ["i", "range"], ["e"]),
        one("Cast", ["e"], ["h"], to=FLOAT),
        one("MatMul", ["h", "w"]),
    ]
    constants = {"last": integers(-1), "range": np.arange(9)[None, None], "w": array(9, 3)}
    path = write(tmp_path / "m.onnx", nodes, {"ids": (INT64, ["N", 5])}, constants)
    ids = np.random.default_rng(0).integers(0, 9, (2, 1, 5))
    (op,) = agrees(path, ids=ids).graph.ops(Input).values()
    assert op.below == 9


def test_an_input_that_nothing_depends_on_is_left_out(tmp_path: Path) -> None:
    nodes = [one("Shape", ["rate"], ["s"]), one("Relu", ["x"], ["r"]), one("MatMul", ["r", "w"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["N", 4]), "rate": (INT64, [])}, {"w": array(4, 3)})
    model = agrees(path, x=array(2, 1, 4), rate=np.array([16, 16]))
    assert model.graph.inputs == ("x",)
    assert [(finding.code, finding.node) for finding in model.findings] == [("input-not-read", "rate")]


def test_shapes_of_several_inputs_are_given_by_name(tmp_path: Path) -> None:
    nodes = [one("MatMul", ["z", "x"], ["m"]), one("Relu", ["m"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["N", "seq", 4]), "z": (FLOAT, ["N", "out", "seq"])})
    with pytest.raises(ModelError, match=r"the input shape \?x4 of its input 'x' is not fixed") as caught:
        read_model(path)
    assert "--input-shape x=16,4" in caught.value.hint
    graph = read_model(path, {"x": (6, 4), "z": (5, 6)}).graph
    assert graph.output_shapes == ((5, 4),)
    for wanted, message in (
        ((6, 4), "one input shape for 2 inputs"),
        ({"v": (6, 4)}, "no input 'v'"),
        ({"x": (6, 4), "z": (5, 6, 7)}, "takes .*, not 5x6x7 of its input 'z'"),
        ({"x": (6, 4)}, "of its input 'z' is not fixed"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            read_model(path, wanted)
        assert caught.value.hint


def test_text_is_no_input(tmp_path: Path) -> None:
    nodes = [one("StringNormalizer", ["t"], ["n"]), one("Shape", ["n"], ["s"]), one("Cast", ["s"], ["f"], to=FLOAT)]
    inputs = {"x": (FLOAT, [1, 4]), "t": (TensorProto.STRING, [1])}
    path = write(tmp_path / "m.onnx", [*nodes, one("Add", ["x", "f"])], inputs)
    with pytest.raises(ModelError, match="its input 't' takes text, no numbers"):
        read_model(path)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(5, 3)

    def forward(self, x: Tensor, days: Tensor) -> Tensor:
        return self.left(x) + torch.relu(self.right(days.float() * 0.5))


@pytest.mark.usefixtures("torchscript_here")
@pytest.mark.parametrize("how", ["traced", "scripted"])
def test_torchscript_of_two_inputs(how: str, tmp_path: Path) -> None:
    module = Pair().eval()
    given: tuple[Any, ...] = (torch.randn(3, 4), torch.arange(15).reshape(3, 5))
    with warnings.catch_warnings():
        # torch deprecates TorchScript.
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(module, given) if how == "traced" else torch.jit.script(module)
        torch.jit.save(scripted, tmp_path / "m.pt")
    graph = read_model(tmp_path / "m.pt", {"x": (4,), "days": (5,)}).graph
    found = computed(graph, dict(zip(graph.inputs, (given[0], given[1].float()), strict=True)))
    torch.testing.assert_close(found[graph.outputs[0]], module(*given))
    for wanted, message in ((None, "no input shape"), ({"x": (4,), "z": (5,)}, "no input 'z'"), ((4,), "does not run")):
        with pytest.raises(ModelError, match=message):
            read_model(tmp_path / "m.pt", wanted)


# Shapes that the file does not say.


def test_shapes_that_only_a_run_tells(tmp_path: Path) -> None:
    nodes = [
        one("Relu", ["x"], ["r"]),
        helper.make_node("QuickGelu", ["r"], ["q"], domain="com.microsoft"),
        one("MatMul", ["q", "w"], ["m"]),
        one("NonZero", ["m"], ["n"]),
        one("Cast", ["n"], ["f"], to=FLOAT),
        one("MatMul", ["v", "f"]),
    ]
    constants = {"w": array(4, 3), "v": array(2, 2)}
    seen = open_model(write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["N", 4])}, constants)).survey
    assert [verdict.operation for verdict in seen.verdicts if verdict.becomes == "Linear"] == ["MatMul"]
    (nonzero,) = [verdict for verdict in seen.problems if verdict.operation == "NonZero"]
    assert "depends on the data" in nonzero.problem
