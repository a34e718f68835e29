"""Which tables of rules there are, and which of them have forgotten a kind."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, get_args

from snnc.registry import Registry
from snnc.rules import Rules


def modules() -> Iterator[ModuleType]:
    """Import and yield all modules of snnc, but for those that run something."""
    root = Path(__file__).parent.parent
    for module in pkgutil.walk_packages([str(root)], f"{root.name}."):
        if not module.name.endswith("__main__"):
            yield importlib.import_module(module.name)


def tables() -> dict[str, Rules[Any, Any]]:
    """Return every table at the top of a module, by its question."""
    found: dict[str, Rules[Any, Any]] = {}
    for module in modules():
        for value in vars(module).values():
            if issubclass(type(value), Rules):
                assert found.setdefault(value.question, value) is value, f"two tables ask {value.question!r}"
    return found


def registries() -> dict[str, Registry[Any]]:
    """Return every registry at the top of a module, by what its members are called."""
    values = [value for module in modules() for value in vars(module).values() if issubclass(type(value), Registry)]
    return {registry.kind: registry for registry in values}


def asked_families(table: Rules[Any, Any]) -> tuple[type[Any], ...]:
    """Return whose members a table can be asked about: those of the type that it was made with, ``Rules[Op, int]``."""
    kind = table.__orig_class__.__args__[0]  # type: ignore[attr-defined]
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def forgotten(kind: type[Any]) -> list[str]:
    """Return the questions of the tables that can be asked about a kind, and neither answer nor refuse in words."""
    asked = {question: table for question, table in tables().items() if issubclass(kind, asked_families(table))}
    return [question for question, table in asked.items() if table.missing([kind])]
