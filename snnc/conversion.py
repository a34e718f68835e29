"""What happened in a conversion, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnc.findings import Finding
from snnc.ir import Graph
from snnc.schedule import Schedule


@dataclass(frozen=True)
class Applied:
    """One pass that was applied: its options, the plug-in it is from, and how long it took (not part of any file)."""

    name: str
    options: Mapping[str, Any]
    changed: int
    plugin: str = ""
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, eq=False)
class Conversion:
    """A spiking network beside the trained one it stands for (None once stripped), and how it came about.

    ``imported`` are the findings from reading the file, ``findings`` all of them. ``preprocessing`` and
    ``provenance`` are plain data; ``provenance`` holds what the result depends on.
    """

    reference: Graph | None
    snn: Graph
    schedule: Schedule
    applied: tuple[Applied, ...]
    imported: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    preprocessing: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def calibrated(self) -> bool:
        """Whether images were used."""
        return self.provenance.get("calibration") is not None
