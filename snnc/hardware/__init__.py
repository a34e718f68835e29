"""Whether a spiking network fits a neuromorphic chip, and what would have to change."""

from snnc.hardware.fit import Misfit, fit
from snnc.hardware.target import Target, load_target, target_names

__all__ = ["Misfit", "Target", "fit", "load_target", "target_names"]
