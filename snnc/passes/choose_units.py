"""Choose how many levels an event of each time step stands for, where neurons refine their first guess.

No labels, and no gradients: units are whole. From those that neurons have, the units of the first k steps are doubled
and halved, for every k, with neurons that start at nothing or at what their first event can take back; what brings the
outputs closest to the trained network's is taken, until nothing brings them closer.
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

# The unit of every step, and whether neurons start at what their first event takes back.
Units = tuple[tuple[int, ...], bool]


@final
@passes.register(_NAME)
@dataclass(frozen=True)
class ChooseUnits(Pass):
    """Choose the units of refining neurons, the same in all layers, and whether these start at rest.

    Right before ``substitute-neurons``, whose options they become, on at most ``images``, spread evenly. Units are
    those stated times or over powers of two: receivers shift their weights. What is stated stays where nothing is
    better, without images, and where there is one step.
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
        return tuple(
            self._chosen(graph, calibration, step) if isinstance(step, SubstituteNeurons) else step
            for step in following
        )

    def _chosen(self, graph: Graph, calibration: Calibration, step: SubstituteNeurons) -> SubstituteNeurons:
        samples, schedule = calibration.samples, calibration.schedule
        if chosen(step.neuron).kind is not Refine:
            hint = "take --neuron refine, or leave out choose-units"
            raise PreconditionError(f"{step.neuron} neurons have no units", place=_NAME, hint=hint)
        if samples is None or schedule.total == 1:
            return step
        with temporary_folder() as folder:
            store = FeedsStore(folder / "samples", samples.thinned(self.images).batches())
            everything = torch.arange(len(store))

            def error(tried: SubstituteNeurons) -> float:
                snn = tried(graph, calibration)
                compare = Comparison(calibration.reference, snn, features=False)
                return compare.error(TrainableNetwork(snn, schedule, ()), store, everything, _BATCH)

            best, lowest, known = step, error(step), set[Units]()
            while True:
                tried = [units for units in _neighbors(best, schedule.total) if units not in known]
                known.update(tried)
                before = best
                for number, units in enumerate(tried):
                    calibration.progress(number, len(tried))
                    other = _with_units(step, *units)
                    if other is not None and (found := error(other)) < lowest:
                        best, lowest = other, found
                if best is before:
                    return best


def _neighbors(step: SubstituteNeurons, steps: int) -> Iterator[Units]:
    """Return the units to try next."""
    stated: tuple[int, ...] = chosen(step.neuron).options["units"]
    units = (*stated, *(1 for _ in range(steps)))[:steps]
    for first in range(steps):
        begun, rest = units[:first], units[first:]
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
