"""Values of all samples on disk, so that memory does not grow with their number."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Store:
    """Float32 values ``[samples, ...]`` in one file, read in any order; the file goes when the store does.

    What is handed out is a copy, laid out in memory as its axes stand, or, with ``channels_last``, images with their
    channels innermost: sums are rounded in the order in which numbers lie.
    """

    def __init__(self, path: Path, chunks: Iterable[Tensor], *, channels_last: bool = False) -> None:
        """Write the chunks ``[N, ...]`` to a file; raises OSError when the disk is full."""
        self._innermost = False
        count = 0
        shape: tuple[int, ...] = ()
        with path.open("wb") as file:
            for chunk in chunks:
                self._innermost = channels_last and chunk.ndim == 4
                values = chunk.permute(0, 2, 3, 1) if self._innermost else chunk
                # Written through the file, not by numpy: that does not notice when the disk fills up.
                file.write(values.float().contiguous().numpy().data)
                count, shape = count + len(values), tuple(values.shape[1:])
        self._values = np.memmap(path, np.float32, "r", shape=(count, *shape))
        # What is mapped stays until nobody maps it; the name is no longer needed.
        path.unlink()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return the values of some samples, in the order asked for."""
        values = torch.from_numpy(self._values[indices.numpy()])
        return values.permute(0, 3, 1, 2) if self._innermost else values

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Yield all values in order, ``size`` samples at once."""
        for start in range(0, len(self), size):
            yield self[torch.arange(start, min(start + size, len(self)))]
