"""A graph whose weights, biases, normalization and thresholds can be trained, quantized or spiking as it is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnc.ir import Graph, Op
from snnc.neurons import Neuron
from snnc.neurons.base import Timed, mean_signal
from snnc.ops import BatchNorm, ClippedRelu, Linear, QuantizedRelu, Weighted
from snnc.run import chunk_size, run
from snnc.run.simulation import channels_last
from snnc.schedule import Schedule
from snnc.training.activations import clipped, quantized
from snnc.training.processes import ALONE, Processes

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
    gradients those of the quantized activation.

    ``layers``, ``norms`` and ``thresholds`` are the parameters of the nodes in ``trained``: weights and biases, scales
    and shifts, and the logarithms of thresholds, so that no step makes one negative. However far a step goes,
    thresholds stay within single precision. Batch normalization that is trained works, in training, on the statistics
    of what it is given, and keeps a running mean of them.

    ``disturbed`` is told every activation's name and answer in training, and returns what takes its place.
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
    ) -> None:
        super().__init__()
        fast = graph.map_tensors(channels_last)
        self._given = graph
        self._graph = fast
        self._schedule = schedule
        self._stand_in = stand_in
        self._disturbed = disturbed
        self._processes = processes
        self._chunk = chunk_size(graph, schedule)
        self.thresholds: dict[str, Tensor] = {}
        self.layers: dict[str, Weighted] = {}
        self.norms: dict[str, BatchNorm] = {}
        for name in trained:
            op = fast.op(name)
            if isinstance(op, Weighted):
                bias = op.weight.new_zeros(graph.shapes[name][_channels(op)]) if op.bias is None else op.bias
                weight, bias = self._parameter(name, "weight", op.weight), self._parameter(name, "bias", bias)
                self.layers[name] = replace(op, weight=weight, bias=bias)
            elif isinstance(op, BatchNorm):
                scale, shift = self._parameter(name, "scale", op.scale), self._parameter(name, "shift", op.shift)
                mean, variance = self._buffer(name, "mean", op.mean), self._buffer(name, "variance", op.variance)
                self.norms[name] = replace(op, scale=scale, shift=shift, mean=mean, variance=variance)
            elif isinstance(op, QuantizedRelu | ClippedRelu | Neuron):
                self.thresholds[name] = self._parameter(name, "threshold", _threshold(op).log())

    @property
    def weights(self) -> list[Tensor]:
        """The weights and biases that are trained."""
        return [tensor for layer in self.layers.values() for tensor in layer.tensors().values()]

    def forward(self, feeds: Mapping[str, Tensor], want: Iterable[str]) -> dict[str, Tensor]:
        """Return the mean values ``[N, ...]`` of the nodes in ``want`` for those of the nodes in ``feeds``."""
        want = tuple(want)
        needed = self._graph.ancestors(want, stop=feeds) - set(feeds)
        answers = self._answers(feeds, needed)
        values = dict(feeds)
        for name, node in self._graph.nodes.items():
            if name not in needed:
                continue
            inputs = [values[value] for value in node.inputs]
            op = node.op
            if isinstance(op, QuantizedRelu | ClippedRelu | Neuron):
                answered = self._answered(name, op, inputs[0], answers.get(name))
                values[name] = self._disturbed(name, answered) if self._disturbed and self.training else answered
            elif isinstance(op, Timed):
                response = op.respond(inputs[0].unsqueeze(0), self._schedule)
                values[name] = mean_signal(response, self._schedule)[0]
            elif name in self.norms and self.training:
                values[name] = self._normalized(self.norms[name], inputs[0])
            else:
                values[name] = (self.layers.get(name) or self.norms.get(name) or op)(*inputs)
        return {name: values[name] for name in want}

    def graph(self) -> Graph:
        """Return the network as it is now; what is not trained is shared with the graph it was made of."""
        return self._given.with_ops(self._ops())

    def _ops(self) -> dict[str, Op]:
        """Return the operations in training as they are now."""
        ops: dict[str, Op] = {n: op.map_tensors(_frozen) for n, op in (self.layers | self.norms).items()}
        for name, log in self.thresholds.items():
            op, threshold = self._graph.op(name), _exp(_frozen(log))
            if isinstance(op, Neuron):
                ops[name] = replace(op, threshold=threshold)
            elif isinstance(op, QuantizedRelu | ClippedRelu):
                ops[name] = replace(op, ceiling=threshold)
        return ops

    def _answered(
        self, name: str, op: QuantizedRelu | ClippedRelu | Neuron, z: Tensor, answer: Tensor | None
    ) -> Tensor:
        """Return the mean answer of an activation or of neurons, with the gradients of what stands in for it."""
        log = self.thresholds.get(name)
        threshold = _threshold(op) if log is None else _exp(log)
        if isinstance(op, ClippedRelu):
            return clipped(z, threshold, op.slope)
        if isinstance(op, Neuron):
            form = replace(op, threshold=threshold).closed_form(self._schedule.timesteps)
            return self._stand_in(z, form.ceiling, form.levels, form.potential, form.slope, answer)
        return self._stand_in(z, threshold, op.levels, op.potential, op.slope)

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

    def _answers(self, feeds: Mapping[str, Tensor], needed: set[str]) -> dict[str, Tensor]:
        """Return the mean answers of all neurons needed, from simulating the network."""
        neurons = [name for name in self._graph.ops(Neuron) if name in needed]
        if not neurons:
            return {}
        now = self._graph.with_ops(self._ops())
        samples = len(next(iter(feeds.values())))
        chunks = [
            run(now, {n: feed[i : i + self._chunk].unsqueeze(0) for n, feed in feeds.items()}, neurons, self._schedule)
            for i in range(0, samples, self._chunk)
        ]
        return {name: torch.cat([chunk[name][0] for chunk in chunks]) for name in neurons}

    def _parameter(self, name: str, field: str, tensor: Tensor) -> Tensor:
        parameter = nn.Parameter(tensor.detach().clone())
        self.register_parameter(f"{name}:{field}", parameter)
        return parameter

    def _buffer(self, name: str, field: str, tensor: Tensor) -> Tensor:
        buffer = tensor.detach().clone()
        self.register_buffer(f"{name}:{field}", buffer)
        return buffer


def _threshold(op: QuantizedRelu | ClippedRelu | Neuron) -> Tensor:
    return op.threshold if isinstance(op, Neuron) else op.ceiling


def _exp(log: Tensor) -> Tensor:
    return log.clamp(-_FURTHEST, _FURTHEST).exp()


def _frozen(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _channels(layer: Weighted) -> int:
    """Return which axis of one sample of a layer's output counts its channels."""
    return -1 if isinstance(layer, Linear) else 0
