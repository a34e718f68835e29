"""Measure, layer by layer, what separates the spiking network from the trained one.

With z̄ the mean current into a layer of the spiking network, f the activation it stands for, φ_T its closed form and
θ the ceiling of that (the threshold, unless neurons fire in bursts), the error of its mean output a against the trained
network's a_ANN is exactly the sum of

    inherited      f(z̄) − a_ANN                    what comes in is wrong already
    clipping       min(f(z̄), θ) − f(z̄)
    quantization   φ_T(z̄) − min(f(z̄), θ)
    unevenness     a − φ_T(z̄)                      when spikes arrived, not how many

All figures are relative to the L2 norm of a_ANN over the images looked at.

Against φ_T(z̄) some neurons fire too often and some too seldom (the shares that CASC, Li et al. 2024, plots), and what
came in but was not emitted, T·(z̄ − a) and the initial potential, is left in the membrane.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.linalg import vector_norm

from snnc.analysis.channels import channel_axis, channel_count
from snnc.analysis.counterparts import check_counterparts
from snnc.analysis.latency import active_steps
from snnc.analysis.reach import Connections, driven_by
from snnc.data.samples import Samples
from snnc.feeds import Feeds
from snnc.ir import Graph, Op
from snnc.measure.energy import carried
from snnc.neurons import Neuron
from snnc.neurons.base import along_memory, drawing, kind_of, summed
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.tasks import Task
from snnc.tasks.task import in_rows

# A channel is saturated when this share of its input currents is at the threshold or beyond, and clips from this one.
_SATURATED, _CLIPS = 0.5, 0.05

# Less than this share of a level is rounding.
_ROUNDING = 0.01

# So many pairs of outputs are kept for a look at how they scatter.
_PAIRS = 400

# Bins of the distributions: activations and potentials in units of the threshold, rates in spikes per step.
_ACTIVATIONS = 0.0, 1.5, 48
_SIGNED_ACTIVATIONS = -1.5, 1.5, 96
_POTENTIALS = -2.0, 2.0, 64
_RATES = 0.0, 1.0, 40


@dataclass(frozen=True)
class Distribution:
    """How many values fell into each of equal bins from ``low`` to ``high``; what is beyond is in the outermost."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Distributions:
    """How values are distributed in one layer, over neurons and images.

    ``reference`` and ``result`` are the activations of the trained and the mean outputs of the spiking network in units
    of the threshold, those that are 0 left out: ``reference_zeros`` and ``result_zeros`` count them. ``rates``
    are spikes per step, those of silent neurons left out; ``potentials`` what came in, the initial potential included,
    and was not emitted, in units of the threshold: what is left in the membrane of neurons that do not rehearse.
    """

    reference: Distribution
    result: Distribution
    reference_zeros: int
    result_zeros: int
    rates: Distribution
    potentials: Distribution


@dataclass(frozen=True)
class Layer:
    """One layer of neurons. What can only be measured on images is None without them.

    ``levels`` are those of the output above 0, as far apart as the threshold is over all steps;
    ``error`` is cumulative (the whole network converted), ``isolated_error`` that of this layer alone; ``sigma`` is
    the standard deviation of the residual a_ANN − a, ``channel_residuals`` its mean in every channel, in the units of
    the activation; ``spikes`` and ``synaptic_operations`` are per inference; ``firing_rate`` is spikes per neuron and
    step. ``over_firing`` and ``under_firing`` are the shares of neurons that emit more, or less, than the closed form
    of their mean current.
    """

    name: str
    source: str
    neuron: str
    neurons: int
    channels: int
    threshold_minimum: float
    threshold_maximum: float
    levels: int
    error: float | None = None
    isolated_error: float | None = None
    inherited: float | None = None
    clipping: float | None = None
    quantization: float | None = None
    unevenness: float | None = None
    sqnr: float | None = None
    cosine: float | None = None
    sigma: float | None = None
    channel_residuals: tuple[float, ...] | None = None
    firing_rate: float | None = None
    spikes: float | None = None
    dead_channels: int | None = None
    saturated_channels: int | None = None
    clipping_channels: int | None = None
    over_firing: float | None = None
    under_firing: float | None = None
    synaptic_operations: float | None = None
    distributions: Distributions | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """Sums over the images: by layer, and the spikes of every neuron per inference, with their payloads (see energy).

    ``agreement`` is the share of answers that are the trained network's, None where answers are hardly ever the same.
    ``outputs`` are some pairs of numbers that the trained and the spiking network give out, ``output_errors`` how far
    each output is off (by its name, relative, L2), ``sample`` one of what they were fed.
    """

    layers: tuple[Layer, ...]
    spikes: dict[str, Tensor]
    payloads: dict[str, Tensor]
    images: int
    agreement: float | None
    output_error: float
    output_errors: dict[str, float]
    outputs: tuple[tuple[float, float], ...]
    sample: Feeds = field(default_factory=lambda: Feeds({}))


def describe(snn: Graph, schedule: Schedule) -> tuple[Layer, ...]:
    """Return the layers of neurons with what is known without images."""
    return tuple(_plain(snn, name, neuron, schedule) for name, neuron in snn.ops(Neuron).items())


def compare_layers(
    canonical: Graph,
    snn: Graph,
    samples: Samples,
    schedule: Schedule,
    connections: dict[str, Connections],
    task: Task,
) -> Measured:
    """Run both networks on images and compare them layer by layer, and their answers to a task.

    ``canonical`` is the trained network in the form the spiking one was made from: equal names, equal values.
    """
    check_counterparts(canonical, snn)
    neurons = snn.ops(Neuron)
    inputs = {name: snn.nodes[name].inputs[0] for name in neurons}
    trained = Program(canonical, want=[*neurons, *snn.outputs])
    spiking = Program(snn, schedule, want=[*neurons, *inputs.values(), *snn.outputs])
    alone = {name: Program(spiking.graph, schedule, want=[name], given=set(neurons) - {name}) for name in neurons}
    layers = {name: _Layer(snn, name, neuron, schedule) for name, neuron in neurons.items()}
    judged = task.judged(snn.outputs)
    shown = -(-_PAIRS // sum(math.prod(shape) for shape in snn.output_shapes))

    def compared(feeds: Feeds, first: int) -> dict[str, Any]:
        wanted = trained(feeds)
        responses: dict[str, Tensor] = {}
        # What is random comes out differently for every chunk, and alike where the same chunk is run again.
        draws = Generator().manual_seed(first)
        reached = spiking(feeds, observe=responses.__setitem__, generator=draws)
        found: dict[str, Any] = {"images": feeds.samples, "layers": {}, "off": {}}
        for name, layer in layers.items():
            others = {other: wanted[other] for other in neurons if other != name}
            apart = alone[name](feeds, given=others, generator=draws.manual_seed(first))[name][0]
            current, response = reached[inputs[name]][0], responses[name]
            values = wanted[name][0], reached[name][0], current, response, apart, canonical.op(name)
            found["layers"][name] = layer.sums(*values)
        agreeing = task.agreeing(*(task.answers([by[name][0] for name in judged]) for by in (reached, wanted)))
        found |= {} if agreeing is None else {"agreed": agreeing}
        for name in snn.outputs:
            apart, size = (reached[name][0] - wanted[name][0]).double(), wanted[name][0].double()
            found["off"][name] = torch.stack([apart.square().sum(), size.square().sum()]).cpu()
        goal, result = (torch.cat([in_rows(by[name][0]) for name in snn.outputs], 1) for by in (wanted, reached))
        found["pairs"] = [torch.stack([goal.flatten(), result.flatten()], 1)[:_PAIRS]] if first < shown else []
        found["sample"] = [] if first else [feeds.part(0, 1)]
        return found

    seen = samples.added(spiking.chunk, compared)
    images, totals, off = seen["images"], seen["layers"], seen["off"]
    measured = tuple(layer.measured(totals[name], images, connections) for name, layer in layers.items())
    spikes = {name: sums["spikes"] / images for name, sums in totals.items()}
    payloads = {name: sums["payload"] / images for name, sums in totals.items() if "payload" in sums}
    outputs = tuple((first, second) for first, second in torch.cat(seen["pairs"])[:_PAIRS].tolist())
    places = {name: snn.nodes[name].place for name in snn.outputs}
    # Of every output, squared distance and squared size.
    errors = {places[name]: _ratio(off[name]) for name in snn.outputs}
    error = _ratio(torch.stack([off[name] for name in snn.outputs]).sum(0))
    share = seen["agreed"] / images if "agreed" in seen else None
    return Measured(measured, spikes, payloads, images, share, error, errors, outputs, *seen["sample"])


def _ratio(squares: Tensor) -> float:
    """Return the root of the ratio of two sums, 0 where the second is."""
    part, whole = squares.tolist()
    return math.sqrt(part / whole) if whole else 0.0


class LayerErrors:
    """The error of every layer, all layers converted, of each image: what an interval can be had from."""

    def __init__(self, canonical: Graph, snn: Graph, schedule: Schedule, seed: int) -> None:
        check_counterparts(canonical, snn)
        self._seed = seed
        self._names = tuple(snn.ops(Neuron))
        self._trained = Program(canonical, want=self._names)
        self._spiking = Program(snn, schedule, want=self._names)

    def squares(self, images: Feeds, first: int) -> dict[str, list[tuple[float, float]]]:
        """Run both networks on some samples; return the squared error and size of each, by layer."""
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in self._names}
        generator = drawing(self._seed, first)
        for feeds in images.split(self._spiking.chunk):
            wanted, reached = self._trained(feeds), self._spiking(feeds, generator=generator)
            for name, pairs in found.items():
                goal, result = (in_rows(by[name][0]).double() for by in (wanted, reached))
                errors, norms = (result - goal).square().sum(1), goal.square().sum(1)
                pairs += zip(errors.tolist(), norms.tolist(), strict=True)
        return found


def _plain(snn: Graph, name: str, neuron: Neuron, schedule: Schedule) -> Layer:
    return Layer(
        name=name,
        source=snn.nodes[name].place,
        neuron=kind_of(neuron),
        neurons=math.prod(snn.shapes[name]),
        channels=channel_count(snn, name),
        threshold_minimum=float(neuron.threshold.min()),
        threshold_maximum=float(neuron.threshold.max()),
        levels=neuron.levels(schedule.timesteps),
    )


class _Layer:
    """One layer: what is added up over the images, and what follows from it."""

    def __init__(self, snn: Graph, name: str, neuron: Neuron, schedule: Schedule) -> None:
        self._plain = _plain(snn, name, neuron, schedule)
        self._neuron = neuron
        self._schedule = schedule
        self._steps = active_steps(snn, schedule)
        self._axis = channel_axis(snn, name)
        self._activations = _ACTIVATIONS if neuron.slope is None else _SIGNED_ACTIVATIONS

    def sums(
        self, wanted: Tensor, reached: Tensor, current: Tensor, response: Tensor, alone: Tensor, activation: Op
    ) -> dict[str, Any]:
        """Return what is added up, of some images."""
        neuron, channels = self._neuron, self._plain.channels
        form = neuron.closed_form(self._schedule.timesteps)
        ceiling, slope = form.ceiling, form.slope
        ideal = activation(current)
        clipped = torch.minimum(ideal, ceiling) if slope is None else form.clipped()(current)
        quantized = form(current)
        parts = {
            "reference": wanted,
            "result": reached,
            "error": wanted - reached,
            "isolated": alone - wanted,
            "inherited": ideal - wanted,
            "clipping": clipped - ideal,
            "quantization": quantized - clipped,
            "unevenness": reached - quantized,
        }
        count = neuron.spikes(response, self._schedule)
        payload = carried(neuron, response, self._schedule)
        # A negative spike takes a whole threshold from the membrane, whatever it weighs.
        emitted, asked = (
            value if slope is None else torch.where(value < 0, value / slope, value) for value in (reached, quantized)
        )
        # What is nearer than a level is rounding.
        apart = (emitted - asked) * (form.levels / ceiling)
        left = (form.gathered(current) - emitted) * (form.levels / ceiling) + neuron.potential
        shown = {
            "reference": (wanted / neuron.threshold, self._activations),
            "result": (reached / neuron.threshold, self._activations),
            "rates": (count / self._steps, _RATES),
        }
        full = current >= ceiling
        if neuron.coding:
            full |= neuron.gathered(current) <= -ceiling
        return {
            "squares": {part: float(vector_norm(value, dtype=torch.float64)) ** 2 for part, value in parts.items()},
            "product": float((wanted.double() * reached.double()).sum()),
            "residuals": self._by_channel(parts["error"]),
            "count": wanted.numel(),
            "spikes": summed(count, torch.float64)[0],
            "over": _number(torch.gt, apart, _ROUNDING),
            "under": _number(torch.lt, apart, -_ROUNDING),
            "binned": {part: _binned(value, bins) - _zeros(value, bins) for part, (value, bins) in shown.items()}
            | {"potentials": _binned(left, _POTENTIALS)},
            "full": self._by_channel(full) * (channels * len(wanted) / wanted.numel()),
        } | ({} if payload is None else {"payload": payload})

    def _by_channel(self, values: Tensor) -> Tensor:
        """Return the sums of values ``[N, ...]``, ``[C]``."""
        others = [axis for axis in range(values.ndim) if axis != self._axis]
        return values.sum(others, dtype=torch.float64).view(-1)

    def _distributions(self, sums: Mapping[str, Any]) -> Distributions:
        def of(part: str, bins: tuple[float, float, int]) -> Distribution:
            return Distribution(bins[0], bins[1], tuple(sums["binned"][part].tolist()))

        reference, result = of("reference", self._activations), of("result", self._activations)
        zeros = [sums["count"] - sum(distribution.counts) for distribution in (reference, result)]
        return Distributions(reference, result, zeros[0], zeros[1], of("rates", _RATES), of("potentials", _POTENTIALS))

    def measured(self, sums: Mapping[str, Any], images: int, connections: dict[str, Connections]) -> Layer:
        """Return what follows from the sums over all images."""
        squares, count, residuals, full = (sums[name] for name in ("squares", "count", "residuals", "full"))
        channels = self._plain.channels
        norm = math.sqrt(squares["reference"])
        relative = {part: math.sqrt(value) / norm if norm else 0.0 for part, value in squares.items()}
        spikes = sums["spikes"] / images
        by_channel = self._by_channel(sums["spikes"].unsqueeze(0))
        mean = float(residuals.sum()) / count
        lengths = math.sqrt(squares["reference"] * squares["result"])
        return replace(
            self._plain,
            error=relative["error"],
            isolated_error=relative["isolated"],
            inherited=relative["inherited"],
            clipping=relative["clipping"],
            quantization=relative["quantization"],
            unevenness=relative["unevenness"],
            sqnr=-20 * math.log10(relative["error"]) if relative["error"] > 0 else None,
            cosine=sums["product"] / lengths if lengths else None,
            sigma=math.sqrt(max(0.0, squares["error"] / count - mean**2)),
            channel_residuals=tuple((residuals * channels / count).tolist()),
            firing_rate=float(spikes.sum()) / self._plain.neurons / self._steps,
            spikes=float(spikes.sum()),
            dead_channels=int((by_channel == 0).sum()),
            saturated_channels=int((full / images >= _SATURATED).sum()),
            clipping_channels=int((full / images >= _CLIPS).sum()),
            over_firing=sums["over"] / count,
            under_firing=sums["under"] / count,
            distributions=self._distributions(sums),
            synaptic_operations=driven_by(connections, self._plain.name, spikes),
        )


def _binned(values: Tensor, bins: tuple[float, float, int]) -> Tensor:
    low, high, number = bins
    scale = number / (high - low)
    # 0/0, of a ceiling next to 0, is counted as 0.
    places = (values.float() - low).mul_(scale).clamp_(0, number - 1).nan_to_num_(-low * scale)
    return torch.bincount(along_memory(places.int()), minlength=number)


def _zeros(values: Tensor, bins: tuple[float, float, int]) -> Tensor:
    """Return how many values that are 0 fell into each bin."""
    return _binned(values.new_zeros(1), bins) * (values.numel() - _number(torch.ne, values, 0))


def _number(compare: Callable[..., Tensor], values: Tensor, other: float) -> int:
    """Return how many values ``[N, ...]`` compare so with another."""
    # Compared straight into numbers and summed: counting truth values takes several times as long.
    return int(summed(compare(values, other, out=torch.empty_like(values))).sum(dtype=torch.float64))
