"""The report on a conversion, from what can be measured of it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import DataError
from snnc.export.match import Match
from snnc.measure.evaluation import Evaluation
from snnc.measure.neurobench import NeuroBench
from snnc.measure.remarks import replaced
from snnc.measure.summary import Examined, examine
from snnc.report.data import Report, read
from snnc.report.sections import Known, built


def build(conversion: Conversion, examined: Examined | None = None, counted: NeuroBench | None = None) -> Report:
    """Return the report on a conversion, on which nothing was measured unless it was ``examined`` or ``counted``."""
    found = examined or examine(conversion)
    report = Report(
        summary=found.summary,
        layers=found.layers,
        findings=found.findings,
        passes=conversion.applied,
        evaluation=None,
        provenance={**conversion.provenance.plain(), "snn": fingerprint(conversion)},
    )
    return dataclasses.replace(report, sections=built(Known(conversion, report, found.measured, counted)))


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
