"""Maps of any number of axes, read at any places: onnxruntime is the oracle, for a batch of one and of three."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc import ops
from snnc.errors import ModelError
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
    "response-norm": (one("LRN", ["a"], ["c"], size=3), {}, 96),
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


@pytest.mark.parametrize("sizes", [(5, 7), (16, 18)])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_a_region(mode: str, sizes: tuple[int, int], tmp_path: Path) -> None:
    """What lies outside has a value of its own."""
    node = one(
        "Resize",
        ["x", "r", "", "s"],
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=0.5,
    )
    constants = {"r": np.array([0, 0, -0.2, 0.1, 1, 1, 0.7, 1.4], np.float32), "s": integers(1, 2, *sizes)}
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


@pytest.mark.parametrize("spelling", ["plain", "copied", "put together"])
def test_sizes_of_a_baked_batch(spelling: str, tmp_path: Path) -> None:
    made, sizes = {
        "plain": ([], {"s": integers(3, 2, 9, 4)}),
        "copied": ([one("Identity", ["t"], ["u"]), one("Identity", ["u"], ["s"])], {"t": integers(3, 2, 9, 4)}),
        "put together": ([one("Concat", ["b", "t"], ["s"], axis=0)], {"b": integers(3), "t": integers(2, 9, 4)}),
    }[spelling]
    nodes = [*made, one("Resize", ["x", "", "", "s"], mode="linear")]
    path = save(tmp_path / "m.onnx", nodes, (2, 6, 5), sizes, batch=3)
    graph = read_model(path).graph
    assert graph.shapes[graph.outputs[0]] == (2, 9, 4)


TOKENS = (5, 4)

# How values are moved, of one sample "x" (5, 4) behind a rectifier "r": nodes, constants.
MOVES: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "gather-elements": (
        [one("GatherElements", ["r", "i"], axis=1)],
        {"i": np.array([[[4, 0, -1, 2], [1, 1, 0, 3]]], np.int64)},
    ),
    "gather-elements-row": ([one("GatherElements", ["r", "i"], axis=2)], {"i": np.full((1, 5, 2), 3, np.int64)}),
    "gather-nd": ([one("GatherND", ["r", "i"], batch_dims=1)], {"i": np.array([[[3, 1], [0, -1]]], np.int64)}),
    "gather-nd-slices": ([one("GatherND", ["r", "i"], batch_dims=1)], {"i": np.array([[[3], [0], [3]]], np.int64)}),
    "gather-nd-whole": (
        [one("GatherND", ["r", "i"], ["g"]), one("Flatten", ["g"], axis=0)],
        {"i": np.array([[0, 3], [0, 1]], np.int64)},
    ),
    "compress": ([one("Compress", ["r", "c"], axis=2)], {"c": np.array([True, False, True])}),
    "compress-flat": (
        [one("Compress", ["r", "c"], ["g"]), one("Flatten", ["g"], axis=0)],
        {"c": np.arange(20) % 3 == 0},
    ),
    "reverse": ([one("ReverseSequence", ["r", "l"], time_axis=1, batch_axis=0)], {"l": integers(3)}),
    "trilu": ([one("Trilu", ["r"], upper=0)], {}),
    "trilu-diagonal": ([one("Trilu", ["r", "k"])], {"k": np.array(1)}),
    "crop-and-pad": ([one("CenterCropPad", ["r", "s"], axes=[1, 2])], {"s": integers(2, 7)}),
    "crop-odd": ([one("CenterCropPad", ["r", "s"], axes=[-1, 1])], {"s": integers(1, 10)}),
    "running-sum": ([one("CumSum", ["r", "k"])], {"k": np.array(1)}),
    "running-sum-exclusive": ([one("CumSum", ["r", "k"], exclusive=1)], {"k": np.array(-1)}),
    "running-sum-reverse": ([one("CumSum", ["r", "k"], reverse=1, exclusive=1)], {"k": np.array(1)}),
    "scatter-elements": (
        [one("ScatterElements", ["r", "i", "u"], axis=2)],
        {"i": np.array([[[3, 0], [1, -2]]], np.int64), "u": array(1, 2, 2)},
    ),
    "scatter-elements-add": (
        [one("Slice", ["r", "a", "b", "k"], ["u"]), one("ScatterElements", ["r", "i", "u"], axis=1, reduction="add")],
        {
            "i": np.array([[[4, 0, 1, 2], [4, 1, 0, 3]]], np.int64),
            "a": integers(1),
            "b": integers(3),
            "k": integers(1),
        },
    ),
    "scatter-elements-mul": (
        [one("ScatterElements", ["r", "i", "u"], axis=1, reduction="mul")],
        {"i": np.array([[[4, 0, 1, 2], [4, 1, 0, 3]]], np.int64), "u": array(1, 2, 4)},
    ),
    "scatter-into-constants": (
        [one("Slice", ["r", "a", "b", "k"], ["u"]), one("ScatterElements", ["d", "i", "u"], axis=1)],
        {
            "d": array(1, 6, 4),
            "i": np.array([[[4, 0, 1, 2], [5, 1, 0, 3]]], np.int64),
            "a": integers(1),
            "b": integers(3),
            "k": integers(1),
        },
    ),
    "scatter-nd": ([one("ScatterND", ["r", "i", "u"])], {"i": np.array([[0, 1], [0, 4]]), "u": array(2, 4)}),
    "scatter-nd-add": (
        [one("ScatterND", ["r", "i", "u"], reduction="add")],
        {"i": np.array([[0, 1], [0, 4], [0, 1]]), "u": array(3, 4)},
    ),
    "scatter-nd-add-computed": (
        [one("Gather", ["r", "k"], ["u"], axis=1), one("ScatterND", ["d", "i", "v"], reduction="add")],
        {"i": np.array([[0, 1], [0, 4], [0, 1]]), "d": array(1, 6, 4), "k": integers(1, 1, 2)},
    ),
    "concat-constants": (
        [one("Neg", ["r"], ["n"]), one("Concat", ["c", "r", "d", "c", "n", "r", "d"], axis=1)],
        {"c": array(1, 1, 4), "d": array(1, 2, 4)},
    ),
    "concat-last": ([one("Concat", ["r", "d", "r"], axis=-1)], {"d": array(1, 5, 2)}),
}


@pytest.mark.parametrize("case", MOVES)
def test_values_moved_to_constant_places(case: str, tmp_path: Path) -> None:
    nodes, constants = MOVES[case]
    if case == "scatter-nd-add-computed":
        nodes = [nodes[0], one("Squeeze", ["u", "z"], ["v"]), nodes[1]]
        constants = {**constants, "z": integers(0)}
    path = save(tmp_path / "m.onnx", [one("Relu", ["x"], ["r"]), *nodes], TOKENS, constants, opset=18, batch=1)
    parity(path, TOKENS, pinned=True)


def test_entries_that_are_assigned_stay_together(tmp_path: Path) -> None:
    """As torch writes ``x[:, 1:3] = y``."""
    nodes = [
        one("Relu", ["x"], ["r"]),
        one("Slice", ["r", "a", "b", "k"], ["u"]),
        one("Neg", ["u"], ["n"]),
        one("ScatterND", ["r", "i", "n"]),
    ]
    constants = {"i": np.array([[[0, 1], [0, 3]]]), "a": integers(1), "b": integers(3), "k": integers(1)}
    model = parity(save(tmp_path / "m.onnx", nodes, (5, 4, 3), constants, batch=1), (5, 4, 3), pinned=True)
    assert [type(node.op) for node in model.graph.nodes.values()][-2:] == [ops.Concat, ops.Take]
    assert not model.graph.ops(ops.Reshape)


def test_scattering_of_old_opsets(tmp_path: Path) -> None:
    node = one("Scatter", ["x", "i", "u"], axis=1)
    constants = {"i": np.array([[[4, 0, 1, 2]]]), "u": array(1, 1, 4)}
    parity(save(tmp_path / "m.onnx", [node], TOKENS, constants, opset=10, batch=1), TOKENS, pinned=True)


def test_values_that_are_scattered_by_their_maximum_are_refused(tmp_path: Path) -> None:
    node = one("ScatterElements", ["x", "i", "u"], axis=1, reduction="max")
    constants = {"i": np.array([[[4, 0, 1, 2]]]), "u": array(1, 1, 4)}
    with pytest.raises(ModelError, match="cannot become spiking") as caught:
        read_model(save(tmp_path / "m.onnx", [node], TOKENS, constants, opset=18, batch=1))
    assert "scattering by 'max'" in caught.value.details[0]


GRID = np.random.default_rng(1).uniform(-1.4, 1.4, (1, 4, 3, 2)).astype(np.float32)
BODY = np.random.default_rng(2).uniform(-1.4, 1.4, (1, 2, 4, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("computed", [False, True])
def test_maps_read_at_the_places_of_a_grid(
    computed: bool, mode: str, padding: str, corners: int, tmp_path: Path
) -> None:
    options = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    if computed:
        # Two of the channels say where the others are read.
        nodes = [
            one("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
            one("Slice", ["t", "a", "b", "k"], ["g"]),
            one("Tanh", ["g"], ["h"]),
            one("GridSample", ["x", "h"], **options),
        ]
        constants = {"a": integers(1), "b": integers(3), "k": integers(3)}
    else:
        nodes, constants = [one("GridSample", ["x", "g"], **options)], {"g": GRID}
    path = save(tmp_path / "m.onnx", nodes, (4, 5, 6), constants, opset=20, batch=1)
    model = parity(path, (4, 5, 6), tolerance=1e-4, pinned=True)
    assert len(model.graph.ops(ops.GridSample)) == computed


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_bodies_read_at_the_places_of_a_grid(mode: str, padding: str, tmp_path: Path) -> None:
    node = one("GridSample", ["x", "g"], mode=mode, padding_mode=padding)
    path = save(tmp_path / "m.onnx", [node], (2, 3, 5, 4), {"g": BODY}, opset=20, batch=1)
    parity(path, (2, 3, 5, 4), tolerance=1e-4, pinned=True)


def test_older_names_of_interpolation(tmp_path: Path) -> None:
    for mode in ("bilinear", "bicubic"):
        node = one("GridSample", ["x", "g"], mode=mode)
        path = save(tmp_path / "m.onnx", [node], (4, 5, 6), {"g": GRID}, opset=16, batch=1)
        parity(path, (4, 5, 6), tolerance=1e-4, pinned=True)


def test_grids_of_several_maps(tmp_path: Path) -> None:
    """Three maps of the sample, each with a grid of its own."""
    nodes = [
        one("Reshape", ["x", "s"], ["m"]),
        one("GridSample", ["m", "g"], ["q"]),
        one("Reshape", ["q", "t"]),
    ]
    grids = np.concatenate([GRID, GRID[:, ::-1], -GRID])
    constants = {"s": integers(3, 2, 5, 6), "g": grids, "t": integers(1, 6, 4, 3)}
    path = save(tmp_path / "m.onnx", nodes, (6, 5, 6), constants, batch=1)
    parity(path, (6, 5, 6), tolerance=1e-4, pinned=True)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("size", [(1, 2, 4, 5), (1, 2, 3, 4, 5)])
def test_grids_of_a_computed_matrix(size: tuple[int, ...], corners: int, tmp_path: Path) -> None:
    axes = len(size) - 2
    node = one("AffineGrid", ["x", "s"], align_corners=corners)
    path = save(tmp_path / "m.onnx", [node], (axes, axes + 1), {"s": integers(*size)}, opset=20, batch=1)
    parity(path, (axes, axes + 1), tolerance=1e-4, pinned=True)


@pytest.mark.parametrize(
    "options", [{}, {"sampling_ratio": 2}, {"coordinate_transformation_mode": "output_half_pixel"}]
)
def test_constant_regions(options: dict[str, Any], tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 9, 7], [3, 1, 14.5, 12], [8, 6, 8.2, 6.3]], np.float32)
    nodes = [
        one("RoiAlign", ["x", "b", "i"], ["r"], output_height=3, output_width=2, spatial_scale=0.5, **options),
        one("Reshape", ["r", "s"]),
    ]
    constants = {"b": boxes, "i": integers(0, 0, 0), "s": integers(1, 3, -1)}
    path = save(tmp_path / "m.onnx", nodes, (2, 6, 8), constants, batch=1)
    parity(path, (2, 6, 8), tolerance=1e-4, pinned=True)


@pytest.mark.parametrize(
    ("parts", "groups", "weighed", "options"),
    [
        (1, 1, False, {"pads": [1, 1, 1, 1]}),
        (2, 2, True, {"strides": [2, 1], "pads": [0, 1, 1, 0]}),
        (1, 2, True, {"dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    ],
)
def test_deformed_convolutions(parts: int, groups: int, weighed: bool, options: dict[str, Any], tmp_path: Path) -> None:
    """Where windows are read, and how much each pixel counts, comes of the map itself."""
    taps = 3 * 2
    inputs = ["x", "w", "offsets", "b", *(["masks"] if weighed else [])]
    nodes = [
        one("Conv", ["x", "o"], ["offsets"], **options),
        one("Conv", ["x", "m"], ["masks"], **options),
        one("DeformConv", inputs, offset_group=parts, group=groups, **options),
    ]
    constants = {
        "o": array(2 * parts * taps, 4, 3, 2) * 0.3,
        "m": array(parts * taps, 4, 3, 2) * 0.3,
        "w": array(6, 4 // groups, 3, 2),
        "b": array(6),
    }
    path = save(tmp_path / "m.onnx", nodes, (4, 7, 6), constants, opset=19)
    model = parity(path, (4, 7, 6), tolerance=1e-3)
    assert len(model.graph.ops(ops.GridSample)) == 1


@pytest.mark.parametrize(
    "options", [{}, {"strides": [2, 1], "pads": [1, 0, 1, 2]}, {"dilations": [2, 1], "pads": [0, 1, 2, 1]}]
)
def test_windows_added_up(options: dict[str, Any], tmp_path: Path) -> None:
    size, window = (8, 8), (2, 2)
    steps, stride = options.get("dilations", [1, 1]), options.get("strides", [1, 1])
    pads = options.get("pads", [0] * 4)
    count = 1
    for axis, (n, k, d, s) in enumerate(zip(size, window, steps, stride, strict=True)):
        count *= (n + pads[axis] + pads[2 + axis] - d * (k - 1) - 1) // s + 1
    node = one("Col2Im", ["x", "s", "k"], **options)
    constants = {"s": integers(*size), "k": integers(*window)}
    parity(save(tmp_path / "m.onnx", [node], (3 * 4, count), constants, opset=18), (3 * 4, count), tolerance=1e-4)


@pytest.mark.parametrize(
    ("weights", "options"),
    [
        ((3, 4, 2, 2), {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
        ((6, 2, 2, 2), {"group": 2, "dilations": [2, 1]}),
        ((1, 4, 3, 1), {}),
    ],
)
def test_weights_that_the_network_computes(weights: tuple[int, ...], options: dict[str, Any], tmp_path: Path) -> None:
    nodes = [
        one("GlobalAveragePool", ["x"], ["g"]),
        one("Flatten", ["g"], ["f"]),
        one("MatMul", ["f", "m"], ["q"]),
        one("Reshape", ["q", "s"], ["w"]),
        one("Conv", ["x", "w", "b"], **options),
    ]
    size = int(np.prod(weights))
    constants = {"m": array(4, size), "s": integers(*weights), "b": array(weights[0])}
    path = save(tmp_path / "m.onnx", nodes, (4, 6, 5), constants, batch=1)
    parity(path, (4, 6, 5), tolerance=1e-4, pinned=True)


@pytest.mark.parametrize("shape", [(9, 1), (6, 2), (3, 6, 2)])
@pytest.mark.parametrize("options", [{}, {"inverse": 1}, {"onesided": 1}])
def test_fourier_transforms(options: dict[str, Any], shape: tuple[int, ...], tmp_path: Path) -> None:
    if "onesided" in options and shape[-1] == 2:
        pytest.skip("only real numbers have half a spectrum")
    path = save(tmp_path / "m.onnx", [one("DFT", **options)], shape, {})
    parity(path, shape, tolerance=1e-4)
    path = save(tmp_path / "m.onnx", [one("DFT", ["x", "", "a"], **options)], shape, {"a": np.array(-2)}, opset=20)
    parity(path, shape, tolerance=1e-4)


@pytest.mark.parametrize("length", [4, 12])
def test_fourier_transforms_of_other_lengths(length: int, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [one("DFT", ["x", "n"])], (9, 1), {"n": np.array(length)})
    parity(path, (9, 1), tolerance=1e-4)


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("half", [0, 1])
def test_fourier_transforms_of_windows(half: int, windowed: bool, tmp_path: Path) -> None:
    node = one("STFT", ["x", "d", "w" if windowed else "", "n"], onesided=half)
    constants = {"d": np.array(3), "n": np.array(8), "w": np.hanning(8).astype(np.float32)}
    if not windowed:
        del constants["w"]
    parity(save(tmp_path / "m.onnx", [node], (26, 1), constants), (26, 1), tolerance=1e-4)


def test_an_identity_as_large_as_a_value(tmp_path: Path) -> None:
    nodes = [
        one("Squeeze", ["x", "a"], ["s"]),
        one("EyeLike", ["s"], ["e"], k=1),
        one("Relu", ["s"], ["r"]),
        one("Mul", ["e", "r"], ["m"]),
        one("Unsqueeze", ["m", "a"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, (4, 6), {"a": integers(0)}, batch=1)
    parity(path, (4, 6), pinned=True)
