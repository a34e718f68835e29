"""What torch's exporter of TorchScript has no ONNX for, in terms of what it has."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.onnx import errors, symbolic_helper

Resampling = Callable[[torch.Tensor, int], torch.Tensor]


@contextlib.contextmanager
def written_too(opset: int) -> Iterator[None]:
    """Let the exporter write these operations meanwhile."""
    for name, symbolic in _SYMBOLICS.items():
        torch.onnx.register_custom_op_symbolic(name, symbolic, opset)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in _SYMBOLICS:
            torch.onnx.unregister_custom_op_symbolic(name, opset)  # type: ignore[attr-defined]


def _divided_by_root_mean_square(g: Any, x: Any, shape: Sequence[int], weight: Any, epsilon: float | None) -> Any:
    """Write ``x / √(mean(x²) + ε) · weight``."""
    guard = torch.finfo(torch.float32).eps if epsilon is None else epsilon
    mean = g.op("ReduceMean", g.op("Mul", x, x), axes_i=list(range(-len(shape), 0)), keepdims_i=1)
    root = g.op("Sqrt", g.op("Add", mean, g.op("Constant", value_t=torch.tensor(guard))))
    divided = g.op("Div", x, root)
    return divided if symbolic_helper._is_none(weight) else g.op("Mul", divided, weight)


def _nearest(g: Any, x: Any, stated: Any, *factor: Any) -> Any:
    """Write the nearest entry, halves upward, at the middle of every new one."""
    size, scales = _size_or_scales(stated, factor)
    options = {"coordinate_transformation_mode_s": "half_pixel", "nearest_mode_s": "round_prefer_ceil"}
    empty = g.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
    if not size:
        factors = g.op("Constant", value_t=torch.tensor([1.0, 1.0, *scales]))
        return g.op("Resize", x, empty, factors, mode_s="nearest", **options)
    kept = g.op("Slice", g.op("Shape", x), *(g.op("Constant", value_t=torch.tensor([bound])) for bound in (0, 2)))
    sizes = g.op("Concat", kept, g.op("Constant", value_t=torch.tensor([*size])), axis_i=0)
    return g.op("Resize", x, empty, empty, sizes, mode_s="nearest", **options)


def _smooth(mode: str) -> Callable[..., Any]:
    """Return what writes a resizing that averages what it skips."""

    def symbolic(g: Any, x: Any, stated: Any, corners: Any, *factor: Any) -> Any:
        size, scales = _size_or_scales(stated, factor)
        aligned = bool(_constant(corners, "i"))

        def resampled(rows: torch.Tensor, axis: int) -> torch.Tensor:
            options: dict[str, Any] = {"mode": mode, "align_corners": aligned, "antialias": True}
            options |= {"size": (len(rows), size[axis])} if size else {"scale_factor": (1.0, scales[axis])}
            return functional.interpolate(rows[None, None], **options)[0, 0]

        return _along(g, x, 2, resampled)

    return symbolic


def _size_or_scales(size: Any, factor: Sequence[Any]) -> tuple[list[int], list[float]]:
    """Return the lengths of the axes, or where there are none by how much these are scaled."""
    if not symbolic_helper._is_none(size):
        return list(_constant(size, "is")), []
    return [], list(_constant(factor[0], "fs"))


def _constant(value: Any, kind: str) -> Any:
    return symbolic_helper._get_const(value, kind, "argument")  # type: ignore[no-untyped-call]


def _mean_of_parts(g: Any, x: Any, size: Sequence[int]) -> Any:
    """Write means of equal parts as a pool, of others as sums along the axes."""
    if all(length == 1 for length in size):
        return g.op("GlobalAveragePool", x)
    known = _known(x)[-len(size) :]
    if None not in known and not any(old % new for old, new in zip(known, size, strict=True)):
        windows = [old // new for old, new in zip(known, size, strict=True)]
        return g.op("AveragePool", x, kernel_shape_i=windows, strides_i=windows)
    return _along(g, x, len(size), lambda rows, axis: functional.adaptive_avg_pool1d(rows[None], size[axis])[0])


def _unflattened(g: Any, x: Any, axis: int, parts: Any) -> Any:
    """Write one axis as several; of torch's own it is not known how many there are.

    Raises SymbolicValueError where it is not known how many there were.
    """
    known = x.type().varyingSizes()
    if known is None:
        raise errors.SymbolicValueError("an axis of a value of unknown rank as several", x)
    axis %= len(known)
    computed = symbolic_helper._unpack_list(parts) if symbolic_helper._is_packed_list(parts) else _constant(parts, "is")
    stated = [symbolic_helper._maybe_get_const(part, "i") for part in computed]
    numbers = [part if isinstance(part, int) else None for part in stated]
    lengths = [
        symbolic_helper._unsqueeze_helper(g, part, [0])
        if number is None
        else g.op("Constant", value_t=torch.tensor([number]))
        for part, number in zip(stated, numbers, strict=True)
    ]
    kept = g.op("Shape", x)
    before, behind = (
        g.op("Slice", kept, *(g.op("Constant", value_t=torch.tensor([bound])) for bound in bounds))
        for bounds in ((0, axis), (axis + 1, len(known)))
    )
    made = g.op("Reshape", x, g.op("Concat", before, *lengths, behind, axis_i=0))
    sizes = [None if number is None or number < 0 else number for number in numbers]
    made.setType(x.type().with_sizes([*known[:axis], *sizes, *known[axis + 1 :]]))
    return made


def _along(g: Any, x: Any, axes: int, resampled: Resampling) -> Any:
    """Write sums along the last ``axes``, one or two; ``resampled`` says what is done to rows along one of them.

    Raises SymbolicValueError for more axes, and where their lengths are not known.
    """
    known = _known(x)[-axes:]
    if axes > 2 or None in known:
        raise errors.SymbolicValueError("parts of unlike length, of a volume or of a map of unknown size", x)
    *above, columns = (resampled(torch.eye(length), axis) for axis, length in enumerate(known))
    x = g.op("MatMul", x, g.op("Constant", value_t=columns))
    for rows in above:
        x = g.op("MatMul", g.op("Constant", value_t=rows.T.contiguous()), x)
    return x


def _known(x: Any) -> list[Any]:
    """Return the lengths of the axes of a value, None where they are not known."""
    return list(x.type().varyingSizes() or [None] * 5)


_SYMBOLICS: dict[str, Callable[..., Any]] = {
    "aten::_upsample_bicubic2d_aa": _smooth("bicubic"),
    "aten::_upsample_bilinear2d_aa": _smooth("bilinear"),
    "aten::unflatten": symbolic_helper.parse_args("v", "i", "v")(_unflattened),
    "aten::rms_norm": symbolic_helper.parse_args("v", "is", "v", "f")(_divided_by_root_mean_square),
    **{f"aten::_upsample_nearest_exact{axes}d": _nearest for axes in (1, 2, 3)},
    **{f"aten::adaptive_avg_pool{axes}d": symbolic_helper.parse_args("v", "is")(_mean_of_parts) for axes in (1, 2, 3)},
}
