"""Read again what was measured of a conversion."""

from pathlib import Path

from snnc.artifact import load_conversion
from snnc.errors import UsageError
from snnc.project import Project, report_beside
from snnc.report import Report, stored
from snnc.report.data import read


def report(path: Path, report_file: Path | None = None) -> Report:
    """Return the report that a .json file is, or the one on a .snn file: in ``report_file``, or else beside it.

    A .snn file without any has one without measurements. Raises UsageError on a trained model, DataError and ModelError
    where a file cannot be read or the report is on another network.
    """
    if path.suffix == ".json":
        if report_file is not None:
            hint = "leave one of them out, or name the .snn file"
            raise UsageError("a report alone has no other report", place="--report", hint=hint)
        return read(path)
    conversion = load_conversion(Project().converted(path, path.parent))
    if report_file is not None:
        read(report_file)
    return stored(conversion, report_file or report_beside(path))
