"""Which figures there are, each once: what gates, tolerances, flags, keys in snnc.yaml and diffs are made of."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from snnc import intervals
from snnc.figure import Figure, Limit, Row, Subject, Tolerance, Trend, score, score_interval
from snnc.intervals import Interval
from snnc.text import fixed, number

_NETWORK: frozenset[Subject] = frozenset({"network"})
_ROW: frozenset[Subject] = frozenset({"row"})
_BOTH = _NETWORK | _ROW
_LAYER: frozenset[Subject] = frozenset({"layer"})

_figures: dict[str, Figure] = {}


def register(figure: Figure) -> Figure:
    """Enter a figure, behind those that are there; raises ValueError where its name is taken."""
    if figure.name in _figures:
        raise ValueError(f"two figures are called {figure.name!r}")
    _figures[figure.name] = figure
    return figure


def figures(of: Subject | None = None) -> tuple[Figure, ...]:
    """Return the figures, or those of one kind of subject, in the order in which people read them."""
    return tuple(figure for figure in _figures.values() if of is None or of in figure.of)


def unit_of(name: str) -> str:
    """Return the unit of a score; what stands behind a stroke is a part of what is scored, such as a class."""
    whole = name.partition("/")[0]
    return next((figure.unit for figure in figures("row") if figure.name == whole), "")


def limits() -> dict[str, list[Limit]]:
    """Return the limits that there are by name; of one name, those with and without a percent sign."""
    found: dict[str, list[Limit]] = {}
    for figure in figures():
        if figure.limit is not None and figure.limit not in found.setdefault(figure.limit.name, []):
            found[figure.limit.name].append(figure.limit)
    return found


def tolerances() -> dict[str, Tolerance]:
    """Return the tolerances that there are, by name."""
    return {figure.tolerance.name: figure.tolerance for figure in figures() if figure.tolerance is not None}


def _read(name: str) -> Callable[[Any], Any]:
    """Return what reads a field; a subject without it has nothing of the kind measured."""
    return lambda subject: getattr(subject, name, None)


def _exit(name: str) -> Callable[[Any], Any]:
    """Return what reads a figure of stopping early; a subject that was not to has nothing of the kind."""
    return lambda subject: getattr(_read("exit")(subject), name, None)


def _energy(name: str) -> Callable[[Any], Any]:
    """Return what reads a figure of the energy; a subject without it has spent nothing that is known."""
    return lambda subject: None if subject.energy is None else getattr(subject.energy, name)


def _sent(name: str) -> Callable[[Any], Any]:
    """Return what reads a figure of the events; a subject whose energy is not known sends none that is known."""
    return lambda subject: getattr(_energy("events")(subject), name, None)


def _largest(subject: Any) -> str:
    """Return what events carry, where they do not all carry 1."""
    events = _energy("events")(subject)
    if events is None or events.largest == 1:
        return ""
    mean = "" if events.units is None else f", {number(events.units)} on average"
    return f"{'±' if events.signed else ''}{events.largest:,}{mean}"


def _driven(subject: Any) -> Interval | None:
    """Return the share itself: no sample says anything else."""
    share = getattr(subject, "driven_by_spikes", None)
    return None if share is None else (share, share)


def _paired(row: Row, samples: float) -> Interval | None:
    if row.lost is None or row.won is None:
        return None
    return intervals.paired(row.lost * samples / 100, row.won * samples / 100, samples)


def _relative(row: Row, samples: float) -> Interval | None:
    if row.accuracy is None or row.lost is None or row.won is None:
        return None
    right, lost, won = (share * samples / 100 for share in (row.accuracy, row.lost, row.won))
    return intervals.relative(right - won, lost, won, samples)


def _agreed(row: Row, samples: float) -> Interval | None:
    """Return it where answers are the same or not: those of a task with scores of its own may be so in part."""
    if row.agreement is None or row.scores:
        return None
    return intervals.proportion(row.agreement * samples / 100, samples)


def _of_the_loss(row: Row) -> str:
    return "" if row.misalignment_share is None else f"{fixed(100 * row.misalignment_share, 0)} % of the loss"


def _percentage(name: str, *, about: str = "", limit: Limit | None = None, drops: bool = False) -> Figure:
    """Return the figure of a score in percent, of which more is better; ``drops`` says that drops are of it."""
    lowered_by = _DROPS if drops else frozenset[str]()
    return Figure(
        name=name,
        of=_ROW,
        value=score(name),
        interval=score_interval(name),
        better=1,
        unit="%",
        limit=limit,
        tolerance=_SCORE_LOSS if drops else None,
        short=f"{name} %",
        about=about,
        trend=Trend(f"{name}, %", of=name, lowered_by=lowered_by),
    )


_DROPS = frozenset({"drop", "relative drop"})
# The scores in percent, beside accuracy, that drops are of, each with what it is.
SCORES = {
    "mAP50": "mean average precision at an overlap of 0.5",
    "mean IoU": "of classes: pixels that are right, of those that are or should be of the class",
    "R2": "share of the labels' variance that is explained",
    "micro F1": "of all labels of all samples",
    "retrieval accuracy": "nearest other samples of the same class",
}
_SCORE_LOSS = Tolerance(
    name="accuracy_loss",
    help="Most accuracy, or other score, lost (without labels: agreement) at any T; inf for any.",
    metavar="POINTS",
    default=0.5,
)
_THRESHOLD_CHANGE = Tolerance(
    name="threshold_change",
    help="Most that a threshold moves, up or down.",
    metavar="PERCENT",
    default=math.inf,
    relative=True,
)
_MAX_DROP = Limit(
    name="max-drop",
    help="Most accuracy, or other score, lost: in points, or in percent of the trained network's.",
    metavar="POINTS|N%",
    example="1.0",
    lacking="it needs labels, a task with a score, and the trained network",
    accepts=math.isfinite,
    expected="a number of points or a percentage as in 2%",
    needs_labels=True,
    needs_reference=True,
)

register(Figure(name="time steps", of=_NETWORK, value=_read("timesteps")))
register(
    Figure(name="levels", of=_BOTH, value=_sent("levels"), short="levels", about="of an activation, the most of any")
)
register(
    Figure(
        name="event bits",
        of=_BOTH,
        value=_sent("bits"),
        short="bits",
        about="of the largest event",
        detail=_largest,
    )
)
register(
    Figure(
        name="steps to the answer",
        of=_BOTH,
        value=_read("total_steps"),
        better=-1,
        tolerance=Tolerance(
            name="more_steps",
            help="Most additional steps from image to answer.",
            metavar="N",
            default=0.0,
        ),
        short="latency",
        about="steps from image to answer",
    )
)
register(Figure(name="steps per answer", of=_NETWORK, value=_read("steps_per_answer"), better=-1))
register(Figure(name="spiking layers", of=_NETWORK, value=_read("layers")))
ACCURACY = register(
    Figure(
        name="accuracy",
        of=_ROW,
        value=_read("accuracy"),
        interval=_read("accuracy_interval"),
        better=1,
        unit="%",
        tolerance=_SCORE_LOSS,
        short="accuracy %",
        deviation=_read("accuracy_deviation"),
        trend=Trend("Accuracy, %", of="accuracy", lowered_by=_DROPS),
    )
)
for _name, _about in SCORES.items():
    register(_percentage(_name, about=_about, drops=True))
DROP = register(
    Figure(
        name="drop",
        of=_ROW,
        value=_read("drop"),
        interval=_read("drop_interval"),
        expected=_paired,
        better=-1,
        unit="points",
        limit=_MAX_DROP,
        short="drop",
        about="points of the score lost",
        bracketed=True,
    )
)
RELATIVE_DROP = register(
    Figure(
        name="relative drop",
        of=_ROW,
        value=_read("relative_drop"),
        interval=_read("relative_drop_interval"),
        expected=_relative,
        better=-1,
        unit="%",
        limit=replace(_MAX_DROP, lacking="the trained network is right on no image", with_percent=True),
        compared=False,
        title="drop, % of the trained",
        short=None,
    )
)
register(
    Figure(
        name="agreement",
        of=_ROW,
        value=_read("agreement"),
        interval=_read("agreement_interval"),
        expected=_agreed,
        better=1,
        unit="%",
        limit=Limit(
            name="min-agreement",
            help="Fewest answers (predictions, pixels, labels, nearest neighbors) that stay the same.",
            metavar="PERCENT",
            example="98",
            lacking="it needs a task whose answers can be the same, and the trained network",
            accepts=lambda value: 1 < value <= 100,
            expected="percent, as in 95",
            needs_reference=True,
        ),
        # Where no score can be compared, agreement takes its place, as it does where layers are blamed.
        tolerance=_SCORE_LOSS,
        judged_by=(ACCURACY.name, *SCORES),
        short="agree %",
        about="answers as the trained network's",
        deviation=_read("agreement_deviation"),
        trend=Trend("Agreement with the trained network, %"),
    )
)
register(
    Figure(
        name="mean steps",
        of=_ROW,
        value=_exit("mean_steps"),
        interval=_exit("mean_steps_interval"),
        better=-1,
        limit=Limit(
            name="max-mean-steps",
            help="Most steps from image to answer, on average, where samples stop when their answer is certain.",
            metavar="N",
            example="2.5",
            lacking="it needs --exit-confidence",
            accepts=lambda value: value >= 1,
            expected="a number from 1",
        ),
        about="where samples stop when their answer is certain",
    )
)
register(
    Figure(
        name="misalignment",
        of=_ROW,
        value=_read("misalignment"),
        unit="points",
        compared=False,
        title="lost to timing, points",
        short="misaligned",
        about="points regained by shuffling spikes",
        signed=True,
        detail=_of_the_loss,
    )
)
register(Figure(name="lowest threshold", of=_LAYER, value=_read("threshold_minimum"), tolerance=_THRESHOLD_CHANGE))
register(Figure(name="highest threshold", of=_LAYER, value=_read("threshold_maximum"), tolerance=_THRESHOLD_CHANGE))
register(Figure(name="neurons", of=_NETWORK | _LAYER, value=_read("neurons")))
register(Figure(name="MACs of the trained network", of=_NETWORK, value=_read("reference_macs")))
register(Figure(name="agreement in calibration", of=_NETWORK, value=_read("agreement"), better=1, unit="%"))
register(
    Figure(
        name="relative error",
        of=_ROW,
        value=score("relative-error"),
        interval=score_interval("relative-error"),
        better=-1,
        limit=Limit(
            name="max-relative-error",
            help="Largest distance of the outputs from the trained network's, relative to their size.",
            metavar="N",
            example="0.1",
            lacking="it needs a network whose answers are values, and the trained one",
            needs_reference=True,
        ),
        tolerance=Tolerance(
            name="error_increase",
            help="Most added to the relative error of the outputs, where answers are values.",
            metavar="PERCENT",
            default=10.0,
            relative=True,
        ),
        short="error",
        about="distance of the outputs from the trained network's, relative to their size",
        trend=Trend("Relative error of the outputs"),
    )
)
register(
    Figure(
        name="cosine",
        of=_ROW,
        value=score("cosine"),
        interval=score_interval("cosine"),
        better=1,
        limit=Limit(
            name="min-cosine",
            help="Least mean cosine between the outputs and the trained network's.",
            metavar="N",
            example="0.98",
            lacking="it needs a network whose answers are values, and the trained one",
            accepts=lambda value: -1 <= value <= 1,
            expected="a number from -1 to 1",
            needs_reference=True,
        ),
        about="of the outputs and the trained network's",
    )
)
register(_percentage("mAP", about="mean average precision over overlaps from 0.5 to 0.95"))
register(Figure(name="largest deviation", of=_ROW, value=score("largest-deviation"), better=-1, short="deviation"))
register(
    Figure(
        name="error to labels",
        of=_ROW,
        value=score("label-error"),
        interval=score_interval("label-error"),
        better=-1,
    )
)

# What else tasks tell: whether more of it is better, its unit, and the column where there is little room, if any.
_BESIDE: tuple[tuple[str, Literal[1, -1], str, str | None], ...] = (
    ("pixel accuracy", 1, "%", "pixels %"),
    ("average precision", 1, "%", "AP %"),
    ("MAE", -1, "", ""),
    ("RMSE", -1, "", ""),
    ("PSNR", 1, "dB", "PSNR dB"),
    ("SSIM", 1, "", ""),
    ("order of pairs", 1, "", "order"),
    ("mean IoU to the trained network", 1, "%", None),
    ("R2 to the trained network", 1, "%", None),
    ("MAE to the trained network", -1, "", None),
    ("SSIM to the trained network", 1, "", None),
)
for _name, _better, _unit, _short in _BESIDE:
    register(
        Figure(
            name=_name,
            of=_ROW,
            value=score(_name),
            interval=score_interval(_name),
            better=_better,
            unit=_unit,
            short=_short,
        )
    )
register(
    Figure(
        name="PSNR to the trained network",
        of=_ROW,
        value=score("PSNR to the trained network"),
        interval=score_interval("PSNR to the trained network"),
        better=1,
        unit="dB",
        limit=Limit(
            name="min-psnr",
            help="Least peak signal to noise ratio of images to the trained network's.",
            metavar="DECIBELS",
            example="40",
            lacking="it needs a network whose answers are images, and the trained one",
            accepts=lambda value: 0 < value <= 100,
            expected="decibels, as in 40",
            needs_reference=True,
        ),
        short=None,
        trend=Trend("PSNR to the trained network, dB"),
    )
)
register(
    Figure(
        name="energy ratio",
        of=_BOTH,
        value=_energy("ratio"),
        interval=_read("energy_ratio_interval"),
        better=-1,
        limit=Limit(
            name="max-energy-ratio",
            help="Most energy (arithmetic and memory traffic), the trained network's being 1.",
            metavar="N",
            example="0.8",
            lacking="the trained network has no layer that multiplies",
        ),
        tolerance=Tolerance(
            name="more_energy",
            help="Most additional energy (arithmetic and memory traffic).",
            metavar="PERCENT",
            default=10.0,
            relative=True,
        ),
        short="energy",
        about="with memory traffic, estimated, the trained network's being 1",
        trend=Trend("Energy with memory traffic, trained network = 1", trained=1.0),
    )
)
register(
    Figure(
        name="arithmetic ratio",
        of=_BOTH,
        value=_energy("arithmetic_ratio"),
        interval=_read("arithmetic_ratio_interval"),
        better=-1,
        limit=Limit(
            name="max-arithmetic-ratio",
            help="Most energy of arithmetic alone, the trained network's being 1.",
            metavar="N",
            example="0.5",
            lacking="the trained network has no layer that multiplies",
        ),
        tolerance=Tolerance(
            name="more_arithmetic",
            help="Most additional energy of arithmetic alone.",
            metavar="PERCENT",
            default=10.0,
            relative=True,
        ),
        short="arithmetic",
        about="its energy alone",
        trend=Trend("Energy of arithmetic, trained network = 1", trained=1.0),
    )
)
register(
    Figure(
        name="event-driven energy ratio",
        of=_BOTH,
        value=_energy("event_driven_ratio"),
        better=-1,
        compared=False,
        short=None,
    )
)
register(
    Figure(
        name="work driven by spikes",
        of=_BOTH,
        value=_read("driven_by_spikes"),
        interval=_driven,
        better=1,
        unit="%",
        limit=Limit(
            name="min-spike-driven",
            help="Least share of the trained network's multiply-accumulates that spikes drive.",
            metavar="PERCENT",
            example="95",
            lacking="the trained network multiplies nothing",
            accepts=lambda value: 1 < value <= 100,
            expected="percent, as in 95",
        ),
        short=None,
        about="of the trained network's multiply-accumulates",
    )
)
register(
    Figure(
        name="spikes",
        of=_BOTH,
        value=_read("spikes"),
        interval=_read("spikes_interval"),
        better=-1,
        limit=Limit(
            name="max-spikes",
            help="Most spikes per image.",
            metavar="N",
            example="100000",
            lacking="nothing was run",
        ),
        tolerance=Tolerance(
            name="more_spikes",
            help="Most additional spikes.",
            metavar="PERCENT",
            default=10.0,
            relative=True,
        ),
        about="per image",
        trend=Trend("Spikes per image"),
    )
)
register(
    Figure(
        name="additions",
        of=_ROW,
        value=_read("synaptic_operations"),
        better=-1,
        compared=False,
        short="operations",
        about="per image",
    )
)
register(
    Figure(
        name="error",
        of=_LAYER,
        value=_read("error"),
        interval=_read("interval"),
        better=-1,
        limit=Limit(
            name="max-layer-error",
            help="Largest relative error of every layer's output.",
            metavar="N",
            example="0.3",
            lacking="no layer of neurons was compared",
            needs_reference=True,
        ),
        tolerance=Tolerance(
            name="layer_error_increase",
            help="Most added to the relative error of a layer (0.1 of error 0.2: up to 0.3).",
            metavar="X",
            default=math.inf,
        ),
    )
)
