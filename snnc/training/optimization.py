"""The loop that trainings share: Adam, a rise of the learning rate, then half a cosine.

A learning rate is relative to the size of the layer: what one step may change, as a share of the root mean square of
its weights. Adam's steps do not know that size, and in a network with folded batch normalization it differs thirty
times between layers (relative steps: You et al., ICLR 2020).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.optim.lr_scheduler import LambdaLR

from snnc.errors import PreconditionError
from snnc.ir import Op
from snnc.ops import Weighted
from snnc.processes import Division, Sum
from snnc.threads import Threads
from snnc.training.network import TrainableNetwork

T = TypeVar("T")

# What the learning rate of thresholds is, as a share of that of weights: they are kept as logarithms, so theirs is
# relative as well, and every channel's is its own. So is that of biases that change from step to step, relative to the
# thresholds behind them.
_THRESHOLD_RATE = 0.2
# The share of the steps in which the learning rate rises: a closed form start is lost in one step that is too large.
_WARM_UP = 0.1
# Into how many parts at most, and of how many samples at least, a batch is divided whatever the machine; what they give
# is added up in their order.
_PARTS, _SAMPLES = 8, 8


def minimize(
    network: TrainableNetwork,
    shown: Callable[[Tensor], T],
    loss: Callable[[T], Tensor],
    batches: Iterator[Tensor],
    *,
    steps: int,
    learning_rate: float,
    place: str,
    after: Callable[[int, Callable[[], dict[str, Any]]], bool] | None = None,
    begun: Mapping[str, Any] | None = None,
) -> bool:
    """Train a network's parameters on ``steps`` batches of sample numbers, and return whether all were done.

    ``shown`` reads some samples, one part of a batch after the other, and ``loss`` is a mean over what was read: that
    of a batch is the mean over its parts, which processes share. ``learning_rate`` is the share of a layer's size that
    one step may change at most. ``after`` is told each step that is done, and how to get the state after it, and says
    whether to go on. ``begun`` is such a state to go on from.

    Raises PreconditionError, naming ``place``, where the loss or a parameter is no longer finite.
    """
    thresholds = list(network.thresholds.values())
    # A layer's tensors are trained by its size, those that several share by that of the first.
    grouped: set[int] = set()
    groups: list[tuple[list[Tensor], float]] = []
    sized: list[tuple[Op, float]] = [(layer, _size(layer)) for layer in network.layers.values()]
    sized += [(bias, _THRESHOLD_RATE * network.ceiling(name)) for name, bias in network.temporal.items()]
    for op, size in sized:
        own = [tensor for tensor in op.tensors().values() if id(tensor) not in grouped]
        grouped.update(map(id, own))
        if own:
            groups.append((own, size))
    if thresholds:
        groups.append((thresholds, _THRESHOLD_RATE))
    if network.shares is not None:
        groups.append(([network.shares], 1.0))
    optimizer = torch.optim.Adam([{"params": tensors, "lr": learning_rate * size} for tensors, size in groups])
    schedule = LambdaLR(optimizer, lambda step: rising_cosine(step / steps, _WARM_UP))
    trained = [tensor for tensors, _ in groups for tensor in tensors]

    def share(part: tuple[float, T]) -> dict[int, Tensor]:
        """Return what a part adds to the loss of its batch, and to the gradient of each tensor that is trained."""
        weight, samples = part
        value = loss(samples) * weight
        gradients = torch.autograd.grad(value, trained, materialize_grads=True)
        # Several of them may be one tensor.
        return {number: tensor.detach().clone() for number, tensor in enumerate((value, *gradients))}

    first = 0
    if begun is not None:
        first = begun["step"]
        network.load_state_dict(begun["network"])
        optimizer.load_state_dict(begun["optimizer"])
        schedule.load_state_dict(begun["schedule"])

    def state() -> dict[str, Any]:
        return {
            "step": step + 1,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }

    with Threads() as threads:
        for step in range(first, steps):
            chosen = next(batches)
            parts = torch.split(chosen, max(_SAMPLES, math.ceil(len(chosen) / _PARTS)))
            division = Division(len(parts), 1)
            total: Sum[dict[int, Tensor]] = division.sum()
            # What is drawn for a part depends on those before: all are shown in every process.
            read = [(len(part) / len(chosen), shown(part)) for part in parts]
            for found in threads.map(share, read[division.start : division.stop]):
                total.add(found)
            value, *gradients = total.total().values()
            for tensor, gradient in zip(trained, gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()
            schedule.step()
            # Weights that are not finite show in the next loss; thresholds have to be for there to be one.
            watched = [value, *thresholds, *(network.weights if step == steps - 1 else ())]
            if not all(bool(tensor.isfinite().all()) for tensor in watched):
                hint = "set a smaller learning-rate for it: --set passes.PASS.learning-rate=RATE"
                raise PreconditionError("training did not converge", place=place, hint=hint)
            if after is not None and not after(step + 1, state):
                return False
    return True


@final
class Shuffled:
    """Batches of sample numbers without end, each of them at most once an epoch, in orders drawn from a generator.

    ``begun`` is the state of others to go on from.
    """

    def __init__(
        self, indices: Tensor, batch: int, generator: Generator, begun: Mapping[str, Any] | None = None
    ) -> None:
        self._indices, self._batch, self._generator = indices, batch, generator
        self._order, self._start = indices, len(indices)
        if begun is not None:
            self._order, self._start = begun["order"], begun["start"]
            generator.set_state(begun["generator"])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Tensor:
        if self._start + self._batch > len(self._order):
            self._order, self._start = self._indices[torch.randperm(len(self._indices), generator=self._generator)], 0
        self._start += self._batch
        return self._order[self._start - self._batch : self._start]

    def state(self) -> dict[str, Any]:
        """Return where it is, and the generator, too, which others may have drawn from."""
        return {"order": self._order, "start": self._start, "generator": self._generator.get_state()}


def relative_distance(reached: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared distance, as a share of the mean square of what is wanted."""
    return F.mse_loss(reached, wanted) / wanted.square().mean().clamp(min=1e-12)


def _size(layer: Weighted) -> float:
    with Threads():
        return float(layer.weight.detach().square().mean().sqrt())


def rising_cosine(done: float, warm_up: float) -> float:
    """Return the learning rate as a share of the highest, when a share of all steps is done: a rise, half a cosine."""
    risen = min(1.0, (done + 1e-3) / warm_up) if warm_up else 1.0
    return risen * (1 + math.cos(math.pi * done)) / 2
