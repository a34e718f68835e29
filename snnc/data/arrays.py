"""Array files: .npy holds x, .npz holds x and perhaps y."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from snnc.data.source import Source
from snnc.data.transform import Sample, Transform
from snnc.errors import DataError

# How one row of x lies on disk: an image in one of three ways, or exactly as the network takes it.
_RowLayout = Literal["nchw", "nhwc", "nhw", "sample"]


@final
@dataclass(frozen=True, eq=False)
class Arrays(Source):
    """The rows of an array x [N, ...] of uint8 pixels or of floats."""

    path: Path
    x: NDArray[Any]
    row_layout: _RowLayout

    def __len__(self) -> int:
        return len(self.x)

    def name(self, index: int) -> str:
        return f"x[{index}]"

    def place(self, index: int) -> str:
        return f"{self.path}:x[{index}]"

    def read(self, index: int) -> Sample:
        row = np.asarray(self.x[index])
        if row.dtype == np.uint8:
            if self.row_layout == "sample":
                return self.transform.scaled(row)
            return self.transform.pixels(self._height_width_channels(row), place=self.place(index))
        # Values beyond the range of float32 become infinite here, and are reported as such.
        with np.errstate(over="ignore"):
            values = row.astype(np.float32)
        if not np.isfinite(values).all():
            first = tuple(int(axis) for axis in np.argwhere(~np.isfinite(values))[0])
            position = ", ".join(map(str, (index, *first)))
            hint = "find out where it comes from, and replace it or leave the sample out"
            raise DataError(f"the value {values[first]} is not finite", place=f"{self.path}:x[{position}]", hint=hint)
        if self.row_layout != "sample":
            values = self.transform.in_layout(self._height_width_channels(values))
        return self.transform.normalized(values)

    def digest(self, index: int) -> str:
        row = np.ascontiguousarray(self.x[index])
        digest = hashlib.sha256(f"{row.dtype.str} {row.shape} ".encode())
        digest.update(row.data)
        return digest.hexdigest()

    def _height_width_channels(self, row: NDArray[Any]) -> NDArray[Any]:
        if self.row_layout == "nchw":
            return row.transpose(1, 2, 0)
        return row[..., None] if self.row_layout == "nhw" else row


def open_arrays(path: Path, transform: Transform) -> Arrays:
    """Open x [N, ...] and, from .npz, y [N].

    The x of a .npy file is mapped into memory and read row by row; that of a .npz file is held as a whole, in its own
    type, because rows of a compressed file cannot be reached one by one. Pickled objects are never read. Raises
    DataError where the file is damaged, or x or y has the wrong shape or type.
    """
    x, y = _npy(path) if path.suffix.lower() == ".npy" else _npz(path)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        hint = "save pixels as uint8, and values that are already scaled as float32"
        raise DataError(f"x is of type {x.dtype}", place=f"{path}:x", hint=hint)
    row_layout = _row_layout(x, transform, path)
    if not len(x):
        raise DataError("x holds no sample", place=f"{path}:x", hint="save at least one")
    if y is not None:
        _require_labels(y, len(x), path)
    return Arrays(transform, None if y is None else y.astype(np.int64), (), 0, path, x, row_layout)


def _npy(path: Path) -> tuple[NDArray[Any], None]:
    try:
        return np.lib.format.open_memmap(path, mode="r"), None
    except Exception as error:  # a damaged header is parsed as Python, and fails in as many ways
        hint = "write it with numpy.save, as uint8 or float32; pickled objects are never read"
        raise DataError(_reason(error, ".npy"), place=str(path), hint=hint) from None


def _npz(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    hint = "write it with numpy.savez, x as uint8 or float32; pickled objects are never read"
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
        if "x" in found:
            with np.load(path, allow_pickle=False) as arrays:
                return arrays["x"], arrays["y"] if "y" in found else None
    except MemoryError:
        hint = "save x alone with numpy.save: a .npy file is not read as a whole"
        raise DataError("x does not fit into memory", place=str(path), hint=hint) from None
    except Exception as error:  # as above, and damaged archives besides
        raise DataError(_reason(error, ".npz"), place=str(path), hint=hint) from None
    raise DataError(
        f"no array x, only: {', '.join(found) or 'nothing'}", place=str(path), hint="numpy.savez(x=..., y=...)"
    )


def _reason(error: Exception, kind: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot read: {error.strerror}"
    return f"damaged, or no {kind} file of plain numbers"


def _row_layout(x: NDArray[Any], transform: Transform, path: Path) -> _RowLayout:
    row = x.shape[1:]
    asked = transform.preprocessing.array_layout
    if not transform.is_image:
        if x.ndim and row == transform.sample_shape:
            return "sample"
        raise _wrong_shape(x, transform, path)
    channels, size = transform.channels, (transform.height, transform.width)
    any_size = x.dtype == np.uint8 and transform.resizes
    fitting: list[_RowLayout] = []
    if len(row) == 3 and row[0] == channels and (any_size or row[1:] == size) and asked != "nhwc":
        fitting.append("nchw")
    if len(row) == 3 and row[2] == channels and (any_size or row[:2] == size) and asked != "nchw":
        fitting.append("nhwc")
    if len(row) == 2 and channels == 1 and (any_size or row == size):
        fitting.append("nhw")
    if not fitting:
        raise _wrong_shape(x, transform, path)
    if len(fitting) > 1:
        hint = "set array-layout to nchw or nhwc"
        raise DataError(f"x {list(x.shape)} may be NCHW or NHWC", place=f"{path}:x", hint=hint)
    return fitting[0]


def _wrong_shape(x: NDArray[Any], transform: Transform, path: Path) -> DataError:
    message = f"x has shape {list(x.shape)}, but the network takes {['N', *transform.sample_shape]}".replace("'", "")
    hint = "the first axis counts samples"
    if transform.is_image:
        hint += "; use --resize for pixels (uint8) of another size"
    if transform.preprocessing.array_layout != "auto":
        hint += f"; array-layout is {transform.preprocessing.array_layout}"
    return DataError(message, place=f"{path}:x", hint=hint)


def _require_labels(y: NDArray[Any], samples: int, path: Path) -> None:
    if y.dtype.kind not in "iu":
        hint = "save class numbers as int64, counted from 0"
        raise DataError(f"y is of type {y.dtype}, not integers", place=f"{path}:y", hint=hint)
    if y.shape != (samples,):
        hint = "y holds one class number per sample"
        raise DataError(f"y has shape {list(y.shape)}, but x holds {samples} samples", place=f"{path}:y", hint=hint)
