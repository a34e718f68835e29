"""Small constants, short axes and small mistakes, where the importer is easily wrong; onnxruntime is the oracle."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from snnc import ops
from snnc.errors import ModelError
from snnc.frontend import read_model
from tests.frontend_files import array, integers, one, parity, save


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


MATRIX = {"w": array(6, 4), "v": array(4, 3)}
FIRST, LAST = one("MatMul", ["x", "w"], ["a"]), one("MatMul", ["z", "v"], ["y"])


def test_a_guard_of_a_logarithm_is_no_part_of_a_function_without_one(tmp_path: Path) -> None:
    nodes = [
        FIRST,
        one("Sigmoid", ["a"], ["s"]),
        one("Clip", ["s", "low", "high"], ["c"]),
        one("Log", ["c"], ["z"]),
        LAST,
    ]
    constants = {**MATRIX, "w": 40 * MATRIX["w"], "low": number(1e-7), "high": number(1 - 1e-7)}
    parity(save(tmp_path / "m.onnx", nodes, (6,), constants, opset=17), (6,), tolerance=1e-3)


def test_a_guard_of_a_quotient_counts(tmp_path: Path) -> None:
    nodes = [
        FIRST,
        one("Relu", ["a"], ["r"]),
        one("Add", ["r", "little"], ["g"]),
        one("Log", ["g"], ["z"]),
        LAST,
    ]
    parity(save(tmp_path / "m.onnx", nodes, (6,), {**MATRIX, "little": number(1e-7)}, opset=17), (6,))


def test_a_scaled_rectifier_is_one(tmp_path: Path) -> None:
    nodes = [FIRST, one("Relu", ["a"], ["r"]), one("Mul", ["r", "by"], ["z"]), LAST]
    path = save(tmp_path / "m.onnx", nodes, (6,), {**MATRIX, "by": number(1.7139588)}, opset=17)
    assert [type(op) for op in read_model(path).graph.ops((ops.Relu, ops.Elu)).values()] == [ops.Relu]
    parity(path, (6,))


def test_numbers_far_below_zero_are_no_masks(tmp_path: Path) -> None:
    low = np.array([-20000, 5, 1, 2], np.float32)
    nodes = [FIRST, one("Add", ["a", "low"], ["z"]), LAST]
    parity(save(tmp_path / "a.onnx", nodes, (6,), {**MATRIX, "low": low}, opset=17), (6,))
    chosen = one("Where", ["mask", "a", "far"], ["z"])
    constants = {**MATRIX, "mask": np.array([True, False, True, True]), "far": number(-20000)}
    parity(save(tmp_path / "w.onnx", [FIRST, chosen, LAST], (6,), constants, opset=17), (6,))


def test_the_mean_of_the_largest_is_no_post_processing(tmp_path: Path) -> None:
    nodes = [
        one("MatMul", ["x", "w"], ["a"]),
        one("TopK", ["a", "k"], ["largest", "unread"], axis=-1),
        one("ReduceMean", ["largest"], axes=[-1], keepdims=0),
    ]
    parity(save(tmp_path / "m.onnx", nodes, (7, 6), {"w": MATRIX["w"], "k": integers(2)}, opset=17), (7, 6))


def test_a_bias_of_rows_is_not_one_of_columns(tmp_path: Path) -> None:
    nodes = [
        one("Squeeze", ["x", "first"], ["s"]),
        one("Gemm", ["s", "w", "c"], ["g"]),
        one("Unsqueeze", ["g", "first"]),
    ]
    constants = {"first": integers(0), "w": array(4, 4), "c": np.arange(1, 5, dtype=np.float32).reshape(4, 1)}
    path = save(tmp_path / "m.onnx", nodes, (4, 4), constants, opset=17)
    read_model(path)


def test_places_may_be_fewer_along_other_axes(tmp_path: Path) -> None:
    for name, places in (("a", [[[0, 2], [1, 1]]]), ("b", [[[2, 0]]])):
        nodes = [one("GatherElements", ["x", "i"], axis=2)]
        read_model(save(tmp_path / f"{name}.onnx", nodes, (4, 3), {"i": np.array(places)}, opset=17))


@pytest.mark.parametrize("kind", ["Div", "ReduceMean"])
def test_arithmetic_of_integers_is_whole(kind: str, tmp_path: Path) -> None:
    node = one("Div", ["x", "two"], ["d"]) if kind == "Div" else one("ReduceMean", ["x"], ["d"], axes=[1], keepdims=1)
    nodes = [node, one("Cast", ["d"], to=TensorProto.FLOAT)]
    model = onnx.load(save(tmp_path / "m.onnx", nodes, (4,), {"two": np.array(2, np.int64)}, opset=17))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, tmp_path / "m.onnx")
    read_model(tmp_path / "m.onnx")


def test_a_loop_that_data_decides_is_refused_and_not_run(tmp_path: Path) -> None:
    """On nothing it would never end."""
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "state"], ["squared"]),
            helper.make_node("ReduceSum", ["squared"], ["sum"], keepdims=0),
            helper.make_node("Less", ["sum", "nine"], ["going"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("before", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("squared", TensorProto.FLOAT, None),
        ],
    )
    nodes = [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)]
    path = save(tmp_path / "m.onnx", nodes, (4,), {"true": np.array(True), "nine": number(9)}, opset=17)
    with pytest.raises(ModelError) as refused:
        read_model(path)
    assert "depends on data" in str(refused.value.details)


def test_the_domain_of_onnx_may_be_spelled_out(tmp_path: Path) -> None:
    nodes = [FIRST, one("Relu", ["a"], ["z"]), LAST]
    model = onnx.load(save(tmp_path / "m.onnx", nodes, (6,), MATRIX, opset=17))
    for part in (model.graph.node, model.opset_import):
        for entry in part:
            entry.domain = "ai.onnx"
        onnx.save(model, tmp_path / "m.onnx")
        assert len(read_model(tmp_path / "m.onnx").graph.ops(ops.Linear)) == 2


@pytest.mark.parametrize("place", [5, -3])
def test_a_place_beyond_a_list_is_no_internal_error(place: int, tmp_path: Path) -> None:
    nodes = [one("SequenceConstruct", ["x", "x"], ["list"]), one("SequenceAt", ["list", "place"])]
    with pytest.raises(ModelError):
        read_model(save(tmp_path / "m.onnx", nodes, (4,), {"place": np.array(place)}, opset=17))


def test_a_choice_of_nothing_is_refused_as_that(tmp_path: Path) -> None:
    nodes = [one("Compress", ["x", "none"], ["c"], axis=1), one("Relu", ["c"])]
    with pytest.raises(ModelError) as refused:
        read_model(save(tmp_path / "m.onnx", nodes, (4,), {"none": np.zeros(4, bool)}, opset=17))
    assert "check the file" not in str(refused.value.details)
