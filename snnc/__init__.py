"""A compiler from trained neural networks to spiking ones.

``convert`` and ``calibrate`` make a ``Conversion`` of a trained network, ``evaluate`` measures it, ``save`` writes it
and ``load`` reads it as a ``SpikingNetwork``, a ``torch.nn.Module``; ``tune``, ``sweep``, ``finetune``, ``export``,
``spikes``, ``inspect`` and ``diff`` do what the commands of these names do. Networks are files or modules, and data is
files or what a program holds. The commands call these very functions, with what ``snnc.yaml`` says; called from Python,
they do not read it. Whatever goes wrong on purpose is an ``SnncError`` with a message, a place and a hint.

    import snnc

    conversion, report = snnc.convert("model.onnx", "quick", data="calibration")  # or a module, data=loader
    snnc.save(conversion, "model.snn")
    network = snnc.load("model.snn")
    dataset = snnc.open_dataset("test", network.preprocessing, network.input_shapes)
    answer = network(next(dataset.batches()))  # [64, classes]

What they work on are ``Graph``s: immutable, of typed operations. ``snnc.recipe`` reads and makes recipes, the packages
``snnc.passes`` and ``snnc.neurons`` list what recipes are put together from. All of it is loaded when it is used.
"""

import os as _os
from typing import TYPE_CHECKING

from snnc.version import VERSION

__version__ = VERSION

# onnxruntime tells its makers what it is used for, and keeps a number of this device, unless told not to beforehand.
_os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__all__ = [
    "Between",
    "Conversion",
    "Graph",
    "Limits",
    "NetworkState",
    "Preprocessing",
    "Reading",
    "Response",
    "Schedule",
    "SnncError",
    "SpikingNetwork",
    "calibrate",
    "convert",
    "diff",
    "evaluate",
    "export",
    "finetune",
    "inspect",
    "load",
    "neurons",
    "open_dataset",
    "passes",
    "recipe",
    "save",
    "spikes",
    "sweep",
    "tune",
]

if TYPE_CHECKING:
    from snnc import neurons, passes, recipe
    from snnc.actions.calibrate import calibrate
    from snnc.actions.convert import convert
    from snnc.actions.diff import diff
    from snnc.actions.evaluate import evaluate
    from snnc.actions.export import export
    from snnc.actions.finetune import finetune
    from snnc.actions.inspect import inspect
    from snnc.actions.spikes import spikes
    from snnc.actions.sweep import sweep
    from snnc.actions.tune import tune
    from snnc.artifact import save_conversion as save
    from snnc.conversion import Conversion
    from snnc.data.dataset import Reading, open_dataset
    from snnc.data.preprocessing import Preprocessing
    from snnc.errors import SnncError
    from snnc.ir import Graph
    from snnc.measure.gates import Limits
    from snnc.module import NetworkState, Response, SpikingNetwork, load
    from snnc.run.frames import Between
    from snnc.schedule import Schedule
else:
    from importlib import import_module

    # Where each stands; what is no attribute of another module is a module itself.
    _PLACES = {
        "Between": ("snnc.run.frames", "Between"),
        "Conversion": ("snnc.conversion", "Conversion"),
        "Graph": ("snnc.ir", "Graph"),
        "Limits": ("snnc.measure.gates", "Limits"),
        "NetworkState": ("snnc.module", "NetworkState"),
        "Preprocessing": ("snnc.data.preprocessing", "Preprocessing"),
        "Reading": ("snnc.data.dataset", "Reading"),
        "Response": ("snnc.module", "Response"),
        "Schedule": ("snnc.schedule", "Schedule"),
        "SnncError": ("snnc.errors", "SnncError"),
        "SpikingNetwork": ("snnc.module", "SpikingNetwork"),
        "calibrate": ("snnc.actions.calibrate", "calibrate"),
        "convert": ("snnc.actions.convert", "convert"),
        "diff": ("snnc.actions.diff", "diff"),
        "evaluate": ("snnc.actions.evaluate", "evaluate"),
        "export": ("snnc.actions.export", "export"),
        "finetune": ("snnc.actions.finetune", "finetune"),
        "inspect": ("snnc.actions.inspect", "inspect"),
        "load": ("snnc.module", "load"),
        "neurons": ("snnc.neurons", None),
        "open_dataset": ("snnc.data.dataset", "open_dataset"),
        "passes": ("snnc.passes", None),
        "recipe": ("snnc.recipe", None),
        "save": ("snnc.artifact", "save_conversion"),
        "spikes": ("snnc.actions.spikes", "spikes"),
        "sweep": ("snnc.actions.sweep", "sweep"),
        "tune": ("snnc.actions.tune", "tune"),
    }

    def __getattr__(name):
        # Importing snnc loads nothing: most of it needs torch, and `snnc --help` does without.
        if name not in _PLACES:
            raise AttributeError(f"module 'snnc' has no attribute {name!r}")
        module, attribute = _PLACES[name]
        found = import_module(module)
        return found if attribute is None else getattr(found, attribute)

    def __dir__():
        return sorted({*globals(), *__all__})
