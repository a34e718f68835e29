"""Networks in the formats of others, one file per format.

This package is a function as well: called, it turns a conversion into a file of a format, as ``snnc export`` does.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, final


@final
class _Export(ModuleType):
    """A package that can be called: a module and a function of one name cannot stand beside one another."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return import_module("snnc.actions.export").export(*given, **named)


sys.modules[__name__].__class__ = _Export
