"""Plug-ins as somebody else would write them, each of one kind; the recipe uses the neuron and the pass."""

from pathlib import Path

import onnx
from PIL import Image

from tests.documents import GUIDE, blocks

DIGITS = Path(__file__).parent.parent / "examples" / "digits"

# Those of the guide, but for the neuron: tests want one that is known to the last spike.
_FILES = {block.file: block.text for block in blocks(GUIDE / "extend.md")}
PASS, OPERATION, FORMAT = _FILES["raise_thresholds.py"], _FILES["filled.py"], _FILES["thresholds.py"]
SECTION, FIGURE, TASK, SOURCE = (_FILES[f"{name}.py"] for name in ("length", "additions", "remainder", "rows"))

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
