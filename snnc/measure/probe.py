"""The permutation probe: what of the loss is due to when spikes arrive, not how many.

Every neuron's spikes are shuffled over the steps awake, independently, before the next layer sees them. The counts
stay, the order is lost, and with it temporal misalignment: what that changes in accuracy is misalignment alone (the
observation behind Bojkovic et al., ICML 2025).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self, final

import torch
from torch import Generator, Tensor

from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import seeded
from snnc.schedule import Schedule


@final
@dataclass(frozen=True, eq=False)
class _Permuted(Neuron):
    """Neurons whose spikes come in random order."""

    neuron: Neuron = field(kw_only=True)

    def respond(self, currents: Tensor, schedule: Schedule, generator: Generator | None = None) -> Tensor:
        generator = seeded(generator)
        train = self.neuron.respond(currents, schedule, generator)
        sent = self.neuron.sent(train, schedule)
        awake = sent[schedule.rehearsal : schedule.lit]
        # Sorted with the steps innermost, which takes a third of the time.
        keys = torch.rand(awake.shape, generator=generator, dtype=torch.float32).movedim(0, -1).contiguous()
        order = keys.argsort(-1).movedim(-1, 0)
        shuffled = awake.gather(0, order.to(awake.device))
        # What rests in the receivers is no spike, and stays where it is.
        shuffled[0] += train[schedule.rehearsal] - awake[0]
        train[schedule.rehearsal : schedule.lit] = shuffled
        return train

    @property
    def rest(self) -> int:
        return self.neuron.rest

    def spikes(self, response: Tensor, schedule: Schedule) -> Tensor:
        return self.neuron.spikes(response, schedule)

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Self:
        return replace(super().map_tensors(function), neuron=self.neuron.map_tensors(function))


def permuted(snn: Graph) -> Graph:
    """Return the network with the spikes of its causal neurons in random order."""
    found = snn.ops(CausalNeuron).items()
    return snn.with_ops(
        {name: _Permuted(op.threshold, op.slope, op.potential, op.coding, neuron=op) for name, op in found}
    )
