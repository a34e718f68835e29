"""The report on a conversion, from what can be measured of it."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from snnc.analysis.latency import active_steps, latency
from snnc.analysis.reach import connected
from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import DataError
from snnc.export.match import Match
from snnc.feeds import Feeds
from snnc.ir import Graph
from snnc.measure.energy import cost, energy
from snnc.report.data import Evaluation, Report, Summary, read
from snnc.report.findings import find, replaced
from snnc.report.layers import describe, measure
from snnc.report.sections import Known, built
from snnc.tasks import Task, seeming


def build(
    conversion: Conversion,
    canonical: Graph | None = None,
    images: Iterable[Feeds] | None = None,
    task: Task | None = None,
) -> Report:
    """Measure a conversion on ``images`` (batches of them, None for none) and tell what was found.

    ``canonical`` is the trained network in the form that the spiking one was made from, needed with images.
    """
    snn, schedule = conversion.snn, conversion.schedule
    connections = connected(snn)
    layers = describe(snn, schedule)
    summary = Summary(
        timesteps=schedule.timesteps,
        sleep=schedule.sleep,
        rehearsal=schedule.rehearsal,
        total_steps=latency(snn, schedule),
        steps_per_answer=active_steps(snn, schedule),
        layers=len(layers),
        neurons=sum(layer.neurons for layer in layers),
        reference_macs=sum(layer.macs for layer in connections.values()),
        images=0,
    )
    measured = None
    if images is not None and canonical is not None:
        measured = measure(
            canonical, snn, images, schedule, connections, task or conversion.task or seeming(snn.output_shapes, ())
        )
        work = cost(snn, connections, measured.spikes, schedule)
        layers = measured.layers
        summary = dataclasses.replace(
            summary,
            images=measured.images,
            agreement=None if measured.agreement is None else 100 * measured.agreement,
            output_error=measured.output_error,
            spikes=sum(float(spikes.sum()) for spikes in measured.spikes.values()),
            synaptic_operations=work.synaptic_operations,
            analog_macs=work.analog_macs,
            energy=energy(snn, connections, measured.spikes, schedule),
        )
    report = Report(
        summary=summary,
        layers=layers,
        findings=tuple(dict.fromkeys([*find(conversion, layers, connections), *conversion.imported])),
        passes=conversion.applied,
        evaluation=None,
        provenance={**conversion.provenance.plain(), "snn": fingerprint(conversion)},
    )
    return dataclasses.replace(report, sections=built(Known(conversion, report, measured)))


def stored(conversion: Conversion, path: Path) -> Report:
    """Return the report on a conversion that is kept in a file, or one without measurements where there is none.

    Raises DataError where the report cannot be read, or is on another network.
    """
    if not path.exists():
        return _unmeasured(conversion)
    report = read(path)
    if report.provenance.get("snn") != fingerprint(conversion):
        hint = "calibrate or evaluate again, or name its own report"
        raise DataError("a report on another network", place=str(path), hint=hint)
    return report


def completed(
    conversion: Conversion,
    path: Path,
    *,
    evaluation: Evaluation | None = None,
    verifications: Sequence[Match] = (),
) -> Report:
    """Return the report on a conversion with what was evaluated, or how exported files compare.

    A new verification takes the place of those of the same format and variant. A report in the file that is on another
    network, or cannot be read, is left aside, which is a finding.
    """
    try:
        report = stored(conversion, path)
    except DataError as error:
        report = _unmeasured(conversion)
        report = dataclasses.replace(report, findings=(*report.findings, replaced(path.name, error.message)))
    again = {(found.format, found.variant) for found in verifications}
    kept = [found for found in report.verifications if (found.format, found.variant) not in again]
    report = dataclasses.replace(
        report,
        evaluation=report.evaluation if evaluation is None else evaluation,
        verifications=(*kept, *verifications),
    )
    return dataclasses.replace(report, sections=built(Known(conversion, report)))


def _unmeasured(conversion: Conversion) -> Report:
    """Return the report on a conversion, with what was found when it was made but without what was measured."""
    report = build(conversion)
    return dataclasses.replace(report, findings=tuple(dict.fromkeys([*conversion.findings, *report.findings])))
