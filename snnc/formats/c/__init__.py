"""Networks as self-contained files of C11."""

from snnc.formats.c.engine import Compiled, compilers
from snnc.formats.c.file import CFile, c_file
from snnc.formats.c.format import CFormat

__all__ = ["CFile", "CFormat", "Compiled", "c_file", "compilers"]
