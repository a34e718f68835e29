"""The loop that trainings share: Adam, a short rise of the learning rate, then half a cosine."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from snnc.errors import PreconditionError
from snnc.training.network import TrainableNetwork

# Thresholds are few and kept as logarithms: they may move faster than weights.
_THRESHOLD_RATE = 3
# The share of the steps in which the learning rate rises.
_WARM_UP = 0.02


def minimize(
    network: TrainableNetwork,
    loss: Callable[[Tensor], Tensor],
    batches: Iterator[Tensor],
    *,
    steps: int,
    learning_rate: float,
    place: str,
    after: Callable[[int], None] | None = None,
) -> None:
    """Train a network's parameters on ``steps`` batches of sample numbers; ``after`` is told each step that is done.

    Raises PreconditionError, naming ``place``, where the loss or a parameter is no longer finite.
    """
    rates = {"weights": learning_rate, "thresholds": learning_rate * _THRESHOLD_RATE}
    groups = {"weights": network.weights, "thresholds": list(network.thresholds.values())}
    optimizer = torch.optim.Adam([{"params": groups[name], "name": name} for name in groups if groups[name]])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rates[group["name"]] * _rate(step / steps)
        value = loss(next(batches))
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        # Weights that are not finite show in the next loss; thresholds have to be for there to be one.
        watched = [value, *groups["thresholds"], *(groups["weights"] if step == steps - 1 else ())]
        if not all(bool(tensor.isfinite().all()) for tensor in watched):
            hint = "set a smaller learning-rate for it: --set passes.PASS.learning-rate=RATE"
            raise PreconditionError("training did not converge", place=place, hint=hint)
        if after is not None:
            after(step + 1)


def shuffled(indices: Tensor, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Yield batches of sample numbers without end, each of them at most once an epoch."""
    while True:
        order = indices[torch.randperm(len(indices), generator=generator)]
        for start in range(0, len(order) - batch + 1, batch):
            yield order[start : start + batch]


def relative_distance(reached: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared distance, as a share of the mean square of what is wanted."""
    return F.mse_loss(reached, wanted) / wanted.square().mean().clamp(min=1e-12)


def _rate(done: float) -> float:
    """Return the learning rate as a share of the highest."""
    return min(1.0, (done + 1e-3) / _WARM_UP) * (1 + math.cos(math.pi * done)) / 2
