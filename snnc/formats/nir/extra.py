"""The packages of the extra ``snnc[nir]``, asked for where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from snnc.errors import UsageError


def nir_package() -> Any:
    """Return the package nir; raises UsageError that says what to install."""
    return _package("nir")


def nirtorch_package() -> Any:
    """Return the package nirtorch; raises UsageError that says what to install."""
    return _package("nirtorch")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"NIR needs the package {name}", hint="pip install 'snnc[nir]'") from None
