"""ONNX graphs: chains of operations with attributes and constants, joined with what came before here and there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.frontend import open_model
from tests.fuzz.numbers import damaged, lengths, names, reals
from tests.fuzz.oracle import Files, Kind

Draw = st.DrawFn


def _windows(draw: Draw) -> dict[str, Any]:
    axes = draw(st.sampled_from([1, 2, 2, 2, 3]))
    found: dict[str, Any] = {"kernel_shape": [draw(lengths) for _ in range(axes)]}
    if draw(st.booleans()):
        found["strides"] = [draw(lengths) for _ in range(axes)]
    if draw(st.booleans()):
        found["pads"] = [draw(st.one_of(st.integers(0, 2), lengths)) for _ in range(2 * axes)]
    return found


def _axis(draw: Draw) -> dict[str, Any]:
    return {"axis": draw(st.integers(-3, 4))}


# What is drawn of an operation: its attributes, and how many lists of whole numbers it reads besides.
KINDS: dict[str, tuple[Callable[[Draw], dict[str, Any]], int]] = {
    **{kind: (lambda draw: {}, 0) for kind in ("Relu", "Sigmoid", "Identity", "GlobalAveragePool", "Dropout", "Shape")},
    "LeakyRelu": (lambda draw: {"alpha": draw(reals)}, 0),
    "Softmax": (_axis, 0),
    "Flatten": (_axis, 0),
    "AveragePool": (_windows, 0),
    "MaxPool": (_windows, 0),
    "Transpose": (lambda draw: {"perm": draw(st.permutations(range(draw(st.integers(1, 4)))))}, 0),
    "ReduceMean": (lambda draw: {"axes": [draw(st.integers(-3, 3))], "keepdims": draw(st.integers(0, 1))}, 0),
    "Concat": (_axis, -1),
    "Add": (lambda draw: {}, -1),
    "Mul": (lambda draw: {}, -1),
    "MatMul": (lambda draw: {}, -2),
    "Gemm": (lambda draw: {"transB": draw(st.integers(0, 1))}, -2),
    "Conv": (_windows, -3),
    "Reshape": (lambda draw: {}, 1),
    "Expand": (lambda draw: {}, 1),
    "Tile": (lambda draw: {}, 1),
    "Pad": (lambda draw: {"mode": draw(st.sampled_from(["constant", "reflect", "edge"]))}, 1),
    "Squeeze": (lambda draw: {}, 1),
    "Unsqueeze": (lambda draw: {}, 1),
    "Slice": (lambda draw: {}, 3),
    "Gather": (_axis, 1),
}


@st.composite
def files(draw: Draw) -> Files:
    shape = [draw(st.sampled_from(["N", 1, 2])), *draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))]
    values, nodes, constants = ["x"], list[NodeProto](), list[TensorProto]()
    random = np.random.default_rng(draw(st.integers(0, 9)))

    def constant(array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, f"k{len(constants)}"))
        return constants[-1].name

    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(sorted(KINDS)))
        attributes, reads = KINDS[kind]
        read = [draw(st.sampled_from(values[-2:]))]
        if reads == -1:
            own = constant(np.float32(random.normal(size=draw(st.sampled_from([(), (1,), (4, 1, 1)])))))
            read.append(draw(st.sampled_from([*values, own])))
        elif reads < -1:
            sizes = draw(st.lists(st.integers(1, 5), min_size=-reads, max_size=2 - reads))
            read.append(constant(np.float32(random.normal(size=sizes))))
        for _ in range(max(reads, 0)):
            read.append(constant(np.array(draw(st.lists(lengths, min_size=1, max_size=4)), np.int64)))
        called = draw(names) if draw(st.integers(0, 4)) == 0 else f"n{number}"
        nodes.append(helper.make_node(kind, read, [f"v{number}"], name=called, **attributes(draw)))
        values.append(f"v{number}")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", draw(st.sampled_from([1, 1, 1, 1, 6, 7, 11])), shape)],
        [helper.make_tensor_value_info(draw(st.sampled_from([values[-1], values[-1], "x"])), TensorProto.FLOAT, None)],
        constants,
    )
    opset = draw(st.sampled_from([11, 13, 13, 17]))
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])
    data = model.SerializeToString()
    return {"m.onnx": draw(damaged(data)) if draw(st.integers(0, 5)) == 0 else data}


def examine(folder: Path) -> None:
    """Look at every operation, and, where all can become spiking, compare with onnxruntime."""
    opened = open_model(folder / "m.onnx")
    if not opened.survey.problems:
        opened.model()


KIND = Kind("onnx", files(), examine)
