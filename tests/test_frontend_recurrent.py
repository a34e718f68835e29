"""Recurrent layers, unrolled: what onnxruntime computes, over random cells of every form."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from snnc import ops
from snnc.errors import ModelError
from snnc.frontend import read_model
from snnc.frontend.model import open_model
from snnc.ir import Graph
from tests.frontend_files import array, integers, one, run, save

LENGTH, WIDTH, SIZE = 4, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def network(
    path: Path,
    kind: str,
    direction: str = "forward",
    reads: tuple[int, ...] = (0, 1, 2),
    initial: str = "",
    biased: bool = True,
    peepholes: bool = False,
    lengths: int | None = None,
    rows: int = 1,
    size: int = SIZE,
    length: int = LENGTH,
    **attributes: Any,
) -> Path:
    """Write a recurrent layer between a linear one in front and one behind each of its outputs that are read."""
    ways, gates, states = DIRECTIONS[direction], GATES[kind], 2 if kind == "LSTM" else 1
    reads = tuple(output for output in reads if output <= states)
    constants: dict[str, np.ndarray] = {
        "w": array(ways, gates * size, WIDTH) / 4,
        "r": array(ways, gates * size, size) / np.float32(2 * np.sqrt(size)),
        "b": array(ways, 2 * gates * size),
        "p": array(ways, 3 * size),
        "lengths": np.full(rows, lengths or length, np.int32),
        "h": array(ways, rows, size),
        "c": array(ways, rows, size),
        "into": array(WIDTH, WIDTH),
        "out": array(size, 2),
        "shape": integers(-1, length, WIDTH),
        "first": array(length * WIDTH, ways * rows * size),
        "states": integers(ways, rows, size),
    }
    nodes = [one("MatMul", ["x", "into"], ["z"])]
    if rows == 1:
        nodes.append(one("Transpose", ["z"], ["t"], perm=[1, 0, 2]))
    else:
        # Rows that are no batch: the sample has them all.
        constants["shape"] = integers(length, rows, WIDTH)
        constants["first"] = array(rows * length * WIDTH, ways * rows * size)
        nodes += [one("Reshape", ["z", "shape"], ["t"])]
    if initial == "computed":
        nodes += [
            one("Flatten", ["z"], ["flat"]),
            one("MatMul", ["flat", "first"], ["drawn"]),
            one("Tanh", ["drawn"], ["bounded"]),
            one("Reshape", ["bounded", "states"], ["h0"]),
        ]
        nodes.append(one("Neg", ["h0"], ["c0"]))
    begins = {"": ("", ""), "constant": ("h", "c"), "computed": ("h0", "c0")}[initial][:states]
    given = ["t", "w", "r", "b" if biased else "", "lengths" if lengths else "", *begins, "p" if peepholes else ""]
    while not given[-1]:
        given.pop()
    outputs = [f"o{output}" if output in reads else "" for output in range(states + 1)]
    while not outputs[-1]:
        outputs.pop()
    nodes.append(one(kind, given, outputs, hidden_size=size, direction=direction, **attributes))
    results = [f"y{output}" for output in reads]
    nodes += [one("MatMul", [f"o{output}", "out"], [f"y{output}"]) for output in reads]
    used = {value for node in nodes for value in node.input}
    shape = (length, WIDTH) if rows == 1 else (rows * length, WIDTH)
    kept = {name: value for name, value in constants.items() if name in used}
    return save(path, nodes, shape, kept, results)


def checked(path: Path, shape: tuple[int, ...], oracle: Path | None = None) -> Graph:
    """Compare sample by sample with onnxruntime on the file, or on another of the same network."""
    model = read_model(path)
    session = onnxruntime.InferenceSession((oracle or path).read_bytes(), providers=["CPUExecutionProvider"])
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    found = run(model.graph, x)
    for index in range(len(x)):
        wanted = session.run(None, {"x": x[index : index + 1].numpy()})
        assert len(wanted) == len(found)
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours[index].flatten().numpy(), theirs.ravel(), rtol=1e-4, atol=1e-5)
    return model.graph


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("RNN GRU LSTM", {}),
    "without a bias": ("RNN GRU LSTM", {"biased": False}),
    "constant states": ("RNN GRU LSTM", {"initial": "constant"}),
    "computed states": ("RNN GRU LSTM", {"initial": "computed"}),
    "shorter than its sequence": ("RNN GRU LSTM", {"lengths": 2}),
    "as long as its sequence": ("RNN GRU LSTM", {"lengths": LENGTH}),
    "a sequence of one": ("RNN GRU LSTM", {"length": 1}),
    "several rows": ("RNN GRU LSTM", {"rows": 3}),
    "several rows with computed states": ("RNN GRU LSTM", {"rows": 3, "initial": "computed"}),
    "several rows, shorter": ("RNN GRU LSTM", {"rows": 3, "lengths": 2}),
    "limited": ("RNN GRU LSTM", {"clip": 0.4}),
    "only the sequence of states": ("RNN GRU LSTM", {"reads": (0,)}),
    "only the last state": ("RNN GRU LSTM", {"reads": (1,)}),
    "only the memory": ("LSTM", {"reads": (2,)}),
    "reset late": ("GRU", {"linear_before_reset": 1}),
    "reset late, constant states": ("GRU", {"linear_before_reset": 1, "initial": "constant"}),
    "reset late, computed states": ("GRU", {"linear_before_reset": 1, "initial": "computed"}),
    "reset late, without a bias": ("GRU", {"linear_before_reset": 1, "biased": False}),
    "peepholes": ("LSTM", {"peepholes": True}),
    "peepholes, constant states": ("LSTM", {"peepholes": True, "initial": "constant"}),
    "peepholes, limited": ("LSTM", {"peepholes": True, "clip": 0.6}),
    "coupled": ("LSTM", {"input_forget": 1}),
}
CASES = [(kind, form, "bidirectional") for form, (kinds, _) in FORMS.items() for kind in kinds.split()]
CASES += [(kind, "plain", direction) for kind in GATES for direction in ("forward", "reverse")]


@pytest.mark.parametrize(("kind", "form", "direction"), CASES)
def test_recurrent_layer(kind: str, form: str, direction: str, tmp_path: Path) -> None:
    options = FORMS[form][1]
    rows, length = options.get("rows", 1), options.get("length", LENGTH)
    checked(network(tmp_path / "m.onnx", kind, direction, **options), (rows * length, WIDTH))


@pytest.mark.parametrize("initial", ["", "constant", "computed"])
@pytest.mark.parametrize("kind", GATES)
def test_the_batch_before_the_sequence(kind: str, initial: str, tmp_path: Path) -> None:
    direction = "bidirectional"
    oracle = network(tmp_path / "oracle.onnx", kind, direction, initial=initial)
    model = onnx.load(oracle)
    (layer,) = (node for node in model.graph.node if node.op_type == kind)
    layer.attribute.append(helper.make_attribute("layout", 1))
    (turned,) = (node for node in model.graph.node if node.op_type == "Transpose")
    layer.input[0] = turned.input[0]
    model.graph.node.remove(turned)
    # What is computed has one row for each sample, whose states, one or two, are side by side.
    ways = DIRECTIONS[direction]
    for tensor in model.graph.initializer:
        if tensor.name in ("h", "c"):
            swapped = np.ascontiguousarray(numpy_helper.to_array(tensor).swapaxes(0, 1))
            tensor.CopyFrom(numpy_helper.from_array(swapped, tensor.name))
        if tensor.name == "states":
            tensor.CopyFrom(numpy_helper.from_array(integers(1, ways, SIZE), tensor.name))
    onnx.save(model, tmp_path / "m.onnx")
    checked(tmp_path / "m.onnx", (LENGTH, WIDTH), oracle)


# By kind how many functions one direction has.
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(
    "names",
    [
        (["Relu"], [], []),
        (["HardSigmoid", "Tanh"], [], []),
        (["HardSigmoid", "ScaledTanh"], [0.3, 0.8, 0.25, 0.7, 0.2, 0.6], [0.4, 0.9, 0.6, 0.8, 0.5, 0.7]),
        (["LeakyRelu", "Sigmoid"], [0.1, 0.2, 0.3], []),
        (["Elu", "Softsign"], [0.4, 0.5, 0.6], []),
        (["Sigmoid", "Softplus"], [], []),
        (["Tanh", "ThresholdedRelu"], [0.2, 0.3, 0.1], []),
        (["Affine", "Tanh"], [0.5, 0.6, 0.7], [0.1, 0.2, 0.3]),
    ],
    ids=lambda names: " ".join(names[0]),
)
def test_activations_of_each_direction(
    kind: str, names: tuple[list[str], list[float], list[float]], tmp_path: Path
) -> None:
    count = 2 * FUNCTIONS[kind]
    activations = (names[0] * count)[:count]
    alphas, betas = names[1], names[2]
    given = {"activation_alpha": alphas, "activation_beta": betas}
    options: dict[str, Any] = {name: values for name, values in given.items() if values}
    checked(network(tmp_path / "m.onnx", kind, "bidirectional", activations=activations, **options), (LENGTH, WIDTH))


def test_copies_of_a_cell_share_their_tensors(tmp_path: Path) -> None:
    graph = checked(network(tmp_path / "m.onnx", "LSTM", reads=(1,)), (LENGTH, WIDTH))
    copies = [op for op in graph.ops(ops.Linear).values() if op.weight.shape == (4 * SIZE, SIZE)]
    assert len(copies) == LENGTH - 1
    assert len({id(op.weight) for op in copies}) == 1


def test_a_batch_written_into_the_first_states(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", "LSTM", initial="constant", reads=(1, 2))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("h", "c"):
            repeated = np.repeat(numpy_helper.to_array(tensor), 2, axis=1)
            tensor.CopyFrom(numpy_helper.from_array(repeated, tensor.name))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "two.onnx")
    checked(tmp_path / "two.onnx", (LENGTH, WIDTH), path)


def test_what_a_recurrent_layer_is_refused_for(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", "LSTM", rows=2, lengths=2)
    model = onnx.load(path)
    (lengths,) = (tensor for tensor in model.graph.initializer if tensor.name == "lengths")
    lengths.CopyFrom(numpy_helper.from_array(np.array([2, 3], np.int32), "lengths"))
    onnx.save(model, path)
    with pytest.raises(ModelError) as refused:
        read_model(path)
    assert "its sequences are of several lengths" in refused.value.details[0]


def test_work_of_a_recurrent_layer(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", "GRU", "bidirectional", reads=(1,))
    (layer,) = (verdict for verdict in open_model(path).survey.verdicts if verdict.operation == "GRU")
    assert layer.macs == 2 * LENGTH * 3 * SIZE * (WIDTH + SIZE)


def test_long_sequences_are_read_in_proportion(tmp_path: Path) -> None:
    length = 1000
    path = network(tmp_path / "m.onnx", "LSTM", reads=(1,), length=length)
    graph = checked(path, (length, WIDTH))
    # Names do not grow with the place in the sequence.
    assert max(map(len, graph.nodes)) < 60
