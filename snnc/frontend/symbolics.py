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


def _mean_of_parts(g: Any, x: Any, size: Any) -> Any:
    """Write means of equal parts as a pool, of others as sums along the axes."""
    stated = _numbers(size)
    if all(length == 1 for length in stated):
        return g.op("GlobalAveragePool", x)
    known = _known(x)[-len(stated) :]
    # What is computed is the length that there is.
    parts = [old if new is None else new for old, new in zip(known, stated, strict=True)]
    if None not in known and not any(old % new for old, new in zip(known, parts, strict=True)):
        windows = [old // new for old, new in zip(known, parts, strict=True)]
        return g.op("AveragePool", x, kernel_shape_i=windows, strides_i=windows)
    return _along(g, x, len(parts), lambda rows, axis: functional.adaptive_avg_pool1d(rows[None], parts[axis])[0])


def _unflattened(g: Any, x: Any, axis: int, parts: Any) -> Any:
    """Write one axis as several; of torch's own it is not known how many there are."""
    known = _ranked(x)
    axis %= len(known)
    numbers = _numbers(parts)
    lengths = [
        symbolic_helper._unsqueeze_helper(g, part, [0])
        if number is None
        else g.op("Constant", value_t=torch.tensor([number]))
        for part, number in zip(_listed(parts), numbers, strict=True)
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


def _shuffled(g: Any, x: Any, groups: int) -> Any:
    """Write what turns channels ``[groups, each]`` to ``[each, groups]``."""
    channels = _known(x)[1]
    if channels is None:
        raise errors.SymbolicValueError("channels that are shuffled, of which it is not known how many there are", x)
    each = channels // groups
    order = torch.arange(channels).view(groups, each).T.reshape(-1)
    return g.op("Gather", x, g.op("Constant", value_t=order), axis_i=1)


def _transposed(g: Any, x: Any) -> Any:
    """Write a matrix, or each of several, with its axes exchanged; numbers are real."""
    *others, rows, columns = range(len(_ranked(x)))
    return g.op("Transpose", x, perm_i=[*others, columns, rows])


def _above(g: Any, x: Any, threshold: float, value: float) -> Any:
    """Write what is above a threshold, and a value in the place of all else."""
    bound, other = (g.op("Constant", value_t=torch.tensor(number)) for number in (threshold, value))
    return g.op("Where", g.op("Greater", x, bound), x, other)


def _listed(sizes: Any) -> list[Any]:
    """Return the entries of a list, each a number or computed."""
    return symbolic_helper._unpack_list(sizes) if symbolic_helper._is_packed_list(sizes) else _constant(sizes, "is")


def _numbers(sizes: Any) -> list[int | None]:
    """Return the entries of a list, None for those that are computed."""
    stated = [symbolic_helper._maybe_get_const(size, "i") for size in _listed(sizes)]
    return [size if isinstance(size, int) else None for size in stated]


def _ranked(x: Any) -> list[Any]:
    """Return the lengths of the axes of a value; raises SymbolicValueError where it is not known how many there are."""
    known = x.type().varyingSizes()
    if known is None:
        raise errors.SymbolicValueError("an axis of what has an unknown number of them", x)
    return list(known)


def _known(x: Any) -> list[Any]:
    """Return the lengths of the axes of a value, None where they are not known."""
    return list(x.type().varyingSizes() or [None] * 5)


_SYMBOLICS: dict[str, Callable[..., Any]] = {
    "aten::_upsample_bicubic2d_aa": _smooth("bicubic"),
    "aten::_upsample_bilinear2d_aa": _smooth("bilinear"),
    "aten::channel_shuffle": symbolic_helper.parse_args("v", "i")(_shuffled),
    **{f"aten::{name}": _transposed for name in ("adjoint", "mH", "mT")},
    "aten::threshold": symbolic_helper.parse_args("v", "f", "f")(_above),
    "aten::unflatten": symbolic_helper.parse_args("v", "i", "v")(_unflattened),
    "aten::rms_norm": symbolic_helper.parse_args("v", "is", "v", "f")(_divided_by_root_mean_square),
    **{f"aten::_upsample_nearest_exact{axes}d": _nearest for axes in (1, 2, 3)},
    **{f"aten::adaptive_avg_pool{axes}d": _mean_of_parts for axes in (1, 2, 3)},
}
