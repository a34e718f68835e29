"""The report on a conversion, from what can be measured of it."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from snnc import artifact
from snnc.conversion import Conversion
from snnc.errors import DataError
from snnc.files import note, write_atomically, writes
from snnc.formats.match import Match
from snnc.hardware import Fitted
from snnc.measure.evaluation import Evaluation
from snnc.measure.neurobench import NeuroBench
from snnc.measure.remarks import replaced
from snnc.measure.summary import Examined, examine
from snnc.report.data import Report, as_written, read, staged, to_json
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
        provenance={**conversion.provenance.plain(), "snn": artifact.fingerprint(conversion)},
    )
    return dataclasses.replace(report, sections=built(Known(conversion, report, found.measured, counted)))


def stored(conversion: Conversion, path: Path) -> Report:
    """Return the report on a conversion that is kept in a file, or one without measurements where there is none.

    Raises DataError where the report cannot be read, or is on another network.
    """
    waiting = staged(path)
    if waiting.exists():
        # Whoever wrote both was stopped between the two.
        with contextlib.suppress(DataError):
            return _on(conversion, waiting)
    return _on(conversion, path) if path.exists() else _unmeasured(conversion)


def with_exit_rule(conversion: Conversion, path: Path) -> Conversion:
    """Return a conversion with the rule for stopping early that the report on it has, if there is one."""
    with contextlib.suppress(DataError):
        row = stored(conversion, path).headline
        if row is not None and row.exit is not None:
            return dataclasses.replace(conversion, exit=row.exit.rule)
    return conversion


def save(conversion: Conversion, path: Path, report: Report, report_file: Path, *, strip: bool = False) -> None:
    """Write a network and the report on it: whenever this is stopped, the old pair can be read, or the new one.

    Raises DataError where a file cannot be written.
    """
    if report_file.exists() and not report_file.is_file():
        hint = "choose another place with --report"
        raise DataError("cannot write: not a file", place=str(report_file), hint=hint)
    if not writes():
        return
    waiting, saved = staged(report_file), False
    write_atomically(waiting, to_json(report).encode(), flag="--report")
    try:
        artifact.save_conversion(dataclasses.replace(conversion, reference=None) if strip else conversion, path)
        saved = True
        waiting.replace(report_file)
        note(report_file)
    except OSError as error:
        message = f"cannot write: {error.strerror}"
        raise DataError(message, place=str(report_file), hint="choose another place with --report") from None
    finally:
        if not saved:
            waiting.unlink(missing_ok=True)


def _on(conversion: Conversion, path: Path) -> Report:
    report = read(path)
    if report.provenance.get("snn") != artifact.fingerprint(conversion):
        hint = "calibrate or evaluate again, or name its own report"
        raise DataError("a report on another network", place=str(path), hint=hint)
    return report


def completed(
    conversion: Conversion,
    path: Path,
    *,
    evaluation: Evaluation | None = None,
    verifications: Sequence[Match] = (),
    fitted: Fitted | None = None,
    fresh: bool = False,
) -> Report:
    """Return the report on a conversion with what was evaluated, how exported files compare, or how full a chip is.

    A new evaluation stands beside those of before: rows in the same setting are joined, and what was measured in
    another one stays as it was, unless ``fresh``. A new verification takes the place of those of the same format and
    variant. A report in the file that is on another network, or cannot be read, is left aside, which is a finding.
    """
    try:
        report = stored(conversion, path)
    except DataError as error:
        report = _unmeasured(conversion)
        report = dataclasses.replace(report, findings=(*report.findings, replaced(path.name, error.message)))
    again = {(found.format, found.variant) for found in verifications}
    kept = [found for found in report.verifications if (found.format, found.variant) not in again]
    known = [] if fresh else [found for found in (report.evaluation, *report.earlier) if found is not None]
    if evaluation is not None:
        # As files have it, where numbers are rounded.
        setting = as_written(evaluation.setting)
        alike = [found for found in known if as_written(found.setting) == setting]
        for found in alike:
            evaluation = evaluation.after(found)
        # Pictures are of the samples that were looked at last.
        others = [dataclasses.replace(found, pictures=(), by_class=None) for found in known if found not in alike]
        known = [evaluation, *others]
    report = dataclasses.replace(
        report,
        evaluation=next(iter(known), None),
        earlier=tuple(known[1:]),
        verifications=(*kept, *verifications),
    )
    return held(conversion, report, fitted)


def held(conversion: Conversion, report: Report, fitted: Fitted | None) -> Report:
    """Return a report on a conversion with what it was held against, if it was."""
    return dataclasses.replace(report, sections=built(Known(conversion, report, fitted=fitted)))


def _unmeasured(conversion: Conversion) -> Report:
    """Return the report on a conversion, with what was found when it was made but without what was measured."""
    report = build(conversion)
    return dataclasses.replace(report, findings=tuple(dict.fromkeys([*conversion.findings, *report.findings])))
