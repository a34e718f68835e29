"""What networks choose inside: the largest values, their places, and pools by a norm; onnxruntime is the oracle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc import ops
from snnc.frontend import read_model
from tests.frontend_files import array, integers, one, parity, save

IMAGE = (3, 5, 4)
CAST = one("Cast", ["a"], ["c"], to=1)
BEHIND = one("Mul", ["c", "by"], ["y"])
BY = {"by": np.array(1.5, np.float32)}

CHOICES: dict[str, tuple[Any, dict[str, np.ndarray], bool]] = {
    "largest": (one("TopK", ["x", "k"], ["c", "unread"], axis=1), {"k": integers(2)}, False),
    "smallest": (one("TopK", ["x", "k"], ["c", "unread"], axis=-1, largest=0), {"k": integers(4)}, False),
    "sorted": (one("TopK", ["x", "k"], ["c", "unread"], axis=2), {"k": integers(5)}, False),
    "arg-max": (one("ArgMax", ["x"], ["a"], axis=1), {}, True),
    "arg-max-dropped": (one("ArgMax", ["x"], ["a"], axis=2, keepdims=0), {}, True),
    "arg-max-last": (one("ArgMax", ["x"], ["a"], axis=3, select_last_index=1), {}, True),
    "arg-min": (one("ArgMin", ["x"], ["a"], axis=-1, keepdims=0), {}, True),
    "hardmax": (one("Hardmax", ["x"], ["c"]), {}, False),
    "hardmax-inside": (one("Hardmax", ["x"], ["c"], axis=1), {}, False),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices_inside_a_network(case: str, tmp_path: Path) -> None:
    node, constants, whole = CHOICES[case]
    nodes = [node, *([CAST] if whole else []), BEHIND]
    parity(save(tmp_path / "m.onnx", nodes, IMAGE, {**constants, **BY}, opset=17), IMAGE)


def test_the_largest_place_marks_a_row(tmp_path: Path) -> None:
    nodes = [
        one("ArgMax", ["x"], ["a"], axis=1, keepdims=0),
        one("OneHot", ["a", "depth", "values"], ["c"]),
        BEHIND,
    ]
    constants = {"depth": integers(6), "values": np.array([0, 1], np.float32), **BY}
    parity(save(tmp_path / "m.onnx", nodes, (6,), constants, opset=17), (6,))


def test_equal_values_are_told_apart_as_the_file_says(tmp_path: Path) -> None:
    """Rounded, many are equal: the first of them, or the last, is where the largest is."""
    for last in (0, 1):
        nodes = [
            one("Floor", ["x"], ["f"]),
            one("ArgMax", ["f"], ["a"], axis=1, select_last_index=last),
            CAST,
            BEHIND,
        ]
        parity(save(tmp_path / f"m{last}.onnx", nodes, (12,), BY, opset=17), (12,))


CHOSEN: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "tokens": (
        [
            one("ReduceMax", ["x"], ["m"], axes=[-1], keepdims=0),
            one("TopK", ["m", "k"], ["v", "p"], axis=1),
            one("Squeeze", ["p", "first"], ["q"]),
            one("Gather", ["x", "q"], ["c"], axis=1),
        ],
        {"k": integers(3), "first": integers(0)},
    ),
    "of every row": (
        [one("TopK", ["x", "k"], ["v", "p"], axis=2, largest=0), one("GatherElements", ["x", "p"], ["c"], axis=2)],
        {"k": integers(2)},
    ),
    "of one beside": (
        [one("ArgMax", ["x"], ["p"], axis=1), one("GatherElements", ["x", "p"], ["c"], axis=1)],
        {},
    ),
    "from the end": (
        [
            one("ArgMax", ["x"], ["p"], axis=1),
            one("Sub", ["p", "four"], ["q"]),
            one("GatherElements", ["x", "q"], ["c"], axis=1),
        ],
        {"four": np.array(5)},
    ),
    "of one list": (
        [one("ArgMax", ["x"], ["p"], axis=1, keepdims=0), one("GatherElements", ["list", "p"], ["c"], axis=1)],
        {"list": array(1, 7)},
    ),
    "places and values": (
        [one("TopK", ["x", "k"], ["v", "p"], axis=1), one("Cast", ["p"], ["d"], to=1), one("Add", ["v", "d"], ["c"])],
        {"k": integers(3)},
    ),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_values_at_places_that_the_network_computes(case: str, tmp_path: Path) -> None:
    nodes, constants = CHOSEN[case]
    path = save(tmp_path / "m.onnx", [*nodes, BEHIND], (5, 6), {**constants, **BY}, opset=17, batch=1)
    parity(path, (5, 6), pinned=True)


NORMS = {
    "squares": one("LpPool", kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 0, 1]),
    "absolute": one("LpPool", kernel_shape=[3, 2], p=1),
    "cubes": one("LpPool", kernel_shape=[2, 2], strides=[1, 2], p=3),
    "global": one("GlobalLpPool", p=2),
    "global-cubes": one("GlobalLpPool", p=3),
}


@pytest.mark.parametrize("case", NORMS)
def test_pools_by_a_norm(case: str, tmp_path: Path) -> None:
    parity(save(tmp_path / "m.onnx", [NORMS[case]], IMAGE, {}, opset=17), IMAGE)


def test_absolute_values_are_those_of_rectifiers(tmp_path: Path) -> None:
    """So that neurons can stand for them."""
    model = read_model(save(tmp_path / "m.onnx", [NORMS["absolute"]], IMAGE, {"unused": array(1)}, opset=17))
    assert len(model.graph.ops(ops.Relu)) == 2
