"""What a pass may look at besides the graph."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from snnc.analysis.channels import channel_axis
from snnc.analysis.moments import Moments, propagate
from snnc.calibration.histogram import Histogram
from snnc.data.samples import Samples
from snnc.ir import Graph
from snnc.run import Program
from snnc.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Calibration:
    """The network to be matched (``reference``), images or None, and the time steps to work for.

    ``levels`` are those that the neurons of a layer have, or will have once they are put in, by its name.
    ``stated`` are the moments that batch normalization stated before it was folded, by node name. A pass that takes
    long tells ``progress`` how much is done, out of how much.
    """

    reference: Graph
    samples: Samples | None
    schedule: Schedule
    levels: Mapping[str, int]
    stated: Mapping[str, Moments]
    progress: Callable[[int, int], None] = lambda done, total: None

    def without_samples(self) -> "Calibration":
        """Return the calibration of a user who has no images."""
        return replace(self, samples=None)

    def histograms(self, graph: Graph, names: Iterable[str]) -> dict[str, Histogram]:
        """Return the histogram of each named value per channel (one channel where it has no channel axis).

        Counted on the images; without images, the Gaussians that batch normalization states.
        """
        names = tuple(dict.fromkeys(names))
        if self.samples is None:
            moments = propagate(graph, self.stated)
            return {name: Histogram.gaussian(moments[name].mean, moments[name].variance.sqrt()) for name in names}
        axes = {name: channel_axis(graph, name) for name in names}
        found: dict[str, Histogram] = {}
        for signals in Program(graph, want=names).stream(self.samples.batches()):
            for name in names:
                axis = axes[name]
                values = signals[name][0]
                counted = Histogram.of(values if axis else values.flatten(1).unsqueeze(1), axis or 1)
                found[name] = found[name] + counted if name in found else counted
        return found
