"""A network held against a chip, and what is to be said of it."""

from dataclasses import asdict, dataclass
from typing import Any, final

from snnc.errors import GateError
from snnc.hardware.fit import Fit, Misfit
from snnc.hardware.target import Target


@final
@dataclass(frozen=True)
class Fitted:
    """A spiking network held against a chip: what of it the chip cannot hold, and how full it makes it.

    ``seconds`` is how long a sample takes, where that is known.
    """

    target: Target
    fit: Fit
    seconds: float | None = None

    @property
    def misfits(self) -> tuple[Misfit, ...]:
        """What does not fit."""
        return self.fit.misfits

    def plain(self) -> dict[str, Any]:
        """Return what does not fit, and what is taken of what there is, as plain data."""
        return {
            "target": self.target.name,
            "title": self.target.title,
            "fits": not self.misfits,
            "misfits": [{**asdict(misfit), "excess": misfit.excess} for misfit in self.misfits],
            "uses": [{**asdict(use), "share": use.share} for use in self.fit.uses],
            "cores": [asdict(core) for core in self.fit.cores],
            "unknown": list(self.target.unknown),
            "event_energy": None if self.target.event_energy is None else asdict(self.target.event_energy),
            "seconds": self.seconds,
        }

    def check(self, place: str) -> None:
        """Raise GateError where something does not fit."""
        if self.misfits:
            limits = len({misfit.limit for misfit in self.misfits})
            message = f"does not fit {self.target.title}: {limits} limit{'s are' if limits > 1 else ' is'} not kept"
            raise GateError(message, place=place, hint=self.misfits[0].edit)
