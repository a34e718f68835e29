"""Gradients through the steps: what a spike of this step does to those of later ones.

Who has caught up with its input has fired the closed form of what came in so far, whatever the order (the tracking
law): the gradient of its count is that of QCFS (Bu et al., ICLR 2022), on the sum instead of the mean. Who is behind,
because an event was too small or a spike cannot be taken back, fires what it can: its count moves with that of the step
before, and not with what comes in. Back-propagation through time (Wu et al., Frontiers in Neuroscience 2018) with that
rectangle as the surrogate. Values are those of the spikes.
"""

from collections.abc import Callable, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from snnc.ir import Graph, Op
from snnc.neurons import CausalNeuron
from snnc.neurons.base import Timed, stretched
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import Activation
from snnc.run.program import temporal_difference
from snnc.schedule import Schedule
from snnc.training.activations import quantized

# With more steps, the mean of a train is close to its closed form, and the gradient of that does.
MOST_STEPS = 8


def has_few_steps(graph: Graph, schedule: Schedule) -> bool:
    """Return whether gradients go through the steps: there are a few, all after one start, and neurons fire at each."""
    timed = graph.ops((Timed, Activation))
    causal = [isinstance(op, CausalNeuron | TemporalBias) for op in timed.values()]
    return bool(causal) and all(causal) and 1 < schedule.total <= MOST_STEPS and not schedule.rehearsal


def response(neuron: CausalNeuron, schedule: Schedule, currents: Tensor, threshold: Tensor) -> Tensor:
    """Return the response ``[total, N, ...]`` of neurons, with gradients to currents ``[total or 1, N, ...]``.

    ``threshold`` is that of the neurons, with its gradient. There is no rehearsal.
    """
    arrived = stretched(currents, schedule).cumsum(0)
    with torch.no_grad():
        fired = neuron.respond(currents, schedule).cumsum(0)
    least = neuron.threshold if neuron.slope is None else neuron.threshold * neuron.slope.abs().clamp(max=1)
    before, counts = torch.zeros_like(fired[0]), []
    for t in range(schedule.total):
        lit = min(t + 1, schedule.lit)
        form = neuron.closed_form(lit)
        levels = threshold * form.levels
        wanted = form.with_tensors({"ceiling": levels.detach()})(arrived[t].detach())
        caught = (fired[t] - wanted).abs() < least / 2
        followed = quantized(form.gathered(arrived[t]), levels, form.levels, form.potential, form.slope, fired[t])
        # A count that is behind has the value that it has, and moves with the one before.
        count = torch.where(caught, followed, fired[t] + before - before.detach())
        counts.append(count)
        before = count
    return torch.stack(counts).diff(dim=0, prepend=torch.zeros_like(fired[:1]))


@final
class Moving:
    """The shares of the image and of the biases that steps awake carry, with gradients to their logarithms ``[T]``."""

    def __init__(self, logs: Tensor, sleep: int) -> None:
        self._gains = F.pad(logs.softmax(0) * len(logs), (0, sleep))

    def computing(
        self, op: Op, compute: Callable[..., Tensor], inputs: Sequence[Tensor]
    ) -> tuple[Callable[..., Tensor], Sequence[Tensor]]:
        """Return what computes an operation, and from what, so that gradients go to the gains.

        What is the same at every step awake stays so until it meets what is not.
        """
        if not isinstance(op, Timed) and all(len(signal) == 1 for signal in inputs):
            return compute, inputs
        shown = [signal * self._as(signal) if len(signal) == 1 else signal for signal in inputs]
        if isinstance(op, Timed):
            return compute, shown
        if not op.linear:
            return lambda *signals: temporal_difference(op, signals, self._gains.cumsum(0)), shown

        def affine(*signals: Tensor) -> Tensor:
            result, gains = compute(*signals), self._as(signals[0])
            constant = op(*(torch.zeros_like(signal[0, :1]) for signal in signals)).detach()
            # It is in the result by the gains as they are: added here are gradients.
            return result + constant * (gains - gains.detach()).view(-1, *(1 for _ in result.shape[1:]))

        return affine, shown

    def _as(self, signal: Tensor) -> Tensor:
        return self._gains.to(signal.dtype).view(-1, *(1 for _ in signal.shape[1:]))
