"""The figures of NeuroBench, as its package (2.3) defines and measures them (Yik et al., Nature Communications 2025).

It watches a network that is run one step at a time, with the input shown at every step, on all samples at once:

    footprint             bytes of all parameters and buffers, each once
    connection sparsity   the share of zeros among the weights of linear layers and convolutions
    activation sparsity   the share of zeros among the outputs of neurons, ReLU and sigmoid, over all steps
    synaptic operations   pairs of an input and a weight that meet in a linear layer or a convolution, over all steps:
                          dense all of them; effective those of which neither is zero. These are accumulations where
                          all that the layer takes in at a step is 0, 1 or -1, and multiply-accumulates otherwise
    membrane updates      neurons whose potential changes, over all steps; at the first step all of them

A spike is 1 there: what it carries is part of the weights behind. What is made of spikes and is none (an average, the
sum of two layers, several in one step) is multiplied by its count. Steps of neurons that gather their input first are
those of their own layer, and their potential changes with what comes in and with every spike.

Beside every figure stands what snnc itself counts on the same samples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snnc.analysis.latency import active_steps
from snnc.analysis.reach import connected
from snnc.analysis.work import macs
from snnc.data.samples import Samples
from snnc.feeds import rechunk
from snnc.ir import Graph, Input, Node, Op
from snnc.measure.energy import cost
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.base import stretched, summed
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    Conv,
    Linear,
    MaxPool,
    Mean,
    Nonlinear,
    Relu,
    Resample,
    Routing,
    Sigmoid,
    Weighted,
)
from snnc.rules import Rules
from snnc.run import Program
from snnc.schedule import Schedule

# What it calls layers with weights, and activations besides neurons.
_CONNECTIONS = Linear, Conv
_ACTIVATIONS = Neuron, Relu, Sigmoid

# So many multiply-accumulates, over all steps and samples, take half a second; and so many samples say enough.
_WORK, _MOST = 15 * 10**8, 64

# A whole number of spikes can be off by so much, where an operation works out their differences.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class SynapticOperations:
    """Pairs of inputs and weights that meet, per inference over all steps."""

    effective_macs: float
    effective_acs: float
    dense: float


@dataclass(frozen=True)
class OwnFigures:
    """What snnc counts on the same samples, per inference.

    ``activation_sparsity`` is 1 less the spikes per neuron and step; ``analog_macs`` are evaluated as often as they
    have to be; ``synaptic_operations`` are the accumulations that spikes cause; ``reference_macs`` are those of one
    pass of the trained network; ``membrane_updates`` has every neuron at every step.
    """

    activation_sparsity: float | None
    analog_macs: float
    synaptic_operations: float
    reference_macs: int
    membrane_updates: int


@dataclass(frozen=True)
class NeuroBench:
    """NeuroBench's figures of a network at one number of time steps, over so many samples; ``ours`` beside them.

    A sparsity is None where there is nothing that could be zero.
    """

    timesteps: int
    samples: int
    footprint: int
    connection_sparsity: float | None
    activation_sparsity: float | None
    synaptic_operations: SynapticOperations
    membrane_updates: float
    ours: OwnFigures


def measure(snn: Graph, schedule: Schedule, samples: Samples, *, seed: int = 0) -> NeuroBench:
    """Count on some of the samples, spread evenly: at most 64, and as many as can be run step by step in a second."""
    dense = macs(snn)
    samples = samples.thinned(max(1, min(_MOST, _WORK // max(1, dense * schedule.total))))
    watch = _Watch(snn, schedule)
    program = Program(snn, schedule, trains=True)
    generator = torch.Generator().manual_seed(seed)
    over_time: frozenset[str] = frozenset()
    for feeds in rechunk(samples.batches(), max(1, program.chunk // schedule.total)):
        over_time |= feeds.over_time
        program(feeds, generator=generator, through=watch.look)
    count, steps = len(samples), active_steps(snn, schedule)
    neurons = sum(math.prod(snn.shapes[name]) for name in snn.ops(Neuron))
    spikes = {name: total / count for name, total in watch.spikes.items()}
    fired = sum(float(total.sum()) for total in spikes.values())
    work = cost(snn, connected(snn), spikes, schedule, over_time)
    effective = [layer.effective(watch.window) for layer in watch.layers.values()]
    # One of each, as in a file: a network is as large as what is read from its own.
    tensors = {id(t): t for node in snn.shared().nodes.values() for t in node.op.tensors().values()}
    weights = {id(op.weight): op.weight for op in snn.ops(_CONNECTIONS).values()}
    zeros = sum(weight.numel() - int(weight.count_nonzero()) for weight in weights.values())
    return NeuroBench(
        timesteps=schedule.timesteps,
        samples=count,
        footprint=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        # Rounded as there.
        connection_sparsity=round(zeros / sum(map(Tensor.numel, weights.values())), 4) if weights else None,
        activation_sparsity=watch.silent / watch.activations if watch.activations else None,
        synaptic_operations=SynapticOperations(
            effective_macs=sum(multiplied for multiplied, _ in effective) / count,
            effective_acs=sum(added for _, added in effective) / count,
            dense=steps * sum(layer.dense for layer in watch.layers.values()),
        ),
        membrane_updates=watch.updates / count,
        ours=OwnFigures(
            activation_sparsity=1 - fired / (neurons * steps) if neurons else None,
            analog_macs=work.analog_macs,
            synaptic_operations=work.synaptic_operations,
            reference_macs=dense,
            membrane_updates=neurons * steps,
        ),
    )


# rule(op, units): what one spike of the output carries ``[1, ...]``, from what one of each input does; None where what
# comes out are no spikes.
unit = Rules[Op, Tensor | None]("what does a spike carry")


@unit.register(Neuron)
def _threshold(op: Neuron, units: Sequence[Tensor | None]) -> Tensor:
    return op.threshold.unsqueeze(0)


@unit.register(MaxPool, Routing)
def _moved(op: Op, units: Sequence[Tensor | None]) -> Tensor | None:
    known = [carried for carried in units if carried is not None]
    return op(*known) if len(known) == len(units) else None


@unit.register(Affine)
def _scaled(op: Affine, units: Sequence[Tensor | None]) -> Tensor | None:
    (carried,) = units
    return carried if carried is None or op.scale is None else carried * op.scale.abs()


@unit.register(Add)
def _summed(op: Add, units: Sequence[Tensor | None]) -> Tensor | None:
    """Where both carry the same, one of them at a time is a spike as before."""
    known = [carried for carried in units if carried is not None]
    alike = len(known) == len(units) and all(torch.equal(carried, known[0]) for carried in known)
    return known[0] if alike else None


@unit.register(Activation, AveragePool, BatchNorm, Input, Mean, Nonlinear, Resample, TemporalBias, Weighted)
def _nothing(op: Op, units: Sequence[Tensor | None]) -> None:
    """No spikes come out, or shares of them."""


# rule(neuron, currents, response, schedule): how often the potentials of a layer change, all samples together.
updates = Rules[Neuron, int]("how often do potentials change")


@updates.register(CausalNeuron)
def _step_by_step(neuron: CausalNeuron, currents: Tensor, response: Tensor, schedule: Schedule) -> int:
    state = neuron.initial(currents[0])
    changed = currents[0].numel()
    for t, x in enumerate(currents):
        if t == schedule.rehearsal > 0:
            state = neuron.rehearsed(state, x)
        before = state[0]
        state, _ = neuron.step(state, x, t < schedule.lit)
        changed += int(torch.count_nonzero(state[0] != before)) if t else 0
    return changed


@updates.register(OrderFreeNeuron)
def _gathered(neuron: OrderFreeNeuron, currents: Tensor, response: Tensor, schedule: Schedule) -> int:
    awake = currents[schedule.rehearsal :]
    return awake[0].numel() + int(torch.count_nonzero(awake[1:])) + int(torch.count_nonzero(response))


@final
class _Layer:
    """What goes into a linear layer or a convolution, step by step: pairs with weights other than zero.

    ``carried`` is what a spike carries there, None where it takes in no spikes. ``dense`` is how many pairs there are.
    """

    def __init__(self, op: Weighted, shape: tuple[int, ...], carried: Tensor | None, steps: int) -> None:
        kernel = op.kernel()
        self.targets = _targets(op.with_kernel((kernel != 0).to(kernel), None), shape)
        self.dense = float(_targets(op.with_kernel(torch.ones_like(kernel), None), shape).sum())
        self._carried = None if carried is None else torch.where(carried > 0, carried, 1)
        self._pairs = torch.zeros(steps, dtype=torch.float64)
        self._spikes = torch.ones(steps, dtype=torch.bool)

    def see(self, signal: Tensor, schedule: Schedule) -> None:
        """Look at what comes in, ``[steps or 1, N, ...]``; one that is always the same is off asleep."""
        whole = len(signal) == schedule.total
        for t, values in enumerate(signal):
            steps = slice(t, t + 1) if whole else slice(0, schedule.lit)
            if self._carried is not None:
                levels = values / self._carried
                nearest = levels.round()
                values = torch.where((levels - nearest).abs() < _ROUNDING, nearest, levels)
            there = torch.ne(values, 0, out=torch.empty_like(values))
            self._pairs[steps] += float((there.sum(0, dtype=torch.float64) * self.targets).sum())
            self._spikes[steps] &= torch.equal(values.abs(), there)

    def effective(self, window: slice) -> tuple[float, float]:
        """Return the multiply-accumulates, and the accumulations."""
        pairs, spikes = self._pairs[window], self._spikes[window]
        return float(pairs[~spikes].sum()), float(pairs[spikes].sum())


@final
class _Watch:
    """Looks at every node of a run and counts.

    ``window`` are the steps in which layers work, ``spikes`` the sums over samples of what snnc counts as spikes.
    """

    def __init__(self, snn: Graph, schedule: Schedule) -> None:
        carried: dict[str, Tensor | None] = {}
        for name, node in snn.nodes.items():
            found = unit(node.op, [carried[value] for value in node.inputs])
            carried[name] = None if found is None else found.expand(1, *snn.shapes[name])
        self.layers = {
            name: _Layer(op, snn.shapes[value], carried[value], schedule.total)
            for name, op in snn.ops(_CONNECTIONS).items()
            for value in snn.nodes[name].inputs
        }
        self.window = slice(None) if snn.ops(CausalNeuron) else slice(schedule.rehearsal, schedule.lit)
        self.spikes = {name: torch.zeros(snn.shapes[name], dtype=torch.float64) for name in snn.ops(Neuron)}
        self.silent = self.activations = self.updates = 0
        self._schedule = schedule

    def look(self, node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Compute the signal of a node, and count what NeuroBench counts there."""
        signal, schedule = compute(*inputs), self._schedule
        if node.name in self.layers:
            self.layers[node.name].see(inputs[0], schedule)
        if isinstance(node.op, _ACTIVATIONS):
            active = stretched(signal, schedule)[self.window]
            self.activations += active.numel()
            self.silent += active.numel() - int(torch.count_nonzero(active))
        if isinstance(node.op, Neuron):
            self.spikes[node.name] += summed(node.op.spikes(signal, schedule), torch.float64)[0]
            self.updates += updates(node.op, stretched(inputs[0], schedule), signal, schedule)
        return signal


@torch.enable_grad()
def _targets(op: Weighted, shape: tuple[int, ...]) -> Tensor:
    """Return how many weights meet each input, where all of them are 1 or 0."""
    at = torch.ones(1, *shape, dtype=op.weight.dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(op(at).sum(), at)
    return gradient[0].double()
