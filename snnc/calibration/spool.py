"""Activations of all samples, kept on disk so that memory does not grow with their number."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnc.feeds import laid_out


class Spool:
    """Named sequences of chunks in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, list[torch.Size]] = {}

    def write(self, name: str, chunks: Iterable[Tensor]) -> None:
        """Keep float32 chunks under a name; raises OSError when the disk is full."""
        path = self._folder / str(len(self._files))
        shapes: list[torch.Size] = []
        with path.open("wb") as file:
            for chunk in chunks:
                shapes.append(chunk.shape)
                # Written through the file, not by numpy: that does not notice when the disk fills up.
                file.write(_innermost(laid_out(chunk.float())).numpy().data)
        self._files[name] = path
        self._shapes[name] = shapes

    def read(self, name: str) -> Iterator[Tensor]:
        """Yield the chunks kept under a name, in order."""
        with self._files[name].open("rb") as file:
            for shape in self._shapes[name]:
                values = torch.from_numpy(np.fromfile(file, dtype=np.float32, count=shape.numel()))
                if len(shape) == 4:
                    count, channels, height, width = shape
                    yield values.view(count, height, width, channels).permute(0, 3, 1, 2)
                else:
                    yield values.view(shape)

    def free(self, name: str) -> None:
        """Forget what is kept under a name."""
        self._files[name].unlink()
        self._files[name] = Path()


def _innermost(chunk: Tensor) -> Tensor:
    """Return the chunk's numbers in the order in which they lie in memory."""
    return chunk.permute(0, 2, 3, 1) if chunk.ndim == 4 else chunk.contiguous()
