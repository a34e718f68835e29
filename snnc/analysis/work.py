"""How much work one evaluation of an operation is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from snnc.ir import Graph, Input, Node, Op
from snnc.neurons.base import Timed
from snnc.ops import (
    Activation,
    Add,
    Affine,
    ArgMax,
    BatchNorm,
    ConvTranspose,
    Embedding,
    Gathered,
    GridSample,
    MatMul,
    Mean,
    Normalization,
    Pointwise,
    Pool,
    Product,
    Quotient,
    Ranked,
    RankedPlaces,
    Reduction,
    Resample,
    Routing,
    Weighted,
)
from snnc.rules import Rules

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates, and additions or comparisons besides them, for one sample."""

    macs: int = 0
    additions: int = 0


# rule(op, before, after): by the shapes of the inputs and of the output, those of one sample.
work = Rules[Op, Work]("how much work is one evaluation")


def macs(graph: Graph) -> int:
    """Return the multiply-accumulates of one pass of a sample through a network."""
    return sum(work_of(graph, node).macs for node in graph.nodes.values())


def work_of(graph: Graph, node: Node) -> Work:
    """Return the work of one evaluation of a node."""
    return work(node.op, [graph.shapes[value] for value in node.inputs], graph.shapes[node.name])


@work.register(Weighted)
def _weighted(op: Weighted, before: Sequence[Shape], after: Shape) -> Work:
    return Work(math.prod(after) * math.prod(op.weight.shape[1:]), _biases(op, after))


@work.register(ConvTranspose)
def _transposed(op: ConvTranspose, before: Sequence[Shape], after: Shape) -> Work:
    return Work(math.prod(before[0]) * math.prod(op.weight.shape[1:]), _biases(op, after))


@work.register(BatchNorm)
def _normalization(op: BatchNorm, before: Sequence[Shape], after: Shape) -> Work:
    return Work(math.prod(after))


@work.register(Affine)
def _affine(op: Affine, before: Sequence[Shape], after: Shape) -> Work:
    """A shift behind a scale is the second half of a multiply-accumulate."""
    size = math.prod(after)
    return Work(additions=size if op.shift is not None else 0) if op.scale is None else Work(size)


@work.register(Add)
def _sum(op: Add, before: Sequence[Shape], after: Shape) -> Work:
    return Work(additions=(len(before) - 1) * math.prod(after))


@work.register(Pool)
def _pool(op: Pool, before: Sequence[Shape], after: Shape) -> Work:
    """The division of an average is part of the weights behind it."""
    return Work(additions=(math.prod(op.kernel) - 1) * math.prod(after))


@work.register(Mean)
def _mean(op: Mean, before: Sequence[Shape], after: Shape) -> Work:
    return Work(additions=math.prod(before[0]) - math.prod(after))


@work.register(MatMul)
def _products(op: MatMul, before: Sequence[Shape], after: Shape) -> Work:
    return Work(math.prod(after) * before[0][-1])


@work.register(Product, Quotient)
def _each_product(op: Product | Quotient, before: Sequence[Shape], after: Shape) -> Work:
    return Work(math.prod(after))


@work.register(Normalization)
def _statistics(op: Normalization, before: Sequence[Shape], after: Shape) -> Work:
    """Every number goes into the statistics, and is multiplied by what comes of them."""
    return Work(2 * math.prod(after))


@work.register(Reduction)
def _reduction(op: Reduction, before: Sequence[Shape], after: Shape) -> Work:
    """Every number is multiplied, or taken an exponential of, on its way into one of the results."""
    return Work(math.prod(before[0]))


@work.register(Ranked, RankedPlaces)
def _compared(op: Ranked | RankedPlaces, before: Sequence[Shape], after: Shape) -> Work:
    """Sorted by comparing each number with half of the rest, then with half of that."""
    length = before[0][op.axis - 1]
    return Work(additions=math.prod(before[0]) * max(math.ceil(math.log2(length)), 1))


@work.register(ArgMax)
def _compared_once(op: ArgMax, before: Sequence[Shape], after: Shape) -> Work:
    return Work(additions=math.prod(before[0]))


@work.register(GridSample)
def _interpolated(op: GridSample, before: Sequence[Shape], after: Shape) -> Work:
    """As many neighbors as the interpolation takes along each axis."""
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[op.mode] ** before[1][-1]
    return Work(math.prod(after) * taps)


@work.register(Resample)
def _weighted_sums(op: Resample, before: Sequence[Shape], after: Shape) -> Work:
    return Work(math.prod(after) * op.places.shape[1])


@work.register(Activation, Pointwise, Timed)
def _each(op: Op, before: Sequence[Shape], after: Shape) -> Work:
    """One comparison, one function, or one step of a membrane, for every element."""
    return Work(additions=math.prod(after))


@work.register(Embedding, Gathered, Input, Routing)
def _nothing(op: Op, before: Sequence[Shape], after: Shape) -> Work:
    return Work()


def _biases(op: Weighted, after: Shape) -> int:
    return 0 if op.bias is None else math.prod(after)
