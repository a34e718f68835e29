"""What every stateless operation obeys, as functions that raise AssertionError; the first line says what holds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from snnc.feeds import Feeds
from snnc.ir import Graph, Input, Node, Op
from snnc.laws.samples import normal
from snnc.run import Program
from snnc.schedule import Schedule

SampleShapes = Sequence[tuple[int, ...]]


def the_mean_output_is_the_operation_of_the_mean_input(op: Op, shapes: SampleShapes) -> None:
    """Run on trains, the mean output up to any step is the operation of the mean inputs up to that step."""
    op, signals = _double(op), _signals(shapes)
    for t, total in enumerate(cumulative(op, signals), 1):
        torch.testing.assert_close(total / t, op(*(signal.cumsum(0)[t - 1] / t for signal in signals)))


def asleep_it_comes_to_the_operation_of_the_mean_input(op: Op, shapes: SampleShapes) -> None:
    """What still comes in when the image is off counts as if it had come before: it is divided by the steps awake."""
    op, signals = _double(op), _signals(shapes)
    awake = len(signals[0]) - 2
    after = cumulative(op, signals, Schedule(awake, sleep=2))[-1] / awake
    torch.testing.assert_close(after, op(*(signal.sum(0) / awake for signal in signals)))


def numbers_give_numbers(op: Op, shapes: SampleShapes) -> None:
    """Silent inputs, and others of either sign that trains may lead to on their way, give finite numbers."""
    for factor in (0.0, 1e-30, 1.0, 8.0):
        given = op(*(normal(2, *shape, seed=seed) * factor for seed, shape in enumerate(shapes)))
        assert given.isfinite().all(), f"inputs of size {factor:g} give what is no number"


def a_linear_operation_commutes_with_the_mean(op: Op, shapes: SampleShapes) -> None:
    """What says that it is ``linear`` may be computed step by step: the mean of the steps is the same."""
    if op.linear:
        assert commutes(op, shapes), "the flag `linear` is wrong"


def it_changes_no_input_and_no_constant(op: Op, shapes: SampleShapes) -> None:
    """Called again with the same inputs it gives the same, and neither they nor its own tensors are changed."""
    inputs = [normal(3, *shape) for shape in shapes]
    kept = [x.clone() for x in inputs], {field: tensor.clone() for field, tensor in op.tensors().items()}
    first = op(*inputs)
    assert torch.equal(first, op(*inputs))
    assert all(map(torch.equal, inputs, kept[0])), "an input is overwritten"
    assert all(torch.equal(tensor, kept[1][field]) for field, tensor in op.tensors().items()), "it changes itself"


def samples_are_computed_alone(op: Op, shapes: SampleShapes) -> None:
    """A sample gives alone what it gives beside others, and a batch without samples one without samples."""
    op, inputs = _double(op), [normal(3, *shape).double() for shape in shapes]
    together = op(*inputs)
    assert len(together) == 3, "the first axis is not the batch"
    torch.testing.assert_close(torch.cat([op(*(x[[n]] for x in inputs)) for n in range(3)]), together)


def commutes(op: Op, shapes: SampleShapes) -> bool:
    """Return whether the mean over steps of what an operation gives is what it gives for the means."""
    op, signals = _double(op), _signals(shapes)
    stepwise = torch.stack([op(*step) for step in zip(*signals, strict=True)]).mean(0)
    return torch.allclose(stepwise, op(*(signal.mean(0) for signal in signals)))


def cumulative(op: Op, signals: Sequence[Tensor], schedule: Schedule | None = None) -> list[Tensor]:
    """Return the running sums of what a program answers, step by step, to trains fed to the inputs of an operation."""
    names = [f"x{index}" for index in range(len(signals))]
    nodes = [Node(name, Input(tuple(s.shape[2:])), ()) for name, s in zip(names, signals, strict=True)]
    graph = Graph.of([*nodes, Node("y", op, tuple(names))], ["y"])
    given = dict(zip(names, signals, strict=True))
    program = Program(graph, schedule or Schedule(len(signals[0])), want=["y"], given=given, trains=True)
    return list(program(Feeds({}), given=given)["y"].cumsum(0))


LAWS: tuple[Callable[[Op, SampleShapes], None], ...] = (
    the_mean_output_is_the_operation_of_the_mean_input,
    asleep_it_comes_to_the_operation_of_the_mean_input,
    numbers_give_numbers,
    a_linear_operation_commutes_with_the_mean,
    it_changes_no_input_and_no_constant,
    samples_are_computed_alone,
)


def _double(op: Op) -> Op:
    return op.map_tensors(lambda tensor: tensor.double())


def _signals(shapes: SampleShapes) -> list[Tensor]:
    return [normal(6, 2, *shape, seed=seed).double() for seed, shape in enumerate(shapes)]
