"""Turn a trained network into a spiking one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from snnc.actions.opened import Model, task_of, trained_of
from snnc.budget import Budget
from snnc.checkpoint import Checkpoint
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.given import Data, gathered
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Progress
from snnc.errors import UsageError
from snnc.frontend import Example, InputShapes
from snnc.ir import Input
from snnc.measure.expectations import check_expected
from snnc.pipeline import Trained, make, reported
from snnc.process import memory_within
from snnc.progress import told
from snnc.recipe import Recipe, load, override
from snnc.report import Report
from snnc.tasks import Task, chosen


class Converted(NamedTuple):
    """A spiking network, and the report on what converting it cost."""

    conversion: Conversion
    report: Report

    def __repr__(self) -> str:
        return f"({self.conversion!r}, {self.report!r})"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def convert(
    model: Model,
    recipe: Recipe | str | Path | None = None,
    *,
    data: Data | None = None,
    example: Example | None = None,
    timesteps: int | None = None,
    sleep: int | None = None,
    neuron: str | None = None,
    weight_bits: int | None = None,
    changes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    task: Task | str | None = None,
    expected: float | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
    minutes: float | None = None,
    memory: int | str | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Turn a trained network into a spiking one, and report what that costs layer by layer.

    ``model`` is an ONNX or TorchScript file, or a module of torch, which is exported on ``example``, a batch that it
    takes, or else on the first sample of ``data``. The time steps, and what is done in which order, are those of
    ``recipe``: one that is shipped, by name, or a file, as ``snnc.recipe.load`` reads them, or what that returned;
    without one it is the default. ``timesteps``, ``sleep``, ``neuron``, ``weight_bits`` and ``changes``, such as
    ``passes.PASS.OPTION=VALUE``, are set on top. ``data`` is a folder of images, an array file, or what a program
    holds: tensors, arrays, ``(x, y)``, a Dataset or a DataLoader, labels not needed. Floats are what the network takes,
    uint8 are pixels; without data, thresholds come from what batch normalization states or, if that is nothing,
    thresholds and biases from synthetic samples, and ``calibrate`` can follow. ``preprocessing`` is what the network
    was trained with, and is kept in the conversion; without it pixels are divided by 255, and that is all:
    ``snnc.yaml`` is read by the commands only.
    ``task`` says what an answer is, and is kept too; without it, labels and outputs suggest it wherever it matters.
    Of data with labels, the trained network's score is to be ``expected``, in percent, or more.
    ``input_shape``, of one sample, is only for what does not say it; ``reading`` says how many images are read, and
    how; ``progress`` is told what is being done, else bars in a notebook or lines in a log tell it. In so many
    ``minutes`` as there are it does what it can: a finding says which samples and steps of training are left out. What
    is kept in ``memory``, as in ``"8G"``, and what on disk or not at all, follows what there is; half of the machine's
    unless given. With data, what is reached is kept in the file ``checkpoint`` now and then, and when a signal asks to
    stop; ``resume`` goes on from it to the same bytes. Who no longer needs it removes it.

    Raises ModelError where the file cannot be read or holds what cannot spike, DataError where the data is broken or
    does not fit, PreconditionError where a pass of the recipe cannot run on this network or without data, UsageError
    where there is no such recipe.
    """
    budget = Budget(minutes)
    steps = override(
        recipe_of("default" if recipe is None else recipe),
        timesteps=timesteps,
        sleep=sleep,
        neuron=neuron,
        weight_bits=weight_bits,
        overrides=changes,
    )
    held = None if data is None else gathered(data)
    how, reading = preprocessing or Preprocessing(), reading or Reading()
    with memory_within(memory):
        trained = trained_of(model, held, input_shape, example)
        kept = kept_in(checkpoint, held, resume=resume)
        return converted(trained, steps, held, how, reading, progress, task_of(task), expected, budget, kept)


def kept_in(path: Path | None, data: Data | None, *, resume: bool) -> Checkpoint:
    """Return what keeps what is reached; raises UsageError where there is nothing to go on from."""
    if resume and data is None:
        hint = "give the data it was stopped on, or start without --resume"
        raise UsageError("nothing is kept of a conversion without data", place="--resume", hint=hint)
    return Checkpoint(None if data is None else path, resume=resume)


def recipe_of(recipe: Recipe | str | Path) -> Recipe:
    """Return a recipe, read where it is given by its name or file."""
    return recipe if isinstance(recipe, Recipe) else load(str(recipe))


def converted(
    trained: Trained,
    recipe: Recipe,
    data: Data | None,
    preprocessing: Preprocessing,
    reading: Reading,
    progress: Progress | None,
    task: Task | None,
    expected: float | None,
    budget: Budget,
    checkpoint: Checkpoint,
) -> Converted:
    """Convert a network that was read, and measure what came of it."""
    progress = progress or told()
    budget.decided |= checkpoint.decided
    inputs = trained.graph.ops(Input)
    dataset = None if data is None else open_dataset(data, preprocessing, inputs, reading)
    if data is not None and dataset is not None:
        limit = budget.fitting_limit(recipe.passes, recipe.schedule, trained.graph, dataset, reading)
        if limit is not None:
            reading = replace(reading, limit=limit)
            dataset = open_dataset(data, preprocessing, inputs, reading)
    if dataset is not None and expected is not None:
        samples = DatasetSamples(dataset, reading, "judging the trained network", progress)
        judging = chosen(task, trained.graph, dataset.kinds)
        check_expected(expected, trained.graph, samples, judging, preprocessing)
    conversion, canonical = make(
        trained, recipe, dataset, preprocessing, reading, progress, task=task, budget=budget, checkpoint=checkpoint
    )
    return Converted(*reported(conversion, canonical, dataset, reading, progress))
