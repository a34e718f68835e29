"""The check at the door: rounding is forgiven, however deep the network; a wrong number is not."""

import dataclasses
from pathlib import Path

import pytest
import torch

from snnc import ops
from snnc.errors import VerificationError
from snnc.export.onnx import onnx_model
from snnc.frontend import open_model
from snnc.ir import Graph
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


@pytest.mark.parametrize("place", [0, DEPTH // 2, DEPTH - 1])
def test_a_wrong_number_in_any_layer_is_noticed(place: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(deep(0)).SerializeToString())
    opened = open_model(path)
    graph = opened.model().graph
    name = list(graph.ops(ops.QuantizedRelu))[place]
    wrong = graph.with_ops({name: ops.QuantizedRelu(torch.tensor(1.1), 2, None, torch.tensor(0.5))})
    with pytest.raises(VerificationError, match="differs from the file"):
        dataclasses.replace(opened, _graph=wrong).model()
    name = list(graph.ops(ops.Conv))[place]
    conv = graph.ops(ops.Conv)[name]
    wrong = graph.with_ops({name: dataclasses.replace(conv, weight=conv.weight * 1.05)})
    with pytest.raises(VerificationError):
        dataclasses.replace(opened, _graph=wrong).model()
