"""The state of a training that can go on where it was stopped."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from snnc import states


@dataclass(frozen=True)
class Checkpoint:
    """A training after so many steps.

    ``identity`` names the model, the data and the settings it belongs to. ``best`` is the state of the network with the
    best ``score`` on the images held out so far (accuracy in percent, then the loss with its sign turned), the start's
    before the first. ``mean`` is the running mean of lookahead, empty without. ``losses`` are the sum of the losses of
    the epoch that is under way; ``noise`` the strengths by activation; ``history`` a row for each epoch done.
    """

    identity: dict[str, str]
    step: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    best: dict[str, Tensor] | None
    mean: dict[str, Tensor]
    score: tuple[float, float]
    losses: float
    noise: dict[str, float]
    history: list[dict[str, float]]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all; raises DataError, and leaves the one before, where that fails."""
    states.save({field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}, path)


def load(path: Path, identity: Mapping[str, str]) -> Checkpoint:
    """Read a checkpoint; raises DataError where it is damaged, UsageError where it belongs to something else."""
    try:
        checkpoint = Checkpoint(**states.load(path))
        belongs = dict(checkpoint.identity)
    except (TypeError, ValueError):
        raise states.damaged(path) from None
    states.check_identity(belongs, identity, path)
    return checkpoint
