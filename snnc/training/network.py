"""A graph whose weights, biases and thresholds can be trained, quantized or spiking as it is."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from snnc.ir import Graph, Op
from snnc.neurons import Neuron
from snnc.neurons.base import Timed, mean_signal
from snnc.ops import Linear, QuantizedRelu, Weighted
from snnc.run import chunk_size, run
from snnc.run.simulation import channels_last
from snnc.schedule import Schedule
from snnc.training.activations import quantized

# The largest logarithm of a threshold, of either sign: what it stands for, and its inverse, are far from overflow.
_FURTHEST = 60.0


class TrainableNetwork:
    """A network of weighted layers and quantized activations or neurons, as a function with gradients.

    It works on means over time. Quantized activations are computed as they are. A network with neurons is simulated on
    its whole schedule, and the mean answer of every neuron put in the place of its closed form: values are those of
    the spikes, gradients those of the quantized activation.

    ``layers`` and ``thresholds`` are the parameters of the nodes in ``trained``: weights and biases, and the logarithms
    of thresholds, so that no step makes one negative. However far a step goes, thresholds stay within single precision.
    """

    def __init__(self, graph: Graph, schedule: Schedule, trained: Iterable[str]) -> None:
        fast = graph.map_tensors(channels_last)
        self._given = graph
        self._graph = fast
        self._schedule = schedule
        self._chunk = chunk_size(graph, schedule)
        self.thresholds: dict[str, Tensor] = {}
        self.layers: dict[str, Weighted] = {}
        for name in trained:
            op = fast.op(name)
            if isinstance(op, Weighted):
                bias = op.weight.new_zeros(graph.shapes[name][_channels(op)]) if op.bias is None else op.bias
                self.layers[name] = replace(op, weight=_parameter(op.weight), bias=_parameter(bias))
            elif isinstance(op, QuantizedRelu | Neuron):
                self.thresholds[name] = _parameter(_threshold(op).log())

    @property
    def weights(self) -> list[Tensor]:
        """The weights and biases that are trained."""
        return [tensor for layer in self.layers.values() for tensor in layer.tensors().values()]

    def __call__(self, feeds: Mapping[str, Tensor], want: Iterable[str]) -> dict[str, Tensor]:
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
            if isinstance(op, QuantizedRelu | Neuron):
                values[name] = self._answered(name, op, inputs[0], answers.get(name))
            elif isinstance(op, Timed):
                response = op.respond(inputs[0].unsqueeze(0), self._schedule)
                values[name] = mean_signal(response, self._schedule)[0]
            else:
                values[name] = self.layers.get(name, op)(*inputs)
        return {name: values[name] for name in want}

    def graph(self) -> Graph:
        """Return the network as it is now; what is not trained is shared with the graph it was made of."""
        return self._given.with_ops(self._ops())

    def _ops(self) -> dict[str, Op]:
        """Return the operations in training as they are now."""
        ops: dict[str, Op] = {name: layer.map_tensors(_frozen) for name, layer in self.layers.items()}
        for name, log in self.thresholds.items():
            op, threshold = self._graph.op(name), _exp(_frozen(log))
            if isinstance(op, Neuron):
                ops[name] = replace(op, threshold=threshold)
            elif isinstance(op, QuantizedRelu):
                ops[name] = replace(op, ceiling=threshold)
        return ops

    def _answered(self, name: str, op: QuantizedRelu | Neuron, z: Tensor, answer: Tensor | None) -> Tensor:
        """Return the mean answer of an activation or of neurons, with the gradients of their closed form."""
        log = self.thresholds.get(name)
        threshold = _threshold(op) if log is None else _exp(log)
        if isinstance(op, Neuron):
            form = replace(op, threshold=threshold).closed_form(self._schedule.timesteps)
            return quantized(z, form.ceiling, form.levels, form.potential, form.slope, answer)
        return quantized(z, threshold, op.levels, op.potential, op.slope)

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


def _threshold(op: QuantizedRelu | Neuron) -> Tensor:
    return op.threshold if isinstance(op, Neuron) else op.ceiling


def _exp(log: Tensor) -> Tensor:
    return log.clamp(-_FURTHEST, _FURTHEST).exp()


def _parameter(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _frozen(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _channels(layer: Weighted) -> int:
    """Return which axis of one sample of a layer's output counts its channels."""
    return -1 if isinstance(layer, Linear) else 0
