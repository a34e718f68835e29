"""Candidates for a conversion, and the bench on which they are made and measured."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from snnc.analysis.latency import latency
from snnc.conversion import Conversion
from snnc.data.dataset import Reading, open_dataset
from snnc.data.given import Data
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, Progress
from snnc.ir import Graph, Input
from snnc.measure.evaluation import Evaluation, measure, merit
from snnc.neurons import OrderFreeNeuron, neurons
from snnc.neurons.choice import with_options
from snnc.passes.substitute_neurons import SubstituteNeurons
from snnc.pipeline import Memory, Trained, apply_recipe, levels_to_be, make, outline, reported
from snnc.processes import current
from snnc.recipe import Recipe, load
from snnc.report import Report
from snnc.schedule import Schedule
from snnc.tasks import Task, chosen

Latency = Literal["one-step", "synchronous", "pipelined"]


@dataclass(frozen=True)
class Family:
    """Candidates that differ in one number; ``changes`` are what ``snnc convert --set`` takes.

    The number is that of time steps, or, where they ``count`` them, of levels of neurons that answer in a single step:
    of all layers, or in the mean where levels are ``mixed``. ``weight_bits`` are those of most weights, None of real
    ones.
    """

    recipe: str
    neuron: str
    title: str
    changes: tuple[str, ...] = ()
    sleep: int = 0
    count: Literal["timesteps", "levels"] = "timesteps"
    mixed: bool = False
    weight_bits: int | None = None

    @property
    def latency(self) -> Latency:
        """Whether all layers fire within a step, or all at once, or each waits for the one before."""
        if self.count == "levels":
            return "one-step"
        return "pipelined" if issubclass(neurons[self.neuron], OrderFreeNeuron) else "synchronous"

    def at(self, number: int) -> "Candidate":
        """Return the candidate with this number of time steps, or of levels."""
        return Candidate(self, number)

    def changed(self, title: str, *changes: str) -> "Family":
        """Return the family with changes on top."""
        return replace(self, title=f"{self.title}, {title}", changes=self.changes + changes)


@dataclass(frozen=True)
class Candidate:
    """A conversion that could be advised."""

    family: Family
    number: int

    @property
    def timesteps(self) -> int:
        """The time steps."""
        return self.number if self.family.count == "timesteps" else 1

    @property
    def changes(self) -> tuple[str, ...]:
        """The changes of the family, and the levels where these are counted."""
        if self.family.count == "timesteps":
            return self.family.changes
        neuron = with_options(self.family.neuron, {"levels": self.number}, place="levels")
        return (*self.family.changes, f"passes.substitute-neurons.neuron={neuron}")

    @property
    def title(self) -> str:
        """A short name, for people."""
        return f"{self.family.title}, {'T' if self.family.count == 'timesteps' else 'L'}={self.number}"

    @property
    def recipe(self) -> Recipe:
        """The recipe, changes and steps included."""
        family = self.family
        return load(
            family.recipe,
            timesteps=self.timesteps,
            sleep=family.sleep,
            mixed_levels=family.mixed,
            weight_bits=family.weight_bits,
            overrides=self.changes,
        )

    @property
    def flags(self) -> list[str]:
        """What ``snnc convert`` has to be told to make it."""
        family = self.family
        steps = ["--timesteps", str(self.timesteps), "--sleep", str(family.sleep)]
        steps += ["--mixed-levels"] if family.mixed else []
        steps += [] if family.weight_bits is None else ["--weight-bits", str(family.weight_bits)]
        return ["--recipe", family.recipe, *steps, *(part for change in self.changes for part in ("--set", change))]


class Bench:
    """A trained network and its images, on which candidates are made and measured.

    They are compared with the ``original``, if that is another one. Two thirds of the images, drawn by the reading's
    seed, calibrate; the rest judges, or ``others`` do, all of them.
    """

    def __init__(
        self,
        trained: Trained,
        data: Data,
        preprocessing: Preprocessing,
        reading: Reading,
        task: Task | None,
        original: Graph | None = None,
        others: Data | None = None,
    ) -> None:
        self._trained = trained
        self._original = original
        self._preprocessing = preprocessing
        self._reading = reading
        # By how many processes it was made: what one of them made for itself the others lack.
        self._memories: defaultdict[int, Memory] = defaultdict(Memory)
        graph = trained.graph
        whole = open_dataset(data, preprocessing, graph.ops(Input), reading)
        self._stated = task
        self.task = chosen(task, graph, whole.kinds)
        self.task.check(whole, graph.output_shapes)
        self.seed = reading.seed
        self.calibration, self.judging = (whole.part(name, reading.seed) for name in ("calibration", "judging"))
        if others is not None:
            self.judging = open_dataset(others, preprocessing, graph.ops(Input))
            self.task.check(self.judging, graph.output_shapes)
        quick = outline(graph, load("quick", timesteps=1))
        # Layers that wait for one another, and the read-out.
        self._depth = latency(quick, Schedule(1))

    def most_timesteps(self, family: Family, steps: int) -> int:
        """Return with how many time steps, of those that count, a candidate answers within this number of steps."""
        return steps // self._depth if family.latency == "pipelined" else steps - family.sleep

    def fewest_steps(self, family: Family) -> int:
        """Return the steps from image to answer at one time step."""
        return self._depth if family.latency == "pipelined" else 1 + family.sleep

    def make(self, candidate: Candidate, progress: Progress) -> tuple[Conversion, Graph]:
        """Convert; the second result is what ``report`` compares with."""
        return self.made_by(candidate.recipe, progress)

    def made_by(self, recipe: Recipe, progress: Progress) -> tuple[Conversion, Graph]:
        """Convert by any recipe, as ``make`` does."""
        return make(
            self._trained,
            recipe,
            self.calibration,
            self._preprocessing,
            self._reading,
            progress,
            self._memories[current().count],
            task=self._stated,
        )

    def quantized(self, recipe: Recipe, progress: Progress) -> Graph | None:
        """Return the network right before neurons take the place of its activations: quantized, of as many levels.

        None where a recipe puts in no neurons.
        """
        at = [index for index, step in enumerate(recipe.passes) if isinstance(step, SubstituteNeurons)]
        if not at:
            return None
        samples = DatasetSamples(self.calibration, self._reading, "reading images", progress)
        before = replace(recipe, passes=recipe.passes[: at[0]])
        levels = partial(levels_to_be, recipe=recipe)
        memory = self._memories[current().count]
        return apply_recipe(self._trained.graph, before, samples, progress, memory, levels).snn

    def merit(self, network: Graph, progress: Progress) -> float | None:
        """Return how good a network that is not spiking is on the images that judge, in percent, as ``Task.merit``."""
        samples = DatasetSamples(self.judging, self._reading, "judging", progress)
        return merit(network, self._original or self._trained.graph, samples, self.task)

    def judge(self, conversion: Conversion, progress: Progress) -> Evaluation:
        """Measure on the images that judge."""
        samples = DatasetSamples(self.judging, self._reading, "judging", progress)
        return measure(conversion, samples, self.task, original=self._original)

    def report(self, conversion: Conversion, canonical: Graph, progress: Progress) -> tuple[Conversion, Report]:
        """Compare layer by layer, on images that calibrated."""
        return reported(conversion, canonical, self.calibration, self._reading, progress)
