"""Lengths that are counted in several ways: last windows in the padding, squeezes of all axes, missing batch axes."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from snnc.errors import ModelError
from snnc.frontend import read_model
from tests.frontend_files import array, integers, one, parity, run, save


def oracle(path: Path, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    return np.asarray(found)


def agrees_on_pools(folder: Path, kind: str, lengths: tuple[int, ...], opset: int = 17, **windows: object) -> None:
    """Compare two pools in a row and a product with what they are in the first opset that counts well."""
    pools = [one(kind, ["x"], ["p"], **windows), one(kind, ["p"], ["q"], **windows)]
    x = torch.randn(3, 2, *lengths)
    pooled = oracle(save(folder / "pools.onnx", pools, (2, *lengths), {}, ["q"], 22), x)
    nodes = [*pools, one("Flatten", ["q"], ["f"]), one("Gemm", ["f", "w"], ["y"])]
    constants = {"w": array(pooled[0].size, 3)}
    expected = oracle(save(folder / "new.onnx", nodes, (2, *lengths), constants, opset=22), x)
    graph = read_model(save(folder / "m.onnx", nodes, (2, *lengths), constants, opset=opset)).graph
    np.testing.assert_allclose(run(graph, x)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("lengths", [(20,), (20, 20), (20, 21), (21, 20), (20, 20, 21)])
def test_a_last_window_that_would_lie_in_the_padding_is_none(
    kind: str, lengths: tuple[int, ...], tmp_path: Path
) -> None:
    axes = len(lengths)
    windows = {"kernel_shape": [3] * axes, "strides": [3] * axes, "pads": [1] * 2 * axes, "ceil_mode": 1}
    agrees_on_pools(tmp_path, kind, lengths, 18 if kind == "LpPool" else 12, **windows)


@pytest.mark.parametrize(("counts", "lengths"), [*product([0, 1], [(8, 8), (8, 9), (9, 8), (9, 10)])])
def test_what_counts_in_an_average_beside_such_a_window(counts: int, lengths: tuple[int, int], tmp_path: Path) -> None:
    windows = {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    agrees_on_pools(tmp_path, "AveragePool", lengths, count_include_pad=counts, **windows)


def test_lengths_that_round_up_where_no_window_lies_in_the_padding_are_kept(tmp_path: Path) -> None:
    agrees_on_pools(tmp_path, "MaxPool", (9, 10), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("padding", ["SAME_LOWER", "SAME_UPPER"])
@pytest.mark.parametrize(("lengths", "ceil"), [((20,), 0), ((20, 21), 0), ((21, 20), 1)])
def test_padding_for_windows_with_holes_is_that_of_onnxruntime(
    kind: str, padding: str, lengths: tuple[int, ...], ceil: int, tmp_path: Path
) -> None:
    axes = len(lengths)
    windows: dict[str, Any] = {"kernel_shape": [4] * axes, "strides": [2] * axes, "dilations": [2] * axes}
    windows |= {"ceil_mode": ceil, "auto_pad": padding}
    pools = [one(kind, ["x"], ["p"], **windows), one(kind, ["p"], **windows)]
    parity(save(tmp_path / "m.onnx", pools, (2, *lengths), {}, opset=19), (2, *lengths))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("padding", ["SAME_LOWER", "SAME_UPPER"])
@pytest.mark.parametrize(("k", "d"), [*product([1, 2, 3], [1, 2, 3])])
def test_strides_beyond_windows_are_those_of_onnxruntime_or_refused(
    kind: str, padding: str, k: int, d: int, tmp_path: Path
) -> None:
    compared = 0
    for n, s in product(range(3, 12), range(1, 5)):
        # Padding that is not negative has its own test; the shortest input is one that windows may not fit.
        if (-(-n // s) - 1) * s + k >= n and n > 3:
            continue
        windows: dict[str, Any] = {"kernel_shape": [k], "strides": [s], "dilations": [d], "auto_pad": padding}
        path = save(tmp_path / "m.onnx", [one(kind, **windows)], (1, n), {}, opset=19)
        x = torch.arange(1.0, n + 1)
        x = torch.stack([x, x.flip(0)])[:, None]
        try:
            graph = read_model(path).graph
        except ModelError:
            continue
        np.testing.assert_allclose(run(graph, x)[0], oracle(path, x), rtol=1e-5)
        compared += 1
    assert compared


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("batch", ["N", 4])
def test_a_squeeze_of_all_axes_leaves_the_batch(opset: int, batch: int | str, tmp_path: Path) -> None:
    nodes = [
        one("GlobalAveragePool", ["x"], ["g"]),
        one("Squeeze", ["g"], ["s"]),
        one("Gemm", ["s", "w"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, (3, 4, 4), {"w": array(3, 5)}, opset=opset, batch=batch)
    graph = read_model(path).graph
    x = torch.randn(4, 3, 4, 4)
    np.testing.assert_allclose(run(graph, x)[0], oracle(path, x), rtol=1e-4, atol=1e-5)


def test_a_squeeze_of_one_sample_is_what_it_says(tmp_path: Path) -> None:
    nodes = [one("GlobalAveragePool", ["x"], ["g"]), one("Squeeze", ["g"], ["s"]), one("MatMul", ["s", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, (3, 4, 4), {"w": array(3, 5)}, batch=1)
    assert read_model(path).graph.shapes["the_MatMul_y"] == (5,)


def without_batch(path: Path, shape: list[int], nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    save(path, nodes, (1,), constants)
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    onnx.save(model, path)
    return path


VECTOR = [one("MatMul", ["x", "w"], ["m"]), one("Relu", ["m"], ["r"]), one("Gemm", ["row", "v"], ["y"])]
NO_BATCH = {
    "vector": ([6], [*VECTOR[:2], one("MatMul", ["r", "v"])], {"w": array(6, 4), "v": array(4, 6)}),
    "vector-made-a-row": (
        [6],
        [one("Unsqueeze", ["x", "zero"], ["u"]), one("MatMul", ["u", "w"], ["m"]), one("Relu", ["m"])],
        {"w": array(6, 4), "zero": integers(0)},
    ),
    "image": (
        [3, 5, 5],
        [
            one("Unsqueeze", ["x", "zero"], ["u"]),
            one("Conv", ["u", "k"], ["c"]),
            one("Relu", ["c"], ["r"]),
            one("Flatten", ["r"], ["f"]),
            one("MatMul", ["f", "w"]),
        ],
        {"zero": integers(0), "k": array(2, 3, 3, 3), "w": array(18, 3)},
    ),
    "image-to-image": (
        [3, 5, 5],
        [
            one("Unsqueeze", ["x", "zero"], ["u"]),
            one("Conv", ["u", "k"], ["c"], pads=[1, 1, 1, 1]),
            one("Squeeze", ["c", "zero"]),
        ],
        {"zero": integers(0), "k": array(3, 3, 3, 3)},
    ),
    "channels-last": (
        [5, 5, 3],
        [
            one("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
            one("Unsqueeze", ["t", "zero"], ["u"]),
            one("Conv", ["u", "k"], ["c"]),
            one("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0),
        ],
        {"zero": integers(0), "k": array(4, 3, 3, 3)},
    ),
}


@pytest.mark.parametrize("network", NO_BATCH)
def test_an_input_without_a_batch_axis(network: str, tmp_path: Path) -> None:
    shape, nodes, constants = NO_BATCH[network]
    path = without_batch(tmp_path / "m.onnx", shape, nodes, constants)
    model = read_model(path)
    assert [finding.code for finding in model.findings] == ["no-batch-axis"]
    assert model.graph.shapes["x"] == tuple(shape)
    x = torch.randn(3, *shape)
    expected = [oracle(path, sample).reshape(-1) for sample in x]
    np.testing.assert_allclose(run(model.graph, x)[0].reshape(3, -1), np.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6), (3, 3, 6), (8, 3, 5, 5)])
def test_a_batch_that_the_file_fixes_is_still_one(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Relu")], shape[1:], {}, batch=shape[0])
    model = read_model(path)
    assert not model.findings
    assert model.graph.shapes["x"] == shape[1:]


def test_what_is_given_as_the_shape_of_a_whole_input_is_one_sample(tmp_path: Path) -> None:
    nodes = [one("Unsqueeze", ["x", "zero"], ["u"]), one("Conv", ["u", "k"])]
    path = without_batch(tmp_path / "m.onnx", [3], nodes, {"zero": integers(0), "k": array(2, 3, 3, 3)})
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, "H", "W"]))
    onnx.save(model, path)
    assert read_model(path, (3, 6, 7)).graph.shapes["x"] == (3, 6, 7)


ROW, MATRIX = array(1, 1, 6), array(6, 3)
TOKEN = [one("Concat", ["e", "x"], ["k"], axis=1), one("MatMul", ["k", "w"])]
MASK = (np.arange(12).reshape(1, 2, 6) % 3 == 0).repeat(4, 0)
BAKED: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "expand": ([one("Expand", ["c", "s"], ["e"]), *TOKEN], {"c": ROW, "s": integers(4, 1, 6)}),
    "tile": ([one("Tile", ["c", "s"], ["e"]), *TOKEN], {"c": ROW, "s": integers(4, 1, 1)}),
    "zeros": ([one("ConstantOfShape", ["s"], ["e"]), *TOKEN], {"s": integers(4, 1, 6)}),
    "constant": (TOKEN, {"e": ROW.repeat(4, 0)}),
    "large constant": (
        [one("Add", ["x", "c"], ["a"]), one("ReduceMean", ["a"], ["k"], axes=[1]), one("MatMul", ["k", "w"])],
        {"c": array(1, 2, 6).repeat(4, 0)},
    ),
    "mask": ([one("Where", ["m", "x", "z"], ["k"]), one("MatMul", ["k", "w"])], {"m": MASK, "z": np.float32(0)}),
    "reshape": ([one("Reshape", ["x", "s"], ["k"]), one("MatMul", ["k", "w"])], {"s": integers(4, 2, 6)}),
}


@pytest.mark.parametrize("case", BAKED)
def test_a_batch_that_is_written_into_the_file_is_taken_out(case: str, tmp_path: Path) -> None:
    nodes, constants = BAKED[case]
    path = save(tmp_path / "m.onnx", nodes, (2, 6), {**constants, "w": MATRIX}, batch=4)
    graph = read_model(path).graph
    x = torch.randn(4, 2, 6)
    expected = oracle(path, x)
    np.testing.assert_allclose(run(graph, x)[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(graph, x[:1])[0], expected[:1], rtol=1e-4, atol=1e-5)


def test_a_constant_that_differs_from_sample_to_sample_is_refused_as_that(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Add", ["x", "c"])], (2, 6), {"c": array(4, 2, 6)}, batch=4)
    with pytest.raises(ModelError, match="'c' has other numbers for each of 4 samples") as caught:
        read_model(path)
    assert "batch of 1" in caught.value.hint
