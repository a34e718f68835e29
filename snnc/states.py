"""States of long work, for one that goes on where it was stopped: in files that run nothing when they are read."""

import io
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from snnc.errors import DataError, UsageError
from snnc.files import check_file, write_atomically


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write a state whole or not at all; raises DataError, and leaves the one before, where that fails."""
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    write_atomically(path, stream.getvalue(), flag="--checkpoint")


def load(path: Path, kinds: Iterable[type] = ()) -> dict[str, Any]:
    """Read a state, in which there may be objects of some kinds; raises DataError where it is damaged."""
    place, hint = str(path), "start without --resume"
    check_file(path, hint=hint)
    try:
        with torch.serialization.safe_globals([*kinds]), warnings.catch_warnings():
            # What is damaged is said to be.
            warnings.simplefilter("ignore")
            read = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): value for name, value in read.items()}
    except OSError as error:
        raise DataError(f"cannot read the checkpoint: {error.strerror}", place=place, hint=hint) from None
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError):
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
