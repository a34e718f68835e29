"""The product as functions: convert and calibrate (``snnc.evaluation`` is the third)."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnc
from snnc.calibration import Calibration, Samples
from snnc.calibration.gaussian import stated_moments
from snnc.conversion import Applied, Conversion, Schedule
from snnc.data.dataset import open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.errors import ModelError, UsageError, VerificationError
from snnc.findings import Finding
from snnc.frontend import read_model
from snnc.ir import Graph, Input
from snnc.ops import QuantizedRelu
from snnc.passes import Pass
from snnc.recipe import Recipe, from_plain, options, pass_name
from snnc.report import Report, build
from snnc.run import run
from snnc.validation import parse

# The report compares the networks layer by layer on at most this many images of the folder, evenly spaced.
_MEASURED_IMAGES = 128

# Told what is being done: a label, how much of it is done, out of how much.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reading:
    """How data is read: images at once, threads (None: one per core, at most 8), and how many images (None: all)."""

    batch_size: int = 64
    workers: int | None = None
    limit: int | None = None
    seed: int = 0


class Loaded:
    """A folder or an array as samples that can be read again and again."""

    def __init__(
        self,
        data: Path,
        preprocessing: Preprocessing,
        shape: tuple[int, ...],
        reading: Reading,
        label: str,
        progress: "Progress",
    ) -> None:
        self.dataset = open_dataset(data, preprocessing, shape, limit=reading.limit, seed=reading.seed)
        self._reading = reading
        self._label = label
        self._progress = progress

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self) -> Iterator[Tensor]:
        """Yield all samples, telling the progress."""
        done = 0
        self._progress(self._label, 0, len(self))
        for batch in self.dataset.batches(self._reading.batch_size, self._reading.workers):
            yield batch
            done += len(batch)
            self._progress(self._label, done, len(self))


def silent(label: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def apply_recipe(
    reference: Graph, recipe: Recipe, samples: Samples | None, progress: Progress = silent
) -> tuple[Graph, Graph, tuple[Applied, ...]]:
    """Run the passes of a recipe over a trained network.

    Returns the network right before the first pass that is not exact (the same function as ``reference``, in the form
    that the spiking one is compared with layer by layer), the spiking network, and what was applied. Raises
    PreconditionError where a pass cannot run, VerificationError where one breaks its contract.
    """
    graph = canonical = reference
    exact = True
    applied = []
    for index, step in enumerate(recipe.passes):
        name = pass_name(step)
        progress(name, index, len(recipe.passes))
        step.requires(graph)
        started = time.monotonic()
        before, graph = graph, step(graph, Calibration(canonical, samples, recipe.timesteps, stated_moments(reference)))
        _check_contract(step, name, before, graph)
        exact = exact and (step.exact or not graph.changes(before))
        canonical = graph if exact else canonical
        seconds = time.monotonic() - started
        applied.append(Applied(name, options(step), len(graph.changes(before)), seconds))
    return canonical, graph, tuple(applied)


def _check_contract(step: Pass, name: str, before: Graph, after: Graph) -> None:
    hint = "this is a defect of the pass: please report it with the model"
    if (before.inputs, before.outputs) != (after.inputs, after.outputs):
        raise VerificationError(f"{name} changed the network's inputs or outputs", hint=hint)
    if not step.exact or after is before:
        return
    generator = torch.Generator().manual_seed(0)
    feeds = {
        n: torch.randn(1, 2, *op.shape, generator=generator, dtype=torch.float64) for n, op in before.ops(Input).items()
    }
    results = []
    for graph in (before, after):
        exactly = graph.map_tensors(lambda tensor: tensor.double())
        results.append(torch.cat([out.flatten() for out in run(exactly, feeds, graph.outputs).values()]))
    error = float((results[0] - results[1]).norm() / results[0].norm().clamp(min=1e-30))
    # Weights are rounded to single precision, which can move a quantized value to its neighboring level.
    if not error < (5e-2 if before.ops(QuantizedRelu) else 1e-4):
        raise VerificationError(f"{name} changed the network's output by {error:.1e}", hint=hint)


def convert(
    model: Path,
    recipe: Recipe,
    *,
    data: Path | None = None,
    preprocessing: Preprocessing | None = None,
    input_shape: tuple[int, ...] | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> tuple[Conversion, Report]:
    """Turn a trained network into a spiking one, calibrated where ``data`` (images or arrays, no labels) is given.

    Raises ModelError where the file cannot be read or holds what cannot spike, DataError where the data is broken.
    """
    read = read_model(model, input_shape)
    return _converted(
        read.graph,
        recipe,
        data,
        preprocessing or Preprocessing(),
        reading or Reading(),
        {"file": model.name, "sha256": read.sha256},
        read.findings,
        progress,
    )


def calibrate(
    conversion: Conversion,
    recipe: Recipe,
    *,
    data: Path,
    preprocessing: Preprocessing | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> tuple[Conversion, Report]:
    """Work out thresholds and corrections again from images, starting at the reference kept in the conversion.

    ``preprocessing`` is the conversion's own unless given. Raises ModelError where the reference was stripped.
    """
    if conversion.reference is None:
        hint = "convert the model again without --strip"
        raise ModelError("the file holds no reference network to calibrate against", hint=hint)
    return _converted(
        conversion.reference,
        recipe,
        data,
        preprocessing or preprocessing_of(conversion),
        reading or Reading(),
        conversion.provenance["model"],
        conversion.imported,
        progress,
    )


def recipe_of(conversion: Conversion) -> Recipe:
    """Return the recipe that a conversion was made by."""
    with _damaged():
        return from_plain(conversion.provenance["recipe"], place="recipe in the .snn file")


def preprocessing_of(conversion: Conversion) -> Preprocessing:
    """Return the preprocessing that a conversion was made with."""
    with _damaged():
        return parse(Preprocessing, conversion.preprocessing, place="preprocessing in the .snn file")


@contextmanager
def _damaged() -> Iterator[None]:
    """Blame the file, not the user, for what is wrong in it."""
    try:
        yield
    except UsageError as error:
        raise ModelError(f"damaged .snn file: {error.message}", place=error.place, hint="convert again") from None


def _converted(
    reference: Graph,
    recipe: Recipe,
    data: Path | None,
    preprocessing: Preprocessing,
    reading: Reading,
    model: Mapping[str, Any],
    imported: tuple[Finding, ...],
    progress: Progress,
) -> tuple[Conversion, Report]:
    samples = measured = calibration = None
    if data is not None:
        shape = reference.shapes[reference.inputs[0]]
        samples = Loaded(data, preprocessing, shape, reading, "reading images", progress)
        few = replace(reading, limit=min(len(samples), _MEASURED_IMAGES))
        measured = Loaded(data, preprocessing, shape, few, "measuring", progress)
        calibration = {"images": len(samples), "sha256": samples.dataset.digest(), "seed": reading.seed}
    canonical, snn, applied = apply_recipe(reference, recipe, samples, progress)
    conversion = Conversion(
        reference=reference,
        snn=snn,
        schedule=Schedule(recipe.timesteps),
        applied=applied,
        imported=imported,
        findings=(),
        # As JSON has it, so that what is loaded equals what was saved.
        preprocessing=json.loads(json.dumps(asdict(preprocessing))),
        provenance={
            "model": dict(model),
            "recipe": recipe.plain(),
            "calibration": calibration,
            "versions": {"snnc": snnc.__version__, "torch": torch.__version__},
        },
    )
    report = build(conversion, canonical, measured.batches() if measured else None)
    return replace(conversion, findings=report.findings), report
