"""What decides whether a network is good enough, at the number of steps that it was made for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Block, Fact, Facts, Missing, Text
from snnc.intervals import Interval
from snnc.measure.figures import figures, unit_of
from snnc.report.data import Report
from snnc.report.sections import CONVERT, EVALUATE, Section, sections
from snnc.text import counted, number, span, written

_ENERGIES = "Energy ratios"


@sections.register("figures")
@dataclass(frozen=True)
class KeyFiguresSection(Section):
    """The key figures."""

    title: ClassVar[str] = "Key figures"
    order: ClassVar[int] = 10

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the figures, and in one line what was converted."""
        facts = *_answers(report), *(fact(report) for fact in (_time_steps, _spikes, _energy_ratio, _images))
        yield Facts(facts, "key", only=("card", "page"))
        yield Text(_in_one_line(report), only=("lines",))
        if report.evaluation is None:
            yield Missing("How good answers are was not measured.", EVALUATE)
        elif not report.evaluation.labeled and (task := report.evaluation.judged_by).score_name:
            asked = f": {task.wanted}" if task.wanted else ""
            yield Missing(f"The data has no labels, so {task.score_name} is unknown{asked}.", EVALUATE)
        if report.stripped:
            yield Missing(
                "The trained network was stripped, so agreement, drop and blame are unknown: convert without --strip.",
                CONVERT,
            )


def _answers(report: Report) -> Iterator[Fact]:
    """Yield how good the answers are: scores, what was lost, and how many are the trained network's."""
    row, summary, evaluation = report.headline, report.summary, report.evaluation
    if row is None and summary.agreement is None and summary.output_error is not None:
        yield Fact("Relative error", number(summary.output_error), "on samples it was calibrated on")
        return
    scored = evaluation is not None and evaluation.judged_by.score_name != "accuracy"
    if row is None or evaluation is None or not scored:
        yield from (fact(report) for fact in (_accuracy, _drop, _agreement))
        return
    # A file keeps no order of scores: they come in the order of figures, those that are none behind by name.
    order = {figure.name: place for place, figure in enumerate(figures("row"))}
    # Those of single classes have a table of their own.
    whole = {name: score for name, score in row.scores.items() if "/" not in name}
    named = {name.replace("-", " "): (name, score) for name, score in whole.items()}
    for title in sorted(named, key=lambda title: (order.get(title, len(order)), title)):
        (name, score), unit = named[title], unit_of(title)
        trained = evaluation.reference.get(name)
        beside = "" if trained is None else f"trained network {written(trained, unit)}{_unit(unit)}"
        if name in evaluation.tuned:
            beside += f", fine-tuned {written(evaluation.tuned[name], unit)}{_unit(unit)}"
        value = f"{written(score.value, unit)}{_unit(unit)}"
        yield Fact(
            title.capitalize() if title.islower() else title, value, _joined(beside, _interval(score.interval, unit))
        )
    if row.drop is not None:
        yield _drop(report)
    if row.agreement is not None:
        yield _agreement(report)


def _accuracy(report: Report) -> Fact:
    row, evaluation = report.headline, report.evaluation
    if row is None or evaluation is None or row.accuracy is None:
        return _unknown("Accuracy")
    trained = evaluation.reference.get("accuracy")
    known = "trained network stripped" if trained is None else f"trained network {written(trained, '%')} %"
    if "accuracy" in evaluation.tuned:
        known += f", fine-tuned {written(evaluation.tuned['accuracy'], '%')} %"
    return Fact("Accuracy", f"{written(row.accuracy, '%')} %", _joined(known, _interval(row.accuracy_interval, "%")))


def _drop(report: Report) -> Fact:
    row = report.headline
    name = "accuracy" if report.evaluation is None else report.evaluation.judged_by.score_name
    if row is None or row.drop is None:
        return _unknown(f"Drop in {name}")
    relative = "" if row.relative_drop is None else f"{written(row.relative_drop, '%')} % of the trained network's"
    detail = _joined(_interval(row.drop_interval, "points"), relative)
    return Fact(f"Drop in {name}", f"{written(row.drop, 'points')} points", detail)


def _agreement(report: Report) -> Fact:
    row, summary = report.headline, report.summary
    if row is not None and row.agreement is not None:
        return Fact("Agreement", f"{written(row.agreement, '%')} %", _interval(row.agreement_interval, "%"))
    if row is None and summary.agreement is not None:
        return Fact("Agreement", f"{written(summary.agreement, '%')} %", "on images it was calibrated on")
    return _unknown("Agreement")


def _time_steps(report: Report) -> Fact:
    shown = report.headline or report.summary
    around = {"of rehearsal": report.summary.rehearsal, "asleep": shown.sleep}
    parts = [f"{steps} {what}" for what, steps in around.items() if steps]
    total = f"{shown.total_steps:,} {'step' if shown.total_steps == 1 else 'steps'} from image to answer"
    return Fact("Time steps", f"T = {shown.timesteps}", ", ".join([total, *parts]))


def _spikes(report: Report) -> Fact:
    spikes = report.summary.spikes if report.headline is None else report.headline.spikes
    energy = report.energy
    if spikes is None or energy is None:
        return _unknown("Spikes per image")
    return Fact("Spikes per image", number(spikes), f"{number(energy.firing_rate)} per neuron and step")


def _energy_ratio(report: Report) -> Fact:
    energy, row = report.energy, report.headline
    if energy is None or energy.ratio is None or energy.arithmetic_ratio is None:
        return _unknown(_ENERGIES)
    interval = "" if row is None else _interval(row.energy_ratio_interval)
    narrow = energy.total / (energy.quantized + energy.quantized_memory)
    return Fact(
        _ENERGIES,
        f"{number(energy.ratio)} and {number(energy.arithmetic_ratio)}",
        _joined(
            "with memory traffic and of arithmetic alone, the trained network's being 1, estimated",
            f"with memory {interval}" if interval else "",
            f"{number(narrow)} times a {energy.bits}-bit network",
        ),
    )


def _images(report: Report) -> Fact:
    evaluation = report.evaluation
    calibrated = "not calibrated" if report.calibration is None else f"calibrated on {report.calibration:,}"
    if evaluation is None:
        return Fact("Images evaluated", "none", calibrated)
    known = "with labels" if evaluation.labeled else "without labels"
    return Fact("Images evaluated", f"{evaluation.samples:,}", f"{known}; {calibrated}")


def _in_one_line(report: Report) -> str:
    summary = report.summary
    parts = [
        counted(summary.layers, "spiking layer"),
        counted(summary.neurons, "neuron"),
        f"T={summary.timesteps}, {counted(summary.total_steps, 'step')} from image to answer",
        "uncalibrated" if report.calibration is None else f"calibrated on {counted(report.calibration, 'image')}",
    ]
    if summary.agreement is None and summary.output_error is not None:
        parts.append(f"outputs {number(summary.output_error)} of their size from the trained network's")
    if summary.agreement is not None:
        parts.append(f"{written(summary.agreement, '%')} % of {summary.answers} as the trained network's")
    energy = summary.energy
    if energy is not None and energy.ratio is not None and energy.arithmetic_ratio is not None:
        alone = f"arithmetic alone {number(energy.arithmetic_ratio)} times"
        parts.append(f"{number(energy.ratio)} times its energy with memory traffic, {alone} (estimated)")
    return ", ".join(parts)


def _unknown(name: str) -> Fact:
    return Fact(name, "not measured", known=False)


def _interval(interval: Interval | None, unit: str = "") -> str:
    return "" if interval is None else f"95 % interval {span(interval, unit)}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
