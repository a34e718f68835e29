"""Loops, scans, branches and lists of tensors that the file itself decides, written out: what onnxruntime computes."""

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
from snnc.frontend import open_model, read_model
from snnc.frontend.check import computed
from tests.frontend_files import array, integers, one, parity, save

SIZE = 5
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def body(nodes: list[Any], inputs: dict[str, int], outputs: dict[str, int], **constants: np.ndarray) -> Any:
    """A graph inside a node; values by name and kind of numbers."""
    entries, exits = (
        [helper.make_tensor_value_info(name, kind, None if kind == FLOAT else []) for name, kind in values.items()]
        for values in (inputs, outputs)
    )
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_graph(nodes, "body", entries, exits, tensors)


STATE = {"i": INT64, "going": BOOL, "s": FLOAT}


def rounds(*nodes: Any, going: str = "going", outputs: dict[str, int] | None = None, **constants: np.ndarray) -> Any:
    """The body of a loop over ``s``, which becomes ``s1``."""
    last = one("Identity", [going], ["still"])
    return body([*nodes, last], STATE, {"still": BOOL, **(outputs or {"s1": FLOAT})}, **constants)


def product(value: str = "s", result: str = "s1") -> list[Any]:
    return [one("MatMul", [value, "w"], [f"{result}t"]), one("Relu", [f"{result}t"], [result])]


W, OUT = array(SIZE, SIZE), array(SIZE, 3)
BEHIND = one("MatMul", ["l", "out"], ["y"])


def written(path: Path, nodes: list[Any], opset: int = 17, shape: tuple[int, ...] = (SIZE,), **constants: Any) -> Path:
    used = {"w": W, "out": OUT, "yes": np.array(True), "three": np.array(3, np.int64), **constants}
    return save(path, [*nodes, BEHIND], shape, used, opset=opset)


@pytest.mark.parametrize("opset", [12, 17])
def test_a_loop_of_constant_length(opset: int, tmp_path: Path) -> None:
    nodes = [one("Loop", ["three", "yes", "x"], ["l"], body=rounds(*product()))]
    graph = parity(written(tmp_path / "m.onnx", nodes, opset), (SIZE,)).graph
    copies = [op for op in graph.ops(ops.Linear).values() if op.weight.shape == (SIZE, SIZE)]
    assert len(copies) == 3
    told = {verdict.operation: verdict.text for verdict in open_model(tmp_path / "m.onnx").survey.verdicts}
    assert told["Loop"] == "unrolled into what is in it"
    assert len({id(op.weight) for op in copies}) == 1


def test_a_loop_of_no_rounds(tmp_path: Path) -> None:
    nodes = [one("Loop", ["none", "yes", "x"], ["l"], body=rounds(*product()))]
    parity(written(tmp_path / "m.onnx", nodes, none=np.array(0, np.int64)), (SIZE,))


def test_what_a_loop_collects(tmp_path: Path) -> None:
    inside = rounds(*product(), one("Neg", ["s1"], ["seen"]), outputs={"s1": FLOAT, "seen": FLOAT})
    nodes = [
        one("Loop", ["three", "", "x"], ["last", "all"], body=inside),
        one("ReduceSum", ["all", "first"], ["total"], keepdims=0),
        one("Add", ["last", "total"], ["l"]),
    ]
    parity(written(tmp_path / "m.onnx", nodes, first=integers(0)), (SIZE,))


def test_the_number_of_the_round(tmp_path: Path) -> None:
    inside = rounds(
        one("Cast", ["i"], ["number"], to=FLOAT), one("Add", ["s", "number"], ["t"]), one("Relu", ["t"], ["s1"])
    )
    parity(written(tmp_path / "m.onnx", [one("Loop", ["three", "yes", "x"], ["l"], body=inside)]), (SIZE,))


def test_a_loop_that_goes_on_while_a_counter_is_small(tmp_path: Path) -> None:
    inside = body(
        [
            *product(),
            one("Add", ["n", "two"], ["n1"]),
            one("Less", ["n1", "seven"], ["still"]),
        ],
        {**STATE, "n": INT64},
        {"still": BOOL, "s1": FLOAT, "n1": INT64},
        two=np.array(2, np.int64),
    )
    nodes = [one("Loop", ["", "yes", "x", "start"], ["l", "n2"], body=inside)]
    constants = {"start": np.array(0, np.int64), "seven": np.array(7, np.int64)}
    graph = parity(written(tmp_path / "m.onnx", nodes, **constants), (SIZE,)).graph
    assert len(graph.ops(ops.Relu)) == 4


def test_loops_in_loops_read_what_is_around_them(tmp_path: Path) -> None:
    inner = body(
        [one("Add", ["r", "s"], ["sum"]), one("MatMul", ["sum", "w"], ["r1"]), one("Identity", ["g"], ["g1"])],
        {"j": INT64, "g": BOOL, "r": FLOAT},
        {"g1": BOOL, "r1": FLOAT},
    )
    inside = rounds(one("Loop", ["two", "yes", "x"], ["t"], body=inner), one("Tanh", ["t"], ["s1"]))
    nodes = [one("Loop", ["three", "yes", "x"], ["l"], body=inside)]
    parity(written(tmp_path / "m.onnx", nodes, two=np.array(2, np.int64)), (SIZE,), 1e-4)


def test_a_loop_that_depends_on_data_is_refused(tmp_path: Path) -> None:
    inside = body(
        [*product(), one("ReduceSum", ["s1"], ["t"], keepdims=0), one("Less", ["t", "limit"], ["still"])],
        STATE,
        {"still": BOOL, "s1": FLOAT},
        limit=np.array(3.0, np.float32),
    )
    path = written(tmp_path / "m.onnx", [one("Loop", ["three", "yes", "x"], ["l"], body=inside)])
    with pytest.raises(ModelError) as refused:
        read_model(path)
    assert "a loop whose length depends on data" in str(refused.value.details)


@pytest.mark.parametrize("back", [0, 1])
def test_a_scan(back: int, tmp_path: Path) -> None:
    inside = body(
        [
            one("MatMul", ["t", "w"], ["p"]),
            one("Add", ["h", "p"], ["q"]),
            one("Tanh", ["q"], ["h1"]),
            one("Neg", ["h1"], ["g"]),
        ],
        {"h": FLOAT, "t": FLOAT},
        {"h1": FLOAT, "g": FLOAT},
    )
    scan = one(
        "Scan",
        ["begin", "x"],
        ["last", "all"],
        body=inside,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[-2],
        scan_input_directions=[back],
        scan_output_directions=[1 - back],
    )
    nodes = [scan, one("Unsqueeze", ["last", "second"], ["row"]), one("Add", ["all", "row"], ["l"])]
    constants = {"begin": array(1, SIZE), "second": integers(1)}
    parity(written(tmp_path / "m.onnx", nodes, shape=(4, SIZE), **constants), (4, SIZE), 1e-4, pinned=True)


@pytest.mark.parametrize("which", [True, False])
def test_a_branch_that_the_file_decides(which: bool, tmp_path: Path) -> None:
    branches = {
        "then_branch": body([one("Relu", ["x"], ["a"])], {}, {"a": FLOAT}),
        "else_branch": body([one("MatMul", ["x", "w"], ["b"])], {}, {"b": FLOAT}),
    }
    nodes = [
        one("Shape", ["x"], ["shape"]),
        one("Gather", ["shape", "last"], ["length"], axis=0),
        one("Equal", ["length", "wanted"], ["decided"]),
        one("If", ["decided"], ["l"], **branches),
    ]
    constants = {"last": np.array(1, np.int64), "wanted": np.array(SIZE + 1 - which, np.int64)}
    parity(written(tmp_path / "m.onnx", nodes, **constants), (SIZE,))


LISTS: dict[str, list[Any]] = {
    "an entry": [
        one("SequenceConstruct", ["x", "r", "t"], ["q"]),
        one("SequenceAt", ["q", "back"], ["l"]),
    ],
    "joined": [
        one("SequenceConstruct", ["x", "r", "t"], ["q"]),
        one("ConcatFromSequence", ["q"], ["c"], axis=1, new_axis=1),
        one("ReduceSum", ["c", "second"], ["l"], keepdims=0),
    ],
    "inserted and erased": [
        one("SequenceEmpty", [], ["q0"]),
        one("SequenceInsert", ["q0", "x"], ["q1"]),
        one("SequenceInsert", ["q1", "r", "zero"], ["q2"]),
        one("SequenceInsert", ["q2", "t"], ["q3"]),
        one("SequenceErase", ["q3", "zero"], ["q4"]),
        one("ConcatFromSequence", ["q4"], ["c"], axis=-1),
        one("Slice", ["c", "from", "till", "second"], ["l"]),
    ],
    "split": [
        one("SplitToSequence", ["x", "sizes"], ["q"], axis=1),
        one("SequenceAt", ["q", "second"], ["c"]),
        one("Concat", ["c", "x"], ["d"], axis=1),
        one("Slice", ["d", "zero", "five", "second"], ["l"]),
    ],
    "split one by one": [
        one("SplitToSequence", ["x"], ["q"], axis=1, keepdims=0),
        one("SequenceAt", ["q", "back"], ["c"]),
        one("Unsqueeze", ["c", "second"], ["d"]),
        one("Add", ["d", "x"], ["l"]),
    ],
    "collected in a loop": [
        one("SequenceEmpty", [], ["q0"]),
        one(
            "Loop",
            ["three", "yes", "x", "q0"],
            ["u", "q"],
            body=helper.make_graph(
                [*product(), one("SequenceInsert", ["q1", "s1"], ["q2"]), one("Identity", ["going"], ["still"])],
                "body",
                [
                    *(
                        helper.make_tensor_value_info(n, kind, None if kind == FLOAT else [])
                        for n, kind in STATE.items()
                    ),
                    helper.make_tensor_sequence_value_info("q1", FLOAT, None),
                ],
                [
                    helper.make_tensor_value_info("still", BOOL, None),
                    helper.make_tensor_value_info("s1", FLOAT, None),
                    helper.make_tensor_sequence_value_info("q2", FLOAT, None),
                ],
            ),
        ),
        one("ConcatFromSequence", ["q"], ["c"], axis=1, new_axis=1),
        one("ReduceSum", ["c", "second"], ["l"], keepdims=0),
    ],
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_tensors(name: str, tmp_path: Path) -> None:
    constants = {
        "back": np.array(-1, np.int64),
        "zero": integers(0)[0],
        "second": integers(1),
        "sizes": integers(2, 3),
        "from": integers(2),
        "till": integers(2 + SIZE),
        "five": integers(SIZE),
    }
    nodes = [one("Relu", ["x"], ["r"]), one("Tanh", ["x"], ["t"]), *LISTS[name]]
    if name == "split":
        constants["second"] = integers(1)
        constants["zero"] = integers(0)
        nodes[3] = one("SequenceAt", ["q", "one"], ["c"])
        constants["one"] = np.array(1, np.int64)
    parity(written(tmp_path / "m.onnx", nodes, **constants), (SIZE,), 1e-4)


@pytest.mark.parametrize("rate", [8, 16])
def test_a_branch_that_an_input_of_one_number_decides_is_a_choice(rate: int, tmp_path: Path) -> None:
    branches = {
        "then_branch": body([one("MatMul", ["x", "v"], ["a"])], {}, {"a": FLOAT}, v=array(SIZE, SIZE)),
        "else_branch": body([one("MatMul", ["x", "v"], ["b"])], {}, {"b": FLOAT}, v=array(SIZE, SIZE)),
    }
    nodes = [one("Equal", ["rate", "sixteen"], ["fast"]), one("If", ["fast"], ["l"], **branches)]
    path = written(tmp_path / "m.onnx", nodes, sixteen=np.array(16, np.int64))
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("rate", INT64, []))
    onnx.save(model, path)
    graph = read_model(path).graph
    x = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(0))
    values = computed(graph, {"x": x, "rate": torch.tensor([float(rate)])}, {})
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x.numpy(), "rate": np.array(rate, np.int64)})
    np.testing.assert_allclose(values[graph.outputs[0]].numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_a_branch_that_the_sample_decides_is_refused(tmp_path: Path) -> None:
    branches = {
        "then_branch": body([one("Relu", ["x"], ["a"])], {}, {"a": FLOAT}),
        "else_branch": body([one("MatMul", ["x", "w"], ["b"])], {}, {"b": FLOAT}),
    }
    nodes = [
        one("ReduceSum", ["x"], ["total"], keepdims=0),
        one("Greater", ["total", "limit"], ["large"]),
        one("If", ["large"], ["l"], **branches),
    ]
    path = written(tmp_path / "m.onnx", nodes, limit=np.array(0, np.float32))
    with pytest.raises(ModelError) as refused:
        read_model(path)
    assert "a branch that data decides" in str(refused.value.details)


def test_what_reads_a_repeated_constant_behind_a_refusal_is_not_blamed(tmp_path: Path) -> None:
    nodes = [
        one("MatMul", ["x", "w"], ["a"]),
        one("RandomUniformLike", ["a"], ["h"]),
        one("MatMul", ["h", "w"], ["l"]),
    ]
    with pytest.raises(ModelError) as refused:
        read_model(written(tmp_path / "m.onnx", nodes))
    assert len(refused.value.details) == 1
