"""Which axis of a value counts its channels."""

from torch import Tensor

from snnc.ir import Graph
from snnc.ops import BatchNorm, Conv, ConvTranspose, Linear, Reshape, Transpose


def channel_axis(graph: Graph, name: str) -> int | None:
    """Return the axis (the batch is 0) along which the value of ``name`` has channels, None where there is no such.

    It is set by the last weighted operation before, and follows transpositions.
    """
    node = graph.nodes[name]
    op = node.op
    if not node.inputs or isinstance(op, Conv | ConvTranspose | BatchNorm):
        return 1
    if isinstance(op, Linear):
        return len(graph.shapes[name])
    axis = channel_axis(graph, node.inputs[0])
    if axis is None:
        return None
    if isinstance(op, Transpose):
        return op.order.index(axis)
    if isinstance(op, Reshape):
        return _reshaped(graph.shapes[node.inputs[0]], graph.shapes[name], axis)
    return axis if len(graph.shapes[name]) == len(graph.shapes[node.inputs[0]]) else None


def per_channel(values: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """Shape ``[C]`` so that it broadcasts against one sample of the given shape along ``axis`` (batch is 0)."""
    return values.reshape([-1 if position == axis - 1 else 1 for position in range(len(shape))])


def _reshaped(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """Return where a channel axis goes: kept at its place, or flattened, where every feature is its own channel."""
    if len(after) == 1:
        return 1
    same = after[:axis] == before[:axis]
    return axis if same and len(after) >= axis else None
