"""One value of all along some axes."""

import math
from collections.abc import Callable, Iterable

from snnc import ops
from snnc.frontend.expression import Apply, Call, Expression, Shape, chain, tensor
from snnc.frontend.operators import operators

# reduce(value, shape, axes, keep): the batch is axis 0 and no part of the shape.
Reduce = Callable[[Expression, Shape, tuple[int, ...], bool], Expression]


@operators.register("ReduceMean")
def reduce_mean(call: Call) -> Expression:
    """Read the mean over some axes; of integers, what is before the point."""
    mean = _reduced(call, _mean)
    return chain(mean, ops.Truncate()) if call.whole[:1] == (True,) else mean


@operators.register("ReduceSum")
def reduce_sum(call: Call) -> Expression:
    """Read the sum over some axes: the mean times their length."""
    return _reduced(call, total)


@operators.register("ReduceMax")
def reduce_max(call: Call) -> Expression:
    """Read the maximum over some axes as a pool."""
    return _reduced(call, _maximum)


@operators.register("ReduceMin")
def reduce_min(call: Call) -> Expression:
    """Read the minimum over some axes: the maximum of what is of the other sign."""
    return _reduced(call, lambda value, *along: chain(_maximum(chain(value, _NEGATIVE), *along), _NEGATIVE))


@operators.register("ReduceL1")
def reduce_absolute(call: Call) -> Expression:
    """Read the sum of absolute values: of both sides' rectifiers."""
    return _reduced(call, absolute_total, absolute)


@operators.register("ReduceL2")
def reduce_norm(call: Call) -> Expression:
    """Read the Euclidean norm over some axes."""
    return _reduced(call, _norm, absolute)


@operators.register("ReduceSumSquare")
def reduce_squares(call: Call) -> Expression:
    """Read the sum of squares over some axes."""
    return _reduced(call, lambda value, *along: total(_square(value), *along), _square)


@operators.register("ReduceLogSum")
def reduce_log_sum(call: Call) -> Expression:
    """Read the logarithm of the sum over some axes."""
    return _reduced(call, lambda value, *along: _logarithm(total(value, *along)), _logarithm)


@operators.register("ReduceLogSumExp")
def reduce_log_sum_exp(call: Call) -> Expression:
    """Read the logarithm of the sum of exponentials over some axes."""
    return _reduced(call, lambda value, shape, axes, keep: chain(value, ops.LogSumExp(axes, keep)))


@operators.register("ReduceProd")
def reduce_product(call: Call) -> Expression:
    """Read the product over some axes."""
    return _reduced(call, lambda value, shape, axes, keep: chain(value, ops.TotalProduct(axes, keep)))


def maximum(call: Call, axes: Iterable[int], *, keep: bool) -> Expression:
    """Return the maximum of the first input over axes of the file."""
    return _along(call, tuple(axes), keep, _maximum)


def total(value: Expression, shape: Shape, axes: tuple[int, ...], keep: bool) -> Expression:
    """Return the sum of a value of this shape over some axes: their mean times how many there are."""
    count = math.prod(shape[axis - 1] for axis in axes)
    summed = chain(value, ops.Mean(axes, keep))
    return chain(summed, ops.Affine(tensor(float(count)), None)) if count != 1 else summed


def _reduced(call: Call, reduce: Reduce, each: Callable[[Expression], Expression] = lambda value: value) -> Expression:
    """Read a reduction; one over no axes at all does to each value what it did to a single one."""
    given = call.listed("axes", 1, ())
    if not given and call.integer("noop_with_empty_axes", 0):
        return each(call.framed(())[0])
    axes = {call.axis(axis) for axis in given} or set(range(len(call.shape())))
    return _along(call, tuple(sorted(axes)), bool(call.integer("keepdims", 1)), reduce)


def _along(call: Call, axes: tuple[int, ...], keep: bool, reduce: Reduce) -> Expression:
    if call.shape()[:1] == (1,) and len(axes) > 1 and axes[0] == 0:
        operand = call.framed(())[0]
        return call.settled(reduce(operand, operand.shape, axes[1:], True))
    operand, offset = call.framed(axes)
    value = reduce(operand, operand.shape, tuple(axis + offset for axis in axes), keep)
    return call.framed_result(value, offset)


def _mean(value: Expression, shape: Shape, axes: tuple[int, ...], keep: bool) -> Expression:
    return chain(value, ops.Mean(axes, keep))


def _maximum(value: Expression, shape: Shape, axes: tuple[int, ...], keep: bool) -> Expression:
    """Build a max-pool, over the last one to three axes as they lie, over others in one row."""
    rank, count = len(shape), len(axes)
    if keep and count in (1, 2, 3) and axes == tuple(range(2, rank + 1)):
        return chain(value, ops.MaxPool(shape[1:], (1,) * count, (0,) * 2 * count, (1,) * count))
    rest = tuple(axis for axis in range(1, rank + 1) if axis not in axes)
    row = math.prod(shape[axis - 1] for axis in axes)
    kept = tuple(1 if axis in axes else shape[axis - 1] for axis in range(1, rank + 1) if keep or axis not in axes)
    moved = chain(value, ops.Transpose((0, *rest, *axes))) if rest + axes != tuple(range(1, rank + 1)) else value
    rows = ops.Reshape((math.prod(shape[axis - 1] for axis in rest), row))
    return chain(moved, rows, ops.MaxPool((row,), (1,), (0, 0), (1,)), ops.Reshape(kept))


def _norm(value: Expression, shape: Shape, axes: tuple[int, ...], keep: bool) -> Expression:
    return chain(value, ops.EuclideanNorm(axes, keep))


def absolute_total(value: Expression, shape: Shape, axes: tuple[int, ...], keep: bool) -> Expression:
    """Return the sum of absolute values over some axes."""
    return total(absolute(value), shape, axes, keep)


def absolute(value: Expression) -> Expression:
    """Return the absolute value: the sum of the rectifiers of both sides."""
    return Apply(ops.Add(), (chain(value, ops.Relu()), chain(value, _NEGATIVE, ops.Relu())))


def _logarithm(value: Expression) -> Expression:
    return chain(value, ops.Log())


def _square(value: Expression) -> Expression:
    return Apply(ops.Product(), (value, value))


_NEGATIVE = ops.Affine(tensor(-1.0), None)
