"""Values of all samples on disk, to be read in any order."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Store:
    """Float32 values ``[samples, ...]`` in one file, which goes when the store does."""

    def __init__(self, path: Path, chunks: Iterable[Tensor]) -> None:
        """Write the chunks ``[N, ...]`` to a file; raises OSError when the disk is full."""
        count = 0
        shape: tuple[int, ...] = ()
        with path.open("wb") as file:
            for chunk in chunks:
                # Written through the file, not by numpy: that does not notice when the disk fills up.
                file.write(chunk.float().contiguous().numpy().data)
                count, shape = count + len(chunk), tuple(chunk.shape[1:])
        self._values = np.memmap(path, np.float32, "r", shape=(count, *shape))
        # What is mapped stays until nobody maps it; the name is no longer needed.
        path.unlink()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return the values of some samples, in the order asked for."""
        return torch.from_numpy(self._values[indices.numpy()])

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Yield all values in order, ``size`` samples at once."""
        for start in range(0, len(self), size):
            yield self[torch.arange(start, min(start + size, len(self)))]
