"""Array files: .npy holds x, .npz holds x and perhaps y; for several inputs, an array for each, of its name.

An array with one axis more than its input takes holds frames over time, ``[N, S, ...]``.
"""

import hashlib
import math
import mmap
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Self, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnc.data.given import PLACE, Given
from snnc.data.labels import CLASSES, MASKS, NAMED, VALUES, Classes, Labels, Masks, Named, OnDisk, Values, numbers_of
from snnc.data.pictures import placed
from snnc.data.preprocessing import MOST_CLASSES
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Transform
from snnc.errors import DataError
from snnc.files import check_file
from snnc.process import memory
from snnc.text import identifier

# How one row of an array lies on disk: an image in one of three ways, or exactly as the network takes it.
_RowLayout = Literal["nchw", "nhwc", "nhw", "sample"]

# What the only input and the labels are called in a file, and those of one output begin with.
_X, _Y, _Y_OF = "x", "y", "y_"


_ByName: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Rows:
    """An array ``[N, ...]`` that one input takes: what it is called in the file, and how a row of it lies there.

    ``over_time`` are rows of frames, ``[N, S, ...]``, each of which lies so.
    """

    key: str
    values: NDArray[Any]
    layout: _RowLayout
    over_time: bool

    def stored(self, index: int, path: Path) -> Array:
        """Return a row as it lies in the file; raises DataError where that has become shorter meanwhile."""
        mapped = self.values.base
        # To read beyond the end of a file that is mapped into memory ends the process.
        if isinstance(mapped, mmap.mmap) and mapped.size() < len(mapped):
            hint = "wait until it is written, then start again"
            raise DataError("the file became shorter while it was read", place=str(path), hint=hint)
        return np.asarray(self.values[index])

    def read(self, index: int, path: Path) -> Array:
        """Return a row, images as ``[height, width, channels]``; raises DataError where it is not finite."""
        row = self.stored(index, path)
        if row.dtype.kind == "f":
            # Values beyond the range of float32 become infinite here, and are reported as such.
            with np.errstate(over="ignore"):
                row = row.astype(np.float32)
            if not np.isfinite(row).all():
                first = tuple(int(axis) for axis in np.argwhere(~np.isfinite(row))[0])
                place = f"{path}:{self.key}[{', '.join(map(str, (index, *first)))}]"
                hint = "find out where it comes from, and replace it or leave the sample out"
                raise DataError(f"the value {row[first]} is not finite", place=place, hint=hint)
        if self.layout == "nchw":
            return np.moveaxis(row, -3, -1)
        return row[..., None] if self.layout == "nhw" else row


@final
@sources.register("arrays")
@dataclass(frozen=True, eq=False)
class Arrays(Source):
    """The rows of arrays ``[N, ...]`` of uint8 pixels, floats or integers, one array for each input, or of frames.

    The x of a .npy file is mapped into memory and read row by row; the arrays of a .npz file are held as a whole, in
    their own type, because rows of a compressed file cannot be reached one by one. Pickled objects are never read.
    Opening raises DataError where the file is damaged, or x or y has the wrong shape or type.
    """

    about: ClassVar[str] = "a .npy file (x) or a .npz file (x and y)"
    general: ClassVar[bool] = True

    path: Path
    rows: Mapping[str, _Rows]

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        return path.is_file() and path.suffix.lower() in (".npy", ".npz")

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        keys = {name: _key(name, inputs, path) for name in inputs}
        found, labeled = (_npy if path.suffix.lower() == ".npy" else _npz)(path, list(keys.values()))
        return cls._of(keys, found, labeled, inputs, path)

    @classmethod
    def held(cls, given: Given, inputs: Mapping[str, Transform]) -> Self:
        """Take what a program holds; raises DataError where it does not fit."""
        found, labeled = given.named(list(inputs))
        keys = {name: name if len(inputs) > 1 else _X for name in inputs}
        return cls._of(keys, {keys[name]: array for name, array in found.items()}, labeled, inputs, PLACE)

    @classmethod
    def _of(
        cls,
        keys: Mapping[str, str],
        found: _ByName,
        labeled: _ByName,
        inputs: Mapping[str, Transform],
        path: Path,
    ) -> Self:
        rows = {name: _rows(key, found[key], inputs[name], path) for name, key in keys.items()}
        first = next(iter(rows.values()))
        for other in rows.values():
            if len(other.values) != len(first.values):
                message = f"{other.key} holds {len(other.values)} samples, but {first.key} holds {len(first.values)}"
                raise DataError(message, place=f"{path}:{other.key}", hint="one row of each array is one sample")
            if other.over_time != first.over_time:
                still, moving = (first.key, other.key) if other.over_time else (other.key, first.key)
                hint = f"repeat {still} for every frame: numpy.repeat({still}[:, None], FRAMES, 1)"
                raise DataError(f"{moving} holds frames over time, but {still} none", place=str(path), hint=hint)
        labels = {name: _labels(name, y, first, inputs[next(iter(rows))], path) for name, y in labeled.items()}
        named = {name.removeprefix(_Y_OF): next(iter(kinds.values())) for name, kinds in labels.items() if name != _Y}
        kinds = labels.get(_Y, {}) | ({NAMED: Named.of(named)} if named else {})
        return cls(kinds, (), path, rows)

    @property
    def over_time(self) -> bool:
        return any(rows.over_time for rows in self.rows.values())

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())).values)

    def name(self, index: int) -> str:
        return f"{'+'.join(rows.key for rows in self.rows.values())}[{index}]"

    def place(self, index: int) -> str:
        return f"{self.path}:{self.name(index)}"

    def read(self, index: int) -> Mapping[str, Array]:
        found = {name: rows.read(index, self.path) for name, rows in self.rows.items()}
        for name, values in found.items():
            if values.dtype.kind == "f" and self.rows[name].layout != "sample" and values.size:
                self.noticed.floats(self.rows[name].key, float(values.min()), float(values.max()))
        return found

    def digest(self, index: int) -> str:
        digest = hashlib.sha256()
        for rows in self.rows.values():
            row = np.ascontiguousarray(rows.stored(index, self.path))
            digest.update(f"{row.dtype.str} {row.shape} ".encode())
            digest.update(row.data)
        return digest.hexdigest()


def _key(name: str, inputs: Mapping[str, Transform], path: Path) -> str:
    """Return what the array of an input is called: by its name, or x of the only one."""
    if len(inputs) > 1:
        return name
    try:
        with zipfile.ZipFile(path) as archive:
            found = {entry.removesuffix(".npy") for entry in archive.namelist()}
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        found = set()
    return name if name in found and _X not in found else _X


def _npy(path: Path, keys: Sequence[str]) -> tuple[_ByName, _ByName]:
    if len(keys) > 1:
        message = f"one array, but the network takes {', '.join(keys)}"
        raise DataError(message, place=str(path), hint=f"numpy.savez({', '.join(f'{key}=...' for key in keys)})")
    try:
        return {keys[0]: np.lib.format.open_memmap(path, mode="r")}, {}
    except Exception as error:  # a damaged header is parsed as Python, and fails in as many ways
        hint = "write it with numpy.save, as uint8 or float32; pickled objects are never read"
        raise DataError(_reason(error, ".npy"), place=str(path), hint=hint) from None


def _npz(path: Path, keys: Sequence[str]) -> tuple[_ByName, _ByName]:
    named = ", ".join(keys)
    hint = f"write it with numpy.savez, {named} as uint8 or float32; pickled objects are never read"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if {*archive.namelist()} & {*keys, _Y}:
                raise ValueError("what is called an array is none")
            needed = sum(_bytes(archive, f"{name}.npy") for name in names)
        if needed > memory():
            raise MemoryError
        # Names of inputs may have been made of others, which arrays may have.
        found = {identifier(name): name for name in names} | {name: name for name in names}
        missing = [key for key in keys if key not in found]
        if not missing:
            with np.load(path, allow_pickle=False) as arrays:
                labels = [name for name in names if name == _Y or name.startswith(_Y_OF)]
                read = {name: arrays[name] for name in {*(found[key] for key in keys), *labels}}
            if not all(isinstance(array, np.ndarray) for array in read.values()):
                raise ValueError("what is called an array is none")
            return {key: read[found[key]] for key in keys}, {name: read[name] for name in labels if name not in keys}
    except MemoryError:
        hint = f"save {named} alone with numpy.save: a .npy file is not read as a whole"
        hint = hint if len(keys) == 1 else "save fewer samples: a .npz file is read as a whole"
        raise DataError(f"{named} does not fit into memory", place=str(path), hint=hint) from None
    except Exception as error:  # as above, and damaged archives besides
        raise DataError(_reason(error, ".npz"), place=str(path), hint=hint) from None
    example = ", ".join(f"{key}=..." for key in dict.fromkeys((*keys, _Y)))
    raise DataError(
        f"no array {missing[0]}, only: {', '.join(names) or 'nothing'}", place=str(path), hint=f"numpy.savez({example})"
    )


def one_row(content: bytes, member: str, transform: Transform, path: Path) -> Array:
    """Return the sample that the bytes of a .npy file hold, which are a ``member`` of another; raises DataError."""
    try:
        stream = BytesIO(content)
        shape, _, kind = _header(stream)
        if kind.hasobject or math.prod((kind.itemsize, *shape)) != len(content) - stream.tell():
            raise ValueError("another size than its header says")
        values: Array = np.load(BytesIO(content), allow_pickle=False)
    except Exception:  # as above
        hint = "write it with numpy.save, as uint8 or float32; pickled objects are never read"
        raise DataError("damaged, or no .npy file of plain numbers", place=f"{path}:{member}", hint=hint) from None
    rows = _rows(member, values[None], transform, path)
    if rows.over_time:
        hint = "save frames as the rows of a .npy or .npz file, [N, S, ...]"
        raise DataError("frames over time in a shard", place=f"{path}:{member}", hint=hint)
    return rows.read(0, path)


def read_archive(path: Path) -> _ByName:
    """Return all arrays of a .npz file by their names; raises DataError where it is none, or of other than numbers."""
    check_file(path)
    hint = "write it with numpy.savez; pickled objects are never read"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            needed = sum(_bytes(archive, f"{name}.npy") for name in names)
        if needed > memory():
            raise MemoryError
        with np.load(path, allow_pickle=False) as arrays:
            read = {name: arrays[name] for name in names}
        if not all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in read.values()):
            raise ValueError("what is called an array is none")
        return read
    except MemoryError:
        raise DataError("its arrays do not fit into memory", place=str(path), hint="compare fewer samples") from None
    except Exception as error:  # as above
        raise DataError(_reason(error, ".npz"), place=str(path), hint=hint) from None


def _bytes(archive: zipfile.ZipFile, name: str) -> int:
    """Return how many bytes an array of an archive takes once it is read, as its header says."""
    with archive.open(name) as stream:
        shape, _, kind = _header(stream)
    return math.prod((kind.itemsize, *shape))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, the order and the type of an array, as its header says."""
    version = np.lib.format.read_magic(stream)
    reading = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reading(stream)


def _rows(key: str, values: NDArray[Any], transform: Transform, path: Path) -> _Rows:
    """Return an array as one input takes it; raises DataError where it does not fit."""
    place = f"{path}:{key}"
    whole = transform.is_whole and values.dtype.kind in "iub"
    if values.dtype != np.uint8 and values.dtype.kind != "f" and not whole:
        hint = "save pixels as uint8, and values that are already scaled as float32"
        raise DataError(f"{key} is of type {values.dtype}", place=place, hint=hint)
    over_time = not transform.is_whole and values.ndim == len(transform.sample_shape) + 2
    layout = _row_layout(key, values, transform, place, over_time)
    if not values.size:
        what = "sample" if not len(values) else "frame"
        raise DataError(f"{key} holds no {what}", place=place, hint="save at least one")
    return _Rows(key, values, layout, over_time)


def _reason(error: Exception, kind: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot read: {error.strerror}"
    return f"damaged, or no {kind} file of plain numbers"


def _row_layout(key: str, x: NDArray[Any], transform: Transform, place: str, over_time: bool) -> _RowLayout:
    row = x.shape[1 + over_time :]
    asked = transform.preprocessing.array_layout
    if not transform.is_image:
        if x.ndim and row == transform.sample_shape:
            return "sample"
        raise _wrong_shape(key, x, transform, place, over_time)
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
        raise _wrong_shape(key, x, transform, place, over_time)
    if len(fitting) > 1:
        hint = "set array-layout to nchw or nhwc"
        raise DataError(f"{key} {list(x.shape)} may be NCHW or NHWC", place=place, hint=hint)
    return fitting[0]


def _wrong_shape(key: str, x: NDArray[Any], transform: Transform, place: str, over_time: bool) -> DataError:
    wanted = ", ".join(map(str, ("N", *("S" if over_time else ""), *transform.sample_shape)))
    message = f"{key} has shape {list(x.shape)}, but the network takes [{wanted}]"
    hint = "the first axis counts samples" + (", the second frames over time" if over_time else "")
    if transform.is_image:
        hint += "; use --resize for pixels (uint8) of another size"
    if transform.preprocessing.array_layout != "auto":
        hint += f"; array-layout is {transform.preprocessing.array_layout}"
    return DataError(message, place=place, hint=hint)


def _labels(key: str, y: NDArray[Any], rows: _Rows, transform: Transform, path: Path) -> dict[str, Labels]:
    """Return an array of labels by what it holds.

    Whole numbers are classes, one for each sample or for each pixel ``[N, height, width]``, or rows of which all are 0
    or 1; pixels ``[N, channels, height, width]`` are values, scaled. Real numbers are values.
    """
    place, samples = f"{path}:{key}", len(rows.values)
    whole = y.dtype.kind in "iu" or (y.dtype == bool and y.ndim == 2)
    if not whole and y.dtype.kind != "f":
        hint = "save class numbers as int64, counted from 0, and values as float32"
        raise DataError(f"{key} is of type {y.dtype}, not integers", place=place, hint=hint)
    if whole and y.ndim == 2 and y.shape[1] == 1:
        # As Keras has its data sets.
        y = y[:, 0]
    if y.ndim < 1 or len(y) != samples:
        hint = f"{key} holds one class number per sample, or a row, a mask or an image of labels"
        raise DataError(
            f"{key} has shape {list(y.shape)}, but {rows.key} holds {samples} samples", place=place, hint=hint
        )
    if whole and y.size and max(abs(int(y.min())), abs(int(y.max()))) > MOST_CLASSES:
        hint = "number the classes from 0"
        raise DataError(f"{key} holds labels beyond {MOST_CLASSES:,}", place=place, hint=hint)
    if whole and y.ndim == 1:
        return {CLASSES: Classes(torch.from_numpy(y.astype(np.int64)))}
    if whole and y.ndim == 3:
        return {MASKS: Masks(_masks(y, transform, place))}
    with np.errstate(over="ignore"):
        values = y.astype(np.float32) * np.float32(transform.scale if y.dtype == np.uint8 and y.ndim > 3 else 1)
    if not np.isfinite(values).all():
        first = tuple(int(axis) for axis in np.argwhere(~np.isfinite(values))[0])
        hint = "replace it, or leave the sample out"
        raise DataError(
            f"the value {y[first]} is not finite", place=f"{place}[{', '.join(map(str, first))}]", hint=hint
        )
    numbers = torch.from_numpy(values)
    if numbers.ndim > 2:
        return {VALUES: Values(numbers)}
    return numbers_of(numbers if numbers.ndim == 2 else numbers[:, None])


def _masks(y: NDArray[Any], transform: Transform, place: str) -> Tensor | OnDisk:
    """Return the classes of pixels, resized and cropped as those are when somebody looks at them."""
    if not (transform.is_image and transform.resizes):
        return torch.from_numpy(y.astype(np.int64))
    return OnDisk(lambda number: placed(y[number].astype(np.int32), transform, f"{place}[{number}]"), range(len(y)))
