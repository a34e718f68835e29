"""Put max-pooling where it is right for spikes.

Pooling spikes step by step is silently wrong. Here max-pooling works on what has accumulated (``snnc.run`` lifts it
to lateral-inhibition pooling), so it is right anywhere; before the neuron it is also cheap, because
max(ReLU(z)) = ReLU(max(z)) and then fewer neurons fire, and the next layer is fed by spikes.
"""

from dataclasses import dataclass
from typing import Literal, final

from snnc.analysis.channels import channel_axis
from snnc.calibration import Calibration
from snnc.ir import Graph, Node
from snnc.ops import Activation, AveragePool, Concat, MaxPool
from snnc.passes.base import Pass, passes


@final
@passes.register("treat-max-pool")
@dataclass(frozen=True)
class TreatMaxPool(Pass):
    """Move max-pooling before the activation, leave it (on spikes, with lateral inhibition), or average instead.

    ``method`` says which; ``average`` changes the network and is meant for fine-tuning afterward. What of its windows
    lies beyond the ``border`` is left out of the mean or, for what knows no such mean, counts as zeros.
    """

    method: Literal["before-activation", "lateral-inhibition", "average"] = "before-activation"
    border: Literal["left-out", "zeros"] = "left-out"

    @property
    def exact(self) -> bool:
        return self.method != "average"

    def alters(self, graph: Graph) -> str:
        pools = len(graph.ops(MaxPool))
        several = f"average pools in the place of {pools} max-pools"
        return "" if self.exact or not pools else several if pools > 1 else "an average pool in the place of a max-pool"

    def __call__(self, graph: Graph, calibration: Calibration) -> Graph:
        if self.method == "average":
            return graph.with_ops({name: self._average(pool) for name, pool in graph.ops(MaxPool).items()})
        if self.method == "before-activation":
            # Every move brings a pool closer to the input, and may free another one to move.
            while (name := _movable(graph)) is not None:
                graph = _move(graph, name)
        return graph

    def _average(self, pool: MaxPool) -> AveragePool:
        kernel = tuple(1 + (size - 1) * step for size, step in zip(pool.kernel, pool.dilation, strict=True))
        none = (0,) * len(pool.padding)
        around = (none, pool.padding) if self.border == "left-out" else (pool.padding, none)
        return AveragePool(kernel, pool.stride, *around)


def _movable(graph: Graph) -> str | None:
    """Return a max-pool right behind an activation, or behind a concatenation of such along the channels."""
    for name in graph.ops(MaxPool):
        (before,) = graph.nodes[name].inputs
        if _movable_over(graph, before):
            return name
        joined = graph.ops(Concat).get(before)
        if joined is not None and joined.axis == channel_axis(graph, before) == 1:
            parts = graph.nodes[before].inputs
            over = {value for value in parts if _movable_over(graph, value)}
            if over and set(parts) - over <= set(graph.ops((MaxPool, Concat))):
                return name
    return None


def _movable_over(graph: Graph, name: str) -> bool:
    """Return whether a value is that of an activation that rises and is the same at every position."""
    op = graph.ops(Activation).get(name)
    if op is None:
        return False
    axes = len(graph.shapes[name]) - 1
    alike = all(size == 1 for tensor in op.tensors().values() for size in tensor.shape[-axes:])
    # A negative slope would turn the order around.
    slope = op.tensors().get("slope")
    return alike and (slope is None or bool((slope >= 0).all()))


def _move(graph: Graph, name: str) -> Graph:
    """Exchange a max-pool with what is before it; the value of ``name`` stays the same."""
    pool = graph.nodes[name]
    before = graph.nodes[pool.inputs[0]]
    nodes: list[Node] = []
    for node in graph.nodes.values():
        if node.name != name:
            nodes.append(node)
            continue
        parts = []
        for position, value in enumerate(before.inputs):
            part = f"{name}_{'current' if len(before.inputs) == 1 else position}"
            while part in graph.nodes:
                part += "_"
            nodes.append(Node(part, pool.op, (value,), pool.source))
            parts.append(part)
        nodes.append(Node(name, before.op, tuple(parts), before.source or pool.source, pool.output))
    return Graph.of(nodes, graph.outputs).without_dead()
