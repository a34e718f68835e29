"""What stands at the end of a network and only chooses or keeps an order: it is cut off, and said so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from snnc import ops
from snnc.errors import ModelError
from snnc.frontend import Model, open_model, read_model
from tests.frontend_files import array, in_function, integers, one, run, save

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
HEAD = [one("Gemm", ["x", "w"], ["g"]), one("Relu", ["g"], ["r"]), one("MatMul", ["r", "v"], ["logits"])]
WEIGHTS = {"w": array(5, 8), "v": array(8, 6)}


def ended(path: Path, values: Sequence[str], shape: Sequence[int] = (5,)) -> Model:
    """Read a file; what its graph gives out has to be what the file computes as ``values``."""
    read = read_model(path)
    shown = onnx.load(path)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=value) for value in values)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    found = run(read.graph, x)
    assert len(found) == len(values)
    for ours, theirs in zip(found, session.run(None, {"x": x.numpy()}), strict=True):
        np.testing.assert_allclose(ours.flatten().numpy(), theirs.flatten(), rtol=1e-5, atol=1e-5)
    return read


ENDINGS: dict[str, tuple[list[Any], tuple[str, ...], str]] = {
    "softmax": ([one("Softmax", ["logits"], ["y"], axis=1)], ("y",), "Softmax"),
    "softmax, flattened": (
        [one("Softmax", ["logits"], ["p"], axis=1), one("Flatten", ["p"])],
        ("y",),
        "Softmax",
    ),
    "sigmoid, moved and cast": (
        [
            one("Sigmoid", ["logits"], ["p"]),
            one("Reshape", ["p", "twos"], ["q"]),
            one("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
            one("Cast", ["t"], to=TensorProto.DOUBLE),
        ],
        ("y",),
        "Sigmoid",
    ),
    "log-softmax, squeezed": (
        [
            one("LogSoftmax", ["logits"], ["p"], axis=1),
            one("Unsqueeze", ["p", "two"], ["u"]),
            one("Squeeze", ["u", "two"]),
        ],
        ("y",),
        "LogSoftmax",
    ),
    "arg max": ([one("ArgMax", ["logits"], ["y"], axis=1)], ("y",), "ArgMax"),
    "arg min of a softmax": (
        [one("Softmax", ["logits"], ["p"], axis=1), one("ArgMin", ["p"], axis=1)],
        ("y",),
        "ArgMin",
    ),
    "hardmax": ([one("Hardmax", ["logits"], ["y"], axis=1)], ("y",), "Hardmax"),
    "one-hot of the largest": (
        [one("ArgMax", ["logits"], ["a"], axis=1, keepdims=0), one("OneHot", ["a", "six", "bits"])],
        ("y",),
        "ArgMax",
    ),
    "top k": ([one("TopK", ["logits", "two"], ["y", "i"], axis=1)], ("y", "i"), "TopK"),
    "label beside probabilities": (
        [one("Softmax", ["logits"], ["p"], axis=1), one("ArgMax", ["logits"], axis=1)],
        ("y", "p"),
        "ArgMax",
    ),
    "label of probabilities beside them": (
        [one("Softmax", ["logits"], ["p"], axis=1), one("ArgMax", ["p"], axis=1)],
        ("p", "y"),
        "ArgMax",
    ),
    "what is over a limit": (
        [one("Greater", ["logits", "limit"], ["o"]), one("NonZero", ["o"])],
        ("y",),
        "NonZero",
    ),
}


CHOOSING = {
    "two": integers(2),
    "twos": integers(1, 3, 2),
    "six": integers(6),
    "bits": np.array([0, 1], np.float32),
    "limit": np.float32(0.2),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_an_ending_is_cut_off(case: str, tmp_path: Path) -> None:
    nodes, outputs, kind = ENDINGS[case]
    constants = WEIGHTS | CHOOSING
    path = save(tmp_path / "m.onnx", [*HEAD, *nodes], (5,), constants, outputs)
    model = onnx.load(path)
    for output in model.graph.output:
        output.ClearField("type")
    onnx.save(model, path)
    moved = {"sigmoid, moved and cast": ["logits"]}
    read = read_model(path)
    assert {finding.code for finding in read.findings} <= {"output-softmax-removed", "post-processing-removed"}
    assert kind in read.findings[0].message
    assert len(read.graph.outputs) == 1
    assert isinstance(read.graph.ops(ops.Linear)["the_MatMul_logits"], ops.Linear)
    if case not in moved:
        ended(path, ["logits"])
    seen = open_model(path).survey
    assert not seen.problems
    assert kind in {verdict.operation for verdict in seen.verdicts if verdict.becomes == "left out"}


@pytest.mark.parametrize("case", ENDINGS)
def test_an_ending_within_a_function_is_left_out_as_well(case: str, tmp_path: Path) -> None:
    nodes, outputs, _ = ENDINGS[case]
    path = save(tmp_path / "m.onnx", [*HEAD, *nodes], (5,), WEIGHTS | CHOOSING, outputs)
    plain = read_model(path)
    within = read_model(in_function(path))
    assert [finding.code for finding in within.findings] == [finding.code for finding in plain.findings]
    x = torch.randn(2, 5)
    for ours, theirs in zip(run(within.graph, x), run(plain.graph, x), strict=True):
        assert torch.equal(ours, theirs)


def test_where_what_moves_stands_behind_it_stays(tmp_path: Path) -> None:
    nodes = [*HEAD, one("Sigmoid", ["logits"], ["p"]), one("Reshape", ["p", "s"], ["q"])]
    nodes += [one("Transpose", ["q"], perm=[0, 2, 1])]
    path = save(tmp_path / "m.onnx", nodes, (5,), WEIGHTS | {"s": integers(-1, 3, 2)})
    read = read_model(path)
    x = torch.randn(2, 5)
    logits = np.maximum(x.numpy() @ WEIGHTS["w"], 0) @ WEIGHTS["v"]
    np.testing.assert_allclose(run(read.graph, x)[0], logits.reshape(2, 3, 2).transpose(0, 2, 1), rtol=1e-4, atol=1e-5)


def test_the_values_and_their_softmax_are_two_outputs(tmp_path: Path) -> None:
    nodes = [*HEAD, one("Softmax", ["logits"], axis=1)]
    read = ended(save(tmp_path / "m.onnx", nodes, (5,), WEIGHTS, ["logits", "y"]), ["logits", "y"])
    assert not read.findings


@pytest.mark.parametrize("behind", [["Tanh"], ["ReduceL2"], ["Softmax", "Mul"]])
def test_what_computes_stays(behind: list[str], tmp_path: Path) -> None:
    if behind == ["ReduceL2"]:
        pytest.importorskip("snnc.frontend.operators.reduction")
    nodes, value = [*HEAD], "logits"
    for number, kind in enumerate(behind):
        name = f"v{number}"
        nodes.append(one(kind, [value, "half"] if kind == "Mul" else [value], [name]))
        value = name
    path = save(tmp_path / "m.onnx", nodes, (5,), WEIGHTS | {"half": np.float32(0.5)}, [value])
    assert not ended(path, [value]).findings


def test_a_choice_inside_is_no_ending(tmp_path: Path) -> None:
    nodes = [*HEAD, one("TopK", ["logits", "two"], ["t", "i"], axis=1), one("MatMul", ["t", "u"])]
    path = save(tmp_path / "m.onnx", nodes, (5,), WEIGHTS | {"two": integers(2), "u": array(2, 3)})
    assert not [verdict for verdict in open_model(path).survey.verdicts if verdict.becomes == "left out"]


def detector(path: Path) -> Path:
    """Boxes and scores, what a selection leaves of them, and the classes of what is left."""
    nodes = [
        one("Conv", ["x", "w"], ["f"]),
        one("Relu", ["f"], ["r"]),
        one("Conv", ["r", "b"], ["bm"]),
        one("Conv", ["r", "c"], ["cm"]),
        one("Reshape", ["bm", "bs"], ["bt"]),
        one("Transpose", ["bt"], ["boxes"], perm=[0, 2, 1]),
        one("Reshape", ["cm", "cs"], ["logits"]),
        one("Sigmoid", ["logits"], ["scores"]),
        one("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["chosen"]),
        one("Gather", ["chosen", "last"], ["places"], axis=1),
        one("Squeeze", ["boxes", "first"], ["plain"]),
        one("Gather", ["plain", "places"], ["kept"], axis=0),
    ]
    constants = {"w": array(6, 3, 3, 3), "b": array(4, 6, 1, 1), "c": array(2, 6, 1, 1)}
    constants |= {"bs": integers(1, 4, -1), "cs": integers(1, 2, -1), "most": integers(3), "last": np.int64(2)}
    constants |= {"overlap": np.float32([0.5]), "least": np.float32([0.1]), "first": integers(0)}
    return save(path, nodes, (3, 6, 6), constants, ["kept", "chosen"], batch=1)


def test_a_detector_gives_its_boxes_and_scores(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx")
    read = ended(path, ["boxes", "logits"], (3, 6, 6))
    assert [finding.code for finding in read.findings] == ["post-processing-removed", "output-softmax-removed"]
    assert "NonMaxSuppression" in read.findings[0].message
    assert read.graph.output_shapes == ((16, 4), (2, 16))


def test_a_branch_at_the_end_is_cut_off(tmp_path: Path) -> None:
    branches = {}
    for name, kind in (("then_branch", "Neg"), ("else_branch", "Identity")):
        output = helper.make_tensor_value_info(name, FLOAT, None)
        branches[name] = helper.make_graph([helper.make_node(kind, ["logits"], [name])], name, [], [output])
    nodes = [
        *HEAD,
        one("ReduceSum", ["logits"], ["s"], keepdims=0),
        one("Greater", ["s", "limit"], ["o"]),
        one("If", ["o"], **branches),
    ]
    path = save(tmp_path / "m.onnx", nodes, (5,), WEIGHTS | {"limit": np.float32(0.2)})
    read = ended(path, ["logits"])
    assert "If" in read.findings[0].message


# Of 6 outputs each, with or without what says of which shape they are.
MIXING: dict[str, tuple[list[Any], list[Any]]] = {
    "first": ([one("Softmax", ["logits"], axis=0)], ["N", 6]),
    "second last": ([one("Softmax", ["logits"], axis=-2)], ["N", 6]),
    "before one more axis": (
        [one("Softmax", ["logits"], ["p"], axis=-2), one("Reshape", ["p", "apart"])],
        ["N", 2, 3],
    ),
    "before one less": (
        [one("Reshape", ["logits", "apart"], ["a"]), one("Softmax", ["a"], ["p"], axis=-3), one("Flatten", ["p"])],
        ["N", 6],
    ),
    "turned": (
        [
            one("Transpose", ["logits"], ["t"], perm=[1, 0]),
            one("Softmax", ["t"], ["p"], axis=1),
            one("Transpose", ["p"], perm=[1, 0]),
        ],
        ["N", 6],
    ),
    "turned, by defaults": (
        [one("Transpose", ["logits"], ["t"]), one("LogSoftmax", ["t"], ["p"]), one("Transpose", ["p"])],
        ["N", 6],
    ),
    "behind an axis in front": (
        [
            one("Unsqueeze", ["logits", "zero"], ["u"]),
            one("Softmax", ["u"], ["p"], axis=1),
            one("Squeeze", ["p", "zero"]),
        ],
        ["N", 6],
    ),
}


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("case", MIXING)
def test_a_softmax_over_the_batch_is_no_ending(case: str, said: bool, tmp_path: Path) -> None:
    nodes, shape = MIXING[case]
    used = {value for node in nodes for value in node.input}
    constants = {
        name: tensor for name, tensor in {"apart": integers(-1, 2, 3), "zero": integers(0)}.items() if name in used
    }
    path = save(tmp_path / "m.onnx", [*HEAD, *nodes], (5,), WEIGHTS | constants)
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, shape if said else None))
    onnx.save(model, path)
    with pytest.raises(ModelError, match="depends on other samples of its batch"):
        read_model(path)


def test_a_softmax_over_turned_classes_is_an_ending(tmp_path: Path) -> None:
    nodes = [
        one("Transpose", ["logits"], ["t"], perm=[1, 0]),
        one("Softmax", ["t"], ["p"], axis=0),
        one("Transpose", ["p"], perm=[1, 0]),
    ]
    read = ended(save(tmp_path / "m.onnx", [*HEAD, *nodes], (5,), WEIGHTS), ["logits"])
    assert [finding.code for finding in read.findings] == ["output-softmax-removed"]


def test_a_softmax_over_the_classes_of_an_only_sample_is_an_ending(tmp_path: Path) -> None:
    nodes = [*HEAD, one("Squeeze", ["logits", "zero"], ["s"]), one("Softmax", ["s"], axis=0)]
    path = save(tmp_path / "m.onnx", nodes, (5,), WEIGHTS | {"zero": integers(0)}, batch=1)
    assert [finding.code for finding in read_model(path).findings] == ["output-softmax-removed"]
