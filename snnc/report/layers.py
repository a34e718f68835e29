"""Measure, layer by layer, what separates the spiking network from the trained one.

With z̄ the mean current into a layer of the spiking network, f the activation it stands for, φ_T its closed form and
θ the ceiling of that (the threshold, unless neurons fire in bursts), the error of its mean output a against the trained
network's a_ANN is exactly the sum of

    inherited      f(z̄) − a_ANN                    what comes in is wrong already
    clipping       min(f(z̄), θ) − f(z̄)
    quantization   φ_T(z̄) − min(f(z̄), θ)
    unevenness     a − φ_T(z̄)                      when spikes arrived, not how many

All figures are relative to the L2 norm of a_ANN over the images looked at.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from snnc.calibration import channel_axis
from snnc.errors import PreconditionError
from snnc.ir import Graph, Op
from snnc.neurons import CausalNeuron, Neuron
from snnc.ops import Activation, ClippedRelu
from snnc.run import chunk_size, predicted, run
from snnc.run.cost import Synapses, driven_by
from snnc.run.simulation import channels_last, rechunk
from snnc.schedule import Schedule

# A channel is saturated when this share of its input currents is at the threshold or above.
_SATURATED = 0.5


@dataclass(frozen=True)
class Layer:
    """One layer of neurons. What can only be measured on images is None without them.

    ``error`` is cumulative (the whole network converted), ``isolated_error`` that of this layer alone; ``sigma`` is
    the standard deviation of the residual a_ANN − a, ``channel_residuals`` its mean in every channel, in the units of
    the activation; ``spikes`` and ``synaptic_operations`` are per inference; ``firing_rate`` is spikes per neuron and
    step.
    """

    name: str
    source: str
    neuron: str
    neurons: int
    channels: int
    threshold_minimum: float
    threshold_maximum: float
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
    synaptic_operations: float | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """Sums over the images: by layer, and the spikes of every neuron per inference."""

    layers: tuple[Layer, ...]
    spikes: dict[str, Tensor]
    images: int
    agreement: float
    output_error: float


def describe(snn: Graph) -> tuple[Layer, ...]:
    """Return the layers of neurons with what is known without images."""
    return tuple(_plain(snn, name, neuron) for name, neuron in snn.ops(Neuron).items())


def measure(
    canonical: Graph, snn: Graph, batches: Iterable[Tensor], schedule: Schedule, connections: dict[str, Synapses]
) -> Measured:
    """Run both networks on images ``[N, ...]`` and compare them layer by layer.

    ``canonical`` is the trained network in the form the spiking one was made from: equal names, equal values.
    """
    fast, trained = (graph.map_tensors(channels_last) for graph in (snn, canonical))
    neurons = fast.ops(Neuron)
    for name in neurons:
        if name not in trained.nodes or not isinstance(trained.op(name), Activation):
            raise PreconditionError(
                "the trained network has no such activation to compare with",
                place=snn.nodes[name].source or name,
                hint="put the passes that change the network's form first in the recipe",
            )
    sums = {name: _Sums(fast, name, neuron, schedule) for name, neuron in neurons.items()}
    (image,), first = fast.inputs, fast.outputs[0]
    inputs = {name: fast.nodes[name].inputs[0] for name in neurons}
    agreed = images = 0
    difference = norm = 0.0
    for chunk in rechunk(batches, chunk_size(fast, schedule)):
        feeds = {image: channels_last(chunk).unsqueeze(0)}
        wanted = run(trained, feeds, [*neurons, *fast.outputs])
        responses: dict[str, Tensor] = {}
        want = [*neurons, *inputs.values(), *fast.outputs]
        # What is random comes out differently for every chunk, and alike where the same chunk is run again.
        draws = Generator().manual_seed(images)
        reached = run(fast, feeds, want, schedule, observe=responses.__setitem__, generator=draws)
        for name, total in sums.items():
            others = {other: wanted[other] for other in neurons if other != name}
            alone = run(fast, {**feeds, **others}, [name], schedule, generator=draws.manual_seed(images))[name][0]
            activation = trained.op(name)
            total.add(wanted[name][0], reached[name][0], reached[inputs[name]][0], responses[name], alone, activation)
        agreed += int((predicted(wanted[first][0]) == predicted(reached[first][0])).sum())
        goal, result = (torch.cat([o[name][0].flatten(1) for name in fast.outputs], 1) for o in (wanted, reached))
        difference += float((goal - result).double().square().sum())
        norm += float(goal.double().square().sum())
        images += len(chunk)
    layers = tuple(total.layer(images, connections) for total in sums.values())
    spikes = {name: total.spikes / images for name, total in sums.items()}
    return Measured(layers, spikes, images, agreed / images, math.sqrt(difference / norm) if norm else 0.0)


def _plain(snn: Graph, name: str, neuron: Neuron) -> Layer:
    shape = snn.shapes[name]
    axis = channel_axis(snn, name)
    return Layer(
        name=name,
        source=snn.nodes[name].source,
        neuron=type(neuron).__name__,
        neurons=math.prod(shape),
        channels=shape[axis - 1] if axis else 1,
        threshold_minimum=float(neuron.threshold.min()),
        threshold_maximum=float(neuron.threshold.max()),
    )


class _Sums:
    """What is added up over the images for one layer; everything else follows from it."""

    def __init__(self, snn: Graph, name: str, neuron: Neuron, schedule: Schedule) -> None:
        self.plain = _plain(snn, name, neuron)
        self.neuron = neuron
        self.schedule = schedule
        self.steps = schedule.total if isinstance(neuron, CausalNeuron) else schedule.timesteps
        self.axis = channel_axis(snn, name) or 1
        self.spikes = torch.zeros(snn.shapes[name], dtype=torch.float64)
        self.squares = dict.fromkeys(
            ("reference", "result", "error", "isolated", "inherited", "clipping", "quantization", "unevenness"), 0.0
        )
        self.product = 0.0
        self.residuals = torch.zeros(self.plain.channels, dtype=torch.float64)
        self.count = 0
        self.full = torch.zeros(self.plain.channels, dtype=torch.float64)

    def add(
        self, wanted: Tensor, reached: Tensor, current: Tensor, response: Tensor, alone: Tensor, activation: Op
    ) -> None:
        form = self.neuron.closed_form(self.schedule.timesteps)
        ceiling, slope = form.ceiling, form.slope
        ideal = activation(current)
        clipped = torch.minimum(ideal, ceiling) if slope is None else ClippedRelu(ceiling, slope)(current)
        quantized = form(current)
        parts = {
            "reference": wanted,
            "result": reached,
            "error": reached - wanted,
            "isolated": alone - wanted,
            "inherited": ideal - wanted,
            "clipping": clipped - ideal,
            "quantization": quantized - clipped,
            "unevenness": reached - quantized,
        }
        for part, value in parts.items():
            self.squares[part] += float(value.double().square().sum())
        self.product += float((wanted.double() * reached.double()).sum())
        residual = (wanted.double() - reached.double()).movedim(self.axis, 0)
        self.residuals += residual.reshape(self.plain.channels, -1).sum(1)
        self.count += wanted.numel()
        self.spikes += self.neuron.spikes(response, self.schedule).sum(0, dtype=torch.float64)
        full = (current >= ceiling).double()
        self.full += full.movedim(self.axis, 0).reshape(len(self.full), -1).mean(1) * len(wanted)

    def layer(self, images: int, connections: dict[str, Synapses]) -> Layer:
        norm = math.sqrt(self.squares["reference"])
        relative = {part: math.sqrt(value) / norm if norm else 0.0 for part, value in self.squares.items()}
        spikes = self.spikes / images
        by_channel = self.spikes.movedim(self.axis - 1, 0).reshape(self.plain.channels, -1).sum(1)
        mean = float(self.residuals.sum()) / self.count
        lengths = math.sqrt(self.squares["reference"] * self.squares["result"])
        return replace(
            self.plain,
            error=relative["error"],
            isolated_error=relative["isolated"],
            inherited=relative["inherited"],
            clipping=relative["clipping"],
            quantization=relative["quantization"],
            unevenness=relative["unevenness"],
            sqnr=-20 * math.log10(relative["error"]) if relative["error"] > 0 else None,
            cosine=self.product / lengths if lengths else None,
            sigma=math.sqrt(max(0.0, self.squares["error"] / self.count - mean**2)),
            channel_residuals=tuple((self.residuals * self.plain.channels / self.count).tolist()),
            firing_rate=float(spikes.sum()) / self.plain.neurons / self.steps,
            spikes=float(spikes.sum()),
            dead_channels=int((by_channel == 0).sum()),
            saturated_channels=int((self.full / images >= _SATURATED).sum()),
            synaptic_operations=driven_by(connections, self.plain.name, spikes),
        )
