"""Tables of rules: the nearest family answers, a refusal says why, and nothing is answered by default."""

from abc import ABC
from typing import NoReturn

import pytest

from snnc.rules import RefusedError, Rules


class Root(ABC):  # noqa: B024
    pass


class Family(Root):
    pass


class Member(Family):
    pass


class Other(Root):
    pass


class Refused(Root):
    pass


def table() -> Rules[Root, str]:
    rules = Rules[Root, str]("what is it")

    @rules.register(Family)
    def family(op: Family, suffix: str = "") -> str:
        return f"family{suffix}"

    rules.refuse(Refused, why="nobody knows", hint="ask another")
    return rules


def test_the_nearest_family_answers() -> None:
    rules = table()
    assert rules(Member()) == "family"
    assert rules(Family(), "!") == "family!"
    rules.register(Member)(lambda op: "member")
    assert rules(Member()) == "member"
    assert rules(Family()) == "family"


def test_a_refusal_says_why() -> None:
    with pytest.raises(RefusedError, match="nobody knows") as caught:
        table()(Refused())
    assert caught.value.hint == "ask another"


def test_it_is_known_what_is_refused_whole() -> None:
    rules = table()

    @rules.register(Other)
    def never(op: Other) -> NoReturn:
        raise RefusedError("not this one either", hint="")

    assert [kind for kind in (Member, Other, Refused, Root) if rules.refuses(kind)] == [Other, Refused]


def test_what_has_no_rule_is_missing_and_no_default_is_taken() -> None:
    rules = table()
    assert rules.missing([Member, Other, Refused]) == (Other,)
    with pytest.raises(LookupError, match=r"what is it.*Other"):
        rules(Other())


def test_neither_a_default_nor_a_second_rule_can_be_registered() -> None:
    rules = table()
    with pytest.raises(ValueError, match="default"):
        rules.register(Root)(lambda op: "all")
    with pytest.raises(ValueError, match="two rules"):
        rules.refuse(Family, why="", hint="")
