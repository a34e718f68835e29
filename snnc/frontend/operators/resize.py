"""Maps made larger or smaller: every entry of an axis is a weighted sum of old ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from snnc import ops
from snnc.frontend.expression import Array, Call, Expression, UnsupportedError, chain
from snnc.frontend.operators import operators
from snnc.frontend.sampling import LINEAR, cubic, resampled


@operators.register("Resize")
def resize(call: Call) -> Expression:
    """Read resizing by the nearest entry, or by linear or cubic interpolation."""
    if call.opset < 11:
        return _resized(call, _by_axis(call, call.constant(1, "its scale")), "asymmetric", _TO_SMALLER_UP)
    where = call.text("coordinate_transformation_mode", "half_pixel")
    scales, sizes = call.given(2), call.given(3)
    if scales is not None and scales.size:
        found = _by_axis(call, scales)
    else:
        found = {} if sizes is None else _within(call, _by_axis(call, sizes))
    return _resized(call, found, where, call.text("nearest_mode", "round_prefer_floor"))


@operators.register("Upsample")
def upsample(call: Call) -> Expression:
    """Read resizing as opsets 7 to 9 write it."""
    scales = np.asarray(call.attributes["scales"]) if "scales" in call.attributes else call.constant(1, "its scale")
    return _resized(call, _by_axis(call, scales), "asymmetric", "floor")


def _by_axis(call: Call, numbers: Array) -> dict[int, float]:
    axes = (call.axis(axis) for axis in call.integers("axes", range(len(call.shape()))))
    return dict(zip(axes, numbers.reshape(-1).tolist(), strict=True))


def _within(call: Call, sizes: Mapping[int, float]) -> dict[int, float]:
    """Return the scales that sizes mean, which are one where the proportions of a map are kept."""
    scales = {axis: size / call.shape()[axis] for axis, size in sizes.items()}
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return scales
    one = min(scales.values()) if policy == "not_larger" else max(scales.values())
    return dict.fromkeys(scales, one)


def _resized(call: Call, scales: Mapping[int, float], where: str, rounding: str) -> Expression:
    if where not in _COORDINATES:
        raise UnsupportedError(f"resizing with {where!r}", f"one of: {', '.join(sorted(_COORDINATES))}")
    shape, output = call.shape(), call.output
    regions = _regions(call) if where == _CROP else {}
    scales = {axis: scales.get(axis, new / old) for axis, (old, new) in enumerate(zip(shape, output, strict=True))}
    changed = [axis for axis in scales if scales[axis] != 1 or regions.get(axis, (0.0, 1.0)) != (0.0, 1.0)]
    operand, offset = call.framed(changed)
    value: Expression = operand
    outside = np.zeros(output, bool)
    for axis in changed:
        stretch = _Stretch(scales[axis], shape[axis], output[axis], *regions.get(axis, (0.0, 1.0)))
        x = _COORDINATES[where](np.arange(output[axis], dtype=np.float32), stretch)
        places, weights = _interpolated(call, x, stretch, rounding)
        if where == _CROP:
            beyond = (x < 0) | (x > shape[axis] - 1)
            weights = np.where(beyond[:, None], 0, weights)
            outside |= beyond.reshape(-1, *(1,) * (len(output) - axis - 1))
        value = chain(value, *resampled(axis + offset, places, weights, shape[axis]))
    value = call.framed_result(value, offset)
    if not outside.any():
        return value
    return chain(value, ops.Affine(None, call.broadcast_constant(outside * call.number("extrapolation_value", 0.0))))


@dataclass(frozen=True)
class _Stretch:
    """How an axis is stretched: from ``old`` entries to ``new`` ones; of a part of it, from ``start`` to ``end``."""

    scale: float
    old: int
    new: int
    start: float = 0.0
    end: float = 1.0


def _regions(call: Call) -> dict[int, tuple[float, float]]:
    """Return which part of every axis is cut out, from 0 to 1."""
    bounds = call.constant(1, "the region that it cuts out").reshape(2, -1).astype(np.float64)
    axes = (call.axis(axis) for axis in call.integers("axes", range(len(call.shape()))))
    return {axis: (float(start), float(end)) for axis, start, end in zip(axes, *bounds, strict=True)}


def _interpolated(call: Call, x: Array, stretch: _Stretch, rounding: str) -> tuple[Array, Array]:
    """Return which old entries every new one is made of, and what they weigh."""
    mode, last = call.text("mode", "nearest"), stretch.old - 1
    if mode == "nearest":
        if rounding == _TO_SMALLER_UP:
            rounding = "ceil" if stretch.scale < 1 else "floor"
        return np.clip(_ROUNDINGS[rounding](x), 0, last)[:, None], np.ones((len(x), 1))
    if mode not in ("linear", "cubic"):
        raise UnsupportedError(f"{mode} resizing", "resize with mode 'nearest', 'linear' or 'cubic'")
    kernel = LINEAR if mode == "linear" else cubic(call.number("cubic_coeff_a", -0.75))
    share = min(stretch.scale, 1.0) if call.integer("antialias", 0) else 1.0
    places, weights = kernel.around(x.astype(np.float64), share)
    if call.integer("exclude_outside", 0):
        weights = np.where((places < 0) | (places > last), 0, weights)
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(places, 0, last), weights


def _align_corners(x: Array, by: _Stretch) -> Array:
    return x * np.float32(by.old - 1) / np.float32(by.new - 1) if by.new > 1 else x * 0


def _half_pixel(x: Array, by: _Stretch) -> Array:
    return (x + np.float32(0.5)) / np.float32(by.scale) - np.float32(0.5)


def _half_pixel_symmetric(x: Array, by: _Stretch) -> Array:
    adjustment = np.float32(by.new) / (np.float32(by.scale) * np.float32(by.old))
    offset = np.float64(np.float32(by.old / 2) * (1 - adjustment))
    places: Array = offset + (x.astype(np.float64) + 0.5) / np.float64(np.float32(by.scale)) - 0.5
    return places.astype(np.float32)


def _torch_half_pixel(x: Array, by: _Stretch) -> Array:
    return _half_pixel(x, by) if by.new > 1 else x * 0


def _half_pixel_start(x: Array, by: _Stretch) -> Array:
    return (x + np.float32(0.5)) / np.float32(by.scale)


def _asymmetric(x: Array, by: _Stretch) -> Array:
    return x / np.float32(by.scale)


def _cut_out(x: Array, by: _Stretch) -> Array:
    start, end, last = np.float32(by.start), np.float32(by.end), np.float32(by.old - 1)
    if by.new == 1:
        return x * 0 + np.float32((by.start + by.end) / 2 * (by.old - 1))
    return start * last + x * (end - start) * last / np.float32(by.new - 1)


_CROP = "tf_crop_and_resize"
# How opset 10 rounds: up where it makes an axis shorter, else down.
_TO_SMALLER_UP = "up to smaller"

# What lies at which place, in the precision and the order of onnxruntime: on this depends who is nearest.
_COORDINATES: dict[str, Callable[[Array, _Stretch], Array]] = {
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _torch_half_pixel,
    _CROP: _cut_out,
    "tf_half_pixel_for_nn": _half_pixel_start,
}

# How near to the middle is in it, for onnxruntime.
_MIDDLE = 1e-6

_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x.astype(np.float64) + 0.5 + _MIDDLE),
    "round_prefer_floor": lambda x: np.ceil(x.astype(np.float64) - 0.5 - _MIDDLE),
}
