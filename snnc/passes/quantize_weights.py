"""Make weights, biases and thresholds whole numbers of a few bits, in one unit per channel.

What a chip holds is what a synapse adds, w·v with v the value of a spike, counted in the unit s of its membrane
(``snnc.analysis.integers``). With θ the threshold of a channel, n a whole number and [·] rounding to the nearest one:

    s = θ/n;   w ← s·[w·v/s]/v;   b ← s·[(b − mean(z_q − z))/s];   v(0) ← s·[v(0)/s]

so that the threshold is n units as it stands. Units stay in the graph (``Weighted.unit``, ``Neuron.unit``), and what
enters is rounded to whole numbers of a power of two, so that sums of whole numbers arrive everywhere: no engine rounds
another way. n is as large as all widths allow or, where it leaves less error, larger: then the few largest weights are
clipped (Banner et al., NeurIPS 2019). Weights are rounded one after the other, and those that follow make up for what
that changes on the images (GPTQ, Frantar et al., ICLR 2023); the bias takes up what is left in the mean current z
(Nagel et al., ICCV 2019). What spikes add that skip a layer cannot be rounded: there s is made to divide it, and the
threshold moves to the nearest multiple of s, one at least.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from snnc.analysis.channels import channel_axis, channel_rows, from_channels
from snnc.analysis.integers import (
    MAXIMUM_BITS,
    channel_constants,
    channel_thresholds,
    in_events,
    input_fraction,
    moved_inputs,
    saturating,
    synapses,
    with_constants,
    with_synapses,
)
from snnc.analysis.patches import patches
from snnc.analysis.units import Membrane, input_values, membranes, spike_values
from snnc.calibration import Calibration
from snnc.feeds import Feeds
from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.neurons.base import MAXIMUM_MEMBRANE_BITS
from snnc.ops import Clipped, Quantized, Weighted
from snnc.passes.base import Pass, check_layers, check_stage, passes
from snnc.passes.biases import shifted
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.threads import Threads

# The bits of a number that enters, the most that may be asked for, and how large it may be where no sample tells.
_INPUT_BITS, _WIDEST_INPUT, _UNKNOWN = 10, 16, 8.0

# Rows of each image that are looked at, weights of a channel of which every two are, and how much of the mean square is
# added to that of each, where there are fewer rows than weights.
_ROWS, _MOST_WEIGHTS, _DAMPING = 32, 2048, 0.01

# Shares of the largest weight that are tried as the largest one that is kept.
_SHARES = torch.linspace(1, 0.4, 25, dtype=torch.float64)


@final
@passes.register("quantize-weights")
@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Round weights to ``bits``, biases and thresholds to ``bias_bits`` and ``threshold_bits``, the sign included.

    ``layers`` (layer: bits) has other widths for some of them: by their neurons, or their weights where there are
    none. Last in a recipe: what trains or corrects would make real numbers of them again. Spikes that skip a layer
    add much more than any weight, and too few ``skip_bits`` would leave the weights beside them coarse: where not
    given, as many as ``bits``, and 8 at least. Membranes saturate at ``membrane_bits`` or, where these are not given,
    hold all that comes. ``input_bits`` are those of numbers that enter: where not given, 10, or fewer to leave room
    for the weights in such membranes. ``bias`` corrects biases by what rounding does to the mean currents, and
    ``correct`` the weights that are yet to be rounded, on at most ``images``, spread evenly over all; without images
    both are left out.
    """

    bits: int = 8
    layers: Mapping[str, int] = field(default_factory=dict)
    threshold_bits: int = 16
    bias_bits: int = 16
    skip_bits: int | None = None
    input_bits: int | None = None
    membrane_bits: int | None = None
    bias: bool = True
    correct: bool = True
    images: int = 512

    def __post_init__(self) -> None:
        widest = max([self.bits, *self.layers.values()])
        if not all(2 <= bits <= MAXIMUM_BITS for bits in (self.bits, *self.layers.values())):
            raise ValueError(f"weights have from 2 to {MAXIMUM_BITS} bits")
        wider = [wide for wide in (self.threshold_bits, self.bias_bits, self.skip_bits) if wide is not None]
        if not all(widest <= wide <= 24 for wide in wider):
            raise ValueError("thresholds, biases and skips have at least as many bits as weights, and at most 24")
        if not 2 <= self._input_bits <= _WIDEST_INPUT:
            raise ValueError(f"inputs have from 2 to {_WIDEST_INPUT} bits")
        if self.membrane_bits is not None and not 2 <= self.membrane_bits <= MAXIMUM_MEMBRANE_BITS:
            raise ValueError(f"membranes have from 2 to {MAXIMUM_MEMBRANE_BITS} bits")
        if self.images < 1:
            raise ValueError("images start at 1")

    @property
    def _input_bits(self) -> int:
        if self.input_bits is not None:
            return self.input_bits
        room = _INPUT_BITS if self.membrane_bits is None else max(2, self.membrane_bits - self.bits + 2)
        return min(_INPUT_BITS, room)

    @property
    def _skip_bits(self) -> int:
        return self.skip_bits or max(self.bits, 8)

    def runs(self, samples: int, schedule: Schedule) -> int:
        return 2 * schedule.total * min(samples, self.images)

    def requires(self, graph: Graph) -> None:
        check_stage(graph, (Clipped, Quantized), ())
        check_layers("quantize-weights.layers", self.layers, [membrane.name for membrane in membranes(graph)])

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        if not graph.ops(Neuron):
            return graph
        inputs, squares = self._seen(graph, calibration)
        graph = graph.with_ops(self._entries(graph, calibration))
        for index in range(len(membranes(graph))):
            # A threshold that was moved changes what its spikes are worth further on.
            values = spike_values(graph)
            membrane = membranes(graph, values)[index]
            with Threads():
                graph = graph.with_ops(self._rounded(graph, membrane, values, inputs if self.bias else {}, squares))
        return saturating(graph, self.membrane_bits)

    def _seen(self, graph: Graph, calibration: Calibration) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Return what weighted layers take in: the mean over images and steps, shaped like one sample, by its node.

        And, by layer, the products of what every two weights of a channel see, ``[groups, K, K]``, where they are few.
        """
        shown = calibration.shown
        if shown is None or not (self.bias or self.correct):
            return {}, {}
        layers = graph.ops(Weighted) if self.correct else {}
        squares = [name for name, op in layers.items() if op.kernel()[0, 0].numel() <= _MOST_WEIGHTS]
        taken = {graph.nodes[name].inputs[0] for name in graph.ops(Weighted)}
        samples = shown.thinned(self.images)
        program = Program(graph, calibration.schedule, want=taken)

        def summed(feeds: Feeds, first: int) -> dict[tuple[str, bool], Tensor]:
            calibration.progress(first + feeds.samples, len(samples))
            signals, generator = program(feeds), np.random.default_rng(first)
            found = {(name, False): signal[0].sum(0, dtype=torch.float64) for name, signal in signals.items()}
            for name in squares:
                x, op = signals[graph.nodes[name].inputs[0]][0], layers[name]
                count = len(x) * math.prod(graph.shapes[name]) // op.kernel().shape[:2].numel()
                some = torch.from_numpy(generator.integers(0, count, min(count, _ROWS * len(x))))
                rows = patches(op, x, some).double()
                with Threads() as threads:
                    found[name, True] = threads.gram(rows.transpose(1, 2))
            return found

        totals = samples.added(program.chunk, summed) if taken else {}
        means = {name: total / len(samples) for (name, square), total in totals.items() if not square}
        return means, {name: total for (name, square), total in totals.items() if square}

    def _entries(self, graph: Graph, calibration: Calibration) -> dict[str, Op]:
        """Return the inputs that weights multiply as real numbers, rounded; the unit holds what they may be."""
        moved = moved_inputs(graph)
        read = {moved.get(graph.nodes[name].inputs[0]) for name in graph.ops(Weighted)}
        found = {n: op for n, op in graph.ops(Input).items() if n in read and op.numbers == "real"}
        shown, largest, bits = calibration.shown, dict.fromkeys(found, _UNKNOWN), self._input_bits
        if shown is None:
            bits = min(bits + 2, _WIDEST_INPUT)
        else:
            samples = shown.thinned(self.images)
            seen = samples.added(len(samples), lambda feeds, _: {n: [float(feeds[n].abs().max())] for n in found})
            largest = {name: max(seen[name]) for name in found}
        most = _largest(bits)
        # What whole numbers are stays what they are.
        units = {n: 2.0 ** min(0, math.ceil(math.log2(max(size, 1e-30) / most))) for n, size in largest.items()}
        return {name: replace(op, unit=units[name], most=most) for name, op in found.items()}

    def _rounded(
        self,
        graph: Graph,
        membrane: Membrane,
        values: Mapping[str, Tensor | None],
        inputs: Mapping[str, Tensor],
        squares: Mapping[str, Tensor],
    ) -> dict[str, Op]:
        """Return the operations of one membrane in whole numbers."""
        threshold = channel_thresholds(graph, membrane.neuron) if membrane.neuron else None
        weighted = graph.ops(Weighted)
        layers = {name: weighted[name] for name in membrane.layers}
        worth = {name: input_values(graph, name, values) for name in layers}
        added = {name: synapses(op, worth[name]) for name, op in layers.items()}
        rows = {name: channel_constants(graph, name) for name in membrane.constants}
        constants = {name: row for name, row in rows.items() if row is not None}
        skips = [value / membrane.parts[name] for name, value in membrane.skips.items()]
        if not added and not skips:
            return {}
        biases = {name: op.bias.double().abs() for name, op in layers.items() if op.bias is not None}
        biases |= {name: row.abs().amax(0) for name, row in constants.items()}
        bounds = [bias / membrane.parts[name] / _largest(self.bias_bits) for name, bias in biases.items()]
        bounds += [value / _largest(self._skip_bits) for value in skips]
        fraction = input_fraction(graph, layers, values) if membrane.whole else None
        if threshold is not None:
            most = _largest(self.threshold_bits)
            if self.membrane_bits is not None:
                # Beside what fires at once there is room for a threshold more.
                events = graph.ops(Neuron)[membrane.neuron].largest_event + 1
                most = min(most, max(1, int(_largest(self.membrane_bits) * (fraction or 1.0) / events)))
            bounds.append(threshold / most)
        bits = self.layers.get(membrane.name, self.bits)
        unit = _unit([part / membrane.parts[name] for name, part in added.items()], bounds, threshold, bits)
        changed: dict[str, Op] = {}
        if threshold is not None:
            for value in skips[:1]:
                # What arrives as it is cannot be rounded: the unit is made to divide it.
                steps = (value / unit).round().clamp(1, _largest(self._skip_bits))
                unit = torch.where(value > 0, value / steps, unit)
            counts = (threshold / unit).round().clamp(min=1)
            changed[membrane.neuron] = _fired(graph, membrane.neuron, counts, unit, fraction, moved=bool(skips))
        for name, op in layers.items():
            own, square = membrane.own(name, unit), squares.get(name)
            units = own.unsqueeze(1)
            if square is None:
                rounded = _nearest(added[name], units, bits)
            else:
                rounded = _made_up(added[name], units, in_events(op, square, worth[name]), bits)
            layer = with_synapses(op, rounded, worth[name])
            if graph.nodes[name].inputs[0] in inputs:
                drift = _mean_change(graph, name, op, layer, inputs[graph.nodes[name].inputs[0]])
                layer = shifted(layer, -drift)
            if layer.bias is not None:
                bias = _nearest(layer.bias.double(), own, self.bias_bits)
                layer = replace(layer, bias=bias.to(layer.weight.dtype))
            changed[name] = replace(layer, unit=own.to(layer.weight))
        for name, row in constants.items():
            rounded = _nearest(row, membrane.own(name, unit), self.bias_bits)
            changed[name] = with_constants(graph, name, rounded)
        return changed


def _unit(added: list[Tensor], bounds: list[Tensor], threshold: Tensor | None, bits: int) -> Tensor:
    """Return the unit per channel, ``[C]``: the smallest, but for clipped weights, in which everything fits.

    It is not below any of the ``bounds``.
    """
    together = torch.cat(added, 1) if added else torch.zeros(len(bounds[0]), 1, dtype=torch.float64)
    channels = len(together)
    bounds = [torch.full((channels,), torch.finfo(torch.float32).tiny, dtype=torch.float64), *bounds]
    if threshold is None:
        # One unit for all channels, because nothing but their sums is ever compared.
        together = together.reshape(1, -1)
        bounds = [bound.max().unsqueeze(0) for bound in bounds]
    least = torch.stack(bounds).amax(0)
    best, lowest = least, torch.full_like(least, torch.inf)
    for share in _SHARES:
        unit = torch.maximum(together.abs().amax(1) * share / _largest(bits), least)
        if threshold is not None:
            unit = threshold / (threshold / unit).floor().clamp(min=1)
        error = (_nearest(together, unit.unsqueeze(1), bits) - together).square().sum(1)
        best, lowest = torch.where(error < lowest, unit, best), torch.minimum(error, lowest)
    return best.expand(channels)


def _made_up(added: Tensor, unit: Tensor, squares: Tensor, bits: int) -> Tensor:
    """Return weights rounded one by one, each error made up for by those that follow, the least seen last."""
    done = []
    for rows, units, square in zip(added.chunk(len(squares)), unit.chunk(len(squares)), squares, strict=True):
        order = square.diagonal().argsort(descending=True)
        damped = square[order][:, order] + _DAMPING * square.diagonal().mean().clamp(min=1e-12) * torch.eye(len(order))
        factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
        left, rounded = rows[:, order].clone(), torch.empty_like(rows)
        for at, weight in enumerate(order.tolist()):
            rounded[:, weight] = _nearest(left[:, at : at + 1], units, bits).squeeze(1)
            error = (left[:, at] - rounded[:, weight]) / factor[at, at]
            left[:, at + 1 :] -= error.unsqueeze(1) * factor[at, at + 1 :]
        done.append(rounded)
    return torch.cat(done)


def _nearest(values: Tensor, unit: Tensor, bits: int) -> Tensor:
    most = _largest(bits)
    return (values / unit).round().clamp(-most, most) * unit


def _largest(bits: int) -> int:
    return (1 << bits - 1) - 1


def _fired(graph: Graph, name: str, counts: Tensor, unit: Tensor, fraction: float | None, *, moved: bool) -> Neuron:
    """Return the neurons with thresholds of ``counts`` units, that start at a whole number of units.

    What arrives is whole numbers of a ``fraction`` of the unit, of which half a one is put on top; None: it is not.
    """
    neuron, shaped = graph.ops(Neuron)[name], from_channels(graph, name, counts)
    potential = ((neuron.potential * shaped).round() + (fraction or 0) / 2) / shaped
    # What need not move stays as it is, to the last bit.
    threshold = from_channels(graph, name, counts * unit).to(neuron.threshold.dtype) if moved else neuron.threshold
    arriving = None if fraction is None else from_channels(graph, name, unit * fraction).to(threshold)
    return replace(neuron, threshold=threshold, potential=potential.to(neuron.potential.dtype), unit=arriving)


def _mean_change(graph: Graph, name: str, old: Weighted, new: Weighted, mean: Tensor) -> Tensor:
    """Return by how much other weights change the mean current of every channel, ``[C]``, for this mean input."""
    change = replace(old, weight=new.weight.double() - old.weight.double(), bias=None)
    return channel_rows(change(mean.unsqueeze(0)), channel_axis(graph, name)).mean(1)
