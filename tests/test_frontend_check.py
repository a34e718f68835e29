"""The check at the door: rounding is forgiven, however deep the network; a wrong number is not."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from snnc import ops
from snnc.errors import ModelError, VerificationError
from snnc.formats.onnx import onnx_model
from snnc.frontend import open_model
from snnc.ir import Graph
from tests.frontend_files import array, one, save
from tests.support import Network, normal

DEPTH, WIDTH = 24, 24


def deep(seed: int) -> Graph:
    """A network in which a step crossed anywhere is followed by many others."""
    net = Network((3, 24, 24))
    for layer in range(DEPTH):
        shape = (WIDTH, WIDTH if layer else 3, 3, 3)
        weight = normal(*shape, seed=seed + layer) * 4 / (9 * shape[1]) ** 0.5
        net.add(ops.Conv(weight, normal(WIDTH, seed=layer) * 0.5, (1, 1), (1,) * 4, (1, 1)))
        net.add(ops.QuantizedRelu(torch.tensor(1.0), 2, None, torch.tensor(0.5)), name=f"layer{layer}")
    return net.graph()


@pytest.mark.parametrize("seed", [0, 100, 200, 300])
def test_steps_that_rounding_crosses_in_a_deep_network_are_forgiven(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(deep(seed)).SerializeToString())
    assert len(open_model(path).model().graph.ops(ops.QuantizedRelu)) == DEPTH


def reread(graph: Graph, path: Path, wrong: Callable[[Graph], Graph]) -> None:
    """Read the file of a graph, and check another against it."""
    path.write_bytes(onnx_model(graph).SerializeToString())
    opened = open_model(path)
    dataclasses.replace(opened, _graph=wrong(opened.model().graph)).model()


def scaled(graph: Graph, factor: float, *places: int) -> Graph:
    """The weights of some convolutions, or of all, multiplied."""
    found = list(graph.ops(ops.Conv).items())
    chosen = [found[place] for place in places] if places else found
    return graph.with_ops({name: dataclasses.replace(conv, weight=conv.weight * factor) for name, conv in chosen})


@pytest.mark.parametrize("place", [0, DEPTH // 2, DEPTH - 1])
@pytest.mark.parametrize("factor", [1.05, torch.nan])
def test_a_wrong_number_in_any_layer_is_noticed(place: int, factor: float, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="differs from the file"):
        reread(deep(0), tmp_path / "m.onnx", lambda graph: scaled(graph, factor, place))


@pytest.mark.parametrize("place", [0, DEPTH // 2, DEPTH - 1])
def test_a_wrong_threshold_in_any_layer_is_named(place: int, tmp_path: Path) -> None:
    def wrong(graph: Graph) -> Graph:
        name = list(graph.ops(ops.QuantizedRelu))[place]
        return graph.with_ops({name: ops.QuantizedRelu(torch.tensor(1.02), 2, None, torch.tensor(0.5))})

    with pytest.raises(VerificationError, match="is at levels that its input does not explain"):
        reread(deep(0), tmp_path / "m.onnx", wrong)


@pytest.mark.parametrize("levels", [2, 255])
def test_a_small_error_in_every_layer_is_noticed(levels: int, tmp_path: Path) -> None:
    graph = deep(0)
    fine = {
        n: ops.QuantizedRelu(torch.tensor(1.0), levels, None, torch.tensor(0.5)) for n in graph.ops(ops.QuantizedRelu)
    }
    with pytest.raises(VerificationError):
        reread(graph.with_ops(fine), tmp_path / "m.onnx", lambda read: scaled(read, 1.02))


@pytest.mark.parametrize("seed", range(6))
def test_sums_that_lie_on_steps_may_fall_on_either_side(seed: int, tmp_path: Path) -> None:
    # Weights and steps of few bits, in sums that are rounded: also where the steps are the output.
    net = Network((3, 12, 12))
    weight = torch.randint(-4, 5, (8, 3, 3, 3), generator=torch.Generator().manual_seed(seed)) / 8
    net.add(ops.QuantizedRelu(torch.tensor(1.5), 3, None, torch.tensor(0.5)))
    net.add(ops.Conv(weight, torch.full((8,), 0.1), (1, 1), (1,) * 4, (1, 1)))
    net.add(ops.QuantizedRelu(torch.tensor(1.2), 3, None, torch.tensor(0.25)))
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(net.graph()).SerializeToString())
    assert open_model(path).model()


@pytest.mark.parametrize("batch", ["N", 1, 2, 4])
def test_a_batch_may_be_anywhere_between(batch: int | str, tmp_path: Path) -> None:
    steps = [("Div", "a"), ("Clip", "zero", "one"), ("Mul", "l"), ("Floor",), ("Div", "l"), ("Mul", "a")]
    nodes, value = [one("Transpose", ["x"], ["t"], perm=[1, 0, 2])], "t"
    for index, (kind, *constants) in enumerate(steps):
        nodes.append(one(kind, [value, *constants], [f"v{index}"]))
        value = f"v{index}"
    nodes += [one("Transpose", [value], ["back"], perm=[1, 0, 2]), one("Flatten", ["back"], ["flat"])]
    nodes.append(one("Gemm", ["flat", "w"], ["y"]))
    constants = {
        "a": np.float32(0.5),
        "zero": np.float32(0),
        "one": np.float32(1),
        "l": np.float32(4),
        "w": array(24, 5),
    }
    path = save(tmp_path / "m.onnx", nodes, (4, 6), constants, batch=batch)
    assert open_model(path).model()


def test_samples_that_a_batch_mixes_are_told_as_that(tmp_path: Path) -> None:
    nodes = [one("Reshape", ["x", "s"], ["a"]), one("Relu", ["a"], ["b"]), one("Expand", ["b", "t"], ["y"])]
    constants = {"s": np.array([1, -1], np.int64), "t": np.array([1, 1, 3, 1], np.int64)}
    path = save(tmp_path / "m.onnx", nodes, (1, 3, 1), constants, opset=13, batch=2)
    with pytest.raises(ModelError, match="depends on other samples of its batch of 2"):
        open_model(path).model()


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "LpNormalization", "Slice", "ReduceMax"])
def test_samples_that_a_free_batch_mixes_are_told_with_the_operation(kind: str, tmp_path: Path) -> None:
    bounds = ["start", "end", "axis", "step"] if kind == "Slice" else []
    options = {"Slice": {}, "ReduceMax": {"axes": [0]}}.get(kind, {"axis": 0})
    nodes = [one("Relu", ["x"], ["r"]), one(kind, ["r", *bounds], ["a"], **options), one("Sub", ["a", "x"], ["y"])]
    constants = {name: np.array([value], np.int64) for name, value in zip(bounds, (-1, -9, 0, -1), strict=False)}
    path = save(tmp_path / "m.onnx", nodes, (3, 4), constants)
    named = "Sub/y" if kind == "ReduceMax" else f"{kind}/a"
    with pytest.raises(ModelError, match=f"depends on other samples of its batch from 'the/{named}'"):
        open_model(path).model()
    alone = save(tmp_path / "alone.onnx", nodes, (3, 4), constants, batch=1)
    assert open_model(alone).model()


def test_what_runs_on_one_sample_alone_is_read_whatever_its_input_says(tmp_path: Path) -> None:
    nodes = [one("Reshape", ["x", "s"], ["a"]), one("MatMul", ["a", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, (3, 4), {"s": np.array([1, -1], np.int64), "w": array(12, 2)})
    assert open_model(path).model()
