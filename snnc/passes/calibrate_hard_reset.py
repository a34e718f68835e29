"""Choose what neurons with hard reset fire at, and what their spikes stand for.

A hard reset loses what is above the threshold: a spike stands for more than it, and thresholds that are best for a soft
reset are too high. In topological order, each layer being fed by the layers before as they are by then, every channel
takes the firing threshold f = φ·θ and the value θ of a spike that minimize

    E[(θ·n(f)/T − a)²],   n(f) the spikes within T steps at the firing threshold f, a the trained activation

over the images: of the f on a grid of shares of the threshold that was there, each with its best value
θ = E[a·n/T] / E[(n/T)²]. As defined here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_rows, per_channel
from snnc.analysis.counterparts import check_counterparts
from snnc.calibration import Calibration
from snnc.feeds import Feeds, rechunk
from snnc.ir import Graph
from snnc.neurons.base import mean_signal
from snnc.neurons.integrate_and_fire_to_zero import IntegrateAndFireToZero
from snnc.ops import Clipped, Quantized
from snnc.passes.base import Pass, check_stage, passes
from snnc.processes import Sum
from snnc.run import Program
from snnc.schedule import Schedule

# Shares of the threshold that was there: six an octave, from a quarter to twice as much.
_SHARES = 2.0 ** (torch.arange(-12, 7, dtype=torch.float64) / 6)


@final
@passes.register("calibrate-hard-reset")
@dataclass(frozen=True)
class CalibrateHardReset(Pass):
    """Give every channel of ``if-zero`` neurons the firing threshold, and its spikes the value, that suit its trains.

    At most ``images``, spread evenly over all, are looked at. Without images nothing is changed.
    """

    images: int = 256

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("images start at 1")

    def runs(self, samples: int, schedule: Schedule) -> int:
        return len(_SHARES) * schedule.total * min(samples, self.images)

    def requires(self, graph: Graph) -> None:
        check_stage(graph, (Clipped, Quantized), ())

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        layers = list(graph.ops(IntegrateAndFireToZero))
        shown = calibration.shown
        if shown is None or not layers:
            return graph
        trained = calibration.reference
        check_counterparts(trained, graph, IntegrateAndFireToZero)
        samples = shown.thinned(self.images)
        division = samples.divided(Program(graph, calibration.schedule).chunk)
        chunks = list(rechunk(samples.own(division).batches(), division.size))
        for done, name in enumerate(layers):
            calibration.progress(done, len(layers))
            graph = graph.with_ops(
                {name: _calibrated(graph, trained, name, chunks, division.sum(), calibration.schedule)}
            )
        return graph


@torch.no_grad()
def _calibrated(
    graph: Graph,
    trained: Graph,
    name: str,
    chunks: Iterable[Feeds],
    sums: Sum[dict[str, Tensor]],
    schedule: Schedule,
) -> IntegrateAndFireToZero:
    neuron = graph.ops(IntegrateAndFireToZero)[name]
    shape, axis = graph.shapes[name], channel_axis(graph, name)
    (current,) = graph.nodes[name].inputs
    spiking, goals = Program(graph, schedule, want=[current], trains=True), Program(trained, want=[name])
    channels = shape[axis - 1] if axis else 1
    for feeds in chunks:
        # For every share, as sums: E[a·n/T] and E[(n/T)²].
        cross, square = (torch.zeros(len(_SHARES), channels, dtype=torch.float64) for _ in range(2))
        train = spiking(feeds)[current]
        goal = channel_rows(goals(feeds)[name][0], axis).double()
        for index, share in enumerate(_SHARES.tolist()):
            tried = replace(neuron, threshold=share * neuron.threshold)
            response = mean_signal(tried.respond(train, schedule), schedule)[0]
            rate = channel_rows(response / tried.threshold, axis).double()
            cross[index] = (goal * rate).sum(1)
            square[index] = rate.square().sum(1)
        sums.add({"cross": cross, "square": square})
    found = sums.total()
    cross, square = found["cross"], found["square"]
    old = channel_rows(neuron.threshold.double().expand(1, *shape), axis).mean(1)
    # The error up to the constant E[a²]; of equals the one nearest to what was there.
    values = cross / square.clamp(min=1e-30)
    order = _SHARES.log2().abs().argsort()
    best = order[(values.square() * square - 2 * values * cross)[order].argmin(0)].unsqueeze(0)
    value, share = values.gather(0, best)[0], _SHARES[best[0]]
    # Who never fires, or never ought to, stays as it is.
    useful = value > 0
    share, value = torch.where(useful, share, 1.0), torch.where(useful, value, old)
    threshold, firing = (
        (per_channel(v, shape, axis) if axis else v).to(neuron.threshold) for v in (value, share * old / value)
    )
    return replace(neuron, threshold=threshold, firing=neuron.firing * firing)
