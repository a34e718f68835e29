"""Preprocessing as others publish it: timm in config.json, Hugging Face in preprocessor_config.json."""

import math
from collections.abc import Mapping
from typing import Any

from snnc.errors import UsageError

# The numbers that Pillow has for interpolations.
_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_TIMM = {"bilinear", "bicubic", "lanczos", "nearest", "random"}
_HINT = "write the preprocessing as snnc has it: resize, crop, interpolation, mean, std"
# Networks of this size or more are shown images whole (ConvNeXt).
_WHOLE_FROM = 384


def translated(data: Mapping[str, Any], *, place: str) -> Mapping[str, Any]:
    """Return preprocessing as snnc writes it, of whoever published it; raises UsageError where snnc has no such.

    What nobody known published is returned as it is.
    """
    try:
        if "pretrained_cfg" in data or {"crop_pct", "input_size"} <= set(data):
            return _timm({**data, **data.get("pretrained_cfg", {})})
        if "image_mean" in data or "image_processor_type" in data or "do_normalize" in data:
            return _hugging_face(data)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        message = f"a preprocessing of others that does not say what is needed: {error}"
        raise UsageError(message, place=place, hint=_HINT) from None
    return data


def _timm(data: Mapping[str, Any]) -> dict[str, Any]:
    """Resize the shorter side to what the crop is a share of, then crop; or stretch to that (``squash``)."""
    channels, height, width = data["input_size"]
    share, mode = float(data.get("crop_pct") or 0.875), data.get("crop_mode") or "center"
    interpolation = data.get("interpolation") or "bicubic"
    if interpolation not in _TIMM or mode not in ("center", "squash") or (mode == "center" and height != width):
        raise ValueError(f"interpolation {interpolation!r}, crop mode {mode!r} for {height} x {width}")
    high, wide = (math.floor(length / share) for length in (height, width))
    return {
        "resize": high if mode == "center" else [high, wide],
        "crop": [height, width],
        "interpolation": "bilinear" if interpolation == "random" else interpolation,
        "mean": list(data["mean"]),
        "std": list(data["std"]),
        **({"channels": "gray"} if channels == 1 else {}),
    }


def _hugging_face(data: Mapping[str, Any]) -> dict[str, Any]:
    """Resize to a size or the shorter side, crop, scale and normalize, each where it says so."""
    size, crop = data.get("size"), data.get("crop_size")
    found: dict[str, Any] = {}
    if data.get("do_resize", True) and size is not None:
        found["interpolation"] = _PILLOW[int(data.get("resample", 2))]
        shorter = size if isinstance(size, int) else size.get("shortest_edge")
        if data.get("crop_pct") is not None and shorter is not None and shorter < _WHOLE_FROM:
            found["resize"], found["crop"] = int(shorter / float(data["crop_pct"])), [shorter, shorter]
        elif shorter is None:
            found["resize"] = [size["height"], size["width"]]
        else:
            found["resize"] = shorter if data.get("crop_pct") is None else [shorter, shorter]
    if data.get("do_center_crop", False) and crop is not None:
        found["crop"] = [crop, crop] if isinstance(crop, int) else [crop["height"], crop["width"]]
    found["scale"] = float(data.get("rescale_factor", 1 / 255)) if data.get("do_rescale", True) else 1.0
    if data.get("do_normalize", True) and "image_mean" in data:
        found["mean"], found["std"] = ([*numbers] for numbers in (data["image_mean"], data["image_std"]))
    return found
