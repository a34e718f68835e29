"""SARIF 2.1.0: the gates that failed and the findings, as code scanning shows them."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from snnc.findings import EXPLANATIONS
from snnc.report.data import Report
from snnc.report.faces import faces
from snnc.text import printable
from snnc.version import VERSION

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"warning": "warning", "info": "note"}


@dataclass(frozen=True)
class _Result:
    """Something to be shown at the model, at a ``node`` of it or ("") all of it."""

    code: str
    level: str
    node: str
    message: str


@faces.register("sarif")
def sarif(report: Report) -> str:
    """Return one result for each gate that failed and each finding, and what each kind of them means as its rule."""
    gates = () if report.evaluation is None else report.evaluation.gates
    found = [_Result("failed-gate", "error", gate.layer, gate.sentence) for gate in gates if gate.verdict == "failed"]
    found += [
        _Result(finding.code, _LEVELS[finding.severity], finding.node, f"{finding.message}. {finding.hint}")
        for finding in report.all_findings
    ]
    codes = sorted({result.code for result in found})
    run = {
        "tool": {
            "driver": {
                "name": "snnc",
                "version": VERSION,
                "rules": [_rule(code) for code in codes],
            }
        },
        "results": [_result(result, codes, report.model_file) for result in found],
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


def _result(result: _Result, codes: list[str], model: str) -> dict[str, Any]:
    # A model has no lines, but GitHub shows nothing without one.
    place = {"artifactLocation": {"uri": quote(printable(model))}, "region": {"startLine": 1}}
    location: dict[str, Any] = {"physicalLocation": place}
    if result.node:
        location["logicalLocations"] = [{"name": result.node, "kind": "member"}]
    return {
        "ruleId": result.code,
        "ruleIndex": codes.index(result.code),
        "level": result.level,
        "message": {"text": _message(result.message)},
        "locations": [location],
    }


def _message(text: str) -> str:
    """Keep braces from being placeholders, and brackets from being links (SARIF 2.1.0, 3.11.5 and 3.11.6)."""
    return re.sub(r"\](?=\()", r"\\]", re.sub(r"[{}]", r"\g<0>\g<0>", printable(text)))
