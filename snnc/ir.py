"""The one representation: an immutable graph of typed operations."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar, Literal, Self, TypeVar, final

import torch
from torch import Tensor

from snnc.registry import Registry

# How much of a mask is on where it is drawn.
_MASKED_IN = 0.75
# Single precision tells no more whole numbers apart.
_MOST_UNITS = 1 << 24

OpKind = TypeVar("OpKind", bound="Op")
Kind = TypeVar("Kind", bound="type[Op]")


def whole(x: Tensor, unit: Tensor | float) -> Tensor:
    """Return the nearest whole numbers of a unit: half of one is rounded up, as exported files do it, too."""
    return (x / unit).add_(0.5).floor_()


class Op(ABC):
    """One stateless operation on tensors ``[N, ...]``; a frozen dataclass whose fields are all there is to it.

    ``linear`` says that the operation is affine in its inputs taken together, so that it commutes with the mean
    over time. Those that are not are lifted to spike trains by temporal differences (see ``snnc.run``). ``unbounded``
    are the tensors that may hold infinities.
    """

    linear: ClassVar[bool] = True
    unbounded: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Compute the output from inputs whose first axis is the batch."""

    def shaped(self, *inputs: Tensor) -> Tensor:
        """Return a tensor of the output's shape, where all tensors are without numbers."""
        return self(*inputs)

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return this operation with ``function`` applied to every tensor field."""
        return self.with_tensors({name: function(tensor) for name, tensor in self.tensors().items()})

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """Return this operation with other tensors in some of its fields."""
        return dataclasses.replace(self, **tensors) if tensors else self  # type: ignore[type-var]

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are tensors, by name."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


# Every operation that a network may be of, neurons too, by the name of its class, which files use.
operations: Registry[type[Op]] = Registry("operation", "snnc.ops", "snnc.neurons", base=Op)


def operation(kind: Kind) -> Kind:
    """Enter a class of operations, which files will name; raises ValueError where the name is taken."""
    return operations.register(kind.__name__)(kind)


@final
@operation
@dataclass(frozen=True, eq=False)
class Input(Op):
    """Where a network's input enters: ``shape`` is that of one sample, and ``numbers`` what it is made of.

    Pixels are 0 to 255, integers below ``below``, which is the length of the shortest list that they are places in; 0
    where that is not known, as of masks. What enters is rounded to whole numbers of a ``unit`` and cut off at ``most``
    of them, or taken as it is where there is none. Called with nothing, it is one blank sample.
    """

    shape: tuple[int, ...]
    numbers: Literal["real", "pixel", "integer"] = "real"
    below: int = 0
    unit: float | None = None
    most: int = 0

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < 0:
            raise ValueError(f"an input of shape {list(self.shape)}")
        if self.below < 0:
            raise ValueError(f"an input of whole numbers below {self.below}")
        number = torch.finfo(torch.float32)
        if self.unit is not None and not (number.tiny <= self.unit <= number.max and 0 < self.most <= _MOST_UNITS):
            raise ValueError(f"an input of up to {self.most} units of {self.unit}")

    def entered(self, x: Tensor) -> Tensor:
        """Return what the network computes with in the place of what it is given."""
        return x if self.unit is None else whole(x, self.unit).clamp_(-self.most, self.most).mul_(self.unit)

    def __call__(self, *inputs: Tensor) -> Tensor:
        () = inputs
        return torch.zeros(1, *self.shape)

    def drawn(self, samples: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw random samples ``[N, ...]``: normal ones, whole numbers in range, or masks with their first entry on."""
        size = (samples, *self.shape)
        if self.numbers == "real":
            return torch.randn(*size, generator=generator, dtype=dtype)
        if self.numbers == "pixel" or self.below:
            return torch.randint(self.below or 256, size, generator=generator).to(dtype)
        mask = (torch.rand(*size, generator=generator) < _MASKED_IN).to(dtype)
        mask[..., :1] = 1
        return mask


@final
@dataclass(frozen=True, eq=False)
class Node:
    """A named operation. ``source`` are the operations of the user's file that it stands for, by their names there.

    ``output`` is what the file calls its value where that is an output of the network, and "" elsewhere.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    source: tuple[str, ...] = ()
    output: str = ""

    @property
    def place(self) -> str:
        """What messages call it: the last of the operations that it stands for, or its own name."""
        return self.source[-1] if self.source else self.name


@final
@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A network: nodes in topological order. ``inputs`` name ``Input`` nodes, ``outputs`` any nodes.

    Nothing in it changes: ``with_ops``, ``without`` and ``map_tensors`` return other graphs, which share what stays.
    ``graph.ops(kind)`` are the operations of one kind by the name of their node (``from snnc.ops import Conv``),
    ``graph.shapes`` the shapes of all values, and ``Program`` computes them (``from snnc.run import Program``).

    Raises ValueError when a name is missing, used twice or used before it is computed: an invalid graph
    cannot be built.
    """

    nodes: Mapping[str, Node]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for name, node in self.nodes.items():
            if name != node.name:
                raise ValueError(f"node {node.name!r} is filed under {name!r}")
            for value in node.inputs:
                if value not in seen:
                    raise ValueError(f"node {name!r} uses {value!r} before it is computed")
            seen.add(name)
        if not self.outputs:
            raise ValueError("a graph needs an output")
        for name in self.outputs:
            if name not in seen:
                raise ValueError(f"output {name!r} is not computed")
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))

    def __repr__(self) -> str:
        return f"<Graph of {len(self.nodes)} nodes: {', '.join(self.inputs)} -> {', '.join(self.outputs)}>"

    def __reduce__(self) -> tuple[type[Graph], tuple[dict[str, Node], tuple[str, ...]]]:
        # The view of the nodes that forbids changes can be neither copied nor pickled.
        return Graph, (dict(self.nodes), self.outputs)

    @classmethod
    def of(cls, nodes: Iterable[Node], outputs: Iterable[str]) -> Graph:
        """Build a graph from nodes in topological order; raises ValueError on a name used twice."""
        filed: dict[str, Node] = {}
        for node in nodes:
            if node.name in filed:
                raise ValueError(f"two nodes are called {node.name!r}")
            filed[node.name] = node
        return cls(filed, tuple(outputs))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The names of the nodes that take the network's inputs."""
        return tuple(self.ops(Input))

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """For every node the names of the nodes that read it, in topological order."""
        readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for value in dict.fromkeys(node.inputs):
                readers[value].append(node.name)
        return {name: tuple(values) for name, values in readers.items()}

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """For every input the shape of one sample."""
        return {name: self.shapes[name] for name in self.inputs}

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the user's file calls the outputs, or else the names of their nodes."""
        return tuple(self.nodes[name].output or name for name in self.outputs)

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """For every output the shape of that of one sample."""
        return tuple(self.shapes[name] for name in self.outputs)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """For every node the shape of its output without the batch axis, found by running one blank sample.

        Raises ValueError that names the node whose operation does not fit its inputs.
        """
        values: dict[str, Tensor] = {}
        # The blank sample is of the precision, and on the device, of the network's own numbers.
        numbers = (tensor for node in self.nodes.values() for tensor in node.op.tensors().values())
        like = next(numbers, torch.empty(0))
        with torch.no_grad():
            for name, node in self.nodes.items():
                try:
                    values[name] = node.op(*(values[value] for value in node.inputs)).to(like)
                except (RuntimeError, IndexError, ValueError, TypeError, ArithmeticError) as error:
                    reason = str(error).splitlines()[0]
                    raise ValueError(f"node {name!r} does not fit its inputs: {reason}") from error
                _check_samples(name, values[name], 1)
        return {name: tuple(value.shape[1:]) for name, value in values.items()}

    def size(self) -> int:
        """Return how many numbers the values of one sample are, worked out without computing them.

        Raises ValueError that names the node whose operation does not fit its inputs.
        """
        total, values = 0, dict[str, Tensor]()
        with torch.no_grad():
            for name, node in self.nodes.items():
                inputs = [values[value] for value in node.inputs]
                try:
                    values[name] = _unseen(node.op, inputs)
                except (RuntimeError, IndexError, ValueError, TypeError, ArithmeticError) as error:
                    reason = str(error).splitlines()[0]
                    raise ValueError(f"node {name!r} does not fit its inputs: {reason}") from error
                _check_samples(name, values[name], 2)
                total += values[name][0].numel()
        return total

    @cached_property
    def tensor_names(self) -> Mapping[tuple[str, str], str]:
        """For every node and field that is a tensor a name, ``NODE:FIELD`` of the first that is this very tensor."""
        names: dict[int, str] = {}
        return {
            (name, field): names.setdefault(id(tensor), f"{name}:{field}")
            for name, node in self.nodes.items()
            for field, tensor in node.op.tensors().items()
        }

    def op(self, name: str) -> Op:
        """Return the operation of the node called ``name``."""
        return self.nodes[name].op

    def ops(self, kind: type[OpKind] | tuple[type[OpKind], ...]) -> dict[str, OpKind]:
        """Return the operations of one kind by node name, in topological order."""
        if kind not in self._by_kind:
            self._by_kind[kind] = {name: node.op for name, node in self.nodes.items() if isinstance(node.op, kind)}
        return {**self._by_kind[kind]}  # type: ignore[dict-item]

    @cached_property
    def _by_kind(self) -> dict[object, dict[str, Op]]:
        """What was asked for before: many passes ask for a kind once for each of thousands of nodes."""
        return {}

    def with_ops(self, ops: Mapping[str, Op]) -> Graph:
        """Return the graph with the operations of some nodes replaced; every other node is shared."""
        unknown = set(ops) - set(self.nodes)
        if unknown:
            raise ValueError(f"no node is called {sorted(unknown)[0]!r}")
        changed = {n for n, op in ops.items() if op is not self.nodes[n].op}
        nodes = {n: dataclasses.replace(node, op=ops[n]) if n in changed else node for n, node in self.nodes.items()}
        return Graph(nodes, self.outputs)

    def without(self, name: str) -> Graph:
        """Return the graph with a one-input node removed and its readers wired to its input."""
        (value,) = self.nodes[name].inputs
        nodes = {n: rewired(node, {name: value}) for n, node in self.nodes.items() if n != name}
        if self.nodes[name].output:
            nodes[value] = dataclasses.replace(nodes[value], output=self.nodes[name].output)
        return Graph.of(nodes.values(), (value if output == name else output for output in self.outputs)).without_dead()

    def without_dead(self) -> Graph:
        """Return the graph without the nodes that no output needs (inputs are kept)."""
        needed = self.ancestors(self.outputs) | set(self.inputs)
        return Graph({n: node for n, node in self.nodes.items() if n in needed}, self.outputs)

    def ancestors(self, names: Iterable[str], stop: Iterable[str] = ()) -> set[str]:
        """Return ``names`` and all they are computed from, not looking behind the nodes in ``stop``."""
        found: set[str] = set()
        barrier = set(stop)
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                if name not in barrier:
                    waiting.extend(self.nodes[name].inputs)
        return found

    def unused(self, wanted: str) -> str:
        """Return a name that no node has, ``wanted`` itself where it is free."""
        while wanted in self.nodes:
            wanted += "_"
        return wanted

    def changes(self, before: Graph) -> dict[str, tuple[Op | None, Op | None]]:
        """Return (old, new) for every node whose operation is not the very same object as in ``before``."""
        names = dict.fromkeys([*before.nodes, *self.nodes])
        pairs = {n: (_op(before, n), _op(self, n)) for n in names}
        return {n: (old, new) for n, (old, new) in pairs.items() if old is not new}

    def shared(self) -> Graph:
        """Return the graph with one tensor wherever several have the same content, as a file holds them."""
        every = {id(tensor): tensor for node in self.nodes.values() for tensor in node.op.tensors().values()}
        alike = Counter((tensor.dtype, tensor.shape) for tensor in every.values())
        found: dict[tuple[torch.dtype, torch.Size, bytes], Tensor] = {}

        def first(tensor: Tensor) -> Tensor:
            if alike[tensor.dtype, tensor.shape] == 1:
                return tensor
            numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            return found.setdefault((tensor.dtype, tensor.shape, hashlib.sha256(numbers.data).digest()), tensor)

        return self.map_tensors(first)

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Graph:
        """Return the graph with ``function`` applied once to every tensor: to double precision, to a device."""
        found: dict[int, Tensor] = {}

        def once(tensor: Tensor) -> Tensor:
            if id(tensor) not in found:
                found[id(tensor)] = function(tensor)
            return found[id(tensor)]

        tensors = {name: node.op.tensors() for name, node in self.nodes.items()}
        changed = {
            name for name, fields in tensors.items() if any(once(tensor) is not tensor for tensor in fields.values())
        }
        return self.with_ops({name: self.nodes[name].op.map_tensors(once) for name in changed})


def _unseen(op: Op, inputs: list[Tensor]) -> Tensor:
    """Return a value of two samples of which only the shape is there; ``inputs`` are such, too."""
    if isinstance(op, Input):
        return torch.empty(2, *op.shape, device="meta")
    # Made without its constructor, which looks at numbers.
    light = object.__new__(type(op))
    for field in dataclasses.fields(op):  # type: ignore[arg-type]
        value = getattr(op, field.name)
        object.__setattr__(light, field.name, value.to("meta") if isinstance(value, Tensor) else value)
    return light.shaped(*inputs)


def _check_samples(name: str, value: Tensor, samples: int) -> None:
    """Raise ValueError where a value is not of as many samples as went in."""
    if value.shape[:1] != (samples,):
        raise ValueError(f"node {name!r} makes other samples of its inputs: {[*value.shape]}")


def broadcast(first: Tensor, *others: Tensor) -> Tensor:
    """Return a tensor like the first, of the shape that all broadcast to; it is not computed.

    Asked to add or multiply what has no numbers, torch loads its compiler, which takes longer than to read a network.
    Raises RuntimeError where they do not broadcast.
    """
    shape = torch.broadcast_shapes(first.shape, *(other.shape for other in others))  # type: ignore[no-untyped-call]
    return first.new_empty(shape)


def rewired(node: Node, names: Mapping[str, str]) -> Node:
    """Return the node with some of its inputs renamed."""
    if not any(value in names for value in node.inputs):
        return node
    return dataclasses.replace(node, inputs=tuple(names.get(value, value) for value in node.inputs))


def _op(graph: Graph, name: str) -> Op | None:
    node = graph.nodes.get(name)
    return node.op if node else None
