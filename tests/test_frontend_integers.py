"""Networks that compute with integers, read as the numbers that these stand for: near what onnxruntime computes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from snnc import ops
from snnc.errors import ModelError
from snnc.frontend import Model, read_model
from snnc.frontend.overflow import without_overflow
from tests import frontend_files
from tests.frontend_files import WITHIN, array, one, run

SHAPE = (4, 6, 6)
MICROSOFT = "com.microsoft"


def integers(*shape: int, kind: type = np.int8, most: int = 50) -> np.ndarray:
    """Weights of few bits: of more, sums of onnxruntime overflow on some processors."""
    return frontend_files.RANDOM.integers(-most, most, shape).astype(kind)


def scalar(number: float) -> np.ndarray:
    return np.array(number, np.float32)


CONSTANTS: dict[str, np.ndarray] = {
    # x and what else is near normal; sums of products; what is below 1.
    "s": scalar(0.03),
    "z": np.array(120, np.uint8),
    "s2": scalar(0.04),
    "z2": np.array(100, np.uint8),
    "z0": np.array(0, np.uint8),
    "s3": scalar(1 / 256),
    "s5": scalar(0.1),
    "s4": scalar(1 / 64),
    "sw": scalar(0.01),
    "zw": np.array(3, np.int8),
    "zw0": np.array(0, np.int8),
    "sc": np.array([0.01, 0.02, 0.005], np.float32),
    "zc": np.array([0, 4, -3], np.int8),
    "kernel": integers(3, 4, 3, 3),
    "bias": integers(3, kind=np.int32, most=900),
    "matrix": integers(6, 3, most=60),
    "matrix_t": integers(3, 6),
    "flat": np.array([0, -1, 6], np.int64),
    "axis": np.array([2], np.int64),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "z4": np.array([2], np.uint8),
    "lw": integers(1, 6, 4 * 5),
    "lr": integers(1, 5, 4 * 5),
    "lsw": np.array([0.01], np.float32),
    "lzw": np.array([0], np.int8),
    "float_bias": array(3),
    "where": np.array([2, 0, 1, 3], np.int64),
}


def quantized(value: str = "x", output: str = "q", scale: str = "s", zero: str = "z") -> Any:
    return one("QuantizeLinear", [value, scale, zero], [output])


def back(value: str = "p", output: str = "y", scale: str = "s2", zero: str = "z2") -> Any:
    return one("DequantizeLinear", [value, scale, zero], [output])


def ours(kind: str, inputs: list[str], output: str = "p", **attributes: Any) -> Any:
    return one(kind, inputs, [output], domain=MICROSOFT, **attributes)


CONV = ["q", "s", "z", "kernel", "sw", "zw", "s2", "z2"]
NETWORKS: dict[str, list[Any]] = {
    "pair": [quantized(), back("q", "y", "s", "z")],
    "pair around what moves": [
        quantized(),
        one("Transpose", ["q"], ["t"], perm=[0, 2, 3, 1]),
        one("MaxPool", ["t"], ["m"], kernel_shape=[2, 2]),
        one("Flatten", ["m"], ["p"]),
        back("p", "y", "s", "z"),
    ],
    "pair of two scales": [quantized(), back("q", "y", "s2", "z2")],
    "a border of integers": [quantized(), one("Pad", ["q", "pads", "z4"], ["p"]), back("p", "y", "s", "z")],
    "read twice": [quantized(), back("q", "a", "s", "z"), back("q", "b", "s2", "z2"), one("Add", ["a", "b"], ["y"])],
    "a rectifier that is the end of the range": [
        quantized(),
        back("q", "a", "s", "z"),
        one("Conv", ["a", "w"], ["c"]),
        quantized("c", "r", "s2", "z0"),
        back("r", "y", "s2", "z0"),
    ],
    "QLinearConv": [quantized(), one("QLinearConv", [*CONV, "bias"], ["p"], pads=[1, 1, 1, 1]), back()],
    "QLinearConv per channel": [
        quantized(),
        one("QLinearConv", ["q", "s", "z", "kernel", "sc", "zc", "s5", "z2"], ["p"], strides=[2, 2]),
        back("p", "y", "s5", "z2"),
    ],
    "QLinearConv that rectifies": [
        quantized(),
        one("QLinearConv", ["q", "s", "z", "kernel", "sw", "zw0", "s2", "z0", "bias"], ["p"]),
        back("p", "y", "s2", "z0"),
    ],
    "QLinearMatMul": [
        quantized(),
        one("QLinearMatMul", ["q", "s", "z", "matrix", "sw", "zw", "s2", "z2"], ["p"]),
        back(),
    ],
    "QLinearMatMul of two values": [
        quantized(),
        one("QLinearMatMul", ["q", "s", "z", "q", "s", "z", "s5", "z2"], ["p"]),
        back("p", "y", "s5", "z2"),
    ],
    "QGemm": [
        quantized(),
        one("Reshape", ["q", "flat"], ["f"]),
        one("Gather", ["f", "place"], ["g"], axis=1),
        ours("QGemm", ["g", "s", "z", "matrix_t", "sw", "zw0", "bias", "s2", "z2"], transB=1, alpha=1.0),
        back(),
    ],
    "QGemm to floats": [
        quantized(),
        one("Reshape", ["q", "flat"], ["f"]),
        one("Gather", ["f", "place"], ["g"], axis=1),
        ours("QGemm", ["g", "s", "z", "matrix", "sw", "zw0", "bias"], "y", alpha=1.0),
    ],
    "QLinearAdd": [
        quantized(),
        quantized("x", "r", "s2", "z2"),
        ours("QLinearAdd", ["q", "s", "z", "r", "s2", "z2", "s5", "z2"]),
        back("p", "y", "s5", "z2"),
    ],
    "QLinearMul": [
        quantized(),
        ours("QLinearMul", ["q", "s", "z", "q", "s", "z", "s5", "z2"]),
        back("p", "y", "s5", "z2"),
    ],
    "QLinearAveragePool": [
        quantized(),
        ours("QLinearAveragePool", ["q", "s", "z", "s4", "z2"], kernel_shape=[2, 2]),
        back("p", "y", "s4", "z2"),
    ],
    "QLinearGlobalAveragePool": [
        quantized(),
        ours("QLinearGlobalAveragePool", ["q", "s", "z", "s3", "z2"], channels_last=0),
        back("p", "y", "s3", "z2"),
    ],
    "QLinearLeakyRelu": [quantized(), ours("QLinearLeakyRelu", ["q", "s", "z", "s2", "z2"], alpha=0.3), back()],
    **{
        f"{kind}, channels last": [
            quantized(),
            one("Transpose", ["q"], ["t"], perm=[0, 2, 3, 1]),
            ours(kind, ["t", *inputs], "l", **attributes),
            one("Transpose", ["l"], ["p"], perm=[0, 3, 1, 2]),
            back("p", "y", scale, zero),
        ]
        for kind, inputs, attributes, scale, zero in (
            ("QLinearConv", [*CONV[1:], "bias"], {"pads": [1, 1, 1, 1], "channels_last": 1}, "s2", "z2"),
            ("NhwcMaxPool", [], {"kernel_shape": [2, 3], "strides": [2, 1]}, "s", "z"),
            ("QLinearAveragePool", ["s", "z", "s4", "z2"], {"kernel_shape": [2, 2], "channels_last": 1}, "s4", "z2"),
            ("QLinearGlobalAveragePool", ["s", "z", "s3", "z2"], {"channels_last": 1}, "s3", "z2"),
        )
    },
    "integers asked for behind a node without a name": [
        quantized(),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 3, 1]),
        one("ReduceMax", ["t"], ["m"], axes=[3]),
        one("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ],
    "QLinearSigmoid": [
        quantized(),
        ours("QLinearSigmoid", ["q", "s", "z", "s3", "z0"]),
        back("p", "y", "s3", "z0"),
    ],
    "QLinearSoftmax": [
        quantized(),
        ours("QLinearSoftmax", ["q", "s", "z", "s3", "z0"], axis=3, opset=13),
        back("p", "y", "s3", "z0"),
    ],
    "QLinearConcat": [
        quantized(),
        quantized("x", "r", "s2", "z2"),
        ours("QLinearConcat", ["s2", "z2", "q", "s", "z", "r", "s2", "z2"], axis=1),
        back(),
    ],
    "MatMulInteger": [
        quantized(),
        one("MatMulInteger", ["q", "matrix", "z", "zw"], ["i"]),
        one("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        one("Mul", ["c", "sw"], ["y"]),
    ],
    "MatMulInteger by the range": [
        one("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        one("MatMulInteger", ["q", "matrix", "qz", "zc"], ["i"]),
        one("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        one("Mul", ["qs", "sc"], ["scales"]),
        one("Mul", ["c", "scales"], ["y"]),
    ],
    "ConvInteger by the range": [
        one("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        one("ConvInteger", ["q", "kernel", "qz", "zw"], ["i"], pads=[1, 1, 1, 1]),
        one("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        one("Mul", ["c", "qs"], ["y"]),
    ],
    "DynamicQuantizeMatMul": [ours("DynamicQuantizeMatMul", ["x", "matrix", "sc", "zc", "float_bias"], "y")],
    "MatMulIntegerToFloat": [
        quantized(),
        ours("MatMulIntegerToFloat", ["q", "matrix", "s", "sw", "z", "zw", "float_bias"], "y"),
    ],
    "DynamicQuantizeLSTM": [
        one("Reshape", ["x", "sequence"], ["h"]),
        ours(
            "DynamicQuantizeLSTM", ["h", "lw", "lr", "", "", "", "", "", "lsw", "lzw", "lsw", "lzw"], "y", hidden_size=5
        ),
    ],
}


def written(
    path: Path,
    nodes: list[Any],
    kind: int = TensorProto.FLOAT,
    output: int = TensorProto.FLOAT,
    constants: Mapping[str, np.ndarray] = {},
) -> Path:
    constants = {**CONSTANTS, **constants, "w": array(3, 4, 3, 3) / 6, "place": np.array([2], np.int64)[0]}
    constants["sequence"] = np.array([24, 1, 6], np.int64)
    used = {value for node in nodes for value in node.input}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    entry = helper.make_tensor_value_info("x", kind, ["N", *SHAPE])
    graph = helper.make_graph(nodes, "network", [entry], [helper.make_tensor_value_info("y", output, None)], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def near(path: Path, tolerance: float, x: np.ndarray) -> Model:
    """Read a file; compare it with onnxruntime, sample by sample."""
    model = read_model(path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    (found,) = run(model.graph, torch.from_numpy(x.astype(np.float32)))
    wanted = np.stack([session.run(None, {"x": sample[None]})[0].ravel() for sample in x]).astype(np.float64)
    error = np.linalg.norm(found.numpy().reshape(wanted.shape) - wanted) / np.linalg.norm(wanted)
    assert error <= tolerance, error
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_what_computes_with_integers(name: str, tmp_path: Path) -> None:
    x = frontend_files.RANDOM.standard_normal((3, *SHAPE)).astype(np.float32)
    model = near(written(tmp_path / "m.onnx", NETWORKS[name]), 5e-2, x)
    codes = [finding.code for finding in model.findings]
    assert "quantization-left-out" in codes or model.graph.ops(ops.QuantizedRelu), codes


@pytest.mark.parametrize("within", WITHIN.values(), ids=WITHIN)
@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("DynamicQuantize")])
def test_integers_within_a_function_or_a_branch(name: str, within: Callable[[Path], Path], tmp_path: Path) -> None:
    x = frontend_files.RANDOM.standard_normal((3, *SHAPE)).astype(np.float32)
    model = near(within(written(tmp_path / "m.onnx", NETWORKS[name])), 5e-2, x)
    assert [finding.code for finding in model.findings] == ["quantization-left-out"]


@pytest.mark.parametrize("name", ["QLinearConv that rectifies", "a rectifier that is the end of the range"])
def test_a_range_from_zero_is_a_rectifier_with_its_levels(name: str, tmp_path: Path) -> None:
    model = read_model(written(tmp_path / "m.onnx", NETWORKS[name]))
    (rectifier,) = model.graph.ops(ops.QuantizedRelu).values()
    assert rectifier.levels == 255
    assert float(rectifier.ceiling) == pytest.approx(255 * 0.04)


def test_values_of_few_levels_that_no_rectifier_gives_are_refused_for_it(tmp_path: Path) -> None:
    coarse = {"s": scalar(3.0), "z": np.array(0, np.int8)}
    path = written(tmp_path / "m.onnx", [quantized(), back("q", "y", "s", "z")], constants=coarse)
    with pytest.raises(ModelError, match="1 value that it rounds to integers"):
        read_model(path)


def test_sums_that_overflow_in_onnxruntime_are_compared_with_what_they_should_be(tmp_path: Path) -> None:
    # Two products of up to 255 and 127 are more than 16 bits hold.
    nodes = [
        one("QuantizeLinear", ["x", "s", "half"], ["q"]),
        one("QLinearMatMul", ["q", "s", "half", "large", "sw", "zw0", "s6", "half"], ["p"]),
        one("DequantizeLinear", ["p", "s6", "half"], ["y"]),
    ]
    large = np.full((6, 3), 127, np.int8)
    constants = {"half": np.array(128, np.uint8), "large": large, "s6": scalar(0.25)}
    path = written(tmp_path / "m.onnx", nodes, constants=constants)
    (finding,) = read_model(path).findings
    assert finding.severity == "info"
    (kernel,) = (node for node in without_overflow(onnx.load(path), {}).graph.node if node.op_type == "QLinearMatMul")
    assert "unsigned" in kernel.input[3] and "unsigned" in kernel.input[5]


def test_samples_beyond_the_range_of_a_file_are_no_fault_of_the_import(tmp_path: Path) -> None:
    nodes = [quantized("x", "q", "s4", "half"), one("DequantizeLinear", ["q", "s4", "half"], ["y"])]
    nodes = [one("Mul", ["x", "factor"], ["f"]), quantized("f", "q", "s4", "half"), *nodes[1:]]
    constants = {"half": np.array(128, np.uint8), "factor": scalar(3)}
    (finding,) = read_model(written(tmp_path / "m.onnx", nodes, constants=constants)).findings
    assert finding.code == "quantization-left-out"


def test_integers_that_leave_the_network(tmp_path: Path) -> None:
    x = frontend_files.RANDOM.standard_normal((3, *SHAPE)).astype(np.float32)
    nodes = [quantized(), one("Flatten", ["q"], ["y"])]
    near(written(tmp_path / "m.onnx", nodes, output=TensorProto.UINT8), 5e-2, x)


def test_integers_that_enter_the_network(tmp_path: Path) -> None:
    x = frontend_files.RANDOM.integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    nodes = [back("x", "a", "s", "z"), one("Conv", ["a", "w"], ["y"])]
    near(written(tmp_path / "m.onnx", nodes, TensorProto.UINT8), 1e-4, x)
