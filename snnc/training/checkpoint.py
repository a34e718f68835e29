"""The state of a training that can go on where it was stopped."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnc.errors import DataError, UsageError
from snnc.files import check_file, write_atomically


@dataclass(frozen=True)
class Checkpoint:
    """A training after so many steps.

    ``identity`` names the model, the data and the settings it belongs to. ``best`` is the state of the network with the
    best ``score`` on the images held out so far (accuracy in percent, then the loss with its sign turned), the start's
    before the first. ``losses`` are the sum of the losses of the epoch that is under way; ``noise`` the strengths by
    activation; ``history`` a row for each epoch done.
    """

    identity: dict[str, str]
    step: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    best: dict[str, Tensor] | None
    score: tuple[float, float]
    losses: float
    noise: dict[str, float]
    history: list[dict[str, float]]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all; raises DataError, and leaves the one before, where that fails."""
    stream = io.BytesIO()
    torch.save({field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}, stream)
    write_atomically(path, stream.getvalue(), flag="--checkpoint")


def load(path: Path, identity: Mapping[str, str]) -> Checkpoint:
    """Read a checkpoint; raises DataError where it is damaged, UsageError where it belongs to something else."""
    place = str(path)
    check_file(path, hint="start without --resume")
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**read)
        belongs = dict(checkpoint.identity)
    except OSError as error:
        hint = "start without --resume"
        raise DataError(f"cannot read the checkpoint: {error.strerror}", place=place, hint=hint) from None
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError):
        raise DataError("not a checkpoint, or a damaged one", place=place, hint="start without --resume") from None
    for name, wanted in identity.items():
        if belongs.get(name) != wanted:
            hint = f"give the {name} it was made with, or start without --resume"
            raise UsageError(f"the checkpoint belongs to another {name}", place=place, hint=hint)
    return checkpoint
