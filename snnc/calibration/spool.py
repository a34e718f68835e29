"""Activations of all samples, kept on disk so that memory does not grow with their number."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from snnc.errors import DataError
from snnc.run.simulation import channels_last


class Spool:
    """Named sequences of chunks in a temporary folder that is removed on exit.

    Raises DataError when the disk is full.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="snnc-")
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, list[torch.Size]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._folder.cleanup()

    def write(self, name: str, chunks: Iterable[Tensor]) -> None:
        """Keep float32 chunks under a name."""
        path = Path(self._folder.name) / str(len(self._files))
        shapes: list[torch.Size] = []
        try:
            with path.open("wb") as file:
                for chunk in chunks:
                    shapes.append(chunk.shape)
                    _innermost(channels_last(chunk.float())).numpy().tofile(file)
        except OSError as error:
            hint = "free some space, set TMPDIR to a larger disk, or calibrate on fewer images"
            raise DataError(f"cannot keep activations: {error.strerror}", place=self._folder.name, hint=hint) from None
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
