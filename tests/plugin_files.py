"""Plug-ins as somebody else would write them, each of one kind; the recipe uses the neuron and the pass."""

from pathlib import Path

import onnx
from PIL import Image

DIGITS = Path(__file__).parent.parent / "examples" / "digits"

NEURON = '''
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from snnc.neurons import CausalNeuron, neurons


class State(NamedTuple):
    membrane: Tensor


@final
@neurons.register("mine")
@dataclass(frozen=True, eq=False)
class Mine(CausalNeuron):
    """Integrate and fire with soft reset."""

    signed: ClassVar[bool] = False

    def initial(self, x):
        return State(self.start(x))

    def advance(self, state, x, awake, value):
        membrane = state.membrane.add_(x)
        torch.ge(membrane, self.threshold, out=value).mul_(self.threshold)
        return State(membrane.sub_(value))
'''
PASS = '''
from dataclasses import dataclass, replace
from typing import final

from snnc.ops import QuantizedRelu
from snnc.passes import Pass, passes


@final
@passes.register("raise-thresholds")
@dataclass(frozen=True)
class RaiseThresholds(Pass):
    """Every threshold is larger by a factor."""

    factor: float = 1.0

    def __call__(self, graph, calibration):
        layers = graph.ops(QuantizedRelu).items()
        return graph.with_ops({name: replace(op, ceiling=op.ceiling * self.factor) for name, op in layers})
'''
OPERATION = '''
from dataclasses import dataclass
from typing import final

import torch

from snnc.frontend.expression import chain
from snnc.frontend.operators import operators
from snnc.ir import operation
from snnc.ops import Activation


@final
@operation
@dataclass(frozen=True, eq=False)
class Filled(Activation):
    """x, of what is above zero."""

    def __call__(self, *inputs):
        return inputs[0].relu()


@operators.register("ai.onnx.ml.Imputer")
def imputer(call):
    return chain(call.broadcast(0), Filled())
'''
RECIPE = """
name: mine
timesteps: 4
passes:
  - fold-batch-norm
  - treat-max-pool
  - normalize-activations
  - calibrate-thresholds
  - raise-thresholds: {factor: 1.25}
  - substitute-neurons: {neuron: mine}
"""

SECTION = '''
from dataclasses import dataclass
from typing import ClassVar, final

from snnc.blocks import Text
from snnc.report.sections import Section, sections


@final
@sections.register("length")
@dataclass(frozen=True)
class Length(Section):
    """How many letters the layers' names have."""

    title: ClassVar[str] = "Length of names"
    order: ClassVar[int] = 500

    letters: int

    @classmethod
    def of(cls, known):
        return cls(sum(len(layer.name) for layer in known.report.layers))

    def blocks(self, report):
        yield Text(f"The names of all layers have {self.letters} letters.")
'''
FORMAT = '''
import json
from dataclasses import dataclass
from typing import Annotated, final

from snnc.formats.format import Format, Written, formats
from snnc.formats.verification import Bounds
from snnc.neurons import Neuron
from snnc.run import Program
from snnc.validation import Option


class Itself:
    """The network itself, which fires what it fires."""

    name = "itself"
    tolerance = Bounds(equal=100.0, output_error=0.0, given="images")
    expected, note = None, ""

    def __init__(self, conversion):
        self.schedule = conversion.schedule
        self.layers = frozenset(conversion.snn.ops(Neuron))
        self.program = Program(conversion.snn, conversion.schedule, trains=True)

    def answer(self, feeds, generator):
        spikes = {}
        outputs = self.program(feeds, observe=spikes.__setitem__, generator=generator)
        counting = slice(self.schedule.rehearsal, None)
        return {n: o[counting].sum(0) / self.schedule.timesteps for n, o in outputs.items()}, spikes


@final
@formats.register("thresholds")
@dataclass(frozen=True)
class Thresholds(Format):
    """The thresholds of all layers."""

    digits: Annotated[int, Option("How many digits a threshold has.", "N")] = 3

    name = "thresholds"
    suffix = ".thresholds.json"
    about = "the largest threshold of every layer, as JSON."

    def refusals(self, conversion):
        return ()

    def write(self, conversion):
        layers = conversion.snn.ops(Neuron)
        largest = {name: round(float(neuron.threshold.max()), self.digits) for name, neuron in layers.items()}
        return Written(self.name, f"{self.digits} digits", json.dumps(largest).encode(), None, {})

    def engines(self, written, conversion):
        yield Itself(conversion)
'''
FIGURE = """
from snnc.figure import Figure, Limit
from snnc.measure.figures import register

register(
    Figure(
        name="additions made",
        of=frozenset({"row"}),
        value=lambda row: row.synaptic_operations,
        interval=lambda row: (row.synaptic_operations, row.synaptic_operations),
        better=-1,
        limit=Limit("max-additions", "Most additions per image.", "N", "1000", "nothing was run"),
    )
)
"""

SOURCE = '''
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch

from snnc.data.labels import CLASSES, Classes
from snnc.data.source import Source, sources


@final
@sources.register("rows")
@dataclass(frozen=True, eq=False)
class Rows(Source):
    """A sample a line: its class, then the gray pixels of a square."""

    about: ClassVar[str] = "a .rows file"

    path: Path
    pixels: Any

    @classmethod
    def opens(cls, path, inputs):
        return path.suffix == ".rows"

    @classmethod
    def open(cls, path, inputs):
        table = np.loadtxt(path, dtype=np.uint8)
        return cls({CLASSES: Classes(torch.from_numpy(table[:, 0].astype(np.int64)))}, 0, path, table[:, 1:])

    def __len__(self):
        return len(self.pixels)

    def name(self, index):
        return str(index)

    def place(self, index):
        return f"{self.path}:{index + 1}"

    def read(self, index):
        row = self.pixels[index]
        side = round(len(row) ** 0.5)
        return {"image": row.reshape(side, side, 1)}

    def digest(self, index):
        return hashlib.sha256(self.pixels[index].tobytes()).hexdigest()
'''

TASK = '''
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from snnc import intervals
from snnc.figure import Score
from snnc.tasks.task import Loss, Task, tasks


@final
@tasks.register("remainder")
@dataclass(frozen=True)
class Remainder(Task):
    """The answer is what is left of the class when it is divided."""

    labels: ClassVar[str] = "classes"
    answer_name: ClassVar[str] = "remainders"

    modulus: int = 2

    def answers(self, outputs):
        return outputs[0].argmax(1) % self.modulus

    def outcomes(self, answers, trained, truth):
        unknown = torch.full((len(answers),), torch.nan).double()
        right = unknown if truth is None else (answers == truth % self.modulus).double()
        agrees = unknown if trained is None else (answers == trained).double()
        return torch.stack([right, agrees], 1)

    def measured(self, outcomes):
        named = zip(("right-remainder", "same-remainder"), outcomes.unbind(1))
        return {"scores": {name: self.score(hits) for name, hits in named if not hits.isnan().any()}}

    def score(self, hits):
        share = intervals.proportion(int(hits.sum()), len(hits))
        return Score(100 * float(hits.mean()), share)

    def merit(self, row):
        return row.scores["same-remainder"].value

    def lost(self, row):
        score = row.scores["same-remainder"]
        low, high = score.interval
        return 100 - score.value, (100 - high, 100 - low)

    def loss(self, labelled):
        return Loss("same-remainder", "percent of remainders that changed", lambda lost: f"changes {lost} %")

    def losses(self, answers, truth):
        return (answers != truth % self.modulus).double()
'''


def rows(path: Path, count: int) -> Path:
    """Write the first of the digits of every class as the source of ``SOURCE`` reads them."""
    lines = []
    for folder in sorted((DIGITS / "test").iterdir()):
        for file in sorted(folder.iterdir())[:count]:
            with Image.open(file) as image:
                lines.append(" ".join([folder.name, *map(str, image.tobytes())]))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def soft(folder: Path) -> Path:
    """The digits network with an Imputer, which fills gaps, in front of its classifier, behind rectifiers."""
    model = onnx.load(DIGITS / "model.onnx")
    last = next(node for node in model.graph.node if node.op_type == "Gemm")
    index = list(model.graph.node).index(last)
    model.graph.node.insert(
        index,
        onnx.helper.make_node(
            "Imputer", [last.input[0]], ["softened"], "soft", domain="ai.onnx.ml", imputed_value_floats=[0.0]
        ),
    )
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    last.input[0] = "softened"
    onnx.save(model, folder / "soft.onnx")
    return folder / "soft.onnx"
