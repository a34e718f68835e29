"""Every table of rules answers, or refuses in words, for every kind that it can be asked about."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import snnc
from snnc.ir import Op, operations
from snnc.neurons import neurons
from snnc.rules import Rules


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(snnc.__path__, "snnc."):
        if not module.name.endswith("__main__"):
            yield module.name


def tables() -> dict[str, Rules[Any, Any]]:
    """Every table at the top of a module, by its question."""
    found: dict[str, Rules[Any, Any]] = {}
    for name in modules():
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, Rules):
                assert found.setdefault(value.question, value) is value, f"two tables ask {value.question!r}"
    return found


def asked(table: Rules[Any, Any]) -> set[type[Op]]:
    """The operations that a table can be asked about: those of the type that it was made with, ``Rules[Op, int]``."""
    family = table.__orig_class__.__args__[0]  # type: ignore[attr-defined]
    return {kind for kind in operations.values() if issubclass(kind, family)}


TABLES = tables()


def test_there_are_tables_and_operations() -> None:
    assert TABLES
    assert set(neurons.values()) < set(operations.values())


@pytest.mark.parametrize("question", TABLES)
def test_no_kind_is_forgotten(question: str) -> None:
    table = TABLES[question]
    assert asked(table)
    assert table.missing(asked(table)) == ()


@pytest.mark.parametrize("question", TABLES)
def test_no_rule_is_for_what_is_not_asked_about(question: str) -> None:
    """A rule for another root would never be found, and one for the root itself would be a default."""
    table = TABLES[question]
    for kind in table:
        assert any(issubclass(member, kind) for member in asked(table)), kind


def test_a_forgotten_kind_would_be_noticed() -> None:
    table = Rules[Op, int]("how many")
    assert set(table.missing(asked(table))) == set(operations.values())
