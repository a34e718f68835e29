"""Spiking networks in NIR, the neuromorphic interchange format, and what others read there."""

from snnc.formats.nir.file import NIR_VERSION, NirFile, nir_file
from snnc.formats.nir.format import NirFormat
from snnc.formats.nir.profiles import PROFILES, Profile

__all__ = ["NIR_VERSION", "PROFILES", "NirFile", "NirFormat", "Profile", "nir_file"]
