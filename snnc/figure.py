"""What is measured of a conversion, as plain data, and what is known of each figure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from snnc.intervals import Interval

# What a figure is of: a network as converted, a network evaluated at one number of time steps, or a layer of either.
Subject = Literal["network", "row", "layer"]


@dataclass(frozen=True)
class Events:
    """What neurons send: events of up to ``largest`` units, in words of ``bits`` bits, ``signed`` or not.

    ``levels`` are those of an activation, the most of any layer, and ``units`` what one event carries on average.
    """

    levels: int
    largest: int
    bits: int
    signed: bool
    units: float | None = None


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What one inference costs, estimated, in µJ, beside the trained network and one with activations of ``bits`` bits.

    ``accumulations`` (by spikes) and ``multiplications`` (of analog values) are arithmetic. Of the ``memory`` traffic,
    ``spike_memory`` is what spikes cause, and ``neuron_memory`` what hardware with a clock moves at every step: driven
    by events, it has the rest alone. ``ratio`` is that of arithmetic and memory together to those of the trained
    network, ``event_driven_ratio`` without the clock, ``arithmetic_ratio`` without memory. ``break_even`` is the firing
    rate, in spikes per neuron and step, below which all of it is less than that of the trained network,
    ``quantized_break_even`` than that of the narrow one; None where it is more without any spike, or nothing is driven
    by spikes. Of ``accumulations``, ``event_multiplications`` are those by what events carry.
    """

    accumulations: float = 0.0
    multiplications: float = 0.0
    memory: float = 0.0
    spike_memory: float = 0.0
    neuron_memory: float = 0.0
    reference: float = 0.0
    reference_memory: float = 0.0
    bits: int = 1
    quantized: float = 0.0
    quantized_memory: float = 0.0
    ratio: float | None = None
    event_driven_ratio: float | None = None
    arithmetic_ratio: float | None = None
    firing_rate: float = 0.0
    break_even: float | None = None
    quantized_break_even: float | None = None
    event_multiplications: float = 0.0
    events: Events | None = None

    @property
    def arithmetic(self) -> float:
        """Return the energy of all arithmetic."""
        return self.accumulations + self.multiplications

    @property
    def total(self) -> float:
        """Return the energy of arithmetic and of memory traffic, with a clock."""
        return self.arithmetic + self.memory

    @property
    def by_spikes(self) -> float:
        """Return what of it is in proportion to the spikes."""
        return self.accumulations + self.spike_memory


@dataclass(frozen=True)
class AnalogOperation:
    """An operation that spikes do not drive: a ``kind`` of operation, in the file at ``source``.

    ``macs`` are the multiply-accumulates of one evaluation, of which an inference has ``evaluations``. ``why`` says
    that the image alone makes what it takes in, that no neurons stand before it, or that none stand for it.
    """

    name: str
    source: str
    kind: str
    why: Literal["image", "unplaced", "function"]
    macs: int
    evaluations: int


@dataclass(frozen=True)
class Delivery:
    """A weighted layer whose sum several ``populations`` of neurons read, so that a spike is delivered to each.

    ``additions`` are those beyond the first delivery, per inference, None where no images were seen. Accumulators that
    hand their sums on would move ``relayed`` numbers instead.
    """

    name: str
    source: str
    populations: int
    additions: float | None
    relayed: int


@dataclass(frozen=True)
class Arithmetic:
    """What multiplies in a network: ``macs`` multiply-accumulates in one pass of the trained one.

    Percentages of them are driven by spikes, and by the image alone; ``analog`` are the operations that spikes do not
    drive, ``delivered`` the layers whose spikes have several places to go to.
    """

    macs: int
    driven_by_spikes: float | None
    driven_by_image: float | None
    analog: tuple[AnalogOperation, ...]
    delivered: tuple[Delivery, ...]


@dataclass(frozen=True)
class LayerError:
    """The relative error (L2) of one layer's output, all layers converted, over the images evaluated.

    Where the layer is silent in the trained network, it is 1 if it is not in the spiking one.
    """

    name: str
    error: float
    interval: Interval | None


@dataclass(frozen=True)
class Blame:
    """What one layer adds to the loss, in points: of accuracy, or, without labels, of agreement.

    ``share`` is that of the whole loss, None where nothing is lost.
    """

    name: str
    points: float
    interval: Interval | None
    share: float | None


@dataclass(frozen=True)
class Score:
    """One figure of a task, with its interval at 95 %; of several repeats the mean."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Mark:
    """A box on a picture, its ends in shares of width and height, and what is in it."""

    left: float
    top: float
    right: float
    bottom: float
    words: str


@dataclass(frozen=True)
class Picture:
    """A sample as the network sees it (``jpeg``, in base64), with what both networks find on it, and what is there.

    ``about`` says why this one is shown, ``loss`` from 0 to 1 how wrong the spiking network is.
    """

    name: str
    about: Literal["worst", "typical"]
    loss: float
    jpeg: str
    size: tuple[int, int]
    true: tuple[Mark, ...]
    trained: tuple[Mark, ...]
    spiking: tuple[Mark, ...]


@dataclass(frozen=True)
class ClassAnswers:
    """What becomes of the samples of one class: so many that each network knows it of, and what else it is taken for.

    The class is that of the labels or, without any, the trained network's answer. ``trained`` is None without that one
    or without labels. ``taken_for`` are the other answers of the spiking network, the most frequent first.
    """

    name: str
    samples: int
    trained: int | None
    spiking: int
    taken_for: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ChangedAnswer:
    """A sample that the networks answer differently: the ``number`` of its place in the data, and all answers.

    ``true`` is None without labels. Where the sample is an image, ``jpeg`` (in base64) is a small one of it.
    """

    number: int
    name: str
    true: str | None
    trained: str
    spiking: str
    jpeg: str = ""


@dataclass(frozen=True)
class ClassReport:
    """Answers class by class, at one number of time steps, and which of them changed by the conversion.

    ``changed`` counts all, None without the trained network; some of them are ``examples``, those first that only the
    trained network gets right.
    """

    timesteps: int
    classes: tuple[ClassAnswers, ...]
    changed: int | None
    examples: tuple[ChangedAnswer, ...]


@dataclass(frozen=True)
class Speed:
    """How long something takes for ``batch`` images at once, in ms: the median of so many ``runs``, and the fastest."""

    name: str
    batch: int
    milliseconds: float
    fastest: float
    runs: int

    @property
    def per_second(self) -> float:
        """Images per second."""
        return 1000 * self.batch / self.milliseconds


@dataclass(frozen=True)
class Wire:
    """A way through a network from one stop, an input or a layer of neurons, to the next, or to an output.

    ``through`` are the weighted layers on it.
    """

    source: str
    target: str
    through: tuple[str, ...]


@dataclass(frozen=True)
class Moment:
    """What answers are worth after so many ``steps`` from image to answer, in percent.

    ``merit`` is the task's score or, without labels, agreement with the trained network; ``settled`` are answers that
    are those of the whole run, None of tasks whose answers are hardly ever the same.
    """

    steps: int
    merit: float
    interval: Interval | None
    agreement: float | None
    settled: float | None


@dataclass(frozen=True)
class Ledger:
    """What answers are worth after every step that has one: ``measures`` names the merit.

    The first steps from image to answer whose merit is within 1 point of that of the whole run, and of the trained
    network's, None where there is no such step. ``trained`` is that one's, None where there is none.
    """

    measures: str
    moments: tuple[Moment, ...]
    trained: float | None
    within_end: int | None
    within_trained: int | None


@dataclass(frozen=True)
class ExitRule:
    """When an answer is certain: once the margin of the mean output so far reaches the limit of the step.

    ``limits`` are those of all steps of a schedule, None where no margin is enough; after the last every answer stands.
    They are such that of ``samples`` from ``source``, whose labels nobody looked at, answers of those that have stopped
    are those of the whole run with this ``confidence``, by the lower end of the 95 % interval.
    """

    confidence: float
    limits: tuple[float | None, ...]
    samples: int
    source: str

    def enough(self, step: int, margin: float) -> bool:
        """Return whether an answer is certain after a step of the schedule, counted from 0."""
        limit = self.limits[step]
        return step == len(self.limits) - 1 or (limit is not None and margin >= limit)


@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """What comes of stopping each sample when its answer is certain, on ``samples`` that the rule was not made on.

    ``stopped`` says how many samples stop after each of the ``steps`` from image to answer, in order. ``merit`` is what
    ``measures`` names, ``merit_whole`` that of the whole run and ``drop`` the difference, None without labels.
    ``agreement`` is that with the trained network, ``settled`` are answers that are those of the whole run. Spikes are
    those until then, per sample, and in the whole run.
    """

    rule: ExitRule
    samples: int
    steps: tuple[int, ...]
    stopped: tuple[int, ...]
    mean_steps: float
    mean_steps_interval: Interval | None
    measures: str
    merit: float
    merit_interval: Interval | None
    merit_whole: float
    drop: float | None
    drop_interval: Interval | None
    agreement: float | None
    agreement_interval: Interval | None
    settled: float
    settled_interval: Interval | None
    spikes: float
    spikes_interval: Interval | None
    spikes_whole: float


def score(name: str) -> Callable[[Any], float | None]:
    """Return what reads a score; a subject without scores has nothing of the kind measured."""
    return lambda subject: scores[name].value if name in (scores := getattr(subject, "scores", {})) else None


def score_interval(name: str) -> Callable[[Any], Interval | None]:
    """Return what reads the interval of a score."""
    return lambda subject: scores[name].interval if name in (scores := getattr(subject, "scores", {})) else None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of time steps. Percentages; intervals at 95 %; what a stripped or unlabeled run lacks is None.

    ``drop`` is how much lower the task's score is than the trained network's, in points, with a paired interval;
    ``relative_drop`` in percent of the trained network's. Of classes, ``lost`` and ``won`` are the samples that only
    the trained network, or only the spiking one, gets right.
    Spikes, operations and energy are per inference; ``energy_ratio_interval`` is that of ``energy.ratio``, and
    ``arithmetic_ratio_interval`` of ``energy.arithmetic_ratio``. Of several repeats everything is the mean, with
    standard deviations in ``accuracy_deviation`` and ``agreement_deviation``.
    ``sleep_used`` is how many of the steps asleep something still fired in, for any image. ``misalignment`` is what the
    permutation probe gained: points of accuracy (of agreement, without labels), ``misalignment_share`` its share of
    the whole loss.
    ``layers`` and ``blame`` are there where they were asked for, ``blame`` on so many images as it says. ``scores`` are
    the figures of a task that is no classification, by name. ``driven_by_spikes`` is the percentage of the trained
    network's multiply-accumulates that spikes drive. ``ledger`` is there of tasks that can say it, ``exit``
    at one number of steps where it was asked for, and ``exit_beside`` is the same with other confidences.
    """

    timesteps: int
    sleep: int
    sleep_used: int
    total_steps: int
    repeats: int
    accuracy: float | None = None
    accuracy_deviation: float | None = None
    accuracy_interval: Interval | None = None
    lost: float | None = None
    won: float | None = None
    drop: float | None = None
    drop_interval: Interval | None = None
    relative_drop: float | None = None
    relative_drop_interval: Interval | None = None
    agreement: float | None = None
    agreement_deviation: float | None = None
    agreement_interval: Interval | None = None
    spikes: float
    spikes_interval: Interval | None
    synaptic_operations: float
    energy: Energy
    energy_ratio_interval: Interval | None
    arithmetic_ratio_interval: Interval | None = None
    driven_by_spikes: float | None = None
    misalignment: float | None = None
    misalignment_share: float | None = None
    layers: tuple[LayerError, ...] | None = None
    blame: tuple[Blame, ...] | None = None
    blame_images: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    ledger: Ledger | None = None
    exit: EarlyExit | None = None
    exit_beside: tuple[EarlyExit, ...] | None = None


@dataclass(frozen=True)
class Limit:
    """What an evaluation may be held to: the gate ``name``, its flag, and its key under ``gates:`` in snnc.yaml.

    A name that starts with ``min-`` is a limit from below, one with ``max-`` from above. ``accepts`` says which numbers
    are limits and ``expected`` so in words; ``example`` is what a project file may say, ``lacking`` why there may be
    nothing to judge. A limit ``with_percent`` is one that is written as ``2%``: of two limits of one name, that tells
    which is meant. ``needs_labels`` and ``needs_reference`` are told before anything is run.
    """

    name: str
    help: str
    metavar: str
    example: str
    lacking: str
    accepts: Callable[[float], bool] = lambda value: value >= 0
    expected: str = "a number from 0"
    with_percent: bool = False
    needs_labels: bool = False
    needs_reference: bool = False

    def __post_init__(self) -> None:
        if not self.name.startswith(("min-", "max-")):
            raise ValueError(f"{self.name!r} says neither min- nor max-")


@dataclass(frozen=True)
class Tolerance:
    """How much worse a figure may become from one conversion to another; ``snnc diff`` has the flag ``--max-NAME``.

    In percent of the old figure where it is ``relative``, else added to it; infinite where anything will do.
    """

    name: str
    help: str
    metavar: str
    default: float
    relative: bool = False


@dataclass(frozen=True)
class Trend:
    """A plot of a figure over time steps.

    The trained network stands at ``trained`` or, where that is None, at its score ``of`` this name, if it has one.
    Limits on the figure itself are drawn at their value; limits on the figures that it is ``lowered_by``, in points or
    in percent of the trained network's, as far below that one.
    """

    title: str
    trained: float | None = None
    of: str = ""
    lowered_by: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Figure:
    """One figure: what it is called, how it is read of its subjects, which direction is better, and what it is held to.

    ``better`` is 1 where more is better, -1 where less is, 0 where neither. ``value`` and ``interval`` (95 %) give None
    where nothing was measured. ``expected`` is the interval of a row as it would be on so many samples in the same
    proportions; where it is None, intervals shrink with the root of the number of samples. Where two conversions both
    have one of the figures called ``judged_by``, that one is held to the tolerance in place of this one. A figure that
    says in other words what another one says is not ``compared``.

    A figure of rows has a column in the table of them, called ``title`` (else its name and unit), ``short`` where there
    is little room ("" for the title, None for no room), with what the title does not say ``about`` it. ``bracketed``
    intervals are worth their room there; ``signed`` values have a plus. ``deviation`` is that of several draws, and
    ``detail`` what else is told of a value.

    Raises ValueError where the limit is on the good side.
    """

    name: str
    of: frozenset[Subject]
    value: Callable[[Any], float | None]
    better: Literal[1, 0, -1] = 0
    unit: str = ""
    interval: Callable[[Any], Interval | None] = lambda subject: None
    expected: Callable[[Row, float], Interval | None] = lambda row, samples: None
    limit: Limit | None = None
    tolerance: Tolerance | None = None
    judged_by: tuple[str, ...] = ()
    compared: bool = True
    title: str = ""
    short: str | None = ""
    about: str = ""
    bracketed: bool = False
    signed: bool = False
    deviation: Callable[[Any], float | None] = lambda subject: None
    detail: Callable[[Any], str] = lambda subject: ""
    trend: Trend | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit.name.startswith("min-") != (self.better > 0):
            raise ValueError(f"{self.limit.name!r} limits what is good in {self.name!r}")
