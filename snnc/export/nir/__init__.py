"""Spiking networks in NIR, the neuromorphic interchange format, and what others read there."""

from snnc.export.nir.file import NIR_VERSION, NirFile, nir_file
from snnc.export.nir.format import NirFormat
from snnc.export.nir.profiles import PROFILES, Profile

__all__ = ["NIR_VERSION", "PROFILES", "NirFile", "NirFormat", "Profile", "nir_file"]
