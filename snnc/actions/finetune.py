"""Fine-tune a trained network on labeled images, so that it converts without further loss."""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnc.actions.convert import recipe_of
from snnc.actions.opened import Model, task_of, trained_of
from snnc.calibration import Calibration
from snnc.conversion import Tuning
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.given import Data, gathered
from snnc.data.labels import CLASSES, Labels
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Progress, Samples, silent
from snnc.data.store import FeedsStore
from snnc.errors import DataError, PreconditionError, UsageError
from snnc.files import temporary_folder, write_atomically
from snnc.findings import Finding
from snnc.formats.onnx import onnx_model
from snnc.frontend import Example, InputShapes
from snnc.ir import Graph, Input
from snnc.measure.remarks import not_varied, start_kept
from snnc.ops import HALF, BatchNorm, Clipped, Quantized, Weighted
from snnc.passes.balance_thresholds import BalanceThresholds
from snnc.passes.calibrate_thresholds import CalibrateThresholds
from snnc.passes.fold_batch_norm import FoldBatchNorm
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.pipeline import TUNED_FROM, apply_recipe, levels_to_be
from snnc.processes import Processes, joined
from snnc.progress import told
from snnc.recipe import Recipe
from snnc.run import Program
from snnc.run.device import device_of
from snnc.schedule import Schedule
from snnc.tasks import Task, chosen, picked, plain
from snnc.text import written
from snnc.training.activations import consistent, quantized
from snnc.training.checkpoint import load
from snnc.training.drawing import complete, drawn, passing_on, whitened
from snnc.training.network import TrainableNetwork
from snnc.training.settings import Training
from snnc.training.trainer import Labeled, Noise, Trainer, judge
from snnc.training.variation import Variation

# Of how many samples first layers are whitened.
_WHITENED = 4096
# CQReLU rounds down: its neurons start empty (METHODS 1).
_EMPTY = torch.tensor(0.0)


@dataclass(frozen=True, eq=False, repr=False)
class Tuned:
    """A fine-tuned network with the activations it was trained with, batch normalization folded unless kept.

    ``save`` writes it as ONNX.

    ``before`` and ``score`` are the task's on the samples held out, None where it has none: of the trained network
    before, and of the best epoch, or of the start where no epoch was better. ``origin`` is the network that the user
    brought, before any tuning; None where all is trained from scratch. ``history`` has a row for each epoch. Of several
    processes only one ``speaks``: writes and prints.
    """

    graph: Graph
    task: Task
    before: float | None
    score: float | None
    samples: int
    held_out: int
    history: tuple[Mapping[str, float], ...]
    findings: tuple[Finding, ...]
    speaks: bool
    origin: Tuning | None

    def __repr__(self) -> str:
        scores = [value for value in (self.before, self.score) if value is not None]
        told = " to ".join(f"{written(value, '%')} %" for value in scores)
        start = "scratch" if self.origin is None else self.origin.file
        return f"<Tuned from {start}: {self.task.score_name} {told} on {self.held_out:,} held out>"

    def save(self, path: str | Path) -> None:
        """Write it as an ordinary ONNX file, for ``convert``; raises DataError where that cannot be done."""
        model = onnx_model(self.graph, properties=self.properties)
        write_atomically(Path(path), model.SerializeToString())

    @property
    def properties(self) -> dict[str, str]:
        """What its file says of itself."""
        return {} if self.origin is None else {TUNED_FROM: json.dumps(asdict(self.origin), sort_keys=True)}

    def plain(self) -> dict[str, Any]:
        """Return what was reached as plain data, without the network."""
        return {
            "measures": self.task.score_name,
            "before": self.before,
            "score": self.score,
            "samples": self.samples,
            "held_out": self.held_out,
            "history": [dict(row) for row in self.history],
            "findings": [asdict(finding) for finding in self.findings],
            "tuned_from": None if self.origin is None else asdict(self.origin),
        }


def finetune(
    model: Model,
    recipe: Recipe | str | Path | None = None,
    *,
    data: Data,
    example: Example | None = None,
    task: Task | str | None = None,
    preprocessing: Preprocessing | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    after_epoch: Callable[[Sequence[Mapping[str, float]]], None] = lambda history: None,
) -> Tuned:
    """Train a network with the stand-ins that the recipe's ``training`` names in the place of its activations.

    ``model``, ``recipe``, ``data``, with labels, and ``example`` are as for ``convert``. It starts from the thresholds
    that the recipe's passes calibrate, on all images, or from scratch where ``training`` says so. The ``task``, unless
    given the one that outputs and labels suggest, says what is learned from labels. A share is held out, where there
    are classes of every one; the epoch with the best score on it is what is returned. With ``checkpoint``, the state is
    written there after every epoch and when a signal asks to stop, and ``resume`` goes on from it to the same result
    (on a GPU, up to rounding). ``after_epoch`` is told the history so far. Started by ``torchrun``, all processes train
    one network.

    Raises UsageError where the recipe has no training, DataError where labels are missing or do not suffice.
    """
    recipe = recipe_of("default" if recipe is None else recipe)
    settings = check_training(recipe)
    held, progress = gathered(data), progress or told()
    how, reading = preprocessing or Preprocessing(), reading or Reading()
    target = device_of(device)
    if resume and checkpoint is None:
        raise UsageError("nothing to go on from", place="--resume", hint="name the checkpoint with --checkpoint")
    trained = trained_of(model, held, input_shape, example)
    dataset = open_dataset(held, how, trained.graph.ops(Input), reading)
    task = chosen(task_of(task), trained.graph, dataset.kinds)
    if not task.trains:
        hint = "state another task: classification, multi-label, regression, segmentation or values"
        raise UsageError("nothing can be learned of this task from labels", place="task", hint=hint)
    task.check(dataset, trained.graph.output_shapes)
    training, held_out = split_dataset(dataset, settings, task)
    augment = settings.augment if task.stays_if_varied else ()
    variation = Variation(augment, trained.graph.input_shapes, how)
    identity = {
        "model": trained.file.sha256,
        "data": f"{dataset.digest()} {_digest(dataset, training)}",
        "recipe": json.dumps(recipe.plain(), sort_keys=True),
        "preprocessing": json.dumps(asdict(how), sort_keys=True),
        "task": json.dumps(plain(task), sort_keys=True),
    }
    state = load(checkpoint, identity) if resume and checkpoint is not None else None
    with joined("snnc finetune") as processes, temporary_folder() as folder:
        tell = progress if processes.first else silent
        samples = DatasetSamples(dataset, reading, "reading images", tell)
        network, kept = _begun(trained.graph, settings, samples.chosen(training.tolist()))
        start = starting(network, recipe, samples, tell)
        labels = _labels(dataset, task).answers
        # Of frames that the network sees one by one, each is a sample; those of a recording are held out together.
        still = samples.still()
        frames = torch.arange(len(still) // len(samples))
        training, held_out = ((part.unsqueeze(1) * len(frames) + frames).flatten() for part in (training, held_out))
        labels = picked(labels, torch.arange(len(samples)).repeat_interleave(len(frames)))
        labeled = Labeled(FeedsStore(folder / "samples", still.batches()), labels, training, held_out)
        trainer = _trainer(
            network,
            start,
            labeled,
            settings,
            recipe.schedule,
            kept=kept,
            task=task,
            variation=variation,
            processes=processes,
            device=target,
            identity=identity,
            checkpoint=checkpoint,
            progress=tell,
            after_epoch=after_epoch,
        )
        outcome = trainer.train(state)
        judged = math.nan if settings.from_scratch else _before(network, labeled, task)
    found = [not_varied(settings.augment)] if augment != settings.augment else []
    before = None if math.isnan(judged) else judged
    if outcome.start:
        found.append(start_kept(task, before, outcome.score, len(held_out)))
    earlier = trained.tuned_from or Tuning(trained.file.file, trained.file.sha256, task.score_name, before, None, 0)
    graph = outcome.graph.map_tensors(lambda tensor: tensor.cpu())
    return Tuned(
        graph=FoldBatchNorm()(graph, Calibration(graph, None, recipe.schedule, {}, {})) if settings.fold else graph,
        task=task,
        before=before,
        score=outcome.score,
        samples=len(training),
        held_out=len(held_out),
        history=outcome.history,
        findings=(*trained.findings, *dataset.findings, *found),
        speaks=processes.first,
        origin=None if settings.from_scratch else replace(earlier, after=outcome.score, held_out=len(held_out)),
    )


def check_training(recipe: Recipe) -> Training:
    """Return how a recipe trains; raises UsageError where it says nothing of that."""
    if recipe.training is None:
        hint = "take one with a section training:, such as default, qcfs or error-compensation"
        raise UsageError(f"the recipe {recipe.name} says nothing of training", place="--recipe", hint=hint)
    return recipe.training


def split_dataset(dataset: Dataset, settings: Training, task: Task) -> tuple[Tensor, Tensor]:
    """Return the numbers of the samples to train on and of those (of every class), at least one, to hold out.

    Raises DataError where there are no labels or a single sample, a single class, or a class with one image only.
    """
    labels = _labels(dataset, task).answers
    generator = torch.Generator().manual_seed(settings.seed)

    def some(count: int) -> int:
        return max(1, int(count * settings.held_out))

    if task.labels != CLASSES:
        if len(labels) == 1:
            raise DataError("one sample, which cannot be held out", place="--data", hint="give two or more")
        order = torch.randperm(len(labels), generator=generator)
        held = some(len(labels))
        return order[held:], order[:held].sort().values
    classes = torch.unique(labels)
    if len(classes) == 1:
        hint = "give images of every class"
        raise DataError(f"all images have the label {int(classes[0])}", place="--data", hint=hint)
    training, held_out = [], []
    for label in classes:
        members = (labels == label).nonzero().flatten()
        if len(members) == 1:
            hint = "give at least two of every class"
            message = f"the label {int(label)} has one image, none of which can be held out"
            raise DataError(message, place=dataset.name(int(members[0])), hint=hint)
        members = members[torch.randperm(len(members), generator=generator)]
        held = some(len(members))
        held_out.append(members[:held])
        training.append(members[held:])
    return torch.cat(training), torch.cat(held_out).sort().values


def _labels(dataset: Dataset, task: Task) -> Labels:
    """Return the labels that the task takes; raises DataError where there are none."""
    labels = dataset.labels(task.labels)
    if labels is None:
        hint = task.wanted or f"give data with {task.labels} as labels, or state another task"
        raise DataError("fine-tuning needs labels", place="--data", hint=hint)
    return labels


def starting(graph: Graph, recipe: Recipe, samples: Samples, progress: Progress) -> Graph:
    """Return the network with the recipe's calibrated thresholds, batch normalization left to be trained.

    Passes run up to the one that calibrates; the one that folds batch normalization is left out. None run where
    activations stay what they are. Raises PreconditionError where nothing is quantized then.
    """
    settings = check_training(recipe)
    made = graph
    if settings.activation == "relu":
        return made

    def levels(graph: Graph) -> Mapping[str, int]:
        found = levels_to_be(graph, recipe)
        return found if settings.levels is None else dict.fromkeys(found, settings.levels)

    for step in recipe.passes:
        if not isinstance(step, FoldBatchNorm):
            made = apply_recipe(made, replace(recipe, passes=(step,)), samples, progress, levels_of=levels).snn
        if isinstance(step, CalibrateThresholds | BalanceThresholds):
            break
    if not made.ops(Quantized):
        hint = "take a recipe with calibrate-thresholds, and a network with ReLU activations"
        raise PreconditionError("no activation has a threshold to train", place="passes", hint=hint)
    return made.with_ops({name: _stand_in(op, settings) for name, op in made.ops(Quantized).items()})


def _begun(trained: Graph, settings: Training, samples: Samples) -> tuple[Graph, Collection[str]]:
    """Return the network that training begins with, and which of its layers stay as they are."""
    if not settings.from_scratch:
        return trained, ()
    graph = drawn(trained, settings.seed)
    if "identity" in settings.initialization:
        graph = passing_on(graph)
    if "whitened" not in settings.initialization:
        return graph, ()
    first = whitened(graph, samples.thinned(_WHITENED).still().batches())
    kept = [name for name, layer in first.items() if complete(layer)]
    # Something has to learn.
    return graph.with_ops(first), kept if len(kept) < len(graph.ops(Weighted)) else ()


def _stand_in(op: Quantized, settings: Training) -> Quantized | Clipped:
    if settings.activation == "clip":
        return op.clipped()
    return replace(op, potential=_EMPTY if settings.activation == "cqrelu" else HALF)


def _trainer(
    reference: Graph,
    start: Graph,
    data: Labeled,
    settings: Training,
    schedule: Schedule,
    *,
    kept: Collection[str],
    task: Task,
    processes: Processes,
    device: torch.device,
    **others: Any,
) -> Trainer:
    kinds: tuple[type, ...] = (Weighted,)
    if settings.batch_norm != "frozen":
        kinds += (BatchNorm,)
    if settings.activation != "cqrelu":
        kinds += (Quantized, Clipped)
    noise = Noise(processes, device)
    # What only other outputs are computed from learns nothing.
    learning = start.ancestors(task.judged(start.outputs))
    network = TrainableNetwork(
        start.map_tensors(lambda tensor: tensor.to(device)),
        schedule,
        [name for name in start.ops(kinds) if name in learning],
        stand_in=consistent if settings.activation == "cqrelu" else quantized,
        disturbed=noise,
        processes=processes,
    )
    steady = [tensor for name in kept for tensor in network.layers[name].tensors().values()]
    if settings.batch_norm == "shifts":
        steady += [norm.scale for norm in network.norms.values()]
    for tensor in steady:
        tensor.requires_grad_(False)
    on_device = reference.map_tensors(lambda tensor: tensor.to(device))
    noisy = settings.activation == "noisy-qcfs"
    return Trainer(
        network,
        on_device,
        data,
        settings,
        task=task,
        noise=noise,
        measured=_residuals(data, settings, device) if noisy else None,
        processes=processes,
        device=device,
        **others,
    )


def _residuals(data: Labeled, settings: Training, device: torch.device) -> Callable[[Graph], dict[str, float]]:
    """Return the function that measures how far neurons are from the activations they stand for.

    For every layer the square root of the mean, over batches of the images held out, of the variance of what separates
    the two (Huang et al., TNNLS 2025, for IF neurons). Where a slope needs negative spikes, dual-threshold neurons
    stand in.
    """
    schedule = Schedule(settings.noise_steps)

    def measured(graph: Graph) -> dict[str, float]:
        names = list(graph.ops(Quantized))
        spiking = SubstituteNeurons(settings.noise_neuron)(graph, Calibration(graph, None, schedule, {}, {}))
        trained, fired_by = Program(graph, want=names), Program(spiking, schedule, want=names)
        variances: dict[str, list[float]] = {name: [] for name in names}
        for part in torch.split(data.held_out, fired_by.chunk):
            feeds = data.samples[part].to(device)
            clean, fired = trained(feeds), fired_by(feeds)
            for name in names:
                variances[name].append(float((clean[name] - fired[name]).var(correction=0)))
        return {name: (sum(found) / len(found)) ** 0.5 for name, found in variances.items()}

    return measured


def _digest(dataset: Dataset, chosen: Tensor) -> str:
    """Return the SHA-256 of which images are trained on, in their order: that of a labels.csv matters to it."""
    return hashlib.sha256("\n".join(map(dataset.name, chosen.tolist())).encode()).hexdigest()


def _before(graph: Graph, data: Labeled, task: Task) -> float:
    """Return the score of the network as it was, on the samples held out."""
    outputs = task.judged(graph.outputs)
    batches = (data.samples[part] for part in torch.split(data.held_out, 256))
    found = ([signal[name][0] for name in outputs] for signal in Program(graph, want=outputs).stream(batches))
    return judge(task, found, picked(data.labels, data.held_out))[0]
