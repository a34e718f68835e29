"""Correct the spiking network itself by what separates it from the trained one, layer by layer.

No labels, no gradients. Both networks see the same images; the spiking one is simulated, so that its layers receive
the trains that they really receive. After every batch, with z and a the input and the output of an activation of the
trained network, z̄ and ā the mean current (temporal biases left out) and output of the neurons in its place, and η a
rate that falls to 0:

    bias        b_c      ← b_c + η · mean(z − z̄)
    potential   v_c(0)/θ ← v_c(0)/θ + η · T · mean(a − ā)/θ,   within [0, 1]
    temporal    β_c(t)   ← β_c(t) + η · mean(a − θ·s(t)),   t = 1..T

The residual a − ā is what noise stands for in the training half of residual-noise correction (Huang et al., TNNLS
2025). Removing its mean, as defined here, is the half without training. Temporal biases are those of forward temporal
bias correction (FTBC; Wu et al., ECCV 2024).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_count, from_channels
from snnc.analysis.counterparts import check_counterparts
from snnc.calibration import Calibration
from snnc.data.samples import MemorySamples, Samples
from snnc.feeds import Feeds, rechunk
from snnc.ir import Graph, Op
from snnc.neurons import Neuron
from snnc.neurons.base import drawing
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import Affine, Clipped, Quantized, Weighted
from snnc.passes.base import Pass, check_stage, passes
from snnc.passes.biases import biased, inserted, shifted, temporal_bias, with_temporal_biases
from snnc.processes import added
from snnc.run import Program
from snnc.schedule import Schedule


@final
@passes.register("correct-spiking-residual")
@dataclass(frozen=True)
class CorrectSpikingResidual(Pass):
    """Correct biases and initial potentials by simulation, after neurons are substituted.

    ``bias`` and ``potential`` say which of them are.

    ``temporal`` adds a bias for every step, before neurons that fire while they gather (others ask for the mean alone).
    ``rounds`` over the images (at most ``images``, spread evenly over all) in batches of ``batch_size``; ``rate`` is η
    at the start. Without images nothing is corrected.
    """

    bias: bool = True
    potential: bool = True
    temporal: bool = False
    rounds: int = 4
    rate: float = 0.5
    batch_size: int = 64
    images: int = 512

    def __post_init__(self) -> None:
        if min(self.rounds, self.batch_size, self.images) < 1:
            raise ValueError("rounds, batch size and images start at 1")
        if not 0 < self.rate <= 1:
            raise ValueError("the rate must be above 0 and at most 1")

    def runs(self, samples: int, schedule: Schedule) -> int:
        return self.rounds * schedule.total * min(samples, self.images)

    def requires(self, graph: Graph) -> None:
        check_stage(graph, (Clipped, Quantized), ())

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        anything = self.bias or self.potential or self.temporal
        shown = calibration.shown
        if shown is None or not anything or not graph.ops(Neuron):
            return graph
        check_counterparts(calibration.reference, graph)
        schedule = calibration.schedule
        graph = self._prepared(graph, schedule.timesteps)
        layers = [_Layer(graph, name, schedule.timesteps, self) for name in graph.ops(Neuron)]
        program = Program(graph, schedule)
        trained, spiking, size = Program(calibration.reference).graph, program.graph, program.chunk
        samples = shown.thinned(self.images)
        # The trained network stays as it is: its means of every batch are kept from the first round on.
        goals: list[dict[str, _Means]] = []
        done, total = 0, self.rounds * len(samples)
        for _ in range(self.rounds):
            for index, batch in enumerate(rechunk(samples.batches(), self.batch_size)):
                some = MemorySamples(batch)
                if index == len(goals):
                    goals.append(_trained_means(trained, layers, some, size))
                reached = _spiking_means(_changed(spiking, layers), layers, some, size, schedule)
                rate = self.rate * (1 - done / total)
                for layer in layers:
                    layer.correct(goals[index][layer.name], reached[layer.name], rate)
                done += batch.samples
                calibration.progress(done, total)
        return _changed(graph, layers)

    def _prepared(self, graph: Graph, timesteps: int) -> Graph:
        """Return the graph with a place for everything that is added."""
        if self.bias:
            homeless = [name for name in graph.ops(Neuron) if _bias_place(graph, name) is None]
            blank = {name: from_channels(graph, name, torch.zeros(channel_count(graph, name))) for name in homeless}
            shifts = {temporal_bias(graph, name) or name: Affine(None, shift) for name, shift in blank.items()}
            graph = inserted(graph, shifts, "shift")
        return with_temporal_biases(graph, timesteps) if self.temporal else graph


@dataclass(frozen=True, eq=False)
class _Means:
    """Means over a batch, per channel: current and output of a layer ``[C]``, its output at each step ``[T, C]``."""

    current: Tensor
    output: Tensor
    steps: Tensor | None


class _Layer:
    """A layer of neurons, where its corrections go, and what they amount to so far."""

    def __init__(self, graph: Graph, name: str, timesteps: int, options: CorrectSpikingResidual) -> None:
        self.name = name
        self.axis = channel_axis(graph, name)
        self.bias = _bias_place(graph, name) if options.bias else None
        self.temporal = temporal_bias(graph, name) if options.temporal else None
        # What a temporal bias brings to the mean is its own doing, and no fault of the layers before.
        self.current = graph.nodes[temporal_bias(graph, name) or name].inputs[0]
        self._graph = graph
        self._neuron = graph.ops(Neuron)[name]
        self._timesteps = timesteps
        channels = channel_count(graph, name)
        self._shift = torch.zeros(channels, dtype=torch.float64)
        self._steps = torch.zeros(timesteps, channels, dtype=torch.float64)
        self._potential = self._neuron.potential.double() if options.potential else None
        # Neurons that round at random have v(0) = 0 where others have half a threshold.
        self._lowest = self._neuron.potential.double() - self._neuron.closed_form(timesteps).potential.double()

    def correct(self, goal: _Means, reached: _Means, rate: float) -> None:
        """Take one step from the means reached toward those of the trained network."""
        self._shift += rate * (goal.current - reached.current)
        if reached.steps is not None:
            self._steps += rate * (goal.output - reached.steps)
        if self._potential is not None:
            missing = self._shaped(goal.output - reached.output) * self._timesteps / self._neuron.threshold.double()
            moved = self._potential + rate * missing
            self._potential = torch.maximum(torch.minimum(moved, self._lowest + 1), self._lowest)

    def ops(self, graph: Graph) -> Iterator[tuple[str, Op]]:
        """Yield the operations that take the place of those in the graph."""
        if self._potential is not None:
            neuron = graph.ops(Neuron)[self.name]
            yield self.name, replace(neuron, potential=self._potential.to(neuron.threshold))
        if self.bias is not None:
            layer = graph.ops(Weighted).get(self.bias)
            if layer is not None:
                yield self.bias, shifted(layer, self._shift)
            else:
                constant, shift = graph.ops(Affine)[self.bias], self._shaped(self._shift)
                total = shift if constant.shift is None else constant.shift.double() + shift
                yield self.bias, replace(constant, shift=total.to(self._neuron.threshold))
        if self.temporal is not None:
            old = graph.ops(TemporalBias)[self.temporal].shift
            steps = torch.stack([self._shaped(step) for step in self._steps])
            yield self.temporal, TemporalBias((old.double() + steps).to(old))

    def _shaped(self, values: Tensor) -> Tensor:
        return from_channels(self._graph, self.name, values)


@dataclass
class _Sums:
    """What the means of a layer are made from: sums over values per step and channel ``[S, C]``, and their number."""

    totals: dict[str, Tensor]
    counts: dict[str, int]

    @classmethod
    def of(cls, layer: _Layer, signals: Mapping[str, Tensor]) -> Self:
        """Add up values ``[S, N, ...]``, by what they are."""
        axis = layer.axis
        flat = {
            what: (signal.movedim(axis + 1, 1) if axis else signal.unsqueeze(1)).flatten(2)
            for what, signal in signals.items()
        }
        totals = {what: values.sum(2, dtype=torch.float64) for what, values in flat.items()}
        return cls(totals, {what: values.shape[2] for what, values in flat.items()})

    def __iadd__(self, other: Self) -> Self:
        self.totals, self.counts = added(self.totals, other.totals), added(self.counts, other.counts)
        return self

    def means(self) -> _Means:
        found = {what: total / self.counts[what] for what, total in self.totals.items()}
        return _Means(found["current"][0], found["output"][0], found.get("steps"))


def _changed(graph: Graph, layers: Iterable[_Layer]) -> Graph:
    """Return the graph with all corrections in place."""
    return graph.with_ops({name: op for layer in layers for name, op in layer.ops(graph)})


def _trained_means(trained: Graph, layers: Sequence[_Layer], batch: Samples, size: int) -> dict[str, _Means]:
    inputs = {layer.name: trained.nodes[layer.name].inputs[0] for layer in layers}
    program = Program(trained, want=[*inputs, *inputs.values()])

    def sums(feeds: Feeds, first: int) -> dict[str, _Sums]:
        values = program(feeds)
        return {
            layer.name: _Sums.of(layer, {"current": values[inputs[layer.name]], "output": values[layer.name]})
            for layer in layers
        }

    return {name: total.means() for name, total in batch.added(size, sums).items()}


def _spiking_means(
    spiking: Graph, layers: Sequence[_Layer], batch: Samples, size: int, schedule: Schedule
) -> dict[str, _Means]:
    stepwise = {layer.name for layer in layers if layer.temporal is not None}
    program = Program(spiking, schedule, want=[name for layer in layers for name in (layer.name, layer.current)])

    def sums(feeds: Feeds, first: int) -> dict[str, _Sums]:
        steps: dict[str, dict[str, Tensor]] = {name: {} for name in program.want}

        def observe(name: str, response: Tensor) -> None:
            if name in stepwise:
                steps[name] = {"steps": response[schedule.rehearsal : schedule.lit]}

        # What is random comes out differently for every chunk of a batch, and alike in every batch and round.
        values = program(feeds, observe=observe, generator=drawing(0, first))
        return {
            layer.name: _Sums.of(
                layer, {"current": values[layer.current], "output": values[layer.name], **steps[layer.name]}
            )
            for layer in layers
        }

    return {name: total.means() for name, total in batch.added(size, sums).items()}


def _bias_place(graph: Graph, name: str) -> str | None:
    """Return the layer or the constant before neurons that shifts their current and nothing else."""
    (value,) = graph.nodes[temporal_bias(graph, name) or name].inputs
    if value in graph.ops(Affine) and _is_own(graph, value):
        return value
    layer, axis = biased(graph, value), channel_axis(graph, name)
    # A code has its channels where its readers sum, which may be elsewhere than where the layer before has them.
    return layer if layer is not None and axis is not None and channel_axis(graph, layer) == axis else None


def _is_own(graph: Graph, value: str) -> bool:
    """Return whether a value is read once only."""
    return len(graph.consumers[value]) == 1 and value not in graph.outputs
