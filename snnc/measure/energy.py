"""What a spiking network costs: synaptic operations, memory traffic and energy.

A layer fed by spikes adds a weight for every spike and target: Σ spikes · fan-out accumulations. What takes in analog
values (the image, or what no neuron has made into spikes) multiplies, as often as it is evaluated: what the image alone
makes, and what neurons that gather first or the answer read, once; what neurons that fire while they gather read, at
every step. All energies are estimates for 45 nm and 32-bit floats (Horowitz, ISSCC 2014): 3.7 pJ a multiplication,
0.9 pJ an addition. An event that carries more than one unit multiplies the weight by a number of as many bits as it has
words, before the weight is added; by a power of two it shifts it, for nothing.

Memory is a part of the total, and told apart, too, because it depends on what the hardware reuses: here nothing stays
in registers, for all alike, and every word of 32 bits costs the 5 pJ of a small SRAM. A multiplication reads a weight
and a value, an accumulation reads a weight, and reads and writes a membrane potential: weights move once for every
spike. The b bits that an event carries are b/32 of a word. An ANN writes every activation once. Of hardware there are
two models: driven by events, it touches a potential only where something arrives; with a clock, it reads and writes all
of them at every step besides. Totals are those with a clock.

Beside the trained network stands one whose activations have as many bits as tell L levels apart, log2(L + 1) rounded
up: multipliers are taken to need energy, and memory to need words, in proportion to that width. What the image feeds
has its full width there as here.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from snnc.analysis.latency import active_steps
from snnc.analysis.reach import Connections, driven_by
from snnc.analysis.values import Kind
from snnc.figure import AnalogOperation, Arithmetic, Delivery, Energy, Events
from snnc.ir import Graph, Op
from snnc.neurons import Neuron
from snnc.neurons.base import summed
from snnc.schedule import Schedule

PICOJOULES = {"multiplication": 3.7, "addition": 0.9, "memory_word": 5.0}
SOURCE = "45 nm, 32-bit float; memory: words of 32 bits from SRAM of 8 KB; Horowitz, ISSCC 2014"
ASSUMPTIONS = (
    "nothing stays in registers; an addition reads its weight, once for every spike, and reads and writes a potential; "
    "a multiplication reads a weight and a value; with a clock, all potentials are read and written at every step "
    "besides; driven by events, only where something arrives; the trained network writes every activation once"
)
WORD = 32
# No layer sends events that carry more than a unit.
NOTHING: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Cost:
    """The work of one inference.

    Accumulations caused by spikes, multiplications of analog values, and words of membrane potential or activation
    that neurons move. ``bits`` is the width of the analog values. ``weighed`` are multiplications by what events carry,
    in those of full width, and ``payload_words`` what of words events are.
    """

    synaptic_operations: float
    analog_macs: float
    neuron_words: float = 0.0
    bits: int = WORD
    weighed: float = 0.0
    payload_words: float = 0.0

    @property
    def event_multiplications(self) -> float:
        """Return the energy of multiplications by what events carry, in µJ."""
        return self.weighed * PICOJOULES["multiplication"] * 1e-6

    @property
    def accumulations(self) -> float:
        """Return the energy of the arithmetic that spikes cause, in µJ."""
        return self.synaptic_operations * PICOJOULES["addition"] * 1e-6 + self.event_multiplications

    @property
    def multiplications(self) -> float:
        """Return the energy of multiply-accumulates, in µJ."""
        each = PICOJOULES["multiplication"] * self.bits / WORD + PICOJOULES["addition"]
        return self.analog_macs * each * 1e-6

    @property
    def arithmetic(self) -> float:
        """Return the energy of all arithmetic, in µJ."""
        return self.accumulations + self.multiplications

    @property
    def spike_memory(self) -> float:
        """Return the energy of the memory traffic that spikes cause, in µJ."""
        return (3 * self.synaptic_operations + self.payload_words) * PICOJOULES["memory_word"] * 1e-6

    @property
    def neuron_memory(self) -> float:
        """Return the energy of the memory traffic of neurons, in µJ."""
        return self.bits / WORD * self.neuron_words * PICOJOULES["memory_word"] * 1e-6

    @property
    def memory(self) -> float:
        """Return the energy of all memory traffic, in µJ."""
        analog = (1 + self.bits / WORD) * self.analog_macs * PICOJOULES["memory_word"] * 1e-6
        return self.spike_memory + analog + self.neuron_memory

    @property
    def total(self) -> float:
        """Return the energy of arithmetic and memory traffic, in µJ."""
        return self.arithmetic + self.memory


def arithmetic(
    snn: Graph,
    connections: Mapping[str, Connections],
    schedule: Schedule,
    spikes: Mapping[str, Tensor] | None = None,
    over_time: Set[str] = frozenset(),
) -> Arithmetic:
    """Say what drives every multiplication; ``spikes`` are each neuron's mean number, where images were seen."""
    macs = sum(found.macs for found in connections.values())
    analog = {name: found for name, found in connections.items() if found.reach is None}

    def percent(part: int) -> float | None:
        return 100 * part / macs if macs else None

    return Arithmetic(
        macs=macs,
        driven_by_spikes=percent(macs - sum(found.macs for found in analog.values())),
        driven_by_image=percent(sum(found.macs for found in analog.values() if found.kind is Kind.CONSTANT)),
        analog=tuple(
            AnalogOperation(
                name,
                snn.nodes[name].place,
                type(snn.op(name)).__name__,
                _why(snn.op(name), found.kind),
                found.macs,
                found.evaluations(schedule, over_time),
            )
            for name, found in analog.items()
        ),
        delivered=tuple(
            _delivery(snn, name, found, schedule, spikes) for name, found in connections.items() if found.copies > 1
        ),
    )


def _why(op: Op, reads: Kind) -> Literal["image", "unplaced", "function"]:
    if reads is Kind.CONSTANT:
        return "image"
    return "unplaced" if op.linear else "function"


def _delivery(
    snn: Graph, name: str, found: Connections, schedule: Schedule, spikes: Mapping[str, Tensor] | None
) -> Delivery:
    additions = None
    if spikes is not None:
        additions = sum(driven_by({name: found}, layer, spikes[layer]) for layer in found.reach or {})
        additions = additions * (found.copies - 1) / found.copies
    steps = schedule.total if found.in_order else 1
    relayed = math.prod(snn.shapes[name]) * len(found.populations) * steps
    return Delivery(name, snn.nodes[name].place, len(found.populations), additions, relayed)


def carried(neuron: Neuron, response: Tensor, schedule: Schedule) -> Tensor | None:
    """Return what the events of each neuron carry, ``[2, ...]``, summed over samples; None where all carry one unit.

    First all units, then the events that carry no power of two of them, and so take a multiplication.
    """
    if neuron.event_words(schedule) == (3 if neuron.negative_over(schedule) else 2):
        return None
    units = neuron.payloads(response, schedule).abs_().flatten(0, 1)
    whole = units.round().int()
    # A power of two has no bit in common with the number before it.
    multiplied = torch.ne(whole.bitwise_and_(whole - 1), 0, out=torch.empty_like(units))
    return torch.cat([summed(values, torch.float64) for values in (units, multiplied)])


def events(
    snn: Graph, schedule: Schedule, spikes: Mapping[str, Tensor] | None = None, payloads: Mapping[str, Tensor] = NOTHING
) -> Events | None:
    """Return what the neurons of a network send; ``spikes`` and ``payloads`` as in ``cost``, where images were seen."""
    neurons = snn.ops(Neuron)
    if not neurons:
        return None
    units = None
    if spikes is not None and (fired := sum(float(count.sum()) for count in spikes.values())):
        units = sum(float((payloads[name][0] if name in payloads else spikes[name]).sum()) for name in spikes) / fired
    return Events(
        levels=max(neuron.levels(schedule.timesteps) for neuron in neurons.values()),
        largest=max(neuron.largest_event for neuron in neurons.values()),
        bits=max(neuron.event_bits(schedule) for neuron in neurons.values()),
        signed=any(neuron.negative_over(schedule) for neuron in neurons.values()),
        units=units,
    )


def energy(
    snn: Graph,
    connections: Mapping[str, Connections],
    spikes: Mapping[str, Tensor],
    schedule: Schedule,
    over_time: Set[str] = frozenset(),
    payloads: Mapping[str, Tensor] = NOTHING,
) -> Energy:
    """Compare what a spiking network needs for its mean numbers of spikes with what the trained one needs.

    ``over_time`` are the inputs that are frames; ``payloads`` as in ``cost``.
    """
    neurons = sum(count.numel() for count in spikes.values())
    fired = sum(float(count.sum()) for count in spikes.values())
    firing_rate = fired / (neurons * active_steps(snn, schedule)) if neurons else 0.0
    spent = cost(snn, connections, spikes, schedule, over_time, payloads)
    by_image, others = (
        float(sum(layer.macs for layer in connections.values() if (layer.kind is Kind.CONSTANT) == constant))
        for constant in (True, False)
    )
    # The trained network moves every activation once, when it writes it.
    dense = Cost(0.0, by_image + others, float(neurons))
    wide = Cost(0.0, by_image)
    levels = max((op.levels(schedule.timesteps) for op in snn.ops(Neuron).values()), default=schedule.timesteps)
    narrow = Cost(0.0, others, float(neurons), bits=min(WORD, math.ceil(math.log2(levels + 1))))
    quantized = wide.arithmetic + narrow.arithmetic
    quantized_memory = wide.memory + narrow.memory
    by_spikes = spent.accumulations + spent.spike_memory

    def ratio(value: float, other: float) -> float | None:
        return value / other if other else None

    def break_even(other: float) -> float | None:
        left = other - (spent.total - by_spikes)
        return firing_rate * left / by_spikes if by_spikes and left > 0 else None

    # Where nothing multiplies, there is nothing to be relative to.
    everything = dense.total if dense.arithmetic else 0.0
    return Energy(
        accumulations=spent.accumulations,
        multiplications=spent.multiplications,
        memory=spent.memory,
        spike_memory=spent.spike_memory,
        neuron_memory=spent.neuron_memory,
        reference=dense.arithmetic,
        reference_memory=dense.memory,
        bits=narrow.bits,
        quantized=quantized,
        quantized_memory=quantized_memory,
        ratio=ratio(spent.total, everything),
        event_driven_ratio=ratio(spent.total - spent.neuron_memory, everything),
        arithmetic_ratio=ratio(spent.arithmetic, dense.arithmetic),
        firing_rate=firing_rate,
        break_even=break_even(dense.total),
        quantized_break_even=break_even(quantized + quantized_memory),
        event_multiplications=spent.event_multiplications,
        events=events(snn, schedule, spikes, payloads),
    )


def cost(
    snn: Graph,
    connections: Mapping[str, Connections],
    spikes: Mapping[str, Tensor],
    schedule: Schedule,
    over_time: Set[str] = frozenset(),
    payloads: Mapping[str, Tensor] = NOTHING,
) -> Cost:
    """Return the cost of one inference from each neuron's mean number of spikes, by layer and shaped like it.

    ``payloads`` are what these carry on average, as ``carried`` has it, of layers whose events are not all alike.
    """
    widths = {name: snn.ops(Neuron)[name].event_bits(schedule) / WORD for name in payloads}
    weighed = sum(driven_by(connections, name, payloads[name][1]) * widths[name] for name in payloads)
    words = sum(float(spikes[name].sum()) * widths[name] for name in payloads)
    operations = sum(driven_by(connections, name, count) for name, count in spikes.items())
    analog = sum(found.macs * found.evaluations(schedule, over_time) for found in connections.values())
    neurons = sum(count.numel() for count in spikes.values())
    moved = 2.0 * neurons * active_steps(snn, schedule)
    return Cost(operations, float(analog), moved, weighed=float(weighed), payload_words=float(words))
