"""From a spiking network to the nodes of a file: what whole trains and single steps have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from onnx import ModelProto

from snnc.formats.onnx.file import BATCH, Array, Axis, File, Operation, Operations
from snnc.formats.onnx.neurons import Form, written
from snnc.formats.onnx.operations import floated, spelled
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron
from snnc.neurons.temporal_bias import TemporalBias
from snnc.rules import UnansweredError
from snnc.schedule import Schedule

# Functions in files need at least 15, and everything that runs them has this one.
OPSET = 17


@dataclass(frozen=True, eq=False)
class SpikingFile:
    """A spiking network as an ONNX file, and the names of values in it.

    By the names of the neurons: ``trains`` holds their spikes step by step, ``means`` their mean output over time, and
    ``draws`` their random numbers. ``timesteps`` is the input that says for how long ("" where nothing depends on it),
    and ``states`` are inputs and the outputs that follow them at the next step. ``certain`` is the output that says
    whether an answer stands before the end.
    """

    model: ModelProto
    timesteps: str
    trains: Mapping[str, str]
    means: Mapping[str, str] = field(default_factory=dict)
    draws: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    certain: str = ""


class Lowering(ABC):
    """A network as it is written, node by node; alive for one export.

    A value is held, the same at every step with the image on (``[N, ...]``), or it moves. Held is also the mean of what
    moves, where nobody behind asks for the order of the steps. Inputs ``over_time`` are others at every step.
    """

    def __init__(self, graph: Graph, schedule: Schedule, over_time: Collection[str] = ()) -> None:
        self.graph = graph.without_dead().map_tensors(lambda tensor: tensor.detach().cpu().float())
        self.schedule = schedule
        # Whether steps differ in how much of the image and of the biases they carry.
        self.uneven = bool(schedule.sleep or schedule.shares)
        self._over_time = over_time
        self.file = File(self.graph.nodes)
        self.timesteps = self.file.named("timesteps")
        # The values of nodes: every node has one or the other. Besides, those that were set in motion.
        self.held: dict[str, str] = {}
        self.moving: dict[str, str] = {}
        self._set_in_motion: dict[str, str] = {}
        self.spikes: dict[str, str] = {}

    @final
    def write(self) -> None:
        """Write all nodes."""
        for node in self.graph.nodes.values():
            if isinstance(node.op, Input):
                entered = self.file.entered(node.name, node.op)
                (self.moving if node.name in self._over_time else self.held)[node.name] = entered
            elif isinstance(node.op, Neuron):
                self.write_neuron(node, form(node))
            elif isinstance(node.op, TemporalBias):
                self.write_moving(node, [self.moved(node.inputs[0])], [self.temporal_bias(node.op, node)])
            else:
                self._write_stateless(node)

    @abstractmethod
    def write_neuron(self, node: Node, form: Form) -> None:
        """Write a neuron."""

    @abstractmethod
    def write_held(self, node: Node, operations: Operations) -> None:
        """Write a node whose inputs are held."""

    @abstractmethod
    def write_moving(self, node: Node, inputs: Sequence[str], operations: Operations) -> None:
        """Write a node whose inputs move."""

    @abstractmethod
    def direct_coding(self, shape: Sequence[int]) -> Operations:
        """Return what sets a held value of one shape in motion: on with the image, off in sleep."""

    @abstractmethod
    def temporal_bias(self, op: TemporalBias, node: Node) -> Operation:
        """Return the addition of a bias for every step."""

    @abstractmethod
    def silence(self, bias: Array) -> Operation:
        """Return the removal of a bias in sleep."""

    @abstractmethod
    def running_mean(self, shape: Sequence[int]) -> Operation:
        """Return the mean of the steps until now."""

    @abstractmethod
    def temporal_difference(self, shape: Sequence[int]) -> Operation:
        """Return what a running mean has gained since the step before."""

    @property
    @abstractmethod
    def axes(self) -> Sequence[Axis]:
        """The first axes of what moves."""

    @final
    def moved(self, name: str) -> str:
        """Return the moving value of a node, setting it in motion where it is held."""
        if name in self.moving:
            return self.moving[name]
        if name not in self._set_in_motion:
            held, operations = self.held[name], self.direct_coding(self.graph.shapes[name])
            # Where nothing is to be done, what is held moves as it is.
            taken = held == name or name in self.graph.inputs
            moved = held if not operations else self.file.named(f"{name}/train") if taken else name
            if operations:
                self.file.write([held], operations, moved)
                self.shaped(moved, name)
            self._set_in_motion[name] = moved
        return self._set_in_motion[name]

    @final
    def forms(self) -> list[Form]:
        """Return what the neurons are written as."""
        return [form(self.graph.nodes[name]) for name in self.graph.ops(Neuron)]

    @final
    def shaped(self, value: str, name: str, *, held: bool = False) -> None:
        """State that a value has the shape of a node's."""
        self.file.shaped(value, [*([BATCH] if held else self.axes), *self.graph.shapes[name]])

    def _write_stateless(self, node: Node) -> None:
        operations = spelled(self.graph, node, OPSET)
        shapes = [self.graph.shapes[value] for value in node.inputs]
        if all(value in self.held for value in node.inputs):
            self.write_held(node, operations)
            return
        inputs = [self.moved(value) for value in node.inputs]
        if not node.op.linear:
            inputs = [self._averaged(node, value, name) for value, name in zip(inputs, node.inputs, strict=True)]
            operations = [*operations, self.temporal_difference(self.graph.shapes[node.name])]
        elif self.uneven:
            constant = node.op(*(torch.zeros(1, *shape) for shape in shapes))[0]
            if constant.any():
                operations = [*operations, self.silence(floated(_condensed(constant)))]
        self.write_moving(node, inputs, operations)

    def _averaged(self, node: Node, value: str, name: str) -> str:
        averaged = self.file.named(f"{node.name}/mean")
        self.file.write([value], [self.running_mean(self.graph.shapes[name])], averaged, node.name)
        self.shaped(averaged, name)
        return averaged


def aligned(op: TemporalBias, shape: Sequence[int]) -> Array:
    """Return the biases of all steps, ``[steps, 1, ...]``: each of as many axes as a batch of samples of this shape."""
    ones = (1,) * (len(shape) + 2 - op.shift.ndim)
    return floated(op.shift.reshape(len(op.shift), *ones, *op.shift.shape[1:]))


def _condensed(constant: torch.Tensor) -> torch.Tensor:
    """Return a tensor with one entry only along every axis along which all are equal."""
    for axis in range(constant.ndim):
        first = constant.narrow(axis, 0, 1)
        constant = first if bool((constant == first).all()) else constant
    return constant


def form(node: Node) -> Form:
    """Return what a neuron is written as; raises ModelError that names it where that is nothing."""
    assert isinstance(node.op, Neuron)
    try:
        return written(node.op)
    except UnansweredError as refusal:
        raise refusal.at(node.name) from None
