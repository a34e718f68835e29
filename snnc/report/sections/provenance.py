"""Where the network and the figures come from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from snnc.blocks import Block, Fact, Facts, Fold
from snnc.report.data import Report
from snnc.report.sections import Section, sections
from snnc.report.sections.passes import as_text


@sections.register("provenance")
@dataclass(frozen=True)
class ProvenanceSection(Section):
    """What was converted and evaluated, by what, and with which settings."""

    title: ClassVar[str] = "Provenance"
    order: ClassVar[int] = 110

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the facts."""
        facts = [*_flat(report.provenance)]
        if report.evaluation is not None:
            evaluation = {
                "samples": report.evaluation.samples,
                "labels": "yes" if report.evaluation.labeled else "no",
                "sha256": report.evaluation.sha256,
                "seed": report.evaluation.seed,
            }
            facts += _flat({"evaluation": evaluation})
        facts.append(Fact("schema of the report", str(report.schema_version)))
        told = Facts(tuple(facts), "outside")
        yield replace(told, only=("card",))
        yield Fold("All of it", (told,), f"{len(facts)} facts", only=("page",))


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[Fact]:
    """Name what is nested by its path; the passes of the recipe have a section of their own."""
    for name, value in sorted(data.items()):
        path = f"{prefix} {name}".strip()
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        elif path != "recipe passes" and value is not None:
            yield Fact(path, as_text(value))
