"""Whether a spiking network fits a neuromorphic chip, and what would have to change."""

from snnc.hardware.fit import Misfit, fit
from snnc.hardware.target import Target, load, shipped

__all__ = ["Misfit", "Target", "fit", "load", "shipped"]
