"""JUnit XML: one test case for each gate and each layer, as CI systems show them."""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from snnc.measure.gates import Gate
from snnc.report.data import Report, Verification
from snnc.report.escaping import printable
from snnc.report.faces import faces
from snnc.report.layers import Layer


@faces.register("junit")
def junit(report: Report) -> str:
    """Return the gates, the layers, and how exported files compare elsewhere.

    A gate that is undecided is skipped, with the samples that would do; so is a program that reads a file otherwise.
    """
    judged = () if report.evaluation is None else report.evaluation.gates
    whole = [gate for gate in judged if not gate.layer]
    suites = Element("testsuites", name="snnc")
    _suite(suites, "gates", [_case(f"{gate.name} at T={gate.timesteps}", "gates", [gate]) for gate in whole])
    layers = []
    for layer in report.layers:
        case = _case(layer.name, "layers", [gate for gate in judged if gate.layer == layer.name])
        SubElement(case, "system-out").text = printable(_measured(layer))
        layers.append(case)
    _suite(suites, "layers", layers)
    _suite(suites, "exports", [_exported(found) for found in report.verifications])
    indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(suites, encoding="unicode")}\n'


def _suite(parent: Element, name: str, cases: list[Element]) -> None:
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "skipped")}
    suite = SubElement(
        parent,
        "testsuite",
        name=name,
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        skipped=str(counts["skipped"]),
        errors="0",
    )
    suite.extend(cases)


def _case(name: str, group: str, gates: list[Gate]) -> Element:
    case = Element("testcase", name=printable(name), classname=f"snnc.{group}")
    for verdict, kind in (("failed", "failure"), ("undecided", "skipped")):
        sentences = [gate.sentence for gate in gates if gate.verdict == verdict]
        if sentences:
            SubElement(case, kind, message=printable("; ".join(sentences)))
            break
    return case


def _exported(found: Verification) -> Element:
    name = f"{found.format}, {found.variant}, run by {found.engine} at T={found.timesteps}"
    case = Element("testcase", name=printable(name), classname="snnc.exports")
    for verdict, kind in (("failed", "failure"), ("noted", "skipped")):
        if found.verdict == verdict:
            SubElement(case, kind, message=printable(found.remark))
    return case


def _measured(layer: Layer) -> str:
    if layer.error is None:
        return "not measured: no images were given"
    return f"relative error {layer.error:.4g}, of this layer alone {layer.isolated_error:.4g}"
