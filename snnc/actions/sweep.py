"""Convert a trained network in every way of a list, calibrated for each, and measure all of them on the same images.

Every seed draws another two thirds of the images to calibrate on, and what is random. What was measured is written line
by line as it comes: a sweep that was stopped goes on where it was. Beside every spiking network stands a quantized one
with as many levels, of the same recipe: what is left of a difference is what spikes cost.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from snnc.actions.members import members
from snnc.actions.opened import Model, task_of, trained_of
from snnc.data.dataset import Reading, open_dataset
from snnc.data.given import Data, gathered
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Progress
from snnc.documents import from_json
from snnc.errors import DataError, ModelError, StoppedError, UsageError
from snnc.files import make_folder, read_bytes
from snnc.frontend import Example, InputShapes
from snnc.ir import Input
from snnc.neurons import neurons as known_neurons
from snnc.neurons.choice import options_of, with_options
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.pipeline import Trained
from snnc.processes import current
from snnc.progress import told
from snnc.recipe import Recipe, load, pass_name, recorded
from snnc.report.sweep import Result, Sweep
from snnc.tasks import Task, plain
from snnc.trials import Bench
from snnc.validation import called

# What lines are of: another number where they say something else.
_LINES = 1
_LINES_OF = "trials"
# Bytes that lines never are of.
_MOST = 1 << 28


@final
@dataclass(frozen=True)
class Setting:
    """One way to convert: ``neuron`` "" and ``levels`` and ``timesteps`` None are the recipe's own."""

    recipe: str
    neuron: str = ""
    levels: int | None = None
    timesteps: int | None = None
    seed: int = 0

    @cached_property
    def made(self) -> Recipe:
        """The recipe, changes included; raises UsageError where there is none such."""
        neuron = self.neuron or None
        if neuron is not None and self.levels is not None:
            neuron = with_options(neuron, {"levels": self.levels}, place="--levels")
        return load(self.recipe, timesteps=self.timesteps, neuron=neuron)

    @property
    def title(self) -> str:
        """What differs from others but for steps and seed, for people."""
        levels = "" if self.levels is None else f"L={self.levels}"
        return ", ".join(part for part in (self.recipe, self.neuron, levels) if part)

    @property
    def key(self) -> str:
        """What tells it from all others: what its recipe does, and the seed."""
        text = json.dumps([self.made.plain(), self.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def sweep(
    model: Model,
    *,
    data: Data,
    judged_on: Data | None = None,
    recipes: Sequence[str] = ("quick",),
    neurons: Sequence[str] = (),
    levels: Sequence[int] = (),
    timesteps: Sequence[int] = (),
    seeds: Sequence[int] = (0,),
    folder: str | Path,
    example: Example | None = None,
    task: Task | str | None = None,
    preprocessing: Preprocessing | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Convert and measure in every combination of recipes, neurons, levels, time steps and seeds.

    ``model``, ``data`` and ``example`` are as for ``convert``. Two thirds of the images calibrate, drawn by each seed,
    and the rest judges, or ``judged_on`` does. Without neurons, levels or time steps those of the recipes are taken;
    levels are for neurons that have such an option. What is measured is kept in ``folder``, and what is there already
    of the same sweep is not made again; ``Sweep.save`` writes tables and the page there. What cannot be made is told
    with its reason, and the rest goes on.

    Raises UsageError where there is nothing to do, for names that there are not, and where the folder holds another
    sweep, DataError where the data is broken, or a line cannot be written, StoppedError where somebody stops it.
    """
    settings = combinations(recipes, neurons, levels, timesteps, seeds)
    held, progress = gathered(data), progress or told()
    others = None if judged_on is None else gathered(judged_on)
    trained = trained_of(model, held, input_shape, example)
    how, reading, task = preprocessing or Preprocessing(), reading or Reading(), task_of(task)
    bench = _bench(trained, held, how, reading, task, others, settings[0].seed)
    identity = {
        _LINES_OF: _LINES,
        "model": trained.file.sha256,
        "calibration": open_dataset(held, how, trained.graph.ops(Input)).digest(),
        "judging": None if others is None else bench.judging.digest(),
        "limit": reading.limit,
        "preprocessing": json.loads(json.dumps(dataclasses.asdict(how))),
        "task": plain(bench.task),
    }
    place = Path(folder)
    make_folder(place)
    lines = _Lines(place, identity)
    try:
        for number, setting in enumerate(settings, 1):
            if setting.key in lines.found:
                continue
            if bench.seed != setting.seed:
                bench = _bench(trained, held, how, reading, task, others, setting.seed)
            title = f"{number} of {len(settings)}, {setting.title}, T={setting.made.timesteps}, seed {setting.seed}"
            lines.append(_measured(bench, setting, _under(title, progress)))
    except KeyboardInterrupt:
        done = sum(setting.key in lines.found for setting in settings)
        message, hint = f"stopped: {done} of {len(settings)} are done, and kept", "run it again to go on"
        raise StoppedError(message, place=str(place), hint=hint) from None
    results = tuple(lines.found[setting.key] for setting in settings)
    return Sweep(place, trained.file.file, bench.task, identity, results, _papers(settings))


def combinations(
    recipes: Sequence[str],
    neurons: Sequence[str],
    levels: Sequence[int],
    timesteps: Sequence[int],
    seeds: Sequence[int],
) -> list[Setting]:
    """Return all settings, those of one seed together; raises UsageError where one is none, or there are none."""
    for name, given in (("recipe", recipes), ("seed", seeds)):
        if not given:
            raise UsageError(f"nothing to sweep: no {name}", place=f"--{name}s", hint=f"give one {name} or more")
    having = [neuron for neuron in neurons if _has_levels(neuron)]
    if levels and not having:
        hint = "add a neuron that has levels of its own: --neurons graded"
        raise UsageError("no neuron here is made with levels", place="--levels", hint=hint)
    found: dict[str, Setting] = {}
    for seed, recipe, neuron, steps in itertools.product(seeds, recipes, neurons or ("",), timesteps or (None,)):
        for count in levels if neuron in having and levels else (None,):
            setting = Setting(recipe, neuron, count, steps, seed)
            found.setdefault(setting.key, setting)
    return list(found.values())


def _papers(settings: Sequence[Setting]) -> tuple[str, ...]:
    """Return what recipes, neurons and passes cite."""
    used: dict[str, set[str]] = {"recipes": set(), "neurons": set(), "passes": set()}
    for setting in settings:
        used["recipes"].add(setting.recipe)
        for step in setting.made.passes:
            used["passes"].add(pass_name(step))
            if isinstance(step, SubstituteNeurons):
                used["neurons"] |= {name for name, kind in known_neurons.items() if kind in step.placed}
    found = (
        paper for kind, names in used.items() for each in members(kind) if each.name in names for paper in each.papers
    )
    return tuple(sorted(set(found)))


def _has_levels(neuron: str) -> bool:
    name, _ = called(neuron, place="--neurons")
    # What there is not is told where it is looked up.
    return name in known_neurons and "levels" in {
        field.name for field in dataclasses.fields(options_of(known_neurons[name]))
    }


def _bench(
    trained: Trained,
    data: Data,
    preprocessing: Preprocessing,
    reading: Reading,
    task: Task | None,
    others: Data | None,
    seed: int,
) -> Bench:
    return Bench(trained, data, preprocessing, dataclasses.replace(reading, seed=seed), task, others=others)


def _measured(bench: Bench, setting: Setting, progress: Progress) -> Result:
    """Make a network and measure it; what cannot be made says why."""
    started = time.monotonic()
    named: dict[str, Any] = {
        "key": setting.key,
        "title": setting.title,
        "recipe": setting.recipe,
        "neuron": setting.neuron,
        "seed": setting.seed,
        "timesteps": setting.made.timesteps,
        "asked_levels": setting.levels,
    }
    try:
        conversion, _ = bench.made_by(setting.made, progress)
        evaluation = bench.judge(conversion, progress)
        quantized = bench.quantized(recorded(conversion), progress)
    except (UsageError, ModelError) as error:
        return Result(**named, failed=error.line)
    (row,) = evaluation.rows
    events = row.energy.events
    return Result(
        **named,
        total_steps=row.total_steps,
        levels=None if events is None else events.levels,
        event_bits=None if events is None else events.bits,
        score=bench.task.merit(row),
        trained=evaluation.reference.get(bench.task.score_name),
        quantized=None if quantized is None else bench.merit(quantized, progress),
        agreement=row.agreement,
        spikes=row.spikes,
        energy=row.energy.total,
        energy_ratio=row.energy.ratio,
        arithmetic_ratio=row.energy.arithmetic_ratio,
        quantized_energy=row.energy.quantized + row.energy.quantized_memory,
        samples=evaluation.samples,
        seconds=round(time.monotonic() - started, 3),
    )


def _under(title: str, progress: Progress) -> Progress:
    return lambda label, done, total: progress(f"{title}: {label}", done, total)


class _Lines:
    """What was measured, a line each. Of several processes only the first reads and writes it."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._path = folder / f"{_LINES_OF}.jsonl"
        self._head = json.dumps(identity, sort_keys=True)
        mine = self._read() if current().first and self._path.exists() else {}
        self.found: dict[str, Result] = current().folded("what is measured already", mine, lambda first, others: first)

    def append(self, result: Result) -> None:
        """Write one more line, to stay; raises DataError where it cannot be written, and leaves none half-written."""
        if current().first:
            self._write(json.dumps(dataclasses.asdict(result), sort_keys=True))
        self.found[result.key] = result

    def _read(self) -> dict[str, Result]:
        found = {}
        for number, line in enumerate(self._whole()):
            if number == 0:
                self._check(line)
                continue
            place = f"{self._path}:{number + 1}"
            hint = "remove this line: what it was of is measured again"
            try:
                result = Result.parsed(from_json(line.encode()), place)
            except ValueError:
                raise DataError("no result of a sweep", place=place, hint=hint) from None
            except UsageError as error:
                raise DataError(f"no result of a sweep: {error.message}", place=error.place, hint=hint) from None
            found[result.key] = result
        return found

    def _write(self, line: str) -> None:
        size = 0
        try:
            size = len("".join(f"{kept}\n" for kept in self._whole()).encode()) if self._path.exists() else 0
            with self._path.open("r+b" if self._path.exists() else "w+b") as file:
                # What was cut short when it was written is written over.
                file.truncate(size)
                file.seek(size)
                file.write("".join(f"{each}\n" for each in ([line] if size else [self._head, line])).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._path, size)
            hint = f"free some space and run it again: {len(self.found)} that are done are kept"
            raise DataError(f"cannot write: {error.strerror}", place=str(self._path), hint=hint) from None

    def _whole(self) -> list[str]:
        """Return the lines that were written to their ends."""
        text = read_bytes(self._path, most=_MOST).decode(errors="replace")
        return text[: text.rfind("\n") + 1].splitlines()

    def _check(self, line: str) -> None:
        with contextlib.suppress(ValueError):
            if from_json(line.encode()) == json.loads(self._head):
                return
        hint = "choose another folder with --output, or remove it"
        place = str(self._path)
        raise UsageError("another sweep: of another network, other data or preprocessing", place=place, hint=hint)
