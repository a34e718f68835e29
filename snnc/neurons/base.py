"""What every spiking neuron is: currents in, spike values out, no hidden state."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnc.ir import Op
from snnc.registry import Registry


@dataclass(frozen=True, eq=False)
class Neuron(Op):
    """A layer of spiking neurons with soft reset, whose spikes carry the value of their threshold.

    ``threshold`` broadcasts against one sample, so it is one per layer or one per channel. With a ``slope`` (for
    LeakyReLU) the signed spike count may go below zero, and what is below zero weighs ``slope``; only a ``signed``
    neuron can do that.
    """

    linear: ClassVar[bool] = False
    signed: ClassVar[bool] = True

    threshold: Tensor
    slope: Tensor | None = None

    def __post_init__(self) -> None:
        if not bool(((self.threshold > 0) & self.threshold.isfinite()).all()):
            raise ValueError("thresholds must be positive and finite")

    @abstractmethod
    def respond(self, currents: Tensor, timesteps: int) -> Tensor:
        """Return the spikes times their values, ``[timesteps, N, ...]``.

        ``currents`` is ``[timesteps, N, ...]``, or ``[1, N, ...]`` for the same current at every step.
        """

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the response to one step."""
        return self.respond(inputs[0].unsqueeze(0), 1)[0]

    def spikes(self, response: Tensor, timesteps: int) -> Tensor:
        """Return how many spikes, of either sign, each neuron fired, from its response.

        That may be the mean, ``[1, N, ...]``, where there are no negative spikes.
        """
        if len(response) == timesteps:
            return response.count_nonzero(0).to(response.dtype)
        return (response[0] * timesteps / self.threshold).round_()

    def value(self, count: Tensor, timesteps: int = 1) -> Tensor:
        """Return the mean of ``count`` spikes over the steps: the threshold each, negative ones times the slope."""
        if self.slope is not None:
            count = torch.where(count > 0, count, count * self.slope)
        return count * (self.threshold / timesteps)


@dataclass(frozen=True, eq=False)
class CausalNeuron(Neuron):
    """A neuron whose spike at a step depends on the currents up to that step."""

    @abstractmethod
    def initial(self, x: Tensor) -> Any:
        """Return the state before the first step, for currents shaped like ``x`` ``[N, ...]``."""

    @abstractmethod
    def step(self, state: Any, x: Tensor) -> tuple[Any, Tensor]:
        """Take one time step: (state, currents) to (next state, spikes times their values); changes neither."""

    def respond(self, currents: Tensor, timesteps: int) -> Tensor:
        train = empty_train(timesteps, currents[0])
        state = self.initial(currents[0])
        for t in range(timesteps):
            state, train[t] = self.step(state, currents[t % len(currents)])
        return train


@dataclass(frozen=True, eq=False)
class OrderFreeNeuron(Neuron):
    """A neuron that gathers its whole input before it fires, so that only the input's mean matters."""

    @abstractmethod
    def mean_response(self, mean: Tensor, timesteps: int) -> Tensor:
        """Return the mean output over the steps for the mean input ``[N, ...]``: ``respond(...).mean(0)``."""


def empty_train(timesteps: int, like: Tensor) -> Tensor:
    """Return an uninitialized ``[timesteps, *like.shape]`` whose every step has the memory layout of ``like``."""
    strides = torch.empty_like(like, device="meta").stride()
    return torch.empty_strided((timesteps, *like.shape), (like.numel(), *strides), dtype=like.dtype, device=like.device)


neurons: Registry[type[Neuron]] = Registry("neuron", __name__.rpartition(".")[0])
