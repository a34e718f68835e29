"""What a spiking network costs: synaptic operations, memory traffic and energy.

A layer fed by spikes adds a weight for every spike and target: Σ spikes · fan-out accumulations. A layer fed by analog
values (the image, or what no neuron has made into spikes) multiplies at every step. All energies are estimates for
45 nm and 32-bit floats (Horowitz, ISSCC 2014): 3.7 pJ a multiplication, 0.9 pJ an addition.

Memory is a line of its own, because it depends on what the hardware reuses: here nothing, for all alike, and every word
of 32 bits costs the 5 pJ of a small SRAM. A multiplication reads a weight and a value; an accumulation reads a weight,
and reads and writes a membrane potential; a neuron reads and writes its potential at every step; an ANN writes every
activation once.

Beside the trained network stands one whose activations have as many bits as T steps can tell apart, log2(T + 1) rounded
up: multipliers are taken to need energy, and memory to need words, in proportion to that width. What the image feeds
has its full width there as here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnc.figure import Energy
from snnc.ir import Graph, Input, Op
from snnc.neurons import CausalNeuron, Neuron
from snnc.ops import (
    Add,
    Affine,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    MaxPool,
    Mean,
    Pad,
    Reshape,
    Slice,
    Take,
    Transpose,
    Weighted,
)
from snnc.schedule import Schedule

PICOJOULES = {"multiplication": 3.7, "addition": 0.9, "memory_word": 5.0}
SOURCE = "45 nm, 32-bit float; memory: words of 32 bits from SRAM of 8 KB; Horowitz, ISSCC 2014"
WORD = 32

# Spikes pass through these one by one; what they scale by is taken up by the weights behind.
_ROUTING = Add | Affine | AveragePool | Concat | MaxPool | Mean | Pad | Reshape | Slice | Take | Transpose


@dataclass(frozen=True, eq=False)
class Synapses:
    """The connections into one weighted layer.

    ``macs`` is the work of one dense pass. ``fan_out`` says for each layer of neurons that feeds it, and for each
    neuron there, how many targets one spike reaches; None where the layer is fed by analog values, which ``constant``
    says to be those of the image alone: then there is nothing to do in sleep.
    """

    macs: int
    fan_out: Mapping[str, Tensor] | None
    constant: bool = False


@dataclass(frozen=True)
class Cost:
    """The work of one inference.

    Accumulations caused by spikes, multiplications of analog values, and words of membrane potential or activation
    that neurons move. ``bits`` is the width of the analog values.
    """

    synaptic_operations: float
    analog_macs: float
    neuron_words: float = 0.0
    bits: int = WORD

    @property
    def accumulations(self) -> float:
        """Return the energy of what spikes cause, in µJ."""
        return self.synaptic_operations * PICOJOULES["addition"] * 1e-6

    @property
    def multiplications(self) -> float:
        """Return the energy of multiply-accumulates, in µJ."""
        each = PICOJOULES["multiplication"] * self.bits / WORD + PICOJOULES["addition"]
        return self.analog_macs * each * 1e-6

    @property
    def microjoules(self) -> float:
        """Return the energy of all arithmetic, in µJ."""
        return self.accumulations + self.multiplications

    @property
    def memory(self) -> float:
        """Return the energy of memory traffic, in µJ."""
        share = self.bits / WORD
        words = 3 * self.synaptic_operations + (1 + share) * self.analog_macs + share * self.neuron_words
        return words * PICOJOULES["memory_word"] * 1e-6


def energy(snn: Graph, connections: Mapping[str, Synapses], spikes: Mapping[str, Tensor], schedule: Schedule) -> Energy:
    """Compare what a spiking network needs for its mean numbers of spikes with what the trained one needs."""
    neurons = sum(count.numel() for count in spikes.values())
    fired = sum(float(count.sum()) for count in spikes.values())
    firing_rate = fired / (neurons * active_steps(snn, schedule)) if neurons else 0.0
    spent = cost(snn, connections, spikes, schedule)
    by_image, others = (
        float(sum(layer.macs for layer in connections.values() if layer.constant == constant))
        for constant in (True, False)
    )
    # The trained network moves every activation once, when it writes it.
    dense = Cost(0.0, by_image + others, float(neurons))
    wide = Cost(0.0, by_image)
    narrow = Cost(0.0, others, float(neurons), bits=min(WORD, math.ceil(math.log2(schedule.timesteps + 1))))
    quantized = wide.microjoules + narrow.microjoules

    def break_even(other: float) -> float | None:
        left = other - spent.multiplications
        return firing_rate * left / spent.accumulations if spent.accumulations and left > 0 else None

    return Energy(
        accumulations=spent.accumulations,
        multiplications=spent.multiplications,
        memory=spent.memory,
        reference=dense.microjoules,
        reference_memory=dense.memory,
        bits=narrow.bits,
        quantized=quantized,
        quantized_memory=wide.memory + narrow.memory,
        ratio=spent.microjoules / dense.microjoules if dense.microjoules else None,
        firing_rate=firing_rate,
        break_even=break_even(dense.microjoules),
        quantized_break_even=break_even(quantized),
    )


def synapses(graph: Graph) -> dict[str, Synapses]:
    """Return the connections into every weighted layer of a graph."""
    found = {}
    for name, op in graph.ops(Weighted).items():
        sources = _sources(graph, graph.nodes[name].inputs[0])
        fan_out = None if sources is None else _fan_out(graph, name, sources)
        work = macs(op, graph.shapes[graph.nodes[name].inputs[0]], graph.shapes[name])
        constant = not any(isinstance(graph.op(other), Neuron) for other in graph.ancestors([name]))
        found[name] = Synapses(work, fan_out, constant)
    return found


def macs(op: Weighted, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of one layer for one sample, by its input's and output's shape."""
    counted = before if isinstance(op, ConvTranspose) else after
    return math.prod(counted) * math.prod(op.weight.shape[1:])


def cost(snn: Graph, connections: Mapping[str, Synapses], spikes: Mapping[str, Tensor], schedule: Schedule) -> Cost:
    """Return the cost of one inference from each neuron's mean number of spikes, by layer and shaped like it."""
    operations = sum(driven_by(connections, name, count) for name, count in spikes.items())
    analog = sum(
        layer.macs * (schedule.lit if layer.constant else schedule.total)
        for layer in connections.values()
        if layer.fan_out is None
    )
    neurons = sum(count.numel() for count in spikes.values())
    return Cost(operations, float(analog), 2.0 * neurons * active_steps(snn, schedule))


def active_steps(snn: Graph, schedule: Schedule) -> int:
    """Return the steps in which every neuron works; those that gather first neither rehearse nor sleep."""
    return schedule.total if snn.ops(CausalNeuron) else schedule.timesteps


def driven_by(connections: Mapping[str, Synapses], name: str, spikes: Tensor) -> float:
    """Return the accumulations that the spikes of one layer of neurons cause."""
    reach = targets(connections, name)
    return 0.0 if reach is None else float((reach * spikes).sum())


def targets(connections: Mapping[str, Synapses], name: str) -> Tensor | None:
    """Return how many accumulations one spike of each neuron causes, None where no layer is driven by spikes here."""
    reached = [layer.fan_out[name] for layer in connections.values() if layer.fan_out and name in layer.fan_out]
    return torch.stack(reached).sum(0) if reached else None


def fed_by_image(graph: Graph, layer: str) -> bool:
    """Return whether a layer takes the network's input, with nothing but routing between."""
    waiting = list(graph.nodes[layer].inputs)
    while waiting:
        node = graph.nodes[waiting.pop()]
        if isinstance(node.op, Input):
            return True
        if isinstance(node.op, _ROUTING):
            waiting.extend(node.inputs)
    return False


def _sources(graph: Graph, name: str) -> set[str] | None:
    """Return the neurons whose spikes arrive at ``name``, None if anything else arrives there too."""
    op = graph.op(name)
    if isinstance(op, Neuron):
        return {name}
    if not isinstance(op, _ROUTING):
        return None
    found: set[str] = set()
    for value in graph.nodes[name].inputs:
        sources = _sources(graph, value)
        if sources is None:
            return None
        found |= sources
    return found


@torch.enable_grad()
def _fan_out(graph: Graph, layer: str, sources: set[str]) -> dict[str, Tensor]:
    """Count targets as the gradient of a network in which every connection weighs 1."""
    # In the order of the graph, not of the set, so that sums come out the same every time.
    ordered = [name for name in graph.nodes if name in sources]
    values = {name: torch.zeros(1, *graph.shapes[name], requires_grad=True) for name in ordered}
    leaves = dict(values)
    between = graph.ancestors([layer], stop=sources) - sources
    for name, node in graph.nodes.items():
        if name in between:
            values[name] = _connect(node.op, [values[value] for value in node.inputs])
    gradients = torch.autograd.grad(values[layer].sum(), list(leaves.values()))
    return {name: gradient[0].double() for name, gradient in zip(leaves, gradients, strict=True)}


def _connect(op: Op, inputs: list[Tensor]) -> Tensor:
    """Apply an operation with all its weights 1, so that it counts connections."""
    if isinstance(op, Weighted):
        return replace(op, weight=torch.ones_like(op.weight), bias=None)(*inputs)
    if isinstance(op, Affine):
        return inputs[0]
    if isinstance(op, AveragePool):
        padding = tuple(map(sum, zip(op.padding, op.excess, strict=True)))
        return AveragePool(op.kernel, op.stride, padding, (0,) * len(padding))(*inputs) * math.prod(op.kernel)
    if isinstance(op, Mean):
        return op(*inputs) * math.prod(inputs[0].shape[axis] for axis in op.axes)
    if isinstance(op, MaxPool):
        # One spike of a window passes: each of its inputs counts for its share.
        channels = inputs[0].shape[1]
        share = torch.full((channels, 1, *op.kernel), 1 / math.prod(op.kernel))
        return Conv(share, None, op.stride, op.padding, op.dilation, channels)(*inputs)
    return op(*inputs)
