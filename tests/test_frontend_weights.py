"""Large constants, which are kept beside the model while it is read."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from snnc import ops
from snnc.frontend import annotate, open_model, read_model
from snnc.frontend.files import read_file
from snnc.frontend.weights import LEAST, put_back, taken_out
from tests.frontend_files import array, one, parity, run, save

WIDE = (80, 110)


def wide(path: Path, kind: type = np.float32) -> Path:
    """A network with a large weight as it is, one that is transposed, and a small one."""
    nodes = [
        one("MatMul", ["x", "w"], ["a"]),
        one("Relu", ["a"], ["r"]),
        one("Transpose", ["w"], ["t"], perm=[1, 0]),
        one("MatMul", ["r", "t"], ["b"]),
        one("MatMul", ["b", "v"]),
    ]
    constants = {"w": array(*WIDE).astype(kind), "v": array(80, 3).astype(kind)}
    assert constants["w"].nbytes >= LEAST > constants["v"].nbytes
    save(path, nodes, (80,), constants)
    if kind != np.float32:
        model = onnx.load(path)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = {np.float16: TensorProto.FLOAT16, np.float64: TensorProto.DOUBLE}[kind]
        onnx.save(model, path)
    return path


def test_what_is_taken_out_and_put_back_is_the_same(tmp_path: Path) -> None:
    model = onnx.load(wide(tmp_path / "m.onnx"))
    light, weights = taken_out(model)
    assert list(weights) == ["w"]
    assert len(light.SerializeToString()) < LEAST
    assert put_back(light, weights) == model


def test_two_of_a_name_stay_inside(tmp_path: Path) -> None:
    model = onnx.load(wide(tmp_path / "m.onnx"))
    model.graph.initializer.append(model.graph.initializer[0])
    light, weights = taken_out(model)
    assert not weights
    assert light == model


def test_large_weights_are_read_and_folded(tmp_path: Path) -> None:
    graph = parity(wide(tmp_path / "m.onnx"), (80,), 1e-4).graph
    first, second, _ = graph.ops(ops.Linear).values()
    assert torch.equal(first.weight, second.weight.T)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_large_weights_of_other_floats_are_read_in_single_precision(kind: type, tmp_path: Path) -> None:
    path = wide(tmp_path / "m.onnx", kind)
    graph = read_model(path).graph
    assert all(op.weight.dtype == torch.float32 for op in graph.ops(ops.Linear).values())
    x = torch.randn(1, 80, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x.numpy().astype(kind)})
    found = run(graph, x)[0].numpy()
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected.astype(np.float32))


def test_an_annotated_model_has_its_weights_and_external_ones_are_found(tmp_path: Path) -> None:
    path = wide(tmp_path / "m.onnx")
    plain = onnx.load(path)
    onnx.save(plain, path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    opened = open_model(path)
    annotate(opened, opened.survey, tmp_path / "out.onnx")
    found, given = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
        for file in (tmp_path / "out.onnx", path)
    )
    assert list(found) == list(given)
    assert all(np.array_equal(found[name], given[name]) for name in given)
    assert read_file(path, None).external == (tmp_path / "weights.bin",)
