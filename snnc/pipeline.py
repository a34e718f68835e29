"""Run the passes of a recipe over a network, guard their contract, and say what came of it."""

import functools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from snnc.analysis.moments import moments_known, stated_moments
from snnc.budget import Budget
from snnc.calibration import Calibration
from snnc.calibration.synthetic import SyntheticSamples
from snnc.checkpoint import Checkpoint, Reached
from snnc.conversion import Applied, Conversion, Manifest, Origin, Provenance, StandIn, Tuning
from snnc.data.dataset import Dataset, Reading
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, MemorySamples, Progress, Samples, silent
from snnc.errors import ModelError, UsageError, VerificationError
from snnc.feeds import Feeds
from snnc.files import at_home, has_digest
from snnc.findings import Finding
from snnc.frontend import Example, InputShapes, read_model, read_module
from snnc.ir import Graph, Input, Node
from snnc.measure import neurobench
from snnc.measure.expectations import difference, unlike_training
from snnc.measure.remarks import altered_by
from snnc.measure.summary import examine
from snnc.neurons import Neuron
from snnc.neurons.base import Timed, seeded
from snnc.ops import Clipped, Quantized
from snnc.passes import Pass, TrainingPass
from snnc.plugins import fault, origin
from snnc.recipe import Recipe, options, pass_name, recorded
from snnc.report import Report, build
from snnc.run import ONCE, Program
from snnc.schedule import Schedule
from snnc.tasks import Task, chosen
from snnc.validation import parse
from snnc.version import VERSION

# What a fine-tuned file calls what it says of the network that it was.
TUNED_FROM = "snnc.tuned-from"

# The report compares the networks layer by layer on at most this many of the images in use, spread evenly.
_MEASURED_IMAGES = 128

# Networks that ``Memory`` holds: enough for a few recipes that begin alike.
_REMEMBERED = 24


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, the file it was read from, what was found in reading it, and what it was tuned from, if so."""

    graph: Graph
    file: Origin
    findings: tuple[Finding, ...]
    tuned_from: Tuning | None = None


class Memory:
    """What passes made of which networks, the latest of it: recipes that begin alike share the work.

    Of one trained network and one set of images only.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Graph, str], Graph] = OrderedDict()

    def recall(
        self, before: Graph, step: Pass, recipe: Recipe, levels: Mapping[str, int], apply: Callable[[], Graph]
    ) -> Graph:
        """Return what this pass makes of this very network: remembered, or else from ``apply``."""
        # Sleep and rehearsal make no difference to anything before there are neurons.
        schedule = recipe.schedule if before.ops(Neuron) else Schedule(recipe.timesteps)
        key = before, f"{pass_name(step)} {options(step)} {schedule} {sorted(levels.items())}"
        if key not in self._made:
            self._made[key] = apply()
        self._made.move_to_end(key)
        while len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        return self._made[key]


@dataclass(frozen=True, eq=False)
class Altered:
    """What a pass, by its ``name``, did to the function of a network, in words, and the network before and after."""

    name: str
    what: str
    before: Graph
    after: Graph


@dataclass(frozen=True, eq=False)
class Passed:
    """What the passes of a recipe made of a trained network: ``snn``, what was applied, and how long each pass took.

    ``recipe`` is the one that ran: less is trained than was asked for where there was no time for all of it, and what
    one pass chose for those behind it is spelled out, and so are shares of the image.
    ``canonical`` is the network right before the first pass that is not exact: the same function as the trained one, in
    the form that the spiking one is compared with layer by layer.
    """

    recipe: Recipe
    canonical: Graph
    snn: Graph
    applied: tuple[Applied, ...]
    seconds: tuple[float, ...]
    altered: tuple[Altered, ...]


def apply_recipe(
    reference: Graph,
    recipe: Recipe,
    samples: Samples | None,
    progress: Progress = silent,
    memory: Memory | None = None,
    levels_of: Callable[[Graph], Mapping[str, int]] | None = None,
    stand_in: Samples | None = None,
    budget: Budget | None = None,
    checkpoint: Checkpoint | None = None,
) -> Passed:
    """Run the passes of a recipe over a trained network.

    ``levels_of`` says how many levels its activations are to have, where that is not for the recipe's neurons to say.
    ``stand_in`` takes the place of samples where there are none, and batch normalization does not state what they
    would say. ``budget`` is the time that all of it may take, and ``checkpoint`` keeps what is reached, or has it from
    before.

    Raises PreconditionError where a pass cannot run, VerificationError where one breaks its contract.
    """
    budget, checkpoint = budget or Budget(), checkpoint or Checkpoint()
    reached = checkpoint.reached or Reached(reference, reference, reference, exact=True)
    reference = reached.reference
    if reached.settled:
        kept = zip(recipe.passes, reached.settled, strict=True)
        settled = (parse(type(step), chosen, place=f"passes.{pass_name(step)}") for step, chosen in kept)
        recipe = replace(recipe, passes=tuple(settled), shares=reached.shares)
    if samples is not None or moments_known(reference):
        stand_in = None
    stated = stated_moments(reference)
    for index in range(len(reached.applied), len(recipe.passes)):
        step = recipe.passes[index]
        name = pass_name(step)
        progress(name, index, len(recipe.passes))
        before = reached.graph
        step.requires(before)
        started = time.monotonic()
        levels = levels_to_be(before, recipe, index) if levels_of is None else levels_of(before)
        calibration = Calibration(
            reached.canonical,
            # Before there are neurons, a layer sees the frames.
            samples.still() if samples is not None and not before.ops(Neuron) else samples,
            recipe.schedule,
            levels,
            stated,
            functools.partial(progress, name),
            stand_in,
            reached.inside,
            functools.partial(checkpoint.keep, reached),
        )
        with checkpoint.guarding(name):
            following = sum(isinstance(other, TrainingPass) for other in recipe.passes[index + 1 :])
            step = budget.fitting_steps(step, _numbered(recipe, index), before, calibration, following)
            checkpoint.decided |= budget.decided
            behind = step.settled(before, calibration, recipe.passes[index + 1 :])
            shares = step.shares(before, calibration)
            recipe = replace(recipe, passes=(*recipe.passes[:index], step, *behind), shares=shares)
            calibration = replace(calibration, schedule=recipe.schedule)
            work = functools.partial(_applied, step, name, before, calibration)
            graph = work() if memory is None else memory.recall(before, step, recipe, levels, work)
        exact = reached.exact and (step.exact or not graph.changes(before))
        what = step.alters(before)
        reached = Reached(
            reference,
            graph if exact else reached.canonical,
            graph,
            exact,
            (*reached.applied, Applied(name, options(step), len(graph.changes(before)), origin(type(step)))),
            (*reached.seconds, time.monotonic() - started),
            (*reached.altered, *([(name, what, before, graph)] if what else [])),
            tuple(options(each) for each in recipe.passes),
            recipe.shares,
        )
        checkpoint.keep(reached)
    altered = tuple(Altered(*each) for each in reached.altered)
    return Passed(recipe, reached.canonical, reached.graph, reached.applied, reached.seconds, altered)


def _numbered(recipe: Recipe, index: int) -> str:
    """Return the name of a pass, with its number from the second of that name on."""
    names = [pass_name(step) for step in recipe.passes[: index + 1]]
    nth = names.count(names[index])
    return names[index] if nth == 1 else f"{names[index]} ({nth})"


def outline(reference: Graph, recipe: Recipe) -> Graph:
    """Return the operations that a recipe makes of a trained network, whatever their weights and thresholds.

    Nothing is read: what passes cannot do without samples is done on a blank one.
    """
    graph = canonical = reference
    exact, stated = True, stated_moments(reference)
    blank = MemorySamples(Feeds({name: op() for name, op in reference.ops(Input).items()}))
    stand_in = None if moments_known(reference) else blank
    for index, step in enumerate(recipe.passes):
        step.requires(graph)
        levels = levels_to_be(graph, recipe, index)
        calibration = Calibration(canonical, None, recipe.schedule, levels, stated, stand_in=stand_in)
        before, graph = graph, step.outlined(graph, calibration)
        exact = exact and (step.exact or not graph.changes(before))
        canonical = graph if exact else canonical
    return graph


def levels_to_be(graph: Graph, recipe: Recipe, index: int = 0) -> Mapping[str, int]:
    """Return the levels of every layer before the pass ``index`` of a recipe runs: those that its neurons will have.

    Where no pass from there on puts in any, those of one spike a step.
    """
    steps = recipe.schedule.timesteps
    levels = {name: steps for kind in (Clipped, Quantized) for name in graph.ops(kind)}
    for step in reversed(recipe.passes[index:]):
        levels |= step.levels(graph, recipe.schedule)
    return levels | {name: neuron.levels(steps) for name, neuron in graph.ops(Neuron).items()}


def canonical_reference(conversion: Conversion) -> Graph:
    """Return the trained network in the form that the spiking one was made from: equal names, equal values.

    Raises ModelError where the trained network was stripped, or other passes were applied than the recipe has.
    """
    if conversion.reference is None:
        hint = "convert the model again without --strip"
        raise ModelError("the file holds no trained network to compare with", hint=hint)
    graph = conversion.reference
    recipe = recorded(conversion)
    if [pass_name(step) for step in recipe.passes] != [applied.name for applied in conversion.applied]:
        message = "damaged .snn file: the passes that were applied are not those of the recipe"
        raise ModelError(message, place="recipe in the .snn file", hint="convert again")
    stated = stated_moments(conversion.reference)
    for index, (step, applied) in enumerate(zip(recipe.passes, conversion.applied, strict=True)):
        if step.exact:
            levels = levels_to_be(graph, recipe, index)
            graph = step(graph, Calibration(graph, None, recipe.schedule, levels, stated))
        elif applied.changed:
            break
    return graph


def _applied(step: Pass, name: str, before: Graph, calibration: Calibration) -> Graph:
    after = step(before, calibration)
    _check_contract(step, name, before, after)
    return after


def _check_contract(step: Pass, name: str, before: Graph, after: Graph) -> None:
    hint = "this is a defect of the pass: please report it with the model"
    if not isinstance(after, Graph):
        raise VerificationError(f"{name} returned no graph", hint=hint)
    if (before.inputs, before.outputs) != (after.inputs, after.outputs):
        raise VerificationError(f"{name} changed the network's inputs or outputs", hint=hint)
    made = {node: op for node, (_, op) in after.changes(before).items() if op is not None}
    for node, op in made.items():
        for field, tensor in op.tensors().items():
            if tensor.dtype != torch.float32 or not (field in op.unbounded or tensor.isfinite().all()):
                message = f"{name} made what is no finite number of single precision"
                hint = "options such as rates of learning may be too large; else it is a defect of the pass"
                raise VerificationError(message, place=f"{field} of {node}", hint=hint)
    try:
        shapes = after.output_shapes
    except ValueError as failure:
        broken = VerificationError(f"{name} broke the network: {failure}", hint=hint)
        raise fault(failure) or broken from failure
    if shapes != before.output_shapes:
        raise VerificationError(f"{name} changed the shape of an output", hint=hint)
    if not step.exact or after is before:
        return
    generator = torch.Generator().manual_seed(0)
    feeds = Feeds({name: op.drawn(2, generator, torch.float64) for name, op in before.ops(Input).items()})
    results = [_computed_exactly(graph, feeds) for graph in (before, after)]
    error = float((results[0] - results[1]).norm() / results[0].norm().clamp(min=1e-30))
    # Weights are rounded to single precision, which can move a quantized value to its neighboring level.
    if not error < (5e-2 if before.ops(Quantized) else 1e-4):
        raise VerificationError(f"{name} changed the network's output by {error:.1e}", hint=hint)


def _computed_exactly(graph: Graph, feeds: Feeds) -> torch.Tensor:
    """Return all outputs in double precision, in which there is one operation at a time."""

    def doubled(node: Node, compute: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        op = node.op.map_tensors(lambda tensor: tensor.double())
        if isinstance(op, Timed):
            return op.respond(inputs[0], ONCE, seeded(None))
        return op(*(signal[0] for signal in inputs)).unsqueeze(0)

    return torch.cat([signal.flatten() for signal in Program(graph)(feeds, through=doubled).values()])


def read_trained(
    model: str | Path | torch.nn.Module, input_shape: InputShapes = None, example: Example | None = None
) -> Trained:
    """Read a trained network from its file, or a module on an ``example``, a batch that it takes.

    Raises ModelError where it cannot be read or holds what cannot spike.
    """
    if isinstance(model, torch.nn.Module):
        read = read_module(model, example, input_shape)
        return Trained(read.graph, Origin(type(model).__name__, read.sha256), read.findings)
    path = at_home(Path(model))
    read = read_model(path, input_shape)
    tuning = read.properties.get(TUNED_FROM)
    return Trained(
        read.graph, Origin(path.name, read.sha256), read.findings, None if tuning is None else _tuning(tuning, path)
    )


def _tuning(text: str, model: Path) -> Tuning:
    try:
        return parse(Tuning, json.loads(text), place=TUNED_FROM)
    except (ValueError, RecursionError, UsageError):
        hint = f"fine-tune it again, or remove {TUNED_FROM} from its metadata"
        raise ModelError("does not say well what it was fine-tuned from", place=str(model), hint=hint) from None


def original_of(tuning: Tuning, around: Sequence[Path]) -> Path | None:
    """Return the file of the network that one was fine-tuned from, None where it is in none of these folders."""
    for folder in dict.fromkeys(around):
        path = folder / Path(tuning.file).name
        if has_digest(path, tuning.sha256):
            return path
    return None


def read_original(path: Path, network: Graph) -> Graph:
    """Read a network to be compared with; raises ModelError where it takes or gives something else."""
    shapes = network.input_shapes
    # What says its shapes itself is asked for none.
    stated = None if path.suffix == ".onnx" else shapes[next(iter(shapes))] if len(shapes) == 1 else shapes
    graph = read_trained(path, stated).graph
    if graph.input_shapes != shapes or graph.output_shapes != network.output_shapes:
        found = f"{dict(graph.input_shapes)} to {list(graph.output_shapes)}"
        wanted = f"{dict(shapes)} to {list(network.output_shapes)}"
        message = f"takes and gives something else than the network that is compared: {found}, not {wanted}"
        raise ModelError(message, place=str(path), hint="give the network that it was made from")
    return graph


def make(
    trained: Trained,
    recipe: Recipe,
    dataset: Dataset | None,
    preprocessing: Preprocessing,
    reading: Reading,
    progress: Progress = silent,
    memory: Memory | None = None,
    *,
    task: Task | None = None,
    budget: Budget | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Conversion, Graph]:
    """Convert, without looking at the result yet: the conversion, and what ``reported`` compares it with."""
    samples = synthetic = None
    if dataset is None:
        synthetic = SyntheticSamples(trained.graph, preprocessing, reading.seed, progress=progress)
    else:
        samples = DatasetSamples(dataset, reading, "reading images", progress)
    manifest = None if dataset is None else Manifest(len(dataset), dataset.digest(), reading.seed)
    versions = {"snnc": VERSION, "torch": torch.__version__}
    if checkpoint is not None:
        checkpoint.claim(
            {
                "model": trained.file.sha256,
                "data": json.dumps(manifest and asdict(manifest)),
                "recipe": json.dumps(recipe.plain(), sort_keys=True),
                "preprocessing": json.dumps(preprocessing.plain(), sort_keys=True),
                "version": json.dumps(versions),
            }
        )
    passed = apply_recipe(
        trained.graph, recipe, samples, progress, memory, stand_in=synthetic, budget=budget, checkpoint=checkpoint
    )
    kinds = synthetic and synthetic.kinds
    conversion = Conversion(
        reference=trained.graph,
        snn=passed.snn,
        schedule=passed.recipe.schedule,
        applied=passed.applied,
        imported=trained.findings,
        findings=(*_costs(passed, dataset, reading, task, progress), *(budget.findings if budget else ())),
        preprocessing=preprocessing,
        provenance=Provenance(
            model=trained.file,
            recipe=passed.recipe.plain(),
            calibration=manifest,
            versions=versions,
            stand_in=StandIn(len(synthetic), dict(kinds), reading.seed) if synthetic and kinds else None,
            tuned_from=trained.tuned_from,
        ),
        task=task,
        seconds=passed.seconds,
    )
    return conversion, passed.canonical


def _costs(
    passed: Passed, dataset: Dataset | None, reading: Reading, task: Task | None, progress: Progress
) -> Iterator[Finding]:
    """Yield the findings on passes that made another function of the network, with what that costs on some samples."""
    for altered in passed.altered:
        cost = "what that costs is not known without data"
        if dataset is not None:
            judging = chosen(task, altered.before, dataset.kinds)
            samples = DatasetSamples(dataset.spread(_MEASURED_IMAGES, reading.seed), reading, altered.name, progress)
            cost = difference(altered.before, altered.after, samples, judging)
        yield altered_by(altered.name, altered.what, cost)


def reported(
    conversion: Conversion, canonical: Graph, dataset: Dataset | None, reading: Reading, progress: Progress = silent
) -> tuple[Conversion, Report]:
    """Compare both networks layer by layer, on some of the images: the conversion with its findings, and the report."""
    measured = task = counted = None
    if dataset is not None:
        if conversion.reference is not None:
            looked_at = DatasetSamples(dataset, reading, "looking at inputs")
            unlike = unlike_training(conversion.reference, looked_at, conversion.preprocessing)
            conversion = replace(conversion, findings=(*conversion.findings, *unlike))
        task = chosen(conversion.task, conversion.snn, dataset.kinds)
        some = dataset.spread(_MEASURED_IMAGES, reading.seed)
        measured = DatasetSamples(some, reading, "measuring", progress)
        shown = DatasetSamples(dataset, reading, "counting operations", progress)
        counted = neurobench.measure(conversion.snn, conversion.schedule, shown, seed=reading.seed)
    examined = examine(conversion, canonical, measured, task)
    if dataset is not None:
        examined = replace(examined, findings=(*examined.findings, *dataset.findings))
    report = build(conversion, examined, counted)
    return replace(conversion, findings=report.findings), report
