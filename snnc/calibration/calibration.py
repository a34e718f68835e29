"""What a pass may look at besides the graph."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from snnc.calibration.channels import channel_axis
from snnc.calibration.gaussian import Moments, propagate
from snnc.calibration.histogram import Histogram
from snnc.ir import Graph
from snnc.run import stream


class Samples(Protocol):
    """Images that can be read again and again, always in the same order."""

    def __len__(self) -> int: ...

    def batches(self) -> Iterator[Tensor]:
        """Yield float images ``[N, ...]``, preprocessed."""
        ...


@dataclass(frozen=True, eq=False)
class Calibration:
    """The network to be matched (``reference``), images or None, and the number of time steps to work for.

    ``stated`` are the moments that batch normalization stated before it was folded, by node name.
    """

    reference: Graph
    samples: Samples | None
    timesteps: int
    stated: Mapping[str, Moments]

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
        for signals in stream(graph, self.samples.batches(), names):
            for name in names:
                axis = axes[name]
                values = signals[name][0]
                counted = Histogram.of(values if axis else values.flatten(1).unsqueeze(1), axis or 1)
                found[name] = found[name] + counted if name in found else counted
        return found
