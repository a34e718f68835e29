"""What actions work on, as people give it: files, or what a program holds."""

from pathlib import Path
from typing import TypeAlias

import torch

from snnc.artifact import load_conversion
from snnc.conversion import Conversion
from snnc.data.given import Given
from snnc.files import at_home
from snnc.frontend import Example, InputShapes, example_of
from snnc.module import SpikingNetwork
from snnc.pipeline import Trained, read_trained
from snnc.report import Report
from snnc.tasks import Task, stated

# A trained network: an ONNX or TorchScript file, or a module.
Model: TypeAlias = str | Path | torch.nn.Module
# A spiking network: a .snn file, or as a program has it, with its report or without.
Spiking: TypeAlias = str | Path | Conversion | SpikingNetwork | tuple[Conversion, Report]


def trained_of(
    model: Model, data: Path | Given | None, input_shape: InputShapes = None, example: Example | None = None
) -> Trained:
    """Read a trained network; a module is run on the ``example`` or else on the first sample of ``data``."""
    if example is None and input_shape is None and isinstance(data, Given) and isinstance(model, torch.nn.Module):
        example = example_of(model, data.first())
    return read_trained(model, input_shape, example)


def conversion_of(network: Spiking) -> Conversion:
    """Return a spiking network; raises what ``snnc.load`` raises where its file cannot be read."""
    if isinstance(network, str | Path):
        return load_conversion(at_home(Path(network)))
    if isinstance(network, SpikingNetwork):
        return network.conversion
    return network if isinstance(network, Conversion) else network[0]


def task_of(task: Task | str | None) -> Task | None:
    """Return a task, read where it is given by its name."""
    return stated(task, "task") if isinstance(task, str) else task
