"""The sections of a report, one a file: what each adds to the data of a report, and what it tells of it."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from snnc.blocks import Block, Check
from snnc.registry import Registered, Registry

if TYPE_CHECKING:
    # The report reads and writes the data of its sections.
    from snnc.conversion import Conversion
    from snnc.hardware import Fitted
    from snnc.measure.layers import Measured
    from snnc.measure.neurobench import NeuroBench
    from snnc.report.data import Report

# What measures what is missing.
EVALUATE = "snnc evaluate --data FOLDER"
CONVERT = "snnc convert MODEL --data FOLDER"


@dataclass(frozen=True)
class Known:
    """What is known when a report is made: the conversion, what its report says so far, and what was just measured.

    ``measured`` and ``neurobench`` are of the images that the network was calibrated on, None where there were none;
    ``fitted`` is what it was held against, None where it was not.
    """

    conversion: "Conversion"
    report: "Report"
    measured: "Measured | None" = None
    neurobench: "NeuroBench | None" = None
    fitted: "Fitted | None" = None


@dataclass(frozen=True)
class Section(ABC):
    """A part of every report, told where ``order`` says.

    Its fields, if it has any, are plain data of its own: the report's JSON and schema have them under the name of the
    section. Where a report lacks them, the section is told with the fields' defaults, or, if one has none, not at all.
    ``title`` stands above it and ``label`` (by default the title) leads to it; ``evaluated`` says that it is about what
    ``snnc evaluate`` measures, which then shows it.
    """

    title: ClassVar[str]
    order: ClassVar[int]
    label: ClassVar[str] = ""
    evaluated: ClassVar[bool] = False

    @classmethod
    def of(cls, known: Known) -> Self | None:
        """Build the section from what is known; None where nothing new is, so that what the report had stays."""
        return None

    @abstractmethod
    def blocks(self, report: "Report") -> Iterator[Block]:
        """Yield what the section tells of a report."""

    def verdicts(self, report: "Report") -> Iterator[Check]:
        """Yield what was to be kept of it, which pages say before all else; by default nothing."""
        yield from ()


class _Sections(Registry[type[Section]]):
    """The sections by their names; the machine form has the data of each beside the report's own, under its name."""

    def register(self, name: str) -> Callable[[Registered], Registered]:
        from snnc.report.data import Report

        enter = super().register(name)

        def enter_beside(kind: Registered) -> Registered:
            own = {field.name for field in dataclasses.fields(Report)}
            if name in own and dataclasses.fields(kind):  # type: ignore[arg-type]
                raise ValueError(f"a section with data cannot be called {name!r}: reports have a field of that name")
            return enter(kind)

        return enter_beside


sections: Registry[type[Section]] = _Sections("section", __name__, base=Section)


def built(known: Known) -> dict[str, Section]:
    """Return the sections that have data of their own, by name: new ones, and those that the report had."""
    found = {name: kind.of(known) for name, kind in sections.items()}
    return {**known.report.sections, **{name: section for name, section in found.items() if section is not None}}


def told(report: "Report") -> dict[str, Section]:
    """Return what a report has to tell, by name and in order."""
    found = {}
    for name, kind in sorted(sections.items(), key=lambda item: (item[1].order, item[0])):
        if name in report.sections:
            found[name] = report.sections[name]
        elif all(_has_default(field) for field in dataclasses.fields(kind)):
            found[name] = kind()
    return found


def _has_default(field: "dataclasses.Field[object]") -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
