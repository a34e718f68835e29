"""Borders around the last axes."""

import torch.nn.functional as F
from torch import Tensor


def bordered(x: Tensor, padding: tuple[int, ...], value: float) -> Tensor:
    """Pad the last axes of ``x`` by ``padding``, given as all the beginnings, then all the ends."""
    if not any(padding):
        return x
    axes = len(padding) // 2
    pairs = [(padding[axis], padding[axes + axis]) for axis in reversed(range(axes))]
    return F.pad(x, [side for pair in pairs for side in pair], value=value)
