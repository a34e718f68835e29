"""The exported file in onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import final

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto
from torch import Generator, Tensor

from snnc.errors import VerificationError
from snnc.feeds import Feeds
from snnc.figure import ExitRule
from snnc.formats.onnx.file import BATCH, Array
from snnc.formats.onnx.lowering import SpikingFile
from snnc.formats.verification import Bounds, Reply
from snnc.ir import Graph
from snnc.neurons.two_phase_probabilistic import draws
from snnc.schedule import Schedule
from snnc.tasks.classification import Classification

# Sums in another order round so much differently.
_ROUNDING = 1e-4

_KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


@final
class Onnxruntime:
    """A file in onnxruntime, with the spikes as outputs and the random numbers as inputs besides.

    Raises VerificationError where onnxruntime refuses the file, which is given as the bytes that are written.
    """

    # Sums in another order round differently, and a potential that comes so close to its threshold fires a step earlier
    # or later. From the same spikes in the layers before, that moves nothing else.
    tolerance = Bounds(equal=99.99, output_error=1e-4, given="spikes")
    expected, note = None, ""

    def __init__(
        self, file: SpikingFile, data: bytes, snn: Graph, schedule: Schedule, exits: ExitRule | None = None
    ) -> None:
        self.name = f"onnxruntime {metadata.version('onnxruntime')}"
        self.layers = {**file.trains, **file.means}
        self.schedule = schedule
        self._snn = snn
        self._file = file
        model = _opened(ModelProto.FromString(data), file, self.layers.values())
        besides = {*file.states.values(), file.certain}
        self._answers = [entry.name for entry in file.model.graph.output if entry.name not in besides]
        self._exits = exits
        self._session = _session(model)
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        samples = feeds.samples
        random = self._random_numbers(samples, generator)
        fed = {
            name: numbers.contiguous().numpy().astype(_KINDS[self._inputs[name].type], copy=False)
            for name, numbers in {**feeds, **random}.items()
        }
        if self._file.timesteps:
            fed[self._file.timesteps] = np.array(self.schedule.timesteps, np.int64)
        if self._file.states:
            steps = [*self._loop(fed, samples, feeds.over_time)]
            counting = steps[self.schedule.rehearsal :]
            outputs = [sum(found[name] for found in counting) / self.schedule.timesteps for name in self._answers]
            if self._file.certain and self._exits is not None and len(self._exits.limits) == self.schedule.total:
                self._check_certain(counting, self._exits)
        else:
            steps = [self._run(fed)]
            outputs = [steps[0][name] for name in self._answers]
        spikes = {
            name: np.concatenate([found[value] for found in steps]).reshape(-1, samples, *steps[0][value].shape[1:])
            for name, value in self.layers.items()
        }
        answers = {name: torch.from_numpy(found) for name, found in zip(self._snn.outputs, outputs, strict=True)}
        return answers, {name: torch.from_numpy(train) for name, train in spikes.items()}

    def _check_certain(self, counting: Sequence[Mapping[str, Array]], rule: ExitRule) -> None:
        """Raise VerificationError where the file says otherwise than the rule whether answers are certain."""
        before, task = self.schedule.rehearsal, Classification()
        total: Array = np.zeros_like(counting[0][self._answers[0]])
        for step, found in enumerate(counting, start=before):
            total = total + found[self._answers[0]]
            margins = task.margins([torch.from_numpy(total / self.schedule.elapsed[step])])
            limit = rule.limits[step] or 0.0
            # So close to the limit rounding decides.
            clear = (margins - limit).abs() > _ROUNDING * (margins.abs() + abs(limit))
            said = torch.from_numpy(found[self._file.certain])
            pairs = zip(margins[clear].tolist(), said[clear].tolist(), strict=True)
            wrong = sum(rule.enough(step, margin) != certain for margin, certain in pairs)
            if wrong:
                hint = "this is a fault of the export: please report it with the model"
                message = f"the file says of {wrong} answers after step {step + 1} otherwise whether they are certain"
                raise VerificationError(message, hint=hint)

    def _random_numbers(self, samples: int, generator: Generator) -> dict[str, Tensor]:
        """Return what random neurons draw, by its names in the file, in the order in which ``run`` asks for it."""
        names = self._file.draws
        return {
            names[name]: torch.stack([*draws((samples, *self._snn.shapes[name]), self.schedule.timesteps, generator)])
            for name in self._snn.nodes
            if name in names
        }

    def _loop(self, feeds: Mapping[str, Array], samples: int, over_time: Collection[str]) -> Iterator[dict[str, Array]]:
        """Keep the loop, as a host does, and yield what the file answers at every step, without the states.

        Inputs ``over_time`` have one array for every step.
        """
        after = self._file.states
        state = {name: self._blank(name, samples) for name in after}
        for step in range(self.schedule.total):
            now = {name: array[step] if name in over_time else array for name, array in feeds.items()}
            found = self._run({**now, **state})
            state = {name: found.pop(after[name]) for name in after}
            yield found

    def _blank(self, name: str, samples: int) -> Array:
        shape = [samples if axis == BATCH else axis for axis in self._inputs[name].shape]
        return np.zeros(shape, _KINDS[self._inputs[name].type])

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [entry.name for entry in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))


def _opened(model: ModelProto, file: SpikingFile, spikes: Iterable[str]) -> ModelProto:
    """Return the file with its spikes as outputs too, and with what it draws at random as inputs."""
    known = {entry.name: entry for entry in (*model.graph.value_info, *model.graph.output)}
    shown = {entry.name for entry in model.graph.output}
    model.graph.output.extend(known[name] for name in spikes if name not in shown)
    random = set(file.draws.values())
    model.graph.input.extend(known[name] for name in file.draws.values())
    kept = [node for node in model.graph.node if random.isdisjoint(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


# What a release says of files of a version that came after it.
_TOO_OLD = re.compile(r"(?i)unsupported model IR version|opset \d+ is under development|support for opset")


def _session(model: ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as failure:
        reason = str(failure).splitlines()[0]
        hint = "this is a fault of the export: please report it with the model"
        if _TOO_OLD.search(reason):
            hint = "install a newer onnxruntime: it does not know the version of the format that the file is in"
        raise VerificationError(f"onnxruntime refuses the exported file: {reason}", hint=hint) from failure
