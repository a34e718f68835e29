"""model.snn with other values in its header, and other tensors."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from snnc import ops
from snnc.artifact import load_conversion, save_conversion
from snnc.conversion import Applied, Conversion, Manifest, Origin, Provenance
from snnc.data.preprocessing import Preprocessing
from snnc.findings import Finding
from snnc.neurons import neurons
from snnc.schedule import Schedule
from snnc.tasks.values import Values
from tests.fuzz.numbers import damaged, places, plain, reals, replaced
from tests.fuzz.oracle import Files, Kind
from tests.support import Network


def conversion() -> Conversion:
    """A small network of many kinds of operations."""
    net = Network((3, 6, 6), seed=1)
    net.add(neurons["if"](torch.full((4, 1, 1), 0.5)), net.conv("x", 4), name="spikes")
    net.add(ops.MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))
    net.add(ops.Pad((0, 1, 1, 0, 0, 0)))
    net.add(ops.Take(1, (0, 2, 1)))
    net.add(ops.Softmax(1))
    net.linear(net.flat(net.nodes[-1].name), 3)
    graph = net.graph()
    return Conversion(
        reference=graph,
        snn=graph,
        schedule=Schedule(3, 1),
        applied=(Applied("fold-batch-norm", {"kind": "mmse"}, 3),),
        imported=(),
        findings=(Finding("uncalibrated", "warning", "spikes", "no images", "give some"),),
        preprocessing=Preprocessing(mean=(0.5, 0.2, 0.1), resize=(8, 9), scale=0.5),
        provenance=Provenance(Origin("model.onnx", "ab12"), {"timesteps": 3}, Manifest(3, "ff", 1), {"snnc": "0.1.0"}),
        task=Values(),
    )


@cache
def _written() -> tuple[str, dict[str, torch.Tensor]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.snn")
        save_conversion(conversion(), path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
            return file.metadata()["snnc"], tensors


@st.composite
def files(draw: st.DrawFn) -> Files:
    text, tensors = _written()
    header, tensors = json.loads(text), dict(tensors)
    for _ in range(draw(st.integers(0, 3))):
        header = replaced(header, draw(st.sampled_from(places(header))), draw(plain))
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(tensors)))
        tensors[name] = _other(draw, tensors[name])
    data = save(tensors, {"snnc": json.dumps(header)})
    return {"m.snn": draw(damaged(data)) if draw(st.integers(0, 9)) == 0 else data}


def _other(draw: st.DrawFn, tensor: torch.Tensor) -> torch.Tensor:
    if draw(st.booleans()):
        return torch.zeros(draw(st.lists(st.integers(0, 4), max_size=4)))
    changed = tensor.clone()
    changed.view(-1)[0] = torch.tensor(draw(reals), dtype=torch.float64).float()
    return changed


def examine(folder: Path) -> Any:
    """Load it, which runs it once."""
    return load_conversion(folder / "m.snn").snn.shapes


KIND = Kind("artifact", files(), examine)
