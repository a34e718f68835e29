"""What a conversion cost, layer by layer."""

from snnc.measure.summary import Summary
from snnc.report.data import SCHEMA_VERSION, Report, to_json
from snnc.report.report import build, completed, held, stored, with_exit_rule

__all__ = ["SCHEMA_VERSION", "Report", "Summary", "build", "completed", "held", "stored", "to_json", "with_exit_rule"]
