"""Which passes made the network."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from snnc.blocks import Block, Column, Table
from snnc.report.data import Report
from snnc.report.sections import Section, sections


@sections.register("passes")
@dataclass(frozen=True)
class PassesSection(Section):
    """The passes, in the order in which they ran."""

    title: ClassVar[str] = "Passes"
    order: ClassVar[int] = 100

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the table."""
        yield Table.of(
            "The passes, in the order in which they ran",
            [
                (Column("pass", "code"), lambda applied: applied.name),
                (Column("operations changed"), lambda applied: f"{applied.changed:,}"),
                (Column("options", "code"), lambda applied: _options(applied.options)),
            ],
            report.passes,
            only=("card", "page"),
        )


def _options(options: Mapping[str, Any]) -> str | None:
    return ", ".join(f"{name}={as_text(value)}" for name, value in sorted(options.items())) or None


def as_text(value: Any) -> str:
    """Write a value from a recipe."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
