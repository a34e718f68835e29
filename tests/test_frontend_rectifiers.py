"""Rectifiers with a ceiling that a file spells in several nodes, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnc import ops
from snnc.frontend import open_model
from tests.frontend_files import one, parity, save

SHAPE = (3, 9, 9)
F = np.float32
CEILING, SLOPE = F([0.5, 1, 2]).reshape(3, 1, 1), F([0.1, 0.2, 0.3]).reshape(3, 1, 1)
HALF_OPEN = F([0.5, np.inf, 2]).reshape(3, 1, 1)

Step = tuple[str, Any]

CLIPPED: dict[str, tuple[list[Step], np.ndarray, np.ndarray | None]] = {
    "relu-min": ([("Relu",), ("Min", CEILING)], CEILING, None),
    "min-relu": ([("Min", CEILING), ("Relu",)], CEILING, None),
    "max-min": ([("Max", F(0)), ("Min", CEILING.reshape(1, 3, 1, 1))], CEILING, None),
    "half-open": ([("Relu",), ("Min", HALF_OPEN)], HALF_OPEN, None),
    "min-min-relu": ([("Min", CEILING * 2), ("Min", CEILING), ("Relu",)], CEILING, None),
    "clip-slope": ([("Clip", F(-0.8), F(0.8)), ("PRelu", SLOPE)], F(0.8), SLOPE),
    "max-min-slope": ([("Max", -CEILING), ("Min", CEILING), ("PRelu", SLOPE)], CEILING, SLOPE),
    "min-max-slope": ([("Min", CEILING), ("Max", -CEILING), ("PRelu", SLOPE)], CEILING, SLOPE),
    "half-open-slope": ([("Max", -HALF_OPEN), ("Min", HALF_OPEN), ("PRelu", SLOPE)], HALF_OPEN, SLOPE),
}


def network(path: Path, steps: list[Step], more: tuple[Any, ...] = ()) -> Path:
    nodes, constants = (
        [],
        {f"c{i}_{j}": value for i, (_, *values) in enumerate(steps) for j, value in enumerate(values)},
    )
    for index, (kind, *values) in enumerate(steps):
        names = [f"c{index}_{place}" for place in range(len(values))]
        source = f"v{index - 1}" if index else "x"
        nodes.append(one(kind, [source, *names], ["y" if index == len(steps) - 1 else f"v{index}"]))
    return save(path, [*nodes, *more], SHAPE, constants, ("y", "z") if more else ("y",))


@pytest.mark.parametrize("spelling", CLIPPED)
def test_several_nodes_are_one_clipped_rectifier(spelling: str, tmp_path: Path) -> None:
    steps, ceiling, slope = CLIPPED[spelling]
    path = network(tmp_path / "m.onnx", steps)
    model = parity(path, SHAPE)
    (name,) = (name for name, node in model.graph.nodes.items() if node.inputs)
    members = zip(steps, [*(f"v{index}" for index in range(len(steps) - 1)), "y"], strict=True)
    assert model.graph.nodes[name].source == tuple(f"the/{kind}/{value}" for (kind, *_), value in members)
    assert model.graph.nodes[name].place == f"the/{steps[-1][0]}/y"
    op = model.graph.op(name)
    assert isinstance(op, ops.ClippedRelu)
    assert torch.equal(op.ceiling, torch.from_numpy(np.asarray(ceiling)))
    assert (op.slope is None) == (slope is None)
    assert op.slope is None or torch.equal(op.slope, torch.from_numpy(np.asarray(slope)))
    assert {verdict.becomes for verdict in open_model(path).survey.verdicts} == {"ClippedRelu"}


OTHERS: dict[str, list[Step]] = {
    "not from zero": [("Max", F(0.25)), ("Min", CEILING)],
    "not as far below": [("Max", -CEILING), ("Min", 2 * CEILING), ("PRelu", SLOPE)],
    "a slope first": [("PRelu", SLOPE), ("Max", -CEILING), ("Min", CEILING)],
    "something between": [("Relu",), ("Mul", F(2)), ("Min", CEILING)],
}


@pytest.mark.parametrize("case", OTHERS)
def test_others_are_read_node_by_node(case: str, tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", OTHERS[case]), SHAPE)
    assert len(model.graph.nodes) > 2
    assert not any(
        torch.equal(op.ceiling, torch.from_numpy(CEILING)) for op in model.graph.ops(ops.ClippedRelu).values()
    )


def test_one_that_is_read_in_between_is_read_node_by_node(tmp_path: Path) -> None:
    steps = [("Relu",), ("Min", CEILING)]
    model = parity(network(tmp_path / "m.onnx", steps, (one("Neg", ["v0"], ["z"]),)), SHAPE)
    assert not model.graph.ops(ops.ClippedRelu)


def test_a_limit_of_one_input_is_none(tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", [("Relu",), ("Min",)]), SHAPE)
    assert [type(node.op) for node in model.graph.nodes.values()] == [ops.Input, ops.Relu]
