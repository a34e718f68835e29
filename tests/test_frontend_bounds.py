"""A few bytes can ask for any amount of memory and time: files are measured before anything is computed."""

import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

import snnc
from snnc.errors import ModelError, SnncError
from snnc.frontend import open_model, read_model
from snnc.process import limited_memory
from tests.frontend_files import array, integers, one, save

HUGE = 1 << 33
ONE = np.ones((1, 1), np.float32)


def of(nodes: list[onnx.NodeProto], shape: tuple[int, ...] = (1, 4, 4), **constants: np.ndarray) -> Callable[..., Path]:
    return lambda path: save(path, nodes, shape, constants, batch=1)


def doubled(times: int) -> Callable[..., Path]:
    nodes = [one("Concat", [f"a{at}"] * 2, [f"a{at + 1}"], axis=1) for at in range(times)]
    return lambda path: save(
        path, [one("Identity", ["x"], ["a0"]), *nodes, one("Relu", [f"a{times}"], ["y"])], (4,), {}
    )


def doubled_in_a_loop(start: str) -> Callable[..., Path]:
    names = [helper.make_tensor_value_info(name, kind, None) for name, kind in (("n", 7), ("c", 9), ("a", 1))]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in (("d", 9), ("b", 1))]
    body = helper.make_graph(
        [one("Identity", ["c"], ["d"]), one("Concat", ["a", "a"], ["b"], axis=1)], "b", names, results
    )
    nodes = [one("Loop", ["times", "", start], ["l"], body=body), one("ReduceSum", ["l"], ["r"])]
    return of([*nodes, one("Add", ["x", "r"], ["y"])], times=np.array(40), k=ONE)


# What comes from the input, and what is constant, which onnxruntime computes while it reads the file.
BOMBS: dict[str, Callable[..., Path]] = {
    "expand": of([one("Expand", ["x", "s"], ["y"])], s=integers(1, HUGE, 4, 4)),
    "tile": of([one("Tile", ["x", "s"], ["y"])], s=integers(1, 1, HUGE, 1)),
    "pad": of([one("Pad", ["x", "p"], ["y"])], p=integers(0, 0, 0, HUGE, 0, 0, 0, 0)),
    "reflect": of([one("Pad", ["x", "p"], ["y"], mode="reflect")], p=integers(0, 0, 3, 0, 0, 0, 1 << 40, 0)),
    "convolution": of([one("Conv", ["x", "w"], ["y"], pads=[1 << 20] * 4)], w=array(1, 1, 3, 3)),
    "dilation": of([one("Conv", ["x", "w"], ["y"], dilations=[1 << 40] * 2, pads=[1 << 40] * 4)], w=array(1, 1, 3, 3)),
    "transposed": of([one("ConvTranspose", ["x", "w"], ["y"], strides=[1 << 20] * 2)], w=array(1, 1, 3, 3)),
    "pool": of([one("AveragePool", ["x"], ["y"], kernel_shape=[99_999] * 2, pads=[99_998] * 4)]),
    "strided pool": of(
        [one("AveragePool", ["x"], ["y"], kernel_shape=[99_999] * 2, pads=[99_998] * 4, strides=[99_999] * 2)]
    ),
    "resize": of([one("Resize", ["x", "", "s"], ["y"])], s=np.array([1, 1, 1e5, 1e5], np.float32)),
    "gather": of(
        [
            one("ConstantOfShape", ["s"], ["i"], value=helper.make_tensor("v", 7, [1], [0])),
            one("Gather", ["x", "i"], ["y"]),
        ],
        s=integers(HUGE),
    ),
    "doubling": doubled(40),
    "loop": doubled_in_a_loop("x"),
    "loop over a constant": doubled_in_a_loop("k"),
    "doubled shape": of(
        [
            one("Shape", ["x"], ["s0"]),
            *(one("Concat", [f"s{at}"] * 2, [f"s{at + 1}"], axis=0) for at in range(40)),
            one("Cast", ["s40"], ["f"], to=1),
            one("ReduceSum", ["f"], ["r"]),
            one("Add", ["x", "r"], ["y"]),
        ]
    ),
    "range": of(
        [
            one("ReduceMax", ["x"], ["m"], keepdims=0),
            one("Range", ["first", "last", "step"], ["o"]),
            one("Add", ["o", "m"], ["p"]),
            one("ReduceSum", ["p"], ["r"]),
            one("Add", ["x", "r"], ["y"]),
        ],
        first=np.float32(0),
        last=np.float32(1e11),
        step=np.float32(1),
    ),
    "outputs": lambda path: save(
        path, [one("Split", ["x"], ["y", *map(str, range(200_000))], axis=1)], (200_001,), {}, opset=13
    ),
    "constant": of(
        [one("Expand", ["k", "s"], ["e"]), one("ReduceSum", ["e"], ["r"]), one("Add", ["x", "r"], ["y"])],
        k=ONE,
        s=integers(1, HUGE),
    ),
    "product": of(
        [
            one("ConstantOfShape", ["s"], ["p"]),
            one("ConstantOfShape", ["t"], ["q"]),
            one("MatMul", ["p", "q"], ["e"]),
            one("ReduceSum", ["e"], ["r"]),
            one("Add", ["x", "r"], ["y"]),
        ],
        s=integers(70_000, 1),
        t=integers(1, 70_000),
    ),
    "weights": of(
        [one("ConstantOfShape", ["s"], ["w"]), one("MatMul", ["x", "w"], ["y"])], (1, 4), s=integers(4, HUGE)
    ),
    "batch": lambda path: save(path, [one("Relu", ["x"], ["y"])], (3, 224, 224), {}, batch=10**6),
    "axis": of([one("Relu", ["x"], ["y"])], (1 << 62,)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_would_not_fit_is_told_before_it_is_tried(bomb: str, tmp_path: Path) -> None:
    path = BOMBS[bomb](tmp_path / "m.onnx")
    assert path.stat().st_size < 2_000_000
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with limited_memory(2 << 30), pytest.raises(ModelError) as caught:
        read_model(path)
    assert caught.value.exit_code == 3 and str(path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert time.process_time() - start < 5


def test_more_may_be_allowed(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [one("Expand", ["x", "s"], ["y"])], (1, 64), {"s": integers(1, 1 << 17, 64)}, batch=1
    )
    with limited_memory(1 << 27), pytest.raises(ModelError, match="Expand") as caught:
        open_model(path)
    assert "--memory" in caught.value.hint
    with limited_memory(4 << 30):
        assert open_model(path).survey.verdicts


def laughing(levels: int) -> ModelProto:
    """Functions that call one another eight times each."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = []
    for level in range(levels):
        called = helper.make_node("Relu", ["a"], ["b"]) if not level else None
        nodes = [
            called
            or helper.make_node(
                f"F{level - 1}", [f"v{at}" if at else "a"], [f"v{at + 1}" if at < 7 else "b"], domain="f"
            )
            for at in range(1 if called else 8)
        ]
        functions.append(helper.make_function("f", f"F{level}", ["a"], ["b"], nodes, imports))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node(f"F{levels - 1}", ["x"], ["y"], domain="f")], "g", [x], [y])
    return helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=8)


def test_functions_in_functions_are_counted(tmp_path: Path) -> None:
    onnx.save(laughing(10), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="operations or values, where 200,000 are allowed"):
        open_model(tmp_path / "m.onnx")
    onnx.save(laughing(2), tmp_path / "m.onnx")
    assert open_model(tmp_path / "m.onnx").survey.verdicts
    circle = laughing(2)
    circle.functions[0].node[0].op_type, circle.functions[0].node[0].domain = "F1", "f"
    onnx.save(circle, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="calls itself"):
        open_model(tmp_path / "m.onnx")


def test_many_nodes_are_no_recursion(tmp_path: Path) -> None:
    nodes = [one("Relu", [f"a{at}"], [f"a{at + 1}"]) for at in range(1500)]
    ends = [one("Identity", ["x"], ["a0"]), *nodes, one("Identity", ["a1500"], ["y"])]
    assert read_model(save(tmp_path / "m.onnx", ends, (4,), {})).graph.outputs


def changed(path: Path, change: Callable[[ModelProto], None]) -> Path:
    save(path, [one("MatMul", ["x", "w"], ["a"]), one("Relu", ["a"], ["y"])], (4,), {"w": array(4, 4)})
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def shortened(model: ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.raw_data = weight.raw_data[:3]
    weight.data_type = TensorProto.FLOAT16


def without_inputs(model: ModelProto) -> None:
    model.graph.node.add(op_type="Softmax", output=["z"], name="s")
    model.graph.output[0].name = "z"


def of_no_type(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 99


DAMAGES: dict[str, Callable[[ModelProto], None]] = {
    "no output": lambda model: model.graph.ClearField("output"),
    "a node without outputs": lambda model: model.graph.node[0].ClearField("output"),
    "a foreign node without outputs": lambda model: model.graph.node.append(
        helper.make_node("X", ["x"], [], domain="d")
    ),
    "an input of no type": of_no_type,
    "an end without inputs": without_inputs,
    "a constant cut short": shortened,
    "negative lengths": lambda model: model.graph.initializer[0].dims.__setitem__(0, -4),
    "an input of the node missing": lambda model: model.graph.node[0].input.pop(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_blamed_themselves(damage: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "m.onnx", DAMAGES[damage])
    with pytest.raises(ModelError, match=r"m\.onnx"):
        read_model(path)


def outside(path: Path, location: str) -> Path:
    def move(model: ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", location

    return changed(path, move)


def test_external_data_is_a_file_of_its_size(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 42)
    wrong = {
        "zero": "a device|elsewhere",
        "pipe": "a pipe",
        "hole": "GiB",
        "a\0b": "missing|cannot be read",
        ".": "folder",
    }
    for location, why in wrong.items():
        with pytest.raises(ModelError, match=why):
            read_model(outside(tmp_path / "m.onnx", location))


def test_what_is_no_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "zero.onnx").symlink_to("/dev/urandom")
    os.mkfifo(tmp_path / "pipe.onnx")
    for name in ("zero.onnx", "pipe.onnx", ".", "a\0b"):
        with pytest.raises(SnncError, match=r"no such file|not a file"):
            open_model(tmp_path / name)


def test_names_are_cut_and_command_nobody(tmp_path: Path) -> None:
    names = ["##[error]x", "::error::x", "a" * 20_000, "a" * 20_000 + "b", "\u202ex", "\x1b[31m"]
    values = ["x", *(f"v{at}" for at in range(5)), "y"]
    nodes = [helper.make_node("Relu", [values[at]], [values[at + 1]], name=name) for at, name in enumerate(names)]
    path = save(tmp_path / "m.onnx", nodes, (4,), {})
    shown = [verdict.name for verdict in open_model(path).survey.verdicts]
    assert len({*shown}) == len(names) and max(map(len, shown)) <= 201
    assert all(name.isprintable() and "##[" not in name and not name.startswith("::") for name in shown)
    assert all(name.isprintable() for node in read_model(path).graph.nodes.values() for name in node.source)


WORK: dict[str, Callable[..., Path]] = {
    "a product of constants": of(
        [
            one("ConstantOfShape", ["s"], ["a"]),
            one("MatMul", ["a", "a"], ["b"]),
            one("ReduceSum", ["b"], ["r"]),
            one("Add", ["x", "r"], ["y"]),
        ],
        s=integers(9000, 9000),
    ),
    "steps of constants": of(
        [
            one("ConstantOfShape", ["s"], ["a"]),
            one("GRU", ["a", "w", "u"], ["", "h"], hidden_size=2),
            one("ReduceSum", ["h"], ["r"]),
            one("Add", ["x", "r"], ["y"]),
        ],
        s=integers(10**8, 1, 2),
        w=array(1, 6, 2),
        u=array(1, 6, 2),
    ),
    "a pool": of([one("MaxPool", ["x"], ["y"], kernel_shape=[2000] * 2, pads=[1999] * 4)]),
    "a convolution": of([one("Conv", ["x", "w"], ["y"], pads=[4000] * 4)], w=np.zeros((1, 1, 300, 300), np.float32)),
}


@pytest.mark.parametrize("work", WORK)
def test_what_would_take_hours_is_told_before_it_is_tried(work: str, tmp_path: Path) -> None:
    path, start = WORK[work](tmp_path / "m.onnx"), time.process_time()
    with limited_memory(8 << 30), pytest.raises(ModelError, match="operations, more than any network"):
        read_model(path)
    assert time.process_time() - start < 2


def test_a_full_disk_is_no_fault_of_the_network(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("Relu")], (4,), {})
    code = f"""
import resource, signal
from pathlib import Path
from snnc.errors import DataError
from snnc.frontend import read_model
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    read_model(Path({str(path)!r}))
except DataError as error:
    assert "temporary files" in str(error), error
else:
    raise AssertionError
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(snnc.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("kind", "count"), [("Identity", 4000), ("Relu", 2000)])
def test_a_long_row_of_nodes_is_read_in_seconds(kind: str, count: int, tmp_path: Path) -> None:
    """Time grows with the nodes, not with their square."""
    values = ["x", *(f"v{number}" for number in range(1, count)), "y"]
    path = save(tmp_path / "m.onnx", [one(kind, [a], [b]) for a, b in itertools.pairwise(values)], (4,), {})
    start = time.process_time()
    read_model(path)
    assert time.process_time() - start < 5
