"""A spiking network as a program of torch (torch.export), which torch alone runs.

Causal neurons are written step by step, as many steps as the schedule has, so that a program is of one number of time
steps. Nothing in it depends on what is in a tensor, and the number of images is free.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Generator, Tensor, nn
from torch.export import Dim, ExportedProgram

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError
from snnc.ir import Graph
from snnc.neurons import CausalNeuron, Neuron, OrderFreeNeuron
from snnc.run import run
from snnc.run.steps import start, step
from snnc.schedule import Schedule

FORMAT_VERSION = 1

# The file inside the program's that says what it is.
METADATA = "snnc.json"

# Images that the network is traced with; how many there are does not matter.
_TRACED = 2


def torch_file(conversion: Conversion) -> bytes:
    """Return the spiking network as torch.export keeps it (.pt2): images ``[N, ...]`` to mean outputs over time.

    The same conversion gives the same bytes with the same version of torch. Raises ModelError that names the node for
    neurons that draw at random, whose draws a program cannot repeat, and for those that gather their whole input before
    they fire, beside others that do not.
    """
    buffer = io.BytesIO()
    calibration = conversion.provenance.get("calibration")
    about = {
        "format": FORMAT_VERSION,
        "timesteps": conversion.schedule.timesteps,
        "sleep": conversion.schedule.sleep,
        "rehearsal": conversion.schedule.rehearsal,
        "preprocessing": dict(conversion.preprocessing),
        "network": fingerprint(conversion),
        "model": conversion.provenance["model"]["sha256"],
        "calibration": calibration["sha256"] if calibration else None,
    }
    extra = {METADATA: json.dumps(about, sort_keys=True)}
    torch.export.save(_traced(_Network(conversion.snn, conversion.schedule)), buffer, extra_files=extra)
    return buffer.getvalue()


@final
class TorchProgram:
    """The file in torch, and beside it the same network traced with the spikes as outputs."""

    def __init__(self, data: bytes, snn: Graph, schedule: Schedule) -> None:
        self.layers = tuple(snn.ops(Neuron))
        self._written = torch.export.load(io.BytesIO(data)).module()
        self._shown = _traced(_Network(snn, schedule, watched=True)).module()

    def answer(self, images: Tensor, generator: Generator) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        with torch.no_grad():
            outputs = self._written(images)
            _, spikes = self._shown(images)
        return (outputs,) if isinstance(outputs, Tensor) else outputs, spikes


@final
class _Network(nn.Module):
    """A network over its whole schedule, with its tensors as buffers."""

    def __init__(self, graph: Graph, schedule: Schedule, *, watched: bool = False) -> None:
        super().__init__()
        for name, op in graph.ops(OrderFreeNeuron).items():
            if op.random:
                hint = "export with --format onnx, or convert with --neuron two-phase"
                raise ModelError("a program of torch cannot repeat random draws", place=name, hint=hint)
            if graph.ops(CausalNeuron):
                hint = "export with --format onnx, or convert with one kind of neuron"
                message = "gathers its whole input first, which others in the network do not"
                raise ModelError(f"{type(op).__name__} {message}", place=name, hint=hint)
        self._graph = graph.without_dead().map_tensors(self._kept)
        self._schedule = schedule
        self._watched = watched
        # Worked out here: to trace it would be to write it into the program.
        _ = self._graph.shapes

    def forward(self, images: Tensor) -> Any:
        outputs, spikes = (self._stepped if self._graph.ops(CausalNeuron) else self._gathered)(images)
        if self._watched:
            return outputs, spikes
        return outputs[0] if len(outputs) == 1 else outputs

    def _stepped(self, images: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        state = start(self._graph, images)
        steps = []
        for _ in range(self._schedule.total):
            state, signals = step(self._graph, self._schedule, state, images)
            steps.append(signals)
        counting = steps[self._schedule.rehearsal :]
        totals = (torch.stack([found[name] for found in counting]).sum(0) for name in self._graph.outputs)
        means = tuple(total / self._schedule.timesteps for total in totals)
        return means, {name: torch.stack([f[name] for f in steps]) for name in self._graph.ops(Neuron)}

    def _gathered(self, images: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        (image,) = self._graph.inputs
        spikes: dict[str, Tensor] = {}
        found = run(
            self._graph,
            {image: images.unsqueeze(0)},
            self._graph.outputs,
            self._schedule,
            observe=spikes.__setitem__,
        )
        return tuple(found[name][0] for name in self._graph.outputs), spikes

    def _kept(self, tensor: Tensor) -> Tensor:
        name = f"tensor{len(self._buffers)}"
        self.register_buffer(name, tensor.detach().cpu().float().clone())
        return self.get_buffer(name)


def _traced(network: _Network) -> ExportedProgram:
    (image,) = network._graph.inputs
    images = torch.zeros(_TRACED, *network._graph.shapes[image])
    with torch.no_grad():
        program = torch.export.export(network, (images,), dynamic_shapes=({0: Dim("images", min=1)},))
    for node in program.graph.nodes:
        # Where the code stands that was traced says nothing about the network, and is different on every machine.
        node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    return program
