"""Small networks that laws are tried on, and images to calibrate on."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snnc import ops
from snnc.analysis.moments import stated_moments
from snnc.calibration import Calibration
from snnc.data.samples import MemorySamples
from snnc.feeds import Feeds
from snnc.ir import Graph, Input, Node, Op
from snnc.schedule import Schedule


def feeding(graph: Graph, images: Tensor) -> Feeds:
    """Return images for the one input of a network."""
    (image,) = graph.inputs
    return Feeds({image: images})


def in_memory(graph: Graph, images: Tensor, size: int = 16) -> MemorySamples:
    """Return images for the one input of a network, handed out in batches of ``size``."""
    return MemorySamples(feeding(graph, images), size)


def calibration(graph: Graph, images: Tensor | None = None, timesteps: int = 4, size: int = 16) -> Calibration:
    """Return what passes may look at: a reference, images or none, and as many levels as time steps."""
    return Calibration(
        graph,
        None if images is None else in_memory(graph, images, size),
        Schedule(timesteps),
        dict.fromkeys(graph.nodes, timesteps),
        stated_moments(graph),
    )


@dataclass
class Network:
    """A graph under construction; its input is called ``x``, other nodes after their operation."""

    shape: tuple[int, ...]
    seed: int = 0
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self.nodes.append(Node("x", Input(self.shape), ()))
        self.shapes["x"] = self.shape

    def random(self, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(*shape, generator=self._generator)

    def add(self, op: Op, *inputs: str, name: str = "") -> str:
        """Add an operation, by default behind the last one, and return its name."""
        name = name or f"{type(op).__name__.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs or (self.nodes[-1].name,), (f"source of {name}",)))
        self.shapes[name] = tuple(op(*(torch.zeros(1, *self.shapes[v]) for v in self.nodes[-1].inputs)).shape[1:])
        return name

    def conv(
        self,
        value: str,
        channels: int,
        kernel: int = 3,
        groups: int = 1,
        bias: bool = True,
        stride: int = 1,
        name: str = "",
    ) -> str:
        """Add a convolution that keeps the size."""
        width, *space = self.shapes[value]
        fan_in = width // groups * kernel ** len(space)
        weight = self.random(channels, width // groups, *(kernel for _ in space)) * (2 / fan_in) ** 0.5
        padding = (kernel // 2,) * (2 * len(space))
        ones = (1,) * len(space)
        drift = self.random(channels) * 0.2 if bias else None
        return self.add(ops.Conv(weight, drift, (stride,) * len(space), padding, ones, groups), value, name=name)

    def linear(self, value: str, features: int, bias: bool = True, name: str = "") -> str:
        """Add a linear layer."""
        width = self.shapes[value][-1]
        weight = self.random(features, width) * (2 / width) ** 0.5
        return self.add(ops.Linear(weight, self.random(features) * 0.2 if bias else None), value, name=name)

    def norm(self, value: str, name: str = "") -> str:
        """Add a batch normalization."""
        channels = self.shapes[value][0]
        scale, mean = 0.5 + self.random(channels).abs(), self.random(channels) * 0.3
        norm = ops.BatchNorm(scale, self.random(channels) * 0.3, mean, 0.3 + self.random(channels).abs(), 1e-5)
        return self.add(norm, value, name=name)

    def flat(self, value: str) -> str:
        """Flatten a value."""
        return self.add(ops.Reshape((torch.Size(self.shapes[value]).numel(),)), value)

    def graph(self, *outputs: str) -> Graph:
        """Return the graph, with the last operation as its output unless others are named."""
        return Graph.of(self.nodes, outputs or (self.nodes[-1].name,))


def random_network(seed: int, activation: Callable[[Network, str], str], norms: bool = False) -> Graph:
    """Return a network of images [3, 8, 8] with branches, sums, concatenations, pools and a linear read-out."""
    choose = random.Random(seed)
    net = Network((3, 8, 8), seed)
    value = activation(net, net.conv("x", 6))
    for _ in range(4):
        channels, side, _ = net.shapes[value]
        kinds = ["grouped", "residual", "concat", "slice", "pad", "depthwise"] + (["max", "average"] * (side >= 4))
        kind = choose.choice(kinds)
        if kind == "grouped":
            layer = net.conv(value, 6, groups=2 if channels % 2 == 0 else 1)
            value = activation(net, net.norm(layer) if norms else layer)
        elif kind == "depthwise":
            value = activation(net, net.conv(value, channels, groups=channels, bias=False))
        elif kind == "residual":
            inner = activation(net, net.conv(value, channels))
            total = net.add(ops.Add(), net.conv(inner, channels), value)
            value = activation(net, net.norm(total) if norms else total)
        elif kind == "concat":
            left, right = activation(net, net.conv(value, 4)), activation(net, net.conv(value, 2, kernel=1))
            value = net.add(ops.Concat(1), left, right)
        elif kind == "slice":
            value = net.add(ops.Slice(1, 0, channels, 2), value)
            value = activation(net, net.conv(value, 6))
        elif kind == "pad":
            value = net.add(ops.Pad((0, 1, 0, 0, 0, 1), 0.0), value)
        elif kind == "max":
            value = net.add(ops.MaxPool((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), value)
        else:
            value = net.add(ops.AveragePool((2, 2), (2, 2), (0, 0, 0, 0), (0, 0, 1, 1)), value)
    value = net.flat(net.add(ops.Mean((2, 3)), value))
    net.linear(activation(net, net.linear(value, 12)), 5)
    return net.graph()


def relu(net: Network, value: str) -> str:
    """Add a rectifier."""
    return net.add(ops.Relu(), value)
