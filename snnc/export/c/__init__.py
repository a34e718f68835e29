"""Networks as self-contained files of C11."""

from snnc.export.c.engine import Compiled, compilers
from snnc.export.c.file import CFile, c_file
from snnc.export.c.format import CFormat

__all__ = ["CFile", "CFormat", "Compiled", "c_file", "compilers"]
