"""A graph whose weights, biases, normalization and thresholds can be trained, quantized or spiking as it is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.analysis.channels import channel_count
from snnc.analysis.integers import in_reals
from snnc.feeds import Feeds
from snnc.ir import Graph, Node, Op
from snnc.neurons import CausalNeuron, Neuron
from snnc.neurons.base import mean_signal
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    Clipped,
    Input,
    Mean,
    Nonlinear,
    Pool,
    Quantized,
    Relu,
    Resample,
    Routing,
    Weighted,
)
from snnc.ops.batching import batched
from snnc.processes import ALONE, Processes
from snnc.rules import Rules
from snnc.run import Program
from snnc.schedule import Schedule
from snnc.training.activations import clipped, quantized
from snnc.training.through_time import Moving, has_few_steps, response

# The largest logarithm of a threshold, of either sign: what it stands for, and its inverse, are far from overflow.
_FURTHEST = 60.0
# How much of the statistics of batch normalization each step replaces.
_MOMENTUM = 0.1


class StandIn(Protocol):
    """A quantized activation with gradients, as ``snnc.training.activations`` has them."""

    def __call__(
        self,
        z: Tensor,
        ceiling: Tensor,
        levels: int,
        potential: Tensor,
        slope: Tensor | None = None,
        value: Tensor | None = None,
    ) -> Tensor: ...


class TrainableNetwork(nn.Module):
    """A network of weighted layers and clipped or quantized activations, or neurons, as a function with gradients.

    It works on means over time. Activations are computed as they are. A network with neurons is simulated on its whole
    schedule, and the mean answer of every neuron put in the place of its closed form: values are those of the spikes,
    gradients those of the quantized activation, or, where they are to go ``through_steps``, there are few of these and
    neurons fire at each, those of ``snnc.training.through_time``.

    ``layers``, ``norms``, ``temporal`` and ``thresholds`` are the parameters of the nodes in ``trained``: weights and
    biases, scales and shifts, biases that change from step to step, and the logarithms of thresholds, so that no step
    makes one negative. However far a step goes, thresholds stay within single precision. Batch normalization that is
    trained works, in training, on the statistics of what it is given, and keeps a running mean of them.

    ``disturbed`` is told every activation's name and answer in training, and returns what takes its place. With
    ``shares``, what of the image each step awake carries is trained as well, from equal ones, where gradients go
    through the steps: as logarithms, of which only the differences matter.
    """

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule,
        trained: Iterable[str],
        *,
        stand_in: StandIn = quantized,
        disturbed: Callable[[str, Tensor], Tensor] | None = None,
        processes: Processes = ALONE,
        through_steps: bool = False,
        shares: bool = False,
    ) -> None:
        super().__init__()
        program = Program(graph, schedule)
        fast = program.graph
        self._given = graph
        self._graph = fast
        self._schedule = schedule
        self._stand_in = stand_in
        self._disturbed = disturbed
        self._processes = processes
        # Which field of its operation a threshold is.
        self._fields: dict[str, str] = {}
        self._chunk = program.chunk
        self._through_steps = through_steps and has_few_steps(fast, schedule)
        blank = torch.zeros(schedule.timesteps, dtype=torch.float64)
        self.shares = nn.Parameter(blank) if shares and self._through_steps else None
        # Each with the tensor that it began as, which lives on so that no other has its identity.
        self._shared: dict[int, tuple[Tensor, nn.Parameter]] = {}
        self.thresholds: dict[str, Tensor] = {}
        self.layers: dict[str, Weighted] = {}
        self.norms: dict[str, BatchNorm] = {}
        self.temporal: dict[str, TemporalBias] = {}
        for name in trained:
            parameters(fast.op(name), self, name)

    @property
    def weights(self) -> list[Tensor]:
        """The weights and biases that are trained, each once."""
        ops: Iterable[Op] = (self.layers | self.temporal).values()
        return unique(tensor for op in ops for tensor in op.tensors().values())

    def ceiling(self, name: str) -> float:
        """Return the mean ceiling of the neurons that read a node: what of a current they tell apart."""
        read = [op for op in map(self._graph.op, self._graph.consumers[name]) if isinstance(op, Neuron)]
        ceilings = [neuron.closed_form(self._schedule.timesteps).ceiling.flatten() for neuron in read]
        return float(torch.cat(ceilings).mean())

    def forward(self, feeds: Feeds, want: Iterable[str]) -> dict[str, Tensor]:
        """Return the mean values ``[N, ...]`` of the nodes in ``want`` for those of the nodes in ``feeds``."""
        want = tuple(want)
        if self._through_steps:
            return self._stepwise(feeds, want)
        needed = self._graph.ancestors(want, stop=feeds) - set(feeds)
        answers = self._answers(feeds, needed)
        shown = feeds.signals(self._schedule)
        values = {name: mean_signal(signal, self._schedule)[0] for name, signal in shown.items()}
        for name, node in self._graph.nodes.items():
            if name not in needed:
                continue
            inputs = [values[value] for value in node.inputs]
            values[name] = stand_ins(node.op, self, name, answers.get(name), *inputs)
        return {name: values[name] for name in want}

    @property
    def schedule(self) -> Schedule:
        """The schedule as it is now."""
        if self.shares is None:
            return self._schedule
        return replace(self._schedule, shares=tuple(self.shares.detach().softmax(0).tolist()))

    def _stepwise(self, feeds: Feeds, want: tuple[str, ...]) -> dict[str, Tensor]:
        """Return the mean values of a network whose gradients go through its steps."""
        schedule, moving = self.schedule, None if self.shares is None else Moving(self.shares, self._schedule.sleep)
        logs = self.thresholds.items()
        neurons = {n: self._graph.op(n).with_tensors({self._fields[n]: _exp(log.detach())}) for n, log in logs}
        live = self._graph.with_ops({**self.layers, **self.norms, **self.temporal, **neurons})
        program = Program(live, schedule, want=want, given=feeds)

        def through(node: Node, compute: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
            op = live.op(node.name)
            if moving is not None:
                compute, inputs = moving.computing(op, compute, inputs)
            if not isinstance(op, CausalNeuron):
                return compute(*inputs)
            (currents,) = inputs
            return response(op, schedule, currents, self._threshold(node.name, op.threshold))

        found = program.with_gradients(feeds.signals(schedule), through)
        return {name: found[name][0] for name in want}

    def graph(self) -> Graph:
        """Return the network as it is now; what is not trained is shared with the graph it was made of."""
        return in_reals(self._given.with_ops(self._ops()))

    def _ops(self) -> dict[str, Op]:
        """Return the operations in training as they are now."""
        frozen: dict[int, Tensor] = {}

        def once(tensor: Tensor) -> Tensor:
            return frozen[id(tensor)] if id(tensor) in frozen else frozen.setdefault(id(tensor), _frozen(tensor))

        ops: dict[str, Op] = {n: op.map_tensors(once) for n, op in (self.layers | self.norms | self.temporal).items()}
        for name, log in self.thresholds.items():
            ops[name] = self._graph.op(name).with_tensors({self._fields[name]: _exp(_frozen(log))})
        return ops

    def _threshold(self, name: str, given: Tensor) -> Tensor:
        log = self.thresholds.get(name)
        return given if log is None else _exp(log)

    def _after_noise(self, name: str, answer: Tensor) -> Tensor:
        return self._disturbed(name, answer) if self._disturbed and self.training else answer

    def _normalized(self, norm: BatchNorm, x: Tensor) -> Tensor:
        """Normalize by the statistics of ``x`` over all processes, and count them into the running ones."""
        if self._processes.count == 1:
            return F.batch_norm(x, norm.mean, norm.variance, norm.scale, norm.shift, True, _MOMENTUM, norm.epsilon)
        kind, x = x.dtype, x.float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = (-1, *(1 for _ in axes[1:]))
        mean = self._processes.mean(x.mean(axes))
        centered = x - mean.view(shape)
        variance = self._processes.mean(centered.square().mean(axes))
        with torch.no_grad():
            # The running variance is the unbiased estimate, as torch keeps it.
            count = self._processes.count * x.numel() // x.shape[1]
            norm.mean.lerp_(mean.to(norm.mean), _MOMENTUM)
            norm.variance.lerp_((variance * (count / max(1, count - 1))).to(norm.variance), _MOMENTUM)
        factor = norm.scale / (variance + norm.epsilon).sqrt()
        return (centered * factor.view(shape) + norm.shift.view(shape)).to(kind)

    def _answers(self, feeds: Feeds, needed: set[str]) -> dict[str, Tensor]:
        """Return the mean answers of all neurons needed, from simulating the network."""
        neurons = [name for name in self._graph.ops(Neuron) if name in needed]
        if not neurons:
            return {}
        now = self._graph.with_ops(self._ops())
        program = Program(now, self._schedule, want=neurons, given=feeds)
        chunks = [program(Feeds({}), given=part.signals(self._schedule)) for part in feeds.split(self._chunk)]
        return {name: torch.cat([chunk[name][0] for chunk in chunks]) for name in neurons}

    def _parameter(self, name: str, field: str, tensor: Tensor) -> Tensor:
        """Return a parameter that begins as a tensor: one parameter for all that share it."""
        if id(tensor) not in self._shared:
            parameter = nn.Parameter(tensor.detach().clone())
            self.register_parameter(f"{name}:{field}", parameter)
            self._shared[id(tensor)] = tensor, parameter
        return self._shared[id(tensor)][1]

    def _buffer(self, name: str, field: str, tensor: Tensor) -> Tensor:
        buffer = tensor.detach().clone()
        self.register_buffer(f"{name}:{field}", buffer)
        return buffer


def unique(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return tensors, each once where several layers share it."""
    return list({id(tensor): tensor for tensor in tensors}.values())


def _exp(log: Tensor) -> Tensor:
    return log.clamp(-_FURTHEST, _FURTHEST).exp()


def _frozen(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


# rule(op, network, name): turns what is trained of an operation into parameters.
parameters = Rules[Op, None]("what of an operation is trained")

_TRAINED = "train weights, biases, normalizations and thresholds"
parameters.refuse(
    Input, Add, Nonlinear, Routing, Mean, Pool, Relu, Resample, why="there is nothing in it to train", hint=_TRAINED
)
parameters.refuse(Affine, Activation, why="its constants stay what they are", hint=_TRAINED)


@parameters.register(Weighted)
def _train_weights(op: Weighted, network: TrainableNetwork, name: str) -> None:
    bias = op.weight.new_zeros(channel_count(network._given, name)) if op.bias is None else op.bias
    weight, bias = network._parameter(name, "weight", op.weight), network._parameter(name, "bias", bias)
    network.layers[name] = replace(op, weight=weight, bias=bias)


@parameters.register(BatchNorm)
def _train_norm(op: BatchNorm, network: TrainableNetwork, name: str) -> None:
    scale, shift = network._parameter(name, "scale", op.scale), network._parameter(name, "shift", op.shift)
    mean, variance = network._buffer(name, "mean", op.mean), network._buffer(name, "variance", op.variance)
    network.norms[name] = replace(op, scale=scale, shift=shift, mean=mean, variance=variance)


@parameters.register(Clipped, Quantized)
def _train_ceiling(op: Clipped | Quantized, network: TrainableNetwork, name: str) -> None:
    network._fields[name] = "ceiling"
    network.thresholds[name] = network._parameter(name, "threshold", op.ceiling.log())


@parameters.register(Neuron)
def _train_threshold(op: Neuron, network: TrainableNetwork, name: str) -> None:
    network._fields[name] = "threshold"
    network.thresholds[name] = network._parameter(name, "threshold", op.threshold.log())


@parameters.register(TemporalBias)
def _train_shift(op: TemporalBias, network: TrainableNetwork, name: str) -> None:
    network.temporal[name] = replace(op, shift=network._parameter(name, "shift", op.shift))


# rule(op, network, name, answer, *inputs): the mean value ``[N, ...]``, with gradients; ``answer`` is that of neurons.
stand_ins = Rules[Op, Tensor]("what stands in for an operation in training")

stand_ins.refuse(Input, why="an input of the network was not given", hint="feed it, or a value behind it")


@stand_ins.register(Affine, Add, Routing, Mean, Nonlinear, Pool, Resample, Activation)
def _itself(op: Op, network: TrainableNetwork, name: str, answer: Tensor | None, *inputs: Tensor) -> Tensor:
    """Torch knows its gradient."""
    return op(*inputs)


@stand_ins.register(Weighted)
def _weighted(op: Weighted, network: TrainableNetwork, name: str, answer: Tensor | None, z: Tensor) -> Tensor:
    return network.layers.get(name, op)(z)


@stand_ins.register(BatchNorm)
def _norm(op: BatchNorm, network: TrainableNetwork, name: str, answer: Tensor | None, z: Tensor) -> Tensor:
    trained = network.norms.get(name)
    if trained is None or not network.training:
        return (trained or op)(z)
    return batched(lambda z: network._normalized(trained, z), z, op.axis - 1)


@stand_ins.register(Clipped)
def _clipped(op: Clipped, network: TrainableNetwork, name: str, answer: Tensor | None, z: Tensor) -> Tensor:
    return network._after_noise(name, clipped(op.gathered(z), network._threshold(name, op.ceiling), op.slope))


@stand_ins.register(Quantized)
def _quantized(op: Quantized, network: TrainableNetwork, name: str, answer: Tensor | None, z: Tensor) -> Tensor:
    ceiling = network._threshold(name, op.ceiling)
    return network._after_noise(name, network._stand_in(op.gathered(z), ceiling, op.levels, op.potential, op.slope))


@stand_ins.register(Neuron)
def _neuron(op: Neuron, network: TrainableNetwork, name: str, answer: Tensor | None, z: Tensor) -> Tensor:
    """The answer of the neurons, with the gradients of what they stand for."""
    now = replace(op, threshold=network._threshold(name, op.threshold))
    form = now.closed_form(network._schedule.timesteps)
    answered = network._stand_in(form.gathered(z), form.ceiling, form.levels, form.potential, form.slope, answer)
    return network._after_noise(name, answered)


@stand_ins.register(TemporalBias)
def _temporal_bias(op: TemporalBias, network: TrainableNetwork, name: str, answer: Tensor | None, z: Tensor) -> Tensor:
    now = network.temporal.get(name, op)
    return mean_signal(now.respond(z.unsqueeze(0), network._schedule), network._schedule)[0]
