"""What happened in a conversion, as data."""

from dataclasses import asdict, dataclass
from typing import Any

from snnc.data.preprocessing import Preprocessing
from snnc.errors import UsageError
from snnc.figure import ExitRule
from snnc.findings import Finding
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.schedule import Schedule
from snnc.tasks import Task
from snnc.text import counted, in_one_line, written


@dataclass(frozen=True)
class Applied:
    """One pass that was applied: its options, how many operations it changed, and the plug-in that it is from."""

    name: str
    options: dict[str, Any]
    changed: int
    plugin: str = ""


@dataclass(frozen=True)
class Origin:
    """The file that the trained network was read from."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Tuning:
    """The network that a file was fine-tuned from, by its ``file`` and hash, and what that did to its score.

    ``measures`` names the score, ``before`` is the original's and ``after`` the tuned network's on so many samples
    ``held_out``; None where the task has none.
    """

    file: str
    sha256: str
    measures: str
    before: float | None
    after: float | None
    held_out: int

    @property
    def told(self) -> str:
        """The network that it was, and what became of its score, in words."""
        if self.before is None or self.after is None:
            return self.file
        samples = f"{self.measures} on {self.held_out:,} samples held out"
        return f"{self.file} ({written(self.before, '%')} % {samples}; tuned {written(self.after, '%')} %)"


@dataclass(frozen=True)
class Manifest:
    """The images that thresholds and corrections were worked out on; ``seed`` chose them out of more."""

    images: int
    sha256: str
    seed: int

    def __post_init__(self) -> None:
        if self.images < 0:
            raise ValueError(f"{self.images} images")


@dataclass(frozen=True)
class StandIn:
    """The synthetic samples that thresholds and biases were worked out on; ``kinds`` says of which kind, by input."""

    samples: int
    kinds: dict[str, str]
    seed: int


@dataclass(frozen=True)
class Provenance:
    """What a conversion depends on; ``recipe`` is plain data, as ``Recipe.plain`` has it.

    ``calibration`` is None where no samples were given; ``stand_in`` too, where they were, or where batch normalization
    states what they would say. ``tuned_from`` is the network that the model is a fine-tuned one of, if it is.
    """

    model: Origin
    recipe: dict[str, Any]
    calibration: Manifest | None
    versions: dict[str, str]
    stand_in: StandIn | None = None
    tuned_from: Tuning | None = None

    @property
    def recipe_name(self) -> str:
        """What the recipe calls itself."""
        return in_one_line(str(self.recipe.get("name", "unnamed")))

    def plain(self) -> dict[str, Any]:
        """Return the provenance as files and reports have it."""
        return asdict(self)


@dataclass(frozen=True, eq=False, repr=False)
class Conversion:
    """A spiking network beside the trained one it stands for (None once stripped), and how it came about.

    ``imported`` are the findings from reading the file, ``findings`` all of them. ``task`` is None where nobody said
    what an answer is: then it is what outputs and labels seem to be. ``seconds``, which no file keeps, is how long
    each pass took, and ``exit``, which reports keep, by what rule samples may stop before the end.
    """

    reference: Graph | None
    snn: Graph
    schedule: Schedule
    applied: tuple[Applied, ...]
    imported: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    preprocessing: Preprocessing
    provenance: Provenance
    task: Task | None = None
    seconds: tuple[float, ...] = ()
    exit: ExitRule | None = None

    def __repr__(self) -> str:
        layers = counted(len(self.snn.ops(Neuron)), "spiking layer")
        manifest = self.provenance.calibration
        calibrated = "uncalibrated" if manifest is None else f"calibrated on {counted(manifest.images, 'sample')}"
        return (
            f"<Conversion of {self.provenance.model.file} by {self.provenance.recipe_name}: {layers}, "
            f"T={self.schedule.timesteps}, {calibrated}>"
        )

    def exit_rule(self, place: str) -> ExitRule:
        """Return the rule for stopping early; raises UsageError at ``place`` without one for this schedule."""
        command = "snnc evaluate --data FOLDER --exit-confidence 0.99"
        if self.exit is None:
            hint = f"make one, which goes into the report beside the network: {command}"
            raise UsageError("no rule says when an answer is certain", place=place, hint=hint)
        if len(self.exit.limits) != self.schedule.total:
            message = f"the rule is for {len(self.exit.limits)} steps, the network runs for {self.schedule.total}"
            raise UsageError(message, place=place, hint=f"make one for these: {command}")
        return self.exit

    @property
    def calibrated(self) -> bool:
        """Whether images were used."""
        return self.provenance.calibration is not None
