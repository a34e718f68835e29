"""Work out thresholds and corrections again from samples."""

from pathlib import Path

from snnc.actions.convert import Converted, converted, kept_in, recipe_of
from snnc.actions.opened import Spiking, conversion_of
from snnc.budget import Budget
from snnc.data.dataset import Reading
from snnc.data.given import Data, gathered
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Progress
from snnc.errors import ModelError
from snnc.pipeline import Trained
from snnc.process import memory_within
from snnc.recipe import Recipe, recorded


def calibrate(
    network: Spiking,
    recipe: Recipe | str | Path | None = None,
    *,
    data: Data,
    preprocessing: Preprocessing | None = None,
    expected: float | None = None,
    reading: Reading | None = None,
    minutes: float | None = None,
    memory: int | str | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Work out thresholds and corrections again from images, starting at the trained network kept in the conversion.

    ``network`` is a conversion, or its file. ``data`` is as for ``convert``, labels not needed. ``recipe`` and
    ``preprocessing`` are the conversion's own unless given; they, ``expected``, ``reading``, ``minutes``, ``memory``,
    ``checkpoint``, ``resume`` and ``progress`` are as for ``convert``.

    Raises ModelError where the trained network was stripped, DataError where the data is broken or does not fit,
    UsageError where there is no such recipe.
    """
    budget = Budget(minutes)
    conversion = conversion_of(network)
    if conversion.reference is None:
        hint = "convert the model again without --strip"
        raise ModelError("the file holds no reference network to calibrate against", hint=hint)
    trained = Trained(
        conversion.reference,
        conversion.provenance.model,
        conversion.imported,
        conversion.provenance.tuned_from,
    )
    steps = recorded(conversion) if recipe is None else recipe_of(recipe)
    how = preprocessing or conversion.preprocessing
    task, reading = conversion.task, reading or Reading()
    with memory_within(memory):
        kept = kept_in(checkpoint, data, resume=resume)
        return converted(trained, steps, gathered(data), how, reading, progress, task, expected, budget, kept)
