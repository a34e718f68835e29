"""Work out thresholds and corrections again from samples."""

from pathlib import Path

from snnc.actions.convert import Converted, converted, recipe_of
from snnc.actions.opened import Spiking, conversion_of
from snnc.data.dataset import Reading
from snnc.data.given import Data
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import Progress
from snnc.errors import ModelError
from snnc.pipeline import Trained
from snnc.recipe import Recipe, recorded


def calibrate(
    network: Spiking,
    recipe: Recipe | str | Path | None = None,
    *,
    data: Data,
    preprocessing: Preprocessing | None = None,
    expected: float | None = None,
    reading: Reading | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Work out thresholds and corrections again from images, starting at the trained network kept in the conversion.

    ``network`` is a conversion, or its file. ``data`` is as for ``convert``, labels not needed. ``recipe`` and
    ``preprocessing`` are the conversion's own unless given; they, ``expected``, ``reading`` and ``progress`` are as for
    ``convert``.

    Raises ModelError where the trained network was stripped, DataError where the data is broken or does not fit,
    UsageError where there is no such recipe.
    """
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
    return converted(trained, steps, data, how, reading or Reading(), progress, conversion.task, expected)
