"""How far a network in training is from the trained one, without labels."""

from typing import final

import torch
from torch import Tensor

from snnc.data.store import FeedsStore
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.run import Program
from snnc.threads import Threads
from snnc.training.network import TrainableNetwork
from snnc.training.optimization import relative_distance
from snnc.training.units import units


@final
class Comparison:
    """The distance between both networks: of their outputs and, with ``features``, of what single values cross with."""

    def __init__(self, reference: Graph, graph: Graph, *, features: bool) -> None:
        self._outputs = graph.outputs
        crossings = [unit.activation for unit in units(graph) if features]
        self._features = [name for name in crossings if name is not None and name in reference.nodes]
        self._outputs_alone = Program(reference, want=self._outputs)
        self._everything = Program(self._outputs_alone.graph, want=[*self._features, *self._outputs])

    def __call__(self, network: TrainableNetwork, feeds: Feeds) -> Tensor:
        """Return the relative squared distance of the outputs plus the mean of those of the features."""
        wanted, reached = self._both(network, feeds, self._everything)
        outputs = [relative_distance(reached[name], wanted[name]) for name in self._outputs]
        loss = torch.stack(outputs).mean()
        if self._features:
            loss = (
                loss + torch.stack([relative_distance(reached[name], wanted[name]) for name in self._features]).mean()
            )
        return loss

    @torch.no_grad()
    def error(self, network: TrainableNetwork, samples: FeedsStore, indices: Tensor, batch: int) -> float:
        """Return the relative squared distance of the outputs on some samples, as they are."""
        distance = norm = 0.0
        with Threads():
            for chosen in torch.split(indices, batch):
                wanted, reached = self._both(network, samples[chosen], self._outputs_alone)
                for name in self._outputs:
                    distance += float((reached[name] - wanted[name]).double().square().sum())
                    norm += float(wanted[name].double().square().sum())
        return distance / norm if norm else distance

    def _both(
        self, network: TrainableNetwork, feeds: Feeds, trained: Program
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {name: signal[0] for name, signal in trained(feeds).items()}, network(feeds, trained.want)
