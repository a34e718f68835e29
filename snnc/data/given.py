"""Samples that a program holds: tensors, arrays, and what yields batches of them, such as a DataLoader of torch."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import IO, Any, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from snnc.errors import DataError
from snnc.files import at_home, temporary_folder

# Where in an error: no file has this name.
PLACE = Path("data")

# Samples of a torch dataset at once.
_AT_ONCE = 64
_X, _Y = "x", "y"


@final
@dataclass(frozen=True, eq=False)
class Given:
    """Arrays ``[N, ...]`` in memory or in a file that is gone once nobody needs it: by names, or in order, then y."""

    arrays: Mapping[str | int, NDArray[Any]]

    @property
    def name(self) -> str:
        """What it is called beside files."""
        return PLACE.name

    def named(self, inputs: Sequence[str]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return the array that each input takes, x being the only one's, and those of labels, by their names.

        Raises DataError where an input has none.
        """
        arrays: Mapping[str | int, NDArray[Any]] = self.arrays
        if 0 in arrays:
            if not len(inputs) <= len(arrays) <= len(inputs) + 1:
                message = f"{len(arrays)} arrays, but the network takes {', '.join(inputs)}"
                raise DataError(message, place=str(PLACE), hint="give one for each input, and then the labels, if any")
            arrays = dict(zip((*inputs, _Y), arrays.values(), strict=False))
        elif len(inputs) == 1 and _X in arrays:
            arrays = {inputs[0] if name == _X else name: array for name, array in arrays.items()}
        missing = [name for name in inputs if name not in arrays]
        if missing:
            named = ", ".join(f"{name!r}: ..." for name in ((_X,) if len(inputs) == 1 else inputs))
            message = f"no array {missing[0]}, only: {', '.join(map(str, arrays)) or 'nothing'}"
            raise DataError(message, place=str(PLACE), hint=f"give {{{named}, {_Y!r}: ...}}")
        labels = {str(name): y for name, y in arrays.items() if str(name) == _Y or str(name).startswith(f"{_Y}_")}
        return {name: arrays[name] for name in inputs}, {name: y for name, y in labels.items() if name not in inputs}

    def first(self) -> dict[str | int, Tensor]:
        """Return the first sample, in single precision where it is real."""
        return {name: _tensor(array[:1]) for name, array in self.arrays.items()}


# What data may be. A tuple is x and then y, a mapping has them by name; what else can be iterated over yields batches.
Data: TypeAlias = str | Path | Given | Tensor | NDArray[Any] | TorchDataset[Any] | Mapping[str, Any] | Iterable[Any]


@singledispatch
def gathered(data: Any) -> Path | Given:
    """Return data as it can be read again and again: a path, or what a program holds.

    Batches are kept in a file meanwhile. Raises DataError where it is no data.
    """
    if not isinstance(data, Iterable):
        hint = "give a path, tensors, arrays, (x, y), a Dataset or a DataLoader"
        raise DataError(f"{type(data).__name__} is no data", place=str(PLACE), hint=hint)
    return _kept(data)


@gathered.register(str)
@gathered.register(Path)
def _path(data: str | Path) -> Path:
    return at_home(Path(data))


@gathered.register(Given)
def _given(data: Given) -> Given:
    return data


@gathered.register(Tensor)
@gathered.register(np.ndarray)
@gathered.register(tuple)
@gathered.register(Mapping)
def _at_once(data: Any) -> Given:
    return Given(_arrays(data, str(PLACE)))


@gathered.register(TorchDataset)
def _dataset(data: TorchDataset[Any]) -> Given:
    return _kept(DataLoader(data, batch_size=_AT_ONCE))


def _kept(batches: Iterable[Any]) -> Given:
    """Write batches into files, one for each array; raises DataError where they do not fit one another."""
    files: dict[str | int, IO[bytes]] = {}
    kinds: dict[str | int, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    rows: dict[str | int, int] = {}
    with temporary_folder() as folder, contextlib.ExitStack() as opened:
        for number, place, arrays in _each(batches):
            if number == 0:
                for index, name in enumerate(arrays):
                    files[name] = opened.enter_context((folder / str(index)).open("w+b"))
                kinds = {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
                rows = dict.fromkeys(arrays, 0)
            for name, array in arrays.items():
                if kinds.get(name) != (array.dtype, array.shape[1:]) or arrays.keys() != kinds.keys():
                    first = {key: f"{kind} {['N', *shape]}".replace("'", "") for key, (kind, shape) in kinds.items()}
                    other_kinds = {key: f"{other.dtype} {[*other.shape]}" for key, other in arrays.items()}
                    message = f"it holds {_told(other_kinds)}, but the first batch {_told(first)}"
                    raise DataError(message, place=place, hint="make all batches alike, with a transform for instance")
                rows[name] += len(array)
                files[name].write(np.ascontiguousarray(array).data)
        if not any(rows.values()):
            raise DataError("it yields no sample", place=str(PLACE), hint="give one or more")
        found: dict[str | int, NDArray[Any]] = {}
        for name, file in files.items():
            file.flush()
            kind, shape = kinds[name]
            # What is mapped stays when its folder is gone.
            found[name] = np.memmap(file, kind, "r", shape=(rows[name], *shape))
    return Given(found)


def _each(batches: Iterable[Any]) -> Iterator[tuple[int, str, dict[str | int, NDArray[Any]]]]:
    """Yield the number, the place and the arrays of every batch; raises DataError for what the program raises."""
    place, following = f"{PLACE}[0]", iter(batches)
    number = 0
    while True:
        place = f"{PLACE}[{number}]"
        try:
            batch = next(following)
        except StopIteration:
            return
        except (TypeError, RuntimeError) as error:
            # How torch says that it cannot make a batch of samples.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            hint = "make tensors of one shape, with a transform for instance"
            raise DataError(f"no batch can be made: {reason}", place=place, hint=hint) from error
        yield number, place, _arrays(batch, place)
        number += 1


def _arrays(batch: Any, place: str) -> dict[str | int, NDArray[Any]]:
    """Return the arrays of a batch, by name or in order; raises DataError where there are not as many rows in each."""
    if isinstance(batch, Mapping):
        found: dict[str | int, NDArray[Any]] = {str(name): _array(part, place) for name, part in batch.items()}
    else:
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        found = {index: _array(part, place) for index, part in enumerate(parts)}
    if len({array.shape[:1] for array in found.values()}) > 1 or () in {array.shape for array in found.values()}:
        shapes = _told({name: str([*array.shape]) for name, array in found.items()})
        hint = "the first axis counts samples: give as many of each"
        raise DataError(f"not as many samples in each: {shapes}", place=place, hint=hint)
    return found


def _array(part: Any, place: str) -> NDArray[Any]:
    if isinstance(part, Tensor):
        part = part.detach().cpu()
        part = (part.float() if part.dtype in (torch.bfloat16, torch.float16) else part).numpy()
    try:
        array = np.asarray(part)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        hint = "give tensors or arrays of numbers"
        raise DataError(f"{type(part).__name__} where numbers are expected", place=place, hint=hint)
    return array


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32 if array.dtype.kind == "f" else array.dtype))


def _told(parts: Mapping[str | int, str]) -> str:
    names = {0: _X, 1: _Y} if len(parts) <= 2 else {}
    return ", ".join(
        f"{names.get(name, name) if isinstance(name, int) else name} {told}" for name, told in parts.items()
    )
