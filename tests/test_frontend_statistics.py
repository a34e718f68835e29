"""Normalizations, softmaxes and reductions; onnxruntime is the oracle, for a batch of one and of three."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnc import ops
from snnc.frontend.canonical import canonical
from snnc.frontend.files import read_file
from snnc.frontend.preparation import prepare_model
from snnc.frontend.statistics import statistics
from tests.frontend_files import array, integers, one, parity, save

MAP, TOKENS, LINE = (6, 5, 4), (5, 8), (7,)
ONE = {"s": array(8), "b": array(8)}
CHANNELS = {"s": array(6), "b": array(6)}


def foreign(kind: str, inputs: list[str], outputs: tuple[str, ...] = ("y",), **attributes: Any) -> Any:
    return one(kind, inputs, outputs, domain="com.microsoft", **attributes)


# What stands between two affine maps, so that nothing of it is an ending; the opset, and the shape of a sample.
CASES: dict[str, tuple[int, Any, tuple[int, ...], dict[str, np.ndarray]]] = {
    "layer": (17, one("LayerNormalization", ["h", "s", "b"], axis=-1, epsilon=1e-3), TOKENS, ONE),
    "layer-no-bias": (17, one("LayerNormalization", ["h", "s"]), TOKENS, {"s": np.ones(8, np.float32)}),
    "layer-two-axes": (17, one("LayerNormalization", ["h", "s"], axis=2), MAP, {"s": array(5, 4)}),
    "layer-whole-sample": (17, one("LayerNormalization", ["h", "s"], axis=1), MAP, {"s": array(*MAP)}),
    "rms": (23, one("RMSNormalization", ["h", "s"], axis=-1, epsilon=1e-2), TOKENS, {"s": array(8)}),
    "rms-two-axes": (23, one("RMSNormalization", ["h", "s"], axis=2), MAP, {"s": array(5, 4)}),
    "simplified": (13, one("SimplifiedLayerNormalization", ["h", "s"], epsilon=1e-2), TOKENS, {"s": array(8)}),
    "skip": (
        13,
        foreign("SkipLayerNormalization", ["h", "x", "s", "b", "c"], epsilon=1e-2),
        TOKENS,
        {**ONE, "c": array(8)},
    ),
    "skip-no-bias": (13, foreign("SkipLayerNormalization", ["h", "x", "s"]), TOKENS, {"s": array(8)}),
    "skip-simplified": (13, foreign("SkipSimplifiedLayerNormalization", ["h", "x", "s"]), TOKENS, {"s": array(8)}),
    "instance": (17, one("InstanceNormalization", ["h", "s", "b"], epsilon=1e-2), MAP, CHANNELS),
    "instance-1d": (17, one("InstanceNormalization", ["h", "s", "b"]), (6, 9), CHANNELS),
    "group": (21, one("GroupNormalization", ["h", "s", "b"], num_groups=3, epsilon=1e-2), MAP, CHANNELS),
    "group-by-groups": (
        18,
        one("GroupNormalization", ["h", "s", "b"], num_groups=2),
        MAP,
        {"s": array(2), "b": array(2)},
    ),
    "mean-variance": (13, one("MeanVarianceNormalization", ["h"], axes=[2, 3]), MAP, {}),
    "mean-variance-channels": (13, one("MeanVarianceNormalization", ["h"], axes=[1]), MAP, {}),
    "lp": (17, one("LpNormalization", ["h"], axis=1), MAP, {}),
    "lp-last": (22, one("LpNormalization", ["h"]), TOKENS, {}),
    "lp-absolute": (17, one("LpNormalization", ["h"], axis=2, p=1), MAP, {}),
    "lp-pool-dilated": (18, one("LpPool", ["h"], kernel_shape=[2, 2], dilations=[2, 1]), MAP, {}),
    "lp-pool-ceil": (18, one("LpPool", ["h"], kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1), MAP, {}),
    "log-sum": (
        13,
        one("ReduceLogSum", ["h"], axes=[1]),
        MAP,
        {},
    ),
    "lrn": (13, one("LRN", ["h"], size=3, alpha=0.7, beta=0.6, bias=1.5), MAP, {}),
    "softmax": (13, one("Softmax", ["h"], axis=1), MAP, {}),
    "softmax-flat": (11, one("Softmax", ["h"], axis=2), MAP, {}),
    "log-softmax": (13, one("LogSoftmax", ["h"]), TOKENS, {}),
    "log-softmax-flat": (11, one("LogSoftmax", ["h"], axis=1), MAP, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_divides_by_statistics(case: str, tmp_path: Path) -> None:
    opset, node, shape, constants = CASES[case]
    # What a logarithm is taken of is above zero.
    first = one("Mul", ["x", "x" if case == "log-sum" else "two"], ["h"])
    constants = {
        name: value
        for name, value in {**constants, "two": np.float32(2)}.items()
        if name in {*first.input, *node.input}
    }
    parity(save(tmp_path / "m.onnx", [first, node, one("Neg", ["y"], ["z"])], shape, constants, ["z"], opset), shape)


@pytest.mark.parametrize("kind", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_the_sum_beside_its_normalization(kind: str, tmp_path: Path) -> None:
    nodes = [
        one("Mul", ["x", "two"], ["h"]),
        foreign(kind, ["h", "x", "s"], ("y", "", "", "t")),
        one("Sub", ["y", "t"], ["z"]),
    ]
    parity(save(tmp_path / "m.onnx", nodes, TOKENS, {"s": array(8), "two": np.float32(2)}, ["z"]), TOKENS)


REDUCTIONS = {
    "ReduceMean": ops.Mean,
    "ReduceSum": ops.Mean,
    "ReduceMax": ops.MaxPool,
    "ReduceMin": ops.MaxPool,
    "ReduceL1": ops.Mean,
    "ReduceL2": ops.EuclideanNorm,
    "ReduceSumSquare": ops.Mean,
    "ReduceLogSumExp": ops.LogSumExp,
    "ReduceProd": ops.TotalProduct,
}


@pytest.mark.parametrize("axes", [[1], [-1], [2, 3], [1, 3], [3, 1, 2]], ids=str)
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_a_reduction(kind: str, keep: int, axes: list[int], tmp_path: Path) -> None:
    opset = 18 if keep else 13
    if opset == 18 or kind == "ReduceSum":
        node, constants = one(kind, ["h", "a"], keepdims=keep), {"a": integers(*axes)}
    else:
        node, constants = one(kind, ["h"], keepdims=keep, axes=axes), {}
    nodes = [one("Neg", ["x"], ["h"]), node, one("Neg", ["y"], ["z"])]
    model = parity(save(tmp_path / "m.onnx", nodes, MAP, constants, ["z"], opset), MAP)
    assert len(model.graph.ops(REDUCTIONS[kind])) == 1


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_a_reduction_over_everything(kind: str, tmp_path: Path) -> None:
    nodes = [one("Neg", ["x"], ["h"]), one(kind, ["h"], keepdims=1), one("Neg", ["y"], ["z"])]
    parity(save(tmp_path / "m.onnx", nodes, (3, 4), {}, ["z"], 13, batch=1), (3, 4), pinned=True)


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_a_reduction_over_no_axes(kind: str, tmp_path: Path) -> None:
    nodes = [one("Neg", ["x"], ["h"]), one(kind, ["h"], noop_with_empty_axes=1), one("Neg", ["y"], ["z"])]
    parity(save(tmp_path / "m.onnx", nodes, MAP, {}, ["z"], 18), MAP)


@pytest.mark.parametrize("shape", [(4, 9), (4, 5, 6)], ids=str)
def test_the_global_maximum(shape: tuple[int, ...], tmp_path: Path) -> None:
    nodes = [one("Neg", ["x"], ["h"]), one("GlobalMaxPool", ["h"]), one("Neg", ["y"], ["z"])]
    parity(save(tmp_path / "m.onnx", nodes, shape, {}, ["z"], 13), shape)


@pytest.mark.parametrize(
    "op", [ops.RootMeanSquareNorm((1,), 0.0), ops.RootMeanSquareNorm((1,), 0.0, 1e-12), ops.EuclideanNorm((1,))]
)
def test_silence_divided_by_its_norm_is_silence_and_moves_by_nothing(op: ops.Nonlinear) -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    y = op(x)
    y.sum().backward()
    assert not y.any() and x.grad is not None and x.grad.isfinite().all()


# Every spelling of a norm of tokens, as nodes from h to y, with its axes and constants.
NUMBERS = {
    "two": np.float32(2),
    "half": np.float32(0.5),
    "less": np.float32(-0.5),
    "eps": np.float32(1e-3),
    "faint": np.float32(1e-12),
    "least": np.float32(1e-6),
    "s": array(8),
    "b": array(8),
    "length": np.float32(8),
    "one": np.float32(1),
    "seven": np.float32(7),
    "shape": integers(1, 5, 8),
}
CENTERED = [one("ReduceMean", ["h"], ["m"], axes=[-1]), one("Sub", ["h", "m"], ["c"])]
SQUARED = [one("Pow", ["c", "two"], ["q"]), one("ReduceMean", ["q"], ["v"], axes=[2]), one("Add", ["v", "eps"], ["e"])]
SPELLINGS: dict[str, tuple[list[Any], ops.Op, bool]] = {
    "layer": (
        [*CENTERED, *SQUARED, one("Sqrt", ["e"], ["r"]), one("Div", ["c", "r"])],
        ops.RootMeanSquareNorm((2,), 1e-3),
        True,
    ),
    "layer-of-products-and-powers": (
        [
            *CENTERED,
            one("Mul", ["c", "c"], ["q"]),
            one("ReduceMean", ["q"], ["v"], axes=[-1]),
            one("Add", ["eps", "v"], ["e"]),
            one("Pow", ["e", "less"], ["r"]),
            one("Mul", ["r", "c"]),
        ],
        ops.RootMeanSquareNorm((2,), 1e-3),
        True,
    ),
    "layer-by-moments": (
        [
            *CENTERED,
            one("Mul", ["h", "h"], ["q"]),
            one("ReduceMean", ["q"], ["n"], axes=[-1]),
            one("Mul", ["m", "m"], ["o"]),
            one("Sub", ["n", "o"], ["v"]),
            one("Add", ["v", "eps"], ["e"]),
            one("Sqrt", ["e"], ["r"]),
            one("Div", ["c", "r"]),
        ],
        ops.RootMeanSquareNorm((2,), 1e-3),
        True,
    ),
    "layer-as-batch-norm": (
        [
            *CENTERED,
            *SQUARED,
            one("Sqrt", ["e"], ["r"]),
            one("Reciprocal", ["r"], ["i"]),
            one("Mul", ["i", "s"], ["k"]),
            one("Mul", ["h", "k"], ["a"]),
            one("Mul", ["m", "k"], ["n"]),
            one("Sub", ["b", "n"], ["o"]),
            one("Add", ["a", "o"]),
        ],
        ops.RootMeanSquareNorm((2,), 1e-3),
        True,
    ),
    "layer-of-an-unbiased-deviation": (
        [
            *CENTERED,
            one("Mul", ["c", "c"], ["q"]),
            one("ReduceSum", ["q", "last"], ["t"]),
            one("Div", ["t", "seven"], ["v"]),
            one("Sqrt", ["v"], ["r"]),
            one("Div", ["c", "r"]),
        ],
        ops.RootMeanSquareNorm((2,), 0.0),
        True,
    ),
    "rms": (
        [
            one("Pow", ["h", "two"], ["q"]),
            one("ReduceMean", ["q"], ["v"], axes=[-1]),
            one("Add", ["v", "eps"], ["e"]),
            one("Sqrt", ["e"], ["r"]),
            one("Reciprocal", ["r"], ["i"]),
            one("Mul", ["h", "i"]),
        ],
        ops.RootMeanSquareNorm((2,), 1e-3),
        False,
    ),
    "l2-with-a-floor": (
        [
            one("ReduceL2", ["h"], ["n"], axes=[-1], keepdims=1),
            one("Clip", ["n", "faint"], ["f"]),
            one("Expand", ["f", "shape"], ["g"]),
            one("Div", ["h", "g"]),
        ],
        ops.RootMeanSquareNorm((2,), 0.0, 1e-24 / 8),
        False,
    ),
    "l2-under-a-root": (
        [
            one("ReduceSumSquare", ["h"], ["q"], axes=[-1]),
            one("Max", ["q", "eps"], ["f"]),
            one("Sqrt", ["f"], ["r"]),
            one("Div", ["h", "r"]),
        ],
        ops.RootMeanSquareNorm((2,), 0.0, 1e-3 / 8),
        False,
    ),
    "softmax": (
        [
            one("ReduceMax", ["h"], ["m"], axes=[1]),
            one("Sub", ["h", "m"], ["c"]),
            one("Exp", ["c"], ["e"]),
            one("ReduceSum", ["e", "first"], ["t"]),
            one("Div", ["e", "t"]),
        ],
        ops.Softmax(1),
        False,
    ),
    "softmax-without-a-maximum": (
        [one("Exp", ["h"], ["e"]), one("ReduceSum", ["e", "last"], ["t"]), one("Div", ["e", "t"])],
        ops.Softmax(2),
        False,
    ),
    "log-softmax": (
        [
            one("ReduceMax", ["h"], ["m"], axes=[-1]),
            one("Sub", ["h", "m"], ["c"]),
            one("Exp", ["c"], ["e"]),
            one("ReduceSum", ["e", "last"], ["t"]),
            one("Log", ["t"], ["l"]),
            one("Sub", ["c", "l"]),
        ],
        ops.LogSoftmax(2),
        False,
    ),
    "log-sum-exp": (
        [
            one("ReduceMax", ["h"], ["m"], axes=[-1]),
            one("Sub", ["h", "m"], ["c"]),
            one("Exp", ["c"], ["e"]),
            one("ReduceSum", ["e", "last"], ["t"]),
            one("Log", ["t"], ["l"]),
            one("Add", ["m", "l"]),
        ],
        ops.LogSumExp((2,)),
        False,
    ),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_what_is_written_out_is_recognized(case: str, tmp_path: Path) -> None:
    nodes, op, centers = SPELLINGS[case]
    nodes = [one("Mul", ["x", "two"], ["h"]), *nodes, one("Neg", ["y"], ["z"])]
    constants = {**NUMBERS, "last": integers(-1), "first": integers(1)}
    used = {name for node in nodes for name in node.input}
    constants = {name: value for name, value in constants.items() if name in used}
    path = save(tmp_path / "m.onnx", nodes, TOKENS, constants, ["z"], batch=1)
    graph = parity(path, TOKENS, tolerance=1e-4, pinned=True).graph
    (found,) = graph.ops(ops.Nonlinear).values()
    assert type(found) is type(op)
    for name, value in vars(op).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-5, abs=0), name
    assert len(graph.ops(ops.Mean)) == centers


NO_STATISTICS = {
    "a-deviation-plus-something": [
        one("ReduceL2", ["h"], ["n"], axes=[-1], keepdims=1),
        one("Add", ["n", "one"], ["f"]),
        one("Div", ["h", "f"]),
    ],
    "another-power": [
        one("Pow", ["h", "two"], ["q"]),
        one("ReduceMean", ["q"], ["v"], axes=[-1]),
        one("Add", ["v", "eps"], ["e"]),
        one("Div", ["h", "e"]),
    ],
    "a-residual-sum": [
        one("ReduceMean", ["h"], ["m"], axes=[-1]),
        one("Sub", ["h", "m"], ["c"]),
        one("Add", ["h", "c"]),
    ],
}


@pytest.mark.parametrize("case", NO_STATISTICS)
def test_what_only_looks_like_a_norm_is_none(case: str, tmp_path: Path) -> None:
    nodes = [one("Mul", ["x", "two"], ["h"]), *NO_STATISTICS[case], one("Neg", ["y"], ["z"])]
    used = {name for node in nodes for name in node.input}
    constants = {name: value for name, value in NUMBERS.items() if name in used}
    file = read_file(save(tmp_path / "m.onnx", nodes, TOKENS, constants, ["z"]), None)
    prepared = prepare_model(file.model, file.weights, None, "")
    graph = canonical(prepared.pinned, prepared.weights, "")
    assert not list(statistics(graph, set()))


def test_what_is_read_elsewhere_is_no_part_of_a_norm(tmp_path: Path) -> None:
    nodes = [
        one("Mul", ["x", "two"], ["h"]),
        *CENTERED,
        *SQUARED,
        one("Sqrt", ["e"], ["r"]),
        one("Div", ["c", "r"]),
        one("Concat", ["c", "y"], ["z"], axis=1),
    ]
    constants = {name: NUMBERS[name] for name in ("two", "eps")}
    model = parity(save(tmp_path / "m.onnx", nodes, TOKENS, constants, ["z"]), TOKENS)
    assert len(model.graph.ops(ops.RootMeanSquareNorm)) == len(model.graph.ops(ops.Concat)) == 1


def test_normalizations_of_the_same_stay_apart(tmp_path: Path) -> None:
    norms = [
        one("GroupNormalization", ["x", "s", "b"], ["two"], num_groups=2),
        one("GroupNormalization", ["x", "s", "b"], ["three"], num_groups=3),
        one("InstanceNormalization", ["x", "s", "b"], ["six"]),
    ]
    nodes = [*norms, one("Sum", ["two", "three", "six"], ["y"])]
    constants = {"s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)}
    parity(save(tmp_path / "m.onnx", nodes, (6, 4), constants, opset=21), (6, 4), tolerance=1e-4)
