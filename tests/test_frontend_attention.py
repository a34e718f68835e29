"""Attention, rotations of positions, and tables that are looked up; onnxruntime is the oracle."""

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
from snnc.formats.onnx import onnx_model
from snnc.frontend import read_model
from snnc.frontend.check import computed
from tests.frontend_files import PROJECTED, array, integers, on_projections, one, parity

HEADS = {"q": (-1, 4, 3, 8), "k": (-1, 4, 5, 8), "v": (-1, 4, 5, 6)}
GROUPS = {"q": (-1, 4, 3, 8), "k": (-1, 2, 5, 8), "v": (-1, 2, 5, 6)}
FLAT = {"q": (-1, 3, 32), "k": (-1, 5, 32), "v": (-1, 5, 24)}
FLAT_GROUPS = {"q": (-1, 3, 32), "k": (-1, 5, 16), "v": (-1, 5, 12)}
PAST = {"p": (-1, 2, 4, 8), "r": (-1, 2, 4, 6)}
SIDE = {"q_num_heads": 4, "kv_num_heads": 4}
GROUPED = {"q_num_heads": 4, "kv_num_heads": 2}
SEEN = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], bool)
HIDDEN = np.where(SEEN, 0, -np.inf).astype(np.float32)

# Inputs, attributes, what is computed, constants.
ATTENTIONS: dict[str, tuple[str, dict[str, Any], dict[str, tuple[int, ...]], dict[str, np.ndarray]]] = {
    "heads": ("qkv", {}, HEADS, {}),
    "scaled": ("qkv", {"scale": 0.7}, HEADS, {}),
    "groups": ("qkv", {}, GROUPS, {}),
    "flat": ("qkv", SIDE, FLAT, {}),
    "flat-groups": ("qkv", GROUPED, FLAT_GROUPS, {}),
    "capped": ("qkv", {"softcap": 0.8}, HEADS, {}),
    "capped-and-masked": ("qkvm", {"softcap": 0.8}, HEADS, {"m": array(3, 5)}),
    "causal": ("qkv", {"is_causal": 1}, HEADS, {}),
    "causal-groups": ("qkv", {"is_causal": 1, **GROUPED}, FLAT_GROUPS, {}),
    "added": ("qkvm", {}, HEADS, {"m": array(4, 3, 5)}),
    "hidden": ("qkvm", {}, HEADS, {"m": HIDDEN}),
    "seen": ("qkvm", SIDE, FLAT, {"m": SEEN}),
    "seen-and-causal": ("qkvm", {"is_causal": 1}, HEADS, {"m": np.ones((1, 1, 3, 5), bool)}),
    "added-computed": ("qkvm", {}, {**HEADS, "m": (-1, 1, 3, 5)}, {}),
    "past": ("qkv-pr", {}, {**GROUPS, **PAST}, {}),
    "past-and-causal": ("qkv-pr", {"is_causal": 1}, {**GROUPS, **PAST}, {}),
    "constant-queries": ("qkv", {}, {"k": (-1, 4, 5, 8), "v": (-1, 4, 5, 6)}, {"q": array(1, 4, 3, 8)}),
    "constant-keys": ("qkv", {}, {"q": (-1, 4, 3, 8), "v": (-1, 4, 5, 6)}, {"k": array(1, 4, 5, 8)}),
    "constant-values": ("qkv", {}, {"q": (-1, 4, 3, 8), "k": (-1, 4, 5, 8)}, {"v": array(1, 4, 5, 6)}),
    "merged": ("qkv", {}, {name: (2, *shape[1:]) for name, shape in GROUPS.items()}, {}),
}


def named(inputs: str) -> list[str]:
    return ["" if name == "-" else name for name in inputs]


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("case", ATTENTIONS)
def test_attention(case: str, opset: int, tmp_path: Path) -> None:
    inputs, attributes, shapes, constants = ATTENTIONS[case]
    # A constant is of one sample: onnxruntime broadcasts none.
    alone = case.startswith("constant") or case == "merged"
    if alone:
        shapes = {name: (2 if case == "merged" else 1, *shape[1:]) for name, shape in shapes.items()}
    outputs = ["y", "keys", "values"] if "past" in case else ["y"]
    node = one("Attention", named(inputs), outputs, **attributes)
    path = on_projections(tmp_path / "m.onnx", node, shapes, constants, opset)
    graph = parity(path, PROJECTED, 1e-4, pinned=alone).graph
    assert len(graph.ops(ops.Softmax)) == 1
    assert len(graph.ops(ops.MatMul)) == (1 if case.startswith("constant") else 2)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("opset", [23, 24])
def test_scores_and_what_comes_next_of_attention(opset: int, mode: int, tmp_path: Path) -> None:
    outputs = ["o", "presentk", "presentv", "y"]
    inputs = named("qkvmpr")
    node = one("Attention", inputs, outputs, softcap=0.8, qk_matmul_output_mode=mode)
    path = on_projections(tmp_path / "m.onnx", node, {**GROUPS, **PAST}, {"m": array(3, 9)}, opset)
    parity(path, PROJECTED, 1e-4)
    outputs = ["o", "y", "presentv"]
    node = one("Attention", inputs, outputs)
    path = on_projections(tmp_path / "m.onnx", node, {**GROUPS, **PAST}, {"m": array(3, 9)}, opset)
    parity(path, PROJECTED, 1e-4)


def test_a_mask_that_hides_a_whole_row_is_refused(tmp_path: Path) -> None:
    mask = SEEN & np.array([[True], [False], [True]])
    node = one("Attention", named("qkvm"))
    with pytest.raises(ModelError) as caught:
        read_model(on_projections(tmp_path / "m.onnx", node, HEADS, {"m": mask}, 23))
    (detail,) = caught.value.details
    assert "hides every entry of a row" in detail


MICROSOFT: dict[str, tuple[str, dict[str, Any], dict[str, tuple[int, ...]], dict[str, np.ndarray]]] = {
    "plain": ("qkv", {}, FLAT, {}),
    "bias": ("qkvb", {}, FLAT, {"b": array(32 + 32 + 24)}),
    "scaled": ("qkv", {"scale": 0.3}, FLAT, {}),
    "causal": ("qkv", {"unidirectional": 1}, FLAT, {}),
    "heads": ("qkv", {}, {"q": (-1, 3, 32), "k": (-1, 4, 5, 8), "v": (-1, 4, 5, 8)}, {}),
    "added": ("qkv--m", {}, FLAT, {"m": array(1, 4, 3, 5)}),
    "added-computed": ("qkv--m", {}, {**FLAT, "m": (-1, 4, 3, 5)}, {}),
    "padded": ("qkv-m", {}, FLAT, {"m": np.array([[1, 1, 0, 1, 0]], np.int32)}),
    "past": (
        "qkv---pr",
        {},
        {"q": (-1, 3, 32), "k": (-1, 3, 32), "v": (-1, 3, 32), "p": (-1, 4, 2, 8), "r": (-1, 4, 2, 8)},
        {},
    ),
}


@pytest.mark.parametrize("case", MICROSOFT)
def test_attention_of_several_heads_as_onnxruntime_has_it(case: str, tmp_path: Path) -> None:
    inputs, attributes, shapes, constants = MICROSOFT[case]
    node = one("MultiHeadAttention", named(inputs), domain="com.microsoft", num_heads=4, **attributes)
    if case == "past":
        node.output.extend(["keys", "values"])
    alone = case in ("added", "padded")
    if alone:
        shapes = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    path = on_projections(tmp_path / "m.onnx", node, shapes, constants, 17)
    parity(path, PROJECTED, 1e-4, pinned=alone)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("widths", [(12, 12, 12), (12, 12, 20)], ids=str)
@pytest.mark.parametrize("inputs", ["hw", "hwb", "hwbm"])
def test_attention_with_its_projections_inside(
    inputs: str, widths: tuple[int, ...], causal: int, tmp_path: Path
) -> None:
    constants = {
        "w": array(7, sum(widths)) * np.float32(0.3),
        "b": array(sum(widths)),
        "m": np.array([[1, 1, 0, 1, 0]], np.int32),
    }
    constants = {name: constants[name] for name in inputs[1:]}
    attributes = {"num_heads": 4, "unidirectional": causal, "qkv_hidden_sizes": widths}
    node = one("Attention", named(inputs), domain="com.microsoft", **attributes)
    alone = "m" in inputs
    path = on_projections(tmp_path / "m.onnx", node, {"h": (1 if alone else -1, 5, 7)}, constants, 17)
    parity(path, PROJECTED, 1e-4, pinned=alone)


@pytest.mark.parametrize("shape", [(1, 3, 5, 8), (1, 5, 24)], ids=str)
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [8, 4])
@pytest.mark.parametrize("places", ["none", "constant", "computed-tables"])
def test_a_rotation_of_positions(
    places: str, part: int, interleaved: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    tables = {"c": array(1, 5, part // 2), "s": array(1, 5, part // 2)}
    shapes, inputs = {"h": shape}, ["h", "c", "s"]
    if places == "constant":
        tables = {name: array(9, part // 2) for name in tables} | {"p": integers(3, 1, 8, 0, 4).reshape(1, 5)}
        inputs.append("p")
    elif places == "computed-tables":
        shapes |= {name: table.shape for name, table in tables.items()}
        tables = {}
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": 0 if part == 8 else part, "num_heads": 3}
    path = on_projections(tmp_path / "m.onnx", one("RotaryEmbedding", inputs, **attributes), shapes, tables, 23)
    graph = parity(path, PROJECTED, 1e-4, pinned=True).graph
    assert len(graph.ops(ops.Product)) == (2 if places == "computed-tables" else 0)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("places", ["first", "each"])
def test_a_rotation_as_onnxruntime_has_it(places: str, interleaved: int, tmp_path: Path) -> None:
    positions = integers(2) if places == "first" else integers(3, 1, 8, 0, 4).reshape(1, 5)
    constants = {"p": positions, "c": array(9, 4), "s": array(9, 4)}
    node = one("RotaryEmbedding", ["h", "p", "c", "s"], domain="com.microsoft", interleaved=interleaved)
    path = on_projections(tmp_path / "m.onnx", node, {"h": (1, 5, 24)}, constants, 17)
    parity(path, PROJECTED, 1e-4, pinned=True)


def ids_network(path: Path, nodes: list[Any], constants: dict[str, np.ndarray], shape: tuple[int, ...]) -> Path:
    """A network that reads integers."""
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", *shape])
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([*nodes, one("Neg", ["y"], ["z"])], "network", [ids], [result], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    return path


LOOKUPS: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "rows": ([one("Gather", ["t", "ids"])], {"t": array(9, 4)}),
    "numbers": ([one("Gather", ["t", "ids"])], {"t": array(9)}),
    "maps": ([one("Gather", ["t", "ids"])], {"t": array(9, 2, 3)}),
    "columns": (
        [one("Gather", ["t", "ids"], ["g"], axis=1), one("Transpose", ["g"], perm=[1, 2, 0])],
        {"t": array(4, 9)},
    ),
    "cast": ([one("Cast", ["ids"], ["i"], to=TensorProto.INT32), one("Gather", ["t", "i"])], {"t": array(9, 4)}),
    "one-hot": ([one("OneHot", ["ids", "d", "v"])], {"d": np.int64(9), "v": np.float32([-1, 2])}),
    "one-hot-axis": ([one("OneHot", ["ids", "d", "v"], axis=1)], {"d": np.int64(9), "v": np.float32([0, 1])}),
    "rotation": (
        [
            one("Gather", ["t", "ids"], ["h"]),
            one("RotaryEmbedding", ["h", "c", "s", "ids"], num_heads=3),
        ],
        {"t": array(9, 24), "c": array(9, 4), "s": array(9, 4)},
    ),
}


@pytest.mark.parametrize("case", LOOKUPS)
def test_a_table_looked_up_at_integers(case: str, tmp_path: Path) -> None:
    nodes, constants = LOOKUPS[case]
    path = ids_network(tmp_path / "m.onnx", nodes, constants, (5,))
    graph = read_model(path).graph
    assert graph.ops(ops.Embedding)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    ids = torch.randint(0, 9, (3, 5), generator=torch.Generator().manual_seed(0))
    (wanted,) = session.run(None, {"ids": ids.numpy()})
    found = computed(graph, {graph.inputs[0]: ids.float()})[graph.outputs[0]]
    assert tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_what_is_looked_up_returns_from_a_file_of_ours(tmp_path: Path) -> None:
    nodes, constants = LOOKUPS["rows"]
    graph = read_model(ids_network(tmp_path / "m.onnx", nodes, constants, (5,))).graph
    onnx.save(onnx_model(graph), tmp_path / "ours.onnx")
    again = read_model(tmp_path / "ours.onnx").graph
    kinds = [[type(node.op) for node in each.nodes.values()] for each in (graph, again)]
    assert kinds[0] == kinds[1]
    assert [op.below for each in (graph, again) for op in each.ops(ops.Input).values()] == [9, 9]


@pytest.mark.parametrize("kinds", ["none", "computed"])
@pytest.mark.parametrize("places", ["none", "constant", "computed"])
def test_tokens_as_onnxruntime_embeds_them(places: str, kinds: str, tmp_path: Path) -> None:
    constants = {"w": array(9, 4), "p": array(9, 4), "s": array(9, 4), "g": array(4), "b": array(4)}
    constants["at"] = np.array([[3, 1, 0, 2, 8]], np.int32)
    inputs = ["i", "i" if kinds == "computed" else "", "w", "p", "s" if kinds == "computed" else "", "g", "b", ""]
    inputs += [] if places == "none" else ["at" if places == "constant" else "i"]
    nodes = [
        one("Cast", ["ids"], ["i"], to=TensorProto.INT32),
        one("EmbedLayerNormalization", inputs, ["y", ""], domain="com.microsoft"),
    ]
    constants = {name: value for name, value in constants.items() if name in inputs}
    path = ids_network(tmp_path / "m.onnx", nodes, constants, (5,))
    graph = read_model(path).graph
    assert len(graph.ops(ops.Embedding)) == 1 + (kinds == "computed") + (places == "computed")


def test_the_lowest_number_times_what_is_hidden_is_no_infinity(tmp_path: Path) -> None:
    """As the masks of tokens are written: else sums over time steps overflow."""
    nodes = [
        one("Cast", ["ids"], ["m"], to=TensorProto.FLOAT),
        one("Sub", ["one", "m"], ["h"]),
        one("Mul", ["h", "lowest"], ["a"]),
        one("Softmax", ["a"], ["y"]),
    ]
    constants = {"one": np.float32(1), "lowest": np.array(np.finfo(np.float32).min)}
    graph = read_model(ids_network(tmp_path / "m.onnx", nodes, constants, (5,))).graph
    mask = torch.tensor([[1.0, 1, 0, 1, 0]])
    total = computed(graph, {graph.inputs[0]: mask * 1000})["the_Mul_a"] / 1000
    assert total.isfinite().all()
    shares = -computed(graph, {graph.inputs[0]: mask})[graph.outputs[0]]
    torch.testing.assert_close(shares, mask / 3)
