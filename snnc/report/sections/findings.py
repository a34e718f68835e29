"""What was left alone, approximated or is distrusted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from snnc.blocks import Block, Fact, Remark, Remarks, Text
from snnc.findings import EXPLANATIONS, Finding
from snnc.report.data import Report
from snnc.report.sections import Section, sections


@sections.register("findings")
@dataclass(frozen=True)
class FindingsSection(Section):
    """All findings, by kind."""

    title: ClassVar[str] = "Findings"
    order: ClassVar[int] = 90

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the kinds of findings, warnings first."""
        if not report.all_findings:
            yield Text("None.", only=("card", "page"))
        yield from by_kind(report.all_findings)


def by_kind(findings: Iterable[Finding]) -> Iterator[Remarks]:
    """Yield findings kind by kind, warnings first."""
    kinds: dict[tuple[bool, str], dict[tuple[str, str], list[str]]] = {}
    for finding in findings:
        remarks = kinds.setdefault((finding.severity != "warning", finding.code), {})
        nodes = remarks.setdefault((finding.message, finding.hint), [])
        nodes += [finding.node] if finding.node else []
    for (harmless, code), remarks in sorted(kinds.items()):
        said = tuple(Remark(message, hint, tuple(nodes)) for (message, hint), nodes in remarks.items())
        meaning = EXPLANATIONS[code]
        terms = Fact("Cause", meaning.cause), Fact("Effect", meaning.effect), Fact("Remedy", meaning.remedy)
        yield Remarks(code, "info" if harmless else "warning", said, terms)
