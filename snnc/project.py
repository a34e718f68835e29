"""snnc.yaml: what would be typed again at every command of a project."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from snnc.data.preprocessing import Preprocessing, written
from snnc.documents import read_yaml
from snnc.errors import SnncError, UsageError
from snnc.files import at_home, next_to
from snnc.measure.figures import limits
from snnc.measure.gates import Limits, limits_form
from snnc.process import memory_size
from snnc.schedule import Frames
from snnc.validation import keys, parse

FILE = "snnc.yaml"
_MODELS = {".onnx", ".pt", ".pth", ".ts"}

T = TypeVar("T")


@dataclass(frozen=True)
class Data:
    """Where a command finds its samples: a folder, a file, or a pattern of files."""

    data: Path | None = None


@dataclass(frozen=True)
class Evaluated(Data):
    """Where ``snnc evaluate`` finds its samples, and how sure of an answer it stops, None where it does not."""

    exit_confidence: float | None = None

    def __post_init__(self) -> None:
        if self.exit_confidence is not None and not 0 < self.exit_confidence < 1:
            raise ValueError("exit-confidence is a share between 0 and 1, as in 0.99")


@dataclass(frozen=True)
class Project:
    """The project file; without one, nothing is set. Paths are relative to the working folder.

    ``expected_accuracy`` is that of the trained network, in percent. ``neuron`` and ``set``
    (``passes.PASS.OPTION=VALUE``) change ``recipe``, and mean nothing for another one. ``export`` has the options of
    formats by their names. ``steps`` are all from image to answer, in place of ``timesteps``, ``sleep`` and ``neuron``,
    on a ``target``. ``minutes`` are those that a conversion may take, ``memory`` is what any command may use, as in 8G.
    """

    model: Path | None = None
    input_shape: tuple[int, ...] | dict[str, tuple[int, ...]] | None = None
    calibration: Data = field(default_factory=Data)
    evaluation: Evaluated = field(default_factory=Evaluated)
    expected_accuracy: float | None = None
    preprocessing: Preprocessing | None = None
    recipe: str | None = None
    timesteps: int | None = None
    sleep: int | None = None
    steps: int | None = None
    target: str | None = None
    frames: Frames | None = None
    neuron: str | None = None
    set: tuple[str, ...] = ()
    gates: Limits = field(default_factory=Limits)
    task: str | dict[str, Any] | None = None
    minutes: float | None = None
    memory: str | None = None
    plugins: tuple[Path, ...] = ()
    export: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.expected_accuracy is not None and not 0 < self.expected_accuracy <= 100:
            raise ValueError("expected-accuracy is percent, as in 72.2")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UsageError(f"invalid value {self.minutes:g}", place="minutes", hint="give a number above 0")
        if self.memory is not None:
            memory_size(self.memory, "memory")

    def trained(self, given: Path | None, command: str = "convert") -> Path:
        """Return the model file to convert: the one given, or the project's. Raises UsageError without either."""
        path = given or self.model
        if path is None:
            hint = f"give one: snnc {command} model.onnx, or set model: in {FILE}"
            raise UsageError("no model to convert", place=f"snnc {command}", hint=hint)
        if path.suffix == ".snn":
            hint = "calibrate it with snnc calibrate, or convert the model it came from"
            raise UsageError("already a spiking network", place=str(path), hint=hint)
        return path

    def converted(self, given: Path | None, folder: Path) -> Path:
        """Return the .snn file to work on: the one given, the project's, or the only one in ``folder``.

        Raises UsageError where none of these says which.
        """
        if given is not None:
            if given.suffix in _MODELS:
                hint = f"convert it first: snnc convert {given}"
                raise UsageError("a trained model, not a .snn file", place=str(given), hint=hint)
            return given
        if self.model is not None:
            return self.model if self.model.suffix == ".snn" else folder / f"{self.model.stem}.snn"
        found = sorted(folder.glob("*.snn"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found)
            message = f"several .snn files in this folder ({names})" if found else "no .snn file in this folder"
            hint = f"name it as the argument, or set model: in {FILE}"
            raise UsageError(message, hint=hint if found else f"make one with snnc convert model.onnx, or {hint}")
        return found[0]


def report_beside(output: Path) -> Path:
    """Return where the report of a .snn file goes unless the user says otherwise."""
    return next_to(output, f"{output.stem}.report.json")


def checkpoint_beside(output: Path) -> Path:
    """Return where is kept what a conversion into a .snn file has reached."""
    return next_to(output, f"{output.name}.checkpoint")


# Which file to read in the place of that of a folder.
_named: ContextVar[Path | None] = ContextVar("project", default=None)


@contextmanager
def named(path: Path | None) -> Iterator[None]:
    """Read this project file as long as this lasts, if it is one; raises UsageError where there is no such file."""
    if path is not None and not path.is_file():
        raise UsageError("no such project file", place=str(path), hint="make one with snnc init, or check --config")
    before = _named.set(path)
    try:
        yield
    finally:
        _named.reset(before)


def file_of(folder: Path) -> Path:
    """Return where the project file of a folder is, or would be: the one that was named, if any was."""
    return _named.get() or folder / FILE


def read(folder: Path) -> Project:
    """Read the project file of a folder, if there is one, or the one that was named.

    Raises UsageError with the path of the first problem.
    """
    path = file_of(folder)
    return parsed(read_yaml(path), path.parent) if path.exists() else Project()


def parsed(data: object, folder: Path) -> Project:
    """Return what a project file of a folder says; raises UsageError with the path of the first problem."""
    if not isinstance(data, Mapping):
        return _section(Project, data, "")
    fields: dict[str, Any] = {str(key): value for key, value in data.items()}
    for name, kind in {
        "calibration": Data,
        "evaluation": Evaluated,
    }.items():
        if name in fields:
            fields[name] = _section(kind, fields[name], name)
    if "preprocessing" in fields:
        fields["preprocessing"] = _placed(partial(written, fields["preprocessing"], place="preprocessing"))
    if "gates" in fields:
        fields["gates"] = Limits(**vars(_section(limits_form(), fields["gates"], "gates")))
    if isinstance(fields.get("set"), Mapping):
        # JSON is YAML, in which overrides write their values.
        fields["set"] = [f"{name}={json.dumps(value)}" for name, value in fields["set"].items()]
    project = _section(Project, fields, "")
    recipe = project.recipe
    if recipe is not None and Path(recipe).suffix in {".yaml", ".yml"}:
        recipe = str(folder / at_home(Path(recipe)))
    return dataclasses.replace(
        project,
        model=_below(folder, project.model),
        calibration=Data(_below(folder, project.calibration.data)),
        evaluation=dataclasses.replace(project.evaluation, data=_below(folder, project.evaluation.data)),
        recipe=recipe,
        plugins=tuple(folder / at_home(plugin) for plugin in project.plugins),
    )


def named_plugins(folder: Path) -> tuple[Path, ...]:
    """Return the plug-ins that the project file of a folder names."""
    listed = _glanced(folder, "plugins")
    folder = file_of(folder).parent
    return tuple(folder / at_home(Path(str(name))) for name in listed) if isinstance(listed, list) else ()


def named_memory(folder: Path) -> int | None:
    """Return the bytes of memory that the project file of a folder allows; raises UsageError where it is no size."""
    size = _glanced(folder, "memory")
    return _placed(partial(memory_size, size, "memory")) if isinstance(size, str) else None


def _glanced(folder: Path, key: str) -> object:
    """Return what the project file has under a key; of one that cannot be read, whoever reads all says what is wrong.

    None where there is nothing.
    """
    try:
        data = read_yaml(file_of(folder))
    except SnncError:
        return None
    return data.get(key) if isinstance(data, Mapping) else None


def template(models: Sequence[str] = (), calibration: str | None = None, evaluation: str | None = None) -> str:
    """Return a commented project file for a model file and data; what is not known, or not certain, is a comment too.

    Of several ``models`` each has a line to choose.
    """
    certain = "" if len(models) == 1 else "# "
    line = "\n".join(f"{certain}model: {_quoted(name)}" for name in models or ["model.onnx"])
    gates = "".join(
        f"#   {known[0].name}: {known[0].example}  # {_remark(known[0].help)}\n" for known in limits().values()
    )
    gates += "#   timesteps: 4  # number of time steps that they are for; else what the network was made for\n"
    gates += "#   proven: true  # fail what is kept by too few samples to prove it\n"
    lines = {"MODEL": line, "GATES": gates}
    for section, name, example in (("calibration", calibration, "calibration"), ("evaluation", evaluation, "test")):
        known = "# " if name is None else ""
        # What is a comment begins in the column of what is none.
        lines[section.upper()] = f"{known}{section}:\n{known}  data: {_quoted(name or example)}"
    return re.sub("|".join(lines), lambda found: lines[found[0]], _TEMPLATE)


def models_in(folder: Path) -> list[str]:
    """Return the names of the trained models in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in _MODELS and path.is_file())


def _section(kind: type[T], data: object, name: str) -> T:
    return _placed(partial(parse, kind, data, place=name))


def _placed(read: Callable[[], T]) -> T:
    """Return what is read; errors name this file."""
    try:
        return read()
    except UsageError as error:
        place = error.place.lstrip(".")
        file = str(_named.get() or FILE)
        raise UsageError(error.message, place=f"{file}: {place}" if place else file, hint=error.hint) from None


def _below(folder: Path, path: Path | None) -> Path | None:
    return None if path is None else folder / at_home(path)


def _remark(sentence: str) -> str:
    return f"{sentence[0].lower()}{sentence[1:].rstrip('.')}"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z][\w.-]*", name) else json.dumps(name)


_TEMPLATE = f"""\
# What would be typed again at every snnc command. Flags win over it; paths are relative to this file.
# Keys: {", ".join(keys(Project))}

MODEL

# TorchScript stores no input shape: that of one sample, without the batch.
# input-shape: [3, 224, 224]

# Images or recordings in a folder, an array file, shards ('train-{{000..146}}.tar') or Parquet; no labels needed.
CALIBRATION

# The same with labels: one sub-folder for each class, a labels.csv, or y in the .npz.
EVALUATION
# Samples may stop when their answer is that of the whole run with this confidence.
#   exit-confidence: 0.99

# What the trained network has on it, in percent; where it has less, samples or labels are not what they should be.
# expected-accuracy: 72.2

# What was done to an image before the network saw it, in training.
# preprocessing:
#   resize: 256
#   crop: 224
#   mean: [0.485, 0.456, 0.406]
#   std: [0.229, 0.224, 0.225]
# What frames are made of the events of recordings; protocol: cifar10-dvs has all that from a paper.
#   events: {{frames: 8, bins: time, polarity: channels}}

# How to convert: the name of a recipe or a file, and changes to it.
# recipe: default
# timesteps: 8
# sleep: 0
# frames: repeat
# neuron: two-phase
# In place of timesteps, sleep and neuron: all steps from image to answer, on a chip that snnc inspect --target knows.
# steps: 2
# target: akida
# set:
#   passes.calibrate-thresholds.kind: mmse

# What snnc evaluate has to find; else it exits with 4.
# gates:
GATES
# What an answer of the network is; without it, labels and outputs suggest it.
# task: classification

# What a conversion may take: it trains less, and sees fewer samples, where that is too little.
# minutes: 10
# What any command may use; half of the machine's memory unless given.
# memory: 8G

# Files that add neurons, passes, operations and more.
# plugins: [mine.py]

# Options of snnc export, by format.
# export:
#   nir:
#     profile: portable
"""
