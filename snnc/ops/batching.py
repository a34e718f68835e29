"""Further axes between the batch and the channels."""

from collections.abc import Callable

from torch import Tensor


def batched(function: Callable[[Tensor], Tensor], x: Tensor, further: int) -> Tensor:
    """Apply what takes ``[N, C, ...]`` to values with ``further`` axes between the batch and the channels."""
    if not further:
        return function(x)
    y = function(x.flatten(0, further))
    return y.reshape(-1, *x.shape[1 : 1 + further], *y.shape[1:])
