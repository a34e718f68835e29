"""JUnit XML: one test case for each thing that was to be kept, as CI systems show them."""

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from snnc.blocks import Check, Checks
from snnc.report.data import Report
from snnc.report.faces import faces, seen
from snnc.text import printable

# What is not proven, or not to be blamed on the network, is skipped, with the reason.
_KINDS = {"failed": "failure", "not proven": "skipped", "noted": "skipped"}


@faces.register("junit")
def junit(report: Report) -> str:
    """Return the gates, the layers, and how exported files compare elsewhere."""
    return document(checks_of(report))


def checks_of(report: Report) -> Iterator[Checks]:
    """Yield what was to be kept, by its kinds."""
    for _, _, blocks in seen(report, "cases"):
        yield from (block for block in blocks if isinstance(block, Checks))


def document(groups: Iterable[Checks]) -> str:
    """Return checks as a document, each kind a suite."""
    suites = Element("testsuites", name="snnc")
    for checks in groups:
        _suite(suites, checks)
    indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(suites, encoding="unicode")}\n'


def _suite(parent: Element, block: Checks) -> None:
    cases = [_case(check, block.kind) for check in block.checks]
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "skipped")}
    suite = SubElement(
        parent,
        "testsuite",
        name=block.kind,
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        skipped=str(counts["skipped"]),
        errors="0",
    )
    suite.extend(cases)


def _case(check: Check, group: str) -> Element:
    case = Element("testcase", name=printable(check.name), classname=f"snnc.{group}")
    if check.verdict in _KINDS:
        SubElement(case, _KINDS[check.verdict], message=printable(check.words))
    if check.about:
        SubElement(case, "system-out").text = printable(check.about)
    return case
