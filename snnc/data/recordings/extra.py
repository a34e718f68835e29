"""The packages of the extra ``snnc[events]``, asked for where they are needed."""

import importlib
from pathlib import Path
from typing import Any

from snnc.errors import UsageError


def package(name: str, path: Path) -> Any:
    """Return a package that reads a file; raises UsageError that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError:
        message = f"{path.suffix} files need the package {name}"
        raise UsageError(message, place=str(path), hint="pip install 'snnc[events]'") from None
