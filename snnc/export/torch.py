"""A spiking network as a program of torch (torch.export), which torch alone runs.

Causal neurons are written step by step, as many steps as the schedule has, so that a program is of one number of time
steps. Nothing in it depends on what is in a tensor, and the number of images is free.
"""

import copy
import io
import json
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Generator, Tensor, nn
from torch.export import Dim, ExportedProgram

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.run import Program
from snnc.run.steps import start, step
from snnc.schedule import Schedule

FORMAT_VERSION = 1

# The file inside the program's that says what it is.
METADATA = "snnc.json"

# Images that the network is traced with; how many there are does not matter.
_TRACED = 2


def torch_file(conversion: Conversion) -> bytes:
    """Return the spiking network as torch.export keeps it (.pt2).

    The program takes images ``[N, ...]``. It returns a tuple of the mean outputs over time, and by layer of neurons
    what it fires: spikes times their weight ``[steps, N, ...]``, or ``[1, N, ...]``, their mean, of neurons that gather
    their input first. The same conversion gives the same bytes with the same version of torch. Raises ModelError that
    names the node for neurons that draw at random, whose draws a program cannot repeat, and for those that gather their
    whole input before they fire, beside others that do not.
    """
    check_writable(conversion)
    buffer = io.BytesIO()
    calibration = conversion.provenance.calibration
    about = {
        "format": FORMAT_VERSION,
        "timesteps": conversion.schedule.timesteps,
        "sleep": conversion.schedule.sleep,
        "rehearsal": conversion.schedule.rehearsal,
        "preprocessing": conversion.preprocessing.plain(),
        "network": fingerprint(conversion),
        "model": conversion.provenance.model.sha256,
        "calibration": calibration.sha256 if calibration else None,
    }
    extra = {METADATA: json.dumps(about, sort_keys=True)}
    torch.export.save(_traced(_Network(conversion.snn, conversion.schedule)), buffer, extra_files=extra)
    return buffer.getvalue()


def check_writable(conversion: Conversion) -> None:
    """Raise what ``torch_file`` raises, without the work."""
    graph = conversion.snn
    for name, op in graph.ops(OrderFreeNeuron).items():
        if op.random:
            hint = "export with --format onnx, or convert with --neuron two-phase"
            raise ModelError("a program of torch cannot repeat random draws", place=name, hint=hint)
        if graph.ops(CausalNeuron):
            hint = "export with --format onnx, or convert with one kind of neuron"
            message = "gathers its whole input first, which others in the network do not"
            raise ModelError(f"{type(op).__name__} {message}", place=name, hint=hint)


@final
class TorchProgram:
    """The file in torch."""

    def __init__(self, data: bytes) -> None:
        self._module = torch.export.load(io.BytesIO(data)).module()
        self.layers = frozenset(self.answer(torch.zeros(self._shape))[1])

    @property
    def _shape(self) -> tuple[int, ...]:
        (images,) = (node for node in self._module.graph.nodes if node.op == "placeholder")
        return 1, *(int(side) for side in images.meta["val"].shape[1:])

    def answer(
        self, images: Tensor, generator: Generator | None = None
    ) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        with torch.no_grad():
            outputs, spikes = self._module(images)
        return outputs, spikes


@final
class _Network(nn.Module):
    """A network over its whole schedule, with its tensors as buffers."""

    def __init__(self, graph: Graph, schedule: Schedule) -> None:
        super().__init__()
        self.graph = graph.without_dead()
        self._schedule = schedule
        for name, node in self.graph.nodes.items():
            for field, tensor in node.op.tensors().items():
                self.register_buffer(f"{name}:{field}", tensor.detach().cpu().float().clone())

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        graph = self._bound()
        return (self._stepped if graph.ops(CausalNeuron) else self._gathered)(graph, images)

    def _bound(self) -> Graph:
        """Return the graph of the buffers as they are, which while they are traced hold nothing to be checked."""
        ops = {}
        for name, node in self.graph.nodes.items():
            ops[name] = copy.copy(node.op)
            for field in node.op.tensors():
                object.__setattr__(ops[name], field, self.get_buffer(f"{name}:{field}"))
        bound = self.graph.with_ops(ops)
        # Worked out before: to trace it would be to write it into the program.
        object.__setattr__(bound, "shapes", self.graph.shapes)
        return bound

    def _stepped(self, graph: Graph, images: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        feeds = Feeds(dict.fromkeys(graph.inputs, images))
        state = start(graph, feeds)
        steps = []
        for _ in range(self._schedule.total):
            state, signals = step(graph, self._schedule, state, feeds)
            steps.append(signals)
        counting = steps[self._schedule.rehearsal :]
        totals = (torch.stack([found[name] for found in counting]).sum(0) for name in graph.outputs)
        means = tuple(total / self._schedule.timesteps for total in totals)
        return means, {name: torch.stack([found[name] for found in steps]) for name in graph.ops(Neuron)}

    def _gathered(self, graph: Graph, images: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        (image,) = graph.inputs
        spikes: dict[str, Tensor] = {}
        found = Program(graph, self._schedule)(Feeds({image: images}), observe=spikes.__setitem__)
        return tuple(found[name][0] for name in graph.outputs), spikes


def _traced(network: _Network) -> ExportedProgram:
    (image,) = network.graph.inputs
    images = torch.zeros(_TRACED, *network.graph.shapes[image])
    with torch.no_grad():
        program = torch.export.export(network, (images,), dynamic_shapes=({0: Dim("images", min=1)},))
    for node in program.graph.nodes:
        # Where the code stands that was traced says nothing about the network, and is different on every machine.
        node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    return program
