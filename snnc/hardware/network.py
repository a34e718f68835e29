"""What a spiking network asks of a chip, counted."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from snnc.analysis.integers import Widths, widths
from snnc.analysis.reach import Connections, connected, fed_by_image, targets
from snnc.analysis.units import Membrane, membranes, spike_values
from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from snnc.neurons.base import Timed
from snnc.ops import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    Mean,
    Nonlinear,
    Pool,
    Resample,
    Reshape,
    Routing,
    Weighted,
)
from snnc.rules import Rules


@dataclass(frozen=True, eq=False)
class WeightedLayer:
    """A weighted layer: shapes of one sample, ``[C, *space]``, and what it connects.

    ``before`` is the shape that was flattened for a linear layer. ``connections`` are all pairs of neurons, ``weights``
    those of the kernel. ``first`` layers take the image, ``analog`` ones values that are no spikes.
    """

    name: str
    op: Weighted
    before: tuple[int, ...]
    after: tuple[int, ...]
    neurons: int
    connections: int
    first: bool
    analog: bool
    widths: Widths | None

    @property
    def weights(self) -> int:
        """How many weights there are."""
        return self.op.weight.numel()

    @property
    def groups(self) -> int:
        """How many groups of channels are connected to each other only."""
        return len(self.op.kernel())

    @property
    def fan_in(self) -> int:
        """The most connections into one of its sums."""
        return self.op.kernel()[0, 0].numel()

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's sides; that of a linear layer is the whole of what it takes in."""
        return tuple(self.op.kernel().shape[3:]) or self.before[1:]


@dataclass(frozen=True, eq=False)
class CountedNetwork:
    """A spiking network as chips see it."""

    snn: Graph

    @cached_property
    def connections(self) -> Mapping[str, Connections]:
        """The connections into every weighted layer."""
        return connected(self.snn)

    @cached_property
    def layers(self) -> Mapping[str, WeightedLayer]:
        """The weighted layers."""
        found = widths(self.snn)
        by_layer = {name: found[m.name] for m in self._membranes for name in m.layers}
        return {name: self._layer(name, op, by_layer[name]) for name, op in self.snn.ops(Weighted).items()}

    @cached_property
    def spike_values(self) -> Mapping[str, Tensor | None]:
        """What a spike is worth at every node, None where there are others than spikes."""
        return spike_values(self.snn)

    @cached_property
    def constants(self) -> frozenset[str]:
        """The constants that are biases of neurons."""
        return frozenset(name for membrane in self._membranes for name in membrane.constants)

    @cached_property
    def preprocessing(self) -> frozenset[str]:
        """What is computed from the input before the first layer of weights or neurons, and is not the input itself."""
        layers = self.snn.ops((Weighted, Neuron))
        found: set[str] = set(self.snn.inputs)
        for name, node in self.snn.nodes.items():
            if name not in layers and found.issuperset(node.inputs):
                found.add(name)
        return frozenset(found.difference(self.snn.inputs))

    def before(self, name: str) -> tuple[int, ...]:
        """Return the shape of what an operation of one input takes in."""
        return self.snn.shapes[self.snn.nodes[name].inputs[0]]

    @cached_property
    def _membranes(self) -> tuple[Membrane, ...]:
        return membranes(self.snn, self.spike_values)

    @cached_property
    def neurons(self) -> dict[str, int]:
        """How many neurons every layer of them has."""
        return {name: math.prod(self.snn.shapes[name]) for name in self.snn.ops(Neuron)}

    @cached_property
    def fan_out(self) -> dict[str, int]:
        """The most connections that one neuron of a layer has."""
        reach = {name: targets(self.connections, name) for name in self.snn.ops(Neuron)}
        return {name: int(counts.max()) for name, counts in reach.items() if counts is not None}

    def smaller_input(self, fits: Callable[[Graph], bool]) -> tuple[int, ...] | None:
        """Return the largest smaller input ``[C, H, W]``, of the same proportions, with which the network fits.

        None where it has no space to shrink, or cannot take another size: behind a flattening, weights are for one.
        """
        low, high, found = 1, max(self._sample[1:], default=1) - 1, None
        while low <= high:
            side = (low + high) // 2
            resized = self._resized(side)
            if resized is None or fits(resized):
                # Where a size cannot be computed at all, a smaller one cannot either, but a larger one may.
                found = found if resized is None else self._size(side)
                low = side + 1
            else:
                high = side - 1
        return found

    @property
    def _sample(self) -> tuple[int, ...]:
        return self.snn.shapes[self.snn.inputs[0]]

    def _size(self, side: int) -> tuple[int, ...]:
        channels, *space = self._sample
        return channels, *(max(1, round(size * side / max(space))) for size in space)

    def _resized(self, side: int) -> Graph | None:
        """Return the network for another size of input, None where there is no such; once for each size."""
        if side not in self._sizes:
            resized = self.snn.with_ops({self.snn.inputs[0]: Input(self._size(side))})
            try:
                same = all(resized.shapes[name] == self.snn.shapes[name] for name in self.snn.outputs)
            except ValueError:
                same = False
            self._sizes[side] = resized if same else None
        return self._sizes[side]

    @cached_property
    def _sizes(self) -> dict[int, Graph | None]:
        return {}

    def _layer(self, name: str, op: Weighted, found: Widths | None) -> WeightedLayer:
        axes = op.kernel().ndim - 3
        reach = self.connections[name].reach
        pairs = self.connections[name].macs if reach is None else int(sum(float(n.sum()) for n in reach.values()))
        return WeightedLayer(
            name=name,
            op=op,
            # The maps of a convolution, of which there may be several side by side.
            before=self.before(name)[-axes - 1 :] if axes else _unflattened(self.snn, self.snn.nodes[name].inputs[0]),
            after=self.snn.shapes[name][-axes - 1 :] if axes else self.snn.shapes[name],
            neurons=math.prod(self.snn.shapes[name]),
            connections=pairs,
            first=fed_by_image(self.snn, name),
            analog=reach is None,
            widths=found,
        )


# rule(op, graph, node): the shape, channels first, of what a flat value was made of.
maps = Rules[Op, tuple[int, ...]]("which map was flattened")


def _unflattened(graph: Graph, name: str) -> tuple[int, ...]:
    """Return the shape that a linear layer sees, with its channels first."""
    return maps(graph.op(name), graph, graph.nodes[name])


@maps.register(Reshape)
def _reshaped(op: Reshape, graph: Graph, node: Node) -> tuple[int, ...]:
    return _unflattened(graph, node.inputs[0]) if len(op.shape) == 1 else op.shape


@maps.register(Mean)
def _averaged(op: Mean, graph: Graph, node: Node) -> tuple[int, ...]:
    return graph.shapes[node.name] if op.keep else graph.shapes[node.name][:1]


@maps.register(Timed, Activation, Affine, BatchNorm)
def _each(op: Op, graph: Graph, node: Node) -> tuple[int, ...]:
    """Value for value: what is flattened before neurons is no other map behind them."""
    (before,) = node.inputs
    alike = graph.shapes[before] == graph.shapes[node.name]
    return _unflattened(graph, before) if alike else graph.shapes[node.name]


@maps.register(Input, Weighted, Add, Nonlinear, Resample, Routing, Pool)
def _own(op: Op, graph: Graph, node: Node) -> tuple[int, ...]:
    return graph.shapes[node.name]


def grouping(layer: WeightedLayer, fits: Callable[[int], bool]) -> int | None:
    """Return into how many groups a convolution has to be split at least so that ``fits(groups)``; None if never."""
    if layer.op.kernel().ndim == 3:
        return None
    channels = math.gcd(layer.before[0], layer.after[0])
    options = (count for count in range(layer.groups + 1, channels + 1) if channels % count == 0)
    return next((count for count in options if count % layer.groups == 0 and fits(count)), None)
