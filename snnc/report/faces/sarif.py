"""SARIF 2.1.0: the findings, as code scanning shows them."""

import json
import re
from typing import Any
from urllib.parse import quote

from snnc.findings import EXPLANATIONS, Finding
from snnc.report.data import Report
from snnc.report.escaping import printable
from snnc.report.faces import faces
from snnc.version import VERSION

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"warning": "warning", "info": "note"}


@faces.register("sarif")
def sarif(report: Report) -> str:
    """Return one result for each finding, and what each kind of finding means as its rule."""
    found = report.all_findings
    codes = sorted({finding.code for finding in found})
    run = {
        "tool": {
            "driver": {
                "name": "snnc",
                "version": VERSION,
                "rules": [_rule(code) for code in codes],
            }
        },
        "results": [_result(finding, codes, report.model_file) for finding in found],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, sort_keys=True) + "\n"


def _rule(code: str) -> dict[str, Any]:
    explanation = EXPLANATIONS[code]
    return {
        "id": code,
        "shortDescription": {"text": explanation.cause},
        "fullDescription": {"text": f"{explanation.cause} {explanation.effect}"},
        "help": {"text": explanation.remedy},
    }


def _result(finding: Finding, codes: list[str], model: str) -> dict[str, Any]:
    # A model has no lines, but GitHub shows nothing without one.
    place = {"artifactLocation": {"uri": quote(printable(model))}, "region": {"startLine": 1}}
    location: dict[str, Any] = {"physicalLocation": place}
    if finding.node:
        location["logicalLocations"] = [{"name": finding.node, "kind": "member"}]
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(f"{finding.message}. {finding.hint}")},
        "locations": [location],
    }


def _message(text: str) -> str:
    """Keep braces from being placeholders, and brackets from being links (SARIF 2.1.0, 3.11.5 and 3.11.6)."""
    return re.sub(r"\](?=\()", r"\\]", re.sub(r"[{}]", r"\g<0>\g<0>", printable(text)))
