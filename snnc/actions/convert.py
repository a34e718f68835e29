"""Turn a trained network into a spiking one."""

from pathlib import Path

from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Progress, silent
from snnc.frontend import InputShapes
from snnc.ir import Input
from snnc.measure.expectations import check_expected
from snnc.pipeline import Trained, make, read_trained, reported
from snnc.recipe import Recipe, load
from snnc.report import Report
from snnc.tasks import Task, chosen


def convert(
    model: str | Path,
    recipe: Recipe | str | Path | None = None,
    *,
    data: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    task: Task | None = None,
    expected: float | None = None,
    input_shape: InputShapes = None,
    reading: Reading | None = None,
    progress: Progress = silent,
) -> tuple[Conversion, Report]:
    """Turn a trained network (ONNX or TorchScript) into a spiking one, and report what that costs layer by layer.

    The time steps, and what is done in which order, are those of ``recipe``: one that is shipped, by name, or a file,
    as ``snnc.recipe.load`` reads them, or what that returned; without one it is the default. ``data`` is what
    ``snnc.open_dataset`` takes, labels not needed; without it, thresholds come from what batch normalization states or,
    if that is nothing, thresholds and biases from synthetic samples, and ``calibrate`` can follow. ``preprocessing`` is
    what the network was trained with, and is kept in the conversion; without it pixels are divided by 255, and that is
    all: ``snnc.yaml`` is read by the commands only.
    ``task`` says what an answer is, and is kept too; without it, labels and outputs suggest it wherever it matters.
    Of data with labels, the trained network's score is to be ``expected``, in percent, or more.
    ``input_shape``, of one sample, is only for files that do not say it; ``reading`` says how many images are read,
    and how; ``progress`` is told what is being done.

    Raises ModelError where the file cannot be read or holds what cannot spike, DataError where the data is broken or
    does not fit, PreconditionError where a pass of the recipe cannot run on this network or without data, UsageError
    where there is no such recipe.
    """
    steps = recipe_of("default" if recipe is None else recipe)
    trained = read_trained(Path(model), input_shape)
    return converted(
        trained, steps, data, preprocessing or Preprocessing(), reading or Reading(), progress, task, expected
    )


def recipe_of(recipe: Recipe | str | Path) -> Recipe:
    """Return a recipe, read where it is given by its name or file."""
    return recipe if isinstance(recipe, Recipe) else load(str(recipe))


def converted(
    trained: Trained,
    recipe: Recipe,
    data: str | Path | None,
    preprocessing: Preprocessing,
    reading: Reading,
    progress: Progress,
    task: Task | None,
    expected: float | None,
) -> tuple[Conversion, Report]:
    """Convert a network that was read, and measure what came of it."""
    dataset = None if data is None else open_dataset(data, preprocessing, trained.graph.ops(Input), reading)
    if dataset is not None and expected is not None:
        samples = DatasetSamples(dataset, reading, "judging the trained network", progress)
        judging = chosen(task, trained.graph, dataset.kinds)
        check_expected(expected, trained.graph, samples, judging, preprocessing)
    conversion, canonical = make(trained, recipe, dataset, preprocessing, reading, progress, task=task)
    return reported(conversion, canonical, dataset, reading, progress)
