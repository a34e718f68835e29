"""Small ONNX files, and their comparison with onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from snnc.frontend import Model, read_model
from snnc.frontend.check import computed
from snnc.ir import Graph

RANDOM = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    constants: dict[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    batch: int | str = "N",
    initializers_as_inputs: bool = False,
) -> Path:
    """Write a network that reads ``x`` of one sample ``shape``."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    if initializers_as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in initializers]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "network", inputs, results, initializers)
    others = sorted({node.domain for node in nodes} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in others)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def run(graph: Graph, x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of a graph, without the simulator."""
    values = computed(graph, {graph.inputs[0]: x})
    return [values[name] for name in graph.outputs]


def parity(path: Path, shape: Sequence[int], tolerance: float = 1e-5, pinned: bool = False) -> Model:
    """Read the file; compare with onnxruntime sample by sample, and for batches of 1 and 3."""
    model = read_model(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch)) * 2
        parts = x.split(1 if pinned else batch)
        expected = [np.concatenate(o) for o in zip(*(session.run(None, {"x": p.numpy()}) for p in parts), strict=True)]
        found = run(model.graph, x)
        assert len(expected) == len(found)
        for ours, theirs in zip(found, expected, strict=True):
            assert tuple(ours.shape) == theirs.shape
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance)
    return model


def in_function(path: Path) -> Path:
    """Move all that a file does into a function of it, and what it does with its constants, too."""
    model = onnx.load(path)
    given = [value.name for value in (*model.graph.input, *model.graph.initializer)]
    results = [value.name for value in model.graph.output]
    body = helper.make_function("own", "Whole", given, results, list(model.graph.node), model.opset_import)
    model.functions.append(body)
    model.opset_import.append(helper.make_opsetid("own", 1))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Whole", given, results, domain="own"))
    onnx.save(model, path)
    return path


def in_branch(path: Path) -> Path:
    """Move all that a file does into a branch that is always taken; the results in the other have no elements."""
    model = onnx.load(path)
    results = [value.name for value in model.graph.output]
    inside = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in model.graph.output]
    taken = helper.make_graph(list(model.graph.node), "taken", [], inside)
    empty = [numpy_helper.from_array(np.zeros(0, np.float32), name) for name in results]
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in empty]
    other = helper.make_graph(constants, "other", [], inside)
    del model.graph.node[:]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    outer = [f"{name}/outer" for name in results]
    model.graph.node.append(helper.make_node("If", ["always"], outer, then_branch=taken, else_branch=other))
    for value, name in zip(model.graph.output, outer, strict=True):
        value.name = name
    onnx.save(model, path)
    return path


WITHIN = {"function": in_function, "branch": in_branch}


def one(kind: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), list(outputs), name=f"the/{kind}/{outputs[0]}", **attributes)


# The shape of a sample of which all projections are made.
PROJECTED = (6,)


def projected(name: str, *shape: int) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Nodes that compute a value of this shape from x, and their constants; a length of -1 is the batch's."""
    size = int(np.prod([length for length in shape if length > 0]))
    nodes = [one("MatMul", ["x", f"{name}w"], [f"{name}m"]), one("Reshape", [f"{name}m", f"{name}s"], [name])]
    return nodes, {f"{name}w": array(6, size) * np.float32(0.3), f"{name}s": integers(*shape)}


def on_projections(
    path: Path, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], constants: dict[str, np.ndarray], opset: int
) -> Path:
    """A node on computed values of these shapes and on constants; the batch is free where all have it in front."""
    nodes: list[Any] = []
    for name, shape in shapes.items():
        made, weights = projected(name, *shape)
        nodes += made
        constants = {**constants, **weights}
    fixed = any(shape[0] != -1 for shape in shapes.values())
    last = [one("Reshape", ["y", "flat"], ["f"]), one("Neg", ["f"], ["z"])] if fixed else [one("Neg", ["y"], ["z"])]
    constants = {**constants, "flat": integers(1, -1)} if fixed else constants
    return save(path, [*nodes, node, *last], PROJECTED, constants, ["z"], opset, batch=1 if fixed else "N")
