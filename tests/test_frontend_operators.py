"""Every ONNX operation in its odder forms; onnxruntime is the oracle, for a batch of one and of three."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from snnc import ops
from snnc.errors import ModelError
from snnc.frontend import open_model, read_model
from snnc.frontend.operators import operators
from snnc.frontend.reasons import reason
from tests.frontend_files import array, integers, one, parity, run, save
from tests.support import naming

OPSETS = (9, 11, 13, 17, 20, 22)
W2 = {"w": array(6, 4, 3, 3), "b": array(6)}
IMAGE = (4, 9, 8)
LINE = (4, 11)

CASES: dict[str, tuple[Any, tuple[int, ...], dict[str, np.ndarray]]] = {
    "conv": (one("Conv", ["x", "w", "b"]), IMAGE, W2),
    "conv-no-bias-padded": (one("Conv", ["x", "w"], pads=[1, 1, 1, 1], strides=[2, 1]), IMAGE, {"w": W2["w"]}),
    "conv-asymmetric": (one("Conv", ["x", "w", "b"], pads=[0, 1, 2, 3], dilations=[2, 1]), IMAGE, W2),
    "conv-same-upper": (
        one("Conv", ["x", "w"], auto_pad="SAME_UPPER", strides=[2, 2]),
        IMAGE,
        {"w": array(6, 4, 2, 3)},
    ),
    "conv-same-lower": (
        one("Conv", ["x", "w"], auto_pad="SAME_LOWER", strides=[2, 2]),
        IMAGE,
        {"w": array(6, 4, 2, 3)},
    ),
    "conv-valid": (one("Conv", ["x", "w"], auto_pad="VALID"), IMAGE, {"w": W2["w"]}),
    "conv-groups": (one("Conv", ["x", "w"], group=2), IMAGE, {"w": array(6, 2, 3, 3)}),
    "conv-depthwise": (one("Conv", ["x", "w"], group=4, kernel_shape=[3, 3]), IMAGE, {"w": array(4, 1, 3, 3)}),
    "conv-1d": (one("Conv", ["x", "w", "b"], pads=[2, 1], strides=[2]), LINE, {"w": array(6, 4, 3), "b": array(6)}),
    "deconv": (one("ConvTranspose", ["x", "w", "b"], strides=[2, 2]), IMAGE, {"w": array(4, 5, 3, 3), "b": array(5)}),
    "deconv-padded": (
        one("ConvTranspose", ["x", "w"], strides=[2, 3], pads=[1, 0, 0, 2], output_padding=[1, 2]),
        IMAGE,
        {"w": array(4, 5, 3, 3)},
    ),
    "deconv-output-shape": (
        one("ConvTranspose", ["x", "w"], strides=[2, 2], output_shape=[18, 16]),
        IMAGE,
        {"w": array(4, 5, 3, 3)},
    ),
    "deconv-same": (
        one("ConvTranspose", ["x", "w"], strides=[2, 2], auto_pad="SAME_UPPER"),
        IMAGE,
        {"w": array(4, 5, 3, 3)},
    ),
    "deconv-output-longer": (
        one("ConvTranspose", ["x", "w"], strides=[2, 3], output_shape=[18, 24]),
        IMAGE,
        {"w": array(4, 5, 1, 2)},
    ),
    "deconv-groups-1d": (one("ConvTranspose", ["x", "w"], group=2, dilations=[2]), LINE, {"w": array(4, 3, 3)}),
    "gemm": (one("Gemm", ["x", "w", "b"], alpha=0.5, beta=2.0), (7,), {"w": array(7, 3), "b": array(3)}),
    "gemm-transposed": (one("Gemm", ["x", "w"], transB=1), (7,), {"w": array(3, 7)}),
    "gemm-row-bias": (one("Gemm", ["x", "w", "b"], transB=1), (7,), {"w": array(3, 7), "b": array(1, 3)}),
    "gemm-scalar-bias": (one("Gemm", ["x", "w", "b"], transB=1), (7,), {"w": array(3, 7), "b": array(1)}),
    "matmul": (one("MatMul", ["x", "w"]), (5, 7), {"w": array(7, 3)}),
    "matmul-flat": (one("MatMul", ["x", "w"]), (7,), {"w": array(7, 3)}),
    "matmul-vector": (one("MatMul", ["x", "w"]), (5, 7), {"w": array(7)}),
    "matmul-left": (one("MatMul", ["w", "x"]), (5, 7), {"w": array(3, 5)}),
    "matmul-left-four": (one("MatMul", ["w", "x"]), (2, 5, 7), {"w": array(3, 5)}),
    "matmul-unit-batch": (one("MatMul", ["x", "w"]), (5, 7), {"w": array(1, 7, 3)}),
    "relu": (one("Relu"), IMAGE, {}),
    "leaky": (one("LeakyRelu", alpha=0.3), IMAGE, {}),
    "prelu": (one("PRelu", ["x", "s"]), IMAGE, {"s": array(4, 1, 1)}),
    "prelu-scalar": (one("PRelu", ["x", "s"]), IMAGE, {"s": array(1)}),
    "prelu-four": (one("PRelu", ["x", "s"]), IMAGE, {"s": array(1, 4, 1, 1)}),
    "clip": (one("Clip", ["x", "l", "h"]), IMAGE, {"l": np.float32(0), "h": np.float32(1.5)}),
    "clip-both": (one("Clip", ["x", "l", "h"]), IMAGE, {"l": np.float32(-1), "h": np.float32(1.5)}),
    "clip-positive": (one("Clip", ["x", "l", "h"]), IMAGE, {"l": np.float32(0.5), "h": np.float32(1.5)}),
    "clip-low": (one("Clip", ["x", "l"]), IMAGE, {"l": np.float32(0)}),
    "clip-low-odd": (one("Clip", ["x", "l"]), IMAGE, {"l": np.float32(-0.7)}),
    "clip-high": (one("Clip", ["x", "", "h"]), IMAGE, {"h": np.float32(1)}),
    "clip-none": (one("Clip", ["x"]), IMAGE, {}),
    "min": (one("Min", ["x", "c"]), IMAGE, {"c": np.float32(1)}),
    "max": (one("Max", ["c", "x"]), IMAGE, {"c": np.float32(0)}),
    "max-channels": (one("Max", ["x", "c", "d"]), IMAGE, {"c": array(4, 1, 1), "d": np.float32(0.1)}),
    "hard-sigmoid": (one("HardSigmoid", alpha=0.3, beta=0.4), IMAGE, {}),
    "add-self": (one("Add", ["x", "x"]), IMAGE, {}),
    "add-channels": (one("Add", ["x", "c"]), IMAGE, {"c": array(1, 4, 1, 1)}),
    "add-broadcasting-up": (one("Add", ["c", "x"]), (1, 5), {"c": array(3, 5)}),
    "sub": (one("Sub", ["x", "c"]), IMAGE, {"c": array(4, 1, 1)}),
    "sub-from": (one("Sub", ["c", "x"]), IMAGE, {"c": np.float32(2)}),
    "mul": (one("Mul", ["c", "x"]), IMAGE, {"c": array(9, 8)}),
    "div": (one("Div", ["x", "c"]), IMAGE, {"c": array(4, 1, 1) + 5}),
    "neg": (one("Neg"), IMAGE, {}),
    "sum": (one("Sum", ["x", "c", "x"]), IMAGE, {"c": array(4, 1, 1)}),
    "mean-of": (one("Mean", ["x", "x", "c"]), IMAGE, {"c": array(4, 1, 1)}),
    "identity": (one("Identity"), IMAGE, {}),
    "cast": (one("Cast", to=TensorProto.FLOAT), IMAGE, {}),
    "flatten": (one("Flatten"), IMAGE, {}),
    "flatten-two": (one("Flatten", axis=-3), IMAGE, {}),
    "reshape-zero": (one("Reshape", ["x", "s"]), IMAGE, {"s": integers(0, 0, -1)}),
    "reshape-minus": (one("Reshape", ["x", "s"]), IMAGE, {"s": integers(-1, 4, 72)}),
    "transpose": (one("Transpose", perm=[0, 2, 3, 1]), IMAGE, {}),
    "concat-twice": (one("Concat", ["x", "x"], axis=-1), IMAGE, {}),
    "slice": (
        one("Slice", ["x", "b", "e", "a"]),
        IMAGE,
        {"b": integers(1, -6), "e": integers(2**62, -1), "a": integers(2, -1)},
    ),
    "slice-steps": (
        one("Slice", ["x", "b", "e", "a", "s"]),
        IMAGE,
        {"b": integers(0, -1), "e": integers(9, -100), "a": integers(2, 3), "s": integers(2, -3)},
    ),
    "slice-flip": (
        one("Slice", ["x", "b", "e", "a", "s"]),
        IMAGE,
        {"b": integers(-1), "e": integers(-(2**63)), "a": integers(1), "s": integers(-1)},
    ),
    "gather": (one("Gather", ["x", "i"], axis=1), IMAGE, {"i": integers(3, 0, -2, 0)}),
    "gather-scalar": (one("Gather", ["x", "i"], axis=2), IMAGE, {"i": np.int64(-1)}),
    "gather-matrix": (one("Gather", ["x", "i"], axis=1), IMAGE, {"i": integers(3, 0, 1, 2).reshape(2, 2)}),
    "pad": (one("Pad", ["x", "p", "v"]), IMAGE, {"p": integers(0, 1, 2, 0, 0, 0, 1, 3), "v": np.float32(0.5)}),
    "pad-reflect": (one("Pad", ["x", "p"], mode="reflect"), IMAGE, {"p": integers(0, 0, 2, 1, 0, 0, 3, 4)}),
    "pad-edge": (one("Pad", ["x", "p"], mode="edge"), IMAGE, {"p": integers(0, 0, 2, 1, 0, 0, 3, 4)}),
    "pad-crop": (one("Pad", ["x", "p"]), IMAGE, {"p": integers(0, 0, -2, 1, 0, 0, -1, -3)}),
    "expand": (one("Expand", ["x", "s"]), (4, 1, 3), {"s": integers(1, 4, 5, 3)}),
    "tile": (one("Tile", ["x", "s"]), (4, 2), {"s": integers(1, 2, 3)}),
    "depth-to-space": (one("DepthToSpace", blocksize=2), (8, 3, 4), {}),
    "pixel-shuffle": (one("DepthToSpace", blocksize=2, mode="CRD"), (8, 3, 4), {}),
    "space-to-depth": (one("SpaceToDepth", blocksize=2), (3, 4, 6), {}),
    "average-pool": (one("AveragePool", kernel_shape=[3, 2], strides=[2, 2]), IMAGE, {}),
    "average-pool-excluded": (one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), IMAGE, {}),
    "average-pool-included": (
        one("AveragePool", kernel_shape=[3, 3], pads=[1, 0, 2, 1], count_include_pad=1),
        IMAGE,
        {},
    ),
    "average-pool-ceil": (one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), IMAGE, {}),
    "average-pool-ceil-padded": (
        one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
        (4, 10, 8),
        {},
    ),
    "average-pool-same": (one("AveragePool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"), IMAGE, {}),
    "average-pool-1d": (one("AveragePool", kernel_shape=[4], strides=[3], pads=[1, 2]), LINE, {}),
    "max-pool": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1]), IMAGE, {}),
    "max-pool-ceil": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), IMAGE, {}),
    "max-pool-dilated": (one("MaxPool", kernel_shape=[3, 3], dilations=[2, 2], ceil_mode=1), IMAGE, {}),
    "max-pool-same": (one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"), IMAGE, {}),
    "max-pool-1d": (one("MaxPool", kernel_shape=[2], strides=[2], pads=[1, 1]), LINE, {}),
    "global-average": (one("GlobalAveragePool"), IMAGE, {}),
    "global-average-1d": (one("GlobalAveragePool"), LINE, {}),
    "global-max": (one("GlobalMaxPool"), IMAGE, {}),
    "batch-norm": (
        one("BatchNormalization", ["x", "s", "b", "m", "v"], epsilon=1e-3),
        IMAGE,
        {"s": array(4), "b": array(4), "m": array(4), "v": array(4) ** 2 + 0.1},
    ),
    "batch-norm-1d": (
        one("BatchNormalization", ["x", "s", "b", "m", "v"]),
        LINE,
        {"s": array(4), "b": array(4), "m": array(4), "v": array(4) ** 2 + 0.1},
    ),
    "batch-norm-flat": (
        one("BatchNormalization", ["x", "s", "b", "m", "v"]),
        (4,),
        {"s": array(4), "b": array(4), "m": array(4), "v": array(4) ** 2 + 0.1},
    ),
}

# Operations whose parameters moved between attributes and inputs, or that are younger than opset 11.
BY_OPSET: dict[str, tuple[tuple[int, ...], Any, tuple[int, ...], dict[str, np.ndarray]]] = {
    "squeeze-attribute": ((11,), one("Squeeze", axes=[1, 3]), (1, 5, 1), {}),
    "squeeze-input": ((13, 20), one("Squeeze", ["x", "a"]), (1, 5, 1), {"a": integers(1, -1)}),
    "unsqueeze-attribute": ((11,), one("Unsqueeze", axes=[1, 3]), (5, 2), {}),
    "unsqueeze-input": ((13, 20), one("Unsqueeze", ["x", "a"]), (5, 2), {"a": integers(1, -1)}),
    "mean-attribute": ((11, 13, 17), one("ReduceMean", axes=[-2, 3], keepdims=0), IMAGE, {}),
    "mean-keep": ((11, 13, 17), one("ReduceMean", axes=[2, 3]), IMAGE, {}),
    "mean-input": ((18, 20), one("ReduceMean", ["x", "a"], keepdims=0), IMAGE, {"a": integers(-1, 2)}),
    "mean-channels": ((18, 20), one("ReduceMean", ["x", "a"], keepdims=1), IMAGE, {"a": integers(1)}),
    "mean-noop": ((18, 20), one("ReduceMean", noop_with_empty_axes=1), IMAGE, {}),
    "sum-attribute": ((11,), one("ReduceSum", axes=[2], keepdims=0), IMAGE, {}),
    "sum-input": ((13, 20), one("ReduceSum", ["x", "a"]), IMAGE, {"a": integers(2, 3)}),
    "reduce-max": ((11, 13), one("ReduceMax", axes=[2, 3], keepdims=0), IMAGE, {}),
    "clip-attribute": ((9,), one("Clip", min=-0.5, max=1.0), IMAGE, {}),
    "slice-attribute": ((9,), one("Slice", starts=[1, 0], ends=[3, -2], axes=[1, 3]), IMAGE, {}),
    "pad-attribute": ((9,), one("Pad", pads=[0, 0, 1, 2, 0, 0, 1, 0], value=1.5), IMAGE, {}),
    "pad-axes": ((18, 20), one("Pad", ["x", "p", "", "a"]), IMAGE, {"p": integers(1, 2, 0, 3), "a": integers(-1, 2)}),
    "pad-wrap": ((19, 20), one("Pad", ["x", "p"], mode="wrap"), IMAGE, {"p": integers(0, 0, 2, 1, 0, 0, 3, 4)}),
    "upsample": ((9,), one("Upsample", ["x", "s"]), (2, 3, 4), {"s": np.float32([1, 1, 2, 3])}),
    "dropout": (OPSETS, one("Dropout"), IMAGE, {}),
    "dropout-ratio": ((13, 20), one("Dropout", ["x", "r"]), IMAGE, {"r": np.float32(0.5)}),
    "average-pool-ceil-included": (
        (19, 22),
        one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1),
        (4, 10, 8),
        {},
    ),
}


# Forms that opset 9 does not know yet; BY_OPSET has its own.
YOUNGER_THAN_9 = re.compile(r"clip|slice|pad|gemm-transposed|flatten-two|concat|pixel|.*-(ceil|dilated)")


@pytest.mark.parametrize(
    ("case", "opset"),
    [(case, opset) for case in CASES for opset in OPSETS if opset > 9 or not YOUNGER_THAN_9.match(case)],
)
def test_operation(case: str, opset: int, tmp_path: Path) -> None:
    node, shape, constants = CASES[case]
    parity(save(tmp_path / "m.onnx", [node], shape, constants, opset=opset), shape)


@pytest.mark.parametrize(("case", "opset"), [(case, opset) for case, entry in BY_OPSET.items() for opset in entry[0]])
def test_operation_of_some_opsets(case: str, opset: int, tmp_path: Path) -> None:
    _, node, shape, constants = BY_OPSET[case]
    parity(save(tmp_path / "m.onnx", [node], shape, constants, opset=opset), shape)


WHERE = {
    "half_pixel": (11, 13, 19),
    "asymmetric": (11, 13, 19),
    "pytorch_half_pixel": (11, 13, 19),
    "align_corners": (11, 13, 19),
    "tf_half_pixel_for_nn": (11,),
    "half_pixel_symmetric": (19,),
}


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize(("where", "opset"), [(where, opset) for where, opsets in WHERE.items() for opset in opsets])
def test_nearest_resizing(where: str, rounding: str, opset: int, tmp_path: Path) -> None:
    for factor in (2.0, 1.5, 3.0, 0.5, 0.7):
        with naming(factor):
            attributes = {"coordinate_transformation_mode": where, "nearest_mode": rounding}
            node = one("Resize", ["x", "r", "s"], mode="nearest", **attributes)
            constants = {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, factor, 2])}
            parity(save(tmp_path / "m.onnx", [node], (2, 6, 5), constants, opset=opset), (2, 6, 5))


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("where", [where for where, opsets in WHERE.items() if 19 in opsets])
def test_the_nearest_of_many_lengths(where: str, rounding: str, tmp_path: Path) -> None:
    """Places that only rounding tells from whole ones are those of onnxruntime."""
    lengths = range(1, 24)
    attributes = {"coordinate_transformation_mode": where, "nearest_mode": rounding, "mode": "nearest"}
    nodes = [one("Resize", ["x", "", "", f"s{n}"], [f"y{n}"], axes=[1], **attributes) for n in lengths]
    constants = {f"s{n}": integers(n) for n in lengths}
    for length in (5, 9, 14):
        path = save(tmp_path / "m.onnx", nodes, (length,), constants, [f"y{n}" for n in lengths], 19)
        parity(path, (length,))


@pytest.mark.parametrize("factor", [0.4, 0.6, 1.0, 1.7, 2.0])
def test_nearest_resizing_of_opset_10(factor: float, tmp_path: Path) -> None:
    node, factors = one("Resize", ["x", "f"], mode="nearest"), np.array([1, 1, factor, 2], np.float32)
    parity(save(tmp_path / "m.onnx", [node], (2, 6, 5), {"f": factors}, opset=10), (2, 6, 5))


def test_resizing_to_sizes(tmp_path: Path) -> None:
    node = one("Resize", ["x", "", "", "s"], mode="nearest")
    path = save(tmp_path / "m.onnx", [node], (2, 6, 5), {"s": integers(1, 2, 9, 11)}, batch=1)
    parity(path, (2, 6, 5), pinned=True)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_split_has_several_outputs(opset: int, tmp_path: Path) -> None:
    node = one("Split", ["x"], ["a", "b"], axis=2, **({"num_outputs": 2} if opset >= 18 else {}))
    nodes = [node, one("Relu", ["a"], ["c"]), one("Concat", ["b", "c"], axis=-2)]
    shape = (4, 7 if opset >= 18 else 8, 3)
    model = parity(save(tmp_path / "m.onnx", nodes, shape, {}, opset=opset), shape)
    assert len(model.graph.ops(ops.Slice)) == 2


def test_two_activations_and_two_outputs(tmp_path: Path) -> None:
    nodes = [
        one("Relu", ["x"], ["r"]),
        one("Sub", ["r", "x"], ["d"]),
        one("Sum", ["r", "d", "x"], ["s"]),
        one("GlobalAveragePool", ["s"], ["g"]),
        one("Add", ["g", "d"], ["y"]),
    ]
    parity(save(tmp_path / "m.onnx", nodes, IMAGE, {}, ["y", "s"]), IMAGE)


@pytest.mark.parametrize("place", ["front", "back", "both"])
def test_constants_concatenated_at_the_ends(place: str, tmp_path: Path) -> None:
    inputs = {"front": ["c", "r"], "back": ["r", "r", "c"], "both": ["c", "r", "c"]}[place]
    nodes = [one("Relu", ["x"], ["r"]), one("Concat", inputs, axis=1)]
    path = save(tmp_path / "m.onnx", nodes, (5, 4), {"c": array(1, 2, 4)}, batch=1)
    parity(path, (5, 4), pinned=True)


def test_a_bias_after_a_product_joins_it(tmp_path: Path) -> None:
    nodes = [one("MatMul", ["x", "w"], ["p"]), one("Add", ["b", "p"])]
    model = parity(save(tmp_path / "m.onnx", nodes, (5, 7), {"w": array(7, 3), "b": array(3)}), (5, 7))
    (linear,) = model.graph.ops(ops.Linear).values()
    assert linear.bias is not None
    assert list(model.graph.nodes) == ["x", "the_Add_y"]


def test_a_bias_after_a_product_read_elsewhere_stays(tmp_path: Path) -> None:
    nodes = [one("MatMul", ["x", "w"], ["p"]), one("Add", ["b", "p"], ["s"]), one("Concat", ["p", "s"], axis=1)]
    model = parity(save(tmp_path / "m.onnx", nodes, (5, 7), {"w": array(7, 3), "b": array(3)}), (5, 7))
    assert len(model.graph.ops(ops.Affine)) == 1


def test_channel_shuffle_with_a_baked_batch(tmp_path: Path) -> None:
    nodes = [
        one("Reshape", ["x", "s"], ["a"]),
        one("Transpose", ["a"], ["b"], perm=[1, 0, 2]),
        one("Reshape", ["b", "t"], ["c"]),
        one("Gather", ["c", "zero"], ["d"], axis=0),
        one("Gather", ["c", "one"], ["e"], axis=0),
        one("Conv", ["d", "w"], ["f"]),
        one("Concat", ["e", "f"], axis=1),
    ]
    constants = {
        "s": integers(3, 2, 20),
        "t": integers(2, -1, 3, 4, 5),
        "zero": np.int64(0),
        "one": np.int64(1),
        "w": array(4, 3, 1, 1),
    }
    parity(save(tmp_path / "m.onnx", nodes, (6, 4, 5), constants, batch=1), (6, 4, 5), pinned=True)


def test_transposes_that_move_the_batch(tmp_path: Path) -> None:
    nodes = [
        one("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        one("Relu", ["a"], ["b"]),
        one("MatMul", ["b", "w"], ["c"]),
        one("Transpose", ["c"], perm=[1, 2, 0]),
    ]
    parity(save(tmp_path / "m.onnx", nodes, (5, 7), {"w": array(7, 3)}), (5, 7))


def test_tokens_merged_with_the_batch(tmp_path: Path) -> None:
    nodes = [
        one("Reshape", ["x", "s"], ["a"]),
        one("Gemm", ["a", "w", "b"], ["c"], transB=1),
        one("Relu", ["c"], ["d"]),
        one("Reshape", ["d", "t"]),
    ]
    constants = {"s": integers(-1, 7), "w": array(3, 7), "b": array(3), "t": integers(-1, 5, 3)}
    parity(save(tmp_path / "m.onnx", nodes, (5, 7), constants), (5, 7))


def test_initializers_listed_as_inputs(tmp_path: Path) -> None:
    node, shape, constants = CASES["conv"]
    parity(save(tmp_path / "m.onnx", [node], shape, constants, opset=9, initializers_as_inputs=True), shape)


def test_turned_by_no_place_nothing_is_put_in_front(tmp_path: Path) -> None:
    """As torch writes a roll by 0: what is put together with all of it is empty."""
    nodes = [
        one("Relu", ["x"], ["r"]),
        one("Slice", ["r", "three", "many", "axis"], ["end"]),
        one("Slice", ["end", "zero", "many", "axis"], ["more"]),
        one("Slice", ["r", "zero", "three", "axis"], ["all"]),
        one("Concat", ["more", "all"], ["t"], axis=1),
        one("MatMul", ["t", "w"]),
    ]
    constants = {"zero": integers(0), "three": integers(3), "many": integers(99), "axis": integers(1), "w": array(3, 2)}
    parity(save(tmp_path / "m.onnx", nodes, (3,), constants), (3,))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_single_precision(dtype: type, tmp_path: Path) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weight = numpy_helper.from_array(array(6, 4, 3, 3).astype(dtype), "w")
    x = helper.make_tensor_value_info("x", kind, ["N", 4, 9, 8])
    y = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph([one("Conv", ["x", "w"], ["c"]), one("Relu", ["c"])], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    (conv,) = read_model(tmp_path / "m.onnx").graph.ops(ops.Conv).values()
    assert conv.weight.dtype == torch.float32


def test_a_batch_above_one_baked_into_reshapes(tmp_path: Path) -> None:
    nodes = [one("Relu", ["x"], ["r"]), one("Reshape", ["r", "s"], ["f"]), one("MatMul", ["f", "w"])]
    constants = {"s": integers(8, 12), "w": array(12, 2)}
    path = save(tmp_path / "m.onnx", nodes, (3, 4), constants, batch=8)
    graph = read_model(path).graph
    x = torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run(graph, x)[0].numpy(), session.run(None, {"x": x.numpy()})[0], rtol=1e-5, atol=1e-5)


MERGED: dict[str, list[Any]] = {
    "tokens": [one("Reshape", ["x", "rows"], ["f"]), one("MatMul", ["f", "w"], ["m"]), one("Reshape", ["m", "back"])],
    "a target that several read": [
        one("Reshape", ["x", "rows"], ["f"]),
        one("MatMul", ["f", "w"], ["m"]),
        one("Reshape", ["m", "rows"], ["g"]),
        one("Reshape", ["g", "back"]),
    ],
    "positions first": [
        one("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        one("Reshape", ["t", "rows"], ["f"]),
        one("MatMul", ["f", "w"], ["m"]),
        one("Reshape", ["m", "turned"], ["u"]),
        one("Transpose", ["u"], ["y"], perm=[1, 0, 2]),
    ],
    "what is left free": [
        one("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
        one("Reshape", ["t", "free"], ["f"]),
        one("Reshape", ["f", "apart"], ["u"]),
        one("Transpose", ["u"], ["y"], perm=[1, 2, 0]),
    ],
    "heads": [
        one("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        one("Reshape", ["t", "heads"], ["h"]),
        one("Transpose", ["h"], ["q"], perm=[1, 0, 2]),
        one("Transpose", ["h"], ["k"], perm=[1, 2, 0]),
        one("MatMul", ["q", "k"], ["s"]),
        one("MatMul", ["s", "q"], ["o"]),
        one("Transpose", ["o"], ["b"], perm=[1, 0, 2]),
        one("Reshape", ["b", "turned"], ["u"]),
        one("Transpose", ["u"], ["y"], perm=[1, 0, 2]),
    ],
    "heads of what is copied": [
        one("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        one("Reshape", ["t", "copied"], ["u"]),
        one("Relu", ["u"], ["r"]),
        one("Transpose", ["r"], ["y"], perm=[1, 2, 0, 3]),
    ],
    "heads behind a shape that is computed": [
        one("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        one("Shape", ["t"], ["lengths"]),
        one("Add", ["one", "one"], ["two"]),
        one("Slice", ["lengths", "zero", "two"], ["rest"]),
        one("Concat", ["rest", "two", "two"], ["all"], axis=0),
        one("Reshape", ["t", "all"], ["p"]),
        one("Reshape", ["p", "heads"], ["h"]),
        one("Relu", ["h"], ["r"]),
        one("Reshape", ["r", "turned"], ["u"]),
        one("Transpose", ["u"], ["y"], perm=[1, 0, 2]),
    ],
}


@pytest.mark.parametrize("positions", [2, 3, 4])
@pytest.mark.parametrize("name", MERGED)
def test_a_batch_above_one_merged_with_other_axes(name: str, positions: int, tmp_path: Path) -> None:
    targets = {
        "rows": (2 * positions, 4),
        "back": (2, positions, 4),
        "turned": (positions, 2, 4),
        "heads": (positions, 4, 2),
        "free": (4, -1),
        "apart": (4, -1, positions),
        "copied": (positions, 0, 2, 2),
        "zero": (0,),
        "one": (1,),
    }
    used = {value for node in MERGED[name] for value in node.input}
    constants = {key: integers(*target) for key, target in targets.items() if key in used}
    constants |= {"w": array(4, 4)} if "w" in used else {}
    path = save(tmp_path / "m.onnx", MERGED[name], (positions, 4), constants, batch=2)
    graph = read_model(path).graph
    x = torch.randn(2, positions, 4, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(run(graph, x)[0].numpy(), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(graph, x[:1])[0].numpy(), wanted[:1], rtol=1e-5, atol=1e-5)


EARLY: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {
    "ImageScaler": ({"scale": 2.0, "bias": [0.1, -0.2, 0.3, 0.4]}, {}),
    "Affine": ({"alpha": 2.0, "beta": -0.5}, {}),
    "ScaledTanh": ({"alpha": 0.5, "beta": 2.0}, {}),
    "ParametricSoftplus": ({"alpha": 0.5, "beta": 2.0}, {}),
    "BatchNormalization": ({"spatial": 0}, {name: np.abs(array(*IMAGE)) + 0.1 for name in "stmv"}),
}


@pytest.mark.parametrize("kind", EARLY)
def test_what_opset_8_has(kind: str, tmp_path: Path) -> None:
    attributes, constants = EARLY[kind]
    node = one(kind, ["x", *constants], **attributes)
    parity(save(tmp_path / "m.onnx", [node], IMAGE, constants, opset=8), IMAGE)


FUSED: list[tuple[str, dict[str, Any]]] = [
    ("FusedConv", {"activation": "Relu", "strides": [2, 1]}),
    ("FusedConv", {"activation": "LeakyRelu", "activation_params": [0.3]}),
    ("FusedConv", {"activation": "Clip", "activation_params": [-0.5, 1.0]}),
    ("FusedConv", {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}),
    ("FusedConv", {"activation": "Tanh"}),
    ("FusedGemm", {"activation": "Relu", "alpha": 0.5, "beta": 2.0, "transB": 1}),
    ("FusedGemm", {"activation": "LeakyRelu", "activation_alpha": 0.3}),
    ("FusedGemm", {"activation": "Selu", "activation_alpha": 1.5, "activation_gamma": 1.1}),
]


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize(("kind", "attributes"), FUSED)
def test_what_onnxruntime_merged(kind: str, attributes: dict[str, Any], opset: int, tmp_path: Path) -> None:
    node = one(kind, ["x", "w", "b"], domain="com.microsoft", **attributes)
    if kind == "FusedConv":
        shape, constants = (4, 6, 6), {"w": array(3, 4, 3, 3), "b": array(3)}
    else:
        shape, constants = (6,), {"w": array(*((3, 6) if "transB" in attributes else (6, 3))), "b": array(3)}
    path = save(tmp_path / "m.onnx", [node], shape, constants, opset=opset)
    codes = [finding.code for finding in parity(path, shape, 2e-5).findings]
    assert codes == ["optimized-by-onnxruntime"]
    assert node.name in [verdict.name for verdict in open_model(path).survey.verdicts]


def test_a_merged_sum(tmp_path: Path) -> None:
    nodes = [
        one("Conv", ["x", "w"], ["r"]),
        one("FusedConv", ["x", "w", "b", "r"], domain="com.microsoft", activation="Relu"),
    ]
    path = save(tmp_path / "m.onnx", nodes, IMAGE, {"w": array(3, IMAGE[0], 3, 3), "b": array(3)})
    assert len(parity(path, IMAGE).graph.ops(ops.Add)) == 1


def test_a_rounding_to_floats_of_few_bits_is_refused(tmp_path: Path) -> None:
    nodes = [one("Cast", ["x"], ["e"], to=TensorProto.FLOAT8E4M3FN), one("Cast", ["e"], to=TensorProto.FLOAT)]
    with pytest.raises(ModelError) as caught:
        read_model(save(tmp_path / "m.onnx", nodes, (4,), {}, opset=19))
    assert "it rounds to float8e4m3fn" in caught.value.details[0]


def test_what_onnxruntime_has_no_implementation_of_is_named(tmp_path: Path) -> None:
    node = one("BiasSplitGelu", ["x", "b"], domain="com.microsoft")
    with pytest.raises(ModelError, match=f"cannot run '{node.name}' .BiasSplitGelu of opset 1."):
        read_model(save(tmp_path / "m.onnx", [node], (3, 8), {"b": array(8)}))


UNSUPPORTED: dict[str, tuple[Any, dict[str, np.ndarray]]] = {
    "RandomNormalLike": (one("RandomNormalLike"), {}),
    "RandomUniformLike": (one("RandomUniformLike"), {}),
    "Bernoulli": (one("Bernoulli"), {}),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_operation_is_named_with_a_reason(kind: str, tmp_path: Path) -> None:
    node, constants = UNSUPPORTED[kind]
    last = one("Relu", ["f"], ["out"])
    back = helper.make_node("Cast", ["y"], ["f"], name="back", to=TensorProto.FLOAT)
    nodes = [one("Relu", ["x"], ["h"]), node, back, last]
    path = save(tmp_path / "m.onnx", nodes, (4, 6, 6), constants, ["out"], 15)
    with pytest.raises(ModelError, match=r"1 of \d operations cannot become spiking") as caught:
        read_model(path)
    (detail,) = caught.value.details
    assert f"the/{kind}/y" in detail
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["Sigmoid", "Tanh"])
def test_a_function_inside_is_computed(kind: str, tmp_path: Path) -> None:
    parity(save(tmp_path / "m.onnx", [one(kind, ["x"], ["h"]), one("Neg", ["h"])], IMAGE, {}), IMAGE)


def test_every_operation_of_onnx_has_a_converter_or_a_reason() -> None:
    schemas = onnx.defs.get_all_schemas_with_history()
    known = {f"{schema.domain}.{schema.name}" if schema.domain else schema.name for schema in schemas}
    assert len(known) > 200
    silent = ("", "")
    reasons = {kind: reason(kind.rpartition(".")[2], silent) for kind in known}
    assert {kind for kind in known if kind not in operators and not all(reasons[kind])} == set()
    assert {kind for kind in operators if reasons.get(kind, silent) != silent} == set()
    assert reason("Unheard") not in reasons.values()


def test_the_registry_is_filled() -> None:
    assert len(operators) >= 45
    written = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert {kind for kind in operators if f'"{kind}"' not in written} == set()


def test_padding_before_a_convolution_and_a_bias_behind_it_join_it(tmp_path: Path) -> None:
    nodes = [
        one("Pad", ["x", "p"], ["a"]),
        one("Conv", ["a", "w"], ["c"]),
        one("Add", ["c", "b"]),
    ]
    constants = {"p": integers(0, 0, 1, 2, 0, 0, 0, 1), "w": W2["w"], "b": array(1, 6, 1, 1)}
    model = parity(save(tmp_path / "m.onnx", nodes, IMAGE, constants), IMAGE)
    assert [type(node.op) for node in model.graph.nodes.values()] == [ops.Input, ops.Conv]


def test_scales_behind_a_convolution_stay_visible(tmp_path: Path) -> None:
    nodes = [one("Conv", ["x", "w"], ["c"]), one("Mul", ["c", "s"])]
    model = parity(save(tmp_path / "m.onnx", nodes, IMAGE, {"w": W2["w"], "s": array(6, 1, 1)}), IMAGE)
    assert len(model.graph.ops(ops.Affine)) == 1


@st.composite
def movements(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Any], dict[str, np.ndarray]]:
    """Draw a chain of operations that move the axes about, the batch among them."""
    sample = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=3)))
    shape, nodes, constants, value = [1, *sample], [], {}, "x"
    for step in range(draw(st.integers(1, 6))):
        axis = draw(st.integers(0, len(shape) - 1))
        kinds = ["Transpose", "Reshape", "Concat", "ReduceMean", "ReduceSum", "Relu", "Add", "MatMul", "Tile", "Flip"]
        kind = draw(st.sampled_from(kinds + (["Gather"] if len(shape) > 1 else [])))
        name, output, attributes, operands = f"c{step}", f"v{step}", {}, [value]
        if kind == "Transpose":
            order = draw(st.permutations(range(len(shape))))
            attributes, shape = {"perm": order}, [shape[old] for old in order]
        elif kind == "Reshape":
            factors = [f for length in shape for f in ((2, 2) if length == 4 else (length,))]
            factors = draw(st.permutations(factors + [1] * draw(st.integers(0, 1))))
            cuts = draw(st.integers(1, len(factors)))
            shape = [*factors[: cuts - 1], int(np.prod(factors[cuts - 1 :]))]
            constants[name] = integers(*shape)
        elif kind == "Concat":
            attributes, operands = {"axis": axis}, [value, value]
            shape = [length * 2 if place == axis else length for place, length in enumerate(shape)]
        elif kind in ("ReduceMean", "ReduceSum"):
            keep = draw(st.booleans()) or len(shape) == 1
            attributes = {"keepdims": int(keep)}
            constants[name] = integers(axis)
            shape = [*shape[:axis], *([1] if keep else []), *shape[axis + 1 :]]
        elif kind == "Add":
            kept = draw(st.integers(0, len(shape)))
            constants[name] = array(*(draw(st.sampled_from([1, length])) for length in shape[kept:]))
        elif kind == "MatMul":
            constants[name] = array(shape[-1], 3)
            shape = [*shape[:-1], 3]
        elif kind == "Tile":
            constants[name] = integers(*(2 if place == axis else 1 for place in range(len(shape))))
            shape = [length * 2 if place == axis else length for place, length in enumerate(shape)]
        elif kind == "Flip":
            kind = "Gather"
            attributes, constants[name] = {"axis": axis}, integers(*reversed(range(shape[axis])))
        elif kind == "Gather":
            attributes, constants[name] = {"axis": axis}, np.int64(draw(st.integers(0, shape[axis] - 1)))
            shape = [*shape[:axis], *shape[axis + 1 :]]
        if name in constants:
            operands = [value, name]
        nodes.append(one(kind, operands, [output], **attributes))
        value = output
        assume(np.prod(shape) < 500)
    return sample, [*nodes, one("LeakyRelu", [value], ["y"])], constants


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(movements())
def test_any_movement_of_axes_is_one_of_every_sample(
    tmp_path: Path, network: tuple[tuple[int, ...], list[Any], dict[str, np.ndarray]]
) -> None:
    sample, nodes, constants = network
    path = save(tmp_path / "m.onnx", nodes, sample, constants, opset=18, batch=1)
    graph = read_model(path).graph
    x = torch.randn(3, *sample, generator=torch.Generator().manual_seed(0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    expected = np.stack([session.run(None, {"x": part.numpy()})[0].reshape(-1) for part in x.split(1)])
    np.testing.assert_allclose(run(graph, x)[0].reshape(3, -1).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_size_that_is_known_is_a_number(tmp_path: Path) -> None:
    nodes = [one("Size", ["x"], ["s"]), one("Cast", ["s"], ["n"], to=1), one("Div", ["x", "n"], ["y"])]
    parity(save(tmp_path / "m.onnx", nodes, (3, 4), {}, batch=1), (3, 4), pinned=True)


def test_parts_of_a_split_need_no_names(tmp_path: Path) -> None:
    nodes = [one("Split", ["x"], ["", "a", ""], axis=1), one("Relu", ["a"], ["y"])]
    graph = read_model(save(tmp_path / "m.onnx", nodes, (6, 2), {}, opset=13)).graph
    x = torch.randn(2, 6, 2)
    assert torch.equal(run(graph, x)[0], x[:, 2:4].relu())
