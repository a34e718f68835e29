"""Maps of any number of axes, read at any places: onnxruntime is the oracle, for a batch of one and of three."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc import ops
from snnc.frontend import read_model
from tests.frontend_files import array, integers, one, parity, save

VOLUME = (4, 5, 6, 7)
IMAGE = (4, 9, 8)

BATCH_NORM = {"s": array(4), "b": array(4), "m": array(4), "v": array(4) ** 2 + 0.1}

WINDOWS: dict[str, tuple[Any, tuple[int, ...], dict[str, np.ndarray]]] = {
    "conv": (one("Conv", ["x", "w", "b"], pads=[0, 1, 1, 1, 0, 2]), VOLUME, {"w": array(3, 4, 2, 3, 2), "b": array(3)}),
    "conv-groups": (
        one("Conv", ["x", "w"], group=2, strides=[1, 2, 1], dilations=[2, 1, 1]),
        VOLUME,
        {"w": array(6, 2, 2, 3, 2)},
    ),
    "deconv": (
        one("ConvTranspose", ["x", "w"], strides=[1, 2, 2], pads=[0, 1, 0, 1, 0, 1], output_padding=[0, 1, 0]),
        VOLUME,
        {"w": array(4, 3, 2, 3, 2)},
    ),
    "average": (one("AveragePool", kernel_shape=[2, 3, 2], strides=[1, 2, 2], pads=[1, 0, 1, 0, 1, 1]), VOLUME, {}),
    "average-ceil": (one("AveragePool", kernel_shape=[2, 2, 2], strides=[2, 2, 3], ceil_mode=1), VOLUME, {}),
    "average-dilated": (one("AveragePool", kernel_shape=[2, 3], dilations=[2, 3], strides=[2, 1]), IMAGE, {}),
    "average-dilated-padded": (
        one("AveragePool", kernel_shape=[2, 3], dilations=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
        IMAGE,
        {},
    ),
    "average-dilated-counted": (
        one("AveragePool", kernel_shape=[3, 2], dilations=[2, 2], pads=[1, 1, 2, 0], count_include_pad=1),
        IMAGE,
        {},
    ),
    "max": (one("MaxPool", kernel_shape=[2, 2, 2], dilations=[1, 2, 2], ceil_mode=1), VOLUME, {}),
    "max-padded": (one("MaxPool", kernel_shape=[3, 2, 3], strides=[2, 2, 2], pads=[1, 0, 1, 2, 1, 1]), VOLUME, {}),
    "global-average": (one("GlobalAveragePool"), VOLUME, {}),
    "global-max": (one("GlobalMaxPool"), VOLUME, {}),
    "batch-norm": (one("BatchNormalization", ["x", "s", "b", "m", "v"]), VOLUME, BATCH_NORM),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_over_three_axes_and_with_holes(case: str, tmp_path: Path) -> None:
    node, shape, constants = WINDOWS[case]
    parity(save(tmp_path / "m.onnx", [node], shape, constants, opset=19), shape)


# With how many values come out of a frame.
BATCHES: dict[str, tuple[Any, dict[str, np.ndarray], int]] = {
    "conv": (one("Conv", ["a", "w", "b"], ["c"], pads=[1, 1, 1, 1]), {"w": array(6, 4, 3, 3), "b": array(6)}, 144),
    "deconv": (one("ConvTranspose", ["a", "w"], ["c"], strides=[2, 2]), {"w": array(4, 5, 3, 3)}, 585),
    "average": (one("AveragePool", ["a"], ["c"], kernel_shape=[3, 2], pads=[1, 0, 1, 1]), {}, 96),
    "average-dilated": (one("AveragePool", ["a"], ["c"], kernel_shape=[2, 2], dilations=[2, 2]), {}, 32),
    "max": (one("MaxPool", ["a"], ["c"], kernel_shape=[2, 2], pads=[1, 1, 1, 1]), {}, 140),
    "global-average": (one("GlobalAveragePool", ["a"], ["c"]), {}, 4),
    "global-max": (one("GlobalMaxPool", ["a"], ["c"]), {}, 4),
    "batch-norm": (one("BatchNormalization", ["a", "s", "o", "m", "v"], ["c"]), {**BATCH_NORM, "o": array(4)}, 96),
    "resize": (one("Resize", ["a", "", "by"], ["c"], mode="linear"), {"by": np.array([1, 1, 2, 1.5], np.float32)}, 288),
    "depth-to-space": (one("DepthToSpace", ["a"], ["c"], blocksize=2, mode="CRD"), {}, 96),
    "space-to-depth": (one("SpaceToDepth", ["a"], ["c"], blocksize=2), {}, 96),
}


@pytest.mark.parametrize("case", BATCHES)
def test_frames_merged_with_the_batch(case: str, tmp_path: Path) -> None:
    """Five frames of four channels each, as video networks have them."""
    node, constants, width = BATCHES[case]
    shapes = {"merged": integers(-1, 4, 6, 4), "split": integers(-1, 5, 3)}
    nodes = [
        one("Reshape", ["x", "merged"], ["a"]),
        node,
        one("Relu", ["c"], ["r"]),
        one("Flatten", ["r"], ["f"]),
        one("MatMul", ["f", "p"], ["q"]),
        one("Reshape", ["q", "split"]),
    ]
    shape = (5, 4, 6, 4)
    path = save(tmp_path / "m.onnx", nodes, shape, {**constants, **shapes, "p": array(width, 3)}, opset=19)
    parity(path, shape, tolerance=1e-4)


FACTORS = {"up": (2.0, 1.5), "down": (0.5, 0.7), "odd": (3.0, 0.4)}
PLACES = ("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric")


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "linear"},
        {"mode": "linear", "antialias": 1},
        {"mode": "cubic"},
        {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
        {"mode": "cubic", "antialias": 1},
        {"mode": "cubic", "antialias": 1, "exclude_outside": 1},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_resizing(options: dict[str, Any], where: str, factors: tuple[float, float], tmp_path: Path) -> None:
    node = one("Resize", ["x", "", "f"], coordinate_transformation_mode=where, **options)
    constants = {"f": np.array([1, 1, *factors], np.float32)}
    model = parity(save(tmp_path / "m.onnx", [node], (2, 10, 8), constants, opset=19), (2, 10, 8), tolerance=1e-4)
    # What only leaves entries out weighs nothing.
    assert len(model.graph.ops((ops.Resample, ops.Slice))) == 2


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_a_region(mode: str, tmp_path: Path) -> None:
    """What lies outside has a value of its own."""
    node = one(
        "Resize",
        ["x", "r", "", "s"],
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=0.5,
    )
    constants = {"r": np.array([0, 0, -0.2, 0.1, 1, 1, 0.7, 1.4], np.float32), "s": integers(1, 2, 5, 7)}
    path = save(tmp_path / "m.onnx", [node], (2, 6, 8), constants, batch=1)
    parity(path, (2, 6, 8), tolerance=1e-4, pinned=True)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_resizing_that_keeps_proportions(policy: str, tmp_path: Path) -> None:
    node = one("Resize", ["x", "", "", "s"], mode="linear", keep_aspect_ratio_policy=policy, axes=[2, 3])
    path = save(tmp_path / "m.onnx", [node], (2, 6, 5), {"s": integers(9, 12)}, opset=19)
    parity(path, (2, 6, 5), tolerance=1e-4)


@pytest.mark.parametrize("shape", [(3, 7), (2, 4, 3, 5)])
def test_resizing_lines_and_volumes(shape: tuple[int, ...], tmp_path: Path) -> None:
    factors = np.array([1, 1, *[1.5] * (len(shape) - 1)], np.float32)
    path = save(tmp_path / "m.onnx", [one("Resize", ["x", "", "f"], mode="linear")], shape, {"f": factors})
    parity(path, shape, tolerance=1e-4)


def test_upsampling_of_old_opsets(tmp_path: Path) -> None:
    node, factors = one("Upsample", ["x", "f"], mode="linear"), {"f": np.array([1, 1, 2, 3], np.float32)}
    parity(save(tmp_path / "m.onnx", [node], (2, 5, 4), factors, opset=9), (2, 5, 4), tolerance=1e-4)
    node = one("Resize", ["x", "f"], mode="linear")
    parity(save(tmp_path / "m.onnx", [node], (2, 5, 4), factors, opset=10), (2, 5, 4), tolerance=1e-4)


def test_sizes_of_a_baked_batch(tmp_path: Path) -> None:
    node = one("Resize", ["x", "", "", "s"], mode="linear")
    path = save(tmp_path / "m.onnx", [node], (2, 6, 5), {"s": integers(3, 2, 9, 4)}, batch=3)
    graph = read_model(path).graph
    assert graph.shapes[graph.outputs[0]] == (2, 9, 4)
