"""What passes may look at: the network to be matched, samples, and statistics that do not depend on how they came."""

from snnc.calibration.calibration import Calibration
from snnc.calibration.histogram import Histogram

__all__ = ["Calibration", "Histogram"]
