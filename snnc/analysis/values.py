"""What kind of value every node of a graph has (METHODS 6).

constant   computed from the input by any operations, with no neuron before it
spikes     a neuron's output, also moved, scaled, averaged, summed with other spikes, or the largest of a window
current    affine in spikes, behind weights or together with what is constant
lifted     not affine in what moves: a non-affine operation with a neuron or another lifted value before it
"""

from collections.abc import Sequence
from enum import IntEnum

from snnc.ir import Graph, Input, Op
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.ops import (
    Activation,
    Add,
    Affine,
    AveragePool,
    BatchNorm,
    MaxPool,
    Mean,
    Nonlinear,
    Resample,
    Routing,
    Weighted,
)
from snnc.rules import Rules


class Kind(IntEnum):
    """The kind of a value; what is made of several is of the latest kind among them, or later."""

    CONSTANT = 0
    SPIKES = 1
    CURRENT = 2
    LIFTED = 3


# rule(op, inputs): the kind of a value from those that it is computed from.
value_kind = Rules[Op, Kind]("what kind of value comes out")


def value_kinds(graph: Graph) -> dict[str, Kind]:
    """Return the kind of the value of every node."""
    found: dict[str, Kind] = {}
    for name, node in graph.nodes.items():
        found[name] = value_kind(node.op, [found[value] for value in node.inputs])
    return found


@value_kind.register(Input)
def _constant(op: Input, inputs: Sequence[Kind]) -> Kind:
    return Kind.CONSTANT


@value_kind.register(Neuron)
def _spikes(op: Neuron, inputs: Sequence[Kind]) -> Kind:
    return Kind.SPIKES


@value_kind.register(Add, Affine, AveragePool, BatchNorm, Mean, Resample, Routing)
def _together(op: Op, inputs: Sequence[Kind]) -> Kind:
    """Spikes stay spikes: what scales or shifts them is part of the weights and biases of whoever reads them.

    Beside what is constant they are no longer nothing but spikes.
    """
    return Kind.CURRENT if {*inputs} == {Kind.CONSTANT, Kind.SPIKES} else max(inputs)


@value_kind.register(Weighted)
def _weighted(op: Weighted, inputs: Sequence[Kind]) -> Kind:
    return max(inputs[0], Kind.CURRENT) if any(inputs) else Kind.CONSTANT


@value_kind.register(TemporalBias)
def _moving(op: TemporalBias, inputs: Sequence[Kind]) -> Kind:
    return max(inputs[0], Kind.CURRENT)


@value_kind.register(MaxPool)
def _largest(op: MaxPool, inputs: Sequence[Kind]) -> Kind:
    """By lateral inhibition, one spike of a window passes."""
    return inputs[0] if inputs[0] <= Kind.SPIKES else Kind.LIFTED


@value_kind.register(Activation, Nonlinear)
def _lifted(op: Op, inputs: Sequence[Kind]) -> Kind:
    return Kind.LIFTED if any(inputs) else Kind.CONSTANT
