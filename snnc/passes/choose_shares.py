"""Choose what of the image each time step carries, by gradients through the steps.

No labels. Nothing of the network changes: Adam lessens the squared distance between its outputs and those of the
trained one, relative to the latter's size, over the logarithms of T numbers in proportion to which image and biases
are shown. The gradient of a neuron that is behind at the last step says whether more should have come earlier.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from typing import final

import torch
from torch import Generator

from snnc.calibration import Calibration
from snnc.data.store import FeedsStore
from snnc.files import temporary_folder
from snnc.ir import Graph
from snnc.ops import Clipped, Quantized
from snnc.passes.base import Pass, check_stage, passes
from snnc.schedule import Schedule
from snnc.training.comparison import Comparison
from snnc.training.network import TrainableNetwork
from snnc.training.optimization import Shuffled, minimize
from snnc.training.through_time import MOST_STEPS, has_few_steps

# How often the held-out images are looked at.
_LOOKS = 5
# So finely are shares written down.
_PARTS = 1000


@final
@passes.register("choose-shares")
@dataclass(frozen=True)
class ChooseShares(Pass):
    """Choose what of image and biases each step awake carries, after neurons are substituted.

    Equal shares are moved in ``steps`` steps of ``batch_size`` images, of at most ``images``, spread evenly, each by at
    most ``learning_rate`` of itself; ``seed`` draws the order. A tenth of the images is held out: the shares with the
    least error there, the equal ones included, are written into the recipe. Shares that a recipe states stay. Equal
    ones stay without images, with frames, and where gradients do not go through the steps: these are at most eight,
    without rehearsal, and neurons fire at each.
    """

    steps: int = 100
    batch_size: int = 32
    images: int = 512
    learning_rate: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.images) < 1:
            raise ValueError("steps, batch size and images start at 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError("the learning rate must be positive and finite")

    @property
    def exact(self) -> bool:
        return True

    def runs(self, samples: int, schedule: Schedule) -> int:
        if schedule.shares or schedule.timesteps == 1 or schedule.rehearsal or schedule.total > MOST_STEPS:
            return 0
        return 3 * self.steps * min(self.batch_size, samples) * schedule.total

    def requires(self, graph: Graph) -> None:
        check_stage(graph, (Clipped, Quantized), ())

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        return graph

    def shares(self, graph: Graph, calibration: Calibration) -> tuple[float, ...]:
        samples, schedule = calibration.samples, calibration.schedule
        if samples is None or samples.over_time or schedule.shares or schedule.timesteps == 1:
            return schedule.shares
        if not has_few_steps(graph, schedule):
            return schedule.shares
        training, held_out = samples.thinned(self.images).split()
        with temporary_folder() as folder:
            store = FeedsStore(folder / "samples", chain(training.batches(), held_out.batches()))
            return self._chosen(graph, calibration, store, len(held_out))

    def _chosen(self, graph: Graph, calibration: Calibration, samples: FeedsStore, held: int) -> tuple[float, ...]:
        schedule = calibration.schedule
        training, held_out = torch.arange(len(samples)).tensor_split([len(samples) - held])
        compare = Comparison(calibration.reference, graph, features=False)
        batch = min(self.batch_size, len(training))

        def error(shares: tuple[float, ...]) -> float:
            shown = TrainableNetwork(graph, replace(schedule, shares=shares), (), through_steps=True)
            return compare.error(shown, samples, held_out if held else training, batch)

        network = TrainableNetwork(graph, schedule, (), through_steps=True, shares=True)
        best, lowest = schedule.shares, error(schedule.shares)

        def after(step: int, _: object) -> bool:
            nonlocal best, lowest
            calibration.progress(step, self.steps)
            if step % max(1, self.steps // _LOOKS) == 0 or step == self.steps:
                shares = _written(network.schedule.shares)
                found = error(shares)
                if found < lowest:
                    best, lowest = shares, found
            return True

        minimize(
            network,
            samples.__getitem__,
            partial(compare, network),
            Shuffled(training, batch, Generator().manual_seed(self.seed)),
            steps=self.steps,
            learning_rate=self.learning_rate,
            place="choose-shares",
            after=after,
        )
        return best


def _written(shares: tuple[float, ...]) -> tuple[float, ...]:
    """Return shares in whole parts of all, the first of which is at least one, that add up."""
    ends = [0, *(max(1, round(_PARTS * math.fsum(shares[: t + 1]))) for t in range(len(shares)))]
    return tuple((end - before) / _PARTS for before, end in pairwise(ends))
