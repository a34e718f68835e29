"""What a pass may look at besides the graph."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from snnc.analysis.channels import channel_axis, channel_count
from snnc.analysis.moments import Moments, propagate, spread_over
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
        """Return the histogram of what comes into each named activation, per channel (one where no axis counts them).

        Counted on the images; without images, the Gaussians that batch normalization states.
        """
        before = {name: graph.nodes[name].inputs[0] for name in names}
        if self.samples is None:
            moments = propagate(graph, self.stated)
            spread = {n: spread_over(moments[value], channel_count(graph, n)) for n, value in before.items()}
            return {n: Histogram.gaussian(known.mean, known.variance.sqrt()) for n, known in spread.items()}
        axes = {name: channel_axis(graph, name) for name in before}
        found: dict[str, Histogram] = {}
        for signals in Program(graph, want=before.values()).stream(self.samples.batches()):
            for name, value in before.items():
                axis = axes[name]
                values = signals[value][0]
                counted = Histogram.of(values if axis else values.flatten(1).unsqueeze(1), axis or 1)
                found[name] = found[name] + counted if name in found else counted
        return found
