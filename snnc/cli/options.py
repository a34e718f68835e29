"""The flags that several commands share, in groups; ``snnc.cli.application`` shows their flags to typer one by one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from snnc.cli.application import Flags
from snnc.data.event_frames import EventFrames
from snnc.data.preprocessing import PROTOCOLS, Preprocessing, from_file
from snnc.errors import DataError, UsageError
from snnc.files import at_home
from snnc.measure.figures import limits
from snnc.measure.gates import Limits, merged, stated_limits
from snnc.project import FILE, Project, file_of
from snnc.registry import suggest
from snnc.validation import Option, called, parse

if TYPE_CHECKING:
    # Importing the library loads torch, which --help does without.
    from snnc.data.dataset import Part, Reading
    from snnc.formats.format import Format
    from snnc.hardware.steps import Way
    from snnc.recipe import Recipe
    from snnc.run.frames import Between
    from snnc.tasks import Task

Number = TypeVar("Number", int, float)

Artifact = Annotated[
    Path | None,
    typer.Argument(
        metavar="MODEL.snn",
        show_default=False,
        help="The converted network. Default: that of the model in snnc.yaml, or the only .snn file in the folder.",
    ),
]
TrainedModel = Annotated[
    Path | None,
    typer.Argument(
        metavar="MODEL", show_default=False, help="An ONNX or TorchScript file. Default: model in snnc.yaml."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="OUT.snn", help="Default: the model's name, in this folder."),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="3,32,32",
        help="Shape of one sample without the batch, where the model does not say it; NAME=3,32,32 for each of "
        "several inputs.",
    ),
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Where to write the report. Default: beside the .snn.")
]
PartFlag = Annotated[
    Literal["calibration", "judging", "train", "test"] | None,
    typer.Option(
        "--part",
        help="Use only the two thirds of the images that snnc tune calibrates on, or the third that it judges by; or, "
        "as the protocol of CIFAR10-DVS has it, the first 90 % of each class to train or calibrate on, or the last "
        "10 % to test.",
    ),
]

TaskFlag = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="What an answer is: classification, multi-label, regression, segmentation, embedding, values, or a "
        "plug-in's; options as in 'segmentation(ignore=0)'. Default: task in snnc.yaml, else as it was converted, else "
        "what labels and outputs suggest.",
    ),
]

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", metavar="N", help="Do so many at once. Default: as many as the cores and the memory have room for."
    ),
]

Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        metavar="N",
        help="Take no longer, roughly: with fewer images and fewer steps of training where they do not suffice.",
    ),
]

Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(
        "--device",
        help="Where networks are run; auto is a GPU where there is one. What is solved for or trained is on the CPU.",
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on where it was stopped, from OUT.snn.checkpoint, to the file of a run that was not stopped.",
    ),
]

Strict = Annotated[bool, typer.Option("--strict", help="Exit with 4 where a finding is a warning.")]

_FORMAT = "onnx"
# What a trained network may see of frames.
REFERENCES: tuple[str, ...] = get_args(get_type_hints(Preprocessing)["reference"])

# As many as counts may have.
_MOST_SPIKE_BITS = 16

Latency = Literal["one-step", "synchronous", "pipelined"]

_BY_LATENCY = {"one-step": "one-step", "synchronous": "synchronous", "pipelined": "default"}


@dataclass(frozen=True)
class RecipeFlags:
    """How to convert."""

    recipe: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="The recipe: its name, or a YAML file.")] = (
        None
    )
    timesteps: Annotated[int | None, typer.Option("--timesteps", metavar="T", help="Time steps to convert for.")] = None
    sleep: Annotated[
        int | None, typer.Option(metavar="N", help="Steps after that with the image off, for neurons to settle.")
    ] = None
    frames: Annotated[
        Literal["repeat", "spread", "hold"] | None,
        typer.Option(help="What more steps than there are frames show: all again, each longer, or the last on."),
    ] = None
    shares: Annotated[
        str | None,
        typer.Option(metavar="A,A,...", help="What of the image each step awake carries: 3/4,1/4. Default: all alike."),
    ] = None
    latency: Annotated[
        Latency | None,
        typer.Option(
            help="All layers fire within a single step (graded events), all fire at once (answer after T steps and "
            "those asleep), or each waits for the one before (exact counts, answer after (N+1)·T): the recipe of that "
            "name, pipelined being the default."
        ),
    ] = None
    neuron: Annotated[
        str | None, typer.Option(metavar="NAME", help="The spiking neuron; with options: 'graded(levels=15)'.")
    ] = None
    levels: Annotated[
        int | None,
        typer.Option(metavar="L", help="Levels of neurons whose events carry a number; --neuron graded unless given."),
    ] = None
    max_event: Annotated[
        int | None, typer.Option(metavar="G", help="The largest event of these. Default: as many as levels.")
    ] = None
    spike_bits: Annotated[
        int | None,
        typer.Option(metavar="B", help="Events of so many bits, without a sign: --levels and --max-event of 2^B - 1."),
    ] = None
    mixed_levels: Annotated[
        bool,
        typer.Option(
            "--mixed-levels",
            help="More levels for layers whose errors matter more, fewer for others: as many bits in the mean. With "
            "neurons that have levels: the pass allocate-levels.",
        ),
    ] = False
    weight_bits: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Round weights to N bits, per channel, and thresholds with them, for targets that only count: "
            "quantize-weights as the last pass.",
        ),
    ] = None
    membrane_bits: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="With --weight-bits: membranes that saturate at N bits. Default: they hold all that comes.",
        ),
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="Set a recipe option: passes.PASS.OPTION=VALUE. Can be repeated."),
    ] = None

    def steps(self, given: int | None, project: Project) -> int | None:
        """Return the steps from image to answer that are asked for, if so; raises UsageError beside what says them."""
        flags = {
            "--timesteps": self.timesteps,
            "--sleep": self.sleep,
            "--shares": self.shares,
            "--latency": self.latency,
            "--neuron": self.neuron,
            "--levels": self.levels,
            "--spike-bits": self.spike_bits,
        }
        said = next((flag for flag, value in flags.items() if value is not None), None)
        if said is not None and given is not None:
            hint = "give one of them; snnc convert --dry-run --steps N tells what it chooses"
            raise UsageError("--steps chooses the neuron and its steps itself", place=said, hint=hint)
        if given is not None or said is not None or project.steps is None:
            return given
        beside = next((name for name in ("timesteps", "sleep", "neuron") if getattr(project, name) is not None), None)
        if beside is not None:
            hint = f"leave out {beside}, or steps"
            raise UsageError("steps chooses the neuron and its time steps itself", place=f"{FILE}: {beside}", hint=hint)
        return project.steps

    def along(self, way: Way, project: Project) -> RecipeFlags:
        """Return the flags that ask for a way to answer within some steps."""
        schedule = way.schedule
        return dataclasses.replace(
            self,
            recipe=self.recipe or project.recipe or way.recipe,
            timesteps=schedule.timesteps,
            sleep=schedule.sleep,
            shares=",".join(map(str, schedule.shares)) or None,
            neuron=way.neuron,
            max_event=None,
        )

    def resolve(self, project: Project, recorded: Callable[[], Recipe] | None = None) -> Recipe:
        """Return the recipe of the flags, else of the project, else the recorded one, else the default."""
        from snnc.recipe import load, override

        if self.recipe is not None and self.latency is not None:
            hint = "give one of them; --neuron changes the neuron of a recipe"
            raise UsageError("a recipe says itself which neurons fire when", place="--latency", hint=hint)
        name = _BY_LATENCY[self.latency] if self.latency else self.recipe
        neuron, overrides = self.neuron, tuple(self.overrides or ())
        if name is None:
            name, neuron, overrides = project.recipe, neuron or project.neuron, project.set + overrides
        base = recorded() if name is None and recorded else load(name or "default")
        timesteps = project.timesteps if self.timesteps is None else self.timesteps
        # The steps asleep belong to the recipe: those of the project mean nothing for another one.
        asleep = None if name != project.recipe else project.sleep
        sleep = asleep if self.sleep is None else self.sleep
        neuron = self._with_events(base, neuron)
        recipe = override(
            base,
            timesteps=timesteps,
            sleep=sleep,
            frames=self.frames or project.frames,
            shares=None if self.shares is None else _fractions(self.shares),
            neuron=neuron,
            weight_bits=self.weight_bits,
            membrane_bits=self.membrane_bits,
            mixed_levels=self.mixed_levels,
            overrides=overrides,
        )
        if self.latency is not None:
            _check_latency(recipe, self.latency)
        return recipe

    def _with_events(self, recipe: Recipe, neuron: str | None) -> str | None:
        """Return the neuron with the levels and events that the flags ask for: the recipe's own, if it has levels."""
        given = {"levels": self.levels, "max-event": self.max_event}
        if self.spike_bits is not None:
            if set(given.values()) != {None}:
                hint = "give either the bits, or levels and the largest event"
                raise UsageError("the bits of an event say both", place="--spike-bits", hint=hint)
            if not 1 <= self.spike_bits <= _MOST_SPIKE_BITS:
                hint = f"give a whole number from 1 to {_MOST_SPIKE_BITS}"
                raise UsageError(f"events of {self.spike_bits} bits", place="--spike-bits", hint=hint)
            # Where levels are mixed, the largest event is that of the layer.
            given = dict.fromkeys(["levels"] if self.mixed_levels else given, 2**self.spike_bits - 1)
        asked = {option: value for option, value in given.items() if value is not None}
        if not asked:
            return neuron
        from snnc.neurons.choice import with_options
        from snnc.passes.substitute_neurons import SubstituteNeurons

        own = [step.neuron for step in recipe.passes if isinstance(step, SubstituteNeurons)]
        return with_options(neuron or (own or [""])[0], asked, place="--neuron", otherwise="" if neuron else "graded")


@dataclass(frozen=True)
class PreprocessingFlags:
    """What is done to images."""

    preprocessing: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A file of preprocessing, as snnc, timm or Hugging Face write it, or a protocol by name "
            f"({', '.join(PROTOCOLS)}); the flags below win over it.",
        ),
    ] = None
    mean: Annotated[
        str | None, typer.Option(metavar="M,M,M", help="Subtracted from scaled pixels, per channel or one for all.")
    ] = None
    std: Annotated[str | None, typer.Option(metavar="S,S,S", help="Divided by after that.")] = None
    scale: Annotated[float | None, typer.Option(metavar="S", help="What pixels are multiplied by. Default: 1/255.")] = (
        None
    )
    resize: Annotated[str | None, typer.Option(metavar="H,W|N", help="Resize to H,W, or the shorter side to N.")] = None
    interpolation: Annotated[
        Literal["bilinear", "bicubic", "lanczos", "nearest"] | None,
        typer.Option(help="How images are resized. Default: bilinear."),
    ] = None
    fit: Annotated[
        Literal["stretch", "letterbox"] | None, typer.Option(help="How an image of another shape fits into H,W.")
    ] = None
    crop: Annotated[str | None, typer.Option(metavar="H,W|N", help="Cut H,W, or a square of N, from the center.")] = (
        None
    )
    channels: Annotated[Literal["rgb", "bgr", "gray"] | None, typer.Option(help="Order the network wants.")] = None
    layout: Annotated[Literal["nchw", "nhwc"] | None, typer.Option(help="Layout the network wants.")] = None
    folders: Annotated[
        Literal["classes", "sequences"] | None,
        typer.Option(help="What folders of images are: classes, or each a sequence of numbered frames."),
    ] = None
    class_order: Annotated[
        Literal["name", "natural"] | None,
        typer.Option(help="How class folders are numbered: by the letters of their names, or class2 before class10."),
    ] = None
    event_frames: Annotated[
        int | None, typer.Option(metavar="N", help="How many frames are made of the events of a recording. Default: 8.")
    ] = None
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="frames|sum|MODEL",
            help="Of frames over time: the trained network sees each (outputs averaged), or their sum. In snnc "
            "evaluate also the file of another network to compare with.",
        ),
    ] = None
    label_offset: Annotated[int | None, typer.Option(metavar="N", help="Added to every label.")] = None

    @property
    def compared_with(self) -> Path | None:
        """The file of the network to compare with, None where the flag names none."""
        return None if self.reference in (None, *REFERENCES) else Path(str(self.reference))

    def resolve(
        self, project: Project, stored: Preprocessing | None = None, *, compares: bool = False
    ) -> Preprocessing:
        """Return the preprocessing of the file, else of the project, else the stored, with the single flags on top.

        Raises UsageError where one is none; a file to compare with is none, unless the command ``compares``.
        """
        if self.compared_with is not None and not compares:
            hint = f"give {' or '.join(REFERENCES)}; only snnc evaluate compares with another network"
            raise UsageError(f"invalid value {self.reference!r}", place="--reference", hint=hint)
        if self.preprocessing is not None:
            base = PROTOCOLS.get(self.preprocessing) or from_file(Path(self.preprocessing))
        else:
            base = project.preprocessing or stored or Preprocessing()
        given: dict[str, Any] = {
            "mean": parsed_numbers(self.mean, "--mean", float),
            "std": parsed_numbers(self.std, "--std", float),
            "scale": self.scale,
            "resize": _size(self.resize, "--resize"),
            "interpolation": self.interpolation,
            "fit": self.fit,
            "crop": _size(self.crop, "--crop"),
            "channels": self.channels,
            "layout": self.layout,
            "folders": self.folders,
            "class_order": self.class_order,
            "reference": self.reference if self.reference in REFERENCES else None,
            "label_offset": self.label_offset,
        }
        try:
            if self.event_frames is not None:
                given["events"] = dataclasses.replace(base.events or EventFrames(), frames=self.event_frames)
            return dataclasses.replace(base, **{name: value for name, value in given.items() if value is not None})
        except ValueError as error:
            raise UsageError(str(error), place="preprocessing", hint="change the flag of that name") from None


@dataclass(frozen=True)
class ReadingFlags:
    """How data is read."""

    batch_size: Annotated[int, typer.Option(metavar="N", help="Images at once; changes no result.")] = 64
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Threads that read images. Default: one per core, at most 8.")
    ] = None
    limit: Annotated[int | None, typer.Option(metavar="N", help="Use so many images only, spread evenly.")] = None
    seed: Annotated[int, typer.Option(metavar="N", help="Which images --limit takes, and what is drawn at random.")] = 0

    def resolve(self, part: Part | None = None) -> Reading:
        """Return the flags as the library takes them; raises UsageError for numbers that make no sense."""
        from snnc.data.dataset import Reading

        for flag, value in (("--batch-size", self.batch_size), ("--workers", self.workers), ("--limit", self.limit)):
            if value is not None and value < 1:
                raise UsageError(f"invalid value {value}", place=flag, hint="give a whole number from 1")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"invalid value {self.seed}", place="--seed", hint="give a whole number from 0 to 2^63-1")
        return Reading(self.batch_size, self.workers, self.limit, self.seed, part)


@dataclass(frozen=True)
class StreamFlags:
    """Whether a network goes on from one frame to the next, and what happens in between."""

    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Go on from frame to frame, shown what changed, instead of starting anew at each."
        ),
    ] = False
    window: Annotated[
        int | None, typer.Option(metavar="N", help="With --stream: see the mean of the last N frames. Default: 1.")
    ] = None
    leak: Annotated[
        float | None,
        typer.Option(metavar="X", help="With --stream: see a leaky mean, into which a frame goes by X. Default: 1."),
    ] = None
    refresh: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --stream: start anew every N frames, lest rounding add up. Default: 0."),
    ] = None

    def resolve(self) -> Between | None:
        """Return what happens between frames, None where each starts anew; raises UsageError for what cannot."""
        given = {name: value for name in ("window", "leak", "refresh") if (value := getattr(self, name)) is not None}
        if given and not self.stream:
            raise UsageError(
                "frames that start anew have nothing between them", place=f"--{next(iter(given))}", hint="add --stream"
            )
        if not self.stream:
            return None
        from snnc.run.frames import Between

        return Between(**given)


class GateFlags(Flags):
    """What an evaluation has to find: a flag for each limit that there is, when it is for, and how certain."""

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Return a number for each limit, a text where it may have a percent sign."""
        found: dict[str, Any] = {
            "proven": Annotated[
                bool | None, typer.Option("--proven", help="Fail gates that pass without being proven.")
            ],
            "gate_timesteps": Annotated[
                int | None,
                typer.Option(
                    metavar="T",
                    help="Time steps that gates are for. Default: what it was converted for, else the first.",
                ),
            ],
        }
        for name, known in limits().items():
            kind = str if any(limit.with_percent for limit in known) else float
            option = typer.Option(metavar=known[0].metavar, help=known[0].help)
            found[name.replace("-", "_")] = Annotated[kind | None, option]
        return found

    def resolve(self, project: Project) -> Limits:
        """Return the limits of the flags, else of the project; raises UsageError where one is no number."""
        given = {("timesteps" if name == "gate_timesteps" else name): value for name, value in self.given.items()}
        return merged(project.gates, stated_limits(**given))


@dataclass(frozen=True)
class FaceFlags:
    """Where the report goes besides."""

    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as a page.")] = None
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as Markdown.")] = None
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write gates and layers as test cases, in JUnit's XML.")
    ] = None
    sarif: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the findings for code scanning.")] = None
    no_images: Annotated[bool, typer.Option("--no-images", help="Leave pictures of samples out of the report.")] = False
    github_summary: Annotated[
        bool, typer.Option("--github-summary", help="Add the Markdown to the summary of the GitHub Actions step.")
    ] = False

    def files(self) -> dict[str, Path]:
        """Return which face goes to which file."""
        given = {name: getattr(self, name) for name in ("html", "markdown", "junit", "sarif")}
        return {name: path for name, path in given.items() if path is not None}

    def summary_file(self) -> Path | None:
        """Return the runner's file where it is asked for; raises UsageError where there is none."""
        if not self.github_summary:
            return None
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path:
            hint = "use it in a step of GitHub Actions, or write the same text with --markdown FILE"
            raise UsageError("GITHUB_STEP_SUMMARY is not set", place="--github-summary", hint=hint)
        return Path(path)


class FormatFlags(Flags):
    """What to write: the format, and a flag for each option of each format."""

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Return the flags; a list of numbers is a text with commas."""
        from snnc.formats.format import formats

        about = " ".join(f"{name}: {kind.about}{_needs(kind.extra)}" for name, kind in formats.items())
        choice = Literal[tuple(formats)]  # type: ignore[valid-type]
        found: dict[str, Any] = {"format": Annotated[choice | None, typer.Option(help=f"{about} Default: {_FORMAT}.")]}
        options = {name: _options(kind) for name, kind in formats.items()}
        for flag in dict.fromkeys(flag for known in options.values() for flag in known):
            owners = [name for name, known in options.items() if flag in known]
            kind, option = options[owners[0]][flag]
            shown = typer.Option(_flag(flag), metavar=option.metavar, help=f"Of {', '.join(owners)}: {option.help}")
            found[flag] = Annotated[(str if get_origin(kind) is tuple else kind) | None, shown]
        return found

    def resolve(self, project: Project, present: Collection[str]) -> Format[Any]:
        """Return the format with its options: those of the flags, else those of the project.

        ``present`` are other flags of the command, which options may need. Raises UsageError where one is missing, and
        where an option is that of another format.
        """
        from snnc.formats.format import formats

        name = self.given.get("format", _FORMAT)
        values = {option: value for option, value in self.given.items() if option != "format"}
        present = {*present, *(_flag(option) for option, value in values.items() if value)}
        known = _options(formats[name])
        for option, value in values.items():
            owners = [owner for owner, kind in formats.items() if option in _options(kind)]
            needs = known[option][1].needs if option in known else f"--format {owners[0]}"
            if needs and needs not in present:
                flag = _flag(option)
                raise UsageError(f"{flag} without {needs}", hint=f"add {needs}, or leave out {flag}")
            if get_origin(known[option][0]) is tuple:
                values[option] = parsed_numbers(value, _flag(option), get_args(known[option][0])[0])
        return chosen_format(name, project, values)


def known_format(name: str | None) -> str | None:
    """Return the name of a format as it is; raises BadParameter where there is none of that name."""
    if name is not None:
        from snnc.formats.format import formats

        if name not in formats:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, formats))}.")
    return name


def chosen_format(name: str, project: Project, options: Mapping[str, Any] | None = None) -> Format[Any]:
    """Return a format with some options, and else those of the project; raises UsageError for what it does not have."""
    from snnc.formats.format import formats

    for other in project.export:
        if other not in formats:
            raise UsageError(f"unknown format {other!r}", place=f"{FILE}: export", hint=suggest(other, formats))
    return parse(formats[name], {**project.export.get(name, {}), **(options or {})}, place=f"{FILE}: export.{name}")


def _options(kind: type) -> dict[str, tuple[Any, Option]]:
    """Return the fields of a dataclass that are flags: their types, and what they say of themselves."""
    hints = {name: get_args(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    return {field.name: hints[field.name][:2] for field in dataclasses.fields(kind)}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _needs(extra: str) -> str:
    return f" Needs snnc[{extra}]." if extra else ""


def _fractions(text: str) -> list[float]:
    """Return numbers that are separated by commas, quotients among them."""
    try:
        return [float(Fraction(part.strip())) for part in text.split(",")]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(f"invalid value {text!r}", place="--shares", hint="give numbers: 3/4,1/4") from None


def _check_latency(recipe: Recipe, latency: Latency) -> None:
    """Raise UsageError where the recipe puts in neurons that make layers fire otherwise than asked for."""
    from snnc.neurons import OrderFreeNeuron, neurons
    from snnc.passes.substitute_neurons import SubstituteNeurons

    placed = [kind for step in recipe.passes if isinstance(step, SubstituteNeurons) for kind in step.placed]
    names = {kind: name for name, kind in neurons.items()}
    for kind in placed:
        other = "pipelined" if issubclass(kind, OrderFreeNeuron) else "synchronous"
        if other != {"one-step": "synchronous"}.get(latency, latency):
            alike = {issubclass(one, OrderFreeNeuron) for one in placed}
            hint = f"give --latency {other}, or another neuron" if len(alike) == 1 else "name neurons of one latency"
            raise UsageError(f"{names[kind]!r} neurons make a {other} network", place="--latency", hint=hint)
    if latency == "one-step" and recipe.schedule.total > 1:
        hint = "give --timesteps 1 and no sleep, or --latency synchronous"
        raise UsageError(f"{recipe.schedule.total} steps from image to answer", place="--latency", hint=hint)


def typed(flags: PreprocessingFlags | ReadingFlags, *names: str) -> list[str]:
    """Return a group of flags as they can be typed: those that are not at their default (and are ``names``, if any)."""
    fields = [field for field in dataclasses.fields(flags) if not names or field.name in names]
    given = {field.name: getattr(flags, field.name) for field in fields if getattr(flags, field.name) != field.default}
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def task_of(given: str | None, settings: Project) -> Task | None:
    """Return the task that the flag or the project states, None where neither does."""
    from snnc.tasks import stated

    if given is not None:
        name, options = called(given, place="--task")
        return stated({name: dict(options)}, "--task")
    return None if settings.task is None else stated(settings.task, f"{FILE}: task")


def parsed_numbers(text: str | None, flag: str, kind: type[Number]) -> tuple[Number, ...] | None:
    """Read numbers separated by commas; raises UsageError where it is something else."""
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        hint = f"give {what} separated by commas, without spaces"
        raise UsageError(f"invalid value {text!r}", place=flag, hint=hint) from None


def shape(texts: list[str] | None, project: Project) -> tuple[int, ...] | dict[str, tuple[int, ...]] | None:
    """Return the shape of one sample, by the names of several inputs, from the flag or the project.

    Raises UsageError where it is none.
    """
    given = project.input_shape
    if texts:
        named = {name: lengths for name, equals, lengths in (text.rpartition("=") for text in texts) if equals}
        if len(named) < len(texts) and len(texts) > 1:
            hint = "give one for each input, as in --input-shape NAME=3,32,32"
            raise UsageError("a shape without its input, or two of one", place="--input-shape", hint=hint)
        read = {name: parsed_numbers(lengths, "--input-shape", int) or () for name, lengths in named.items()}
        given = read or parsed_numbers(texts[0], "--input-shape", int)
    for lengths in given.values() if isinstance(given, dict) else [given] if given is not None else []:
        if min(lengths, default=0) < 1:
            hint = "give the shape of one sample without the batch, as in 3,32,32"
            raise UsageError(f"invalid value {' '.join(texts or []) or lengths!r}", place="--input-shape", hint=hint)
    return given


def required_data(given: Path | None, section: str, configured: Path | None) -> Path:
    """Return the data of the flag or of the project's section; raises UsageError without either."""
    data = given or configured
    if data is None:
        hint = f"give --data FOLDER, or '{section}: {{data: FOLDER}}' in snnc.yaml"
        raise UsageError(f"no data for the {section}", hint=hint)
    return data


def check_outputs(
    outputs: list[Path],
    source: Path | None,
    *,
    data: Path | None = None,
    recipe: str | None = None,
    others: Iterable[tuple[Path, str]] = (),
) -> None:
    """Raise, before any work is done, where results cannot be written, or would overwrite each other or what is read.

    That is ``source``, a model, ``data``, the file of a ``recipe``, given by name or path, that of the project, and
    ``others`` with what they are.
    """
    known = [(source, "the model"), (data, "the data"), (file_of(Path()), "the settings of the project"), *others]
    if recipe is not None and Path(recipe).suffix in {".yaml", ".yml"}:
        known.append((at_home(Path(recipe)), "the recipe"))
    targets: list[str] = []
    hint = "choose another place with the flag that names it"
    for path in outputs:
        target, place = os.path.realpath(path), str(path)
        if target in targets:
            raise UsageError("two results would go to one file", place=place, hint="give them different names")
        targets.append(target)
        for read, what in known:
            if read is not None and target == os.path.realpath(read):
                raise UsageError(f"would overwrite {what}", place=place, hint=hint)
        if data is not None and (_is_sample(Path(target), data) or _is_sample(path.absolute(), data)):
            raise UsageError("would overwrite a sample", place=place, hint=hint)
        # Paths may lead anywhere: of a name that is too long, this says that there is no such thing.
        folder = os.path.dirname(target)  # noqa: PTH120
        if os.path.isdir(target) or not os.access(folder, os.W_OK) or not os.path.isdir(folder):  # noqa: PTH112
            reason = "it is a folder" if os.path.isdir(target) else "no such folder, or no permission"  # noqa: PTH112
            raise DataError(f"cannot write: {reason}", place=place, hint="name a file in a folder of yours")


def _is_sample(path: Path, data: Path) -> bool:
    """Return whether a file is there, in a folder of data, that may be one of its samples, or says what they show."""
    # A link among the samples is one of them.
    within = any(path.is_relative_to(folder) for folder in (os.path.realpath(data), data.absolute()))
    if not within or not os.path.isfile(path):  # noqa: PTH113
        return False
    from snnc.data import audio, images, labels, recordings

    others = {".npy", ".npz", ".tar", ".parquet"}
    # Of detectors, other files with labels have names that reports may have as well, but for their folder.
    if path.name.endswith(labels.FILE_NAME) or path.parent.name in ("annotations", "labels"):
        return True
    return path.suffix.lower() in {*others, *images.SUFFIXES, *audio.SUFFIXES, *recordings.suffixes()}


def _size(text: str | None, flag: str) -> tuple[int, int] | int | None:
    sides = parsed_numbers(text, flag, int)
    if sides is None:
        return None
    if len(sides) == 1:
        return sides[0]
    if len(sides) != 2:
        raise UsageError(f"invalid value {text!r}", place=flag, hint="give H,W or one number")
    return sides[0], sides[1]
