"""States of long work, for one that goes on where it was stopped: in files that run nothing when they are read.

A file is the SHA-256 of what torch writes, and that: torch does not see that bits of it have changed.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from snnc.errors import DataError, UsageError
from snnc.files import check_file, write_atomically

_DIGEST = hashlib.sha256().digest_size
# What torch raises of a file that it cannot read.
_BROKEN = (RuntimeError, OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError)


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write a state whole or not at all; raises DataError, and leaves the one before, where that fails."""
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    data = stream.getbuffer()

    def written(place: Path) -> None:
        with place.open("wb") as file:
            file.write(hashlib.sha256(data).digest())
            file.write(data)

    write_atomically(path, written, flag="--checkpoint")


def load(path: Path, kinds: Iterable[type] = ()) -> dict[str, Any]:
    """Read a state, in which there may be objects of some kinds; raises DataError where it is damaged."""
    hint = "start without --resume"
    check_file(path, hint=hint)
    try:
        with path.open("rb") as file:
            digest, data = file.read(_DIGEST), file.read()
    except OSError as error:
        raise DataError(f"cannot read the checkpoint: {error.strerror}", place=str(path), hint=hint) from None
    if hashlib.sha256(data).digest() != digest:
        raise damaged(path)
    try:
        with torch.serialization.safe_globals([*kinds]), warnings.catch_warnings():
            # What is damaged is said to be.
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return {str(name): value for name, value in state.items()}
    except _BROKEN:
        raise damaged(path) from None


def damaged(path: Path) -> DataError:
    """Return the error that a file is no state of anything."""
    return DataError("not a checkpoint, or a damaged one", place=str(path), hint="start without --resume")


def check_identity(found: Mapping[str, str], wanted: Mapping[str, str], path: Path) -> None:
    """Raise UsageError where a state belongs to something else than is ``wanted``."""
    for name, value in wanted.items():
        if found.get(name) != value:
            hint = f"give the {name} it was made with, or start without --resume"
            raise UsageError(f"the checkpoint belongs to another {name}", place=str(path), hint=hint)
