"""The report in one sentence, in plain words: what is lost, and where."""

from collections.abc import Mapping

from snnc import intervals
from snnc.figure import Blame, Events, Row
from snnc.measure.evaluation import Evaluation
from snnc.measure.figures import unit_of
from snnc.measure.layers import Layer
from snnc.measure.summary import Summary
from snnc.report.data import Report
from snnc.tasks import Task
from snnc.text import counted, number, percent, span, written

# Samples that leave more points than this to chance say little of a loss that could be none.
_TELLING = 1.0

# What makes one doubt all that follows.
_DOUBTFUL = {
    "classes-not-covered",
    "folders-below-classes",
    "original-missing",
    "trained-at-chance",
    "unlike-training",
    "unsure",
}

_SPREAD = "; no single layer stands out beyond chance"


def sentence(report: Report) -> str:
    """Return what the conversion costs at the number of steps it was made for, and which layer most of it comes from.

    Says how to find out what was not measured, and first what makes one doubt all of it.
    """
    doubt = next((finding.message for finding in report.all_findings if finding.code in _DOUBTFUL), "")
    return f"Doubtful, for {doubt}. {_said(report)}" if doubt else _said(report)


def _said(report: Report) -> str:
    row = report.headline
    if row is None:
        if report.summary.agreement is None and report.summary.output_error is not None:
            error = written(100 * report.summary.output_error, "%")
            return (
                f"Moves the outputs by {error} % of their size at {_steps(report.summary)}, on samples it was "
                "calibrated on; it was not evaluated on others (snnc evaluate --data FOLDER)."
            )
        if report.summary.agreement is None:
            return (
                "Nothing was measured yet: calibrate on images (snnc calibrate --data FOLDER), then measure "
                "accuracy on others (snnc evaluate --data FOLDER)."
            )
        share = f"{written(report.summary.agreement, '%')} % of the trained network's {report.summary.answers}"
        seen = counted(report.summary.images, "sample")
        return (
            f"Keeps {share} at {_steps(report.summary)}, on {seen} it was calibrated on; how "
            "good they are on others was not measured (snnc evaluate --data FOLDER)."
        )
    assert report.evaluation is not None
    task = report.evaluation.judged_by
    said = _loss(row, task, report.evaluation)
    worst = max(row.blame or (), key=lambda blame: blame.points, default=None)
    # Without a loss that is more than chance there is nothing to be blamed for.
    if worst is not None and worst.share is not None and worst.interval is not None and _is_certain(row, task):
        certain = intervals.largest(worst.points, worst.interval, len(row.blame or ()))[0] > 0
        said += f"; {_blamed(worst)}{_cause(worst.name, report, row)}" if certain else _SPREAD
    return f"{said}."


def sent(events: Events, total_steps: int) -> str:
    """Return what neurons send, and how long the answer takes, in words."""
    levels = f"{counted(events.levels, 'level')} an activation"
    kind = "events with a sign" if events.signed else "events"
    units = "" if events.units is None else f", {number(events.units)} units each"
    bits = f"{counted(events.bits, 'bit')} (at most {events.largest:,}{units})"
    return f"{levels}, {kind} of {bits}, {counted(total_steps, 'step')} from image to answer."


def reached(reference: Mapping[str, float]) -> str:
    """Return how good a network is, by its scores, in words; by those of parts only where there are no others."""
    whole = {name: value for name, value in reference.items() if "/" not in name}
    known = {name.replace("/", " of "): (value, unit_of(name)) for name, value in (whole or reference).items()}
    parts = ((written(value, unit), unit, name) for name, (value, unit) in known.items())
    return ", ".join(" ".join(part for part in parts_ if part) for parts_ in parts)


def _loss(row: Row, task: Task, evaluation: Evaluation) -> str:
    steps, lost = _steps(row), task.lost(row)
    if lost is not None:
        points, interval = lost
        by_labels = row.drop is not None
        certainty = f"95 % interval {span(interval, 'points')}"
        if by_labels and not _is_certain(row, task):
            told = f"measured {written(points, 'points')} points, {certainty}"
            most = max(interval[1], 0.0)
            if most > _TELLING:
                few = f"{evaluation.samples:,} sample{'s are' if evaluation.samples > 1 else ' is'} too few to tell"
                return f"{few} how many points of {task.score_name} are lost at {steps} ({told})"
            return f"At most {written(most, 'points')} points of {task.score_name} are lost at {steps} ({told})"
        said = task.loss(by_labels).said(points)
        return f"{said[0].upper()}{said[1:]} at {steps}" + (f" ({certainty})" if by_labels else "")
    if evaluation.labeled and (merit := task.merit(row)) is not None:
        told = reached({task.score_name: merit})
        return f"Reaches {told} at {steps}; the trained network was stripped, so what was lost is unknown"
    alone = f"the trained network has no {task.answer_name} to compare with"
    why = "without labels and trained network" if evaluation.stripped else f"{alone}, so"
    return f"Fires {number(row.spikes)} spikes per image at {steps}; {why} no loss is known"


def _is_certain(row: Row, task: Task) -> bool:
    lost = task.lost(row)
    if lost is None:
        return False
    return (lost[1][0] if row.drop is not None else lost[0]) > 0


def _blamed(blame: Blame) -> str:
    assert blame.share is not None
    return f"{percent(blame.share)} of it enters at {blame.name}"


def _cause(name: str, report: Report, row: Row) -> str:
    """Return what mostly goes wrong in a layer, where that was measured at these steps."""
    layer = next((layer for layer in report.layers if layer.name == name), None)
    if (row.timesteps, row.sleep) != (report.summary.timesteps, report.summary.sleep) or layer is None:
        return ""
    if layer.clipping is None or layer.quantization is None or layer.unevenness is None:
        return ""
    causes = {
        _clipping(layer): layer.clipping,
        f"where values are rounded to {layer.levels + 1} levels": layer.quantization,
        f"where spikes come unevenly ({percent(layer.over_firing or 0)} of neurons fire too often, "
        f"{percent(layer.under_firing or 0)} too seldom)": layer.unevenness,
    }
    largest = max(causes, key=lambda cause: causes[cause])
    return f", {largest}" if causes[largest] > 0 else ""


def _clipping(layer: Layer) -> str:
    return f"where {layer.clipping_channels} of {layer.channels} channels clip"


def _steps(measured: Row | Summary) -> str:
    """Return how long the network ran, and how long the answer takes where that is longer."""
    if measured.total_steps != measured.timesteps:
        return f"T={measured.timesteps}, {measured.total_steps} steps in all"
    return "1 step" if measured.timesteps == 1 else f"{measured.timesteps} steps"
