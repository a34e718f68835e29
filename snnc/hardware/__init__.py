"""Whether a spiking network fits a neuromorphic chip, and what would have to change."""

from snnc.hardware.fit import CoreUse, Fit, Misfit, Use, fit
from snnc.hardware.fitted import Fitted
from snnc.hardware.microcontroller import MICROCONTROLLER, Room, fit_room
from snnc.hardware.target import Target, load_target, target_names

__all__ = [
    "MICROCONTROLLER",
    "CoreUse",
    "Fit",
    "Fitted",
    "Misfit",
    "Room",
    "Target",
    "Use",
    "fit",
    "fit_room",
    "load_target",
    "target_names",
]
