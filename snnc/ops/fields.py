"""What fields of operations may be: an operation with others cannot be made."""

from collections.abc import Sequence

# Lengths that no axis has.
_LONGEST = (1 << 31) - 1


def check_windows(axes: int, sides: Sequence[tuple[int, ...]], paddings: Sequence[tuple[int, ...]]) -> None:
    """Raise ValueError where windows do not lie over 1 to 3 axes.

    ``sides`` are a length above 0 for each axis, ``paddings`` all the beginnings, then all the ends, none below 0.
    """
    if not 1 <= axes <= 3:
        raise ValueError(f"windows over {axes} axes, not 1 to 3")
    for side in sides:
        if len(side) != axes or not all(1 <= length <= _LONGEST for length in side):
            raise ValueError(f"{list(side)} is no length above 0 for each of {axes} axes")
    for padding in paddings:
        if len(padding) != 2 * axes or not all(0 <= length <= _LONGEST for length in padding):
            raise ValueError(f"{list(padding)} is no padding before and behind each of {axes} axes")


def check_axes(*axes: int) -> None:
    """Raise ValueError where an axis is that of the batch, which is axis 0, or counted from the end, or there twice."""
    if not all(1 <= axis <= _LONGEST for axis in axes) or len({*axes}) < len(axes):
        raise ValueError(f"{list(axes)} are no axes behind that of the batch")


def check_lengths(*lengths: int, least: int = 0) -> None:
    """Raise ValueError where a length is below the ``least``, or out of reason."""
    for length in lengths:
        if not least <= length <= _LONGEST:
            raise ValueError(f"{length} is no length from {least} on")
