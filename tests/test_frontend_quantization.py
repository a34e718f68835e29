"""Activations that a file has quantized already, in every spelling, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from snnc import ops
from snnc.errors import ModelError
from snnc.frontend import open_model, read_model
from tests.frontend_files import array, integers, one, parity, save

SHAPE = (3, 9, 9)
ALPHA, LEVELS = np.float32(2.5), np.float32(7)
F = np.float32
ZERO, ONE = F(0), F(1)

Step = tuple[str, Any]


def network(path: Path, steps: list[Step], opset: int = 17, batch: int | str = "N") -> Path:
    """Write a chain of operations, each with constants behind its input; the first of them keeps values generic."""
    nodes, constants, value = [], {}, "x"
    for index, (kind, *values) in enumerate(steps):
        names = []
        for place, constant in enumerate(values):
            names.append(f"c{index}_{place}")
            constants[names[-1]] = constant
        output = "y" if index == len(steps) - 1 else f"v{index}"
        nodes.append(one(kind, [value, *names], [output]))
        value = output
    return save(path, nodes, SHAPE, constants, opset=opset, batch=batch)


SPELLINGS: dict[str, list[Step]] = {
    "textbook": [("Div", ALPHA), ("Clip", ZERO, ONE), ("Mul", LEVELS), ("Round",), ("Div", LEVELS), ("Mul", ALPHA)],
    "reciprocals": [
        ("Mul", F(1 / ALPHA)),
        ("Clip", ZERO, ONE),
        ("Mul", LEVELS),
        ("Round",),
        ("Mul", F(1 / LEVELS)),
        ("Mul", ALPHA),
    ],
    "merged": [("Mul", F(LEVELS / ALPHA)), ("Clip", ZERO, LEVELS), ("Round",), ("Mul", F(ALPHA / LEVELS))],
    "merged-divided": [("Div", F(ALPHA / LEVELS)), ("Clip", ZERO, LEVELS), ("Round",), ("Mul", F(ALPHA / LEVELS))],
    "clip-first": [("Clip", ZERO, ALPHA), ("Mul", F(LEVELS / ALPHA)), ("Round",), ("Mul", F(ALPHA / LEVELS))],
    "rectified": [("Relu",), ("Min", ALPHA), ("Div", ALPHA), ("Mul", LEVELS), ("Round",), ("Mul", F(ALPHA / LEVELS))],
    "extrema": [("Max", ZERO), ("Min", ALPHA), ("Mul", F(LEVELS / ALPHA)), ("Round",), ("Mul", F(ALPHA / LEVELS))],
    "clipped-last": [("Mul", F(LEVELS / ALPHA)), ("Round",), ("Clip", ZERO, LEVELS), ("Mul", F(ALPHA / LEVELS))],
    "floor": [
        ("Mul", F(LEVELS / ALPHA)),
        ("Add", F(0.5)),
        ("Floor",),
        ("Clip", ZERO, LEVELS),
        ("Mul", F(ALPHA / LEVELS)),
    ],
    "floor-clipped-first": [
        ("Div", ALPHA),
        ("Clip", ZERO, ONE),
        ("Mul", LEVELS),
        ("Add", F(0.5)),
        ("Floor",),
        ("Div", LEVELS),
        ("Mul", ALPHA),
    ],
    "plain-floor": [("Div", ALPHA), ("Mul", LEVELS), ("Floor",), ("Clip", ZERO, LEVELS), ("Mul", F(ALPHA / LEVELS))],
    "channels": [
        ("Div", F([1, 2, 4]).reshape(3, 1, 1)),
        ("Clip", ZERO, ONE),
        ("Mul", F(4)),
        ("Round",),
        ("Div", F(4)),
        ("Mul", F([1, 2, 4]).reshape(1, 3, 1, 1)),
    ],
    "binary": [("Div", ALPHA), ("Clip", ZERO, ONE), ("Round",), ("Mul", ALPHA)],
    "bytes": [("Relu",), ("QuantizeLinear", F(0.01), np.uint8(0)), ("DequantizeLinear", F(0.01), np.uint8(0))],
    "bytes-alone": [("QuantizeLinear", F(0.02), np.uint8(0)), ("DequantizeLinear", F(0.02), np.uint8(0))],
    "bytes-signed": [("Relu",), ("QuantizeLinear", F(0.02), np.int8(0)), ("DequantizeLinear", F(0.02), np.int8(0))],
    "bytes-lowest": [("QuantizeLinear", F(0.02), np.int8(-128)), ("DequantizeLinear", F(0.02), np.int8(-128))],
    "bytes-offset": [("Relu",), ("QuantizeLinear", F(0.02), np.uint8(9)), ("DequantizeLinear", F(0.02), np.uint8(9))],
}

LEVELS_OF = {"channels": 4, "binary": 1, "bytes-signed": 127, "bytes-offset": 246} | dict.fromkeys(
    ("bytes", "bytes-alone", "bytes-lowest"), 255
)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("opset", [13, 20])
def test_spelling(spelling: str, opset: int, tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", SPELLINGS[spelling], opset)
    model = parity(path, SHAPE)
    ((name, op),) = model.graph.ops(ops.QuantizedRelu).items()
    levels = LEVELS_OF.get(spelling, 7)
    assert op.levels == levels
    last = SPELLINGS[spelling][-1][0]
    assert (name, model.graph.nodes[name].place) == (f"the_{last}_y", f"the/{last}/y")
    values = [*(f"v{index}" for index in range(len(SPELLINGS[spelling]) - 1)), "y"]
    steps = zip(SPELLINGS[spelling], values, strict=True)
    members = tuple(f"the/{kind}/{value}" for (kind, *_), value in steps)
    # onnxruntime leaves out the Relu before bytes without a sign.
    assert model.graph.nodes[name].source == members[spelling == "bytes" :]
    assert not model.graph.ops(ops.Affine)
    assert op.potential == (0 if spelling == "plain-floor" else 0.5)
    if spelling not in ("channels",) and not spelling.startswith("bytes"):
        torch.testing.assert_close(op.ceiling, torch.tensor(2.5))
    assert [finding.code for finding in model.findings] == ["quantized-activations"]


def test_a_rectifier_before_stays_a_node(tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", [("Relu",), *SPELLINGS["textbook"]]), SHAPE)
    assert [type(node.op) for node in model.graph.nodes.values()] == [ops.Input, ops.Relu, ops.QuantizedRelu]


def test_a_bias_before_and_a_scale_behind_stay_nodes(tmp_path: Path) -> None:
    steps = [("Add", array(3, 1, 1)), *SPELLINGS["merged"], ("Mul", F(3))]
    model = parity(network(tmp_path / "m.onnx", steps), SHAPE)
    kinds = [type(node.op) for node in model.graph.nodes.values()]
    assert kinds == [ops.Input, ops.Affine, ops.QuantizedRelu, ops.Affine]


def test_steps_that_differ_before_and_behind_become_scales(tmp_path: Path) -> None:
    steps = [("Mul", F([3, 4, 5]).reshape(3, 1, 1)), ("Clip", ZERO, F(8.2)), ("Round",), ("Mul", F(0.25))]
    model = parity(network(tmp_path / "m.onnx", steps), SHAPE)
    kinds = [type(node.op) for node in model.graph.nodes.values()]
    assert kinds == [ops.Input, ops.Affine, ops.QuantizedRelu, ops.Affine]
    ((op),) = model.graph.ops(ops.QuantizedRelu).values()
    assert (op.levels, float(op.ceiling)) == (8, 8.0)


FROM = F([0.0, 0.25, 0.75]).reshape(3, 1, 1)


def floored(*before: Step) -> list[Step]:
    """Steps of a quarter of the ceiling, rounded down behind what is done to their number first."""
    return [("Mul", F(4 / ALPHA)), *before, ("Floor",), ("Clip", ZERO, F(4)), ("Mul", F(ALPHA / 4))]


def test_what_is_added_before_rounding_down_is_the_potential(tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", floored(("Add", FROM))), SHAPE)
    ((op),) = model.graph.ops(ops.QuantizedRelu).values()
    assert torch.equal(op.potential, torch.from_numpy(FROM))
    assert len(model.graph.nodes) == 2


def test_what_breaks_ties_before_rounding_down_still_does(tmp_path: Path) -> None:
    """A value on a step is below it then, by as little as there was meant."""
    model = parity(network(tmp_path / "m.onnx", floored(("Add", F(-5e-5)))), SHAPE)
    ((op),) = model.graph.ops(ops.QuantizedRelu).values()
    ((shift),) = (affine.shift for affine in model.graph.ops(ops.Affine).values())
    values = torch.arange(1, 5) * (ALPHA / 4)
    assert torch.equal((op(values + shift) * (4 / ALPHA)).round(), torch.arange(0.0, 4.0))


def test_a_bias_before_rounding_down_stays_a_node(tmp_path: Path) -> None:
    for steps in (floored(("Add", FROM)), floored()):
        model = parity(network(tmp_path / "m.onnx", [("Add", F(0.125)), *steps]), SHAPE)
        assert [type(node.op) for node in model.graph.nodes.values()] == [ops.Input, ops.Affine, ops.QuantizedRelu]
        ((op),) = model.graph.ops(ops.Affine).values()
        assert op.shift == 0.125


def test_what_no_neuron_starts_with_becomes_a_bias(tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", floored(("Add", F([0.25, 1.5, -2]).reshape(3, 1, 1)))), SHAPE)
    assert [type(node.op) for node in model.graph.nodes.values()] == [ops.Input, ops.Affine, ops.QuantizedRelu]
    ((op),) = model.graph.ops(ops.QuantizedRelu).values()
    assert op.potential.flatten().tolist() == [0.25, 0.5, 0.5]
    ((shift),) = (affine.shift for affine in model.graph.ops(ops.Affine).values())
    torch.testing.assert_close(shift.flatten(), torch.tensor([0, 1, -2.5]) * float(ALPHA / 4))


SIGNED: dict[str, list[Step]] = {
    "slope before the scale": [
        ("Mul", F(LEVELS / ALPHA)),
        ("Round",),
        ("Clip", -LEVELS, LEVELS),
        ("PRelu", F([0.1, 0.2, 0.3]).reshape(3, 1, 1)),
        ("Mul", F(ALPHA / LEVELS)),
    ],
    "slope last": [
        ("Div", ALPHA),
        ("Clip", -ONE, ONE),
        ("Mul", LEVELS),
        ("Add", F(0.5)),
        ("Floor",),
        ("Div", LEVELS),
        ("Mul", ALPHA),
        ("PRelu", F([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)),
    ],
}


@pytest.mark.parametrize("spelling", SIGNED)
def test_a_slope_weighs_the_levels_below_zero(spelling: str, tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", SIGNED[spelling]), SHAPE)
    ((op),) = model.graph.ops(ops.QuantizedRelu).values()
    assert len(model.graph.nodes) == 2
    assert (op.levels, op.potential) == (7, 0.5)
    torch.testing.assert_close(op.ceiling, torch.tensor(2.5))
    assert op.slope is not None
    torch.testing.assert_close(op.slope, torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1))


def test_a_slope_behind_levels_from_zero_stays_a_node(tmp_path: Path) -> None:
    slope = ("PRelu", F([0.1, 0.2, 0.3]).reshape(3, 1, 1))
    model = parity(network(tmp_path / "m.onnx", [*SPELLINGS["textbook"], slope]), SHAPE)
    assert [type(node.op) for node in model.graph.nodes.values()] == [ops.Input, ops.QuantizedRelu, ops.LeakyRelu]


def test_two_in_a_row(tmp_path: Path) -> None:
    steps = [*SPELLINGS["textbook"], ("Add", F(0.1)), *SPELLINGS["binary"]]
    model = parity(network(tmp_path / "m.onnx", steps), SHAPE)
    assert [op.levels for op in model.graph.ops(ops.QuantizedRelu).values()] == [7, 1]


def test_two_in_a_row_on_the_unit_interval(tmp_path: Path) -> None:
    unit = [("Clip", ZERO, ONE), ("Mul", LEVELS), ("Round",), ("Div", LEVELS)]
    model = parity(network(tmp_path / "m.onnx", unit + unit), SHAPE)
    assert [float(op.ceiling) for op in model.graph.ops(ops.QuantizedRelu).values()] == [1, 1]
    assert len(model.graph.nodes) == 3


def test_what_changes_nothing_behind_joins_it(tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", [*SPELLINGS["textbook"], ("Relu",)]), SHAPE)
    assert list(model.graph.nodes) == ["x", "the_Relu_y"]


def test_the_survey_says_what_the_chain_becomes(tmp_path: Path) -> None:
    verdicts = open_model(network(tmp_path / "m.onnx", SPELLINGS["textbook"])).survey.verdicts
    assert [verdict.operation for verdict in verdicts] == ["Div", "Clip", "Mul", "Round", "Div", "Mul"]
    assert {verdict.becomes for verdict in verdicts} == {"QuantizedRelu"}


BROKEN: dict[str, list[Step]] = {
    "no lower bound": [("Div", ALPHA), ("Mul", LEVELS), ("Round",), ("Div", LEVELS), ("Mul", ALPHA)],
    "symmetric": [("Div", ALPHA), ("Clip", F(-1), ONE), ("Mul", LEVELS), ("Round",), ("Div", LEVELS), ("Mul", ALPHA)],
    "starts at one": [("Clip", ONE, F(5)), ("Round",), ("Mul", F(2))],
    "more below zero than above": [
        ("Clip", F(-4), F(3)),
        ("Round",),
        ("PRelu", F([0.1, 0.2, 0.3]).reshape(3, 1, 1)),
    ],
    "two slopes": [("Clip", F(-3), F(3)), ("PRelu", F(0.1)), ("Round",), ("PRelu", F(0.1))],
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_staircase_from_zero_is_only_rounded(case: str, tmp_path: Path) -> None:
    model = parity(network(tmp_path / "m.onnx", BROKEN[case]), SHAPE)
    assert not model.graph.ops(ops.QuantizedRelu)
    assert len(model.graph.ops(ops.Round)) == 1


def test_bytes_that_are_no_staircase_from_zero_are_not_rounded(tmp_path: Path) -> None:
    steps: list[Step] = [("QuantizeLinear", F(0.05), np.int8(0)), ("DequantizeLinear", F(0.05), np.int8(0))]
    model = read_model(network(tmp_path / "m.onnx", steps))
    assert not model.graph.ops(ops.QuantizedRelu)
    (finding,) = model.findings
    assert finding.code == "quantization-left-out"
    assert finding.severity == "info"


@pytest.mark.parametrize(("kind", "zero", "levels"), [("UINT4", 0, 15), ("INT4", -8, 15), ("UINT2", 0, 3)])
def test_levels_of_few_bits(kind: str, zero: int, levels: int, tmp_path: Path) -> None:
    parameters = ["s", "z"]
    nodes = [
        one("Relu", ["x"], ["r"]),
        one("QuantizeLinear", ["r", *parameters], ["q"]),
        one("DequantizeLinear", ["q", *parameters]),
    ]
    path = save(tmp_path / "m.onnx", nodes, SHAPE, {"s": F(0.3)}, opset=25)
    model = onnx.load(path)
    model.graph.initializer.append(helper.make_tensor("z", getattr(TensorProto, kind), [], [zero]))
    model.ir_version = 13
    onnx.save(model, path)
    (rectifier,) = parity(path, SHAPE).graph.ops(ops.QuantizedRelu).values()
    assert rectifier.levels == levels


@pytest.mark.parametrize("axis", [None, 0])
def test_quantized_weights_are_folded(axis: int | None, tmp_path: Path) -> None:
    weight = np.arange(2 * 3 * 4, dtype=np.int8).reshape(2, 3, 2, 2)
    scale = F(0.01) if axis is None else F([0.01, 0.02])
    zero = np.int8(3) if axis is None else np.array([1, 2], np.int8)
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        one("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes),
        one("Conv", ["x", "w"], ["c"]),
        one("Relu", ["c"], ["r"]),
        one("QuantizeLinear", ["r", "rs", "rz"], ["i"]),
        one("DequantizeLinear", ["i", "rs", "rz"], ["d"]),
        one("MaxPool", ["d"], kernel_shape=[2, 2]),
    ]
    constants = {"q": weight, "s": scale, "z": zero, "rs": F(0.05), "rz": np.uint8(0)}
    model = parity(save(tmp_path / "m.onnx", nodes, SHAPE, constants), SHAPE, tolerance=2e-5)
    assert len(model.graph.ops(ops.QuantizedRelu)) == 1


def test_a_branch_inside_the_chain_breaks_it(tmp_path: Path) -> None:
    nodes = [
        one("Mul", ["x", "s"], ["a"]),
        one("Clip", ["a", "l", "h"], ["b"]),
        one("Round", ["b"], ["c"]),
        one("Mul", ["c", "t"], ["d"]),
        one("Add", ["d", "b"]),
    ]
    constants = {"s": F(2), "l": ZERO, "h": F(4), "t": F(0.5)}
    path = save(tmp_path / "m.onnx", nodes, SHAPE, constants)
    # The rounding alone still counts steps of one from zero on where its input is clipped, but the clip is read twice.
    model = parity(path, SHAPE)
    assert not model.graph.ops(ops.QuantizedRelu)
    assert len(model.graph.ops(ops.Round)) == 1


def test_the_import_of_integers_is_refused(tmp_path: Path) -> None:
    nodes = [one("Relu", ["x"], ["r"]), helper.make_node("Cast", ["r"], ["y"], to=TensorProto.INT64)]
    path = save(tmp_path / "m.onnx", nodes, SHAPE, {"unused": integers(1)})
    with pytest.raises(ModelError):
        read_model(path)


def test_ties_that_the_file_rounds_to_even_are_remarked_on(tmp_path: Path) -> None:
    steps = [("Div", ALPHA), ("Clip", ZERO, ONE), ("Mul", F(4)), ("Round",), ("Div", F(4)), ("Mul", ALPHA)]
    nodes, constants, value = [], {}, "x"
    for stage in "ab":
        for index, (kind, *values) in enumerate(steps):
            names = [f"{stage}{index}_{place}" for place in range(len(values))]
            constants |= dict(zip(names, values, strict=True))
            nodes.append(one(kind, [value, *names], [f"{stage}{index}"]))
            value = f"{stage}{index}"
        if stage == "a":
            # The mean of four steps is a half of one often.
            nodes.append(one("AveragePool", [value], ["mean"], kernel_shape=[2, 2], strides=[2, 2]))
            value = "mean"
    model = read_model(save(tmp_path / "m.onnx", [*nodes, one("Identity", [value])], SHAPE, constants))
    assert [finding.code for finding in model.findings] == ["quantized-activations", "halves-round-up"]
    assert len(model.graph.ops(ops.QuantizedRelu)) == 2
