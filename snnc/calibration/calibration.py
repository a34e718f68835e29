"""What a pass may look at besides the graph."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from snnc.analysis.channels import channel_axis, channel_count
from snnc.analysis.moments import Moments, propagate, spread_over
from snnc.calibration.histogram import Histogram
from snnc.data.samples import Samples
from snnc.errors import PreconditionError
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.process import memory
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.threads import Threads

# Histograms that would take more than this share of the memory are kept on disk.
_SHARE = 16


@dataclass(frozen=True, eq=False)
class Calibration:
    """The network to be matched (``reference``), samples or None, and the time steps to work for.

    ``levels`` are those that the neurons of a layer have, or will have once they are put in, by its name.
    ``stated`` are the moments that batch normalization stated before it was folded, by node name. A pass that takes
    long tells ``progress`` how much is done, out of how much. ``stand_in`` are synthetic samples where there are no
    others and no moments: thresholds and biases can be worked out on them, weights cannot, because what is solved for
    on them fits how they were made. ``begun`` is what the same pass had reached where it was stopped, as it had told
    ``keep``: tensors, numbers, graphs, and containers of these.
    """

    reference: Graph
    samples: Samples | None
    schedule: Schedule
    levels: Mapping[str, int]
    stated: Mapping[str, Moments]
    progress: Callable[[int, int], None] = lambda done, total: None
    stand_in: Samples | None = None
    begun: Mapping[str, Any] | None = None
    keep: Callable[[Callable[[], Mapping[str, Any]]], None] = lambda state: None

    @property
    def shown(self) -> Samples | None:
        """What thresholds and biases are worked out on: samples, or else what stands in for them."""
        return self.stand_in if self.samples is None else self.samples

    def without_samples(self) -> "Calibration":
        """Return the calibration of a user who has no samples, and nothing that stands in for them."""
        return replace(self, samples=None, stand_in=None)

    def histograms(self, graph: Graph, names: Iterable[str], *, weighed: bool = False) -> dict[str, Histogram]:
        """Return the histogram of what comes into each named activation, per channel (one where no axis counts them).

        Counted on the samples, or on what stands in for them; without either, the Gaussians that batch normalization
        states. ``weighed`` counts each value of samples as often as the outputs move with what the activation makes of
        it (see ``sensitivities``). Raises PreconditionError where there are no samples and nothing is stated.
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
        channels = {name: graph.shapes[before[name]][axis - 1] if axis else 1 for name, axis in axes.items()}
        program = Program(graph, want=before.values())

        def count(feeds: Feeds, totals: Mapping[str, Histogram]) -> None:
            signals = program(feeds)
            weights = sensitivities(graph, feeds, before) if weighed else {}
            for name, value in before.items():
                axis, parts = axes[name], [signals[value][0], weights.get(name)]
                values, often = (p if axis or p is None else p.flatten(1).unsqueeze(1) for p in parts)
                assert values is not None
                totals[name].count(values, axis or 1, often)

        if not weighed:
            on_disk = Histogram.size(sum(channels.values())) > memory() // _SHARE
            most = {name: len(self.shown) * math.prod(graph.shapes[before[name]]) // n for name, n in channels.items()}
            totals = {n: Histogram.empty(count, most=most[n], on_disk=on_disk) for n, count in channels.items()}
            self.shown.counted(program.chunk, count, totals)
            return totals

        def counted(feeds: Feeds, first: int) -> dict[str, Histogram]:
            found = {name: Histogram.empty(count, weighed=True) for name, count in channels.items()}
            count(feeds, found)
            return found

        return self.shown.added(program.chunk, counted)


def sensitivities(graph: Graph, feeds: Feeds, names: Iterable[str]) -> dict[str, Tensor]:
    """Return how much the outputs move with every value of some nodes, ``[N, ...]``: squared slopes.

    Of a sum of all outputs with random signs, each output relative to its size; the mean of squares over signs is the
    square of the Jacobian's columns (Hutchinson, 1990). What no output moves with counts a millionth of the others.
    """
    values: dict[str, Tensor] = {}
    # Torch sums gradients up by threads: it has one, whatever the machine.
    with torch.enable_grad(), Threads():
        for name, node in graph.nodes.items():
            made = feeds[name] if name in feeds else node.op(*(values[value] for value in node.inputs))
            values[name] = made if made.requires_grad else made.detach().requires_grad_(made.is_floating_point())
        generator = Generator().manual_seed(0)
        terms = []
        for output in (values[name] for name in graph.outputs):
            signs = torch.randint(2, output.shape, generator=generator) * 2.0 - 1
            terms.append((output * signs.to(output)).sum() / output.detach().norm().clamp(min=1e-12))
        chosen = {name: values[name] for name in names}
        slopes = torch.autograd.grad(torch.stack(terms).sum(), [*chosen.values()], materialize_grads=True)
    squares = {name: slope.square() for name, slope in zip(chosen, slopes, strict=True)}
    return {name: square + 1e-6 * square.mean().clamp(min=1e-30) for name, square in squares.items()}


def _carried(graph: Graph, known: Moments, value: str, name: str) -> Moments:
    """Return the moments of a value for the channels of the activation ``name``, which may lie along another axis."""
    pooled = known if channel_axis(graph, value) == channel_axis(graph, name) else spread_over(known, 1)
    return spread_over(pooled, channel_count(graph, name))
