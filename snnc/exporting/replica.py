"""Files that fire the very spikes of the network, and how they compare where other engines run them."""

from dataclasses import asdict, dataclass
from typing import Any, final

from snnc.export.comparison import Match
from snnc.exporting.exported import Exported, finite, verification
from snnc.report.data import Verification


@final
@dataclass(frozen=True)
class Replica(Exported):
    """A file for an engine, and how it compares with the network, once for each number of time steps asked.

    ``variant`` is what of the format was written.
    """

    format: str
    variant: str
    engine: str
    matches: tuple[Match, ...] = ()

    def plain(self) -> dict[str, Any]:
        return {"bytes": len(self.data), "verified": [finite(asdict(found)) for found in self.matches]}

    @property
    def mismatch(self) -> str:
        return next((f"{m.mismatch} at T={m.timesteps}" for m in self.matches if m.mismatch), "")

    def verifications(self) -> tuple[Verification, ...]:
        return tuple(
            verification(
                found,
                {layer.name: layer.alone for layer in found.layers},
                format=self.format,
                variant=self.variant,
                engine=self.engine,
                equal=found.alone,
                output_error=found.readout_error,
                mismatch=found.mismatch,
                noise=self.noise,
            )
            for found in self.matches
        )
