"""Which axis of a value counts its channels."""

from weakref import WeakKeyDictionary

from torch import Tensor

from snnc.ir import Graph, Input, Node, Op
from snnc.neurons import Neuron
from snnc.neurons.base import Timed
from snnc.ops import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    ClippedCoding,
    Coding,
    Concat,
    Conv,
    ConvTranspose,
    Embedding,
    Gathered,
    GridSample,
    Linear,
    MatMul,
    Mean,
    Normalization,
    Pad,
    Pointwise,
    Pool,
    Ranked,
    RankedPlaces,
    Reduction,
    Resample,
    Reshape,
    Slice,
    Take,
    Transpose,
    Weighted,
)
from snnc.rules import Rules

# rule(op, graph, node, before): the axis, counted with the batch, or None; ``before`` is that of the first input.
axes = Rules[Op, int | None]("which axis counts channels")


# What was found before, as long as a graph lives: a chain of nodes is walked once, not once for each of them.
_known: WeakKeyDictionary[Graph, dict[str, int | None]] = WeakKeyDictionary()


def channel_axis(graph: Graph, name: str) -> int | None:
    """Return the axis (the batch is 0) along which the value of ``name`` has channels, None where there is no such.

    The last weighted operation before sets it, and it follows transpositions.
    """
    known = _known.setdefault(graph, {})
    chain: list[Node] = []
    place: str | None = name
    while place is not None and place not in known:
        chain.append(graph.nodes[place])
        place = chain[-1].inputs[0] if chain[-1].inputs else None
    for node in reversed(chain):
        before = known[node.inputs[0]] if node.inputs else None
        known[node.name] = axes(node.op, graph, node, before)
    return known[name]


def channel_count(graph: Graph, name: str) -> int:
    """Return how many channels the value of ``name`` has: 1 where no axis counts them."""
    axis = channel_axis(graph, name)
    return graph.shapes[name][axis - 1] if axis and graph.shapes[name] else 1


def channel_rows(values: Tensor, axis: int | None) -> Tensor:
    """Return values ``[N, ...]`` as ``[C, all others]``: one row where ``axis`` is None."""
    return values.movedim(axis, 0).flatten(1) if axis else values.reshape(1, -1)


def by_channel(graph: Graph, name: str, constant: Tensor) -> Tensor | None:
    """Return a constant that broadcasts against one sample of ``name`` as one number per channel, ``[C]``.

    None where it differs within a channel, or where no axis counts channels.
    """
    axis = channel_axis(graph, name)
    if axis is None:
        return None
    rows = channel_rows(constant.expand(graph.shapes[name]).unsqueeze(0), axis)
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def from_channels(graph: Graph, name: str, values: Tensor) -> Tensor:
    """Return one number per channel, ``[C]``, in the shape that broadcasts against one sample of ``name``.

    The inverse of ``by_channel``. Where no axis counts channels, the single number is that of all values.
    """
    return per_channel(values, graph.shapes[name], channel_axis(graph, name) or 1)


def per_channel(values: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """Shape ``[C]`` so that it broadcasts against one sample of the given shape along ``axis`` (batch is 0)."""
    return values.reshape([-1 if position == axis - 1 else 1 for position in range(len(shape))])


@axes.register(Input)
def _first(op: Input, graph: Graph, node: Node, before: int | None) -> int:
    return 1


@axes.register(Conv, ConvTranspose)
def _before_space(op: Conv | ConvTranspose, graph: Graph, node: Node, before: int | None) -> int:
    return len(graph.shapes[node.name]) + 2 - op.weight.ndim


@axes.register(BatchNorm)
def _told(op: BatchNorm, graph: Graph, node: Node, before: int | None) -> int:
    return op.axis


@axes.register(Embedding, Linear)
def _last(op: Linear, graph: Graph, node: Node, before: int | None) -> int:
    return len(graph.shapes[node.name])


@axes.register(MatMul)
def _none(op: MatMul, graph: Graph, node: Node, before: int | None) -> None:
    """Either factor has its own."""


@axes.register(
    Add,
    Affine,
    Concat,
    Slice,
    Take,
    Pad,
    Pool,
    Gathered,
    Ranked,
    RankedPlaces,
    Activation,
    GridSample,
    Normalization,
    Pointwise,
    Resample,
    Timed,
)
def _kept(op: Op, graph: Graph, node: Node, before: int | None) -> int | None:
    """Several inputs lie channel by channel beside each other: the first one tells."""
    # Broadcasting may have put axes in front.
    return before if len(graph.shapes[node.inputs[0]]) == len(graph.shapes[node.name]) else None


@axes.register(ClippedCoding, Coding)
def _contracted(op: Op, graph: Graph, node: Node, before: int | None) -> int | None:
    """The axis that all who weight a code sum over: what a level is worth there is a scale of their weights.

    None where there is none, or where readers sum over different ones.
    """
    found = {contracted(graph, node.name, reader) for reader in graph.consumers[node.name]} - {None}
    return found.pop() if len(found) == 1 else None


@axes.register(Neuron)
def _fired(op: Neuron, graph: Graph, node: Node, before: int | None) -> int | None:
    return (_contracted if op.coding else _kept)(op, graph, node, before)


def contracted(graph: Graph, value: str, reader: str) -> int | None:
    """Return the axis of a value (the batch is 0) over which a weighted reader sums, None where it weights nothing."""
    op, rank = graph.op(reader), len(graph.shapes[value])
    return rank - op.kernel().ndim + 3 if isinstance(op, Weighted) else None


@axes.register(Transpose)
def _transposed(op: Transpose, graph: Graph, node: Node, before: int | None) -> int | None:
    return None if before is None else op.order.index(before)


@axes.register(Mean, Reduction)
def _averaged(op: Mean | Reduction, graph: Graph, node: Node, before: int | None) -> int | None:
    if before is None or op.keep:
        return before
    return None if before in op.axes else before - sum(other < before for other in op.axes)


@axes.register(Reshape)
def _reshaped(op: Reshape, graph: Graph, node: Node, before: int | None) -> int | None:
    """Kept at its place, or flattened, where every feature is its own channel."""
    if before is None:
        return None
    given, after = graph.shapes[node.inputs[0]], graph.shapes[node.name]
    if len(after) == 1:
        return 1
    return before if after[:before] == given[:before] and len(after) >= before else None
