"""What a conversion cost, layer by layer."""

from snnc.report.report import SCHEMA_VERSION, Report, Summary, build, to_json

__all__ = ["SCHEMA_VERSION", "Report", "Summary", "build", "to_json"]
