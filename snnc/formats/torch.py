"""A spiking network as a program of torch (torch.export), which torch alone runs.

Causal neurons are written step by step, as many steps as the schedule has, so that a program is of one number of time
steps. Nothing in it depends on what is in a tensor, and the number of samples is free.
"""

import copy
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import final

import torch
from torch import Generator, Tensor, nn
from torch.export import Dim, ExportedProgram

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError
from snnc.feeds import Feeds
from snnc.formats.format import Format, Refusal, Written, formats, grouped, raised
from snnc.formats.verification import Bounds, Reply
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.neurons.base import kind_of
from snnc.run import Program
from snnc.run.steps import start, step
from snnc.schedule import Schedule

TORCH_VERSION = 1

# The file inside the program's that says what it is.
ENTRY = "snnc.json"

# Samples that the network is traced with; how many there are does not matter.
_TRACED = 2


@final
@formats.register("torch")
@dataclass(frozen=True)
class TorchFormat(Format[None]):
    """A program of torch.export, for the time steps of the conversion."""

    name = "torch"
    suffix = ".pt2"
    about = "a program of torch.export (.pt2), which torch alone runs for the time steps it was converted for."

    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        return grouped(raised(_checks(conversion.snn)))

    def write(self, conversion: Conversion) -> Written[None]:
        trains, means = ({name: name for name in conversion.snn.ops(kind)} for kind in (CausalNeuron, OrderFreeNeuron))
        return Written(self.name, "whole trains", torch_file(conversion), None, trains, means)

    def engines(self, written: Written[None], conversion: Conversion) -> Iterator["TorchProgram"]:
        yield TorchProgram(written.data, conversion.snn, conversion.schedule)


def torch_file(conversion: Conversion) -> bytes:
    """Return the spiking network as torch.export keeps it (.pt2).

    The program takes samples ``[N, ...]``, those of all inputs in order. It returns a tuple of the mean outputs over
    time, and by layer of neurons what it fires: spikes times their weight ``[steps, N, ...]``, or ``[1, N, ...]``,
    their mean, of neurons that gather their input first. The same conversion gives the same bytes with the same version
    of torch. Raises ModelError that names the node for neurons that draw at random, whose draws a program cannot
    repeat, and for those that gather their whole input before they fire, beside others that do not.
    """
    for check in _checks(conversion.snn):
        check()
    buffer = io.BytesIO()
    calibration = conversion.provenance.calibration
    about = {
        "format": TORCH_VERSION,
        "timesteps": conversion.schedule.timesteps,
        "sleep": conversion.schedule.sleep,
        "rehearsal": conversion.schedule.rehearsal,
        "preprocessing": conversion.preprocessing.plain(),
        "network": fingerprint(conversion),
        "model": conversion.provenance.model.sha256,
        "calibration": calibration.sha256 if calibration else None,
    }
    extra = {ENTRY: json.dumps(about, sort_keys=True)}
    torch.export.save(_traced(_Network(conversion.snn, conversion.schedule)), buffer, extra_files=extra)
    return buffer.getvalue()


def _checks(graph: Graph) -> Iterator[Callable[[], None]]:
    """Yield what raises ModelError for the neurons that ``torch_file`` refuses."""
    mixed = bool(graph.ops(CausalNeuron))
    return (partial(_check, name, op, mixed=mixed) for name, op in graph.ops(OrderFreeNeuron).items())


def _check(name: str, op: OrderFreeNeuron, *, mixed: bool) -> None:
    if op.random:
        hint = "export with --format onnx, or convert with --neuron two-phase"
        raise ModelError("a program of torch cannot repeat random draws", place=name, hint=hint)
    if mixed:
        hint = "export with --format onnx, or convert with one kind of neuron"
        message = "gather their whole input first, which others in the network do not"
        raise ModelError(f"{kind_of(op)} neurons {message}", place=name, hint=hint)


@final
class TorchProgram:
    """The file in torch."""

    # Sums in another order round differently, as in onnxruntime.
    tolerance = Bounds(equal=99.99, output_error=1e-4, given="spikes")
    expected, note = None, ""

    def __init__(self, data: bytes, snn: Graph, schedule: Schedule) -> None:
        self.name = f"torch {metadata.version('torch')}"
        self.schedule = schedule
        self.layers = frozenset(snn.without_dead().ops(Neuron))
        self._snn = snn
        self._module = torch.export.load(io.BytesIO(data)).module()

    def answer(self, feeds: Feeds, generator: Generator | None = None) -> Reply:
        with torch.no_grad():
            outputs, spikes = self._module(*(feeds[name].contiguous() for name in self._snn.inputs))
        return dict(zip(self._snn.outputs, outputs, strict=True)), spikes


@final
class _Network(nn.Module):
    """A network over its whole schedule, with its tensors as buffers."""

    def __init__(self, graph: Graph, schedule: Schedule) -> None:
        super().__init__()
        self.graph = graph.without_dead()
        self._schedule = schedule
        for (name, field), kept in self.graph.tensor_names.items():
            if kept == f"{name}:{field}":
                tensor = self.graph.op(name).tensors()[field]
                self.register_buffer(kept, tensor.detach().cpu().float().clone())

    def forward(self, *samples: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        graph = self._bound()
        feeds = Feeds(dict(zip(graph.inputs, samples, strict=True)))
        return (self._stepped if graph.ops(CausalNeuron) else self._gathered)(graph, feeds)

    def _bound(self) -> Graph:
        """Return the graph of the buffers as they are, which while they are traced hold nothing to be checked."""
        ops = {}
        for name, node in self.graph.nodes.items():
            ops[name] = copy.copy(node.op)
            for field in node.op.tensors():
                object.__setattr__(ops[name], field, self.get_buffer(self.graph.tensor_names[name, field]))
        bound = self.graph.with_ops(ops)
        # Worked out before: to trace it would be to write it into the program.
        object.__setattr__(bound, "shapes", self.graph.shapes)
        return bound

    def _stepped(self, graph: Graph, feeds: Feeds) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        state = start(graph, feeds)
        steps = []
        for _ in range(self._schedule.total):
            state, signals = step(graph, self._schedule, state, feeds)
            steps.append(signals)
        counting = steps[self._schedule.rehearsal :]
        totals = (torch.stack([found[name] for found in counting]).sum(0) for name in graph.outputs)
        means = tuple(total / self._schedule.timesteps for total in totals)
        return means, {name: torch.stack([found[name] for found in steps]) for name in graph.ops(Neuron)}

    def _gathered(self, graph: Graph, feeds: Feeds) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        spikes: dict[str, Tensor] = {}
        found = Program(graph, self._schedule)(feeds, observe=spikes.__setitem__)
        return tuple(found[name][0] for name in graph.outputs), spikes


def _traced(network: _Network) -> ExportedProgram:
    samples = tuple(torch.zeros(_TRACED, *shape) for shape in network.graph.input_shapes.values())
    free = {0: Dim("samples", min=1)}
    with torch.no_grad():
        program = torch.export.export(network, samples, dynamic_shapes=((free,) * len(samples),))
    for node in program.graph.nodes:
        # Where the code stands that was traced says nothing about the network, and is different on every machine.
        node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    return program
