"""What a pass may look at besides the graph."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from snnc.analysis.channels import channel_axis, channel_count
from snnc.analysis.moments import Moments, propagate, spread_over
from snnc.calibration.histogram import Histogram
from snnc.data.samples import Samples
from snnc.errors import PreconditionError
from snnc.ir import Graph
from snnc.run import Program
from snnc.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Calibration:
    """The network to be matched (``reference``), samples or None, and the time steps to work for.

    ``levels`` are those that the neurons of a layer have, or will have once they are put in, by its name.
    ``stated`` are the moments that batch normalization stated before it was folded, by node name. A pass that takes
    long tells ``progress`` how much is done, out of how much. ``stand_in`` are synthetic samples where there are no
    others and no moments: thresholds and biases can be worked out on them, weights cannot, because what is solved for
    on them fits how they were made.
    """

    reference: Graph
    samples: Samples | None
    schedule: Schedule
    levels: Mapping[str, int]
    stated: Mapping[str, Moments]
    progress: Callable[[int, int], None] = lambda done, total: None
    stand_in: Samples | None = None

    @property
    def shown(self) -> Samples | None:
        """What thresholds and biases are worked out on: samples, or else what stands in for them."""
        return self.stand_in if self.samples is None else self.samples

    def without_samples(self) -> "Calibration":
        """Return the calibration of a user who has no samples, and nothing that stands in for them."""
        return replace(self, samples=None, stand_in=None)

    def histograms(self, graph: Graph, names: Iterable[str]) -> dict[str, Histogram]:
        """Return the histogram of what comes into each named activation, per channel (one where no axis counts them).

        Counted on the samples, or on what stands in for them; without either, the Gaussians that batch normalization
        states. Raises PreconditionError where it states nothing.
        """
        before = {name: graph.nodes[name].inputs[0] for name in names}
        if self.shown is None:
            if before and not self.stated:
                hint = "give samples, or leave source at images: what stands in for them is worked on"
                raise PreconditionError("no batch normalization states what values are like", hint=hint)
            moments = propagate(graph, self.stated)
            spread = {n: _carried(graph, moments[value], value, n) for n, value in before.items()}
            return {n: Histogram.gaussian(known.mean, known.variance.sqrt()) for n, known in spread.items()}
        axes = {name: channel_axis(graph, name) for name in before}
        found: dict[str, Histogram] = {}
        for signals in Program(graph, want=before.values()).stream(self.shown.batches()):
            for name, value in before.items():
                axis = axes[name]
                values = signals[value][0]
                counted = Histogram.of(values if axis else values.flatten(1).unsqueeze(1), axis or 1)
                found[name] = found[name] + counted if name in found else counted
        return found


def _carried(graph: Graph, known: Moments, value: str, name: str) -> Moments:
    """Return the moments of a value for the channels of the activation ``name``, which may lie along another axis."""
    pooled = known if channel_axis(graph, value) == channel_axis(graph, name) else spread_over(known, 1)
    return spread_over(pooled, channel_count(graph, name))
