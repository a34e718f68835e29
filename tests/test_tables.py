"""Every table of rules answers, or refuses in words, for every kind that it can be asked about."""

from collections.abc import Iterator
from typing import Any

import pytest

from snnc import ops
from snnc.ir import Op, operations
from snnc.laws.tables import asked_families, forgotten, tables
from snnc.neurons import neurons
from snnc.rules import Rules


def members(family: type) -> Iterator[type]:
    """What snnc derives from a family, and nothing else from."""
    kinds = [kind for kind in family.__subclasses__() if kind.__module__.startswith("snnc.")]
    if not kinds:
        yield family
    for kind in kinds:
        yield from members(kind)


def asked(table: Rules[Any, Any]) -> set[type]:
    """The kinds that a table can be asked about: those of the type that it was made with, ``Rules[Op, int]``.

    Of operations, those that networks may be of.
    """
    found = {member for family in asked_families(table) for member in members(family)}
    return {kind for kind in found if not issubclass(kind, Op) or kind in operations.values()}


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
    assert forgotten(ops.Conv) == []

    class Forgotten(Op): ...

    assert set(forgotten(Forgotten)) == {question for question, table in TABLES.items() if Op in asked_families(table)}
