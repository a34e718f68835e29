"""Choose how many levels an event of each time step stands for, where neurons refine their first guess.

No labels, and no gradients: units are whole. From those that neurons have, the units of the first k steps are doubled
and halved, for every k, with neurons that count from nothing or from what their first event can take back; what brings
the outputs closest to the trained network's is taken, until nothing brings them closer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import torch

from snnc.calibration import Calibration
from snnc.data.store import FeedsStore
from snnc.errors import PreconditionError, UsageError
from snnc.files import temporary_folder
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.neurons.choice import chosen, with_options
from snnc.neurons.refine import Refine
from snnc.ops import Clipped
from snnc.passes.base import Pass, check_stage, passes
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.schedule import Schedule
from snnc.training.comparison import Comparison
from snnc.training.network import TrainableNetwork

_NAME = "choose-units"
# How many samples are simulated at once.
_BATCH = 64

# The unit of every step, and whether neurons count from what their first event takes back.
Tried = tuple[tuple[int, ...], bool]


@final
@passes.register(_NAME)
@dataclass(frozen=True)
class ChooseUnits(Pass):
    """Choose the units of refining neurons, the same in all layers, and the count that these start from.

    Right before ``substitute-neurons``, whose options they become, on at most ``images``, spread evenly; of recordings,
    on each frame held still. Units are those stated, doubled or halved and rounded down. What is stated stays where
    nothing is better, without images, and where there is one step.
    """

    images: int = 256

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("images start at 1")

    @property
    def exact(self) -> bool:
        return True

    def runs(self, samples: int, schedule: Schedule) -> int:
        # Two or three times around.
        return 3 * 4 * (schedule.total - 1) * min(self.images, samples) * schedule.total

    def requires(self, graph: Graph) -> None:
        check_stage(graph, Clipped, Neuron)

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        return graph

    def settled(self, graph: Graph, calibration: Calibration, following: tuple[Pass, ...]) -> tuple[Pass, ...]:
        step = next(iter(following), None)
        if not isinstance(step, SubstituteNeurons):
            hint = "put choose-units right before substitute-neurons"
            raise PreconditionError("the pass that puts neurons in does not come next", place=_NAME, hint=hint)
        if chosen(step.neuron).kind is not Refine:
            hint = "take --neuron refine, or leave out choose-units"
            raise PreconditionError(f"{step.neuron} neurons have no units", place=_NAME, hint=hint)
        return (self._chosen(graph, calibration, step), *following[1:])

    def _chosen(self, graph: Graph, calibration: Calibration, step: SubstituteNeurons) -> SubstituteNeurons:
        samples, schedule = calibration.samples, calibration.schedule
        if samples is None or schedule.total == 1:
            return step
        compare = Comparison(calibration.reference, graph, features=False)
        with temporary_folder() as folder:
            store = FeedsStore(folder / "samples", samples.thinned(self.images).batches())
            everything = torch.arange(len(store))

            def error(step: SubstituteNeurons) -> float:
                network = TrainableNetwork(step(graph, calibration), schedule, ())
                return compare.error(network, store, everything, _BATCH)

            best, lowest, known = step, error(step), set[Tried]()
            while True:
                tried = [each for each in dict.fromkeys(_neighbors(best, schedule.total)) if each not in known]
                known.update(tried)
                before = best
                for number, (units, charged) in enumerate(tried):
                    calibration.progress(number, len(tried))
                    other = _with_units(step, units, charged)
                    if other is not None and (found := error(other)) < lowest:
                        best, lowest = other, found
                if best is before:
                    return best


def _neighbors(step: SubstituteNeurons, steps: int) -> Iterator[Tried]:
    """Return what to try next; units end with 1."""
    stated: tuple[int, ...] = chosen(step.neuron).options["units"]
    units = (*stated, *(1 for _ in range(steps)))[: steps - 1]
    for first in range(steps):
        begun, rest = units[:first], (*units[first:], 1)
        for tried in ((*(2 * unit for unit in begun), *rest), (*(max(1, unit // 2) for unit in begun), *rest)):
            for charged in (True, False):
                yield tried, charged


def _with_units(step: SubstituteNeurons, units: tuple[int, ...], charged: bool) -> SubstituteNeurons | None:
    """Return the pass with refining neurons of these units, None where some cannot have them."""

    def other(neuron: str) -> str:
        choice = chosen(neuron)
        if choice.kind is not Refine:
            return neuron
        back = min(choice.options["top"], choice.options["event"] * units[0])
        return with_options(neuron, {"units": units, "rest": back if charged else 0}, place=_NAME)

    try:
        layers = {name: other(neuron) for name, neuron in step.layers.items()}
        return replace(step, neuron=other(step.neuron), layers=layers)
    except UsageError:
        return None
