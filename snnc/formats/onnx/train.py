"""A spiking network as one ONNX file for any number of time steps: images in, mean outputs over time out.

Trains are folded, time into the batch: ``[S·N, ...]``, so that stateless layers are what they are without time. S is
the number of all steps, those of rehearsal and of sleep among them, which are constants of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from onnx import TensorProto, numpy_helper

from snnc.formats.onnx.file import BATCH, Array, Axis, Operation, Operations, entry, value
from snnc.formats.onnx.lowering import OPSET, Lowering, SpikingFile, aligned
from snnc.formats.onnx.neurons import Form, Recurrence
from snnc.formats.onnx.operations import floated
from snnc.formats.onnx.train_functions import neuron_functions, time_functions
from snnc.ir import Graph, Input, Node
from snnc.neurons.temporal_bias import TemporalBias
from snnc.run import Program
from snnc.schedule import Schedule

# The first axis of a train, and of random numbers.
_STEPS, _AWAKE = "steps_batch", "timesteps"

_ABOUT = (
    "A spiking network, written by snnc. It takes images and gives the mean outputs over time; timesteps is how long "
    "it runs for. Nodes of the domain snnc are functions of standard operations, which this file holds."
)


def train_model(graph: Graph, schedule: Schedule, properties: dict[str, str]) -> SpikingFile:
    """Write a spiking network; the time steps of the schedule are only what the file runs for when it is not told.

    Raises ModelError that names the node for an operation that nobody has written for ONNX.
    """
    lowering = _Trains(graph, schedule)
    lowering.write()
    return lowering.finished(properties)


@final
class _Trains(Lowering):
    def __init__(self, graph: Graph, schedule: Schedule) -> None:
        super().__init__(graph, schedule)
        self._order_free = Program(self.graph, self.schedule).order_free
        self._averages: dict[str, str] = {}
        self._means: dict[str, str] = {}
        self._draws: dict[str, str] = {}

    @property
    def axes(self) -> Sequence[Axis]:
        return [_STEPS]

    def finished(self, properties: dict[str, str]) -> SpikingFile:
        shapes = self.graph.shapes
        inputs = [entry(name, op) for name, op in self.graph.ops(Input).items()]
        outputs = [value(self._averaged_over_time(name), [BATCH, *shapes[name]]) for name in self.graph.outputs]
        timed = self.file.reads(self.timesteps)
        if timed:
            inputs.append(value(self.timesteps, [], TensorProto.INT64))
            default = np.array(self.schedule.timesteps, np.int64)
            self.file.constants.append(numpy_helper.from_array(default, self.timesteps))
        model = self.file.model(
            inputs,
            outputs,
            opset=OPSET,
            functions=[
                *time_functions(self.schedule),
                *(f for found in self.forms() for f in neuron_functions(found, self.schedule)),
            ],
            about=f"{_ABOUT} {self.schedule.rehearsal} steps of rehearsal come before, {self.schedule.sleep} of sleep "
            "after: these are constants of the function Schedule.",
            properties=properties,
        )
        return SpikingFile(model, self.timesteps if timed else "", self.spikes, self._means, self._draws)

    def write_neuron(self, node: Node, form: Form) -> None:
        (current,) = node.inputs
        constants = {name: floated(tensor) for name, tensor in form.constants.items()}
        if isinstance(form, Recurrence):
            starts = {f"start_{name}": floated(tensor) for name, tensor in form.starts.items()}
            spikes = self._named(node, trains=True)
            operation = self._local(form.name, {**constants, **starts})
            self.file.write([self.moved(current)], [operation], spikes, node.name)
            self.spikes[node.name] = spikes
            self._keep(node, spikes)
            return
        gathered = self._averaged_over_time(current)
        draws = [self._drawn(node, gathered)] if form.random else []
        ordered = node.name not in self._order_free
        spikes = self._named(node, trains=ordered)
        operation = self._local(f"{form.name}{'Train' if ordered else ''}", constants)
        self.file.write([gathered, *draws], [operation], spikes, node.name)
        if ordered:
            self.spikes[node.name] = spikes
            self._keep(node, spikes)
        else:
            self._means[node.name] = self.held[node.name] = spikes
            self.shaped(spikes, node.name, held=True)

    def write_held(self, node: Node, operations: Operations) -> None:
        self.file.write([self.held[value] for value in node.inputs], operations, node.name)
        self.held[node.name] = node.name
        self.shaped(node.name, node.name, held=True)

    def write_moving(self, node: Node, inputs: Sequence[str], operations: Operations) -> None:
        train = self._named(node, trains=True)
        self.file.write(inputs, operations, train, node.name)
        self._keep(node, train)

    def direct_coding(self, shape: Sequence[int]) -> Operations:
        return [self._local("DirectCoding")]

    def temporal_bias(self, op: TemporalBias, node: Node) -> Operation:
        return self._local("TemporalBias", {"shift": aligned(op, self.graph.shapes[node.name])})

    def silence(self, bias: Array) -> Operation:
        return self._local("SilenceBias", {"asleep": bias})

    def running_mean(self, shape: Sequence[int]) -> Operation:
        return self._local("RunningMean")

    def temporal_difference(self, shape: Sequence[int]) -> Operation:
        return self._local("TemporalDifference")

    def _local(self, name: str, constants: dict[str, Array] | None = None) -> Operation:
        return Operation(name, constants or {}, local=True, clock=[self.timesteps])

    def _named(self, node: Node, *, trains: bool) -> str:
        """Return a name for what a node computes: its own, unless that is for the mean of it."""
        averaged = trains and (node.name in self._order_free or node.name in self.graph.outputs)
        return self.file.named(f"{node.name}/train") if averaged else node.name

    def _keep(self, node: Node, train: str) -> None:
        """File a train: as it is where the order of its steps matters, else as its mean."""
        self.shaped(train, node.name)
        self.moving[node.name] = train
        if node.name in self._order_free:
            self.held[node.name] = self._averaged_over_time(node.name)
            del self.moving[node.name]

    def _averaged_over_time(self, name: str) -> str:
        """Return the mean of a node over time."""
        if name in self.held:
            return self.held[name]
        if name not in self._averages:
            taken = self.moving[name] == name
            average = self.file.named(f"{name}/mean") if taken else name
            self.file.write([self.moving[name]], [self._local("TemporalMean")], average)
            self.shaped(average, name, held=True)
            self._averages[name] = average
        return self._averages[name]

    def _drawn(self, node: Node, gathered: str) -> str:
        name = self.file.named(f"{node.name}/draws")
        seed = {"seed": 1.0 + len(self._draws)}
        operation = Operation("Draws", attributes=seed, local=True, clock=[self.timesteps])
        self.file.write([gathered], [operation], name)
        self.file.shaped(name, [_AWAKE, BATCH, *self.graph.shapes[node.name]])
        self._draws[node.name] = name
        return name
